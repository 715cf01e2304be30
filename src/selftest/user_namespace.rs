// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user namespace that a container runs in: whether it can have handlers of its own.
//!
//! From Linux 6.7 on every user namespace can mount a binfmt_misc of its own, and the kernel asks the
//! nearest one above a program alone (`load_binfmt_misc()`, fs/binfmt_misc.c): once a namespace has one, the
//! host's handlers are out of sight in it and below it, until it ends, whether or not it is still mounted. A
//! container that registers handlers does so to its rootless engine (tonistiigi/binfmt #261).

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use super::sight;
use crate::host::mounts::{self, MOUNTINFO, Mount};

/// A user namespace, which is held as long as this is.
#[derive(Debug)]
pub struct UserNamespace {
    file: File,
    number: u64,
    /// Who is root in it, by the number outside.
    pub root: Option<u32>,
}

/// A process in a user namespace that sees another binfmt_misc than we do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, as the kernel has it (`/proc/PID/comm`).
    pub name: String,
}

impl UserNamespace {
    /// That of process `pid`, where it is another than ours.
    ///
    /// # Errors
    /// Those of reading `/proc/PID/ns/user` (namespaces(7)) and `/proc/PID/uid_map`.
    pub fn other(pid: u32) -> io::Result<Option<Self>> {
        let file = File::open(format!("/proc/{pid}/ns/user"))?;
        let number = file.metadata()?.ino();
        let own = fs::metadata("/proc/self/ns/user")?.ino();
        let root = root_in(&fs::read_to_string(format!("/proc/{pid}/uid_map"))?);
        Ok((number != own).then_some(Self { file, number, root }))
    }

    /// Where a process that this one starts can open it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// A process in it with a binfmt_misc that is not mounted here: the namespace's own, since there is but one
    /// for each. None where none is seen, which says little: it need not be mounted any more.
    pub fn holder_of_table(&self) -> Option<Holder> {
        let own = tables(&fs::read_to_string(MOUNTINFO).ok()?);
        let is_inside = |pid: &u32| fs::metadata(format!("/proc/{pid}/ns/user")).is_ok_and(|m| m.ino() == self.number);
        let sees_another = |pid: &u32| {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            tables(&mounts).iter().any(|device| !own.contains(device))
        };
        let pid = sight::processes().into_iter().find(|pid| is_inside(pid) && sees_another(pid))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(Holder { pid, name: name.trim().to_owned() })
    }
}

/// Who is root by a uid_map (user_namespaces(7)).
fn root_in(map: &str) -> Option<u32> {
    let mut lines = map.lines().map(|line| line.split_whitespace().map(|number| number.parse().ok()));
    lines.find_map(|mut line| (line.next()? == Some(0)).then(|| line.next()?).flatten())
}

/// The devices of the tables that are mounted: each instance has its own.
fn tables(mountinfo: &str) -> Vec<String> {
    let mounts = mounts::parse(mountinfo).into_iter();
    mounts.filter(|mount: &Mount| mount.kind == "binfmt_misc").map(|mount| mount.device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_told_apart_by_their_devices() {
        let mounts = "30 1 0:20 / /proc rw - proc proc rw\n31 30 0:33 / /proc/sys/fs/binfmt_misc rw - autofs a rw\n\
                      32 31 0:40 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n\
                      33 31 0:51 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n";
        assert_eq!(tables(mounts), ["0:40", "0:51"]);
    }

    #[test]
    fn who_is_root_is_read() {
        let rows = [("         0       1000          1\n         1     100000      65536\n", Some(1000)), ("", None)];
        for (map, root) in rows.into_iter().chain([("0 0 4294967295\n", Some(0)), ("1 100000 5\n", None)]) {
            assert_eq!(root_in(map), root, "{map}");
        }
    }

    #[test]
    fn our_own_is_no_other() {
        assert!(UserNamespace::other(std::process::id()).unwrap().is_none());
        assert!(UserNamespace::other(0).is_err());
    }
}
