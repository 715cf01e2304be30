// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file tree that is looked at: the running system's, or that of a system image.
//!
//! A [`Root`] is made once, from `--root`, and handed down. Every path given to it is absolute
//! within the tree; in an image, symbolic links resolve inside the image (`openat2(2)`,
//! `RESOLVE_IN_ROOT`), so that an absolute link never leads to the host.

use std::ffi::OsString;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// The largest file that is read whole: ours, fragments, and package databases.
const LARGEST: u64 = 64 << 20;

/// What the names of temporary files begin with.
const TEMPORARY: &str = ".qemu-persist-";

/// How often a path is resolved again where the kernel could not tell whether it stays in the tree.
const UNSURE: u32 = 10_000;

/// A file tree: `/`, or a directory that holds a system image.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    live: bool,
    /// The image's directory; none for `/`, where paths are what they are.
    image: Option<OwnedFd>,
}

/// `content` as text; what is no UTF-8 in it becomes U+FFFD. Most is UTF-8, and is not copied.
pub fn text_of(content: Vec<u8>) -> String {
    String::from_utf8(content).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

impl Root {
    /// The running system's own tree.
    pub fn live() -> Self {
        Self { path: PathBuf::from("/"), live: true, image: None }
    }

    /// The system image below `path`. `/` is the running system itself.
    ///
    /// # Errors
    /// Where `path` is not a directory that can be opened.
    pub fn image(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        if path == Path::new("/") {
            return Ok(Self::live());
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let image = nix::fcntl::open(&path, flags, Mode::empty())?;
        Ok(Self { path, live: false, image: Some(image) })
    }

    /// The running system's own tree as if it were an image: its files, and nothing of the kernel that
    /// it runs on, which in a chroot is another system's. Neither `openat2(2)` is needed for it, which
    /// QEMU before 9.2 does not know, nor /proc.
    pub fn files_only() -> Self {
        Self { path: PathBuf::from("/"), live: false, image: None }
    }

    /// Whether this is the running system, whose kernel may be asked and changed.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Where `path` of this tree is on the running system, for messages: links are not resolved.
    pub fn outside(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn open_with(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_CLOEXEC;
        let fd = match &self.image {
            None => nix::fcntl::open(path, flags, Mode::empty())?,
            Some(image) => {
                let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
                // Any rename on the system makes the kernel unsure where `..` leads (openat2(2)).
                let mut tries = 0;
                loop {
                    match openat2(image, path, how) {
                        Err(Errno::EAGAIN) if tries < UNSURE => tries += 1,
                        other => break other?,
                    }
                }
            }
        };
        Ok(fd.into())
    }

    /// Opens the file `path` for reading, following links. A FIFO or device does not block.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
    }

    /// As [`Root::open`], for what is no link itself; directories that are links are followed.
    ///
    /// # Errors
    /// Those of `open(2)`: `ELOOP` for a link.
    pub fn open_no_link(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW)
    }

    /// The whole content of the regular file `path`, 64 MiB at most.
    ///
    /// # Errors
    /// Those of `open(2)` and `read(2)`; `InvalidInput` for what is no regular file or too large.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // The kernel's own files say that they are empty; of others the length is known.
        let (room, most) = match metadata.len() {
            0 => (8192, LARGEST + 1),
            length => (length, length),
        };
        let mut content = Vec::with_capacity(usize::try_from(room.min(LARGEST)).unwrap_or_default());
        file.take(most.min(LARGEST + 1)).read_to_end(&mut content)?;
        if content.len() as u64 > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than 64 MiB"));
        }
        Ok(content)
    }

    /// The text of a file that the running kernel makes up, such as those of /proc; empty where it
    /// is not there. In few reads: std begins with 32 bytes, and each read makes the kernel write all anew.
    pub fn of_kernel(path: &str) -> String {
        text_of(Self::live().read(Path::new(path)).unwrap_or_default())
    }

    /// As [`Root::read`], of what is known from its directory to be a regular file and is mostly small:
    /// one call less.
    ///
    /// # Errors
    /// As [`Root::read`].
    pub fn read_small(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut head = [0; 4096];
        let length = self.open(path)?.read(&mut head)?;
        // A regular file gives all there is room for, so less than that is the end.
        if length < head.len() { Ok(head[..length].to_vec()) } else { self.read(path) }
    }

    /// As [`Root::read`], as text.
    ///
    /// # Errors
    /// As [`Root::read`]; `InvalidData` for what is not UTF-8.
    pub fn read_text(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.read(path)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not text in UTF-8"))
    }

    /// What `path` is, following links.
    ///
    /// # Errors
    /// Those of `open(2)` and `fstat(2)`.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        if self.image.is_none() {
            return path.metadata();
        }
        self.open_with(path, OFlag::O_PATH)?.metadata()
    }

    /// What `path` itself is, without following a link at its end.
    ///
    /// # Errors
    /// Those of `open(2)` and `fstat(2)`.
    pub fn link_metadata(&self, path: &Path) -> io::Result<Metadata> {
        if self.image.is_none() {
            return path.symlink_metadata();
        }
        self.open_with(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?.metadata()
    }

    /// Whether something is at `path`, following links.
    pub fn exists(&self, path: &Path) -> bool {
        self.metadata(path).is_ok()
    }

    /// The text of the symbolic link `path`.
    ///
    /// # Errors
    /// Those of `readlink(2)`; `EINVAL` where it is no link.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        if self.image.is_none() {
            return path.read_link();
        }
        let link = self.open_with(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        Ok(nix::fcntl::readlinkat(&link, "")?.into())
    }

    /// The path within this tree at which `path` ends when all links are followed.
    ///
    /// # Errors
    /// Those of `open(2)`: nothing is there, a link leads nowhere, or in a circle.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        if self.image.is_none() {
            return path.canonicalize();
        }
        self.path_of(&self.open_with(path, OFlag::O_PATH)?)
    }

    /// The path within this tree of an open file. It needs /proc.
    fn path_of(&self, file: &File) -> io::Result<PathBuf> {
        let outside = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let inside = outside.strip_prefix(&self.path).map_err(io::Error::other)?;
        Ok(Path::new("/").join(inside))
    }

    /// The names in the directory `path`, sorted by their bytes.
    ///
    /// # Errors
    /// Those of `open(2)` and `readdir(3)`.
    pub fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = self.list_unsorted(path)?;
        names.sort();
        Ok(names)
    }

    /// The names in the directory `path`, in the order in which the file system gives them.
    ///
    /// # Errors
    /// Those of `open(2)` and `readdir(3)`.
    pub fn list_unsorted(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.list_with_kind(path)?.into_iter().map(|(name, _)| name).collect())
    }

    /// The names in the directory `path`, in the order in which the file system gives them, each
    /// with whether it is a regular file: known from the directory alone, and no where it is not.
    ///
    /// # Errors
    /// Those of `open(2)` and `readdir(3)`.
    pub fn list_with_kind(&self, path: &Path) -> io::Result<Vec<(OsString, bool)>> {
        let names = |dir: &Path| {
            let entries = std::fs::read_dir(dir)?.map(|entry| {
                let entry = entry?;
                Ok((entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_file())))
            });
            entries.collect()
        };
        if self.image.is_none() {
            return names(path);
        }
        let dir = self.open_with(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        names(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())))
    }

    /// A name of the directory `path` that writes reach: links in an image stay inside it.
    fn writable_dir(&self, path: &Path) -> io::Result<(Option<File>, PathBuf)> {
        if self.image.is_none() {
            return Ok((None, path.to_owned()));
        }
        let dir = self.open_with(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let name = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        Ok((Some(dir), name))
    }

    /// Makes the directory `path` and those above it, mode 0755, where they are missing.
    ///
    /// # Errors
    /// Those of `mkdir(2)`.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.metadata(path).is_ok_and(|m| m.is_dir()) {
            return Ok(());
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        };
        self.create_dir_all(parent)?;
        let (_held, dir) = self.writable_dir(parent)?;
        match std::fs::DirBuilder::new().mode(0o700).create(dir.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Whatever the umask.
            made => made.and_then(|()| std::fs::set_permissions(dir.join(name), Permissions::from_mode(0o755))),
        }
    }

    /// Puts `content` at `path` whole or not at all, mode 0644: a temporary file beside it,
    /// `fsync`, `rename`. Missing directories are made.
    ///
    /// # Errors
    /// Those of the calls named; the old file is then still there, and no temporary one.
    pub fn write_whole(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        self.create_dir_all(parent)?;
        let (_held, dir) = self.writable_dir(parent)?;
        // binfmt.d and the drop-in directories read only names that end in .conf or .toml.
        // Opened here, since tempfile's own error tells the name of the temporary file as well.
        let open = |path: &Path| File::options().write(true).create_new(true).mode(0o600).open(path);
        let mut temporary = tempfile::Builder::new().prefix(TEMPORARY).make_in(&dir, open)?;
        match temporary.as_file().set_permissions(Permissions::from_mode(0o644)) {
            // A file of one's own: the file system has no modes but its own (vfat, where firmware is).
            Err(e) if e.raw_os_error() == Some(Errno::EPERM as i32) => {}
            changed => changed?,
        }
        temporary.as_file_mut().write_all(content)?;
        // What is in /run dies with the boot, and need not survive it.
        let lasts = !path.starts_with("/run");
        if lasts {
            temporary.as_file().sync_all()?;
        }
        temporary.persist(dir.join(name)).map_err(|e| e.error)?;
        if lasts { File::open(&dir)?.sync_all() } else { Ok(()) }
    }

    /// Removes what [`Root::write_whole`] has left in the directory `path` when the power went, or it was killed; who calls
    /// it holds the lock under which files there are written. What cannot be removed stays: nothing reads it.
    pub fn remove_interrupted(&self, path: &Path) {
        for (name, is_file) in self.list_with_kind(path).unwrap_or_default() {
            if is_file && name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
                let _ = self.remove_file(&path.join(name));
            }
        }
    }

    /// Removes the file or link `path`.
    ///
    /// # Errors
    /// Those of `unlink(2)`.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let (_held, dir) = self.writable_dir(parent)?;
        std::fs::remove_file(dir.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn links_resolve_inside_the_image() {
        let (dir, root) = tree();
        root.write_whole(Path::new("/usr/bin/qemu"), b"inside").unwrap();
        symlink("/usr/bin/qemu", dir.path().join("absolute")).unwrap();
        symlink("../../../../usr/bin/qemu", dir.path().join("climbing")).unwrap();
        for link in ["/absolute", "/climbing"] {
            assert_eq!(root.read(Path::new(link)).unwrap(), b"inside");
            assert_eq!(root.resolve(Path::new(link)).unwrap(), Path::new("/usr/bin/qemu"));
        }
        symlink("/etc", dir.path().join("etc")).unwrap();
        assert!(root.read(Path::new("/etc/passwd")).is_err());
        assert_eq!(root.read_link(Path::new("/etc")).unwrap(), Path::new("/etc"));
    }

    #[test]
    fn what_others_rename_meanwhile_hides_nothing() {
        let (dir, root) = tree();
        root.write_whole(Path::new("/usr/bin/qemu"), b"inside").unwrap();
        root.create_dir_all(Path::new("/usr/libexec")).unwrap();
        symlink("../../usr/libexec/../bin/qemu", dir.path().join("usr/libexec/link")).unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::create_dir(&one).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                }
            });
            let read: Vec<_> = (0..5000).map(|_| root.read(Path::new("/usr/libexec/link"))).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let failed: Vec<_> = read.into_iter().filter_map(Result::err).collect();
            assert!(failed.is_empty(), "{} of 5000: {:?}", failed.len(), failed[0]);
        });
    }

    #[test]
    fn writing_replaces_whole_and_leaves_nothing_else() {
        let (_dir, root) = tree();
        let path = Path::new("/etc/binfmt.d/a.conf");
        root.write_whole(path, b"one").unwrap();
        root.write_whole(path, b"two").unwrap();
        assert_eq!(root.read(path).unwrap(), b"two");
        assert_eq!(root.list(Path::new("/etc/binfmt.d")).unwrap(), ["a.conf"]);
        root.remove_file(path).unwrap();
        assert!(!root.exists(path));
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let (dir, root) = tree();
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRUSR).unwrap();
        assert!(root.read(Path::new("/fifo")).is_err());
        assert!(root.read(Path::new("/")).is_err());
    }
}
