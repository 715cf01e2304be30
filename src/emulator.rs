// SPDX-License-Identifier: MIT OR Apache-2.0
//! The package qemu-persist-emulator: QEMU with a patch by which programs that are laid out for pages of 4 KiB start
//! on larger ones.
//!
//! Its programs are static and stand beside those of this program. Whether one is used is judged in
//! [`crate::assess::emulator`].

use std::path::{Path, PathBuf};

use crate::platform::Platform;

/// What it is called.
pub const PACKAGE: &str = "qemu-persist-emulator";

/// Where its programs are.
pub const DIRECTORY: &str = "/usr/libexec/qemu-persist";

/// Where its QEMU for `platform` is, if there is one.
pub fn path_for(platform: &Platform) -> PathBuf {
    Path::new(DIRECTORY).join(format!("qemu-{}", platform.qemu))
}

/// Whether the interpreter `path` is one of the package's, by its name.
pub fn has(path: &Path) -> bool {
    path.parent() == Some(Path::new(DIRECTORY))
}
