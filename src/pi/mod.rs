// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raspberry Pis: which kernel the firmware starts, and how to have it start the one whose pages have
//! 4 KiB.
//!
//! The firmware of a Raspberry Pi 5 takes kernel_2712.img, whose pages have 16 KiB, unless config.txt says
//! `kernel=kernel8.img` (<https://www.raspberrypi.com/documentation/computers/config_txt.html>).

pub mod config_txt;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::{Root, text_of};
use crate::host::Facts;
use crate::record;
use config_txt::Edit;

/// Where the firmware's files are: in Raspberry Pi OS since bookworm, and before.
const PLACES: [&str; 2] = ["/boot/firmware", "/boot"];
/// Its configuration.
const CONFIG: &str = "config.txt";
/// The 64-bit kernel with pages of 4 KiB, of all 64-bit models.
pub const SMALL: &str = "kernel8.img";
/// What the backup's name ends with.
const BACKUP: &str = "config.txt.before-qemu-persist";
/// What was changed, and on which boot.
const RECORD: &str = "/var/lib/qemu-persist/page-size.json";

/// When the change was made.
#[derive(Debug, Serialize, Deserialize)]
struct Changed {
    boot_id: String,
}

/// How the host stands to kernels with pages of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its kernel has them, and not because of a change.
    Small,
    /// Its kernel has them since the change.
    TookEffect,
    /// The change is there, and this boot is older.
    NeedsReboot,
    /// The change is there, the host has been booted since, and its kernel has larger pages still.
    NoEffect,
    /// Its kernel has larger pages, and nothing was changed.
    Large,
    /// It is no Raspberry Pi, or its files are elsewhere.
    NoPi,
}

/// Why a change cannot be made.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The kernel is not there.
    #[error("there is no {0}: install the package linux-image-rpi-v8")]
    NoKernel(PathBuf),
    /// The kernel is another one.
    #[error("{0} is a kernel with pages of {1} KiB")]
    OtherKernel(PathBuf, u64),
    /// Somebody has chosen a kernel.
    #[error("{0}, line {1}, says `{2}`, which somebody has chosen: take the line out if {SMALL} is to be started")]
    Chosen(PathBuf, usize, String),
    /// The file is no text.
    #[error("{0} is no text")]
    NoText(PathBuf),
    /// It cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

/// The firmware's configuration of a host.
#[derive(Debug)]
pub struct Firmware {
    /// The directory.
    place: PathBuf,
    text: String,
}

/// Whether the running system is a Raspberry Pi; in an image its files alone tell.
fn is_pi(root: &Root) -> bool {
    let model = root.read_text(Path::new("/proc/device-tree/model")).unwrap_or_default();
    !root.is_live() || model.contains("Raspberry Pi")
}

