// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test's report, for people and as JSON.

use std::io;

use serde::Serialize;

use super::{Screen, Tone, escape};
use crate::finding::{Finding, Health, exit_code};
use crate::selftest::judge::Verdict;
use crate::selftest::{PlatformReport, Recorded, Report, RunResult};

fn word(verdict: Verdict) -> (&'static str, Tone) {
    match verdict {
        Verdict::Pass => ("pass", Tone::Good),
        Verdict::Unseen => ("unseen", Tone::Warning),
        Verdict::Fail => ("FAIL", Tone::Bad),
        Verdict::Unknown => ("unknown", Tone::Unknown),
    }
}

/// Shows `report` to people; `recorded` says whether it counts as proof.
///
/// # Errors
/// Those of writing.
pub fn text(report: &Report, recorded: Recorded, screen: &mut Screen) -> io::Result<()> {
    for platform in &report.platforms {
        for (index, result) in platform.results.iter().enumerate() {
            let name = if index == 0 { platform.platform.to_string() } else { String::new() };
            screen.line(row(&name, result, screen))?;
        }
    }
    let findings = report.all_findings();
    if !findings.is_empty() && !report.platforms.is_empty() {
        screen.line("")?;
    }
    for finding in &findings {
        super::finding(finding, screen)?;
    }
    let passes = report.platforms.iter().flat_map(|p| &p.results).any(|r| r.verdict == Verdict::Pass);
    let why = match recorded {
        Recorded::NotRoot => "only root's runs are",
        Recorded::OwnImage => "only runs of the built-in probe are",
        Recorded::Yes | Recorded::Nothing | Recorded::Failed => "",
    };
    if passes && !why.is_empty() {
        screen.line("")?;
        screen.paragraph("", 0, &format!("Not recorded as proof for `qemu-persist status`: {why}."))?;
    }
    screen.flush()
}

fn row(platform: &str, result: &RunResult, screen: &Screen) -> String {
    let (verdict, tone) = word(result.verdict);
    let verdict = screen.tint(tone, &format!("{verdict:<8}"));
    let machine = escape(result.machine.as_deref().unwrap_or("–"));
    let interpreter =
        result.interpreter.as_ref().map_or_else(|| "–".to_owned(), |exe| escape(&exe.path.to_string_lossy()));
    format!("{platform:<15} {:<8} {verdict}{machine:<12} {:>6.2} s  {interpreter}", result.runtime, result.seconds)
}

/// What `selftest --json` writes.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Told<'a> {
    /// The version of this form.
    schema: u32,
    /// What the findings come to.
    verdict: Health,
    /// The exit code that goes with it.
    exit_code: u8,
    /// Whether it counts as proof for `qemu-persist status`.
    recorded: bool,
    /// What was found out about each platform.
    platforms: &'a [PlatformReport],
    /// Everything that is wrong.
    findings: Vec<Finding>,
}

/// Writes `report` as one JSON object.
///
/// # Errors
/// Those of writing.
pub fn json(report: &Report, recorded: Recorded, screen: &mut Screen) -> io::Result<()> {
    let findings = report.all_findings();
    screen.json(&Told {
        schema: 1,
        verdict: Health::of(&findings),
        exit_code: exit_code(&findings),
        recorded: recorded == Recorded::Yes,
        platforms: &report.platforms,
        findings,
    })
}
