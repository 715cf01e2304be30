// SPDX-License-Identifier: MIT OR Apache-2.0
//! A root shell in the machine, at the other end of a virtual serial port: `agent.service` of the
//! test images is a `/bin/sh` that reads from it and writes to it.

use std::io::{Read as _, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a script did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; 124 where its time was over.
    pub code: i32,
    /// What it wrote.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

/// The connection.
pub struct Shell {
    to: ChildStdin,
    from: Receiver<Vec<u8>>,
    /// What came and was not asked for yet.
    pending: Vec<u8>,
}

/// A word that nothing in the machine says by itself.
fn mark() -> String {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel's uuid");
    format!("mark-{}", uuid.trim())
}

impl Shell {
    /// A shell on the standard streams of a QEMU that has the port there.
    pub fn new(to: ChildStdin, mut from: ChildStdout) -> Self {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(size @ 1..) = from.read(&mut chunk) {
                if send.send(chunk[..size].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { to, from: receive, pending: Vec::new() }
    }

    /// What comes before `end`, which is taken too.
    fn read_to(&mut self, end: &str, deadline: Instant) -> Result<String, String> {
        loop {
            if let Some(at) = find(&self.pending, end.as_bytes()) {
                let rest = self.pending.split_off(at + end.len());
                let mut taken = std::mem::replace(&mut self.pending, rest);
                taken.truncate(at);
                return Ok(String::from_utf8_lossy(&taken).into_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match self.from.recv_timeout(left) {
                Ok(chunk) => {
                    self.pending.extend(chunk);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => "the machine does not answer",
                Err(RecvTimeoutError::Disconnected) => "the machine has ended",
            };
            return Err(format!("{why}; it said: {}", String::from_utf8_lossy(&self.pending)));
        }
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush()).map_err(|e| format!("the machine: {e}"))
    }

    /// Waits until the shell is there.
    pub fn wait(&mut self, limit: Duration) -> Result<(), String> {
        let mark = mark();
        self.write(&format!("printf '%s-here\\n' {mark}\n"))?;
        self.read_to(&format!("{mark}-here\n"), Instant::now() + limit).map(|_| ())
    }

    /// Runs a script (`sh -e`), which is killed after `limit`.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Ran, String> {
        let mark = mark();
        let seconds = limit.as_secs().max(1);
        self.write(&format!(
            "cat >/run/agent.sh <<'{mark}'\n{script}\n{mark}\n\
             printf '%s-out\\n' {mark}; timeout --kill-after=5 {seconds} sh -e /run/agent.sh </dev/null 2>/run/agent.err; \
             printf '\\n%s-code %s\\n' {mark} $?; cat /run/agent.err; printf '\\n%s-end\\n' {mark}\n",
        ))?;
        // The machine's own clock may be slow: the limit is its, and this one is a net.
        let deadline = Instant::now() + limit * 2 + Duration::from_secs(30);
        self.read_to(&format!("{mark}-out\n"), deadline)?;
        let out = self.read_to(&format!("\n{mark}-code "), deadline)?;
        let code = self.read_to("\n", deadline)?;
        let err = self.read_to(&format!("\n{mark}-end\n"), deadline)?;
        let code = code.parse().map_err(|e| format!("exit code {code}: {e}"))?;
        Ok(Ran { code, out, err })
    }

    /// Starts a script and leaves it alone.
    pub fn start(&mut self, script: &str) -> Result<(), String> {
        let mark = mark();
        self.write(&format!(
            "cat >/run/started.sh <<'{mark}'\n{script}\n{mark}\nsh /run/started.sh </dev/null >/dev/null 2>&1 &\n"
        ))
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
