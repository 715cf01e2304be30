// SPDX-License-Identifier: MIT OR Apache-2.0
//! The running service, on a real binfmt_misc that nobody else sees: what it tells systemd and the
//! journal, what it mends and how soon, what it leaves alone, and how it ends.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod basics;
mod daemon;
mod mending;
#[path = "../sandbox/mod.rs"]
mod sandbox;
