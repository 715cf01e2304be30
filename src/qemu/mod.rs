// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interpreters: which files they are, what they run on and for, and whether they can be trusted.
//!
//! An interpreter that the kernel holds by `F` runs inside other people's containers, so what
//! could be changed by anyone but root is not registered.

mod program;

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use program::read_program;
pub use program::{Program, build_id};
use serde::Serialize;

use crate::emulator;
use crate::files::Root;
use crate::platform::Platform;
use crate::record::FileIdentity;

/// Whether nobody but root could change a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum Trust {
    /// It and every directory above it are root's, and nobody else can write there.
    Safe,
    /// Somebody else can write to it, or to a directory above it.
    Writable(Suspicion),
    /// It, or a directory above it, belongs to somebody else.
    Owned(Suspicion),
    /// The owner cannot be seen from this user namespace.
    Unknown(String),
}

impl Trust {
    /// The first of the two that is not safe.
    fn and(self, other: Self) -> Self {
        if self == Self::Safe { other } else { self }
    }
}

/// Where a file's safety ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    /// The file or directory that could be changed.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// A file that interprets programs, as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interpreter {
    /// The path by which it was asked for.
    pub path: PathBuf,
    /// Where that leads when links are followed.
    pub resolved: PathBuf,
    /// Which file it is.
    pub identity: FileIdentity,
    /// What it is as a program; none for what is no ELF program.
    pub program: Option<Program>,
    /// Whether it may be executed.
    pub executable: bool,
    /// Whether nobody but root could change it.
    pub trust: Trust,
}

/// A translator other than QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Translator {
    /// <https://github.com/ptitSeb/box64>: its interpreter is dynamic, so no use in containers.
    #[serde(rename = "box64")]
    Box64,
    /// <https://github.com/FEX-Emu/FEX>: wants a root file system of its own and 4K pages.
    #[serde(rename = "FEX")]
    Fex,
    /// Apple's, in virtual machines on macOS.
    #[serde(rename = "Rosetta")]
    Rosetta,
}

impl Translator {
    /// The translator that an entry of this name and interpreter belongs to.
    pub fn of_entry(name: &str, interpreter: &Path) -> Option<Self> {
        let file = interpreter.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let name = name.to_ascii_lowercase();
        let is = |word: &str| name.starts_with(word) || file.starts_with(word);
        match () {
            () if is("box64") || is("box86") => Some(Self::Box64),
            () if is("fex") => Some(Self::Fex),
            () if is("rosetta") => Some(Self::Rosetta),
            () => None,
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Box64 => "box64",
            Self::Fex => "FEX",
            Self::Rosetta => "Rosetta",
        }
    }
}

/// The QEMU target that an interpreter's file name speaks of: `x86_64` for `qemu-x86_64-static`
/// and `x86_64-binfmt-P`.
pub fn target_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let marked = ["-binfmt-P", "-binfmt"].into_iter().find_map(|mark| name.strip_suffix(mark));
    let target = match marked {
        Some(target) => target.strip_prefix("qemu-").unwrap_or(target),
        None => name.strip_prefix("qemu-")?.trim_end_matches("-static"),
    };
    Some(target).filter(|t| !t.is_empty())
}

/// Whether QEMU insists on the `P` flag when it is started by this path (Debian's convention, in
/// debian/binfmt-install of its package).
pub fn needs_preserve_argv0(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-binfmt-P")
}

/// Where an interpreter for `platform` may be, the most preferred first. That of qemu-persist-emulator is the last:
/// where it is preferred to those of distributions is judged elsewhere.
pub fn candidates(platform: &Platform) -> [PathBuf; 6] {
    let qemu = platform.qemu;
    [
        format!("/usr/libexec/qemu-binfmt/{qemu}-binfmt-P").into(),
        format!("/usr/bin/qemu-{qemu}-static").into(),
        format!("/usr/bin/qemu-{qemu}").into(),
        format!("/usr/local/bin/qemu-{qemu}-static").into(),
        format!("/usr/local/bin/qemu-{qemu}").into(),
        emulator::path_for(platform),
    ]
}

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

