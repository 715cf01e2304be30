// SPDX-License-Identifier: MIT OR Apache-2.0
//! Not yet.

use crate::report::Screen;

/// What can be given with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Runs it and gives the exit code.
///
/// # Errors
/// Not yet.
pub fn run(_args: &Args, _screen: &mut Screen) -> anyhow::Result<u8> {
    anyhow::bail!("not written yet")
}
