// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test: runs containers of wanted platforms and says whether they work.
//!
//! A pass is a container whose `uname` says what its platform must, and whose process was seen to
//! run the very interpreter that the winning handler names. What ran natively, or through another
//! file, is a failure; what was not seen is no proof.

pub mod builtin;
mod container;
mod control;
pub mod depth;
pub mod ended;
pub mod engine;
pub mod expect;
pub mod image;
pub mod judge;
pub mod probes;
pub mod proof;
pub mod report;
pub mod running;
mod runtimes;
pub mod saying;
pub mod sight;
pub mod token;
pub mod user_image;

use std::time::{Duration, Instant};

use self::control::Controls;
use self::depth::Depth;
use self::engine::{SHORT, Traces};
use self::expect::Expectation;
use self::judge::{Judgement, Observation, Verdict};
use self::report::{PlatformReport, Report, RunResult};
use self::runtimes::{Chosen, choose};
use self::sight::Sighting;
use self::token::Token;
use self::user_image::{PULL, UserImage};
use crate::assess::assess;
use crate::assess::plan::Wish;
use crate::causes::{self, Host};
use crate::config::Runtime;
use crate::finding::{Finding, Severity};
use crate::platform::Platform;
use crate::snapshot::Snapshot;

/// What is to be run.
#[derive(Debug)]
pub struct Request {
    /// The platforms, in the order in which they are run.
    pub platforms: Vec<&'static Platform>,
    /// Whether they were named, rather than being all that are wanted.
    pub named: bool,
    /// An image of the user's own, instead of the probes.
    pub image: Option<UserImage>,
    /// By which runtimes.
    pub runtime: Runtime,
    /// How much is looked at beside what `uname` says.
    pub depth: Depth,
    /// How long one container may take.
    pub limit: Duration,
    /// The id of this boot.
    pub boot_id: String,
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
    let mut chosen = choose(request.runtime, request.limit, &mut report.findings).await;
    if request.image.is_some() {
        chosen.retain(|runtime| !matches!(runtime, Chosen::Builtin));
    }
    for runtime in &chosen {
        if let Chosen::Engine(engine, Ok(_)) = runtime {
            for result in engine.remove_leftovers(&request.boot_id).await {
                report.findings.extend(
                    result.err().map(|reason| report::leftover(engine.kind.program(), "an earlier run", &reason)),
                );
            }
        }
    }
    if let Some(finding) = request.image.as_ref().and_then(|_| needs_engine(&chosen, &report.findings)) {
        report.findings.push(finding);
        return report;
    }
    let platforms = match settle(request, &chosen).await {
        Ok(platforms) => platforms,
        Err(finding) => {
            report.findings.push(finding);
            return report;
        }
    };
    let mut controls = Controls::new();
    let assessment = assess(snapshot, &Wish::default());
    let host = Host::new(snapshot, &assessment);
    for platform in platforms {
        let expectation = Expectation::new(platform, probes::identity(platform), snapshot);
        let mut results = Vec::new();
        for runtime in &chosen {
            progress(&format!("{platform}: {}", runtime.name()));
            let mut result = run_one(&expectation, runtime, request, &host, traces, progress).await;
            if result.verdict == Verdict::Fail && result.machine.is_none() && request.image.is_none() {
                progress(&format!("{}: a container of this host's own platform", runtime.name()));
                controls.check(&mut result, runtime, request, snapshot, traces).await;
            }
            result.judge_parts(snapshot);
            results.push(result);
            for (engine, image, reason) in traces.clear().await {
                report.findings.push(report::leftover(engine, &image, &reason));
            }
        }
        // Engines that start nothing at all show nothing of the handler.
        let nothing_known = results.iter().all(|result| result.verdict == Verdict::Unknown);
        if request.runtime == Runtime::Auto && request.image.is_none() && nothing_known {
            progress(&format!("{platform}: builtin"));
            let mut result = run_one(&expectation, &Chosen::Builtin, request, &host, traces, progress).await;
            result.judge_parts(snapshot);
            results.push(result);
        }
        let handler = expectation.handler.name().map(str::to_owned);
        report.platforms.push(PlatformReport { platform, expected: platform.uname, handler, expectation, results });
    }
    report
}

