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
pub mod running;
pub mod saying;
pub mod sight;
pub mod token;
pub mod user_image;

use std::time::{Duration, Instant};

use serde::Serialize;

use self::control::Controls;
use self::depth::{Depth, PartResult};
use self::engine::{Down, Engine, SHORT, Traces};
use self::expect::Expectation;
use self::judge::{Judgement, Observation, Verdict};
use self::sight::{Exe, Sighting};
use self::token::Token;
use self::user_image::{PULL, UserImage};
use crate::assess::assess;
use crate::assess::plan::Wish;
use crate::causes::{self, Host};
use crate::config::Runtime;
use crate::finding::{Finding, Severity};
use crate::host::engines::Kind;
use crate::parts;
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

/// What one runtime gave for one platform.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct RunResult {
    /// `builtin`, `docker`, `podman` or `nerdctl`.
    #[cfg_attr(feature = "assets", schemars(schema_with = "crate::report::schema::runtime"))]
    pub runtime: &'static str,
    /// The engine's version, where it has one.
    pub version: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// What `uname` said.
    pub machine: Option<String>,
    /// What was seen running the container.
    pub interpreter: Option<Exe>,
    /// What was found out beside that; empty where the container did not answer.
    pub parts: Vec<PartResult>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The cause, by its name in the table of `qemu-persist explain`, where it is recognised.
    pub cause: Option<&'static str>,
    /// What is wrong; empty for a pass.
    pub reason: String,
    /// What to do; empty for a pass.
    pub advice: String,
}

/// What was found out about one platform.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct PlatformReport {
    /// The platform.
    pub platform: &'static Platform,
    /// What `uname` has to say.
    pub expected: &'static str,
    /// The name of the handler that has to run it; none where there is none, or it is not known.
    pub handler: Option<String>,
    /// What its containers have to show.
    #[serde(skip)]
    pub expectation: Expectation,
    /// What each runtime gave.
    pub results: Vec<RunResult>,
}

/// What was found out.
#[derive(Debug, Default)]
pub struct Report {
    /// Of each platform.
    pub platforms: Vec<PlatformReport>,
    /// What is wrong besides.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Everything that was found: of the platforms, and besides.
    pub fn all_findings(&self) -> Vec<Finding> {
        self.platforms.iter().flat_map(PlatformReport::findings).chain(self.findings.iter().cloned()).collect()
    }

    /// The platforms that have another handler in `snapshot` than they were tested with: what was found out says
    /// nothing of it.
    pub fn outdated(&self, snapshot: &Snapshot) -> Vec<&'static Platform> {
        let is_outdated = |report: &&PlatformReport| {
            let platform = report.platform;
            Expectation::new(platform, probes::identity(platform), snapshot).handler != report.expectation.handler
        };
        self.platforms.iter().filter(is_outdated).map(|report| report.platform).collect()
    }

    /// Puts what `newer` found out in the place of what is known of the same platforms.
    pub fn replace(&mut self, newer: Self) {
        for report in newer.platforms {
            match self.platforms.iter_mut().find(|known| known.platform == report.platform) {
                Some(known) => *known = report,
                None => self.platforms.push(report),
            }
        }
        let new = newer.findings.into_iter().filter(|finding| !self.findings.contains(finding));
        self.findings.extend(new.collect::<Vec<_>>());
    }
}

