// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keeper: what the service knows, and what it does at each look.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;

use super::diary::Diary;
use super::fights::{Fights, Matter};
use super::life::{Stop, come_alive};
use super::news::News;
use super::permit::Permit;
use super::registrars::registrar_runs;
use super::watches::{Change, Watches};
use crate::apply::{Lock, LockError, Outcome, apply_if};
use crate::assess::look::Look;
use crate::assess::origin::first_seen;
use crate::assess::plan::{Action, Step, Wish};
use crate::assess::proven::Proven;
use crate::assess::{Assessment, assess, look_at_targets};
use crate::config::Config;
use crate::files::Root;
use crate::finding::Finding;
use crate::messages;
use crate::record::{self, Registrations};
use crate::snapshot::{Kernel, Snapshot};

/// How long nobody else may have written before the names that other tools use are taken.
const QUIET: Duration = Duration::from_secs(1);
/// How long to wait at first for a run of the command that is changing handlers.
const BUSY: Duration = Duration::from_millis(20);
/// And in the end.
const LONGEST_BUSY: Duration = Duration::from_secs(1);
/// How long to wait for it at the start.
const START: Duration = Duration::from_secs(5);
/// What the service knows.
pub(super) struct Keeper {
    root: Root,
    /// What was read at the start; after the first look it is in the snapshot.
    config: Config,
    /// Whether it was not yet looked at with.
    config_is_new: bool,
    config_error: Option<String>,
    snapshot: Option<Snapshot>,
    watches: Watches,
    fights: Fights,
    /// What of the outside changed and has not been looked at.
    pending: Change,
    /// When not only the table was last looked at.
    looked_at_all: Instant,
    /// When anybody last wrote where this service watches.
    disturbed: Instant,
    next: Instant,
    busy: Duration,
    every: Duration,
    diary: Diary,
    /// What it was at the first look.
    permit: Option<Permit>,
    news: News,
    /// How many handlers work, of how many that are wanted.
    works: Option<(usize, usize)>,
    _alive: Flock<std::fs::File>,
}

fn now() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map(Duration::from).unwrap_or_default()
}

impl Keeper {
    /// Begins to watch and looks for the first time. `every` is the longest time between two looks.
    ///
    /// # Errors
    /// Why it cannot work at all. That handlers are not as they should be is no error.
    pub(super) fn start(every: Duration) -> Result<Self, Stop> {
        let root = Root::live();
        let alive = come_alive(&root)?;
        let mut watches = Watches::new()?;
        watches.watch_table();
        watches.watch_files(None);
        // What changes from here on is read again.
        let config = Config::load(&root).map_err(Stop::Config)?.config;
        let diary = Diary::open(&root, now(), every);
        let mut keeper = Self {
            root,
            permit: None,
            diary,
            config: tamed(config),
            config_is_new: true,
            config_error: None,
            snapshot: None,
            watches,
            fights: Fights::default(),
            pending: Change::All,
            looked_at_all: Instant::now(),
            disturbed: Instant::now(),
            next: Instant::now(),
            busy: BUSY,
            every,
            news: News::default(),
            works: None,
            _alive: alive,
        };
        // A run of the command that is changing handlers at this moment is waited for, but systemd does
        // not wait for long.
        let begin = Instant::now();
        while !keeper.look(Change::All)? {
            if begin.elapsed() > START {
                tracing::warn!("another run of qemu-persist has been changing handlers for seconds; still waiting");
                return Ok(keeper);
            }
            std::thread::sleep(BUSY);
        }
        if keeper.works.is_none() {
            keeper.recount();
        }
        let (good, wanted) = keeper.works.unwrap_or_default();
        messages::looked(good, wanted);
        Ok(keeper)
    }

    /// Disables what captures the host's own programs, without waiting for whoever changes handlers:
    /// nothing can be started until this is done, and it does no harm twice.
    fn undo_capture(&mut self) {
        let Some(snapshot) = self.snapshot.take().map(|snapshot| snapshot.with_new_table(&self.root)) else { return };
        let mut plan = assess(&snapshot, &Wish::default()).plan;
        plan.steps.retain(is_emergency);
        if !plan.steps.is_empty() {
            let outcome = apply_if(&self.root, &snapshot, plan, || true);
            outcome.tell(&snapshot, |_| true);
            self.remember(&outcome, &snapshot, false, now());
        }
        self.snapshot = Some(snapshot);
    }

    /// When to look again if nothing happens until then.
    pub(super) fn next_look(&self) -> Instant {
        self.next
    }

