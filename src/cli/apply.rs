// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist apply`.

use std::path::PathBuf;

use super::Failure;
use crate::apply::{Lock, Outcome, apply};
use crate::assess::assess;
use crate::assess::plan::{Action, Plan, Removal, Wish};
use crate::files::Root;
use crate::finding::{Finding, Severity};
use crate::platform::Platform;
use crate::report::Screen;
use crate::report::changes::{self, Report};
use crate::snapshot::Snapshot;

/// What can be given with `apply`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Args {
    /// Say what would be changed, and change nothing (exit 1 where something would)
    #[arg(long)]
    pub check: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Only these of the platforms that are wanted
    #[arg(long, value_name = "PLATFORM", num_args = 1.., value_parser = super::parse_platform)]
    pub platform: Vec<&'static Platform>,
    /// Work on the system image below DIR instead of the running system
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Displace other translators (box64, FEX), and foreign handlers with the flag C
    #[arg(long)]
    pub take_over: bool,
    /// Change the kernel's handlers even from a container or chroot, and on unsupported hosts
    #[arg(long)]
    pub force: bool,
}

/// Findings with which nothing is changed unless `--force` is given.
const REFUSING: [&str; 2] = ["unsupported-host", "unknown-architecture"];

/// Runs `apply` and gives the exit code.
///
/// # Errors
/// A broken configuration, a platform that is not wanted, no permission, a lock that is held.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    let root = super::open_root(args.root.as_ref())?;
    let wish =
        Wish { only: args.platform.clone(), take_over: args.take_over, force: args.force, removal: Removal::Lift };
    let report = if args.check || !may_change(&root) { check(&root, &wish)? } else { perform(&root, &wish, false)? };
    changes::show(&report, args.json, screen)?;
    if !args.check && report.changed {
        permitted(&root)?;
    }
    Ok(report.exit_code)
}

fn take(root: &Root, wish: &Wish, honour_remove: bool) -> anyhow::Result<Snapshot> {
    let (snapshot, error) = Snapshot::take(root, honour_remove);
    if let Some(error) = error {
        return Err(Failure::Config(error).into());
    }
    super::refuse_unwanted(&snapshot, &wish.only)?;
    Ok(snapshot)
}

fn may_change(root: &Root) -> bool {
    !root.is_live() || nix::unistd::geteuid().is_root()
}

fn permitted(root: &Root) -> Result<(), Failure> {
    let denied = || Failure::permission("changing the kernel's handlers and binfmt.d");
    if may_change(root) { Ok(()) } else { Err(denied()) }
}

/// What would be changed.
fn check(root: &Root, wish: &Wish) -> anyhow::Result<Report> {
    let snapshot = take(root, wish, false)?;
    let assessment = assess(&snapshot, wish);
    let mut report = Report::planned(&assessment, &snapshot);
    let refused = refusal(&assessment.findings).as_ref().is_some_and(|_| !wish.force);
    report.exit_code = match () {
        () if refused || !assessment.plan.unmet.is_empty() => 2,
        () if report.changed => 1,
        () => 0,
    };
    Ok(report)
}

fn refusal(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|finding| REFUSING.contains(&finding.id))
}

/// Makes everything work that can be made to, and says what that took. After `remove` that is
/// everything that the configuration wants, and with `honour_remove` nothing.
pub(super) fn perform(root: &Root, wish: &Wish, honour_remove: bool) -> anyhow::Result<Report> {
    // Held from the first look, so that what is seen is what is changed.
    let _lock = may_change(root).then(|| Lock::take(root)).transpose()?;
    let mut snapshot = take(root, wish, honour_remove)?;
    let assessment = assess(&snapshot, wish);
    if let Some(finding) = refusal(&assessment.findings).filter(|_| !wish.force) {
        let mut report = Report::done(&Outcome::default(), &assessment, &snapshot);
        report.refused = Some(finding.message.clone());
        report.exit_code = 2;
        return Ok(report);
    }
    let mut plan = assessment.plan.clone();
    if plan.steps.is_empty() {
        let mut report = Report::done(&Outcome::default(), &assessment, &snapshot);
        report.exit_code = code_of(&report, &assessment.findings);
        return Ok(report);
    }
    permitted(root)?;
    let mut outcome = Outcome::default();
    // What is registered can be said only when the table is mounted.
    if let Some(mount) = plan.steps.iter().position(|step| step.action == Action::Mount) {
        let only = Plan { steps: vec![plan.steps.swap_remove(mount)], ..Plan::default() };
        outcome = apply(root, &snapshot, only);
        snapshot = take(root, wish, honour_remove)?;
        plan = assess(&snapshot, wish).plan;
        plan.steps.retain(|step| step.action != Action::Mount);
    }
    let did = apply(root, &snapshot, plan);
    let snapshot = snapshot.after(root, &did);
    outcome.done.extend(did.done);
    outcome.failed.extend(did.failed);
    outcome.unrecorded = did.unrecorded;
    let assessment = assess(&snapshot, wish);
    let mut report = Report::done(&outcome, &assessment, &snapshot);
    report.exit_code = code_of(&report, &assessment.findings);
    Ok(report)
}

/// 2 where a wanted platform does not work after all, else 0. What only a container can show, and
/// what was left alone on purpose, is not counted.
fn code_of(report: &Report, findings: &[Finding]) -> u8 {
    let failed = !report.failed.is_empty() || !report.unmet.is_empty();
    let broken = findings.iter().any(|f| f.severity == Severity::Critical && f.id != "proof-failed");
    if failed || broken { 2 } else { 0 }
}
