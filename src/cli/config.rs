// SPDX-License-Identifier: MIT OR Apache-2.0
//! `config`: the configuration in effect, and whether it is right.

use std::path::PathBuf;

use clap::Subcommand;

use super::{BAD_CONFIG, Failure, open_root};
use crate::config::Config;
use crate::report::config::{Checked, Shown, toml};
use crate::report::{Screen, escape};

/// What can be given with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do with the configuration
    #[command(subcommand)]
    pub verb: Verb,
}

impl Args {
    pub(super) fn wants_json(&self) -> bool {
        let (Verb::Show(options) | Verb::Check(options)) = &self.verb;
        options.json
    }
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the values in effect and the file that each comes from
    Show(Options),
    /// Check every file that is read; exit code 0, or 78 where something is wrong
    Check(Options),
}

/// What can be given with each of them.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Work on the system image in this directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Runs it and gives the exit code.
///
/// # Errors
/// A broken configuration, in text; those of writing.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    match &args.verb {
        Verb::Show(options) => show(options, screen),
        Verb::Check(options) => check(options, screen),
    }
}

fn show(options: &Options, screen: &mut Screen) -> anyhow::Result<u8> {
    let root = open_root(options.root.as_ref())?;
    let loaded = Config::load(&root).map_err(Failure::Config)?;
    if options.json {
        screen.json(&Shown::new(&root, &loaded))?;
    } else {
        screen.line(toml(&root, &loaded))?;
        screen.flush()?;
    }
    Ok(0)
}

fn check(options: &Options, screen: &mut Screen) -> anyhow::Result<u8> {
    let root = open_root(options.root.as_ref())?;
    let result = Config::load(&root);
    if options.json {
        screen.json(&Checked::new(&root, &result))?;
        return Ok(if result.is_ok() { 0 } else { BAD_CONFIG });
    }
    let loaded = result.map_err(Failure::Config)?;
    for file in &loaded.files {
        screen.line(format!("{}: ok", escape(&root.outside(file).to_string_lossy())))?;
    }
    if loaded.files.is_empty() {
        screen.line("no configuration files: the defaults are in effect")?;
    }
    screen.flush()?;
    Ok(0)
}
