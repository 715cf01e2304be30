// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist remove`.

use std::path::PathBuf;

use super::Failure;
use crate::apply::{Lock, apply};
use crate::assess::assess;
use crate::assess::plan::{Removal, Wish};
use crate::config::Config;
use crate::files::Root;
use crate::report::Screen;
use crate::report::changes::{self, Report};
use crate::snapshot::Snapshot;

/// What can be given with `remove`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what would be taken back, and change nothing (exit 1 where something would)
    #[arg(long)]
    pub check: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Work on the system image below DIR instead of the running system
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Change the kernel's handlers even from a container or chroot
    #[arg(long)]
    pub force: bool,
}

/// Everything there is, with nothing wanted of it. The configuration is not read: a broken one is
/// no reason to stay.
fn take(root: &Root) -> Snapshot {
    let mut snapshot = Snapshot::with_config(root, Config::default(), false);
    snapshot.targets.clear();
    snapshot
}

/// Runs `remove` and gives the exit code.
///
/// # Errors
/// No permission, a lock that is held, and those of writing.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    let root = super::open_root(args.root.as_ref())?;
    let wish = Wish { force: args.force, removal: Removal::Note, ..Wish::default() };
    let snapshot = take(&root);
    let assessment = assess(&snapshot, &wish);
    if args.check {
        let mut report = Report::planned(&assessment, &snapshot);
        report.exit_code = u8::from(report.changed);
        changes::show(&report, args.json, screen)?;
        return Ok(report.exit_code);
    }
    if root.is_live() && !nix::unistd::geteuid().is_root() && !assessment.plan.steps.is_empty() {
        return Err(Failure::permission("taking handlers back").into());
    }
    let report = perform(&root, &wish)?;
    changes::show(&report, args.json, screen)?;
    Ok(report.exit_code)
}

/// Takes back what was added, and says what that took.
pub(super) fn perform(root: &Root, wish: &Wish) -> anyhow::Result<Report> {
    let _lock = Lock::take(root)?;
    let snapshot = take(root);
    let outcome = apply(root, &snapshot, assess(&snapshot, wish).plan);
    let snapshot = take(root);
    let mut report = Report::done(&outcome, &assess(&snapshot, wish), &snapshot);
    report.exit_code = if report.failed.is_empty() { 0 } else { 2 };
    Ok(report)
}
