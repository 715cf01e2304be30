// SPDX-License-Identifier: MIT OR Apache-2.0
//! What engines say of containers; the three say it alike.

use std::time::Duration;

use serde::Deserialize;

use super::engine::Engine;
use super::saying::{error_line, one_line};
use crate::finding::{Finding, Severity};

/// A container, as `container inspect` shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    #[serde(default)]
    name: String,
    /// The image's id, with nerdctl its name.
    #[serde(default)]
    pub(super) image: String,
    /// The image's name, as Podman has it.
    #[serde(default)]
    image_name: String,
    #[serde(default)]
    config: ContainerConfig,
    pub(super) state: State,
    #[serde(default)]
    pub(super) args: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    #[serde(default)]
    image: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    pub(super) pid: u32,
    /// Of the last time that it ended.
    #[serde(default)]
    pub(super) exit_code: i32,
    /// When that was (RFC 3339).
    #[serde(default)]
    pub(super) finished_at: String,
    /// Why it could not be started, where it could not.
    #[serde(default)]
    pub(super) error: String,
}

impl Container {
    pub(super) fn shown_name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    pub(super) fn shown_image(&self) -> &str {
        let names = [&self.config.image, &self.image_name, &self.image];
        names.into_iter().find(|name| !name.is_empty()).map_or("", String::as_str)
    }
}

/// That `engine` does not say which containers it has.
pub(super) fn unknown(engine: &Engine, why: &str) -> Finding {
    Finding {
        id: "containers-unknown",
        severity: Severity::Note,
        subject: None,
        message: format!("{}: its containers are not known: {why}", engine.kind),
        advice: "Where it should be running, start it, or ask with sudo.".into(),
    }
}

/// What the engine writes; an error is what it said.
pub(super) async fn ask(engine: &Engine, arguments: &[&str], limit: Duration) -> Result<Vec<u8>, String> {
    match engine.ask(arguments, limit).await {
        Ok(output) if output.succeeded() => Ok(output.stdout),
        Ok(output) if output.stderr.is_empty() => Err(one_line(output.complaint().as_bytes())),
        Ok(output) => Err(error_line(&output.stderr)),
        Err(e) => Err(e.to_string()),
    }
}

/// The ids of the containers that run, or with further `arguments` of others.
pub(super) async fn ids(engine: &Engine, arguments: &[&str], limit: Duration) -> Result<Vec<String>, String> {
    let list = [&["ps", "--no-trunc", "--format", "{{.ID}}"], arguments].concat();
    let ids = ask(engine, &list, limit).await?;
    Ok(String::from_utf8_lossy(&ids).split_whitespace().map(str::to_owned).collect())
}

/// The container `id`; none where there is none any more.
pub(super) async fn inspect(engine: &Engine, id: &str, limit: Duration) -> Result<Option<Container>, String> {
    let Ok(json) = ask(engine, &["container", "inspect", id], limit).await else { return Ok(None) };
    let mut inspected: Vec<Container> = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
    Ok(inspected.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_say_of_a_container_is_read() {
        let docker = br#"[{"Id":"ab","Name":"/web","Image":"sha256:12","Config":{"Image":"web:1"},
            "State":{"Pid":7,"Running":true},"Path":"/bin/web","Args":["-x"]}]"#;
        let container: Vec<Container> = serde_json::from_slice(docker).unwrap();
        assert_eq!(
            (container[0].state.pid, container[0].shown_image(), container[0].shown_name()),
            (7, "web:1", "web")
        );
        let podman = br#"[{"Id":"ab","Name":"web","Image":"12","ImageName":"localhost/web:1",
            "State":{"Pid":7},"Config":{"Env":[]}}]"#;
        let container: Vec<Container> = serde_json::from_slice(podman).unwrap();
        assert_eq!((container[0].shown_image(), container[0].args.len()), ("localhost/web:1", 0));
    }
}
