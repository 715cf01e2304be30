// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether an image runs on a host, before it is pulled: natively, under emulation, or not.

pub mod alternatives;
pub mod check;
pub mod host;
pub mod list;
pub mod profiles;
pub mod verdict;
