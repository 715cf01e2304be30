// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test: runs containers of wanted platforms and says whether they work.
//!
//! A pass is a container whose `uname` says what its platform must, and whose process was seen to
//! run the very interpreter that the winning handler names. What ran natively, or through another
//! file, is a failure; what was not seen is no proof.

pub mod as_user;
pub mod buildkit;
pub mod builtin;
mod container;
mod control;
pub mod depth;
pub mod ended;
pub mod engine;
pub mod expect;
pub mod image;
mod isa;
pub mod judge;
pub mod masked;
pub mod probes;
pub mod programs;
pub mod proof;
pub mod report;
mod run;
pub mod running;
mod runtimes;
pub mod saying;
pub mod sight;
mod step;
pub mod token;
pub mod user_image;
pub mod user_namespace;

use std::time::Duration;

use self::control::Controls;
use self::depth::Depth;
use self::engine::{Engine, Runs, Traces};
use self::expect::Expectation;
use self::judge::Verdict;
use self::programs::Folder;
use self::report::{PlatformReport, Report};
use self::run::run_one;
use self::runtimes::{Chosen, choose};
use self::token::REPOSITORY;
use self::user_image::UserImage;
use crate::assess::assess;
use crate::assess::plan::Wish;
use crate::causes::Host;
use crate::config::Runtime;
use crate::finding::{Finding, Severity};
use crate::host::engines::Kind;
use crate::platform::Platform;
use crate::snapshot::Snapshot;

/// What is to be run.
#[derive(Debug)]
pub struct Request {
    /// The platforms, in the order in which they are run.
    pub platforms: Vec<&'static Platform>,
    /// Whether they were named, rather than being all that are wanted.
    pub named: bool,
    /// What of them is run.
    pub subject: Subject,
    /// By which runtimes.
    pub runtime: Runtime,
    /// How long one container may take.
    pub limit: Duration,
    /// The id of this boot.
    pub boot_id: String,
}

/// What is run in containers.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The probes that are built in, and how much is looked at beside what `uname` says.
    Probes(Depth),
    /// A command in an image of the user's own.
    Image(UserImage),
    /// Real programs in an image of the user's own, by its name or id.
    ProgramsOfImage(String),
    /// Real programs in a folder.
    ProgramsOfFolder(Folder),
}

impl Subject {
    /// The image, where it is one of the user's own.
    fn image(&self) -> Option<&str> {
        match self {
            Self::Image(image) => Some(&image.reference),
            Self::ProgramsOfImage(reference) => Some(reference),
            Self::Probes(_) | Self::ProgramsOfFolder(_) => None,
        }
    }

    /// Whether it is the probes, whose runs are proof.
    pub fn is_probes(&self) -> bool {
        matches!(self, Self::Probes(_))
    }
}

/// Whether what ran counts as proof from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It does.
    Yes,
    /// Nothing was found out.
    Nothing,
    /// Only root's runs do.
    NotRoot,
    /// An image of the user's own can fail for reasons of its own.
    OwnImage,
    /// It could not be written, which is a finding.
    Failed,
}

/// Runs what `request` asks for with the handlers that `snapshot` shows, and tells `progress` what is being
/// done. What is left with engines while it runs is noted in `traces`, for a caller that is
/// interrupted.
pub async fn run(request: &Request, snapshot: &Snapshot, traces: &Traces, progress: &dyn Fn(&str)) -> Report {
    let mut report = Report::default();
    progress("looking for container engines");
    let mut chosen = match request.subject {
        Subject::ProgramsOfFolder(_) => vec![Chosen::Builtin],
        _ => choose(request.runtime, request.limit, &mut report.findings).await,
    };
    if request.subject.image().is_some() {
        chosen.retain(|runtime| !matches!(runtime, Chosen::Builtin | Chosen::Builder(_)));
    }
    if let Some(finding) =
        request.subject.image().and_then(|_| needs_engine(request.runtime, &chosen, &report.findings))
    {
        report.findings.push(finding);
        return report;
    }
    let platforms = match settle(request, &chosen, &snapshot.facts.native).await {
        Ok(platforms) => platforms,
        Err(finding) => {
            report.findings.push(finding);
            return report;
        }
    };
    let leftovers = clear_leftovers(&chosen, &request.boot_id);
    // What is to be cleared is of no run whose time is not over, and so not of this one.
    let (leftovers, mut ran) =
        tokio::join!(leftovers, run_all(request, &chosen, platforms, snapshot, traces, progress));
    report.platforms = ran.platforms;
    report.findings.extend(leftovers);
    report.findings.append(&mut ran.findings);
    report
}

/// Removes what killed runs have left; gives what could not be removed.
async fn clear_leftovers(chosen: &[Chosen], boot_id: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for runtime in chosen {
        let Chosen::Engine(engine, Ok(_)) = runtime else { continue };
        let whose = Runs::Over { boot_id };
        let failed = engine.remove_leftovers(whose).await.into_iter().filter_map(Result::err);
        findings.extend(failed.map(|reason| report::leftover(engine.kind.program(), "an earlier run", &reason)));
    }
    findings
}