const NO_FILE: &str = "it is no regular file";

/// Why nothing is known of an interpreter that is there, but that only others may look at.
pub const UNREADABLE: &str = "it cannot be read";

/// Who may not look at it, where another may.
pub const BY_THIS_USER: &str = "by this user";

/// Looks at interpreters, each file and directory once.
pub struct Inspector<'a> {
    root: &'a Root,
    /// Who may own what is trusted: root, and in an image that somebody builds, its builder.
    owners: Vec<u32>,
    /// The groups that may write to it: root's, and that builder's.
    groups: Vec<u32>,
    overflow_uid: Option<u32>,
    /// Where paths end, and whether the way there can be trusted.
    directories: HashMap<PathBuf, Trust>,
    reached: HashMap<PathBuf, (PathBuf, Trust)>,
    files: HashMap<PathBuf, Result<Interpreter, String>>,
}

impl<'a> Inspector<'a> {
    /// An inspector of the files of `root`.
    pub fn new(root: &'a Root, user_namespace: bool) -> Self {
        let top = root.metadata(Path::new("/")).ok().filter(|_| !root.is_live());
        let owners = std::iter::once(0).chain(top.as_ref().map(Metadata::uid)).collect();
        let groups = std::iter::once(0).chain(top.as_ref().map(Metadata::gid)).collect();
        // Without a user namespace uid 65534 is a user like any other.
        let overflow_uid = user_namespace.then(|| {
            let text = Root::of_kernel("/proc/sys/kernel/overflowuid");
            text.trim().parse().unwrap_or(65534)
        });
        Self {
            root,
            owners,
            groups,
            overflow_uid,
            directories: HashMap::new(),
            reached: HashMap::new(),
            files: HashMap::new(),
        }
    }

    /// As this one, with what another has seen, which is not looked at again.
    #[must_use]
    pub fn knowing(self, files: HashMap<PathBuf, Result<Interpreter, String>>) -> Self {
        Self { files, ..self }
    }

    /// The interpreter at `path`, or why there is none.
    pub fn inspect(&mut self, path: &Path) -> &Result<Interpreter, String> {
        if !self.files.contains_key(path) {
            let found = self.look(path).map_err(|e| describe(&e));
            self.files.insert(path.to_owned(), found);
        }
        &self.files[path]
    }

    /// Everything that was looked at.
    pub fn into_files(self) -> HashMap<PathBuf, Result<Interpreter, String>> {
        self.files
    }

