// SPDX-License-Identifier: MIT OR Apache-2.0
//! The snapshot: everything that judging looks at, read once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::apply::Outcome;
use crate::binfmt::database;
use crate::binfmt::entry::Entry;
use crate::binfmt::fragment::{self, Fragment};
use crate::binfmt::registry::{Registry, Table};
use crate::binfmt::rule::Rule;
use crate::config::{Config, ConfigError};
use crate::files::Root;
use crate::host::{self, Facts};
use crate::qemu::{self, Inspector, Interpreter};
use crate::record::{self, FileIdentity, Proofs, Registrations};
use crate::service::Service;
use crate::target::Target;

/// What could be seen of the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// A system image: the running kernel is none of its business.
    NotAsked,
    /// binfmt_misc is not mounted here.
    NotMounted,
    /// It could not be read, and why.
    Unreadable(String),
    /// The table.
    Table(Table),
}

impl Kernel {
    fn read(registry: &Registry) -> Self {
        match registry.read() {
            Ok(Some(table)) => Self::Table(table),
            Ok(None) => Self::NotMounted,
            Err(e) => Self::Unreadable(e.to_string()),
        }
    }

    /// The table, where it could be seen.
    pub fn table(&self) -> Option<&Table> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// Everything that was read, at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Whether this is the running system; an image has no kernel, no records of a boot, no proofs.
    pub live: bool,
    /// Where the tree is on the running system: `/`, or the image's directory.
    pub tree: PathBuf,
    /// The host.
    pub facts: Facts,
    /// The configuration; its defaults where it is broken.
    pub config: Config,
    /// Why the configuration cannot be used, where it is broken.
    pub config_error: Option<String>,
    /// What is wanted. Nothing after `remove`.
    pub targets: Vec<Target>,
    /// The kernel's table.
    pub kernel: Kernel,
    /// The fragments, in the order in which systemd reads them.
    pub fragments: Vec<Fragment>,
    /// What of the fragments' directories could not be looked at, and why.
    pub fragment_errors: Vec<String>,
    /// What binfmt-support registers at boot besides, where it is installed.
    pub database: Vec<Rule>,
    /// The interpreters that matter, by the path under which each is named.
    pub interpreters: HashMap<PathBuf, Result<Interpreter, String>>,
    /// What this program registered on this boot.
    pub registrations: Registrations,
    /// The file that they are from, which is replaced by another one when they change.
    pub registrations_file: Option<FileIdentity>,
    /// The last proof of each platform.
    pub proofs: Proofs,
    /// The service.
    pub service: Service,
    /// Whether `remove` was the last word.
    pub removed: bool,
    /// Seconds since this boot.
    pub boot_seconds: u64,
}

/// What was registered on the boot that `facts` are of, and the file that says so.
fn registrations(root: &Root, facts: &Facts) -> (Registrations, Option<FileIdentity>) {
    let file = record::identity(root, record::REGISTRATIONS);
    let registrations: Registrations = record::load(root, record::REGISTRATIONS).unwrap_or_default();
    let this_boot = registrations.boot_id == facts.boot_id && root.is_live();
    (if this_boot { registrations } else { Registrations::default() }, file)
}

impl Snapshot {
    /// Reads everything of `root`. With `honour_remove` nothing is wanted after `remove`; without, what
    /// the configuration wants, as for `apply`.
    ///
    /// What cannot be read is part of the snapshot. The configuration's error is given beside it, for
    /// the verbs that it stops.
    pub fn take(root: &Root, honour_remove: bool) -> (Self, Option<ConfigError>) {
        let (config, error) = match Config::load(root) {
            Ok(loaded) => (loaded.config, None),
            Err(error) => (Config::default(), Some(error)),
        };
        let mut snapshot = Self::with_config(root, config, honour_remove);
        // What is wanted is not known then, and the defaults may be something else.
        if error.is_some() {
            snapshot.targets.clear();
        }
        snapshot.config_error = error.as_ref().map(ConfigError::summary);
        (snapshot, error)
    }

