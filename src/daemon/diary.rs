// SPDX-License-Identifier: MIT OR Apache-2.0
//! The diary: what the service tells of itself in /run, for `status` and for its own next start.

use std::time::{Duration, SystemTime};

use super::fights::{Fights, Truce};
use crate::assess::plan::Step;
use crate::files::Root;
use crate::messages;
use crate::record;
use crate::service::{BackedOff, Repair, STATE, State, Unwatched, awake_seconds};

/// How many of the last changes are told.
const RECENT: usize = 20;

/// What is told now, and what is in the file.
pub(super) struct Diary {
    state: State,
    saved: State,
    /// What this process has said that it cannot watch.
    unwatched: Vec<Unwatched>,
}

impl Diary {
    /// Goes on with what the service told before it was started `now`; it looks at least every `every`.
    pub(super) fn open(root: &Root, now: Duration, every: Duration) -> Self {
        let before: Option<State> = record::load(root, STATE);
        let state = State {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: now.as_secs(),
            look_every: every.as_secs(),
            ..before.unwrap_or_default()
        };
        Self { state, saved: State::default(), unwatched: Vec::new() }
    }

    /// Enters the steps that were carried out at `time`.
    pub(super) fn enter(&mut self, done: &[Step], time: Duration) {
        let unix_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.state.repairs += done.len() as u64;
        let told = &done[done.len().saturating_sub(RECENT)..];
        let surplus = (self.state.recent.len() + told.len()).saturating_sub(RECENT);
        self.state.recent.drain(..surplus);
        self.state.recent.extend(told.iter().map(|step| Repair {
            boot_seconds: time.as_secs(),
            unix_time,
            subject: step.subject.clone(),
            action: step.action.name().to_owned(),
            handler: step.action.handler(),
            why: step.why.clone(),
        }));
    }

    /// Notes whether a self-test is due at `now`.
    pub(super) fn note_due(&mut self, due: bool, now: Duration) {
        self.state.selftest_due = due.then(|| self.state.selftest_due.unwrap_or(now.as_secs()));
    }

    /// Notes what cannot be watched, and says what of it has a new reason.
    pub(super) fn note_unwatched(&mut self, unwatched: Vec<Unwatched>) {
        let is_new = |now: &Unwatched| self.unwatched.iter().all(|before| before.reason != now.reason);
        if unwatched.iter().any(is_new) {
            messages::unwatched(&unwatched, self.state.look_every);
        }
        if unwatched.is_empty() && !self.unwatched.is_empty() {
            messages::watched_again();
        }
        self.unwatched.clone_from(&unwatched);
        self.state.unwatched = unwatched;
    }

    /// What was mended, and what is backed off from, in a few words.
    pub(super) fn summary(&self) -> String {
        let mut line = match self.state.repairs {
            0 => "nothing mended since boot".to_owned(),
            1 => "one change since boot".to_owned(),
            many => format!("{many} changes since boot"),
        };
        for fight in &self.state.backed_off {
            line.push_str(if fight.failing { "; cannot mend " } else { "; backed off from " });
            line.push_str(&fight.about());
        }
        match self.state.unwatched.len() {
            0 => {}
            1 => line += "; cannot watch one directory",
            many => line.extend(["; cannot watch ", &many.to_string(), " directories"]),
        }
        line
    }

    /// Writes it, after a look that was completed at `now` on the boot `boot_id`. What another boot
    /// left counts no more.
    pub(super) fn write(
        &mut self,
        root: &Root,
        boot_id: &str,
        now: Duration,
        fights: &Fights,
        config_error: Option<&String>,
    ) {
        let state = &mut self.state;
        (state.last_look, state.last_look_awake) = (now.as_secs(), awake_seconds());
        let backed_off = |truce: Truce| BackedOff {
            subject: truce.matter.subject,
            file: truce.matter.file,
            repairs: truce.repairs,
            failing: truce.failing,
            until: truce.until.as_secs(),
        };
        state.backed_off = fights.truces().into_iter().map(backed_off).collect();
        state.config_error = config_error.cloned();
        // Before anything was written, there is nothing of another boot.
        if !state.boot_id.is_empty() && state.boot_id != boot_id {
            (state.repairs, state.recent, state.selftest_due) = (0, Vec::new(), None);
        }
        boot_id.clone_into(&mut state.boot_id);
        if self.state == self.saved {
            return;
        }
        match record::save(root, STATE, &self.state) {
            Ok(()) => self.saved = self.state.clone(),
            Err(e) => tracing::warn!("{STATE}: {e}"),
        }
    }
}
