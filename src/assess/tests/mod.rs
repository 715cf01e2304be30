// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judging and planning, on snapshots that are made up.

#![allow(clippy::type_complexity, clippy::needless_pass_by_value, reason = "tables of tests")]

mod choices;
mod emulator;
mod findings;
mod plans;
mod proofs;
mod service;

use std::fmt;
use std::path::{Path, PathBuf};

use super::plan::Wish;
use super::{Assessment, assess};
use crate::binfmt::entry::Entry;
use crate::binfmt::fragment::{Content, Fragment, Overridden, parse, render};
use crate::binfmt::registry::Table;
use crate::binfmt::rule::Rule;
use crate::config::Config;
use crate::host::{Confinement, Distribution, EtcPersistence, Facts, KernelSupport};
use crate::parts::FRAGMENT;
use crate::platform::Platform;
use crate::qemu::{Interpreter, Program, Suspicion, Trust, candidates};
use crate::record::{BrokenPart, FileIdentity, Proof, Registration, RuntimeResult};
use crate::service::Service;
use crate::snapshot::{Kernel, Snapshot};
use crate::target::Target;

pub(crate) const QEMU: &str = "/usr/bin/qemu-x86_64-static";
const QEMU_P: &str = "/usr/libexec/qemu-binfmt/x86_64-binfmt-P";
const OURS: &str = "/etc/binfmt.d/qemu-x86_64.conf";
const VENDORS: &str = "/usr/lib/binfmt.d/qemu-x86_64.conf";
const BOOT: &str = "this-boot";
const NOW: u64 = 100_000;

fn platform(name: &str) -> &'static Platform {
    Platform::named(name).unwrap()
}

/// Debian's rule for a platform, with another name, interpreter or flags.
fn rule_for(oci: &str, name: &str, interpreter: &str, flags: &str) -> Rule {
    let target = target(oci);
    let flags = crate::binfmt::rule::Flags::parse_lenient(flags).0;
    Rule { name: name.to_owned(), pattern: target.pattern, interpreter: interpreter.into(), flags }
}

pub(crate) fn rule(name: &str, interpreter: &str, flags: &str) -> Rule {
    rule_for("amd64", name, interpreter, flags)
}

/// The target of one platform.
fn target(oci: &str) -> Target {
    let config = Config { platforms: Some(vec![platform(oci)]), ..Config::default() };
    Target::all(&config, &[]).remove(0)
}

fn identity(ino: u64) -> FileIdentity {
    FileIdentity { dev: 1, ino, size: 5_000_000, mtime_ns: 1, ctime_ns: 4, build_id: None }
}

/// A static QEMU for arm64 hosts.
fn interpreter(path: &str) -> Interpreter {
    let resolved = if path.ends_with("-binfmt-P") { QEMU } else { path };
    Interpreter {
        path: path.into(),
        resolved: resolved.into(),
        identity: identity(11),
        program: Some(Program { runs_on: Some(platform("arm64")), loader: None }),
        executable: true,
        trust: Trust::Safe,
    }
}

fn suspicion(path: &str) -> Suspicion {
    Suspicion { path: path.into(), why: format!("{path} is not safe") }
}

fn fragment(path: &str, content: Content) -> Fragment {
    let name = Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
    Fragment {
        name,
        path: path.into(),
        masked: false,
        dangling: false,
        content,
        below: false,
        unreadable: None,
        overridden: Vec::new(),
    }
}

fn proof() -> Proof {
    Proof {
        boot_id: BOOT.into(),
        kernel_release: "6.12.1".into(),
        unix_time: 1_700_000_000,
        boot_seconds: NOW - 60,
        entry: rule("qemu-x86_64", QEMU_P, "POF").to_string(),
        entry_inode: 7,
        interpreter: Some(identity(11)),
        results: vec![result("builtin", true)],
        rejected: None,
    }
}

fn result(runtime: &str, passed: bool) -> RuntimeResult {
    let reason = if passed { String::new() } else { "exec format error".to_owned() };
    RuntimeResult { runtime: runtime.into(), passed, reason, broken: Vec::new(), working: vec![FRAGMENT.to_owned()] }
}

/// A snapshot with hands to change it.
pub(crate) struct Host(pub(crate) Snapshot);

