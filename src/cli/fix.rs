// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist fix page-size`: have a Raspberry Pi start the kernel whose pages have 4 KiB.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::ValueEnum;

use super::{Failure, open_root};
use crate::host::Facts;
use crate::pi::{Firmware, Refusal, State};
use crate::report::Screen;
use crate::report::fix::{self, Report};

/// What can be mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The size of the kernel's pages
    PageSize,
}

/// What can be given with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to mend
    #[arg(value_name = "WHAT", value_enum)]
    pub what: What,
    /// Make the change without asking
    #[arg(long)]
    pub yes: bool,
    /// Take the change back
    #[arg(long)]
    pub undo: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Work on the system image below DIR instead of the running system
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Shows the change, and makes it where that is wanted. Exit code 0 where the host's pages have 4 KiB, or will have
/// after a reboot, 1 where they will not, 2 where the change could not be made.
///
/// # Errors
/// No permission, a `--root` that is no directory, and those of reading and writing.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    let root = open_root(args.root.as_ref())?;
    let facts = Facts::read(&root);
    let firmware = match Firmware::read(&root) {
        Ok(firmware) => firmware,
        Err(refusal) => return refuse(args, None, &refusal, &facts, screen),
    };
    let Some(firmware) = firmware else {
        let state = if facts.page_size == 4096 { State::Small } else { State::NoPi };
        return finish(args, &Report::new(state, &facts), screen);
    };
    let state = firmware.state(&root, &facts);
    let edit = if args.undo { Ok(firmware.undo()) } else { firmware.change(&root) };
    let needed = args.undo || state == State::Large;
    let edit = match edit {
        Ok(edit) => edit.filter(|_| needed),
        Err(_) if !needed => None,
        Err(refusal) => return refuse(args, Some(&firmware), &refusal, &facts, screen),
    };
    let mut report = Report::new(state, &facts).about(&firmware, edit.as_ref());
    let Some(edit) = edit else {
        if args.undo {
            report.nothing_to_take_back();
        }
        return finish(args, &report, screen);
    };
    let allowed = !root.is_live() || nix::unistd::geteuid().is_root();
    if args.yes && !allowed {
        return Err(Failure::permission("changing what the firmware starts").into());
    }
    let wanted = args.yes || (!args.json && allowed && asks(&mut report, screen)?);
    if wanted {
        match firmware.write(&root, &facts, &edit) {
            Ok(()) => {
                let now = Firmware::read(&root).ok().flatten().map_or(state, |now| now.state(&root, &facts));
                report.made(now);
            }
            Err(refusal) => return refuse(args, Some(&firmware), &refusal, &facts, screen),
        }
    }
    finish(args, &report, screen)
}

/// Shows the change and asks whether to make it. Nobody is asked who is not there to answer.
fn asks(report: &mut Report, screen: &mut Screen) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    fix::change(report, screen)?;
    screen.flush()?;
    write!(io::stderr(), "Make this change? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn finish(args: &Args, report: &Report, screen: &mut Screen) -> anyhow::Result<u8> {
    fix::show(report, args.json, screen)?;
    Ok(report.exit_code)
}

fn refuse(
    args: &Args,
    firmware: Option<&Firmware>,
    refusal: &Refusal,
    facts: &Facts,
    screen: &mut Screen,
) -> anyhow::Result<u8> {
    if matches!(refusal, Refusal::Io(_, e) if e.kind() == io::ErrorKind::PermissionDenied) && !args.json {
        return Err(Failure::permission("this").into());
    }
    let mut report = Report::new(State::Large, facts);
    if let Some(firmware) = firmware {
        report = report.about(firmware, None);
    }
    report.refused(refusal);
    finish(args, &report, screen)
}
