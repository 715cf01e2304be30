// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist status`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::assess::assess;
use crate::assess::plan::Wish;
use crate::finding::Finding;
use crate::host::dpkg::Packages;
use crate::platform::Platform;
use crate::report::status::{self, Report};
use crate::report::{Screen, span};
use crate::selftest::buildkit::offers;
use crate::selftest::running;
use crate::snapshot::Snapshot;

/// How long an engine may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it is between two looks while a self-test is waited for.
const PAUSE: Duration = Duration::from_secs(1);

/// What can be given with `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Only these of the platforms that are wanted
    #[arg(long, value_name = "PLATFORM", num_args = 1.., value_parser = super::parse_platform)]
    pub platform: Vec<&'static Platform>,
    /// Also ask the container engines which containers run under emulation now, and for what Docker's builder builds
    #[arg(long, conflicts_with = "root")]
    pub containers: bool,
    /// While a self-test is about to run, wait for what it says, SECONDS at most [300 where not given]
    ///
    /// It looks again each second while something is proof-pending, shows what it then sees, and ends with the exit
    /// code of that.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "300",
        conflicts_with = "root")]
    pub wait: Option<u64>,
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
    let wish = Wish { only: args.platform.clone(), ..Wish::default() };
    let patience = Duration::from_secs(args.wait.unwrap_or_default());
    let began = Instant::now();
    let mut waited = false;
    let snapshot = loop {
        // A broken configuration is a finding here, since a health check has to answer.
        let (mut snapshot, _error) = Snapshot::take(&root, true);
        super::refuse_unwanted(&snapshot, &args.platform)?;
        snapshot.targets.retain(|target| target.is_among(&args.platform));
        let left = patience.saturating_sub(began.elapsed());
        if left.is_zero() || !is_pending(&assess(&snapshot, &wish).findings) {
            break snapshot;
        }
        if !waited && io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "Waiting for the self-test, {} at most.", span(left.as_secs()));
        }
        waited = true;
        thread::sleep(PAUSE.min(left));
    };
    let assessment = assess(&snapshot, &wish);
    let packages = Packages::of(&root);
    let mut report = Report::new(&snapshot, assessment, |path| packages.package_of_resolved(path));
    if args.containers {
        report.add_containers(running::emulated(&snapshot.facts.native, PATIENCE)?);
        report.add_builder(offers::ask(PATIENCE)?);
    }
    status::show(&report, args.json, screen)?;
    Ok(report.exit_code)
}

/// Whether something is not proven that a self-test is about to prove.
fn is_pending(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.id == "proof-pending")
}
