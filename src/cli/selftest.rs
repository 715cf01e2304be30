// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist selftest`: run a container of each wanted platform and check what it says.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;

use super::{Failure, interrupted, parse_platform};
use crate::apply::{Lock, LockError};
use crate::config::Runtime;
use crate::files::Root;
use crate::finding::{Finding, Severity};
use crate::host::dpkg::Packages;
use crate::platform::Platform;
use crate::record::{self, Proofs};
use crate::report::{Progress, Screen, selftest as show};
use crate::selftest::as_user::RanAs;
use crate::selftest::depth::Depth;
use crate::selftest::engine::Traces;
use crate::selftest::programs::Folder;
use crate::selftest::proof::{self, Boot};
use crate::selftest::report::Report;
use crate::selftest::user_image::UserImage;
use crate::selftest::{self, Recorded, Request, Subject};
use crate::snapshot::Snapshot;

/// What can be given with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only this platform, which has to be a wanted one; may be given more than once
    #[arg(long, value_name = "PLATFORM", value_parser = parse_platform, num_args = 1..)]
    pub platform: Vec<&'static Platform>,
    /// By which runtime: auto is every engine that answers, and builtin where none does
    ///
    /// buildkit is a step of a build by Docker's BuildKit, and is run only where it is named. No image comes of it, but
    /// BuildKit keeps what it was given in its cache, 100 kB at most, until that is pruned.
    #[arg(long, value_name = "RUNTIME", value_parser = PossibleValuesParser::new(Runtime::ALL.map(Runtime::name)))]
    pub runtime: Option<String>,
    /// Run this image instead of the probe that is built in; it is pulled where it is not here
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Run as this user, with the engines that this user has (rootless Docker or Podman): takes root, unless it is you
    ///
    /// It is started with the variables that a login sets, and without those of yours. What runs as a user is no proof for
    /// status, and shows whether the handlers reach this user's containers.
    #[arg(long, value_name = "NAME", value_hint = clap::ValueHint::Username)]
    pub as_user: Option<String>,
    /// How much to look at beside what uname says: what decides whether common programs start, or all that
    /// programs rely on
    #[arg(long, value_name = "DEPTH", value_enum, default_value_t, conflicts_with = "image")]
    pub depth: Depth,
    /// Run real programs of this image, or of the system below this folder, and say which start: openssl, curl,
    /// python3, git, tar and others, as far as they are there
    #[arg(long, value_name = "IMAGE|FOLDER", conflicts_with_all = ["image", "depth"])]
    pub programs: Option<String>,
    /// What to run in the image instead of `uname -m`; it passes when it ends with status 0
    #[arg(last = true, requires = "image")]
    pub command: Vec<String>,
    /// End with status 0 where no platform is wanted, so that there is nothing to prove; otherwise that is
    /// unknown, and 3
    #[arg(long)]
    pub if_wanted: bool,
    /// How many seconds one container may take
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// What `args` ask to run.
fn subject(args: &Args) -> Result<Subject, Failure> {
    if let Some(reference) = args.image.clone() {
        return Ok(Subject::Image(UserImage { reference, command: args.command.clone() }));
    }
    let Some(from) = args.programs.clone() else { return Ok(Subject::Probes(args.depth)) };
    // No image's name begins so.
    if !from.starts_with(['/', '.']) {
        return Ok(Subject::ProgramsOfImage(from));
    }
    let folder = Folder::new(Path::new(&from)).map_err(|e| Failure::Usage(format!("the folder {from}: {e}")))?;
    match args.runtime.as_deref() {
        None | Some("auto" | "all" | "builtin") => Ok(Subject::ProgramsOfFolder(folder)),
        Some(engine) => Err(Failure::Usage(format!("{engine} runs images; leave --runtime away for a folder"))),
    }
}

/// How often what was registered anew meanwhile is run again.
pub(super) const AGAIN: usize = 3;

