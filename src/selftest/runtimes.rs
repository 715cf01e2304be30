// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which runtimes a self-test uses on this host.

use std::time::Duration;

use super::buildkit::Builder;
use super::engine::{Down, Engine};
use crate::config::Runtime;
use crate::finding::{Finding, Severity};
use crate::host::engines::Kind;

/// A runtime that was chosen.
pub(super) enum Chosen {
    Builtin,
    Engine(Engine, Result<String, Down>),
    /// BuildKit's, and the version of its client.
    Builder(Result<(Builder, String), Down>),
    Missing(Kind),
}

impl Chosen {
    /// As `--runtime` has it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Engine(engine, _) => engine.kind.program(),
            Self::Builder(_) => Runtime::Buildkit.name(),
            Self::Missing(kind) => kind.program(),
        }
    }
}

/// Which runtimes `runtime` means here. What `auto` passes over is noted in `findings`.
pub(super) async fn choose(runtime: Runtime, limit: Duration, findings: &mut Vec<Finding>) -> Vec<Chosen> {
    let kinds: &[Kind] = match runtime {
        Runtime::Builtin => return vec![Chosen::Builtin],
        Runtime::Buildkit => return vec![Chosen::Builder(Builder::find(limit).await)],
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
