// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at a container's process from outside: which file is it that really runs?
//!
//! `/proc/PID/exe` of an emulated process is the interpreter that the kernel took, whatever has
//! become of its path since (proc_pid_exe(5)): the link's text ends in ` (deleted)` then, and
//! `stat(2)` through the link still gives the file that runs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::host::command::{Output, Talk};
use crate::qemu;
use crate::record::FileIdentity;

/// What was seen of a container's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The file that it runs.
    Seen(Exe),
    /// It could not be looked at, and why.
    NotSeen(Unseen),
}

/// Why a process was not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// This user may not look at it.
    NotAllowed,
    /// It is none of this machine's.
    Elsewhere,
    /// It was over too soon.
    TooSoon,
    /// Something else, in a few words.
    Other(String),
}

/// The file that a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Exe {
    /// Its path as the kernel says it, without the mark of a deleted file. It may be one that is
    /// only there inside the container, or on the machine that registered it.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub path: PathBuf,
    /// Whether that path no longer leads to it.
    pub deleted: bool,
    /// Which file it is.
    pub identity: FileIdentity,
    /// Whether it lies in the container's own file system.
    pub inside: bool,
}

/// Whether process `pid` was given `nonce`, as an argument or in its environment.
fn carries(pid: u32, nonce: &str) -> io::Result<bool> {
    let holds = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}"))?;
        Ok(bytes.windows(nonce.len()).any(|window| window == nonce.as_bytes()))
    };
    if holds("cmdline")? { Ok(true) } else { holds("environ") }
}

/// Looks at process `pid`, which has to be the one that was given `nonce`: an engine in a virtual
/// machine or on another host speaks of processes that are not here.
pub fn look(pid: u32, nonce: &str) -> Sighting {
    match carries(pid, nonce) {
        Ok(true) => {}
        Ok(false) => return Sighting::NotSeen(Unseen::Elsewhere),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Sighting::NotSeen(Unseen::NotAllowed),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Sighting::NotSeen(Unseen::Elsewhere);
        }
        Err(e) => return Sighting::NotSeen(Unseen::Other(format!("/proc/{pid}: {e}"))),
    }
    match exe(pid) {
        Ok(exe) => Sighting::Seen(exe),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Sighting::NotSeen(Unseen::NotAllowed),
        Err(e) => Sighting::NotSeen(Unseen::Other(format!("/proc/{pid}/exe: {e}"))),
    }
}

/// How often a container's process is looked for: a program under QEMU lives for some 10 ms at the least.
const GLANCE: Duration = Duration::from_millis(1);

/// How often what does no harm is run at most until its process is seen: it may be over too soon.
pub(super) const TRIES: u32 = 3;

/// The variable by which a container's process is recognised.
pub(super) const MARK: &str = "QEMU_PERSIST_SELFTEST";

/// The variable with `nonce`, as it stands in an environment.
pub(super) fn mark(nonce: &str) -> String {
    format!("{MARK}={nonce}")
}

/// The process that has the mark of `nonce` in its environment, among those that were not there `before`. The engine's
/// own processes have it among their arguments at most.
pub(super) fn find(before: &BTreeSet<u32>, nonce: &str) -> Option<u32> {
    processes().difference(before).copied().find(|&pid| is_marked(pid, nonce))
}

fn is_marked(pid: u32, nonce: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark(nonce).as_bytes())
}

/// The file that process `pid` runs, if it has the mark of `nonce` in its environment, which is the last that the
/// kernel gives a program that it starts. Its arguments say less: those of the process that starts it, which it has
/// until then, may have the nonce too (`exec_mmap()`, fs/exec.c, wakes the parent of a vfork(2) before it changes them).
pub(super) fn marked(pid: u32, nonce: &str) -> Option<Exe> {
    is_marked(pid, nonce).then(|| exe(pid).ok())?
}

