// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test's report, for people and as JSON.

use std::io;

use serde::Serialize;

use super::{Screen, Tone, escape};
use crate::finding::{Finding, Health, exit_code};
use crate::selftest::Recorded;
use crate::selftest::as_user::RanAs;
use crate::selftest::depth::{Depth, Found, PartResult};
use crate::selftest::judge::Verdict;
use crate::selftest::programs::ProgramResult;
use crate::selftest::report::{PlatformReport, Report, RunResult};

fn word(verdict: Verdict) -> (&'static str, Tone) {
    match verdict {
        Verdict::Pass => ("pass", Tone::Good),
        Verdict::Limited => ("LIMITED", Tone::Warning),
        Verdict::Unseen => ("unseen", Tone::Warning),
        Verdict::Bypassed => ("bypass", Tone::Warning),
        Verdict::Fail => ("FAIL", Tone::Bad),
        Verdict::Unknown => ("unknown", Tone::Unknown),
    }
}

/// Shows `report` of a run of `depth` by the user `ran_as` to people; `recorded` says whether it counts as proof.
///
/// # Errors
/// Those of writing.
pub fn text(report: &Report, recorded: Recorded, ran_as: &RanAs, depth: Depth, screen: &mut Screen) -> io::Result<()> {
    for platform in &report.platforms {
        for (index, result) in platform.results.iter().enumerate() {
            let name = if index == 0 { platform.platform.to_string() } else { String::new() };
            screen.line(row(&name, result, screen))?;
            if depth == Depth::Full {
                identity(result, screen)?;
            }
            parts(&result.parts, depth, screen)?;
            programs(&result.programs, screen)?;
        }
    }
    let findings = report.all_findings();
    if !findings.is_empty() && !report.platforms.is_empty() {
        screen.line("")?;
    }
    for finding in &findings {
        super::finding(finding, screen)?;
    }
    let passes = report.platforms.iter().flat_map(|p| &p.results).any(|r| r.verdict.works());
    let why = match recorded {
        Recorded::NotRoot => "only root's runs are",
        Recorded::OwnImage => "only runs of the built-in probe are",
        Recorded::Yes | Recorded::Nothing | Recorded::Failed => "",
    };
    let mut said = Vec::new();
    if ran_as.uid != 0 {
        said.push(format!("Run as {ran_as}, with that user's engines."));
    }
    if passes && !why.is_empty() {
        said.push(format!("Not recorded as proof for `qemu-persist status`: {why}."));
    }
    if !said.is_empty() {
        screen.line("")?;
        screen.paragraph("", 0, &escape(&said.join(" ")))?;
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

/// Shows which file ran the container: whose it is, and whether it is the one on disk.
fn identity(result: &RunResult, screen: &mut Screen) -> io::Result<()> {
    let Some(exe) = &result.interpreter else { return Ok(()) };
    let package = match &result.package {
        Some(package) => format!("{} {}", package.name, package.version),
        None => "no package's".to_owned(),
    };
    let file = if exe.deleted { "a file that is no longer on disk" } else { "the file on disk" };
    let tone = if result.verdict.works() { Tone::Good } else { Tone::Bad };
    let lead = screen.tint(tone, &format!("    {:<15}", "identity"));
    screen.paragraph(&lead, 19, &escape(&format!("{package}; {file}")))
}

/// Shows what was found out beside the answer, a line for each group: all of them where everything was asked for, else
/// those that are not all well.
fn parts(parts: &[PartResult], depth: Depth, screen: &mut Screen) -> io::Result<()> {
    for group in parts.chunk_by(|one, other| one.about().group() == other.about().group()) {
        let is_well = |part: &&PartResult| part.found == Found::Works;
        if depth == Depth::Quick && group.iter().all(|part| is_well(&part)) {
            continue;
        }
        let name = group[0].about().group();
        let broken = group.iter().any(|part| part.found == Found::Broken);
        let tone = match () {
            () if group.iter().any(PartResult::is_bad) => Tone::Bad,
            () if broken => Tone::Warning,
            () if group.iter().any(|part| part.found == Found::Unknown) => Tone::Unknown,
            () => Tone::Good,
        };
        let told: Vec<_> = [Found::Broken, Found::Unknown, Found::Absent, Found::Works]
            .into_iter()
            .filter_map(|found| of_kind(group, found))
            .collect();
        let lead = screen.tint(tone, &format!("    {name:<15}"));
        screen.paragraph(&lead, 19, &told.join("; "))?;
    }
    Ok(())
}

/// Shows which programs start: those that do not first, a line for each.
fn programs(programs: &[ProgramResult], screen: &mut Screen) -> io::Result<()> {
    let of = |found| programs.iter().filter(move |program| program.found == found);
    for program in of(Found::Broken).chain(of(Found::Unknown)).chain(of(Found::Works)) {
        let tone = match program.found {
            Found::Broken => Tone::Bad,
            Found::Works => Tone::Good,
            Found::Unknown | Found::Absent => Tone::Unknown,
        };
        let lead = screen.tint(tone, &format!("    {:<15}", program.program));
        screen.paragraph(&lead, 19, &format!("{}: {}", start_word(program.found), escape(&program.detail)))?;
    }
    let absent: Vec<_> = of(Found::Absent).map(|program| program.program).collect();
    if absent.is_empty() {
        return Ok(());
    }
    screen.paragraph(&format!("    {:<15}", start_word(Found::Absent)), 19, &absent.join(", "))
}

fn start_word(found: Found) -> &'static str {
    match found {
        Found::Works => "starts",
        Found::Broken => "BROKEN",
        Found::Absent => "not there",
        Found::Unknown => "unknown",
    }
}

/// The parts of a group that are `found` to be so, with what is known of each.
fn of_kind(group: &[PartResult], found: Found) -> Option<String> {
    let own_name = |part: &PartResult| part.part.split_once('.').map_or("", |(_, own)| own);
    let tell = |part: &PartResult| match (own_name(part), escape(&part.detail)) {
        (name, detail) if detail.is_empty() => name.to_owned(),
        ("", detail) => detail,
        (name, detail) => format!("{name} ({detail})"),
    };
    let parts: Vec<_> = group.iter().filter(|part| part.found == found).map(tell).collect();
    let word = match found {
        Found::Works => "works",
        Found::Broken => "BROKEN",
        Found::Absent => "not there",
        Found::Unknown => "unknown",
    };
    match parts.iter().filter(|text| !text.is_empty()).map(String::as_str).collect::<Vec<_>>()[..] {
        _ if parts.is_empty() => None,
        [] => Some(word.to_owned()),
        ref parts => Some(format!("{word}: {}", parts.join(", "))),
    }
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
    /// Whom it ran as: the engines are those of this user.
    user: &'a RanAs,
    /// What was found out about each platform.
    platforms: &'a [PlatformReport],
    /// Everything that is wrong.
    findings: Vec<Finding>,
}

/// Writes `report` of a run by the user `ran_as` as one JSON object.
///
/// # Errors
/// Those of writing.
pub fn json(report: &Report, recorded: Recorded, ran_as: &RanAs, screen: &mut Screen) -> io::Result<()> {
    let findings = report.all_findings();
    screen.json(&Told {
        schema: 1,
        verdict: Health::of(&findings),
        exit_code: exit_code(&findings),
        recorded: recorded == Recorded::Yes,
        user: ran_as,
        platforms: &report.platforms,
        findings,
    })
}
