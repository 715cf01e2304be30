// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which Debian package a file is from, read from dpkg's own files and without running it.
//!
//! Only packages whose names suggest emulators, translators or container engines are searched:
//! that is what is asked for here, and reading every package's list would take a hundred times as
//! long.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::Package;
use crate::files::{Root, text_of};

const INFO: &str = "/var/lib/dpkg/info";
const STATUS: &str = "/var/lib/dpkg/status";
const DIVERSIONS: &str = "/var/lib/dpkg/diversions";

/// Parts of the names of packages that are searched.
const RELEVANT: [&str; 10] =
    ["qemu", "binfmt", "box64", "box86", "fex", "rosetta", "docker", "podman", "nerdctl", "containerd"];

/// The names of Debian's and the usual vendors' packages, which are tried before all others, since
/// reading the names of all packages takes milliseconds.
const USUAL: [&str; 10] = [
    "qemu-user-static",
    "qemu-user",
    "qemu-user-binfmt",
    "box64",
    "box86",
    "docker.io",
    "docker-cli",
    "docker-ce-cli",
    "podman",
    "nerdctl",
];

/// How much of the status file is read at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// Directories that a system with merged /usr has twice.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// A package's name and the content of its list of files.
type List = (String, String);

/// The packages of one tree. Files are read when first needed, and once.
#[derive(Debug)]
pub struct Packages<'a> {
    root: &'a Root,
    diversions: OnceCell<Vec<Diverted>>,
    usual: [OnceCell<Option<List>>; USUAL.len()],
    relevant: OnceCell<Vec<List>>,
    versions: RefCell<BTreeMap<String, Option<String>>>,
}

impl<'a> Packages<'a> {
    /// Those that are installed in `root`.
    pub fn of(root: &'a Root) -> Self {
        Self {
            root,
            diversions: OnceCell::new(),
            usual: Default::default(),
            relevant: OnceCell::new(),
            versions: RefCell::default(),
        }
    }

    fn read(&self, path: &Path) -> Option<String> {
        self.root.read(path).map(text_of).ok()
    }

    fn list(&self, package: &str) -> Option<List> {
        // Every path stands between two ends of lines, the first one too.
        let files = self.read(&Path::new(INFO).join(format!("{package}.list")))?;
        Some((package.to_owned(), format!("\n{files}")))
    }

    fn diversions(&self) -> &[Diverted] {
        self.diversions.get_or_init(|| diversions(&self.read(Path::new(DIVERSIONS)).unwrap_or_default()))
    }

    fn usual(&self) -> impl Iterator<Item = &List> {
        USUAL.iter().zip(&self.usual).filter_map(|(name, list)| list.get_or_init(|| self.list(name)).as_ref())
    }

    fn relevant(&self) -> &[List] {
        self.relevant.get_or_init(|| {
            let files = self.root.list_unsorted(Path::new(INFO)).unwrap_or_default();
            let names = files.iter().filter_map(|file| file.to_str()?.strip_suffix(".list"));
            let relevant = names.filter(|name| RELEVANT.iter().any(|part| name.contains(part)));
            relevant.filter_map(|name| self.list(name)).collect()
        })
    }

    /// The package that the file `path` is from, following links: `qemu-user-static`, or with
    /// its architecture where dpkg says it (`libc6:arm64`). None where no searched package has it, or
    /// an administrator diverted it.
    pub fn owner(&self, path: &Path) -> Option<String> {
        self.owner_of_resolved(&self.root.resolve(path).unwrap_or_else(|_| path.to_owned()))
    }

    /// As [`Packages::owner`], for a path in which no link is left.
    pub fn owner_of_resolved(&self, path: &Path) -> Option<String> {
        // Packages keep out of /usr/local (Debian policy 9.1.2).
        if path.starts_with("/usr/local") {
            return None;
        }
        let path = match diverted(self.diversions(), &spellings(path)) {
            Diversion::None => path.to_owned(),
            Diversion::From(original) => original,
            Diversion::By(package) => return package,
        };
        let spellings = spellings(&path);
        let lines: Vec<_> = spellings.iter().map(|path| format!("\n{}\n", path.display())).collect();
        let holds = |files: &str| lines.iter().any(|line| memmem::find(files.as_bytes(), line.as_bytes()).is_some());
        let holds = |list: &&List| holds(&list.1);
        let found = self.usual().find(holds).or_else(|| self.relevant().iter().find(holds));
        found.map(|(name, _)| name.clone())
    }

