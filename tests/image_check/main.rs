// SPDX-License-Identifier: MIT OR Apache-2.0
//! `image check` against real registries and hostile ones, all on the loopback device.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod access;
mod client;
mod here;
mod hostile;
mod kept;
mod readme;
#[path = "../registries/mod.rs"]
mod registries;
#[path = "../sandbox/mod.rs"]
mod sandbox;
mod shapes;
mod stacks;
