// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running other programs: always with a time limit, never with a shell.
//!
//! Each is in a process group of its own, so that Ctrl-C reaches this program alone, which then
//! tidies up, and so that what the program has started ends with it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The most that is kept of each of a program's two outputs, in bytes; the rest is read and dropped.
const KEPT: usize = 1 << 20;
/// How long output is still awaited from what an ended program has left running.
const GRACE: Duration = Duration::from_millis(500);

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
    /// What it wrote to standard output, up to 1 MiB.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, up to 1 MiB.
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

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exit(code),
        (None, signal) => Ending::Signal(signal.unwrap_or(0)),
    }
}

/// A program that runs and is talked with. Dropping it kills its process group.
#[derive(Debug)]
pub struct Talk {
    child: Child,
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    out: Pipe<ChildStdout>,
    err: Pipe<ChildStderr>,
}

#[derive(Debug)]
struct Pipe<R> {
    reader: Option<R>,
    buffer: Vec<u8>,
    kept: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(reader: Option<R>) -> Self {
        Self { reader, buffer: Vec::new(), kept: Vec::new() }
    }

    /// Reads once; does not come back where the pipe is at its end.
    async fn read(&mut self) {
        let Some(reader) = &mut self.reader else { return std::future::pending().await };
        // On the heap, since it would make every future that reads as large as itself.
        self.buffer.resize(8192, 0);
        match reader.read(&mut self.buffer).await {
            Ok(0) | Err(_) => self.reader = None,
            Ok(n) => {
                let room = KEPT.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&self.buffer[..n.min(room)]);
            }
        }
    }
}

impl Talk {
    /// Starts `program`. Its messages are asked for in English.
    ///
    /// # Errors
    /// Those of `execve(2)`.
    pub fn start(program: &Path, arguments: &[impl AsRef<OsStr>]) -> io::Result<Self> {
        Self::start_with(program, arguments, &[])
    }

    /// As [`Talk::start`], with `variables` in its environment.
    ///
    /// # Errors
    /// As [`Talk::start`].
    pub fn start_with(program: &Path, arguments: &[impl AsRef<OsStr>], variables: &[(&str, &str)]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C").envs(variables.iter().copied()).process_group(0);
        Self::with(command)
    }

