// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images as registries have them: what a manifest says of the platforms that an image has.

pub mod manifest;
pub mod platform;
pub mod reference;
