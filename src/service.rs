// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service as others see it: whether it is installed and runs, and what it tells of itself.
//!
//! Nothing is started and nobody is asked. The service keeps its state in a file in /run, and holds
//! a lock (`flock(2)`) as long as it lives, which /proc/locks shows to everybody.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

use crate::files::Root;
use crate::layers;
use crate::record;

/// The unit.
pub const UNIT: &str = "qemu-persist.service";
/// The unit that starts the self-test after boot.
pub const SELFTEST_TIMER: &str = "qemu-persist-selftest.timer";
/// Where the service keeps its [`State`].
pub const STATE: &str = "/run/qemu-persist/service.json";
/// The lock that it holds while it runs; mode 0600, since whoever can open it can hold it.
pub const LOCK: &str = "/run/qemu-persist/service.lock";
/// The file that the service writes when a change voided a proof: as long as it is there a path unit
/// starts the self-test, whose unit takes it away first. It holds the reason, for people.
pub const SELFTEST_DUE: &str = "/run/qemu-persist/selftest-due";

/// Directories of units, the most important first (systemd.unit(5)), those of generators left out.
const UNIT_DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

/// One thing that the service changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Repair {
    /// When, in seconds since boot.
    pub boot_seconds: u64,
    /// When, in seconds since the epoch by this host's clock.
    pub unix_time: u64,
    /// The platform or handler that it was for; none for the host as a whole.
    pub subject: Option<String>,
    /// What was done, as `apply` calls it.
    pub action: String,
    /// The entry or file that it was done to; empty for the table as a whole.
    pub handler: String,
    /// Why, in one sentence.
    pub why: String,
}

/// Something that is undone again and again, or cannot be mended, and that the service mends more and
/// more rarely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct BackedOff {
    /// The platform or handler; `host` for the table as a whole.
    pub subject: String,
    /// The file of it that is mended; none where it is the kernel's table.
    #[serde(default)]
    pub file: Option<String>,
    /// How often it was mended, or tried to, in a row.
    pub repairs: u32,
    /// Whether it is the repair that fails, where nothing undoes it.
    #[serde(default)]
    pub failing: bool,
    /// When it is tried next, in seconds since boot.
    pub until: u64,
}

impl BackedOff {
    /// What it is, in words.
    pub fn about(&self) -> String {
        in_words(&self.subject, self.file.as_deref())
    }
}

/// Something that is mended, in words: what the kernel's table has for `subject`, or `file` of it.
pub fn in_words(subject: &str, file: Option<&str>) -> String {
    file.map_or_else(|| subject.to_owned(), |file| format!("{subject}, {file}"))
}

/// A directory that the service cannot watch, so that it sees a change there only when it looks anyway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Unwatched {
    /// Where it is.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
}

impl Unwatched {
    /// All of them in words, with the reason of the first; none for none.
    pub fn in_words(all: &[Self]) -> Option<(String, &str)> {
        let first = all.first()?;
        let others = match all.len() - 1 {
            0 => String::new(),
            1 => " and one other directory".to_owned(),
            many => format!(" and {many} other directories"),
        };
        Some((format!("{}{others}", first.path.display()), &first.reason))
    }
}

/// What the service tells of itself. Of another boot nothing of it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct State {
    /// The boot that it is about.
    pub boot_id: String,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it started, in seconds since boot.
    pub started: u64,
    /// When it last completed a look, in seconds since boot.
    pub last_look: u64,
    /// The same by the clock that stands still while the system is suspended (`CLOCK_MONOTONIC`), which is the one
    /// that the service waits by.
    #[serde(default)]
    pub last_look_awake: Option<u64>,
    /// The longest time between two looks when nothing happens, in seconds.
    pub look_every: u64,
    /// How many changes it made since boot, over restarts.
    pub repairs: u64,
    /// The last changes, the newest last.
    pub recent: Vec<Repair>,
    /// What is undone again and again.
    pub backed_off: Vec<BackedOff>,
    /// What is wrong with a new configuration, while it runs with the one before.
    pub config_error: Option<String>,
    /// What it cannot watch.
    #[serde(default)]
    pub unwatched: Vec<Unwatched>,
    /// Since when a self-test is due, in seconds since boot; none where nothing has to be proven.
    pub selftest_due: Option<u64>,
}