    /// As [`Talk::start`], in the folder `directory` and with no environment but `variables`.
    ///
    /// # Errors
    /// As [`Talk::start`].
    pub fn start_in(
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        directory: &Path,
        variables: &[(&str, &str)],
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory).env_clear().envs(variables.iter().copied());
        command.env("LC_ALL", "C").process_group(0);
        Self::with(command)
    }

    /// Starts `program`, which makes a session of its own (setsid(2)), as the leader of a process group cannot.
    ///
    /// # Errors
    /// Those of `execve(2)`.
    pub fn start_leader(program: &Path, arguments: &[impl AsRef<OsStr>]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::with(command)
    }

    fn with(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        Ok(Self {
            group: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw),
            stdin: child.stdin.take(),
            out: Pipe::new(child.stdout.take()),
            err: Pipe::new(child.stderr.take()),
            child,
        })
    }

    /// Reads until what came on standard output and standard error satisfies `enough`; whether it
    /// did before standard output was over or the program had ended.
    pub async fn until(&mut self, enough: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        while !enough(&self.out.kept, &self.err.kept) {
            if self.out.reader.is_none() {
                return false;
            }
            tokio::select! {
                () = self.out.read() => {}
                () = self.err.read() => {}
                _ = self.child.wait() => {
                    // What it wrote last may still be in the pipe.
                    let _ = timeout(GRACE, self.drain()).await;
                    return enough(&self.out.kept, &self.err.kept);
                }
            }
        }
        true
    }

    /// What came on standard error up to now.
    pub fn complaints(&self) -> &[u8] {
        &self.err.kept
    }

    async fn drain(&mut self) {
        while self.out.reader.is_some() || self.err.reader.is_some() {
            tokio::select! {
                () = self.out.read() => {}
                () = self.err.read() => {}
            }
        }
    }

    /// Writes `input`, closes standard input, and waits for the end.
    ///
    /// # Errors
    /// Those of waiting for it.
    pub async fn finish(&mut self, input: &[u8]) -> io::Result<Ending> {
        let stdin = self.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read to the end says itself what is wrong.
                let _ = stdin.write_all(input).await;
                let _ = stdin.shutdown().await;
            }
        };
        tokio::pin!(feed);
        let mut is_fed = false;
        let status = loop {
            tokio::select! {
                () = &mut feed, if !is_fed => is_fed = true,
                () = self.out.read() => {}
                () = self.err.read() => {}
                status = self.child.wait() => break status?,
            }
        };
        let _ = timeout(GRACE, self.drain()).await;
        self.kill();
        Ok(ending(status))
    }

    /// Sends `signal` to the program alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Ends it, and everything in its process group.
    pub fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.child.start_kill();
    }

    /// What it left behind. `ended` is what [`Talk::finish`] gave; none where its time was over
    /// before, and then it is killed.
    ///
    /// # Errors
    /// Those in `ended`.
    pub async fn conclude(mut self, ended: Option<io::Result<Ending>>) -> io::Result<Output> {
        self.kill();
        // Nothing is left of it; SIGKILL can only be late where the kernel holds it.
        let _ = timeout(GRACE, self.child.wait()).await;
        let ending = ended.unwrap_or(Ok(Ending::TimedOut))?;
        Ok(Output { ending, stdout: std::mem::take(&mut self.out.kept), stderr: std::mem::take(&mut self.err.kept) })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `program` with `arguments` and nothing on its standard input, for `limit` at most. Past
/// that, or where the future is dropped, its whole process group is killed.
///
/// # Errors
/// Those of starting it and of waiting for it.
pub async fn run(program: &Path, arguments: &[impl AsRef<OsStr>], limit: Duration) -> io::Result<Output> {
    run_with_input(program, arguments, &[], limit).await
}

/// As [`run`], with `input` on its standard input.
///
/// # Errors
/// As [`run`].
pub async fn run_with_input(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    input: &[u8],
    limit: Duration,
) -> io::Result<Output> {
    let mut talk = Talk::start(program, arguments)?;
    let ended = timeout(limit, talk.finish(input)).await;
    talk.conclude(ended.ok()).await
}

/// As [`run`], in the folder `directory` and with no environment but `variables`.
///
/// # Errors
/// As [`run`].
pub async fn run_in(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    directory: &Path,
    variables: &[(&str, &str)],
    limit: Duration,
) -> io::Result<Output> {
    let mut talk = Talk::start_in(program, arguments, directory, variables)?;
    let ended = timeout(limit, talk.finish(&[])).await;
    talk.conclude(ended.ok()).await
}

/// The program `name`, in `PATH` or else where programs usually are.
pub fn find(name: &str) -> Option<PathBuf> {
    find_in(name, &std::env::var_os("PATH").unwrap_or_default())
}

/// The program `name`, in `path`, which is written as `PATH` is, or else where programs usually are.
pub fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    let runnable = |file: &PathBuf| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file();
    std::env::split_paths(path)
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
        let output = sh("echo $$; sleep 60 & wait", 300);
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
    fn input_is_given_and_megabytes_are_drained() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let script = ["-c", "cat; head -c 50000000 /dev/zero; head -c 3000000 /dev/zero >&2"];
        let ran = run_with_input(Path::new("/bin/sh"), &script, b"hello", Duration::from_secs(30));
        let output = runtime.block_on(ran).unwrap();
        assert_eq!(output.ending, Ending::Exit(0));
        assert_eq!((output.stdout.len(), output.stderr.len()), (KEPT, KEPT));
        assert!(output.stdout.starts_with(b"hello"));
    }

    #[test]
    fn a_child_that_keeps_the_pipe_open_does_not_hold_us() {
        let start = Instant::now();
        assert_eq!(sh("sleep 600 & exit 0", 30_000).ending, Ending::Exit(0));
        assert!(start.elapsed() < Duration::from_secs(10));
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
