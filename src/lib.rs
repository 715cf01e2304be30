// SPDX-License-Identifier: MIT OR Apache-2.0
//! Foreign-architecture containers that work, and keep working.
//!
//! One way that data flows: everything that is read is read once, into a [`snapshot::Snapshot`];
//! [`assess`] is a pure function of it that yields findings and the actions that would mend them;
//! [`apply`] carries actions out, and [`report`] shows what was found. Every verb, the service and
//! the tests go through these steps.

pub mod apply;
pub mod assess;
pub mod binfmt;
#[cfg(feature = "client")]
pub mod causes;
#[cfg(feature = "client")]
pub mod cli;
#[cfg(feature = "client")]
pub mod compose;
pub mod config;
pub mod daemon;
pub mod emulator;
pub mod files;
pub mod finding;
pub mod host;
#[cfg(feature = "client")]
pub mod image;
pub mod layers;
pub mod logging;
pub mod messages;
#[cfg(feature = "client")]
pub mod oci;
pub mod parts;
#[cfg(feature = "client")]
pub mod pi;
pub mod platform;
pub mod qemu;
pub mod record;
#[cfg(feature = "client")]
pub mod registry;
pub mod report;
#[cfg(feature = "client")]
pub mod selftest;
pub mod service;
pub mod snapshot;
pub mod target;
