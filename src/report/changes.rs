// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `apply`, `remove`, `enable` and `disable` changed or would change.

use std::io;

use serde::Serialize;

use super::{Screen, Tone, escape};
use crate::apply::{Failed, Outcome};
use crate::assess::Assessment;
use crate::assess::plan::{Action, Left, Manner, Step, Unmet};
use crate::finding::{Finding, Severity};
use crate::record;
use crate::snapshot::Snapshot;

/// What is told of one run.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Report {
    /// The version of this form.
    pub schema: u32,
    /// Whether anything was changed; with `--check`, would be.
    pub changed: bool,
    /// Whether nothing was done yet (`--check`).
    pub check: bool,
    /// Why nothing was done, where the host is refused.
    pub refused: Option<String>,
    /// What was changed, or would be.
    pub changes: Vec<Step>,
    /// What was tried and failed.
    pub failed: Vec<Failed>,
    /// What this program registered and that stays though it is not wanted, since the distribution's
    /// own files register the same.
    pub left: Vec<Left>,
    /// What cannot be made to work, and why.
    pub unmet: Vec<UnmetReport>,
    /// Every target that is wanted, and whether it works now.
    pub platforms: Vec<TargetReport>,
    /// What else was found.
    pub findings: Vec<Finding>,
    /// The exit code.
    pub exit_code: u8,
}

/// A target that cannot be made to work.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct UnmetReport {
    /// The target.
    pub subject: String,
    /// The id of the finding that tells it.
    #[cfg_attr(feature = "assets", schemars(with = "super::schema::FindingId"))]
    pub id: &'static str,
    /// Why.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// A target, and whether it works.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct TargetReport {
    /// `linux/amd64`, or a handler's name.
    pub subject: String,
    /// Whether a good handler wins now; none for an image.
    pub works_now: Option<bool>,
    /// Whether one will at the next boot.
    pub works_after_boot: bool,
}

impl From<&Unmet> for UnmetReport {
    fn from(unmet: &Unmet) -> Self {
        let Unmet { subject, id, message, advice } = unmet;
        Self { subject: subject.clone(), id, message: message.clone(), advice: advice.clone() }
    }
}

impl Report {
    /// What a run would change.
    pub fn planned(assessment: &Assessment<'_>, snapshot: &Snapshot) -> Self {
        let outcome = Outcome { done: assessment.plan.steps.clone(), ..Outcome::default() };
        Self { check: true, ..Self::done(&outcome, assessment, snapshot) }
    }

    /// What a run changed; `assessment` is of afterwards.
    pub fn done(outcome: &Outcome, assessment: &Assessment<'_>, snapshot: &Snapshot) -> Self {
        let platforms = assessment.looks.iter().map(|look| TargetReport {
            subject: look.target.subject.clone(),
            works_now: snapshot.live.then(|| look.works_now()),
            works_after_boot: look.works_after_boot(),
        });
        Self {
            schema: 1,
            changed: !outcome.done.is_empty(),
            check: false,
            refused: None,
            changes: outcome.done.clone(),
            failed: outcome.failed.clone(),
            left: assessment.plan.left.clone(),
            unmet: assessment.plan.unmet.iter().map(UnmetReport::from).collect(),
            platforms: platforms.collect(),
            findings: unrecorded(outcome).into_iter().chain(assessment.findings.iter().cloned()).collect(),
            exit_code: 0,
        }
    }
}

/// That what was registered could not be written down: it works all the same.
fn unrecorded(outcome: &Outcome) -> Option<Finding> {
    let why = outcome.unrecorded.as_ref()?;
    Some(Finding {
        id: "registration-not-recorded",
        severity: Severity::Warning,
        subject: None,
        message: format!("{}: {why}: what was registered is not known for ours on this boot", record::REGISTRATIONS),
        advice: "Make room in /run; `sudo qemu-persist selftest` shows which file the kernel holds meanwhile."
            .to_owned(),
    })
}

