// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages qemu-persist-emulator that were built here.

use std::path::{Path, PathBuf};

use qemu_persist::emulator::PACKAGE;

/// Those for `arch`, as Debian calls it.
pub(crate) fn packages(arch: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian");
    let files = std::fs::read_dir(folder).into_iter().flatten().map(|file| file.expect("a file").path());
    let (start, end) = (format!("{PACKAGE}_"), format!("_{arch}.deb"));
    let is_one = |file: &PathBuf| {
        file.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(&start) && name.ends_with(&end))
    };
    files.filter(is_one).collect()
}
