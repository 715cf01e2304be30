// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is remembered: what was registered on this boot, what was proven, and whether anything is
//! wanted at all.
//!
//! Three files, each written whole: `/run/qemu-persist/registrations.json` dies with the kernel's
//! table, `/var/lib/qemu-persist/proofs.json` holds the last proof of each platform, and
//! `/var/lib/qemu-persist/removed` says that `remove` was the last word.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::binfmt::rule::Rule;
use crate::files::Root;

/// Where the registrations of this boot are kept.
pub const REGISTRATIONS: &str = "/run/qemu-persist/registrations.json";
/// Where the proofs are kept.
pub const PROOFS: &str = "/var/lib/qemu-persist/proofs.json";
/// The file that says that nothing is wanted, until `apply` or `enable`.
pub const REMOVED: &str = "/var/lib/qemu-persist/removed";

/// Which file a path or an open file was, at one time: compared to tell whether the interpreter
/// that the kernel holds is the one on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct FileIdentity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Time of last modification, in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Time of last change of what is told here or of the content, in nanoseconds since the epoch; 0 where it was not
    /// noted. A file that is installed anew has another one, whatever else agrees.
    #[serde(default)]
    pub ctime_ns: i64,
    /// The linker's build id in hexadecimal, where the file has one.
    pub build_id: Option<String>,
}

impl FileIdentity {
    /// The identity of the file that `metadata` is of.
    pub fn new(metadata: &std::fs::Metadata, build_id: Option<String>) -> Self {
        let in_ns = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime_ns: in_ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: in_ns(metadata.ctime(), metadata.ctime_nsec()),
            build_id,
        }
    }

    /// Whether both are the same file with the same content. A build id that is known of one only
    /// says nothing.
    pub fn is_same(&self, other: &Self) -> bool {
        let ids_agree = match (&self.build_id, &other.build_id) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        ids_agree
            && (self.dev, self.ino, self.size, self.mtime_ns) == (other.dev, other.ino, other.size, other.mtime_ns)
    }
}

/// Rules as they are written to `register`.
mod rule_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::binfmt::rule::Rule;

    pub(super) fn serialize<S: Serializer>(rule: &Rule, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(rule)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
        Rule::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// As `rule_text`, where there may be none.
mod optional_rule_text {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    use crate::binfmt::rule::Rule;

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(super) fn serialize<S: Serializer>(rule: &Option<Box<Rule>>, serializer: S) -> Result<S::Ok, S::Error> {
        rule.as_ref().map(ToString::to_string).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Rule>>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| Rule::parse(&text).map(Box::new)).transpose().map_err(D::Error::custom)
    }
}

/// One handler that this program registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The rule, as it was written.
    #[serde(with = "rule_text")]
    pub rule: Rule,
    /// The number of the entry's inode, by which it is known again; 0 while it is being registered.
    pub inode: u64,
    /// The interpreter that the kernel opened then, for a rule with `F`.
    pub interpreter: Option<FileIdentity>,
    /// The rule of that name that it replaced and that `remove` gives back.
    #[serde(with = "optional_rule_text", default)]
    pub displaced: Option<Box<Rule>>,
}

/// The handlers that this program registered on this boot, by entry name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registrations {
    /// The boot that it is about; of another boot nothing of it holds.
    pub boot_id: String,
    /// The handlers.
    pub entries: BTreeMap<String, Registration>,
    /// Handlers of others that were there, by their inodes, when a fragment of ours was written
    /// that says the same: they stay theirs.
    #[serde(default)]
    pub adopted: BTreeMap<String, u64>,
    /// Handlers of others with `F` that the service has seen, as they were then.
    #[serde(default)]
    pub seen: BTreeMap<String, Seen>,
}

/// What was on disk when a handler that somebody else registered was first seen. Whatever the kernel
/// holds for it, it is no file that came there later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The number of the entry's inode.
    pub inode: u64,
    /// The file that its interpreter's path led to.
    pub interpreter: FileIdentity,
}

/// One run of the self-test for one platform by one runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeResult {
    /// `builtin`, `docker`, `podman`, `nerdctl` or `buildkit`.
    pub runtime: String,
    /// Whether the container answered what its platform must, through the expected interpreter.
    pub passed: bool,
    /// What went wrong, in one sentence; empty for a pass.
    pub reason: String,
    /// What of it is broken although it passed: some programs will not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenPart>,
    /// The names of the parts that were seen to work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub working: Vec<String>,
}

/// A part of what programs rely on that was found to be broken (see [`crate::parts`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenPart {
    /// Its name.
    pub part: String,
    /// In what it showed; may be empty.
    pub detail: String,
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
    /// The rule of the entry that ran it, as it would be written to `register`.
    pub entry: String,
    /// The number of the entry's inode, another one after every registration.
    pub entry_inode: u64,
    /// The interpreter that was seen running it (`/proc/PID/exe`), where it could be seen.
    pub interpreter: Option<FileIdentity>,
    /// What each runtime answered.
    pub results: Vec<RuntimeResult>,
    /// That a self-test with QEMU of qemu-persist-emulator failed, this one or one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejection>,
}

/// That a self-test with QEMU of the package qemu-persist-emulator failed, so that the distribution's is used again. It
/// stands beside the proofs that follow, which are of the distribution's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The kernel that it ran on (`uname -r`).
    pub kernel_release: String,
    /// The file that failed.
    pub interpreter: FileIdentity,
    /// In what that showed, in a few words.
    pub reason: String,
}

impl Rejection {
    /// Whether it is about `file` on a kernel of `release`. Numbers of devices may be others after a reboot, so they do
    /// not count. A package that is upgraded or installed anew brings another file, which may well be in the place on
    /// the disk that the one before it had: the time of its last change tells them apart.
    pub fn is_of(&self, release: &str, file: &FileIdentity) -> bool {
        let known = FileIdentity { dev: file.dev, ..self.interpreter.clone() };
        self.kernel_release == release && known.is_same(file) && known.ctime_ns == file.ctime_ns
    }
}

/// The proofs file: the last proof of each platform, by its name (`linux/amd64`).
pub type Proofs = BTreeMap<String, Proof>;

/// Which file a record is now; none where there is none.
pub fn identity(root: &Root, path: &str) -> Option<FileIdentity> {
    root.metadata(Path::new(path)).ok().map(|metadata| FileIdentity::new(&metadata, None))
}

/// Reads a record. None where it is missing, cannot be understood, or could have been written by
/// anyone but root: such a record is no evidence.
pub fn load<T: DeserializeOwned>(root: &Root, path: &str) -> Option<T> {
    let path = Path::new(path);
    let metadata = root.metadata(path).ok()?;
    let roots_own = metadata.uid() == 0 && metadata.mode() & 0o022 == 0;
    if root.is_live() && !roots_own {
        return None;
    }
    serde_json::from_slice(&root.read(path).ok()?).ok()
}

/// Writes a record whole.
///
/// # Errors
/// Those of [`Root::write_whole`].
pub fn save(root: &Root, path: &str, record: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    root.write_whole(Path::new(path), &text)
}

/// Seconds since this boot, suspended time included (`CLOCK_BOOTTIME`).
pub fn boot_seconds() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.ok().and_then(|now| u64::try_from(now.tv_sec()).ok()).unwrap_or(0)
}