/// What an action does, as it is told to people.
fn describe(action: &Action) -> String {
    match action {
        Action::Mount => "mount binfmt_misc".to_owned(),
        Action::EnableAll => "turn handlers on".to_owned(),
        Action::Register { rule, manner: Manner::New, .. } => {
            format!("register {} with {} ({})", rule.name, rule.interpreter.display(), rule.flags)
        }
        Action::Register { rule, manner: Manner::Exchange, .. } => {
            format!("replace {} with {} ({})", rule.name, rule.interpreter.display(), rule.flags)
        }
        Action::Enable { name } => format!("enable {name}"),
        Action::Retire { name, restore: None } => format!("take back {name}"),
        Action::Retire { name, restore: Some(rule) } => {
            format!("take back {name} and give it back to {}", rule.interpreter.display())
        }
        Action::Restore { rule } => format!("register {} with {} again", rule.name, rule.interpreter.display()),
        Action::DisableCapturing { name } => format!("disable {name}"),
        Action::WriteFragment { path, .. } | Action::WriteConfig { path, .. } => format!("write {}", path.display()),
        Action::RemoveFragment { path } | Action::RemoveConfig { path } => format!("remove {}", path.display()),
        Action::NoteRemoval { path } => format!("note in {} that nothing is wanted", path.display()),
        Action::LiftRemoval { path } => format!("remove {}, the note that nothing is wanted", path.display()),
    }
}

/// Shows what was or would be changed.
///
/// # Errors
/// Those of writing.
pub fn show(report: &Report, json: bool, screen: &mut Screen) -> io::Result<()> {
    if json {
        return screen.json(report);
    }
    let (mark, tone) = if report.check { ("would ", Tone::Warning) } else { ("", Tone::Good) };
    for step in &report.changes {
        let what = format!("{mark}{}", escape(&describe(&step.action)));
        screen.paragraph(&screen.tint(tone, "* "), 2, &what)?;
        let why = escape(&step.why);
        let of = step.subject.as_ref().map_or(why.clone(), |subject| format!("{}: {why}", escape(subject)));
        screen.paragraph(&screen.tint(Tone::Faint, "  because "), 10, &of)?;
    }
    for failed in &report.failed {
        let what = format!("failed to {}: {}", escape(&describe(&failed.step.action)), escape(&failed.error));
        screen.paragraph(&screen.tint(Tone::Bad, "x "), 2, &what)?;
    }
    for left in &report.left {
        let (handler, path) = (escape(&left.handler), escape(&left.path.to_string_lossy()));
        screen.paragraph("  ", 2, &format!("left, since the distribution's {path} registers the same: {handler}"))?;
    }
    if let Some(refused) = &report.refused {
        screen.paragraph(&screen.tint(Tone::Bad, "x "), 2, &format!("nothing was changed: {}", escape(refused)))?;
    }
    let told =
        |finding: &&Finding| finding.severity > Severity::Note && !["unproven", "proof-pending"].contains(&finding.id);
    let not_unmet = |f: &&Finding| !report.unmet.iter().any(|u| f.subject.as_ref() == Some(&u.subject));
    let pending = report.check;
    for finding in report.findings.iter().filter(told).filter(|f| !pending && not_unmet(f)) {
        super::finding(finding, screen)?;
    }
    for unmet in &report.unmet {
        let what = format!("{}: {}", escape(&unmet.subject), escape(&unmet.message));
        screen.paragraph(&screen.tint(Tone::Bad, "x "), 2, &what)?;
        if !unmet.advice.is_empty() {
            screen.paragraph("  ", 2, &escape(&unmet.advice))?;
        }
    }
    summary(report, screen)
}

fn summary(report: &Report, screen: &mut Screen) -> io::Result<()> {
    let names = |wanted: bool| {
        let matching = report.platforms.iter().filter(|p| p.works_now.unwrap_or(p.works_after_boot) == wanted);
        let names: Vec<_> = matching.map(|p| escape(&p.subject)).collect();
        names.join(", ")
    };
    if report.check {
        let what = match (report.changed, report.unmet.is_empty()) {
            (true, _) => "Nothing was changed: the same command without --check does it.",
            (false, true) => "Nothing to do.",
            (false, false) => "Nothing that could be done would help.",
        };
        return screen.line(what);
    }
    if !report.changed && report.failed.is_empty() && report.unmet.is_empty() {
        screen.line("Nothing to do.")?;
    }
    let (working, broken) = (names(true), names(false));
    if !working.is_empty() {
        screen.line(format!("{} {working}", screen.tint(Tone::Good, "Registered:")))?;
    }
    if !broken.is_empty() {
        screen.line(format!("{} {broken}", screen.tint(Tone::Bad, "Not working:")))?;
    }
    Ok(())
}
