// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist enable` and `qemu-persist disable`.

use std::path::PathBuf;

use super::{Failure, apply};
use crate::apply::Lock;
use crate::assess::plan::Wish;
use crate::config::dropin::{self, ToggleError};
use crate::host::Facts;
use crate::platform::Platform;
use crate::report::changes;
use crate::report::{Screen, Tone, escape};

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
    let facts = Facts::read(&root);
    if let Some(native) = args.platforms.iter().find(|p| wanted && facts.native.contains(p)) {
        let what = format!("{native} is what this host runs by itself: it is never registered");
        return Err(Failure::Usage(what).into());
    }
    if root.is_live() && !nix::unistd::geteuid().is_root() {
        return Err(Failure::permission("changing what is wanted").into());
    }
    let changed = {
        let _lock = Lock::take(&root)?;
        let (enable, disable): (&[_], &[_]) = if wanted { (&args.platforms, &[]) } else { (&[], &args.platforms) };
        dropin::write_toggle(&root, &facts.native, enable, disable).map_err(|e| match e {
            ToggleError::Config(e) => Failure::Config(e).into(),
            other => anyhow::Error::from(other),
        })?
    };
    // To want less is no word against `remove`.
    let mut report = apply::perform(&root, &Wish { force: args.force, ..Wish::default() }, !wanted)?;
    report.changed |= changed;
    if !args.json && changed {
        let file = dropin::path();
        let verb = if root.exists(&file) { "write" } else { "remove" };
        let what = format!("{verb} {}", escape(&root.outside(&file).to_string_lossy()));
        screen.paragraph(&screen.tint(Tone::Good, "* "), 2, &what)?;
        let names: Vec<_> = args.platforms.iter().map(ToString::to_string).collect();
        let why = if wanted { "is asked for" } else { "is not wanted any more" };
        screen.paragraph(&screen.tint(Tone::Faint, "  because "), 10, &format!("{} {why}", names.join(", ")))?;
    }
    changes::show(&report, args.json, screen)?;
    Ok(report.exit_code)
}
