// SPDX-License-Identifier: MIT OR Apache-2.0
//! Somebody who asks: the program with a home of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A user with an empty home.
pub(crate) struct Client {
    home: TempDir,
}

/// What the program wrote, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    /// A path below the home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file below the home.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Keeps a login as `docker login` does.
    pub(crate) fn log_in(&self, registry: &str, user: &str, password: &str) {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.write(".docker/config.json", &json!({ "auths": { registry: { "auth": auth } } }).to_string());
    }

    /// Makes a credential helper `test` (docs.docker.com, "Credential helper protocol") of a script for sh.
    pub(crate) fn helper(&self, script: &str) {
        self.write("bin/docker-credential-test", &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(self.path("bin/docker-credential-test"), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Trusts the authority whose certificate is in `file`, for `host`.
    pub(crate) fn trust(&self, host: &str, file: &Path) {
        let text = std::fs::read_to_string(file).unwrap();
        self.write(&format!(".config/containers/certs.d/{host}/ca.crt"), &text);
    }

    /// Has names of registries lead to others.
    pub(crate) fn lead(&self, places: &[(&str, &str)]) {
        let entry = |(prefix, location): &(&str, &str)| {
            format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\n")
        };
        self.write(".config/containers/registries.conf", &places.iter().map(entry).collect::<String>());
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qemu-persist"));
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        command.args(arguments).env_clear().env("HOME", self.home.path()).env("PATH", path).stdin(Stdio::null());
        command
    }

    /// Runs the program.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        told(self.command(arguments).output().unwrap())
    }

    /// Runs the program in `folder`, where neither docker nor Docker Compose is found.
    pub(crate) fn run_in(&self, folder: &Path, arguments: &[&str]) -> Ran {
        told(self.command(arguments).env("PATH", self.path("none")).current_dir(folder).output().unwrap())
    }

    /// Checks images for a Raspberry Pi 4, and gives the exit code and what is told.
    pub(crate) fn check(&self, arguments: &[&str]) -> (i32, Value) {
        let all = [&["image", "check", "--json", "--for", "pi4"], arguments].concat();
        let ran = self.run(&all);
        let told = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        (ran.code, told)
    }

    /// Checks one image, and gives its row.
    pub(crate) fn check_one(&self, arguments: &[&str]) -> Value {
        self.check(arguments).1["images"][0].clone()
    }

    /// As [`Client::check_one`], ended after `limit`, with the most memory that was resident, in KiB.
    pub(crate) fn check_bounded(&self, image: &str, limit: Duration) -> (Value, u64) {
        let mut command = Command::new("/usr/bin/timeout");
        let seconds = limit.as_secs().to_string();
        let inner = self.command(&["image", "check", "--json", "--for", "pi4", "--timeout", "3", image]);
        // A shell tells what its children needed at most only by GNU time, which need not be there; the kernel tells it of
        // a process that waits for its own end.
        command.arg(&seconds).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        let before = peak();
        let ran = told(command.output().unwrap());
        let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{image}: {e}: {ran:?}"));
        (told["images"][0].clone(), peak().max(before))
    }
}

/// The most memory that any child of this process had resident, in KiB (getrusage(2)).
fn peak() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    u64::try_from(usage.max_rss()).unwrap()
}

fn told(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
