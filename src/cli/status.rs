// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist status`.

use std::path::PathBuf;
use std::time::Duration;

use crate::assess::assess;
use crate::assess::plan::Wish;
use crate::host::Package;
use crate::host::dpkg::Packages;
use crate::platform::Platform;
use crate::report::Screen;
use crate::report::status::{self, Report};
use crate::selftest::running;
use crate::snapshot::Snapshot;

/// How long an engine may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be given with `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Only these of the platforms that are wanted
    #[arg(long, value_name = "PLATFORM", num_args = 1.., value_parser = super::parse_platform)]
    pub platform: Vec<&'static Platform>,
    /// Also ask the container engines which containers run under emulation now
    #[arg(long, conflicts_with = "root")]
    pub containers: bool,
    /// Look at the system image below DIR instead of the running system
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Runs `status` and gives the exit code.
///
/// # Errors
/// A platform that is not wanted, a `--root` that is none, and those of writing.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    let root = super::open_root(args.root.as_ref())?;
    // A broken configuration is a finding here, since a health check has to answer.
    let (mut snapshot, _error) = Snapshot::take(&root, true);
    super::refuse_unwanted(&snapshot, &args.platform)?;
    snapshot.targets.retain(|target| target.is_among(&args.platform));
    let wish = Wish { only: args.platform.clone(), ..Wish::default() };
    let assessment = assess(&snapshot, &wish);
    let packages = Packages::of(&root);
    let mut report = Report::new(&snapshot, assessment, |path| {
        let name = packages.owner_of_resolved(path)?;
        let version = packages.version(&name)?;
        Some(Package { name, version })
    });
    if args.containers {
        report.add_containers(running::emulated(&snapshot.facts.native, PATIENCE)?);
    }
    status::show(&report, args.json, screen)?;
    Ok(report.exit_code)
}