    /// The package that the file `path` belongs to, of which no link is followed any more, and its version.
    pub fn package_of_resolved(&self, path: &Path) -> Option<Package> {
        let name = self.owner_of_resolved(path)?;
        let version = self.version(&name)?;
        Some(Package { name, version })
    }

    /// The installed version of `package`, as dpkg says it: `1:7.2+dfsg-7+deb12u18`.
    pub fn version(&self, package: &str) -> Option<String> {
        let look = || {
            let mut status = self.root.open(Path::new(STATUS))?;
            let likely = likely_place(&status, package)?;
            status.seek(SeekFrom::Start(likely))?;
            match installed_version(&status, package)? {
                None if likely > 0 => {
                    status.rewind()?;
                    installed_version(&status, package)
                }
                found => Ok::<_, io::Error>(found),
            }
        };
        let mut versions = self.versions.borrow_mut();
        versions.entry(package.to_owned()).or_insert_with(|| look().ok().flatten()).clone()
    }
}

/// As [`Packages::owner`], for one file.
pub fn owner(root: &Root, path: &Path) -> Option<String> {
    Packages::of(root).owner(path)
}

/// As [`Packages::version`], for one package.
pub fn version(root: &Root, package: &str) -> Option<String> {
    Packages::of(root).version(package)
}

/// The paths by which a list may name `path`: a package may ship /bin/x, which is /usr/bin/x on a
/// system with merged /usr, and the other way round.
fn spellings(path: &Path) -> Vec<PathBuf> {
    let mut spellings = vec![path.to_owned()];
    let bare = path.strip_prefix("/usr").or_else(|_| path.strip_prefix("/")).unwrap_or(path);
    let first = bare.components().next().and_then(|c| c.as_os_str().to_str());
    if first.is_some_and(|first| MERGED.contains(&first)) {
        let other = if path.starts_with("/usr") { Path::new("/") } else { Path::new("/usr") };
        spellings.push(other.join(bare));
    }
    spellings
}

/// What dpkg-divert(1) did to a path.
#[derive(Debug, PartialEq, Eq)]
enum Diversion {
    None,
    /// The file was moved here from another path, under which its package lists it.
    From(PathBuf),
    /// The file that lay here was moved away, for that of a package or for a local one.
    By(Option<String>),
}

/// A file that was moved away from its package's path.
#[derive(Debug)]
struct Diverted {
    path: PathBuf,
    moved_to: PathBuf,
    /// The package for whose file it made room; none for a local one.
    by: Option<String>,
}

/// What dpkg's diversions file says: three lines each, the path, where it was moved, and for
/// which package (`:` for a local file).
fn diversions(content: &str) -> Vec<Diverted> {
    let lines: Vec<_> = content.lines().collect();
    let entries = lines.chunks_exact(3).map(|entry| Diverted {
        path: entry[0].into(),
        moved_to: entry[1].into(),
        by: Some(entry[2].to_owned()).filter(|package| package != ":"),
    });
    entries.collect()
}

/// Looks for a path, in any of its spellings, among the diversions.
fn diverted(diversions: &[Diverted], spellings: &[PathBuf]) -> Diversion {
    let is = |known: &PathBuf| spellings.iter().any(|path| path.as_os_str() == known.as_os_str());
    for entry in diversions {
        if is(&entry.path) {
            return Diversion::By(entry.by.clone());
        }
        if is(&entry.moved_to) {
            return Diversion::From(entry.path.clone());
        }
    }
    Diversion::None
}

