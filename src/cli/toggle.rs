// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist enable` and `qemu-persist disable`.

use std::path::PathBuf;

use super::{Failure, apply};
use crate::apply::{Lock, Outcome};
use crate::assess::assess;
use crate::assess::plan::{Action, Plan, Removal, Step, Wish};
use crate::config::dropin::{self, Edit, ToggleError};
use crate::files::Root;
use crate::host::Facts;
use crate::platform::Platform;
use crate::report::Screen;
use crate::report::changes::{self, Report};
use crate::snapshot::Snapshot;

/// What can be given with `enable` and `disable`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The platforms, such as linux/riscv64
    #[arg(required = true, value_name = "PLATFORM", value_parser = super::parse_platform)]
    pub platforms: Vec<&'static Platform>,
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

/// Wants the platforms, or no longer, and applies that. Gives the exit code.
///
/// # Errors
/// A platform that the host runs itself, a broken configuration, no permission, a held lock.
pub fn run(args: &Args, wanted: bool, screen: &mut Screen) -> anyhow::Result<u8> {
    let root = super::open_root(args.root.as_ref())?;
    let native = Facts::read(&root).native;
    if let Some(platform) = args.platforms.iter().find(|platform| wanted && native.contains(platform)) {
        let what = format!("{platform} is what this host runs by itself: it is never registered");
        return Err(Failure::Usage(what).into());
    }
    if root.is_live() && !nix::unistd::geteuid().is_root() {
        return Err(Failure::permission("changing what is wanted").into());
    }
    // To want less is no word against `remove`.
    let removal = if wanted { Removal::Lift } else { Removal::AsIs };
    let wish = Wish { force: args.force, removal, ..Wish::default() };
    let written = write(&root, args, wanted)?;
    let mut report = if written.failed.is_empty() {
        apply::perform(&root, &wish, !wanted)?
    } else {
        let (snapshot, _) = Snapshot::take(&root, true);
        let mut report = Report::done(&Outcome::default(), &assess(&snapshot, &Wish::default()), &snapshot);
        report.exit_code = 2;
        report
    };
    report.changed |= !written.done.is_empty();
    report.changes.splice(0..0, written.done);
    report.failed.splice(0..0, written.failed);
    changes::show(&report, args.json, screen)?;
    Ok(report.exit_code)
}

/// Changes what is wanted.
fn write(root: &Root, args: &Args, wanted: bool) -> anyhow::Result<Outcome> {
    let _lock = Lock::take(root)?;
    let (snapshot, _) = Snapshot::take(root, true);
    let (enable, disable): (&[_], &[_]) = if wanted { (&args.platforms, &[]) } else { (&[], &args.platforms) };
    let edit = dropin::plan_toggle(root, &snapshot.facts.native, enable, disable).map_err(|e| match e {
        ToggleError::Config(e) => Failure::Config(e).into(),
        other => anyhow::Error::from(other),
    })?;
    let path = dropin::path();
    let action = match edit {
        None => return Ok(Outcome::default()),
        Some(Edit::Write(content)) => Action::WriteConfig { path, content },
        Some(Edit::Remove) => Action::RemoveConfig { path },
    };
    let names: Vec<_> = args.platforms.iter().map(ToString::to_string).collect();
    let why = format!("{} {}", names.join(", "), if wanted { "is asked for" } else { "is not wanted any more" });
    let plan = Plan { steps: vec![Step { action, subject: None, why }], ..Plan::default() };
    Ok(crate::apply::apply(root, &snapshot, plan))
}
