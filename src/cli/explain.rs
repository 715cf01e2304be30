// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist explain`.

use std::io::{self, IsTerminal as _, Read as _};
use std::time::Duration;

use anyhow::Context as _;

use super::Failure;
use crate::assess::assess;
use crate::assess::plan::Wish;
use crate::causes::{self, Host};
use crate::files::{Root, text_of};
use crate::report::Screen;
use crate::report::explain::{self, Report};
use crate::selftest::ended;
use crate::snapshot::Snapshot;

/// How much of a text is read, in bytes.
const MOST: u64 = 1 << 20;
/// How long an engine may take for one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be given with `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The error message, or `-` for standard input, which is read too where nothing is given
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
    /// Explain containers instead that have ended as foreign ones do that do not run here: with exit code 126, 127, 132
    /// to 137, 139 or 159, or with "exec format error"
    #[arg(long, conflicts_with = "text")]
    pub last: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Runs `explain`: exit code 0 where something is recognised, 1 where nothing is.
///
/// # Errors
/// No text, and those of reading and writing.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    if args.last {
        return last(args, screen);
    }
    let text = match &args.text[..] {
        [] if io::stdin().is_terminal() => {
            let how = "give it an error message, or a log: `qemu-persist explain TEXT`, `docker logs X 2>&1 | qemu-persist explain`";
            return Err(Failure::Usage(how.to_owned()).into());
        }
        [] => read()?,
        [only] if only == "-" => read()?,
        words => words.join(" "),
    };
    let (snapshot, _error) = Snapshot::take(&Root::live(), true);
    let assessment = assess(&snapshot, &Wish::default());
    let host = Host::new(&snapshot, &assessment);
    let report = Report::new(causes::explain(&text, &host), &host);
    explain::show(&report, args.json, screen)?;
    Ok(u8::from(report.causes.is_empty()))
}

/// Explains containers that have ended lately: exit code 0 where all of them are recognised, or there are none.
fn last(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    let ended = ended::lately(PATIENCE)?;
    let (snapshot, _error) = Snapshot::take(&Root::live(), true);
    let assessment = assess(&snapshot, &Wish::default());
    let host = Host::new(&snapshot, &assessment);
    let report = Report::of_containers(ended, &host);
    explain::show(&report, args.json, screen)?;
    Ok(u8::from(!report.knows_all()))
}

/// What is on standard input, up to a limit: who writes without end is not waited for.
fn read() -> anyhow::Result<String> {
    let mut content = Vec::new();
    io::stdin().lock().take(MOST).read_to_end(&mut content).context("standard input")?;
    Ok(text_of(content))
}