/// From where on `package` is in dpkg's status file if that is in the order of names, as dpkg writes it
/// (`writedb_records()`, lib/dpkg/dump.c). Where it is in no order, it may be anywhere.
fn likely_place(status: &File, package: &str) -> io::Result<u64> {
    const HEADING: &[u8] = b"\nPackage: ";
    let name = package.split_once(':').map_or(package, |(name, _)| name).as_bytes();
    let (mut low, mut high) = (0, status.metadata()?.len());
    let mut block = [0; 8 << 10];
    while high - low > CHUNK as u64 {
        let middle = low + (high - low) / 2;
        let length = status.read_at(&mut block, middle)?;
        let Some(at) = memmem::find(&block[..length], HEADING) else { break };
        let behind = &block[at + HEADING.len()..length];
        let Some(end) = memchr::memchr(b'\n', behind) else { break };
        if &behind[..end] < name {
            low = middle;
        } else {
            high = middle + at as u64;
        }
    }
    Ok(low)
}

/// The version of `package` in dpkg's status file, whose paragraphs are apart by empty lines. The
/// file has a megabyte and more, so it is searched as it is read.
fn installed_version(mut status: impl Read, package: &str) -> io::Result<Option<String>> {
    let (name, architecture) = package.split_once(':').map_or((package, None), |(name, a)| (name, Some(a)));
    let heading = format!("\nPackage: {name}\n").into_bytes();
    let finder = memmem::Finder::new(&heading);
    // What is known of the file is window[from..to].
    let mut window = vec![b'\n'; CHUNK];
    let (mut from, mut to, mut ended) = (0, 1, false);
    loop {
        if let Some(at) = finder.find(&window[from..to]) {
            from += at;
            let paragraph = &window[from + 1..to];
            let length = memmem::find(paragraph, b"\n\n").or(ended.then_some(paragraph.len()));
            if let Some(length) = length {
                let version = version_of(&String::from_utf8_lossy(&paragraph[..length]), architecture);
                if version.is_some() {
                    return Ok(version);
                }
                from += 1;
                continue;
            }
        } else {
            from = to.saturating_sub(heading.len()).max(from);
        }
        if ended {
            return Ok(None);
        }
        window.copy_within(from..to, 0);
        (from, to) = (0, to - from);
        if to == window.len() {
            window.resize(2 * to, 0);
        }
        let read = status.read(&mut window[to..])?;
        (to, ended) = (to + read, read == 0);
    }
}

