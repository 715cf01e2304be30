// SPDX-License-Identifier: MIT OR Apache-2.0
//! Container engines: which are installed, and what they answer through their command lines.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::command::{self, Output};

/// An engine that is driven through its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Docker, or what answers in its place.
    Docker,
    /// Podman, which has no daemon of its own.
    Podman,
    /// nerdctl, containerd's.
    Nerdctl,
}

impl Kind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Nerdctl];

    /// The name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nerdctl => "nerdctl",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.program())
    }
}

/// Whether an engine answered, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum State {
    /// It did: containers can be run.
    Answered,
    /// It did not, for this reason.
    Unreachable(String),
    /// It was not asked, for this reason.
    NotAsked(String),
}

/// An engine, and what it said of itself. What it did not say is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Engine {
    /// Which one.
    pub kind: Kind,
    /// Its program.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub path: PathBuf,
    /// Whether it is another one under this name: podman-docker's `docker`, which is not asked, since
    /// Podman is listed by its own name.
    pub stands_for_podman: bool,
    /// The program's own version.
    pub client_version: Option<String>,
    /// The daemon's version; Podman, without a daemon, has its own here.
    pub server_version: Option<String>,
    /// The architecture that the server runs on, as an OCI platform: `linux/arm64`.
    pub server_platform: Option<String>,
    /// The socket or address of the server; none where it has or needs none.
    pub endpoint: Option<String>,
    /// Whether the server runs without root's rights.
    pub rootless: Option<bool>,
    /// Whether it answered.
    #[serde(flatten)]
    pub state: State,
}

impl Engine {
    /// An engine that has not been asked.
    pub fn of(kind: Kind, path: PathBuf) -> Self {
        Self {
            kind,
            path,
            stands_for_podman: false,
            client_version: None,
            server_version: None,
            server_platform: None,
            endpoint: None,
            rootless: None,
            state: State::NotAsked("only its program was looked for".to_owned()),
        }
    }
}

/// The engines whose programs are installed.
pub fn find() -> Vec<(Kind, PathBuf)> {
    Kind::ALL.into_iter().filter_map(|kind| Some((kind, command::find(kind.program())?))).collect()
}

/// Asks the engine whose program is `path` what it is, for about `limit` at most.
pub async fn ask(kind: Kind, path: PathBuf, limit: Duration) -> Engine {
    ask_for(false, kind, path, limit).await
}

/// As [`ask`], for no more than whether it answers and its version, where that is quicker.
pub async fn ask_version(kind: Kind, path: PathBuf, limit: Duration) -> Engine {
    ask_for(true, kind, path, limit).await
}

async fn ask_for(version_only: bool, kind: Kind, path: PathBuf, limit: Duration) -> Engine {
    let mut engine = Engine::of(kind, path);
    if kind == Kind::Docker && stands_for_podman(&engine.path) {
        engine.stands_for_podman = true;
        engine.state = State::NotAsked("it runs podman".to_owned());
        return engine;
    }
    match kind {
        Kind::Docker if version_only => {
            let (version, complaint) = answer(command::run(&engine.path, &VERSION, limit).await);
            take_docker(&mut engine, &version, &Value::Null, complaint);
            engine
        }
        Kind::Docker => ask_docker(engine, limit).await,
        Kind::Podman => ask_podman(engine, limit).await,
        Kind::Nerdctl => ask_nerdctl(engine, limit).await,
    }
}

/// Whether the program `path`, called docker, is Podman: a link to it, or podman-docker's script.
pub fn stands_for_podman(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    let script = read.is_ok() && head.starts_with(b"#!") && head.windows(6).any(|part| part == b"podman");
    script || path.canonicalize().is_ok_and(|target| target.file_name().is_some_and(|name| name == "podman"))
}

/// A text within `value`, where `pointer` (RFC 6901) leads to one that is not empty.
fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// What a program answered in JSON, and otherwise why not.
fn answer(result: std::io::Result<Output>) -> (Value, Option<String>) {
    match result {
        Err(e) => (Value::Null, Some(e.to_string())),
        Ok(output) => {
            let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            let complaint = if output.succeeded() { None } else { Some(output.complaint()) };
            (value, complaint)
        }
    }
}

/// Whether an engine that was asked named a server; `complaint` says why not.
fn state(engine: &Engine, complaint: Option<String>) -> State {
    match engine.server_version {
        Some(_) => State::Answered,
        None => State::Unreachable(complaint.unwrap_or_else(|| "its answer names no server".to_owned())),
    }
}

