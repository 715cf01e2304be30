// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running other programs: always with a time limit, never with a shell, nothing on their
//! standard input.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// The most that is kept of each of a program's two outputs, in bytes.
const LONGEST_OUTPUT: u64 = 16 << 20;

/// Where programs are looked for besides `PATH`, which a service or sudo may have shortened.
const USUAL: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How a program came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It ran past its time limit, and was killed with all that it had started.
    TimedOut,
}

/// What a program left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub ending: Ending,
    /// What it wrote to standard output, up to 16 MiB.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, up to 16 MiB.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it ended by itself with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.ending == Ending::Exit(0)
    }

    /// Why it did not succeed, in a few words: the last line of its standard error, or how it
    /// ended. The text is the program's own and not escaped.
    pub fn complaint(&self) -> String {
        let stderr = String::from_utf8_lossy(&self.stderr);
        let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
        match (self.ending, last) {
            (Ending::TimedOut, _) => "no answer within the time limit".to_owned(),
            (_, Some(line)) => line.to_owned(),
            (Ending::Exit(code), None) => format!("exit code {code}"),
            (Ending::Signal(number), None) => {
                let name = Signal::try_from(number).map_or_else(|_| number.to_string(), |s| s.to_string());
                format!("killed by signal {name}")
            }
        }
    }
}

/// Kills a group of processes unless told that it has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may be gone by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn collect(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(pipe) = pipe else { return Ok(()) };
    pipe.take(LONGEST_OUTPUT).read_to_end(into).await.map(drop)
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exit(code),
        (None, signal) => Ending::Signal(signal.unwrap_or(0)),
    }
}

/// Runs `program` with `arguments` in a process group of its own, for `limit` at most. Past that,
/// or where the future is dropped, the whole group is killed. Messages are asked for in English.
///
/// # Errors
/// Those of starting it and of reading its output.
pub async fn run(program: &Path, arguments: &[impl AsRef<OsStr>], limit: Duration) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let all = async { tokio::try_join!(collect(out, &mut stdout), collect(err, &mut stderr), child.wait()) };
    let ending = match tokio::time::timeout(limit, all).await {
        Ok(result) => {
            let ending = ending(result?.2);
            group.0 = None;
            ending
        }
        Err(_) => Ending::TimedOut,
    };
    Ok(Output { ending, stdout, stderr })
}

/// The program `name`, in `PATH` or else where programs usually are.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let runnable = |file: &PathBuf| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(USUAL.map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(runnable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn sh(script: &str, limit: u64) -> Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(Path::new("/bin/sh"), &["-c", script], Duration::from_millis(limit))).unwrap()
    }

    #[test]
    fn endings_and_outputs_are_told() {
        let output = sh("echo out; echo first >&2; echo last >&2; exit 3", 10_000);
        assert_eq!((output.ending, output.stdout.as_slice()), (Ending::Exit(3), b"out\n".as_slice()));
        assert_eq!(output.complaint(), "last");
        assert_eq!(sh("kill -9 $$", 10_000).complaint(), "killed by signal SIGKILL");
        assert!(sh("read x || true", 10_000).succeeded());
    }

    #[test]
    fn what_runs_too_long_is_killed_with_its_children() {
        let start = Instant::now();
        // The child holds the pipe open after its parent has ended.
        let output = sh("echo $$; sleep 60 & echo started", 300);
        assert_eq!(output.ending, Ending::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(20));
        let text = String::from_utf8(output.stdout).unwrap();
        let group = Pid::from_raw(text.lines().next().unwrap().parse().unwrap());
        let gone = || killpg(group, None) == Err(nix::errno::Errno::ESRCH);
        assert!((0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            gone()
        }));
    }

    #[test]
    fn programs_are_found_or_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let missing = run(Path::new("/nonexistent"), &["x"], Duration::from_secs(1));
        assert_eq!(runtime.block_on(missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