/// The version in one paragraph, where the package is installed and of the right architecture.
fn version_of(paragraph: &str, architecture: Option<&str>) -> Option<String> {
    let field = |key: &str| paragraph.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    let installed = field("Status").is_some_and(|status| status.ends_with(" installed"));
    let right = architecture.is_none_or(|a| field("Architecture") == Some(a));
    field("Version").filter(|_| installed && right).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const STATUS_TEXT: &str = "Package: qemu-user\nStatus: deinstall ok config-files\nVersion: 9\n\n\
        Package: qemu-user-static\nStatus: install ok installed\nArchitecture: amd64\n\
        Version: 1:7.2+dfsg-7\nDescription: text\n Version: 5\n\n\
        Package: libfex\nStatus: install ok installed\nArchitecture: armhf\nVersion: 1\n\n\
        Package: libfex\nStatus: install ok installed\nArchitecture: arm64\nVersion: 2\n";

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        let write = |path: &str, text: &str| root.write_whole(Path::new(path), text.as_bytes()).unwrap();
        write(STATUS, STATUS_TEXT);
        write("/var/lib/dpkg/info/qemu-user-static.list", "/.\n/usr\n/usr/bin/qemu-arm-static\n/bin/qemu-old\n");
        write("/var/lib/dpkg/info/qemu-user-static.md5sums", "");
        write("/var/lib/dpkg/info/libfex:arm64.list", "/lib/libfex.so\n/usr/bin/FEX\n");
        write("/var/lib/dpkg/info/coreutils.list", "/usr/bin/qemu-other\n");
        write("/usr/bin/qemu-arm-static", "");
        write("/usr/bin/qemu-old", "");
        write("/usr/local/bin/qemu-arm", "");
        symlink("usr/bin", dir.path().join("bin")).unwrap();
        symlink("/usr/bin/qemu-arm-static", dir.path().join("usr/local/bin/link")).unwrap();
        (dir, root)
    }

    #[test]
    fn owners_are_found_by_every_name_of_a_file() {
        let (_dir, root) = tree();
        for (path, expected) in [
            ("/usr/bin/qemu-arm-static", Some("qemu-user-static")),
            ("/bin/qemu-arm-static", Some("qemu-user-static")),
            ("/usr/local/bin/link", Some("qemu-user-static")),
            ("/usr/bin/qemu-old", Some("qemu-user-static")),
            ("/bin/qemu-old", Some("qemu-user-static")),
            ("/usr/lib/libfex.so", Some("libfex:arm64")),
            ("/usr/local/bin/qemu-arm", None),
            ("/usr/bin/qemu", None),
            ("/usr/bin", None),
        ] {
            assert_eq!(owner(&root, Path::new(path)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn versions_are_found_however_the_file_is_cut() {
        /// Gives a few bytes at a time.
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let n = self.1.min(self.0.len()).min(buffer.len());
                buffer[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        for at_a_time in 1..80 {
            let slow = || Slow(STATUS_TEXT.as_bytes(), at_a_time);
            let find = |package| installed_version(slow(), package).unwrap();
            assert_eq!(find("qemu-user-static").as_deref(), Some("1:7.2+dfsg-7"));
            assert_eq!(find("libfex:arm64").as_deref(), Some("2"));
            assert_eq!(find("qemu-user"), None);
        }
    }

    #[test]
    fn versions_are_found_in_whatever_order() {
        let (_dir, root) = tree();
        let paragraph = |number: u32| {
            let text = "a line of a description\n ".repeat(number as usize % 60);
            format!(
                "Package: p{number:05}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.{number}\n\
                 Description: x\n {text}\n\n"
            )
        };
        for reversed in [false, true] {
            let mut numbers: Vec<u32> = (0..3000).collect();
            if reversed {
                numbers.reverse();
            }
            let text: String = numbers.into_iter().map(paragraph).collect();
            assert!(text.len() > 10 * CHUNK);
            root.write_whole(Path::new(STATUS), text.as_bytes()).unwrap();
            for number in (0..3000).step_by(if reversed { 499 } else { 37 }).chain([2999]) {
                assert_eq!(version(&root, &format!("p{number:05}")), Some(format!("1.{number}")), "{reversed}");
            }
            assert_eq!(version(&root, "p"), None);
            assert_eq!(version(&root, "q"), None);
        }
    }

    #[test]
    fn diversions_are_followed() {
        let (_dir, root) = tree();
        let text = "/usr/bin/qemu-arm-static\n/usr/bin/qemu-arm-static.distrib\n:\n/usr/bin/FEX\n/usr/bin/FEX.real\nfex-wrap\n";
        root.write_whole(Path::new(DIVERSIONS), text.as_bytes()).unwrap();
        for (path, expected) in [
            ("/usr/bin/qemu-arm-static", None),
            ("/usr/bin/qemu-arm-static.distrib", Some("qemu-user-static")),
            ("/usr/bin/FEX", Some("fex-wrap")),
            ("/usr/bin/FEX.real", Some("libfex:arm64")),
        ] {
            assert_eq!(owner(&root, Path::new(path)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn versions_are_those_of_installed_packages() {
        let (_dir, root) = tree();
        for (package, expected) in [
            ("qemu-user-static", Some("1:7.2+dfsg-7")),
            ("qemu-user-static:amd64", Some("1:7.2+dfsg-7")),
            ("libfex:arm64", Some("2")),
            ("libfex:s390x", None),
            ("qemu-user", None),
            ("qemu", None),
        ] {
            assert_eq!(version(&root, package).as_deref(), expected, "{package}");
        }
        let empty = tempfile::tempdir().unwrap();
        let empty = Root::image(empty.path()).unwrap();
        assert_eq!((version(&empty, "qemu-user"), owner(&empty, Path::new("/usr/bin/x"))), (None, None));
    }
}