impl Firmware {
    /// That of `root`; none where it is no Raspberry Pi.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(root: &Root) -> Result<Option<Self>, Refusal> {
        if !is_pi(root) {
            return Ok(None);
        }
        for place in PLACES.map(Path::new) {
            let path = place.join(CONFIG);
            match root.read(&path) {
                Ok(content) if content.contains(&0) => return Err(Refusal::NoText(path)),
                Ok(content) => return Ok(Some(Self { place: place.to_owned(), text: text_of(content) })),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Refusal::Io(path, e)),
            }
        }
        Ok(None)
    }

    /// The configuration's path.
    pub fn path(&self) -> PathBuf {
        self.place.join(CONFIG)
    }

    /// Where the configuration is kept as it was.
    pub fn backup(&self) -> PathBuf {
        self.place.join(BACKUP)
    }

    /// How the host that `facts` are of stands.
    pub fn state(&self, root: &Root, facts: &Facts) -> State {
        let is_set = config_txt::kernel(&self.text).is_some_and(|(_, value)| value == SMALL);
        let changed: Option<Changed> = record::load(root, RECORD);
        let this_boot = changed.as_ref().is_some_and(|changed| changed.boot_id == facts.boot_id);
        match (is_set, facts.page_size) {
            // An image does not run.
            (true, 0) => State::NeedsReboot,
            (true, 4096) if config_txt::has_ours(&self.text) => State::TookEffect,
            (_, 4096) => State::Small,
            (true, _) if this_boot || changed.is_none() => State::NeedsReboot,
            (true, _) => State::NoEffect,
            (false, _) => State::Large,
        }
    }

    /// The change that has the small kernel started; none where it is made already.
    ///
    /// # Errors
    /// Why it would not help, or is not ours to make.
    pub fn change(&self, root: &Root) -> Result<Option<Edit>, Refusal> {
        let chosen = config_txt::kernel(&self.text);
        if chosen.is_some_and(|(_, value)| value == SMALL) {
            return Ok(None);
        }
        if let Some((line, said)) = config_txt::obstacle(&self.text) {
            return Err(Refusal::Chosen(self.path(), line, said.to_owned()));
        }
        let kernel = self.place.join(SMALL);
        let mut head = [0; 64];
        let read = root.open(&kernel).and_then(|file| io::Read::read(&mut &file, &mut head));
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Refusal::NoKernel(kernel)),
            Err(e) => return Err(Refusal::Io(kernel, e)),
            Ok(_) => {}
        }
        match config_txt::page_size_of_kernel(&head) {
            None | Some(4096) => Ok(Some(config_txt::add(&self.text))),
            Some(size) => Err(Refusal::OtherKernel(kernel, size / 1024)),
        }
    }

    /// The change that takes ours back; none where there is none.
    pub fn undo(&self) -> Option<Edit> {
        config_txt::remove(&self.text)
    }

    /// Makes a change, and keeps the configuration as it was before the first.
    ///
    /// # Errors
    /// Those of writing; the configuration is then as it was.
    pub fn write(&self, root: &Root, facts: &Facts, edit: &Edit) -> Result<(), Refusal> {
        let at = |path: PathBuf| move |e| Refusal::Io(path, e);
        if !edit.takes_back && !root.exists(&self.backup()) {
            root.write_whole(&self.backup(), self.text.as_bytes()).map_err(at(self.backup()))?;
        }
        root.write_whole(&self.path(), edit.text.as_bytes()).map_err(at(self.path()))?;
        if edit.takes_back {
            // What is as it was needs no copy.
            if root.read(&self.backup()).is_ok_and(|backup| backup == edit.text.as_bytes()) {
                root.remove_file(&self.backup()).map_err(at(self.backup()))?;
            }
            if root.exists(Path::new(RECORD)) {
                root.remove_file(Path::new(RECORD)).map_err(at(RECORD.into()))?;
            }
            return Ok(());
        }
        let changed = Changed { boot_id: facts.boot_id.clone() };
        record::save(root, RECORD, &changed).map_err(at(RECORD.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pi() -> (tempfile::TempDir, Root, Facts) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::image(folder.path()).unwrap();
        root.write_whole(Path::new("/boot/firmware/config.txt"), b"arm_64bit=1\n[all]\n").unwrap();
        root.write_whole(Path::new("/boot/firmware/kernel8.img"), b"\x1f\x8b compressed").unwrap();
        let mut facts = Facts::read(&root);
        (facts.page_size, facts.boot_id) = (16384, "one".into());
        (folder, root, facts)
    }

    fn read(root: &Root) -> Firmware {
        Firmware::read(root).unwrap().unwrap()
    }

    #[test]
    fn it_knows_when_a_reboot_is_needed_and_whether_it_helped() {
        let (_folder, root, mut facts) = pi();
        assert_eq!(read(&root).state(&root, &facts), State::Large);
        let edit = read(&root).change(&root).unwrap().unwrap();
        read(&root).write(&root, &facts, &edit).unwrap();
        assert_eq!(read(&root).state(&root, &facts), State::NeedsReboot);
        assert!(read(&root).change(&root).unwrap().is_none());
        facts.boot_id = "two".into();
        assert_eq!(read(&root).state(&root, &facts), State::NoEffect);
        facts.page_size = 4096;
        assert_eq!(read(&root).state(&root, &facts), State::TookEffect);
        let undo = read(&root).undo().unwrap();
        read(&root).write(&root, &facts, &undo).unwrap();
        assert_eq!(read(&root).state(&root, &facts), State::Small);
        assert!(read(&root).undo().is_none() && !root.exists(Path::new(RECORD)));
    }

    #[test]
    fn the_first_configuration_is_kept_as_long_as_it_differs() {
        let (_folder, root, facts) = pi();
        let before = root.read(&read(&root).path()).unwrap();
        let edit = read(&root).change(&root).unwrap().unwrap();
        read(&root).write(&root, &facts, &edit).unwrap();
        assert_eq!(root.read(&read(&root).backup()).unwrap(), before);
        // Somebody adds a line of his own meanwhile, which stays.
        let more = [edit.text.as_bytes(), b"dtparam=spi=on\n"].concat();
        root.write_whole(&read(&root).path(), &more).unwrap();
        let undo = read(&root).undo().unwrap();
        read(&root).write(&root, &facts, &undo).unwrap();
        assert_eq!(root.read(&read(&root).path()).unwrap(), [&before[..], b"dtparam=spi=on\n"].concat());
        assert_eq!(root.read(&read(&root).backup()).unwrap(), before);
        root.write_whole(&read(&root).path(), edit.text.as_bytes()).unwrap();
        let undo = read(&root).undo().unwrap();
        read(&root).write(&root, &facts, &undo).unwrap();
        assert!(!root.exists(&read(&root).backup()));
    }

    #[test]
    fn what_would_not_help_is_refused() {
        let (_folder, root, _) = pi();
        let kernel = Path::new("/boot/firmware/kernel8.img");
        let mut head = [0; 64];
        head[24] = 0b0100;
        head[56..60].copy_from_slice(b"ARM\x64");
        root.write_whole(kernel, &head).unwrap();
        assert!(matches!(read(&root).change(&root), Err(Refusal::OtherKernel(_, 16))));
        root.remove_file(kernel).unwrap();
        assert!(matches!(read(&root).change(&root), Err(Refusal::NoKernel(_))));
        root.write_whole(&read(&root).path(), b"kernel=mine.img\n").unwrap();
        assert!(matches!(read(&root).change(&root), Err(Refusal::Chosen(_, 1, _))));
        root.write_whole(&read(&root).path(), b"\0\0").unwrap();
        assert!(matches!(Firmware::read(&root), Err(Refusal::NoText(_))));
        root.remove_file(Path::new("/boot/firmware/config.txt")).unwrap();
        assert!(Firmware::read(&root).unwrap().is_none());
    }
}
