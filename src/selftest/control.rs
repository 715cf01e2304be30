// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control: whether an engine in which a container failed starts containers at all.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::engine::{SHORT, Traces};
use super::expect::Expectation;
use super::judge::{Observation, Verdict};
use super::masked;
use super::report::RunResult;
use super::runtimes::Chosen;
use super::token::Token;
use super::user_namespace::UserNamespace;
use super::{Request, probes};
use crate::platform::Platform;
use crate::snapshot::Snapshot;

/// What became of a container of the host's own platform in each engine that failed.
pub(super) struct Controls(BTreeMap<&'static str, Native>);

/// What became of a container of the host's own platform.
enum Native {
    /// It did not answer, and why.
    Failed(String),
    /// It ran, in this user namespace where that was seen and is another than ours.
    Ran(Option<Rc<UserNamespace>>),
}

impl Controls {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Looks whether the engine of a failure starts containers at all. Where it does not, the
    /// failure says nothing of the handler, and is none. Where it does, and the kernel took no handler: whether its
    /// containers are in a user namespace that has handlers of its own.
    pub(super) async fn check(
        &mut self,
        result: &mut RunResult,
        runtime: &Chosen,
        expectation: &Expectation,
        request: &Request,
        snapshot: &Snapshot,
        traces: &Traces,
    ) {
        let (Chosen::Engine(_, Ok(_)) | Chosen::Builder(Ok(_)), Some(&native)) =
            (runtime, snapshot.facts.native.first())
        else {
            return;
        };
        let name = runtime.name();
        if !self.0.contains_key(name) {
            self.0.insert(name, native_container(runtime, native, request, snapshot, traces).await);
        }
        match (&self.0[name], runtime) {
            (Native::Failed(said), _) => {
                result.verdict = Verdict::Unknown;
                result.reason = format!("{name} starts no container here, not even one of {native}: {said}");
                result.advice = "Mend the engine first; `--runtime builtin` needs none.".into();
            }
            (Native::Ran(Some(namespace)), Chosen::Engine(engine, _)) if result.is_not_taken => {
                masked::look(result, engine.kind, namespace, expectation, request).await;
            }
            (Native::Ran(_), _) => {}
        }
    }
}

/// Runs a container of the host's own platform.
async fn native_container(
    runtime: &Chosen,
    native: &'static Platform,
    request: &Request,
    snapshot: &Snapshot,
    traces: &Traces,
) -> Native {
    let expectation = Expectation::new(native, probes::identity(native), snapshot);
    let ran = async {
        let token = Token::new(native, &request.boot_id, 2 * request.limit + 4 * SHORT)?;
        match runtime {
            Chosen::Engine(engine, Ok(_)) => {
                traces.note(engine, &token);
                engine.test(&expectation, &token, None, request.limit).await
            }
            Chosen::Builder(Ok((builder, _))) => builder.test(&expectation, &token, None, request.limit).await,
            _ => Err(io::Error::other("it is not there")),
        }
    };
    match ran.await {
        Err(e) => Native::Failed(e.to_string()),
        Ok(judged) => match judged.observation {
            Some(Observation { machine: Some(_), .. }) => Native::Ran(judged.namespace),
            Some(Observation { said, .. }) if !said.is_empty() => Native::Failed(said),
            _ => Native::Failed(judged.judgement.reason),
        },
    }
}