impl PlatformReport {
    /// A failure anywhere is critical. Where there is none, one pass is enough, and what could not
    /// be found out elsewhere is worth a note.
    fn findings(&self) -> Vec<Finding> {
        let has = |verdict| self.results.iter().any(|result| result.verdict == verdict);
        let passed = has(Verdict::Pass) || has(Verdict::Limited);
        // What is the same with several runtimes is said once.
        let mut problems: Vec<(&RunResult, Vec<&str>)> = Vec::new();
        for result in self.results.iter().filter(|result| !result.verdict.works()) {
            let same = |known: &RunResult| {
                (known.verdict, &known.reason, &known.advice) == (result.verdict, &result.reason, &result.advice)
            };
            match problems.iter_mut().find(|(known, _)| same(known)) {
                Some((_, runtimes)) => runtimes.push(result.runtime),
                None => problems.push((result, vec![result.runtime])),
            }
        }
        let finding = |(result, runtimes): (&RunResult, Vec<&str>)| {
            let (id, severity) = match result.verdict {
                Verdict::Fail => ("selftest-failed", Severity::Critical),
                Verdict::Unseen => ("selftest-unseen", if passed { Severity::Note } else { Severity::Warning }),
                _ => ("selftest-unknown", if passed { Severity::Note } else { Severity::Unknown }),
            };
            let message = format!("{}: {}", runtimes.join(", "), result.reason);
            Finding { id, severity, subject: Some(self.platform.to_string()), message, advice: result.advice.clone() }
        };
        problems.into_iter().map(finding).chain(self.broken_parts()).collect()
    }
}

impl RunResult {
    /// Judges what was found out beside the answer, on the host that `snapshot` is of.
    fn judge_parts(&mut self, snapshot: &Snapshot) {
        self.parts.iter_mut().for_each(|part| part.judge(snapshot));
        if self.verdict == Verdict::Pass && self.parts.iter().any(PartResult::is_bad) {
            self.verdict = Verdict::Limited;
        }
    }
}

impl PlatformReport {
    /// What is broken although containers run: once for each part, whatever the runtime.
    fn broken_parts(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for result in &self.results {
            for (part, broken) in result.parts.iter().filter_map(|part| Some((part, part.broken()?))) {
                let about = part.about();
                let finding = Finding {
                    id: parts::finding_id(about),
                    severity: part.severity,
                    subject: Some(self.platform.to_string()),
                    message: parts::describe(about, &broken),
                    advice: part.advice.clone(),
                };
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings
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

/// A runtime that was chosen.
enum Chosen {
    Builtin,
    Engine(Engine, Result<String, Down>),
    Missing(Kind),
}

impl Chosen {
    fn name(&self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Engine(engine, _) => engine.kind.program(),
            Self::Missing(kind) => kind.program(),
        }
    }
}

/// Which runtimes `runtime` means here. What `auto` passes over is noted in `findings`.
async fn choose(runtime: Runtime, limit: Duration, findings: &mut Vec<Finding>) -> Vec<Chosen> {
    let kinds: &[Kind] = match runtime {
        Runtime::Builtin => return vec![Chosen::Builtin],
        Runtime::Docker => &[Kind::Docker],
        Runtime::Podman => &[Kind::Podman],
        Runtime::Nerdctl => &[Kind::Nerdctl],
        Runtime::Auto | Runtime::All => &Kind::ALL,
    };
    let named = kinds.len() == 1;
    let mut chosen = Vec::new();
    for &kind in kinds {
        let Some(engine) = Engine::find(kind) else {
            if named {
                chosen.push(Chosen::Missing(kind));
            }
            continue;
        };
        match engine.version(limit).await {
            Err(down) if runtime == Runtime::Auto => findings.push(Finding {
                id: "engine-down",
                severity: Severity::Note,
                subject: None,
                message: format!("{} was not tested: {}", kind.program(), down.reason),
                advice: down.advice,
            }),
            version => chosen.push(Chosen::Engine(engine, version)),
        }
    }
    if runtime == Runtime::All || chosen.is_empty() {
        chosen.insert(0, Chosen::Builtin);
    }
    chosen
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
                report
                    .findings
                    .extend(result.err().map(|reason| leftover(engine.kind.program(), "an earlier run", &reason)));
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
                report.findings.push(leftover(engine, &image, &reason));
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

fn leftover(engine: &str, what: &str, reason: &str) -> Finding {
    Finding {
        id: "selftest-leftover",
        severity: Severity::Warning,
        subject: None,
        message: format!("{engine}: what {what} has left could not be removed: {reason}"),
        advice: "Run the self-test again, which tries again.".into(),
    }
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
