// SPDX-License-Identifier: MIT OR Apache-2.0
//! The permit: where the unit lets the service write fragments.
//!
//! Under ProtectSystem=strict and ReadWritePaths= (systemd.exec(5)) everything is read-only but mounts
//! that systemd makes when it starts the service. One of them is gone as soon as somebody deletes or
//! renames the directory below it, and one that is made anew is as read-only as what it lies in:
//! seen on Linux 6.18 with the same mounts. Nothing but another start makes a new one.

use std::path::Path;

use crate::binfmt::fragment;
use crate::files::Root;
use crate::host::mounts::{self, MOUNTINFO};

/// The directory of fragments.
pub(super) const DIRECTORY: &str = fragment::DIRECTORIES[0];

/// The directory of fragments, as this process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit {
    exists: bool,
    /// Whether it is a mount of its own.
    bound: bool,
    read_only: bool,
}

impl Permit {
    /// What it is now.
    pub(super) fn read(root: &Root) -> Self {
        let directory = Path::new(DIRECTORY);
        Self::of(&root.read_text(Path::new(MOUNTINFO)).unwrap_or_default(), root.exists(directory))
    }

    fn of(mountinfo: &str, exists: bool) -> Self {
        let directory = Path::new(DIRECTORY);
        let mounts = mounts::parse(mountinfo);
        let holder = mounts::holding(&mounts, directory);
        let bound = holder.is_some_and(|mount| mount.point == directory);
        Self { exists, bound, read_only: holder.is_some_and(|mount| mount.read_only) }
    }

    /// Whether another start would give back what there was at the start, or give what there could not
    /// be then. After it this is so no more, whatever systemd does.
    pub(super) fn is_lost(self, now: Self) -> bool {
        let had = self.bound && !self.read_only;
        now.exists && now.read_only && !now.bound && (had || !self.exists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_no_mount() {
        let line = |point: &str, options: &str| format!("1 0 8:1 / {point} {options} - ext4 /dev/sda1 rw\n");
        let confined = line("/", "ro,relatime");
        let permitted = Permit::of(&format!("{confined}{}", line("/etc/binfmt.d", "rw")), true);
        let (anew, missing) = (Permit::of(&confined, true), Permit::of(&confined, false));
        assert!(permitted.is_lost(anew) && missing.is_lost(anew));
        // It is not there, or as it was.
        assert!(!permitted.is_lost(missing) && !permitted.is_lost(permitted) && !missing.is_lost(missing));
        // No start helps where it is read-only for everybody, or was from the beginning.
        assert!(!anew.is_lost(anew));
        let made_read_only = Permit::of(&format!("{confined}{}", line("/etc/binfmt.d", "ro")), true);
        assert!(!permitted.is_lost(made_read_only) && !made_read_only.is_lost(anew));
        // Nor anything where nothing is confined.
        let free = Permit::of(&line("/", "rw"), true);
        assert!(!free.is_lost(free) && !permitted.is_lost(free) && !free.is_lost(anew));
    }
}
