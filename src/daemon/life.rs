// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service's life: the lock that shows it, and why it ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::permit;
use crate::apply::LockError;
use crate::config::ConfigError;
use crate::files::Root;
use crate::service::LOCK;

/// Why the service cannot go on.
#[derive(Debug, Error)]
pub(super) enum Stop {
    /// The configuration is broken at the start.
    #[error(transparent)]
    Config(ConfigError),
    /// There is no table to watch.
    #[error(
        "binfmt_misc is not mounted at /proc/sys/fs/binfmt_misc, so no handler works: start \
         proc-sys-fs-binfmt_misc.mount, or see whether the kernel has binfmt_misc (`qemu-persist host`)"
    )]
    NotMounted,
    /// The unit's mount is gone.
    #[error(
        "{} was made anew, and this process may not write there: it ends, to be started again with what it may",
        permit::DIRECTORY
    )]
    Unpermitted,
    /// Another one runs.
    #[error("another qemu-persistd holds {LOCK}")]
    Running,
    /// The lock's file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Something of the system's that is needed.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Takes the lock that shows that the service lives.
pub(super) fn come_alive(root: &Root) -> Result<Flock<File>, Stop> {
    let path = Path::new(LOCK);
    root.create_dir_all(path.parent().unwrap_or(path))?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|e| io::Error::new(e.kind(), format!("{LOCK}: {e}")))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Stop::Running,
        other => Stop::System(other.into()),
    })
}
