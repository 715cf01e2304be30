// SPDX-License-Identifier: MIT OR Apache-2.0
//! Applying: the only place that changes anything of the system.
//!
//! A plan is carried out step by step under a lock; a step that fails is reported, and the others
//! are still done. While an entry is exchanged, its rule stands under another name, so that
//! programs start at every moment; killed anywhere, what worked before still works.

mod lock;

use std::io;

pub use lock::{Lock, LockError};
use nix::errno::Errno;
use serde::Serialize;

use crate::assess::origin::{Origin, origin_of};
use crate::assess::plan::{Action, Manner, Plan, Step, stand_in};
use crate::binfmt::entry::Entry;
use crate::binfmt::fragment;
use crate::binfmt::registry::{self, Registry, Table};
use crate::binfmt::rule::Rule;
use crate::files::Root;
use crate::messages;
use crate::record::{self, FileIdentity, Registration, Registrations};
use crate::snapshot::Snapshot;

/// A step that could not be carried out.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Failed {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// Why not.
    pub error: String,
    /// Whether that is because somebody else changed the same at that moment: it may not fail again.
    #[serde(skip)]
    pub lost_race: bool,
}

/// What a run did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The steps that were carried out, in their order.
    pub done: Vec<Step>,
    /// The steps that failed.
    pub failed: Vec<Failed>,
    /// Why what was registered could not be written down, where it could not.
    #[serde(skip)]
    pub unrecorded: Option<String>,
    /// The kernel's table afterwards, where it was read again to confirm what was registered.
    #[serde(skip)]
    pub table: Option<Table>,
}

impl Outcome {
    /// Logs what failed, and what was done as far as it is `worth` that; `before` is how all was.
    pub fn tell(&self, before: &Snapshot, mut worth: impl FnMut(&Step) -> bool) {
        for step in self.done.iter().filter(|step| worth(step)) {
            messages::changed(step, before);
        }
        for Failed { step, error, lost_race } in &self.failed {
            messages::failed(step, error, *lost_race, before);
        }
    }

    /// Whether any fragment was written or removed, or tried to.
    pub fn touched_fragments(&self) -> bool {
        let steps = self.done.iter().chain(self.failed.iter().map(|failed| &failed.step));
        steps
            .map(|step| &step.action)
            .any(|a| matches!(a, Action::WriteFragment { .. } | Action::RemoveFragment { .. }))
    }
}

/// Carries out `plan`, which was made from `snapshot`, on `root`. The caller holds the [`Lock`].
pub fn apply(root: &Root, snapshot: &Snapshot, plan: Plan) -> Outcome {
    let outcome = apply_if(root, snapshot, plan, || true);
    outcome.tell(snapshot, |_| true);
    outcome
}

/// As [`apply`], unless `undisturbed` says no when everything is ready and nothing has been changed. What
/// was done is for the caller to tell ([`Outcome::tell`]).
pub fn apply_if(root: &Root, snapshot: &Snapshot, plan: Plan, undisturbed: impl FnOnce() -> bool) -> Outcome {
    let mut run = Run {
        root,
        snapshot,
        registry: Registry::default(),
        registrations: registrations(snapshot),
        outcome: Outcome::default(),
    };
    run.announce(&plan.steps);
    if !undisturbed() {
        run.unsay();
        return run.outcome;
    }
    for step in plan.steps {
        let result = run.carry_out(&step.action);
        let unsafe_to_go_on = result.is_err() && matches!(step.action, Action::NoteRemoval { .. });
        run.enter(step, result);
        if unsafe_to_go_on {
            // What is taken back now would be registered again at the next occasion.
            break;
        }
    }
    run.confirm();
    run.remember();
    run.outcome
}

/// What is recorded of this boot, without handlers that are gone since.
fn registrations(snapshot: &Snapshot) -> Registrations {
    let mut entries = snapshot.registrations.entries.clone();
    if let Some(table) = snapshot.kernel.table() {
        entries.retain(|name, _| table.entry(name).or_else(|| table.entry(&stand_in(name))).is_some());
    }
    Registrations { boot_id: snapshot.facts.boot_id.clone(), entries, ..snapshot.registrations.clone() }
}

