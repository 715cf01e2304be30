// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host with container engines for every test: namespaces in which the machine's own programs
//! run, Debian's dockerd and Podman among them, with a binfmt_misc that nobody else sees.
//!
//! The user namespace maps every user to itself, since engines need more than one; that takes
//! root. What engines and the product keep is in memory, and all of it ends with the first process,
//! which ends with the test, whatever became of that.

#![allow(dead_code, unreachable_pub, reason = "a module of several test programs, each of which uses a part of it")]

pub mod user;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A platform that this machine does not run by itself, and QEMU's name for it.
pub const FOREIGN: (&str, &str) = if cfg!(target_arch = "x86_64") { ("arm64", "aarch64") } else { ("amd64", "x86_64") };
/// What `uname -m` says there.
pub const MACHINE: &str = FOREIGN.1;
/// This machine's own platform.
pub const NATIVE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
/// The kernel's table.
pub const TABLE: &str = "/proc/sys/fs/binfmt_misc";

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The host.
pub struct Host {
    holder: Child,
    /// The number of the first process inside, as it is outside.
    init: u32,
    /// What the first process reads: it ends with this one, however this one ends.
    _stdin: Option<ChildStdin>,
}

/// What a program inside did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it wrote.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

/// A host, or the end of the test with the reason on standard error.
#[macro_export]
macro_rules! host {
    ($($program:literal),*) => {
        match $crate::engines::Host::new(&[$($program),*]) {
            Ok(host) => host,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return;
            }
        }
    };
}

/// The file of Debian's rule for the foreign platform.
pub fn rule() -> String {
    let file = format!("/usr/lib/binfmt.d/qemu-{}.conf", FOREIGN.1);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_owned()
}

/// Whether `done` becomes true within a minute.
pub fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

