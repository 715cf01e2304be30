// SPDX-License-Identifier: MIT OR Apache-2.0
//! Containers that have ended as foreign ones do that do not run here, for `explain --last`.

use std::time::Duration;

use serde::Serialize;

use super::container;
use super::engine::Engine;
use super::saying::one_line;
use crate::files::text_of;
use crate::finding::Finding;
use crate::host::engines::Kind;

/// The exit codes: not started (126, 127), and ended by a signal that a fault brings about, or a filter (159).
const CODES: [i32; 10] = [126, 127, 132, 133, 134, 135, 136, 137, 139, 159];
/// The exit codes with which a runtime ends a container whose program it cannot start, besides those: they say nothing
/// alone.
const OPEN_CODES: [i32; 2] = [1, 255];
/// What it writes then.
const NOT_STARTED: &str = "exec format error";
/// How many containers of an engine are looked at, the newest first.
const MOST: usize = 100;
/// How many of those that have ended so are told.
const TOLD: usize = 10;
/// How many lines of a container's log are read.
const LINES: &str = "40";

/// A container that has ended so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct EndedContainer {
    /// The engine that it belongs to.
    #[cfg_attr(feature = "assets", schemars(with = "crate::host::engines::Kind"))]
    pub engine: &'static str,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name of its image.
    pub image: String,
    /// The exit code: 128 and the signal's number for a signal.
    pub exit_code: i32,
    /// When it ended, as the engine says it (RFC 3339).
    pub finished: String,
    /// What it wrote last, why it could not be started, and its exit code: what causes are recognised by.
    #[serde(skip)]
    pub log: String,
}

/// What the engines say.
#[derive(Debug, Default)]
pub struct Ended {
    /// The containers, the last ended first.
    pub containers: Vec<EndedContainer>,
    /// What could not be found out.
    pub findings: Vec<Finding>,
}

/// The containers that have ended so. Every question to an engine may take `limit`.
///
/// # Errors
/// Where no program can be run at all.
pub fn lately(limit: Duration) -> std::io::Result<Ended> {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(reactor.block_on(async {
        let mut ended = Ended::default();
        for engine in Kind::ALL.into_iter().filter_map(Engine::find) {
            match of_engine(&engine, limit).await {
                Ok(containers) => ended.containers.extend(containers),
                Err(why) => ended.findings.push(container::unknown(&engine, &why)),
            }
        }
        ended.containers.sort_by(|one, other| other.finished.cmp(&one.finished));
        ended.containers.truncate(TOLD);
        ended
    }))
}

async fn of_engine(engine: &Engine, limit: Duration) -> Result<Vec<EndedContainer>, String> {
    engine.version(limit).await.map_err(|down| down.reason)?;
    let mut ended = Vec::new();
    for id in container::ids(engine, &["--all"], limit).await?.into_iter().take(MOST) {
        let Some(container) = container::inspect(engine, &id, limit).await? else { continue };
        // One that is restarted again and again has no process at most times.
        let code = container.state.exit_code;
        if container.state.pid != 0 || ![&CODES[..], &OPEN_CODES].concat().contains(&code) {
            continue;
        }
        let said = match engine.ask(&["logs", "--tail", LINES, &id], limit).await {
            Ok(output) => format!("{}\n{}", text_of(output.stdout), text_of(output.stderr)),
            Err(_) => String::new(),
        };
        let log = format!("{said}\n{}\nexited with code {code}", one_line(container.state.error.as_bytes()));
        if !CODES.contains(&code) && !log.to_lowercase().contains(NOT_STARTED) {
            continue;
        }
        ended.push(EndedContainer {
            engine: engine.kind.program(),
            name: container.shown_name().to_owned(),
            image: container.shown_image().to_owned(),
            exit_code: code,
            finished: container.state.finished_at.clone(),
            log,
            id: container.id,
        });
    }
    Ok(ended)
}