/// An image needs an engine; what is said once where none is there. `found` is what `auto` passed over.
fn needs_engine(chosen: &[Chosen], found: &[Finding]) -> Option<Finding> {
    let advice = if found.iter().any(|finding| finding.id == "engine-down") {
        "Start the one that is installed, or install another: docker, podman or nerdctl."
    } else {
        "Install one: docker, podman or nerdctl (in Debian's packages docker.io and podman)."
    };
    chosen.is_empty().then(|| Finding {
        id: "selftest-image",
        severity: Severity::Unknown,
        subject: None,
        message: "an image is run by a container engine, and none answers here".to_owned(),
        advice: advice.to_owned(),
    })
}

/// The platforms to run. Where none was named and an image is to be run that is here, its own.
async fn settle(request: &Request, chosen: &[Chosen]) -> Result<Vec<&'static Platform>, Finding> {
    let all = || Ok(request.platforms.clone());
    let Some(image) = request.image.as_ref().filter(|_| !request.named && request.platforms.len() > 1) else {
        return all();
    };
    let usable = chosen.iter().find_map(|runtime| match runtime {
        Chosen::Engine(engine, Ok(_)) => Some(engine),
        _ => None,
    });
    let Some(engine) = usable else { return all() };
    let reference = &image.reference;
    let unknown = |message: String, advice: &str| Finding {
        id: "selftest-image",
        severity: Severity::Unknown,
        subject: None,
        message,
        advice: advice.to_owned(),
    };
    let which = "Say which platform is meant: `--platform PLATFORM`.";
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

async fn run_one(
    expectation: &Expectation,
    runtime: &Chosen,
    request: &Request,
    host: &Host<'_>,
    traces: &Traces,
    progress: &dyn Fn(&str),
) -> RunResult {
    let start = Instant::now();
    let limit = request.limit;
    let unknown = |reason: String, advice: &str| (None, Judgement::new(Verdict::Unknown, reason, advice));
    let mut version = None;
    let (observation, judgement) = match runtime {
        Chosen::Missing(kind) => {
            unknown(format!("{} is not installed", kind.program()), "Install it, or leave --runtime away.")
        }
        Chosen::Engine(_, Err(down)) => unknown(down.reason.clone(), &down.advice),
        Chosen::Builtin => {
            let ran = async { builtin::run(expectation, &token::nonce()?, request.depth, limit).await };
            match ran.await {
                Ok(outcome) => (Some(outcome.observation), outcome.judgement),
                Err(e) => unknown(e.to_string(), "See what this system allows."),
            }
        }
        Chosen::Engine(engine, Ok(number)) => {
            version = Some(number.clone());
            let ran = async {
                // Loading, running, and what is asked meanwhile and afterwards.
                let pulling = if request.image.is_some() { PULL } else { Duration::ZERO };
                let token = Token::new(expectation.platform, &request.boot_id, pulling + 4 * limit + 4 * SHORT)?;
                traces.note(engine, &token);
                match &request.image {
                    Some(image) => engine.test_image(expectation, image, &token, limit, progress).await,
                    None => engine.test(expectation, &token, Some(request.depth), limit).await,
                }
            };
            match ran.await {
                Ok(judged) => (judged.observation, judged.judgement),
                Err(e) => unknown(e.to_string(), "See whether the engine's program can be run."),
            }
        }
    };
    let log = observation.as_ref().map(Observation::as_log).unwrap_or_default();
    let (machine, sighting, parts) = observation.map(|o| (o.machine, Some(o.sighting), o.parts)).unwrap_or_default();
    let interpreter = match sighting {
        Some(Sighting::Seen(exe)) => Some(exe),
        _ => None,
    };
    let cause = (judgement.verdict == Verdict::Fail).then(|| causes::likeliest(&log, host)).flatten();
    let Judgement { verdict, reason, mut advice, is_open } = judgement;
    if let Some(cause) = cause.filter(|_| is_open) {
        advice = format!("{}. {}", cause.title, (cause.cure)(host));
    }
    let cause = cause.map(|cause| cause.id);
    let seconds = (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    RunResult { runtime: runtime.name(), version, verdict, machine, interpreter, parts, seconds, cause, reason, advice }
}
