// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run: of one platform, by one runtime.

use std::io;
use std::time::{Duration, Instant};

use super::buildkit::Builder;
use super::builtin;
use super::engine::{Engine, SHORT, Traces};
use super::expect::Expectation;
use super::judge::{Judgement, Observation, Verdict};
use super::programs::{self, ProgramResult, Trial};
use super::report::RunResult;
use super::runtimes::Chosen;
use super::sight::Sighting;
use super::token::{self, Token};
use super::user_image::PULL;
use super::{Request, Subject};
use crate::causes::{self, Host};

/// What a run gave.
#[derive(Default)]
struct Ran {
    observation: Option<Observation>,
    programs: Vec<ProgramResult>,
}

/// Runs what `request` asks for once, by `runtime`, and judges it; `host` is for causes.
pub(super) async fn run_one(
    expectation: &Expectation,
    runtime: &Chosen,
    request: &Request,
    host: &Host<'_>,
    traces: &Traces,
    progress: &dyn Fn(&str),
) -> RunResult {
    let start = Instant::now();
    let limit = request.limit;
    let unknown = |reason: String, advice: &str| (Ran::default(), Judgement::new(Verdict::Unknown, reason, advice));
    let trial = Trial { expectation, host, limit, progress };
    let mut version = None;
    let (Ran { observation, programs }, judgement) = match runtime {
        Chosen::Missing(kind) => {
            unknown(format!("{} is not installed", kind.program()), "Install it, or leave --runtime away.")
        }
        Chosen::Engine(_, Err(down)) | Chosen::Builder(Err(down)) => unknown(down.reason.clone(), &down.advice),
        Chosen::Builtin => {
            let ran = run_builtin(&trial, request).await;
            ran.unwrap_or_else(|e| unknown(e.to_string(), "See what this system allows."))
        }
        Chosen::Builder(Ok((builder, number))) => {
            version = Some(number.clone());
            let ran = run_by_builder(builder, &trial, request).await;
            ran.unwrap_or_else(|e| unknown(e.to_string(), "See whether docker's program can be run."))
        }
        Chosen::Engine(engine, Ok(number)) => {
            version = Some(number.clone());
            let ran = run_by_engine(engine, &trial, request, traces).await;
            ran.unwrap_or_else(|e| unknown(e.to_string(), "See whether the engine's program can be run."))
        }
    };
    let log = observation.as_ref().map(Observation::as_log).unwrap_or_default();
    let (machine, sighting, parts) = observation.map(|o| (o.machine, Some(o.sighting), o.parts)).unwrap_or_default();
    let interpreter = match sighting {
        Some(Sighting::Seen(exe)) => Some(exe),
        _ => programs.iter().find_map(|program| program.interpreter.clone()),
    };
    let cause = (judgement.verdict == Verdict::Fail).then(|| causes::likeliest(&log, host)).flatten();
    let Judgement { verdict, reason, mut advice, is_open, is_not_taken } = judgement;
    if let Some(cause) = cause.filter(|_| is_open) {
        advice = format!("{}. {}", cause.title, (cause.cure)(host));
    }
    let cause = cause.map(|cause| cause.id);
    let seconds = (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let runtime = runtime.name();
    RunResult {
        runtime,
        version,
        verdict,
        machine,
        interpreter,
        package: None,
        parts,
        programs,
        seconds,
        cause,
        is_not_taken,
        reason,
        advice,
    }
}

async fn run_builtin(trial: &Trial<'_>, request: &Request) -> io::Result<(Ran, Judgement)> {
    let depth = match &request.subject {
        Subject::ProgramsOfFolder(folder) => return Ok(of_programs(trial.in_folder(folder).await?)),
        Subject::Probes(depth) => *depth,
        Subject::Image(_) | Subject::ProgramsOfImage(_) => return Err(io::Error::other("it runs no images")),
    };
    let outcome = builtin::run(trial.expectation, &token::nonce()?, depth, trial.limit, None).await?;
    Ok((Ran { observation: Some(outcome.observation), ..Ran::default() }, outcome.judgement))
}

async fn run_by_builder(builder: &Builder, trial: &Trial<'_>, request: &Request) -> io::Result<(Ran, Judgement)> {
    let &Trial { expectation, limit, .. } = trial;
    let Subject::Probes(depth) = &request.subject else { return Err(io::Error::other("it runs the probes alone")) };
    let token = Token::new(expectation.platform, &request.boot_id, 4 * limit + 4 * SHORT)?;
    let judged = builder.test(expectation, &token, Some(*depth), limit).await?;
    Ok((Ran { observation: judged.observation, ..Ran::default() }, judged.judgement))
}

async fn run_by_engine(
    engine: &Engine,
    trial: &Trial<'_>,
    request: &Request,
    traces: &Traces,
) -> io::Result<(Ran, Judgement)> {
    let &Trial { expectation, limit, progress, .. } = trial;
    // Loading, running, and what is asked meanwhile and afterwards.
    let (pulling, containers) = match request.subject {
        Subject::Probes(_) | Subject::ProgramsOfFolder(_) => (Duration::ZERO, 4),
        Subject::Image(_) => (PULL, 4),
        Subject::ProgramsOfImage(_) => (PULL, programs::most()),
    };
    let token = Token::new(expectation.platform, &request.boot_id, pulling + containers * limit + 4 * SHORT)?;
    traces.note(engine, &token);
    let judged = match &request.subject {
        Subject::Probes(depth) => engine.test(expectation, &token, Some(*depth), limit).await?,
        Subject::Image(image) => engine.test_image(expectation, image, &token, limit, progress).await?,
        Subject::ProgramsOfImage(reference) => {
            return Ok(match trial.in_image(engine, reference, &token).await? {
                Ok(programs) => of_programs(programs),
                Err(judgement) => (Ran::default(), judgement),
            });
        }
        Subject::ProgramsOfFolder(_) => return Err(io::Error::other("it runs no folders")),
    };
    Ok((Ran { observation: judged.observation, ..Ran::default() }, judged.judgement))
}

fn of_programs(programs: Vec<ProgramResult>) -> (Ran, Judgement) {
    let judgement = programs::sum_up(&programs);
    (Ran { observation: None, programs }, judgement)
}
