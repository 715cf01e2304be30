// SPDX-License-Identifier: MIT OR Apache-2.0
//! The containers that run under emulation now, as `status --containers` lists them.
//!
//! The engines say which containers run and of what platform their images are. What really runs
//! in them is looked at from outside, where this user may: a process whose file lies outside of
//! the container's own tree runs through an interpreter that the kernel holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::container::{self, Container, ask};
use super::engine::Engine;
use super::sight::{self, Exe};
use super::user_image::{Inspected, read_inspection};
use crate::finding::Finding;
use crate::host::engines::Kind;
use crate::platform::{PLATFORMS, Platform};
use crate::qemu;

/// A container that runs under emulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct EmulatedContainer {
    /// The engine that it belongs to.
    #[cfg_attr(feature = "assets", schemars(with = "crate::host::engines::Kind"))]
    pub engine: &'static str,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name of its image.
    pub image: String,
    /// Its image's platform (`linux/amd64`), where the engine says it.
    pub platform: Option<String>,
    /// What was seen running it; none where this user may not look, or its process is not here.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub interpreter: Option<PathBuf>,
    /// Its first process, by the number that the engine gives.
    pub pid: u32,
}

/// What the engines say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Running {
    /// The containers that run under emulation.
    pub containers: Vec<EmulatedContainer>,
    /// What could not be found out.
    pub findings: Vec<Finding>,
}

/// The containers that run under emulation on a host that runs `native` by itself. Every question
/// to an engine may take `limit`.
///
/// # Errors
/// Where no program can be run at all.
pub fn emulated(native: &[&'static Platform], limit: Duration) -> std::io::Result<Running> {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(reactor.block_on(async {
        let mut running = Running::default();
        for engine in Kind::ALL.into_iter().filter_map(Engine::find) {
            match of_engine(&engine, native, limit).await {
                Ok(containers) => running.containers.extend(containers),
                Err(why) => running.findings.push(container::unknown(&engine, &why)),
            }
        }
        running
    }))
}

async fn of_engine(
    engine: &Engine,
    native: &[&'static Platform],
    limit: Duration,
) -> Result<Vec<EmulatedContainer>, String> {
    engine.version(limit).await.map_err(|down| down.reason)?;
    let mut images = BTreeMap::new();
    let mut emulated = Vec::new();
    for id in container::ids(engine, &[], limit).await? {
        // One that has ended meanwhile is none of those that run.
        let Some(container) = container::inspect(engine, &id, limit).await? else { continue };
        if !images.contains_key(&container.image) {
            let platform = match ask(engine, &["image", "inspect", &container.image], limit).await {
                Ok(json) => read_inspection(&json).ok().as_ref().map(Inspected::platform),
                Err(_) => None,
            };
            images.insert(container.image.clone(), platform);
        }
        let platform = images[&container.image].clone();
        let shown = seen_in(&container);
        if !is_emulated(platform.as_deref(), native, shown.as_deref()) {
            continue;
        }
        let outside = shown.into_iter().flatten().find(runs_for_others);
        emulated.push(EmulatedContainer {
            engine: engine.kind.program(),
            name: container.shown_name().to_owned(),
            image: container.shown_image().to_owned(),
            platform,
            interpreter: outside.map(|exe| exe.path),
            pid: container.state.pid,
            id: container.id,
        });
    }
    Ok(emulated)
}

/// Whether `exe` runs programs other than itself: it is none of the container's own files, or a
/// QEMU that somebody has put into the image.
fn runs_for_others(exe: &Exe) -> bool {
    let target = qemu::target_of(&exe.path);
    !exe.inside || target.is_some_and(|target| PLATFORMS.iter().any(|platform| platform.qemu == target))
}

/// Whether a container is emulated: by what was `seen` in it, else by its image's platform.
fn is_emulated(platform: Option<&str>, native: &[&'static Platform], seen: Option<&[Exe]>) -> bool {
    match seen {
        Some(seen) => seen.iter().any(runs_for_others),
        None => platform.is_some_and(|name| !native.iter().any(|own| own.to_string() == name)),
    }
}

/// What the processes of `container` run; none where they are not to be seen.
fn seen_in(container: &Container) -> Option<Vec<Exe>> {
    let first = container.state.pid;
    if first == 0 || !is_here(container) {
        return None;
    }
    let mut seen = vec![sight::exe(first).ok()?];
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = space(&first.to_string());
    // A container that shares the host's numbers has no others of its own to be found by them.
    if own.is_some() && own != space("self") {
        let others = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let others = others.filter(|pid: &u32| *pid != first && space(&pid.to_string()) == own);
        seen.extend(others.filter_map(|pid| sight::exe(pid).ok()));
    }
    Some(seen)
}

/// Whether the container's first process is one of this machine: its control group bears the
/// container's id, or it was started with the container's arguments. An engine in a virtual machine
/// or on another host speaks of other processes.
fn is_here(container: &Container) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", container.state.pid));
    let group = fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
    group.contains(&container.id) || was_started_with(&proc, &container.args)
}

fn was_started_with(proc: &Path, arguments: &[String]) -> bool {
    let line = fs::read(proc.join("cmdline")).unwrap_or_default();
    let ending: Vec<u8> = arguments.iter().flat_map(|word| word.bytes().chain([0])).collect();
    !ending.is_empty() && line.ends_with(&ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FileIdentity;

    fn exe(path: &str, inside: bool) -> Exe {
        let identity = FileIdentity { dev: 1, ino: 2, size: 3, mtime_ns: 4, ctime_ns: 4, build_id: None };
        Exe { path: path.into(), deleted: false, identity, inside }
    }

    #[test]
    fn what_runs_tells_and_else_the_image() {
        type Row = (Option<&'static str>, Option<Vec<Exe>>, bool);
        let native = vec![Platform::named("amd64").unwrap()];
        let rows: [Row; 8] = [
            (Some("linux/arm64"), None, true),
            (Some("linux/amd64"), None, false),
            (None, None, false),
            (Some("linux/arm64"), Some(vec![exe("/usr/bin/qemu-aarch64-static", false)]), true),
            (Some("linux/arm64"), Some(vec![exe("/bin/sleep", true)]), false),
            (Some("linux/arm64"), Some(vec![exe("/sbin/docker-init", true), exe("/usr/bin/q", false)]), true),
            (Some("linux/arm64"), Some(vec![exe("/usr/bin/qemu-aarch64-static", true)]), true),
            (Some("linux/amd64"), Some(vec![exe("/qemu-persist-probe", true)]), false),
        ];
        for (platform, seen, emulated) in rows {
            assert_eq!(is_emulated(platform, &native, seen.as_deref()), emulated, "{platform:?} {seen:?}");
        }
    }
}