    fn look(&mut self, path: &Path) -> io::Result<Interpreter> {
        // As the kernel's table is read, what is no text in it is lost.
        if path.to_str().is_none_or(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "its path is no text in UTF-8"));
        }
        let (file, resolved, way) = self.open(path, MOST_LINKS)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other(NO_FILE));
        }
        let (program, build_id) = read_program(file).map_or((None, None), |(program, id)| (Some(program), id));
        let trust = self.judge(&resolved, &metadata).and(way);
        Ok(Interpreter {
            path: path.to_owned(),
            resolved,
            identity: FileIdentity::new(&metadata, build_id),
            program,
            executable: metadata.mode() & 0o111 != 0,
            trust,
        })
    }

    /// Opens the file at `path`. Gives where it is when links are followed, and whether every directory
    /// in which a name of it was looked up can be trusted, those of links on the way included: whoever
    /// writes to one can make the name another file.
    fn open(&mut self, path: &Path, links: usize) -> io::Result<(File, PathBuf, Trust)> {
        let (Some(parent), Some(Component::Normal(name))) = (path.parent(), path.components().next_back()) else {
            return Err(io::Error::other(NO_FILE));
        };
        let (directory, way) = self.reach(parent, links);
        let way = way.and(self.trust_of_directory(&directory));
        let place = directory.join(name);
        // Most are links: Debian's rules name those in /usr/libexec/qemu-binfmt.
        match self.root.read_link(&place) {
            Ok(_) if links == 0 => Err(nix::Error::ELOOP.into()),
            Ok(target) => {
                let (file, place, rest) = self.open(&directory.join(target), links - 1)?;
                Ok((file, place, way.and(rest)))
            }
            Err(_) => match self.root.open_no_link(&place) {
                // A link took its place in between.
                Err(e) if e.raw_os_error() == Some(nix::libc::ELOOP) && links > 0 => self.open(path, links - 1),
                opened => Ok((opened?, place, way)),
            },
        }
    }

    /// Where the directory `path` is when links are followed, and whether every directory on the way
    /// can be trusted, as for [`Inspector::open`].
    fn reach(&mut self, path: &Path, links: usize) -> (PathBuf, Trust) {
        if let Some(known) = self.reached.get(path) {
            return known.clone();
        }
        let reached = self.reach_anew(path, links);
        self.reached.insert(path.to_owned(), reached.clone());
        reached
    }

    fn reach_anew(&mut self, path: &Path, links: usize) -> (PathBuf, Trust) {
        let (Some(parent), Some(name)) = (path.parent(), path.components().next_back()) else {
            return (PathBuf::from("/"), Trust::Safe);
        };
        let (directory, way) = self.reach(parent, links);
        let way = way.and(self.trust_of_directory(&directory));
        let Component::Normal(name) = name else {
            return (directory.parent().unwrap_or(&directory).to_owned(), way);
        };
        match self.root.read_link(&directory.join(name)) {
            Ok(_) if links == 0 => (directory, way.and(Trust::Unknown(format!("{}: too many links", path.display())))),
            Ok(target) => {
                let (place, rest) = self.reach(&directory.join(target), links - 1);
                (place, way.and(rest))
            }
            Err(_) => (directory.join(name), way),
        }
    }

    fn trust_of_directory(&mut self, directory: &Path) -> Trust {
        if let Some(known) = self.directories.get(directory) {
            return known.clone();
        }
        let trust = match self.root.metadata(directory) {
            Ok(metadata) => self.judge(directory, &metadata),
            Err(e) => Trust::Unknown(format!("{}: {e}", directory.display())),
        };
        self.directories.insert(directory.to_owned(), trust.clone());
        trust
    }

    fn judge(&self, path: &Path, metadata: &Metadata) -> Trust {
        let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
        let shown = path.display();
        let suspicion = |why| Suspicion { path: path.to_owned(), why };
        if self.overflow_uid == Some(uid) {
            return Trust::Unknown(format!("the owner of {shown} cannot be seen from this user namespace"));
        }
        if !self.owners.contains(&uid) {
            return Trust::Owned(suspicion(format!("{shown} belongs to user {uid}")));
        }
        if mode & 0o002 != 0 {
            let why = format!("{shown} can be written by everybody (mode {:04o})", mode & 0o7777);
            return Trust::Writable(suspicion(why));
        }
        if mode & 0o020 != 0 && !self.groups.contains(&gid) {
            let why = format!("{shown} can be written by group {gid} (mode {:04o})", mode & 0o7777);
            return Trust::Writable(suspicion(why));
        }
        Trust::Safe
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::NotADirectory | io::ErrorKind::Other => error.to_string(),
        io::ErrorKind::PermissionDenied => format!("{UNREADABLE} {BY_THIS_USER}"),
        // Too many open files, a broken disk: nothing that is said of the file itself.
        _ if error.raw_os_error() != Some(nix::libc::ELOOP) => format!("{UNREADABLE}: {error}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn names_tell_the_target() {
        for (path, target) in [
            ("/usr/bin/qemu-x86_64-static", Some("x86_64")),
            ("/usr/bin/qemu-aarch64", Some("aarch64")),
            ("/usr/libexec/qemu-binfmt/arm-binfmt-P", Some("arm")),
            ("/usr/bin/qemu-riscv64-binfmt-P", Some("riscv64")),
            ("/usr/bin/qemu-arm-binfmt", Some("arm")),
            ("/usr/bin/box64", None),
            ("/usr/bin/qemu-", None),
            ("/", None),
        ] {
            assert_eq!(target_of(Path::new(path)), target, "{path}");
        }
    }

    #[test]
    fn other_translators_are_recognised() {
        let of = |name: &str, path: &str| Translator::of_entry(name, Path::new(path)).map(Translator::name);
        assert_eq!(of("box64", "/usr/local/bin/box64"), Some("box64"));
        assert_eq!(of("FEX-x86_64", "/usr/bin/FEXInterpreter"), Some("FEX"));
        assert_eq!(of("rosetta", "/mnt/lima-rosetta/rosetta"), Some("Rosetta"));
        assert_eq!(of("qemu-x86_64", "/usr/bin/qemu-x86_64-static"), None);
    }

    fn tree_with(mode: u32) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        let own = std::env::current_exe().unwrap();
        std::fs::copy(own, dir.path().join("usr/bin/qemu-arm")).unwrap();
        std::fs::set_permissions(dir.path().join("usr/bin"), PermissionsExt::from_mode(mode)).unwrap();
        let root = Root::image(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn links_and_loader_are_seen() {
        let (dir, root) = tree_with(0o755);
        symlink("/usr/bin/qemu-arm", dir.path().join("arm-binfmt-P")).unwrap();
        let mut inspector = Inspector::new(&root, false);
        let found = inspector.inspect(Path::new("/arm-binfmt-P")).clone().unwrap();
        assert_eq!(found.resolved, Path::new("/usr/bin/qemu-arm"));
        assert_eq!(found.trust, Trust::Safe);
        let program = found.program.unwrap();
        assert!(program.loader.is_some(), "the test program is a dynamic one");
        assert_eq!(program.runs_on, Platform::of_machine(std::env::consts::ARCH));
        assert!(inspector.inspect(Path::new("/gone")).clone().unwrap_err().contains("not exist"));
    }

    #[test]
    fn every_kind_of_path_leads_to_the_file_or_nowhere() {
        let (dir, root) = tree_with(0o755);
        let link = |target: &str, name: &str| symlink(target, dir.path().join(name)).unwrap();
        link("usr/bin", "bin");
        link("../bin/../bin/./qemu-arm", "usr/back");
        link("/round/and", "and");
        link("/and", "round");
        link("gone", "dangling");
        link("/usr/back", "usr/bin/twice");
        let mut inspector = Inspector::new(&root, false);
        for (path, resolved) in [
            ("/usr/bin/qemu-arm", Ok("/usr/bin/qemu-arm")),
            ("/bin/qemu-arm", Ok("/usr/bin/qemu-arm")),
            ("/usr/back", Ok("/usr/bin/qemu-arm")),
            ("/bin/twice", Ok("/usr/bin/qemu-arm")),
            ("/bin/../bin/twice", Ok("/usr/bin/qemu-arm")),
            ("/dangling", Err("it does not exist")),
            ("/usr/bin/qemu-arm/x", Err("Not a directory")),
            ("/bin/..", Err(NO_FILE)),
            ("/bin", Err(NO_FILE)),
            ("/", Err(NO_FILE)),
            ("/round", Err("symbolic links")),
        ] {
            match (inspector.inspect(Path::new(path)), resolved) {
                (Ok(found), Ok(expected)) => assert_eq!(found.resolved, Path::new(expected), "{path}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{path}: {found}"),
                (found, expected) => panic!("{path}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_directory_that_others_write_to_is_not_trusted() {
        let (_dir, root) = tree_with(0o777);
        let mut inspector = Inspector::new(&root, false);
        let found = inspector.inspect(Path::new("/usr/bin/qemu-arm")).clone().unwrap();
        assert!(matches!(&found.trust, Trust::Writable(s) if s.path == Path::new("/usr/bin")), "{:?}", found.trust);
    }

    #[test]
    fn what_is_no_program_has_none() {
        let (dir, root) = tree_with(0o755);
        for (name, content) in [("script", &b"#!/bin/sh\n"[..]), ("empty", b""), ("cut", b"\x7fELF\x02\x01\x01")] {
            std::fs::write(dir.path().join(name), content).unwrap();
            let path = Path::new("/").join(name);
            assert_eq!(Inspector::new(&root, false).inspect(&path).as_ref().unwrap().program, None, "{name}");
        }
    }
}
