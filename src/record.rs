// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is remembered: what was registered on this boot, what was proven, and whether anything is
//! wanted at all.
//!
//! Three files, each written whole: `/run/qemu-persist/registrations.json` dies with the kernel's
//! table, `/var/lib/qemu-persist/proofs.json` holds the last proof of each platform, and
//! `/var/lib/qemu-persist/removed` says that `remove` was the last word.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which file a path or an open file was, at one time: compared to tell whether the interpreter
/// that the kernel holds is the one on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Time of last modification, in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// The linker's build id in hexadecimal, where the file has one.
    pub build_id: Option<String>,
}

impl FileIdentity {
    /// The identity of the file that `metadata` is of.
    pub fn new(metadata: &std::fs::Metadata, build_id: Option<String>) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime_ns: metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec()),
            build_id,
        }
    }
}

/// One run of the self-test for one platform by one runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeResult {
    /// `builtin`, `docker`, `podman` or `nerdctl`.
    pub runtime: String,
    /// Whether the container answered what its platform must, through the expected interpreter.
    pub passed: bool,
    /// What went wrong, in one sentence; empty for a pass.
    pub reason: String,
}

/// What the self-test last found out about one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The boot on which it ran.
    pub boot_id: String,
    /// The kernel that it ran on (`uname -r`).
    pub kernel_release: String,
    /// When, in seconds since the epoch by this host's clock.
    pub unix_time: u64,
    /// When, in seconds of the boot's own clock (`CLOCK_BOOTTIME`), which nobody sets.
    pub boot_seconds: u64,
    /// The entry that ran it, as the kernel showed it: name, pattern, interpreter, flags.
    pub entry: String,
    /// The number of the entry's inode, another one after every registration.
    pub entry_inode: u64,
    /// The interpreter that was seen running it (`/proc/PID/exe`), where it could be seen.
    pub interpreter: Option<FileIdentity>,
    /// What each runtime answered.
    pub results: Vec<RuntimeResult>,
}

/// The proofs file: the last proof of each platform, by its name (`linux/amd64`).
pub type Proofs = BTreeMap<String, Proof>;

/// Where the proofs are kept.
pub const PROOFS: &str = "/var/lib/qemu-persist/proofs.json";

/// The path of a file that records are kept in.
pub fn proofs_path() -> PathBuf {
    PathBuf::from(PROOFS)
}
