// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registries for tests, all on the loopback device: Debian's real docker-registry with content of
//! our own ([`Registry`], [`Content`]), a scripted server that misbehaves ([`Hostile`]), and a
//! network that takes its time ([`Delay`]).
//!
//! No test takes logins, settings or proxies of the machine: clients run by [`run_client`].
//!
//! Every one has a port and a folder of its own and ends when it is dropped; docker-registry ends
//! with the thread that started it, too, however that ends. No root is needed.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "a module of several test programs, each of which uses a part of it"
)]

mod behaviours;
mod certificates;
mod content;
mod delay;
mod hostile;
mod known;
mod request;
mod server;
mod serving;
mod tokens;

use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

pub use certificates::Certificates;
pub use content::{ARTIFACT_TYPE, CHART_CONFIG, Content, Flavour, Platform};
pub use delay::Delay;
pub use hostile::{Hostile, Reply};
pub use known::{CURL, DOCKER, SKOPEO, docker_platforms, newer_docker, run_client, skopeo_raw};
pub use request::Request;
pub use server::{PROGRAM, Registry};
pub use tokens::{SERVICE, Tokens};

/// What this needs of a machine: its packages, or why a test is skipped.
pub fn missing(programs: &[&str]) -> Option<String> {
    let missing = programs.iter().find(|program| !Path::new(program).exists())?;
    Some(format!("{missing} is not installed"))
}

/// Goes on if these programs are installed, or ends the test with the reason on standard error.
#[macro_export]
macro_rules! needs {
    ($($program:expr),* $(,)?) => {
        if let Some(reason) = $crate::registries::missing(&[$($program),*]) {
            eprintln!("skipped: {reason}");
            return;
        }
    };
}

/// The digest of `content`, with its algorithm.
pub fn digest(content: &[u8]) -> String {
    let bytes = Sha256::digest(content);
    bytes.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// Runs a program that has to succeed on `input`, and gives what it wrote.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
    // None of ours writes before it has read everything that does not fit into a pipe.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
