// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watches: directories whose changes wake the service, by inotify(7).
//!
//! poll(2) on binfmt_misc's own files reports nothing, but inotify on its directory sees every
//! write, through whatever mount it was made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::binfmt::{database, fragment, registry};
use crate::config;
use crate::record;
use crate::service::Unwatched;
use crate::snapshot::Snapshot;

/// What a change is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// Nothing that matters.
    #[default]
    None,
    /// The kernel's table alone.
    Table,
    /// Files, or what could not be told.
    All,
}

/// Which names in a directory matter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    Only(BTreeSet<OsString>),
}

/// What is done to the table. A write that the kernel refuses gives no event.
const OF_TABLE: AddWatchFlags =
    AddWatchFlags::IN_MODIFY.union(AddWatchFlags::IN_DELETE).union(AddWatchFlags::IN_DELETE_SELF);
/// What is done to the files of a directory, or to itself.
const OF_FILES: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);
/// How often directories that change while they begin to be watched are looked for again.
const TRIES: usize = 5;
/// What says that a watch, or the queue, is no longer what it was.
const BLIND: AddWatchFlags = AddWatchFlags::IN_UNMOUNT
    .union(AddWatchFlags::IN_IGNORED)
    .union(AddWatchFlags::IN_Q_OVERFLOW)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// The watches.
pub(super) struct Watches {
    queue: Inotify,
    table: Option<WatchDescriptor>,
    directories: HashMap<WatchDescriptor, (PathBuf, Names)>,
    /// The interpreters for which they were made, and where their links end.
    interpreters: BTreeSet<PathBuf>,
    /// What could not be watched, and why.
    unwatched: BTreeMap<PathBuf, Errno>,
}

impl Watches {
    /// None yet.
    ///
    /// # Errors
    /// Those of `inotify_init1(2)`.
    pub(super) fn new() -> io::Result<Self> {
        let queue = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(|errno| match errno {
            Errno::EMFILE => io::Error::other(
                "nothing can be watched: there are as many inotify instances as the limits allow \
                 (fs.inotify.max_user_instances)",
            ),
            errno => errno.into(),
        })?;
        Ok(Self {
            queue,
            table: None,
            directories: HashMap::new(),
            interpreters: BTreeSet::new(),
            unwatched: BTreeMap::new(),
        })
    }

    /// Watches the kernel's table. Behind systemd's automount this mounts it.
    pub(super) fn watch_table(&mut self) {
        let directory = Path::new(registry::DIRECTORY);
        // Only opening it, and not watching it, makes the automount act.
        let added = File::open(directory).ok().map(|_| self.queue.add_watch(directory, OF_TABLE));
        self.unwatched.remove(directory);
        self.table = match added {
            Some(Ok(descriptor)) => Some(descriptor),
            Some(Err(errno)) => {
                self.unwatched.insert(directory.to_owned(), errno);
                None
            }
            // Where it is not mounted there is nothing to watch.
            None => None,
        };
    }

    /// Watches the directories that `snapshot` was made from, and no others; without one, those
    /// that are known before anything is looked at. What changed in them before is not seen.
    pub(super) fn watch_files(&mut self, snapshot: Option<&Snapshot>) {
        // A directory may be made, or made again, while the one above it begins to be watched.
        for _ in 0..TRIES {
            // Without a snapshot this is soon done again.
            if !self.add_files(snapshot) || snapshot.is_none() {
                return;
            }
        }
        tracing::warn!("directories that are to be watched are made again all the time");
    }

    /// Gives whether any were new, or more names matter in one.
    fn add_files(&mut self, snapshot: Option<&Snapshot>) -> bool {
        let flags = OF_FILES | AddWatchFlags::IN_ONLYDIR;
        let mut now = HashMap::new();
        self.unwatched.retain(|path, _| path == Path::new(registry::DIRECTORY));
        let mut moved = false;
        for (path, names) in wanted(snapshot) {
            match self.queue.add_watch(&path, flags) {
                Ok(descriptor) => {
                    // Two paths may lead to one directory.
                    let nothing = || (path, Names::Only(BTreeSet::new()));
                    now.entry(descriptor).or_insert_with(nothing).1.add(names);
                }
                // It was there a moment ago: what is there now is looked for again.
                Err(Errno::ENOENT | Errno::ENOTDIR) => moved = true,
                Err(errno) => drop(self.unwatched.insert(path, errno)),
            }
        }
        for descriptor in self.directories.keys().filter(|descriptor| !now.contains_key(descriptor)) {
            // It may be gone by itself.
            let _ = self.queue.rm_watch(*descriptor);
        }
        // The kernel gives the number of a watch that is there to no other (inotify(7)).
        let covers = |names: &Names, descriptor: &WatchDescriptor| {
            self.directories.get(descriptor).is_some_and(|(_, known)| known.contain(names))
        };
        let new = now.iter().any(|(descriptor, (_, names))| !covers(names, descriptor));
        self.directories = now;
        self.interpreters = snapshot.into_iter().flat_map(paths).map(Path::to_owned).collect();
        new || moved
    }