impl Host {
    /// Makes one without a running daemon and with an empty table. `programs` have to be installed.
    pub fn new(programs: &[&str]) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("engines in a namespace of their own need root".into());
        }
        let qemu = format!("/usr/lib/binfmt.d/qemu-{}.conf", FOREIGN.1);
        for file in programs.iter().copied().chain([qemu.as_str()]) {
            if !Path::new(file).exists() {
                return Err(format!("{file} is not installed"));
            }
        }
        let script = "
            mount -t proc proc /proc
            mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
            mount -t tmpfs -o mode=755 run /run
            mount -t tmpfs -o mode=755 lib /var/lib
            mount -t tmpfs -o mode=1777 tmp /var/tmp
            mkdir -p /run/home /run/qemu-persist
            echo '[engine]\nruntime = \"runc\"\n[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=1000:1000\"]' >/run/containers.conf
            echo '{}' >/run/daemon.json
            echo ready
            exec cat >/dev/null";
        let inner = "read _ && exec unshare --mount --net --ipc --uts --pid --fork --kill-child /bin/sh -ec \"$0\"";
        let mut holder = Command::new("unshare")
            .args(["--user", "/bin/sh", "-c", inner, script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("unshare: {e}"))?;
        let own = std::fs::read_link("/proc/self/ns/user").map_err(|e| e.to_string())?;
        let moved = || std::fs::read_link(format!("/proc/{}/ns/user", holder.id())).is_ok_and(|space| space != own);
        let mapped = wait_until(moved)
            && ["uid_map", "gid_map"]
                .iter()
                .all(|map| std::fs::write(format!("/proc/{}/{map}", holder.id()), "0 0 65536").is_ok());
        let mut stdin = holder.stdin.take();
        if mapped {
            let _ = stdin.as_mut().expect("a pipe").write_all(b"\n");
        } else {
            stdin = None;
        }
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut line).map_err(|e| e.to_string())?;
        if line != "ready\n" {
            let _ = holder.kill();
            let output = holder.wait_with_output().map_err(|e| e.to_string())?;
            return Err(format!("no namespaces for engines: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).expect("children");
        let host = Self { holder, init: children.trim().parse().expect("one child"), _stdin: stdin };
        host.write("/run/qemu-persist/config.toml", format!("platforms = [\"linux/{}\"]\n", FOREIGN.0));
        Ok(host)
    }

    /// Starts dockerd and waits until it answers.
    pub fn start_docker(&self) {
        self.start_docker_from("/usr/sbin");
    }

    /// As [`Host::start_docker`], with the directory `first` before the others in its `PATH`.
    pub fn start_docker_from(&self, first: &str) {
        self.sh(&format!(
            "PATH={first}:$PATH dockerd --config-file /run/daemon.json --bridge=none --iptables=false \
             --ip-forward=false --ip-masq=false --storage-driver vfs >/run/dockerd.log 2>&1 & echo $! >/run/dockerd"
        ));
        let up = wait_until(|| self.run("docker", &["version"]).code == 0);
        assert!(up, "dockerd does not answer: {}", self.run("cat", &["/run/dockerd.log"]).out);
    }

    /// Ends dockerd.
    pub fn stop_docker(&self) {
        self.sh("kill $(cat /run/dockerd)");
        assert!(wait_until(|| self.run("test", &["-e", "/run/docker.pid"]).code != 0), "dockerd does not end");
    }

    fn enter(&self, path: &str, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--user", "--mount", "--net", "--ipc", "--uts", "--pid"]);
        command.arg("--").arg(program).args(arguments);
        command.env_clear().env("PATH", path).env("HOME", "/run/home").env("TMPDIR", "/var/tmp");
        command.env("CONTAINERS_CONF", "/run/containers.conf").env("STORAGE_DRIVER", "vfs");
        command
    }

    fn finish(mut command: Command, input: &[u8]) -> Ran {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsenter");
        // A program that does not read to the end says itself what is wrong.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        let output = child.wait_with_output().expect("an end");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs a program inside.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        Self::finish(self.enter(PATH, program, arguments), b"")
    }

    /// Runs a shell script inside that has to succeed, and gives what it wrote.
    pub fn sh(&self, script: &str) -> String {
        let ran = self.run("/bin/sh", &["-ec", script]);
        assert_eq!(ran.code, 0, "{script}\n{}{}", ran.out, ran.err);
        ran.out
    }

    /// Writes a file inside.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let ran = Self::finish(self.enter(PATH, "/bin/sh", &["-ec", "cat >\"$0\"", path]), content.as_ref());
        assert_eq!(ran.code, 0, "{path}: {}", ran.err);
    }

    /// Has `engine` load the image archive `archive`.
    pub fn load(&self, engine: &str, archive: &[u8]) {
        let ran = Self::finish(self.enter(PATH, engine, &["load"]), archive);
        assert_eq!(ran.code, 0, "{engine} load: {ran:?}");
    }

    /// Registers a rule.
    pub fn register(&self, rule: &str) {
        self.write(&format!("{TABLE}/register"), rule);
    }

    /// Runs `selftest --json` with `arguments`.
    pub fn selftest(&self, arguments: &[&str]) -> Report {
        self.selftest_with("", arguments)
    }

    /// As [`Host::selftest`], with the directory `first` before the others in `PATH`.
    pub fn selftest_with(&self, first: &str, arguments: &[&str]) -> Report {
        let path = if first.is_empty() { PATH.to_owned() } else { format!("{first}:{PATH}") };
        let arguments = [&["selftest", "--json"], arguments].concat();
        let ran = Self::finish(self.enter(&path, env!("CARGO_BIN_EXE_qemu-persist"), &arguments), b"");
        let json = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        Report { code: ran.code, json }
    }

    /// Starts `selftest` with `arguments` and leaves it running; its number inside is in /run/pid.
    pub fn start_selftest(&self, first: &str, arguments: &str) -> Child {
        let program = env!("CARGO_BIN_EXE_qemu-persist");
        let script = format!("echo $$ >/run/pid; exec {program} selftest {arguments}");
        let mut command = self.enter(&format!("{first}:{PATH}"), "/bin/sh", &["-ec", &script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nsenter")
    }

    /// Everything that the engines keep, sorted.
    pub fn inventory(&self, engines: &[&str]) -> String {
        let list = |engine: &&str| {
            self.sh(&format!(
                "{engine} images --all --no-trunc --format '{{{{.ID}}}} {{{{.Repository}}}}:{{{{.Tag}}}}'
                 {engine} ps --all --no-trunc --format '{{{{.ID}}}} {{{{.Names}}}}'"
            ))
        };
        let text: String = engines.iter().map(list).collect();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // unshare passes its own death on to the first process inside (--kill-child), and that one's
        // is the end of all others.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let first = format!("/proc/{}", self.init);
        wait_until(|| !Path::new(&first).exists());
    }
}

/// What `selftest --json` said.
#[derive(Debug)]
pub struct Report {
    /// The exit code.
    pub code: i32,
    /// The object.
    pub json: Value,
}

impl Report {
    /// What `runtime` gave for the first platform.
    pub fn result(&self, runtime: &str) -> &Value {
        let results = self.json["platforms"][0]["results"].as_array().unwrap_or_else(|| panic!("{self:#?}"));
        results.iter().find(|result| result["runtime"] == runtime).unwrap_or_else(|| panic!("no {runtime}: {self:#?}"))
    }

    /// The verdict of `runtime`.
    pub fn verdict(&self, runtime: &str) -> &str {
        self.result(runtime)["verdict"].as_str().expect("a verdict")
    }

    /// The names of the runtimes that were used.
    pub fn runtimes(&self) -> Vec<&str> {
        let results = self.json["platforms"][0]["results"].as_array().expect("results");
        results.iter().filter_map(|result| result["runtime"].as_str()).collect()
    }

    /// The reason that `runtime` gave.
    pub fn reason(&self, runtime: &str) -> &str {
        self.result(runtime)["reason"].as_str().expect("a reason")
    }

    /// The ids of the findings.
    pub fn ids(&self) -> Vec<&str> {
        let findings = self.json["findings"].as_array().expect("findings");
        findings.iter().filter_map(|finding| finding["id"].as_str()).collect()
    }
}
