// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lock under which the system is changed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use thiserror::Error;

use crate::binfmt::fragment;
use crate::config::DROP_IN_DIRECTORIES;
use crate::files::Root;

/// The lock that a run on the running system holds.
const LOCK: &str = "/run/qemu-persist/lock";
/// What a run on an image locks: its directory, so that nothing is left behind in it.
const IMAGE_LOCK: &str = "/";
/// How long one run waits for another.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a run could not begin.
#[derive(Debug, Error)]
pub enum LockError {
    /// The lock's file cannot be made or opened.
    #[error("{path}: {error}")]
    File {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Another run holds it.
    #[error(
        "another run of qemu-persist has been changing handlers for {waited} (lock {1}): is it stuck?",
        waited = humantime::format_duration(*.0)
    )]
    Held(Duration, PathBuf),
}

/// Held while the system is changed; released when dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held until it is dropped")] Flock<File>);

impl Lock {
    /// Waits until no other run changes `root`, and clears away what one has left that was interrupted while it wrote.
    ///
    /// # Errors
    /// Where the lock cannot be opened, or another run holds it for a minute.
    pub fn take(root: &Root) -> Result<Self, LockError> {
        Self::take_within(root, PATIENCE)
    }

    /// As [`Lock::take`], with another patience; none gives up at once.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn take_within(root: &Root, patience: Duration) -> Result<Self, LockError> {
        let path = Path::new(if root.is_live() { LOCK } else { IMAGE_LOCK });
        let fail = |error| LockError::File { path: root.outside(path), error };
        let mut file = if root.is_live() {
            root.create_dir_all(path.parent().unwrap_or(path)).map_err(fail)?;
            // Not readable by others, since whoever can open it can hold it.
            let mut open = OpenOptions::new();
            open.write(true).create(true).truncate(false).mode(0o600);
            // A FIFO in its place is to be an error, and no wait without end.
            open.custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(fail)?
        } else {
            root.open(path).map_err(fail)?
        };
        let start = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    for dir in [fragment::DIRECTORIES[0], DROP_IN_DIRECTORIES[0]] {
                        root.remove_interrupted(Path::new(dir));
                    }
                    return Ok(Self(lock));
                }
                Err((again, Errno::EWOULDBLOCK)) if start.elapsed() < patience => file = again,
                Err((_, Errno::EWOULDBLOCK)) => return Err(LockError::Held(patience, root.outside(path))),
                Err((_, errno)) => return Err(fail(errno.into())),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_half_written_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        let kept = ["/etc/binfmt.d/a.conf", "/etc/binfmt.d/.other", "/etc/qemu-persist/config.toml.d/50-mine.toml"];
        let left = ["/etc/binfmt.d/.qemu-persist-a1B2c3", "/etc/qemu-persist/config.toml.d/.qemu-persist-x"];
        for path in kept.iter().chain(&left) {
            root.write_whole(Path::new(path), b"").unwrap();
        }
        drop(Lock::take(&root).unwrap());
        assert!(kept.iter().all(|path| root.metadata(Path::new(path)).is_ok()));
        assert!(left.iter().all(|path| root.metadata(Path::new(path)).is_err()));
    }

    #[test]
    fn a_lock_that_stays_held_is_waited_for_and_then_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        let held = Lock::take(&root).unwrap();
        let (start, patience) = (Instant::now(), Duration::from_millis(300));
        let error = Lock::take_within(&root, patience).unwrap_err();
        assert!((patience..patience * 10).contains(&start.elapsed()), "{:?}", start.elapsed());
        let place = dir.path().canonicalize().unwrap();
        let told = format!("has been changing handlers for 300ms (lock {}): is it stuck?", place.join("").display());
        assert!(error.to_string().ends_with(&told), "{error}");
        // One that is let go meanwhile is had at once.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                drop(held);
            });
            let start = Instant::now();
            Lock::take_within(&root, Duration::from_secs(60)).unwrap();
            assert!(start.elapsed() < Duration::from_secs(30));
        });
        assert_eq!(humantime::format_duration(PATIENCE).to_string(), "1m");
    }
}