    /// Reads everything but the configuration, which is given.
    pub fn with_config(root: &Root, config: Config, honour_remove: bool) -> Self {
        let facts = Facts::read(root);
        let removed = root.exists(Path::new(record::REMOVED));
        let targets = if removed && honour_remove { Vec::new() } else { Target::all(&config, &facts.native) };
        let kernel = if root.is_live() { Kernel::read(&Registry::default()) } else { Kernel::NotAsked };
        let (registrations, registrations_file) = registrations(root, &facts);
        let (fragments, fragment_errors) = fragment::read_all(root, &facts.etc_below);
        let mut snapshot = Self {
            live: root.is_live(),
            tree: root.outside(Path::new("/")).components().collect(),
            config,
            config_error: None,
            targets,
            kernel,
            fragments,
            fragment_errors,
            database: database::read(root),
            interpreters: HashMap::new(),
            registrations,
            registrations_file,
            proofs: record::load(root, record::PROOFS).unwrap_or_default(),
            service: Service::read(root, &facts.boot_id),
            removed,
            boot_seconds: record::boot_seconds(),
            facts,
        };
        snapshot.interpreters = snapshot.inspect(root, HashMap::new());
        snapshot
    }

    /// Reads again what others change most: the kernel's table, our records of it, and interpreters
    /// that were not looked at before. Everything else is as it was.
    #[must_use]
    pub fn with_new_table(mut self, root: &Root) -> Self {
        let file = record::identity(root, record::REGISTRATIONS);
        if file.is_none() || file != self.registrations_file {
            (self.registrations, self.registrations_file) = registrations(root, &self.facts);
        }
        self.kernel = Kernel::read(&Registry::default());
        self.boot_seconds = record::boot_seconds();
        let known = std::mem::take(&mut self.interpreters);
        self.interpreters = self.inspect(root, known);
        self
    }

    /// Reads again what applying changes: the kernel's table, the fragments, and the records, as far
    /// as `outcome` says that they changed. The host, the configuration, the interpreters and the
    /// service are as they were.
    #[must_use]
    pub fn after(self, root: &Root, outcome: &Outcome) -> Self {
        let (registrations, registrations_file) = registrations(root, &self.facts);
        let (fragments, fragment_errors) = if outcome.touched_fragments() {
            fragment::read_all(root, &self.facts.etc_below)
        } else {
            (self.fragments, self.fragment_errors)
        };
        Self {
            kernel: match outcome.table.clone() {
                Some(table) => Kernel::Table(table),
                None if root.is_live() => Kernel::read(&Registry::default()),
                None => Kernel::NotAsked,
            },
            fragments,
            fragment_errors,
            registrations,
            registrations_file,
            removed: root.exists(Path::new(record::REMOVED)),
            ..self
        }
    }

    /// Where `path` of the tree is on the running system, for commands that people are told to run.
    pub fn outside(&self, path: &Path) -> PathBuf {
        self.tree.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Which file an interpreter is that was found at `path`; none where there was none.
    pub fn file_on_disk(&self, path: &Path) -> Option<&FileIdentity> {
        self.interpreters.get(path)?.as_ref().ok().map(|interpreter| &interpreter.identity)
    }

    /// Whether two interpreters were found that are not the same file.
    pub fn are_other_files(&self, one: &Path, other: &Path) -> bool {
        self.file_on_disk(one).zip(self.file_on_disk(other)).is_some_and(|(one, other)| !one.is_same(other))
    }

    /// Looks at the interpreters that any rule for a target names, and where others may be, those
    /// that are `known` left out.
    fn inspect(
        &self,
        root: &Root,
        known: HashMap<PathBuf, Result<Interpreter, String>>,
    ) -> HashMap<PathBuf, Result<Interpreter, String>> {
        // Whose an image's files are is seen from here, whatever is in the image.
        let overflow = if self.live { self.facts.user_namespace } else { host::in_user_namespace() };
        let mut inspector = Inspector::new(root, overflow).knowing(known);
        let concerns = |rule: &Rule| {
            self.targets.iter().any(|target| target.name == rule.name || target.is_taken_by(&rule.pattern))
        };
        let entries = self.kernel.table().map_or(&[][..], |table| &table.entries).iter().filter_map(Entry::rule);
        for rule in entries.filter(concerns) {
            inspector.inspect(&rule.interpreter);
        }
        let overridden = self.fragments.iter().flat_map(|f| &f.overridden).flat_map(|o| &o.content.rules);
        let rules = self.fragments.iter().flat_map(|f| &f.content.rules).chain(overridden).chain(&self.database);
        for rule in rules.filter(|rule| concerns(rule)) {
            inspector.inspect(&rule.interpreter);
        }
        for (platform, path) in &self.config.interpreters {
            if self.targets.iter().any(|target| target.platform == Some(*platform)) {
                inspector.inspect(path);
            }
        }
        for target in &self.targets {
            for path in target.platform.iter().flat_map(|platform| qemu::candidates(platform)) {
                inspector.inspect(&path);
            }
            if let Some(rule) = &target.rule {
                inspector.inspect(&rule.interpreter);
            }
        }
        inspector.into_files()
    }
}