impl fmt::Debug for Host {
    /// What differs from host to host, a line for each thing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = &self.0;
        let rule = |rule: &Rule| {
            let at = 16.min(rule.pattern.magic.len() - 3);
            let (magic, mask) = (&rule.pattern.magic[at..at + 3], rule.pattern.mask[at]);
            format!("{} {} {} {magic:x?}/{mask:x}", rule.name, rule.interpreter.display(), rule.flags)
        };
        writeln!(f, "live {}, {:?}", snapshot.live, snapshot.kernel.table().map(|t| t.enabled))?;
        for entry in snapshot.kernel.table().iter().flat_map(|table| &table.entries) {
            let recorded = snapshot.registrations.entries.get(&entry.name).map(|r| (r.inode, &r.interpreter));
            let shown = entry.rule().map(|r| rule(&r));
            writeln!(f, "entry {} {shown:?} enabled {} recorded {recorded:?}", entry.inode, entry.enabled)?;
        }
        for (name, registration) in &snapshot.registrations.entries {
            writeln!(f, "registration {name}, displaced {:?}", registration.displaced)?;
        }
        for fragment in &snapshot.fragments {
            let rules: Vec<_> = fragment.content.rules.iter().map(rule).collect();
            let over: Vec<_> = fragment.overridden.iter().flat_map(|o| &o.content.rules).map(rule).collect();
            writeln!(f, "{} ours {} {rules:?} over {over:?}", fragment.path.display(), fragment.content.ours)?;
        }
        let config = &snapshot.config;
        writeln!(f, "credentials {} take_over {}", config.credentials, config.take_over)?;
        writeln!(f, "installed {}", snapshot.interpreters[Path::new(QEMU)].is_ok())
    }
}

impl Host {
    /// Debian 12 on a Raspberry Pi: Debian's handler for amd64 is registered, restored at boot, and
    /// proven.
    pub(crate) fn healthy() -> Self {
        let mut host = Self(Snapshot {
            live: true,
            tree: "/".into(),
            facts: Facts {
                machine: "aarch64".into(),
                kernel_release: "6.12.1".into(),
                boot_id: BOOT.into(),
                page_size: 4096,
                userland: Some(platform("arm64")),
                native: vec![platform("arm64"), platform("arm")],
                distribution: Distribution { id: "debian".into(), version_id: "12".into(), ..Distribution::default() },
                confinement: Confinement::None,
                user_namespace: false,
                etc: EtcPersistence::Persistent,
                etc_below: Vec::new(),
                proc_sys_read_only: false,
                kernel_support: KernelSupport::Present,
                systemd: true,
            },
            config: Config::default(),
            config_error: None,
            targets: vec![target("amd64")],
            kernel: Kernel::Table(Table {
                enabled: true,
                writable: true,
                read_only: false,
                entries: Vec::new(),
                unreadable: Vec::new(),
            }),
            fragments: Vec::new(),
            fragment_errors: Vec::new(),
            database: Vec::new(),
            interpreters: candidates(platform("amd64")).map(|path| (path, Err("it does not exist".into()))).into(),
            registrations: crate::record::Registrations { boot_id: BOOT.into(), ..Default::default() },
            registrations_file: None,
            proofs: std::iter::once(("linux/amd64".to_owned(), proof())).collect(),
            service: Service::default(),
            removed: false,
            boot_seconds: NOW,
        });
        host.install(QEMU).install(QEMU_P).vendors("POF");
        host.entry(&rule("qemu-x86_64", QEMU_P, "POF"), 7);
        host
    }

    /// The same as a system image.
    fn image() -> Self {
        let mut host = Self::healthy();
        host.0.live = false;
        host.0.tree = "/srv/image".into();
        host.0.kernel = Kernel::NotAsked;
        host.0.proofs.clear();
        host.0.facts.kernel_support = KernelSupport::NotAsked;
        host
    }

    /// With nothing registered now.
    pub(crate) fn empty() -> Self {
        let mut host = Self::healthy();
        host.table().entries.clear();
        host
    }

    fn table(&mut self) -> &mut Table {
        let Kernel::Table(table) = &mut self.0.kernel else { panic!("no table") };
        table
    }