/// The numbers of the processes that there are.
pub(super) fn processes() -> BTreeSet<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Waits for the end of `talk`, for `limit` at most, and looks meanwhile until `glance` sees the process.
///
/// # Errors
/// Those of waiting for it.
pub(super) async fn watch_to_end(
    talk: Talk,
    glance: impl Fn() -> Option<Exe>,
    limit: Duration,
) -> io::Result<(Sighting, Output)> {
    let (seen, output) = watch_fed(talk, &[], glance, limit).await?;
    Ok((seen.map_or(Sighting::NotSeen(Unseen::TooSoon), Sighting::Seen), output))
}

/// As [`watch_to_end`], for whatever `glance` sees, with `input` on the program's standard input.
///
/// # Errors
/// As [`watch_to_end`].
pub(super) async fn watch_fed<T>(
    mut talk: Talk,
    input: &[u8],
    glance: impl Fn() -> Option<T>,
    limit: Duration,
) -> io::Result<(Option<T>, Output)> {
    let mut seen = None;
    let conversation = async {
        let end = talk.finish(input);
        tokio::pin!(end);
        loop {
            tokio::select! {
                ending = &mut end => return ending,
                () = sleep(GLANCE), if seen.is_none() => seen = glance(),
            }
        }
    };
    let ended = timeout(limit, conversation).await;
    let output = talk.conclude(ended.ok()).await?;
    Ok((seen, output))
}

/// The file that process `pid` runs.
///
/// # Errors
/// Those of `readlink(2)` and `stat(2)` on `/proc/PID/exe`.
pub fn exe(pid: u32) -> io::Result<Exe> {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let text = fs::read_link(&link)?;
    let metadata = fs::metadata(&link)?;
    let build_id = fs::File::open(&link).ok().and_then(qemu::build_id);
    let identity = FileIdentity::new(&metadata, build_id);
    let shown = text.to_string_lossy();
    let (path, deleted) = match shown.strip_suffix(" (deleted)") {
        Some(path) => (PathBuf::from(path), true),
        None => (text.clone(), false),
    };
    let within = Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(&path));
    let inside = fs::metadata(within).is_ok_and(|m| FileIdentity::new(&m, None).is_same(&identity));
    Ok(Exe { path, deleted, identity, inside })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// Starts `program` for a long time, which `number` tells from others, and waits until it is what runs: its
    /// environment is the last that the kernel gives it.
    fn start(program: &Path, number: &str, variables: &[(&str, &str)]) -> Child {
        let mut command = Command::new(program);
        let child = command.arg(number).env_clear().env("LAST", number).envs(variables.iter().copied());
        let child = child.stdout(Stdio::null()).spawn().unwrap();
        let last = format!("LAST={number}");
        let file = format!("/proc/{}/environ", child.id());
        while !fs::read(&file).unwrap().split(|byte| *byte == 0).any(|variable| variable == last.as_bytes()) {
            std::thread::yield_now();
        }
        child
    }

    #[test]
    fn what_only_starts_a_program_is_not_taken_for_it() {
        for (variables, expected) in [(&[][..], false), (&[(MARK, "600.0789")], true)] {
            let mut child = start(Path::new("/bin/sleep"), "600.0789", variables);
            let seen = marked(child.id(), "600.0789").is_some();
            let found = find(&BTreeSet::new(), "600.0789");
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!((seen, found), (expected, expected.then_some(child.id())));
        }
    }

    #[test]
    fn a_process_is_seen_by_its_nonce_even_when_its_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("sleeper");
        fs::copy("/bin/sleep", &program).unwrap();
        let before = FileIdentity::new(&fs::metadata(&program).unwrap(), None);
        let mut child = start(&program, "600.0123", &[]);
        fs::remove_file(&program).unwrap();
        let (right, wrong) = (look(child.id(), "600.0123"), look(child.id(), "another nonce"));
        child.kill().unwrap();
        child.wait().unwrap();
        let Sighting::Seen(exe) = right else { panic!("{right:?}") };
        assert!(exe.deleted && !exe.inside && exe.identity.is_same(&before));
        assert_eq!(exe.path, program);
        assert_eq!(wrong, Sighting::NotSeen(Unseen::Elsewhere));
    }
}
