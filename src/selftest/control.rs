// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control: whether an engine in which a container failed starts containers at all.

use std::collections::BTreeMap;

use super::engine::{Engine, SHORT, Traces};
use super::expect::Expectation;
use super::judge::{Observation, Verdict};
use super::report::RunResult;
use super::runtimes::Chosen;
use super::token::Token;
use super::{Request, probes};
use crate::platform::Platform;
use crate::snapshot::Snapshot;

/// What became of a container of the host's own platform in each engine that failed: none where it
/// ran, else what was said.
pub(super) struct Controls(BTreeMap<&'static str, Option<String>>);

impl Controls {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Looks whether the engine of a failure starts containers at all. Where it does not, the
    /// failure says nothing of the handler, and is none.
    pub(super) async fn check(
        &mut self,
        result: &mut RunResult,
        runtime: &Chosen,
        request: &Request,
        snapshot: &Snapshot,
        traces: &Traces,
    ) {
        let (Chosen::Engine(engine, Ok(_)), Some(&native)) = (runtime, snapshot.facts.native.first()) else { return };
        let name = runtime.name();
        if !self.0.contains_key(name) {
            self.0.insert(name, native_container(engine, native, request, snapshot, traces).await);
        }
        let Some(said) = self.0.get(name).cloned().flatten() else { return };
        result.verdict = Verdict::Unknown;
        result.reason = format!("{name} starts no container here, not even one of {native}: {said}");
        result.advice = "Mend the engine first; `--runtime builtin` needs none.".into();
    }
}

/// Runs a container of the host's own platform. Gives why it did not answer, where it did not.
async fn native_container(
    engine: &Engine,
    native: &'static Platform,
    request: &Request,
    snapshot: &Snapshot,
    traces: &Traces,
) -> Option<String> {
    let expectation = Expectation::new(native, probes::identity(native), snapshot);
    let ran = async {
        let token = Token::new(native, &request.boot_id, 2 * request.limit + 4 * SHORT)?;
        traces.note(engine, &token);
        engine.test(&expectation, &token, None, request.limit).await
    };
    match ran.await {
        Err(e) => Some(e.to_string()),
        Ok(judged) => match judged.observation {
            Some(Observation { machine: Some(_), .. }) => None,
            Some(Observation { said, .. }) if !said.is_empty() => Some(said),
            _ => Some(judged.judgement.reason),
        },
    }
}
