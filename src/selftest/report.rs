// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a self-test found out, and the findings that follow from it.

use std::path::Path;

use serde::Serialize;

use super::depth::PartResult;
use super::expect::Expectation;
use super::judge::Verdict;
use super::programs::{self, ProgramResult};
use super::sight::Exe;
use super::{masked, probes};
use crate::assess::look::Look;
use crate::finding::{Finding, Severity};
use crate::host::Package;
use crate::parts;
use crate::platform::Platform;
use crate::snapshot::Snapshot;

/// What one runtime gave for one platform.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct RunResult {
    /// `builtin`, `docker`, `podman`, `nerdctl` or `buildkit`.
    #[cfg_attr(feature = "assets", schemars(schema_with = "crate::report::schema::runtime"))]
    pub runtime: &'static str,
    /// The engine's version, where it has one.
    pub version: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// What `uname` said.
    pub machine: Option<String>,
    /// What was seen running the container.
    pub interpreter: Option<Exe>,
    /// The package that this file belongs to; none where it is none's, or no longer the file on disk.
    pub package: Option<Package>,
    /// What was found out beside that; empty where the container did not answer.
    pub parts: Vec<PartResult>,
    /// Which real programs start, where that was asked for.
    pub programs: Vec<ProgramResult>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The cause, by its name in the table of `qemu-persist explain`, where it is recognised.
    pub cause: Option<&'static str>,
    /// Whether the kernel did not take the handler that is registered.
    #[serde(skip)]
    pub is_not_taken: bool,
    /// What is wrong; empty for a pass.
    pub reason: String,
    /// What to do; empty for a pass.
    pub advice: String,
}

/// What was found out about one platform.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct PlatformReport {
    /// The platform.
    pub platform: &'static Platform,
    /// What `uname` has to say.
    pub expected: &'static str,
    /// The name of the handler that has to run it; none where there is none, or it is not known.
    pub handler: Option<String>,
    /// What its containers have to show.
    #[serde(skip)]
    pub expectation: Expectation,
    /// What each runtime gave.
    pub results: Vec<RunResult>,
}

/// What was found out.
#[derive(Debug, Default)]
pub struct Report {
    /// Of each platform.
    pub platforms: Vec<PlatformReport>,
    /// What is wrong besides.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Everything that was found: of the platforms, and besides.
    pub fn all_findings(&self) -> Vec<Finding> {
        self.platforms.iter().flat_map(PlatformReport::findings).chain(self.findings.iter().cloned()).collect()
    }

    /// Adds the packages of the interpreters that were seen. `package_of` finds that of a file.
    pub fn name_packages(&mut self, package_of: impl Fn(&Path) -> Option<Package>) {
        for result in self.platforms.iter_mut().flat_map(|platform| &mut platform.results) {
            let on_disk = result.interpreter.as_ref().filter(|exe| !exe.deleted && !exe.inside);
            result.package = on_disk.and_then(|exe| package_of(&exe.path));
        }
    }

    /// The platforms that have another handler in `snapshot` than they were tested with: what was found out says
    /// nothing of it.
    pub fn outdated(&self, snapshot: &Snapshot) -> Vec<&'static Platform> {
        let is_outdated = |report: &&PlatformReport| {
            let platform = report.platform;
            Expectation::new(platform, probes::identity(platform), snapshot).handler != report.expectation.handler
        };
        self.platforms.iter().filter(is_outdated).map(|report| report.platform).collect()
    }

    /// Puts what `newer` found out in the place of what is known of the same platforms.
    pub fn replace(&mut self, newer: Self) {
        for report in newer.platforms {
            match self.platforms.iter_mut().find(|known| known.platform == report.platform) {
                Some(known) => *known = report,
                None => self.platforms.push(report),
            }
        }
        let new = newer.findings.into_iter().filter(|finding| !self.findings.contains(finding));
        self.findings.extend(new.collect::<Vec<_>>());
    }
}