/// Whether a list of security options, as `docker info` has it, names rootless.
fn is_rootless(info: &Value) -> Option<bool> {
    let options = info.get("SecurityOptions")?.as_array()?;
    Some(options.iter().filter_map(Value::as_str).any(|option| option.split(',').any(|part| part == "name=rootless")))
}

/// An architecture as `uname -m`, Go or Debian call it, as an OCI platform.
fn oci_platform(architecture: &str) -> String {
    let known =
        crate::platform::Platform::of_machine(architecture).or_else(|| crate::platform::Platform::named(architecture));
    known.map_or_else(|| format!("linux/{architecture}"), ToString::to_string)
}

const JSON: &str = "{{json .}}";
const VERSION: [&str; 3] = ["version", "--format", JSON];

async fn ask_docker(mut engine: Engine, limit: Duration) -> Engine {
    let path = engine.path.clone();
    let (version, info, context) = tokio::join!(
        command::run(&path, &VERSION, limit),
        command::run(&path, &["info", "--format", JSON], limit),
        command::run(&path, &["context", "inspect", "--format", JSON], limit),
    );
    let ((version, complaint), (info, _), (context, _)) = (answer(version), answer(info), answer(context));
    take_docker(&mut engine, &version, &info, complaint);
    // Docker before 19.03 has no contexts.
    let variable = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    engine.endpoint = text(&context, "/Endpoints/docker/Host").or_else(variable);
    engine
}

/// Reads what `docker version` and `docker info` answered.
fn take_docker(engine: &mut Engine, version: &Value, info: &Value, complaint: Option<String>) {
    engine.client_version = text(version, "/Client/Version");
    engine.server_version = text(version, "/Server/Version");
    engine.server_platform = text(version, "/Server/Arch").map(|a| oci_platform(&a));
    engine.rootless = is_rootless(info).filter(|_| engine.server_version.is_some());
    engine.state = state(engine, complaint);
}

/// Where Podman keeps images for the user that runs this, by default.
fn podman_storage() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/containers/storage"));
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let data = data.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".local/share")));
    Some(data?.join("containers/storage"))
}

async fn ask_podman(mut engine: Engine, limit: Duration) -> Engine {
    let path = engine.path.clone();
    // "podman version" and "podman info" would set up the storage where there is none yet.
    if !podman_storage().is_some_and(|dir| dir.is_dir()) {
        engine.state = match command::run(&path, &["--version"], limit).await {
            Ok(output) if output.succeeded() => {
                let line = String::from_utf8_lossy(&output.stdout).into_owned();
                engine.client_version = line.trim().strip_prefix("podman version ").map(str::to_owned);
                State::NotAsked("this user has no Podman storage yet, and asking would make it".to_owned())
            }
            Ok(output) => State::Unreachable(output.complaint()),
            Err(e) => State::Unreachable(e.to_string()),
        };
        return engine;
    }
    let (info, complaint) = answer(command::run(&path, &["info", "--format", "json"], limit).await);
    take_podman(&mut engine, &info, complaint);
    engine
}

/// Reads what `podman info` answered.
fn take_podman(engine: &mut Engine, info: &Value, complaint: Option<String>) {
    let remote = info.pointer("/host/serviceIsRemote").and_then(Value::as_bool) == Some(true);
    engine.server_version = text(info, "/version/Version");
    engine.client_version = engine.server_version.clone().filter(|_| !remote);
    engine.server_platform = text(info, "/host/arch").map(|a| oci_platform(&a));
    engine.rootless = info.pointer("/host/security/rootless").and_then(Value::as_bool);
    // Without its service, which only remote clients need, there is a path but no socket.
    let listens = info.pointer("/host/remoteSocket/exists").and_then(Value::as_bool) == Some(true);
    engine.endpoint = text(info, "/host/remoteSocket/path").filter(|_| remote || listens);
    engine.state = state(engine, complaint);
}

async fn ask_nerdctl(mut engine: Engine, limit: Duration) -> Engine {
    let path = engine.path.clone();
    let (version, info) = tokio::join!(
        command::run(&path, &["version", "--format", JSON], limit),
        command::run(&path, &["info", "--format", JSON], limit),
    );
    let ((version, complaint), (info, _)) = (answer(version), answer(info));
    take_nerdctl(&mut engine, &version, &info, complaint);
    engine.endpoint = std::env::var("CONTAINERD_ADDRESS").ok().filter(|address| !address.is_empty());
    engine
}