    /// Whether every interpreter of `snapshot` is watched.
    pub(super) fn cover(&self, snapshot: &Snapshot) -> bool {
        paths(snapshot).all(|path| self.interpreters.contains(path))
    }

    /// What could not be watched when that was last tried, each with the reason: a change there is seen
    /// by the slow timer only.
    pub(super) fn unwatched(&self) -> Vec<Unwatched> {
        let tell = |(path, errno): (&PathBuf, &Errno)| {
            let reason = match errno {
                Errno::ENOSPC => "there are as many watches as fs.inotify.max_user_watches allows".to_owned(),
                errno => errno.desc().to_owned(),
            };
            Unwatched { path: path.clone(), reason }
        };
        self.unwatched.iter().map(tell).collect()
    }

    /// What becomes readable when something changes.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// Takes everything from the queue, without waiting.
    pub(super) fn drain(&self) -> Change {
        let mut change = Change::None;
        loop {
            match self.queue.read_events() {
                Ok(events) => change = events.iter().map(|event| self.meaning(event)).fold(change, Ord::max),
                Err(Errno::EINTR) => {}
                Err(_) => return change,
            }
        }
    }

    fn meaning(&self, event: &InotifyEvent) -> Change {
        if event.mask.intersects(BLIND) {
            // Those of watches that were taken off on purpose say nothing.
            let known = self.table == Some(event.wd) || self.directories.contains_key(&event.wd);
            let overflow = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            return if known || overflow { Change::All } else { Change::None };
        }
        if self.table == Some(event.wd) {
            return Change::Table;
        }
        match (self.directories.get(&event.wd), &event.name) {
            (Some((_, Names::Only(names))), Some(name)) if !names.contains(name) => Change::None,
            (Some(_), Some(name)) if name.as_encoded_bytes().starts_with(b".qemu-persist-") => Change::None,
            (Some(_), _) => Change::All,
            (None, _) => Change::None,
        }
    }
}

impl Names {
    /// Those and these.
    fn add(&mut self, more: Self) {
        match (&mut *self, more) {
            (Self::Only(names), Self::Only(more)) => names.extend(more),
            _ => *self = Self::All,
        }
    }

    /// Whether all of `others` are among them.
    fn contain(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::All, _) => true,
            (Self::Only(names), Self::Only(others)) => others.is_subset(names),
            (Self::Only(_), Self::All) => false,
        }
    }
}

/// What is wanted of each directory.
#[derive(Default)]
struct Wanted(BTreeMap<PathBuf, Names>);

impl Wanted {
    fn add(&mut self, directory: &Path, names: Names) {
        match self.0.get_mut(directory) {
            Some(known) => known.add(names),
            None => drop(self.0.insert(directory.to_owned(), names)),
        }
    }

    fn add_file(&mut self, path: &Path) {
        if let (Some(directory), Some(name)) = (path.parent(), path.file_name()) {
            self.add(directory, Names::Only([name.to_owned()].into()));
        }
    }
}

/// By what each interpreter is found: its own path, and where its links end.
fn paths(snapshot: &Snapshot) -> impl Iterator<Item = &Path> {
    let resolved = snapshot.interpreters.values().flatten().map(|interpreter| &*interpreter.resolved);
    snapshot.interpreters.keys().map(|path| &**path).chain(resolved)
}

/// The directories that are to be watched. Of one that is not there the nearest above it that is,
/// where only the next name on the way down matters.
fn wanted(snapshot: Option<&Snapshot>) -> BTreeMap<PathBuf, Names> {
    let mut wanted = Wanted::default();
    for directory in fragment::DIRECTORIES.iter().chain(&config::DROP_IN_DIRECTORIES) {
        wanted.add(Path::new(directory), Names::All);
    }
    for directory in config::DIRECTORIES {
        wanted.add_file(&Path::new(directory).join(config::MAIN_FILE));
    }
    for file in [record::REMOVED, record::PROOFS] {
        wanted.add_file(Path::new(file));
    }
    if Path::new(database::PROGRAM).exists() {
        wanted.add(Path::new(database::DIRECTORY), Names::All);
    }
    snapshot.into_iter().flat_map(paths).for_each(|path| wanted.add_file(path));
    let mut there = Wanted::default();
    for (directory, names) in wanted.0 {
        let (directory, names) = nearest(&directory, names);
        there.add(&directory, names);
    }
    there.0
}

fn nearest(directory: &Path, names: Names) -> (PathBuf, Names) {
    let (mut directory, mut names) = (directory, names);
    while !directory.is_dir() {
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else { break };
        names = Names::Only([name.to_owned()].into());
        directory = parent;
    }
    (directory.to_owned(), names)
}