/// How systemd knows the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Installed {
    /// There is no such unit.
    #[default]
    No,
    /// The administrator masked it.
    Masked,
    /// It is there.
    Yes,
}

/// The service, as far as can be seen without asking anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Service {
    /// Whether its unit is installed.
    pub installed: Installed,
    /// Whether the unit that starts the self-test after boot is installed and not masked.
    pub selftest_timer: bool,
    /// Whether a process holds its lock; none where /proc/locks cannot be read, and for an image.
    pub running: Option<bool>,
    /// What it last told on this boot.
    pub state: Option<State>,
    /// For how many seconds it has not looked since, those left out in which the system was suspended.
    pub silent: Option<u64>,
}

/// Seconds since this boot in which the system was not suspended (`CLOCK_MONOTONIC`).
pub fn awake_seconds() -> Option<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).ok()?;
    u64::try_from(now.tv_sec()).ok()
}

impl Service {
    /// Looks at the service of `root`, whose running system is in the boot `boot_id`.
    pub fn read(root: &Root, boot_id: &str) -> Self {
        let state: Option<State> = record::load(root, STATE).filter(|_| root.is_live());
        let state = state.filter(|state| state.boot_id == boot_id);
        let last_look = state.as_ref().and_then(|state| state.last_look_awake);
        Self {
            installed: installed(root, UNIT),
            selftest_timer: installed(root, SELFTEST_TIMER) == Installed::Yes,
            running: root.is_live().then(|| is_locked(root)).flatten(),
            silent: last_look.and_then(|last_look| Some(awake_seconds()?.saturating_sub(last_look))),
            state,
        }
    }
}

fn installed(root: &Root, unit: &str) -> Installed {
    match layers::first(root, &UNIT_DIRECTORIES, unit) {
        Ok(Some(path)) if layers::is_dev_null(root, &path) => Installed::Masked,
        Ok(Some(_)) => Installed::Yes,
        Ok(None) | Err(_) => Installed::No,
    }
}

fn is_locked(root: &Root) -> Option<bool> {
    match root.metadata(Path::new(LOCK)) {
        Ok(file) => {
            let locks = root.read_text(Path::new("/proc/locks")).ok()?;
            Some(holds(&locks, file.dev(), file.ino()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// Whether /proc/locks (proc_locks(5)) shows a `flock` for writing on the file.
fn holds(locks: &str, dev: u64, ino: u64) -> bool {
    let file = format!("{:02x}:{:02x}:{ino}", major(dev), minor(dev));
    locks.lines().any(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        // Those that wait have an arrow in the second place.
        matches!(words[..], [_, "FLOCK", _, "WRITE", _, place, ..] if place == file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_known_by_its_file() {
        let dev = nix::sys::stat::makedev(0, 0x1a);
        let locks = "1: FLOCK  ADVISORY  WRITE 1234 00:1a:567 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 1235 00:1a:568 0 EOF\n\
                     3: POSIX  ADVISORY  WRITE 1236 00:1a:569 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 1237 00:1a:570 0 EOF\n\
                     5: OFDLCK ADVISORY  WRITE -1 00:1a:571 0 0\n";
        assert!(holds(locks, dev, 567));
        for ino in [56, 568, 569, 570, 571] {
            assert!(!holds(locks, dev, ino), "{ino}");
        }
        assert!(!holds(locks, nix::sys::stat::makedev(0, 0x1b), 567));
    }

    #[test]
    fn a_unit_may_be_missing_masked_or_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        assert_eq!(Service::read(&root, ""), Service::default());
        root.write_whole(Path::new("/usr/lib/systemd/system").join(UNIT).as_path(), b"[Unit]\n").unwrap();
        assert_eq!(Service::read(&root, "").installed, Installed::Yes);
        root.create_dir_all(Path::new("/etc/systemd/system")).unwrap();
        let mask = dir.path().join("etc/systemd/system").join(UNIT);
        std::os::unix::fs::symlink("/dev/null", mask).unwrap();
        assert_eq!(Service::read(&root, "").installed, Installed::Masked);
    }
}