/// Reads what `nerdctl version` and `nerdctl info` answered. The server is containerd.
fn take_nerdctl(engine: &mut Engine, version: &Value, info: &Value, complaint: Option<String>) {
    engine.client_version = text(version, "/Client/Version");
    let components = version.pointer("/Server/Components").and_then(Value::as_array);
    let containerd = components.and_then(|all| all.iter().find(|c| text(c, "/Name").as_deref() == Some("containerd")));
    engine.server_version = containerd.and_then(|component| text(component, "/Version"));
    engine.server_platform = text(info, "/Architecture").map(|a| oci_platform(&a));
    engine.rootless = is_rootless(info).filter(|_| engine.server_version.is_some());
    engine.state = state(engine, complaint);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dockers_answers_are_read() {
        let mut engine = Engine::of(Kind::Docker, "/usr/bin/docker".into());
        let version = json!({"Client": {"Version": "28.2.2", "Arch": "arm64", "Context": "default"},
            "Server": {"Version": "20.10.24+dfsg1", "Os": "linux", "Arch": "arm64"}});
        let info = json!({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]});
        take_docker(&mut engine, &version, &info, None);
        assert_eq!(engine.client_version.as_deref(), Some("28.2.2"));
        assert_eq!(engine.server_version.as_deref(), Some("20.10.24+dfsg1"));
        assert_eq!(engine.server_platform.as_deref(), Some("linux/arm64"));
        assert_eq!((engine.rootless, engine.state), (Some(true), State::Answered));

        let down = json!({"Client": {"Version": "28.2.2"}, "Server": null});
        let mut engine = Engine::of(Kind::Docker, "/usr/bin/docker".into());
        let empty = json!({"SecurityOptions": null});
        take_docker(&mut engine, &down, &empty, Some("Cannot connect to the Docker daemon".into()));
        assert_eq!(engine.client_version.as_deref(), Some("28.2.2"));
        assert_eq!((engine.server_version.clone(), engine.rootless), (None, None));
        assert_eq!(engine.state, State::Unreachable("Cannot connect to the Docker daemon".into()));
    }

    #[test]
    fn podman_under_dockers_name_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let docker = dir.path().join("docker");
        std::fs::write(&docker, "#!/bin/sh\nexec /usr/bin/podman \"$@\"\n").unwrap();
        assert!(stands_for_podman(&docker));
        std::fs::write(&docker, "#!/bin/sh\nexec ssh pi docker \"$@\"\n").unwrap();
        assert!(!stands_for_podman(&docker));
        let link = dir.path().join("link");
        std::fs::write(dir.path().join("podman"), "").unwrap();
        std::os::unix::fs::symlink("podman", &link).unwrap();
        assert!(stands_for_podman(&link));
    }

    #[test]
    fn podmans_and_nerdctls_answers_are_read() {
        let mut engine = Engine::of(Kind::Podman, "/usr/bin/podman".into());
        let info = json!({"host": {"arch": "arm64", "serviceIsRemote": false, "security": {"rootless": true},
            "remoteSocket": {"path": "/run/user/1000/podman/podman.sock", "exists": true}}, "version": {"Version": "4.3.1"}});
        take_podman(&mut engine, &info, None);
        assert_eq!((engine.server_platform.as_deref(), engine.rootless), (Some("linux/arm64"), Some(true)));
        assert_eq!((engine.client_version.as_deref(), engine.state), (Some("4.3.1"), State::Answered));

        let mut engine = Engine::of(Kind::Nerdctl, "/usr/local/bin/nerdctl".into());
        let version = json!({"Client": {"Version": "v2.0.0"}, "Server": {"Components": [
            {"Name": "containerd", "Version": "v1.7.24"}, {"Name": "runc", "Version": "1.2.2"}]}});
        take_nerdctl(&mut engine, &version, &json!({"Architecture": "aarch64", "SecurityOptions": []}), None);
        assert_eq!(engine.server_version.as_deref(), Some("v1.7.24"));
        assert_eq!((engine.server_platform.as_deref(), engine.rootless), (Some("linux/arm64"), Some(false)));
    }

    #[test]
    fn an_answer_that_is_none_is_unreachable() {
        for kind in Kind::ALL {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let engine = runtime.block_on(ask(kind, "/nonexistent/engine".into(), Duration::from_secs(5)));
            assert!(matches!(engine.state, State::Unreachable(_)), "{kind}: {engine:?}");
        }
    }
}