/// Runs it and gives the exit code.
///
/// # Errors
/// [`Failure`], and those of the system.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    if let Some(name) = &args.as_user {
        if let Some(code) = super::as_user::run(name, args, screen)? {
            return Ok(code);
        }
    }
    let root = Root::live();
    let (mut snapshot, error) = Snapshot::take(&root, true);
    if let Some(error) = error {
        return Err(Failure::Config(error).into());
    }
    super::refuse_unwanted(&snapshot, &args.platform)?;
    let config = &snapshot.config;
    let runtime = args.runtime.as_deref().and_then(Runtime::named).unwrap_or(config.selftest_runtime);
    let wanted = snapshot.targets.iter().filter(|target| target.is_among(&args.platform));
    let mut request = Request {
        platforms: wanted.filter_map(|target| target.platform).collect(),
        named: !args.platform.is_empty(),
        subject: subject(args)?,
        runtime,
        limit: args.timeout.map_or(config.selftest_timeout, Duration::from_secs),
        boot_id: snapshot.facts.boot_id.clone(),
    };
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let traces = Traces::default();
    let shown = Progress::new(args.json);
    let progress = |what: &str| shown.tell(what);
    let boot = Boot { id: snapshot.facts.boot_id.clone(), kernel_release: snapshot.facts.kernel_release.clone() };
    let whole = matches!(runtime, Runtime::Auto | Runtime::All);
    let nothing_wanted = request.platforms.is_empty();
    let mut report = Report::default();
    let mut recorded = Recorded::Nothing;
    for left in (0..=AGAIN).rev() {
        let ended = reactor.block_on(async {
            let ended = tokio::select! {
                report = selftest::run(&request, &snapshot, &traces, &progress) => Ok(report),
                code = interrupted() => Err(code),
            };
            let left = traces.clear().await;
            (ended, left)
        });
        shown.clear();
        match ended {
            (Ok(newer), _) => report.replace(newer),
            (Err(code), left) => {
                for (engine, what, reason) in left {
                    screen.error(&anyhow::anyhow!("{engine}: {what} could not be removed: {reason}"));
                }
                return Ok(code?);
            }
        }
        if !request.subject.is_probes() {
            recorded = Recorded::OwnImage;
            break;
        }
        // The service holds the lock whenever it looks: either what it has changed is seen here, or it sees what is
        // recorded here.
        let lock = nix::unistd::geteuid().is_root().then(|| Lock::take(&root));
        snapshot = Snapshot::take(&root, true).0;
        request.platforms = report.outdated(&snapshot);
        if request.platforms.is_empty() || left == 0 {
            recorded = keep(&root, lock, &boot, whole, &mut report);
            break;
        }
        request.named = true;
    }
    if args.platform.is_empty() {
        let custom = snapshot.targets.iter().filter(|target| target.platform.is_none());
        report.findings.extend(custom.map(|target| Finding {
            id: "selftest-no-probe",
            severity: Severity::Note,
            subject: Some(target.subject.clone()),
            message: "it was not tested: there is no built-in program for a handler of your own".into(),
            advice: String::new(),
        }));
    }
    if nothing_wanted {
        report.findings.push(Finding {
            id: "selftest-nothing",
            severity: if args.if_wanted { Severity::Note } else { Severity::Unknown },
            subject: None,
            message: "no platform is wanted, so that nothing was run".into(),
            advice: "To want one: `sudo qemu-persist enable PLATFORM`.".into(),
        });
    }
    let packages = Packages::of(&root);
    report.name_packages(|path| packages.package_of_resolved(path));
    let ran_as = RanAs::current();
    if args.json {
        show::json(&report, recorded, &ran_as, screen)?;
    } else {
        show::text(&report, recorded, &ran_as, args.depth, screen)?;
    }
    Ok(crate::finding::exit_code(&report.all_findings()))
}

/// Records what ran, where root ran it, who has asked for the lock.
fn keep(root: &Root, lock: Option<Result<Lock, LockError>>, boot: &Boot, whole: bool, report: &mut Report) -> Recorded {
    let Some(lock) = lock else { return Recorded::NotRoot };
    let enter = || -> anyhow::Result<bool> {
        // Two runs at once add to each other.
        let _lock = lock?;
        // What does not count is replaced.
        let mut proofs: Proofs = record::load(root, record::PROOFS).unwrap_or_default();
        if !proof::enter(&mut proofs, &report.platforms, boot, whole) {
            return Ok(false);
        }
        record::save(root, record::PROOFS, &proofs).with_context(|| record::PROOFS)?;
        Ok(true)
    };
    let error = match enter() {
        Ok(true) => return Recorded::Yes,
        Ok(false) => return Recorded::Nothing,
        Err(error) => error,
    };
    report.findings.push(Finding {
        id: "proof-not-recorded",
        severity: Severity::Warning,
        subject: None,
        message: format!("what ran could not be recorded: {error:#}"),
        advice: "See whether /var/lib can be written to.".into(),
    });
    Recorded::Failed
}