    /// Registers a rule, the newest of all.
    fn entry(&mut self, rule: &Rule, inode: u64) -> &mut Entry {
        let entry = Entry { inode, ..Entry::of_rule(rule) };
        let entries = &mut self.table().entries;
        entries.insert(0, entry);
        &mut entries[0]
    }

    /// Puts a rule in the place of Debian's.
    pub(crate) fn replace(&mut self, rule: &Rule) -> &mut Self {
        self.table().entries.clear();
        self.entry(rule, 7);
        self
    }

    fn install(&mut self, path: &str) -> &mut Self {
        self.0.interpreters.insert(path.into(), Ok(interpreter(path)));
        self
    }

    fn uninstall(&mut self, path: &str) -> &mut Self {
        self.0.interpreters.insert(path.into(), Err("it does not exist".into()));
        self
    }

    /// Changes QEMU, by whichever path it is looked at.
    fn qemu(&mut self, change: impl Fn(&mut Interpreter)) -> &mut Self {
        for path in [QEMU, QEMU_P] {
            change(self.0.interpreters.get_mut(Path::new(path)).unwrap().as_mut().unwrap());
        }
        self
    }

    /// Puts a file of the distribution's in place.
    fn vendors(&mut self, flags: &str) -> &mut Self {
        let content = parse(&rule("qemu-x86_64", QEMU_P, flags).to_string());
        self.0.fragments.retain(|f| f.name != "qemu-x86_64.conf");
        self.add(fragment(VENDORS, content))
    }

    /// Puts a file into /etc, over the distribution's.
    fn etc(&mut self, text: &str) -> &mut Self {
        let mut new = fragment(OURS, parse(text));
        if let Some(at) = self.0.fragments.iter().position(|f| f.name == new.name) {
            let old = self.0.fragments.remove(at);
            new.overridden = old.overridden;
            if old.path == Path::new(VENDORS) {
                new.overridden.push(Overridden { path: old.path, content: old.content });
            }
        }
        self.add(new)
    }

    fn ours(&mut self, rule: &Rule) -> &mut Self {
        self.etc(&render(rule))
    }

    fn add(&mut self, new: Fragment) -> &mut Self {
        self.0.fragments.push(new);
        self.0.fragments.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// Records that the entry was registered by this program, with the interpreter `ino`.
    fn record(&mut self, rule: &Rule, inode: u64, ino: u64, displaced: Option<&Rule>) -> &mut Self {
        let registration = Registration {
            rule: rule.clone(),
            inode,
            interpreter: Some(identity(ino)),
            displaced: displaced.cloned().map(Box::new),
        };
        self.0.registrations.entries.insert(rule.name.clone(), registration);
        self
    }

    /// Has the last self-test find `part` broken.
    fn break_part(&mut self, part: &str) -> &mut Self {
        let broken = BrokenPart { part: part.to_owned(), detail: "so it was".to_owned() };
        for proof in self.0.proofs.values_mut() {
            for result in &mut proof.results {
                result.working.retain(|working| working != part);
                result.broken.push(broken.clone());
            }
        }
        self
    }

    pub(crate) fn assess(&self) -> Assessment<'_> {
        assess(&self.0, &Wish::default())
    }

    /// A host with large pages on which QEMU of qemu-persist-emulator runs programs, as a self-test has shown.
    pub(crate) fn with_emulator() -> Self {
        emulator::running(|_| {})
    }

    fn ids(&self) -> Vec<&'static str> {
        self.assess().findings.iter().map(|finding| finding.id).collect()
    }
}

/// Paths of what is not good, and what is wrong with it.
fn add_bad_interpreters(host: &mut Host) {
    let change = |host: &mut Host, path: &str, change: &dyn Fn(&mut Interpreter)| {
        let mut bad = interpreter(path);
        change(&mut bad);
        host.0.interpreters.insert(PathBuf::from(path), Ok(bad));
    };
    change(host, "/opt/dynamic", &|i| i.program.as_mut().unwrap().loader = Some("/lib/ld.so".into()));
    change(host, "/opt/foreign", &|i| i.program.as_mut().unwrap().runs_on = Some(platform("riscv64")));
    change(host, "/usr/bin/box64", &|i| i.program.as_mut().unwrap().loader = Some("/lib/ld.so".into()));
    host.uninstall("/opt/gone");
}
