// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running an outside program: with a time limit, in a process group of its own, and with no more
//! of its output kept than a bounded part.
//!
//! A group of its own, so that Ctrl-C reaches this program alone, which then tidies up, and so that
//! what the program has started ends with it.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How many bytes of each output are kept; the rest is read and dropped.
pub const KEPT: usize = 64 << 10;
/// How long output is still awaited from what an ended program has left running.
const GRACE: Duration = Duration::from_millis(500);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was killed, because its time was over.
    TimedOut,
}

impl Ending {
    fn of(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Signalled(signal.unwrap_or_default()),
        }
    }

    /// Whether it ended by itself with status 0.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// What an ended program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub ending: Ending,
    /// The start of its standard output, [`KEPT`] bytes at most.
    pub stdout: Vec<u8>,
    /// The start of its standard error, [`KEPT`] bytes at most.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Its standard output as text, without white space at the ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// What it said about an error, on one line.
    pub fn complaint(&self) -> String {
        let stderr = error_line(&self.stderr);
        if stderr.is_empty() { one_line(&self.stdout) } else { stderr }
    }
}

/// `bytes` of standard error on one line: without the log lines of engines and their preliminaries
/// where they say besides what the error is, and without what they put before it.
pub fn error_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain: Vec<_> = text.lines().filter(|line| !line.starts_with("time=") && !line.trim().is_empty()).collect();
    let from_error = plain.iter().position(|line| line.starts_with("Error: ") || line.starts_with("docker: "));
    let lines = match from_error {
        Some(first) => &plain[first..],
        None => &plain[..],
    };
    if lines.is_empty() {
        return one_line(bytes);
    }
    let line = one_line(lines.join("\n").as_bytes());
    let mut rest = line.as_str();
    while let Some(behind) =
        ["docker: ", "Error: ", "Error response from daemon: "].iter().find_map(|lead| rest.strip_prefix(lead))
    {
        rest = behind;
    }
    rest.trim_end_matches(" See 'docker run --help'.").to_owned()
}

/// `bytes` as text on one line of 300 characters at most.
pub fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(299) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// `arguments` as [`Talk::start`] and [`run`] take them.
pub fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|word| (*word).to_owned()).collect()
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
    kept: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    /// Reads once; does not come back where the pipe is at its end.
    async fn read(&mut self) {
        let Some(reader) = &mut self.reader else { return std::future::pending().await };
        let mut buffer = [0; 8192];
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => self.reader = None,
            Ok(n) => {
                let room = KEPT.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&buffer[..n.min(room)]);
            }
        }
    }
}

impl Talk {
    /// Starts `program`.
    ///
    /// # Errors
    /// Those of `execve(2)`, naming the program.
    pub fn start(program: &Path, arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))?;
        Ok(Self {
            group: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw),
            stdin: child.stdin.take(),
            out: Pipe { reader: child.stdout.take(), kept: Vec::new() },
            err: Pipe { reader: child.stderr.take(), kept: Vec::new() },
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
        let mut fed = false;
        let status = loop {
            tokio::select! {
                () = &mut feed, if !fed => fed = true,
                () = self.out.read() => {}
                () = self.err.read() => {}
                status = self.child.wait() => break status?,
            }
        };
        let _ = timeout(GRACE, self.drain()).await;
        self.kill();
        Ok(Ending::of(status))
    }

    /// Ends it, and everything in its process group.
    pub fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.child.start_kill();
    }

    /// What it said, once it has ended in the way `ending`.
    pub fn output(&mut self, ending: Ending) -> Output {
        Output { ending, stdout: std::mem::take(&mut self.out.kept), stderr: std::mem::take(&mut self.err.kept) }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `program` to its end, or for `limit`, with `input` on its standard input.
///
/// # Errors
/// Those of starting it and of waiting for it.
pub async fn run(program: &Path, arguments: &[String], input: &[u8], limit: Duration) -> io::Result<Output> {
    let mut talk = Talk::start(program, arguments)?;
    let ending = match timeout(limit, talk.finish(input)).await {
        Ok(ending) => ending?,
        Err(_) => {
            talk.kill();
            Ending::TimedOut
        }
    };
    Ok(talk.output(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str, input: &[u8], limit: Duration) -> Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let arguments = ["-c".to_owned(), script.to_owned()];
        runtime.block_on(run(Path::new("/bin/sh"), &arguments, input, limit)).unwrap()
    }

    #[test]
    fn output_and_ending_are_given() {
        let output = shell("cat; echo bad >&2; exit 3", b"hello", Duration::from_secs(10));
        assert_eq!((output.text().as_str(), output.complaint().as_str()), ("hello", "bad"));
        assert_eq!(output.ending, Ending::Exited(3));
        assert_eq!(shell("kill -9 $$", b"", Duration::from_secs(10)).ending, Ending::Signalled(9));
    }

    #[test]
    fn too_slow_is_killed_with_what_it_started() {
        let start = Instant::now();
        let output = shell("sleep 600 & echo $!; wait", b"", Duration::from_millis(300));
        assert_eq!(output.ending, Ending::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(5));
        let sleeper = output.text();
        let state = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        for _ in 0..100 {
            if state(&sleeper).is_empty() || state(&sleeper).contains(") Z ") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the sleeper {sleeper} still runs: {}", state(&sleeper));
    }

    #[test]
    fn megabytes_are_drained_and_a_part_is_kept() {
        let output = shell("head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2", b"", Duration::from_secs(30));
        assert_eq!(output.ending, Ending::Exited(0));
        assert_eq!((output.stdout.len(), output.stderr.len()), (KEPT, KEPT));
        assert!(output.complaint().chars().count() <= 300);
    }

    #[test]
    fn a_child_that_keeps_the_pipe_open_does_not_hold_us() {
        let start = Instant::now();
        assert_eq!(shell("sleep 600 & exit 0", b"", Duration::from_secs(30)).ending, Ending::Exited(0));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_error_is_told_without_what_stands_around_it() {
        let docker =
            "time=\"2026\" level=error msg=\"x\"\ndocker: Error response from daemon: no.\nSee 'docker run --help'.\n";
        assert_eq!(error_line(docker.as_bytes()), "no.");
        assert_eq!(error_line(b"Trying to pull x...\nError: it is not there\n"), "it is not there");
        assert_eq!(error_line(b"time=\"2026\" msg=only\n"), "time=\"2026\" msg=only");
        assert_eq!(error_line(b"exec /p: exec format error\n"), "exec /p: exec format error");
    }

    #[test]
    fn one_line_is_short() {
        assert_eq!(one_line(b" a\n\nb\t c "), "a b c");
        assert_eq!(one_line(&[b'x'; 5000]).chars().count(), 300);
    }
}