impl PlatformReport {
    /// A failure anywhere is critical. Where there is none, one pass is enough, and what could not
    /// be found out elsewhere is worth a note.
    fn findings(&self) -> Vec<Finding> {
        let has = |verdict| self.results.iter().any(|result| result.verdict == verdict);
        let passed = has(Verdict::Pass) || has(Verdict::Limited);
        // What is the same with several runtimes is said once.
        let mut problems: Vec<(&RunResult, Vec<&str>)> = Vec::new();
        for result in self.results.iter().filter(|result| !result.verdict.works()) {
            let same = |known: &RunResult| {
                (known.verdict, &known.reason, &known.advice) == (result.verdict, &result.reason, &result.advice)
            };
            match problems.iter_mut().find(|(known, _)| same(known)) {
                Some((_, runtimes)) => runtimes.push(result.runtime),
                None => problems.push((result, vec![result.runtime])),
            }
        }
        let finding = |(result, runtimes): (&RunResult, Vec<&str>)| {
            let (id, severity) = match result.verdict {
                Verdict::Fail if result.cause == Some(masked::ID) => (masked::ID, Severity::Critical),
                Verdict::Fail => ("selftest-failed", Severity::Critical),
                Verdict::Unseen => ("selftest-unseen", if passed { Severity::Note } else { Severity::Warning }),
                Verdict::Bypassed => ("selftest-bypassed", if passed { Severity::Note } else { Severity::Warning }),
                _ => ("selftest-unknown", if passed { Severity::Note } else { Severity::Unknown }),
            };
            let message = format!("{}: {}", runtimes.join(", "), result.reason);
            Finding { id, severity, subject: Some(self.platform.to_string()), message, advice: result.advice.clone() }
        };
        problems.into_iter().map(finding).chain(self.broken_parts()).chain(self.broken_programs()).collect()
    }
}

impl RunResult {
    /// Judges what was found out beside the answer, on the host that `snapshot` is of, for the target of `look`.
    pub(super) fn judge_parts(&mut self, snapshot: &Snapshot, look: Option<&Look<'_>>) {
        self.parts.iter_mut().for_each(|part| part.judge(snapshot, look));
        if self.verdict == Verdict::Pass && self.parts.iter().any(PartResult::is_bad) {
            self.verdict = Verdict::Limited;
        }
    }
}

impl PlatformReport {
    /// What is broken although containers run: once for each part, whatever the runtime.
    fn broken_parts(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for result in &self.results {
            for (part, broken) in result.parts.iter().filter_map(|part| Some((part, part.broken()?))) {
                let about = part.about();
                let finding = Finding {
                    id: parts::finding_id(about),
                    severity: part.severity,
                    subject: Some(self.platform.to_string()),
                    message: parts::describe(about, &broken),
                    advice: part.advice.clone(),
                };
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings
    }
}

impl PlatformReport {
    /// Which programs do not start although others do.
    fn broken_programs(&self) -> Vec<Finding> {
        let limited = self.results.iter().filter(|result| result.verdict == Verdict::Limited);
        let tell = |result: &RunResult| {
            let finding = |(names, first): (String, &ProgramResult)| Finding {
                id: "program-broken",
                severity: Severity::Warning,
                subject: Some(self.platform.to_string()),
                message: format!("{}: {names} did not start: {}", result.runtime, first.detail),
                advice: first.advice.clone(),
            };
            programs::broken(&result.programs).into_iter().map(finding).collect::<Vec<_>>()
        };
        limited.flat_map(tell).collect()
    }
}

/// What `what` has left with `engine`, and why it is still there.
pub(super) fn leftover(engine: &str, what: &str, reason: &str) -> Finding {
    Finding {
        id: "selftest-leftover",
        severity: Severity::Warning,
        subject: None,
        message: format!("{engine}: what {what} has left could not be removed: {reason}"),
        advice: "Run the self-test again, which tries again.".into(),
    }
}
