// SPDX-License-Identifier: MIT OR Apache-2.0
//! Proof by execution: the probes, and the containers that they are run in.

pub mod probes;
