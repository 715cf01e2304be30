// SPDX-License-Identifier: MIT OR Apache-2.0
//! What known clients, curl, skopeo and docker, make of the registries of the tests: that those are what they say.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod delay;
mod hostile;
mod real;
#[path = "../registries/mod.rs"]
mod registries;

use std::time::{Duration, Instant};

use registries::run_client;

fn succeed(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = run_client(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `done` becomes true, for a minute at the most.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
