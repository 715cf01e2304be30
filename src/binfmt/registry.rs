// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry: binfmt_misc as it is mounted, read into a [`Table`] and written to.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::entry::Entry;
use super::rule::Rule;
use crate::files::text_of;

/// Where binfmt_misc is mounted (Documentation/admin-guide/binfmt-misc.rst).
pub const DIRECTORY: &str = "/proc/sys/fs/binfmt_misc";

/// The file system's magic number (`BINFMTFS_MAGIC`, include/uapi/linux/magic.h).
pub(crate) const BINFMTFS: FsType = FsType(0x4249_4e4d);

/// The kernel's table of handlers at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Whether handlers are used at all (`status`); each entry has its own switch besides.
    pub enabled: bool,
    /// Whether this process could write to it; a read-only mount says no even to root.
    pub writable: bool,
    /// Whether it is mounted read-only, so that nobody here can write.
    pub read_only: bool,
    /// The handlers in the order in which the kernel tries them: the newest first.
    pub entries: Vec<Entry>,
    /// Entries whose text could not be understood, by name, with the reason.
    pub unreadable: Vec<(String, String)>,
}

impl Table {
    /// The handler that the kernel would choose for a program that starts with `head`, were the
    /// table on: the newest enabled one that matches.
    pub fn winner(&self, head: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.enabled && entry.matches(head))
    }

    /// The entry called `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

/// The mounted file system, or the place where it would be mounted.
#[derive(Debug)]
pub struct Registry {
    directory: PathBuf,
    register: OnceCell<File>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { directory: PathBuf::from(DIRECTORY), register: OnceCell::new() }
    }
}

/// A file of the kernel's, read whole. The kernel gives all of it that there is room for at once, so
/// less than that is the end (`simple_read_from_buffer()`, fs/libfs.c).
fn read_entry(path: &Path) -> io::Result<(String, File)> {
    let mut file = File::open(path)?;
    let mut text = [0; 8192];
    let length = file.read(&mut text)?;
    Ok((text_of(text[..length].to_vec()), file))
}

/// Whether an error of opening the directory says that nothing is mounted there. systemd's
/// automount gives `ENODEV` where mounting failed, as it does without the kernel's module, and
/// `EHOSTDOWN` where it is being stopped (src/core/automount.c).
fn means_not_mounted(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ENODEV | Errno::EHOSTDOWN))
}

/// Whether `entry` is what the kernel has to show after `rule` was written.
///
/// # Errors
/// What it shows instead.
pub fn confirm<'e>(rule: &Rule, entry: Option<&'e Entry>) -> io::Result<&'e Entry> {
    match entry {
        Some(entry) if entry.does_what(rule) && entry.enabled => Ok(entry),
        Some(entry) => Err(io::Error::other(format!("the kernel shows another rule than was written: {entry:?}"))),
        None => Err(io::Error::other("it vanished at once: somebody else is changing the handlers")),
    }
}

impl Registry {
    /// Reads the table. None where the file system is not mounted here. Behind systemd's automount
    /// this mounts it.
    ///
    /// # Errors
    /// Those of `open(2)` and `read(2)`; an entry that vanishes meanwhile is none.
    pub fn read(&self) -> io::Result<Option<Table>> {
        let Some(read_only) = self.is_mounted()? else { return Ok(None) };
        let mut table =
            Table { enabled: true, writable: false, read_only, entries: Vec::new(), unreadable: Vec::new() };
        table.writable = !read_only && access(&self.directory.join("register"), AccessFlags::W_OK).is_ok();
        // The directory lists the newest first, which is the order of matching.
        for file in std::fs::read_dir(&self.directory)? {
            let file = file?;
            let (file, inode) = (file.file_name(), file.ino());
            // The kernel takes names that are no UTF-8: the file is read by its own.
            let name = file.to_string_lossy().into_owned();
            if name == "register" {
                continue;
            }
            let text = match read_entry(&self.directory.join(&file)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?.0,
            };
            if name == "status" {
                table.enabled = text.trim_end() == "enabled";
                continue;
            }
            match Entry::parse(&name, &text) {
                Ok(entry) => table.entries.push(Entry { inode, ..entry }),
                Err(e) => table.unreadable.push((name, e.to_string())),
            }
        }
        Ok(Some(table))
    }