/// Removes from every engine that answers within `limit` what killed runs have left, for when no other run comes
/// that would do it. Gives what could not be removed.
pub async fn forget_runs(limit: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    for engine in Kind::ALL.iter().filter_map(|&kind| Engine::find(kind)) {
        if engine.version(limit).await.is_ok() {
            let failed = engine.remove_leftovers(Runs::All).await.into_iter().filter_map(Result::err);
            findings.extend(failed.map(|reason| {
                let program = engine.kind.program();
                let advice = format!("Remove it by hand: `{program} images {REPOSITORY}`.");
                Finding { advice, ..report::leftover(program, "a self-test that was killed", &reason) }
            }));
        }
    }
    findings
}

async fn run_all(
    request: &Request,
    chosen: &[Chosen],
    platforms: Vec<&'static Platform>,
    snapshot: &Snapshot,
    traces: &Traces,
    progress: &dyn Fn(&str),
) -> Report {
    let mut report = Report::default();
    let mut controls = Controls::new();
    let assessment = assess(snapshot, &Wish::default());
    let host = Host::new(snapshot, &assessment);
    for platform in platforms {
        let expectation = Expectation::new(platform, probes::identity(platform), snapshot);
        let look = assessment.looks.iter().find(|look| look.target.platform == Some(platform));
        let mut results = Vec::new();
        for runtime in chosen {
            progress(&format!("{platform}: {}", runtime.name()));
            let mut result = run_one(&expectation, runtime, request, &host, traces, progress).await;
            if result.verdict == Verdict::Fail && result.machine.is_none() && request.subject.is_probes() {
                progress(&format!("{}: a container of this host's own platform", runtime.name()));
                controls.check(&mut result, runtime, &expectation, request, snapshot, traces).await;
            }
            result.judge_parts(snapshot, look);
            results.push(result);
            for (engine, image, reason) in traces.clear().await {
                report.findings.push(report::leftover(engine, &image, &reason));
            }
        }
        // Engines that start nothing at all show nothing of the handler.
        let nothing_known = results.iter().all(|result| result.verdict == Verdict::Unknown);
        if request.runtime == Runtime::Auto && request.subject.is_probes() && nothing_known {
            progress(&format!("{platform}: builtin"));
            let mut result = run_one(&expectation, &Chosen::Builtin, request, &host, traces, progress).await;
            result.judge_parts(snapshot, look);
            results.push(result);
        }
        let handler = expectation.handler.name().map(str::to_owned);
        report.platforms.push(PlatformReport { platform, expected: platform.uname, handler, expectation, results });
    }
    report
}

/// An image needs an engine; what is said once where none is there. `found` is what `auto` passed over.
fn needs_engine(runtime: Runtime, chosen: &[Chosen], found: &[Finding]) -> Option<Finding> {
    let none = "an image is run by a container engine, and none answers here";
    let (message, advice) = if runtime == Runtime::Buildkit {
        ("an image is run by a container engine, and BuildKit is none", "Use one: docker, podman or nerdctl.")
    } else if found.iter().any(|finding| finding.id == "engine-down") {
        (none, "Start the one that is installed, or install another: docker, podman or nerdctl.")
    } else {
        (none, "Install one: docker, podman or nerdctl (in Debian's packages docker.io and podman).")
    };
    chosen.is_empty().then(|| Finding {
        id: "selftest-image",
        severity: Severity::Unknown,
        subject: None,
        message: message.to_owned(),
        advice: advice.to_owned(),
    })
}

/// The platforms to run. Where none was named and an image is to be run that is here, or programs of a folder,
/// theirs.
async fn settle(
    request: &Request,
    chosen: &[Chosen],
    native: &[&'static Platform],
) -> Result<Vec<&'static Platform>, Finding> {
    let all = || Ok(request.platforms.clone());
    let unknown = |message: String, advice: &str| Finding {
        id: "selftest-image",
        severity: Severity::Unknown,
        subject: None,
        message,
        advice: advice.to_owned(),
    };
    let which = "Say which platform is meant: `--platform PLATFORM`.";
    if let Subject::ProgramsOfFolder(folder) = &request.subject {
        let platform =
            folder.platform().map_err(|reason| unknown(reason, "Give the root of a system, or an image."))?;
        if request.named || request.platforms.contains(&platform) {
            return Ok(if request.named { request.platforms.clone() } else { vec![platform] });
        }
        let whose = format!("the programs in {} are of {platform}", folder.path().display());
        return Err(if native.contains(&platform) {
            unknown(format!("{whose}, which this host runs by itself"), "Give a system of another platform.")
        } else {
            let advice = format!("To want it: `sudo qemu-persist enable {platform}`.");
            unknown(format!("{whose}, which is not a wanted platform"), &advice)
        });
    }
    let Some(reference) = request.subject.image().filter(|_| !request.named && request.platforms.len() > 1) else {
        return all();
    };
    let usable = chosen.iter().find_map(|runtime| match runtime {
        Chosen::Engine(engine, Ok(_)) => Some(engine),
        _ => None,
    });
    let Some(engine) = usable else { return all() };
    match engine.inspect_image(reference).await {
        Ok(Some(here)) => {
            let own = request.platforms.iter().copied().find(|platform| platform.to_string() == here.platform());
            let message =
                format!("the image {reference} is one of {}, which is not a wanted platform", here.platform());
            own.map(|platform| vec![platform]).ok_or_else(|| unknown(message, which))
        }
        Ok(None) => {
            Err(unknown(format!("the image {reference} is not here, and more than one platform is wanted"), which))
        }
        Err(said) => Err(unknown(format!("the image {reference}: {said}"), "Look at its name.")),
    }
}