    /// What becomes readable when something changes.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.watches.descriptor()
    }

    /// Takes what is known to have changed, without waiting.
    pub(super) fn changes(&self) -> Change {
        self.watches.drain()
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&self) -> String {
        let (good, wanted) = self.works.unwrap_or_default();
        let mut line = format!("{good} of {wanted} handlers work; {}", self.diary.summary());
        if self.config_error.is_some() {
            line += "; the new configuration is broken, and the old one is used";
        }
        line
    }

    fn write(&mut self) {
        let boot_id = self.snapshot.as_ref().map_or("", |snapshot| &snapshot.facts.boot_id);
        self.diary.write(&self.root, boot_id, now(), &self.fights, self.config_error.as_ref());
    }

    /// Looks, and mends what may be mended. `change` is what is known to have changed. Gives whether
    /// the look was completed: while a run of the command changes handlers it is put off.
    ///
    /// # Errors
    /// Why the service cannot go on.
    pub(super) fn look(&mut self, change: Change) -> Result<bool, Stop> {
        let timer = change == Change::None && Instant::now() >= self.next && self.pending == Change::None;
        self.pending = self.pending.max(change);
        let lock = match Lock::take_within(&self.root, Duration::ZERO) {
            Ok(lock) => lock,
            Err(LockError::Held(..)) => {
                self.undo_capture();
                self.pending = self.pending.max(Change::Table);
                self.next = Instant::now() + self.busy;
                self.busy = LONGEST_BUSY.min(self.busy * 2);
                return Ok(false);
            }
            Err(e) => return Err(e.into()),
        };
        self.busy = BUSY;
        // What was changed until now is seen by this look, and by no other.
        let changed = self.watches.drain();
        self.config_is_new &= changed != Change::All;
        self.pending = self.pending.max(changed);
        if self.pending != Change::None {
            self.disturbed = Instant::now();
        }
        // However often the table alone is looked at.
        let due = timer && self.looked_at_all.elapsed() >= self.every;
        let all = self.pending == Change::All || due;
        if all {
            self.looked_at_all = Instant::now();
        }
        if let Some(known) = self.snapshot.as_ref().filter(|_| all) {
            // What changes from here on is read again.
            self.watches.watch_files(Some(known));
        }
        let snapshot = self.take(all)?;
        self.pending = Change::None;
        let mut snapshot = self.mend(snapshot);
        self.note_seen(&mut snapshot);
        drop(lock);
        self.diary.note_unwatched(self.watches.unwatched());
        if !self.watches.cover(&snapshot) {
            // The first look, or somebody registered a handler with an interpreter of its own: what happens to
            // that is not seen yet.
            self.pending = Change::All;
            self.next = Instant::now();
        }
        self.snapshot = Some(snapshot);
        self.write();
        Ok(true)
    }

    /// Reads everything, or the table alone.
    fn take(&mut self, all: bool) -> Result<Snapshot, Stop> {
        let removed = self.root.exists(Path::new(record::REMOVED));
        let snapshot = match self.snapshot.take() {
            Some(known) if !all && known.removed == removed => known.with_new_table(&self.root),
            known => {
                self.watches.watch_table();
                let config = known.map_or_else(|| std::mem::take(&mut self.config), |known| known.config);
                let is_new = std::mem::take(&mut self.config_is_new);
                let config = if is_new { config } else { self.load_config(config) };
                Snapshot::with_config(&self.root, config, true)
            }
        };
        if snapshot.kernel == Kernel::NotMounted {
            return Err(Stop::NotMounted);
        }
        if all {
            let now = Permit::read(&self.root);
            if self.permit.get_or_insert(now).is_lost(now) {
                return Err(Stop::Unpermitted);
            }
        }
        Ok(snapshot)
    }

    /// Reads the configuration. A broken one leaves it as it `was`, and is told.
    fn load_config(&mut self, was: Config) -> Config {
        match Config::load(&self.root) {
            Ok(loaded) => {
                self.config_error = None;
                tamed(loaded.config)
            }
            Err(error) => {
                let summary = error.summary();
                if self.config_error.as_ref() != Some(&summary) {
                    messages::config_rejected(&error);
                }
                self.config_error = Some(summary);
                was
            }
        }
    }

    /// Does what may be done now, and decides when to look again.
    fn mend(&mut self, snapshot: Snapshot) -> Snapshot {
        let wish = Wish::default();
        let Assessment { looks, findings, mut plan } = assess(&snapshot, &wish);
        let quiet = self.disturbed.elapsed() >= QUIET;
        // Mounting is systemd's.
        plan.steps.retain(|step| step.action != Action::Mount);
        let wanted: BTreeSet<_> = plan.steps.iter().map(Matter::of).collect();
        let mut due = if quiet { plan } else { plan.urgent(&looks, snapshot.kernel.table()) };
        let time = now();
        due.steps.retain(|step| is_emergency(step) || self.fights.permits(&Matter::of(step), time));
        let snapshot = if due.steps.is_empty() {
            // What is wanted and not due is backed off from, and stays as it is for now.
            self.tell(&snapshot, &looks, &findings, quiet);
            snapshot
        } else {
            drop((looks, findings));
            let watches = &self.watches;
            let mut missed = Change::None;
            let outcome = apply_if(&self.root, &snapshot, due, || {
                missed = match quiet {
                    // First, since it takes the longest.
                    true if registrar_runs() => Change::Table,
                    true => watches.drain(),
                    false => Change::None,
                };
                missed == Change::None
            });
            // The next look says whether it helped.
            self.pending = self.pending.max(missed).max(Change::Table);
            outcome.tell(&snapshot, |step| self.news.is_worth_telling(step));
            self.remember(&outcome, &snapshot, quiet, time);
            snapshot.after(&self.root, &outcome)
        };
        for matter in self.fights.settle(time, |matter| wanted.contains(matter)) {
            messages::recovered(&matter.subject, matter.file.as_deref());
        }
        self.plan_next(quiet, time);
        snapshot
    }

    fn plan_next(&mut self, quiet: bool, time: Duration) {
        let now = Instant::now();
        let mut next = self.looked_at_all + self.every;
        if !quiet {
            next = next.min(self.disturbed + QUIET);
        }
        if let Some(end) = self.fights.next(time) {
            next = next.min(now + end.saturating_sub(time));
        }
        if self.pending != Change::None {
            next = now;
        }
        self.next = next;
    }

    /// Writes down what was done, and counts it.
    fn remember(&mut self, outcome: &Outcome, snapshot: &Snapshot, quiet: bool, time: Duration) {
        self.diary.enter(&outcome.done, time);
        self.fights.enter(outcome, quiet, time, snapshot.config.back_off_after);
    }

    /// Counts what works after the first look, which counts nothing where it mends something: what a later one
    /// does to the numbers is told by the look that follows at once.
    fn recount(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.count_working(&snapshot, &look_at_targets(&snapshot));
            self.snapshot = Some(snapshot);
        }
    }

    fn count_working(&mut self, snapshot: &Snapshot, looks: &[Look<'_>]) {
        self.works = Some((looks.iter().filter(|look| works(snapshot, look)).count(), looks.len()));
    }

    /// Tells what is found and was not before, and what has to be proven again.
    fn tell(&mut self, snapshot: &Snapshot, looks: &[Look<'_>], findings: &[Finding], settled: bool) {
        self.count_working(snapshot, looks);
        // At once, so that who waits for the proof does not take the time in between for its absence.
        let unproven =
            |look: &&Look<'_>| matches!(look.proven, Proven::Never | Proven::Void { .. } | Proven::Expired { .. });
        let has_probe = |look: &&Look<'_>| look.target.platform.is_some();
        let good = |look: &&Look<'_>| works(snapshot, look);
        let due = looks.iter().filter(good).filter(has_probe).any(|look| unproven(&look));
        self.diary.note_due(due, now());
        if !settled {
            return;
        }
        for look in looks.iter().filter(good) {
            self.news.ask_for_proof(&self.root, snapshot, look);
        }
        self.news.tell(findings);
    }

    /// Writes down which files were on disk when handlers of others were first seen, by which a later
    /// look knows that they hold an older one.
    fn note_seen(&self, snapshot: &mut Snapshot) {
        let seen = first_seen(snapshot);
        if seen == snapshot.registrations.seen {
            return;
        }
        let boot_id = snapshot.facts.boot_id.clone();
        snapshot.registrations = Registrations { boot_id, seen, ..std::mem::take(&mut snapshot.registrations) };
        if let Err(e) = record::save(&self.root, record::REGISTRATIONS, &snapshot.registrations) {
            tracing::warn!("{}: {e}", record::REGISTRATIONS);
        }
    }
}

/// The configuration as the service follows it: it never takes over.
fn tamed(config: Config) -> Config {
    Config { take_over: false, ..config }
}

/// Whether the programs of a target run now.
fn works(snapshot: &Snapshot, look: &Look<'_>) -> bool {
    look.works_now() && snapshot.kernel.table().is_some_and(|table| table.enabled)
}

/// Whether nothing can be started until this is done.
fn is_emergency(step: &Step) -> bool {
    matches!(step.action, Action::DisableCapturing { .. })
}
