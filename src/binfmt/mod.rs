// SPDX-License-Identifier: MIT OR Apache-2.0
//! binfmt_misc: what we want of it, what the kernel shows, and the files that restore it at boot.

pub mod database;
pub mod entry;
pub mod fragment;
pub mod registry;
pub mod rule;