    /// Whether it is mounted, and then whether read-only.
    fn is_mounted(&self) -> io::Result<Option<bool>> {
        let directory = match File::open(&self.directory) {
            Ok(directory) => directory,
            Err(e) if means_not_mounted(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        if fstatfs(&directory)?.filesystem_type() != BINFMTFS {
            return Ok(None);
        }
        Ok(Some(fstatvfs(&directory)?.flags().contains(FsFlags::ST_RDONLY)))
    }

    /// Reads one entry. None where there is none of that name.
    ///
    /// # Errors
    /// Those of `open(2)` and `read(2)`, and a text that is none of an entry.
    pub fn entry(&self, name: &str) -> io::Result<Option<Entry>> {
        match read_entry(&self.directory.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok((text, file)) => {
                let entry = Entry::parse(name, &text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                Ok(Some(Entry { inode: file.metadata()?.ino(), ..entry }))
            }
        }
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let path = self.directory.join(file);
        OpenOptions::new().write(true).open(&path)?.write_all(text.as_bytes())
    }

    /// Registers `rule` and reads it back.
    ///
    /// # Errors
    /// Those of `write(2)`: `EEXIST` for a name that is taken, `EINVAL` for what the kernel does not
    /// understand, `ENOENT` where `F` finds no interpreter; and an entry that reads otherwise than
    /// it was written.
    pub fn register(&self, rule: &Rule) -> io::Result<Entry> {
        self.write_rule(rule)?;
        let entry = self.entry(&rule.name)?;
        confirm(rule, entry.as_ref()).cloned()
    }

    /// Registers `rule`, which is to be [confirmed](confirm) later. Every write to `register` is one
    /// registration, so it is opened once.
    ///
    /// # Errors
    /// As [`Registry::register`], but for what reading back shows.
    pub fn write_rule(&self, rule: &Rule) -> io::Result<()> {
        let mut register = if let Some(register) = self.register.get() {
            register
        } else {
            let register = OpenOptions::new().write(true).open(self.directory.join("register"))?;
            self.register.get_or_init(|| register)
        };
        register.write_all(rule.to_string().as_bytes())
    }

    /// Removes the entry `name`; one that is gone already is no error.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match self.write(name, "-1") {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Enables the entry `name`.
    ///
    /// # Errors
    /// Those of `write(2)`; `ENOENT` where there is none.
    pub fn enable(&self, name: &str) -> io::Result<()> {
        self.write(name, "1")
    }

    /// Disables the entry `name`, which undoes nothing else of it.
    ///
    /// # Errors
    /// Those of `write(2)`; `ENOENT` where there is none.
    pub fn disable(&self, name: &str) -> io::Result<()> {
        self.write(name, "0")
    }

    /// Turns handlers on as a whole.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn enable_all(&self) -> io::Result<()> {
        self.write("status", "1")
    }

    /// Mounts the file system at its place.
    ///
    /// # Errors
    /// Those of `mount(2)`: `ENODEV` where the kernel does not know it, `EPERM` without root.
    pub fn mount(&self) -> io::Result<()> {
        use nix::mount::{MsFlags, mount};
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        Ok(mount(Some("binfmt_misc"), &self.directory, Some("binfmt_misc"), flags, None::<&str>)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automount_that_cannot_mount_is_told_from_no_permission() {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
        for errno in [Errno::ENOENT, Errno::ENODEV, Errno::EHOSTDOWN] {
            assert!(means_not_mounted(&error(errno)), "{errno}");
        }
        assert!(!means_not_mounted(&error(Errno::EACCES)));
    }
}
