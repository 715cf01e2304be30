// SPDX-License-Identifier: MIT OR Apache-2.0
//! `host`: what this host is.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::open_root;
use crate::host::survey;
use crate::report::{self, Screen};

/// How long one program may take to answer.
const LIMIT: Duration = Duration::from_secs(4);

/// What can be given with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Look at the system image in this directory, by its files alone
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Shows what the host or system image is. The exit code is 0, whatever was found; 130 after
/// Ctrl-C, when the programs that were being asked have been ended.
///
/// # Errors
/// A `--root` that is no directory, and those of writing.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    let root = open_root(args.root.as_ref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let survey = runtime.block_on(async {
        tokio::select! {
            survey = survey::survey(&root, LIMIT) => Some(survey),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    let Some(survey) = survey else { return Ok(130) };
    if args.json {
        screen.json(&survey)?;
    } else {
        report::host::show(&survey, screen)?;
    }
    screen.flush()?;
    Ok(0)
}