/// What an error of the kernel means here.
fn explain(action: &Action, error: &io::Error) -> String {
    let what = match (action, error.raw_os_error().map(Errno::from_raw)) {
        (Action::Mount, Some(Errno::ENODEV)) => "the kernel has no binfmt_misc, or its module cannot be loaded",
        (Action::Mount, Some(Errno::EPERM)) => "this needs root",
        (Action::Register { .. } | Action::Restore { .. }, Some(Errno::EEXIST)) => "the name is taken",
        (Action::Register { .. } | Action::Restore { .. }, Some(Errno::EINVAL)) => "the kernel does not take this rule",
        (Action::Register { .. } | Action::Restore { .. }, Some(Errno::ENOENT)) => "the interpreter is gone",
        _ => return explain_write(error),
    };
    format!("{what} ({error})")
}

/// What an error of writing a file means.
fn explain_write(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => format!("the file system is mounted read-only ({error})"),
        io::ErrorKind::StorageFull => format!("the disk is full ({error})"),
        _ => error.to_string(),
    }
}

/// Whether an error says that the name was taken, or the entry removed or exchanged, meanwhile.
fn is_lost_race(action: &Action, error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EEXIST) => true,
        // Registering says so where there is no interpreter.
        Some(Errno::ENOENT) => matches!(action, Action::Enable { .. } | Action::DisableCapturing { .. }),
        // What reading back found.
        None => error.kind() == io::ErrorKind::Other,
        Some(_) => false,
    }
}

struct Run<'a> {
    root: &'a Root,
    snapshot: &'a Snapshot,
    registry: Registry,
    registrations: Registrations,
    outcome: Outcome,
}

