// SPDX-License-Identifier: MIT OR Apache-2.0
//! What known clients, curl, skopeo and docker, make of the registries of the tests: that those are what they say.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod delay;
mod hostile;
mod real;
#[path = "../registries/mod.rs"]
mod registries;

use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

fn succeed(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
