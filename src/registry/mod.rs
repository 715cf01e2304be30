// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registries: which platforms an image has, asked as engines ask, without pulling it.
//!
//! Only what is needed for that is read, by the protocol of the OCI (distribution-spec): the manifest of a tag or digest,
//! and the configuration of an image that has but one. What is read is bounded in size and time, checked against its
//! digest, and kept by it.

mod access;
pub mod cache;
mod certificates;
mod credentials;
mod gate;
mod http;
mod look;
pub mod settings;
mod tokens;
pub mod trouble;

pub use access::Quota;
pub use gate::close;
pub use look::{Image, Registries, Source};