impl Run<'_> {
    /// Writes down what is about to be registered, so that it is known as ours even if this
    /// process dies in between.
    fn announce(&mut self, steps: &[Step]) {
        let mut any = false;
        for step in steps {
            if let Action::Register { rule, displaced, .. } = &step.action {
                self.note(rule, 0, None, displaced.clone());
                any = true;
            }
        }
        if any {
            self.remember();
        }
    }

    /// Takes back what was announced.
    fn unsay(&self) {
        if self.registrations != self.snapshot.registrations {
            // Logged, and all that can be done about it.
            let _ = self.save(&self.snapshot.registrations);
        }
    }

    fn note(&mut self, rule: &Rule, inode: u64, interpreter: Option<FileIdentity>, displaced: Option<Box<Rule>>) {
        let registration = Registration { rule: rule.clone(), inode, interpreter, displaced };
        self.registrations.entries.insert(rule.name.clone(), registration);
    }

    fn remember(&mut self) {
        self.outcome.unrecorded = None;
        if !self.root.is_live() || self.registrations == self.snapshot.registrations {
            return;
        }
        let is_empty = |known: &Registrations| known.entries.is_empty() && known.adopted.is_empty();
        if is_empty(&self.registrations) && is_empty(&self.snapshot.registrations) {
            return;
        }
        self.outcome.unrecorded = self.save(&self.registrations).err();
    }

    /// Writes the record, or gives why that could not be done, which is logged.
    fn save(&self, registrations: &Registrations) -> Result<(), String> {
        record::save(self.root, record::REGISTRATIONS, registrations).map_err(|e| {
            tracing::warn!("{}: {e}", record::REGISTRATIONS);
            explain_write(&e)
        })
    }

    fn enter(&mut self, step: Step, result: io::Result<()>) {
        match result {
            Ok(()) => self.outcome.done.push(step),
            Err(e) => {
                let (error, lost_race) = (explain(&step.action, &e), is_lost_race(&step.action, &e));
                let failed = Failed { step, error, lost_race };
                self.outcome.failed.push(failed);
            }
        }
    }

    /// Reads back what was registered, all of it at once. What the kernel does not show as it was
    /// written has failed.
    fn confirm(&mut self) {
        let registers = |step: &Step| matches!(step.action, Action::Register { .. } | Action::Restore { .. });
        if !self.outcome.done.iter().any(registers) {
            return;
        }
        let table = self.registry.read();
        for step in std::mem::take(&mut self.outcome.done) {
            let result = match (&step.action, &table) {
                (Action::Register { rule, .. } | Action::Restore { rule }, Ok(Some(table))) => {
                    registry::confirm(rule, table.entry(&rule.name)).map(|entry| {
                        if let Some(registration) = self.registrations.entries.get_mut(&rule.name) {
                            registration.inode = entry.inode;
                        }
                    })
                }
                (Action::Register { .. } | Action::Restore { .. }, Ok(None)) => {
                    Err(io::Error::other("binfmt_misc was unmounted meanwhile"))
                }
                (Action::Register { .. } | Action::Restore { .. }, Err(e)) => {
                    Err(io::Error::new(e.kind(), format!("it could not be read back: {e}")))
                }
                _ => Ok(()),
            };
            self.enter(step, result);
        }
        self.outcome.table = table.ok().flatten();
    }

    fn carry_out(&mut self, action: &Action) -> io::Result<()> {
        match action {
            Action::Mount => self.registry.mount(),
            Action::EnableAll => self.registry.enable_all(),
            Action::Enable { name } => self.registry.enable(name),
            Action::DisableCapturing { name } => self.registry.disable(name),
            Action::Register { rule, manner, displaced } => {
                self.register(rule, *manner)?;
                self.note(rule, 0, self.held_by(rule), displaced.clone());
                Ok(())
            }
            Action::Restore { rule } => self.register(rule, Manner::New),
            Action::Retire { name, restore } => {
                match restore.as_ref().map(|rule| self.register(rule, Manner::Exchange)) {
                    // What it had replaced cannot be had back: its interpreter is gone.
                    Some(Err(e)) if e.kind() == io::ErrorKind::NotFound => self.registry.remove(name)?,
                    Some(restored) => restored?,
                    None => self.registry.remove(name)?,
                }
                self.registrations.entries.remove(name);
                Ok(())
            }
            Action::WriteFragment { path, rule } => {
                self.note_adopted(rule);
                self.root.write_whole(path, fragment::render(rule).as_bytes())
            }
            Action::WriteConfig { path, content } => self.root.write_whole(path, content.as_bytes()),
            Action::NoteRemoval { path } => {
                self.root.write_whole(path, b"Nothing is wanted since `qemu-persist remove`.\n")
            }
            Action::RemoveFragment { path } | Action::RemoveConfig { path } | Action::LiftRemoval { path } => {
                self.root.remove_file(path)
            }
        }
    }

    /// Remembers that the entry that `rule` would make is there already, and somebody else's.
    fn note_adopted(&mut self, rule: &Rule) {
        let entry = self.snapshot.kernel.table().and_then(|table| table.entry(&rule.name));
        let theirs = |entry: &&Entry| entry.does_what(rule) && origin_of(self.snapshot, entry) != Origin::Ours;
        if let Some(entry) = entry.filter(theirs) {
            self.registrations.adopted.insert(rule.name.clone(), entry.inode);
        }
    }

    fn register(&self, rule: &Rule, manner: Manner) -> io::Result<()> {
        if manner == Manner::New {
            return self.registry.write_rule(rule);
        }
        // A stand-in that an earlier run left behind may be all that runs programs now: it goes last.
        let first = stand_in(&rule.name);
        let left = self.registry.entry(&first)?.is_some();
        let stand_in = rule.renamed(if left { stand_in(&first) } else { first.clone() });
        self.registry.remove(&stand_in.name)?;
        self.registry.register(&stand_in)?;
        self.registry.remove(&rule.name)?;
        self.registry.register(rule)?;
        self.registry.remove(&stand_in.name)?;
        self.registry.remove(&first)
    }

    /// The file that the kernel opened for a rule with `F`: the one that the snapshot saw. Where another
    /// took its place in between, nobody knows which it was: a later look takes the handler for one
    /// that holds the older file, and registers it again.
    fn held_by(&self, rule: &Rule) -> Option<FileIdentity> {
        let seen = self.snapshot.interpreters.get(&rule.interpreter)?.as_ref().ok()?;
        rule.flags.fix_binary.then(|| seen.identity.clone())
    }
}
