// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every state of the kernel's table and of the files beside it, on a real binfmt_misc: each is
//! found under its own id, with the right exit code, and advice that mends it when it is followed.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says aloud why it is skipped"
)]

#[path = "../sandbox/mod.rs"]
#[macro_use]
mod sandbox;

mod advice;
mod emulator;
mod exchange;
mod refusals;
mod states;
mod verbs;

use sandbox::{QEMU_P, Ran, Sandbox, rule};

fn good(host: &Sandbox) {
    host.register(&rule("qemu-aarch64", QEMU_P, "OPF"));
}

fn own_machine() -> &'static str {
    if cfg!(target_arch = "aarch64") { r"\xb7" } else { r"\x3e" }
}

/// A configuration that wants no platform, but a handler of its own for arm64.
fn handler_config(interpreter: &str) -> String {
    let rule = rule("qemu-aarch64", interpreter, "OF");
    let fields: Vec<_> = rule.split(':').collect();
    format!(
        "platforms = []\n[[handler]]\nname = '{}'\nmagic = '{}'\nmask = '{}'\ninterpreter = '{}'\nflags = '{}'\n",
        fields[1], fields[4], fields[5], fields[6], fields[7]
    )
}

/// The actions of the changes that a verb with `--json` tells.
fn actions(told: &serde_json::Value) -> Vec<&str> {
    told["changes"].as_array().expect("changes").iter().filter_map(|change| change["action"].as_str()).collect()
}

/// What was written, without the ends of lines.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}
