// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fights: repairs that something else keeps undoing, or that fail, are made more and more rarely.
//!
//! Each thing that is mended has a count of repairs in a row. Up to a limit they are made at once;
//! then the pause before the next one doubles, up to ten minutes. A thing that stays as it should be
//! for ten minutes is at peace again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::apply::Outcome;
use crate::assess::plan::Step;
use crate::messages;

/// How long a thing has to stay as it should be until its repairs count from the beginning.
pub(super) const CALM: Duration = Duration::from_secs(600);
/// How long after a repair its rest follows.
const REST: Duration = Duration::from_secs(3);
/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(600);
/// What the table as a whole is called among the things that are mended.
const HOST: &str = "host";

/// A thing that is mended. The handlers in the kernel's table and each file are things of their own, as
/// they are assessed separately: who flushes the table is seldom who removes a file, and a file
/// that cannot be written is no reason to leave a handler unregistered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Matter {
    /// The platform, or a handler that no platform wants; `host` for the table as a whole.
    pub(super) subject: String,
    /// The file, where it is one.
    pub(super) file: Option<String>,
}

impl Matter {
    /// What `step` is about.
    pub(super) fn of(step: &Step) -> Self {
        let handler = step.action.handler();
        let file = step.action.is_about_a_file().then(|| handler.clone());
        let handler = Some(handler).filter(|handler| !handler.is_empty() && file.is_none());
        Self { subject: step.subject.clone().or(handler).unwrap_or_else(|| HOST.to_owned()), file }
    }
}

#[derive(Clone, Debug, Default)]
struct Fight {
    repairs: u32,
    last: Duration,
    until: Duration,
    backed_off: bool,
    /// In a row.
    failures: u32,
    /// Until when what follows belongs to the last repair.
    rest: Duration,
}

impl Fight {
    /// Whether its repairs are made rarely.
    fn is_rare(&self) -> bool {
        self.backed_off || self.failures > 0
    }
}

/// What is being mended, and how often. Times are given by the caller, since any one moment.
#[derive(Debug, Default)]
pub(super) struct Fights(BTreeMap<Matter, Fight>);

/// One that was given up for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Truce {
    /// What it is about.
    pub(super) matter: Matter,
    /// The repairs, or failures, in a row.
    pub(super) repairs: u32,
    /// Whether the last one failed.
    pub(super) failing: bool,
    /// When the next one is made.
    pub(super) until: Duration,
}

impl Fights {
    /// Whether `matter` may be mended at `now`.
    pub(super) fn permits(&self, matter: &Matter, now: Duration) -> bool {
        self.0.get(matter).is_none_or(|fight| now >= fight.until)
    }

    /// Counts what was done at `now`, and says what is backed off from here on; `quiet` is whether nobody
    /// else was writing, so that nothing of it was left for later.
    pub(super) fn enter(&mut self, outcome: &Outcome, quiet: bool, now: Duration, limit: u32) {
        // To have lost a race is no reason to wait: the next look sees what is to be done now.
        let (lost, failed): (Vec<_>, Vec<_>) = outcome.failed.iter().partition(|failed| failed.lost_race);
        let failed: BTreeSet<_> = failed.into_iter().map(|failed| Matter::of(&failed.step)).collect();
        let done = outcome.done.iter().chain(lost.into_iter().map(|failed| &failed.step));
        let done: BTreeSet<_> = done.map(Matter::of).collect();
        for matter in done.union(&failed) {
            // The name is taken a second after a stand-in was registered: one repair, not two.
            if quiet && !failed.contains(matter) && self.take_rest(matter, now) {
                continue;
            }
            if self.count(matter, now, limit, failed.contains(matter)) {
                messages::backed_off(&matter.subject, matter.file.as_deref());
            }
            if !quiet {
                self.leave_rest(matter, now);
            }
        }
    }

    /// Notes that of the repair of `matter` at `now` the rest is still to come.
    fn leave_rest(&mut self, matter: &Matter, now: Duration) {
        if let Some(fight) = self.0.get_mut(matter) {
            fight.rest = now + REST;
        }
    }

    /// Whether what was done for `matter` at `now` is the rest of a repair. There is one.
    fn take_rest(&mut self, matter: &Matter, now: Duration) -> bool {
        self.0.get_mut(matter).is_some_and(|fight| now < std::mem::take(&mut fight.rest))
    }

    /// Notes a repair of `matter` at `now`. Beyond `limit` of them in a row it is backed off from, and
    /// at once where one failed and would fail again. Gives true where it is backed off from here on
    /// because repairs are undone, and was not before.
    fn count(&mut self, matter: &Matter, now: Duration, limit: u32, failed: bool) -> bool {
        let fight = self.0.entry(matter.clone()).or_default();
        if now >= fight.last.saturating_add(CALM).max(fight.until.saturating_add(CALM)) {
            *fight = Fight::default();
        }
        fight.last = now;
        if failed {
            fight.failures = fight.failures.saturating_add(1);
        } else {
            (fight.failures, fight.repairs) = (0, fight.repairs.saturating_add(1));
        }
        let beyond = fight.repairs.checked_sub(limit).max(fight.failures.checked_sub(1));
        let Some(beyond) = beyond else { return false };
        fight.until = now + FIRST.saturating_mul(1 << beyond.min(16)).min(LONGEST);
        !failed && !std::mem::replace(&mut fight.backed_off, true)
    }

    /// Forgets what has been at peace until `now`, `disturbed` left out: what is not as it should
    /// be at the moment. Gives those that had been backed off.
    pub(super) fn settle(&mut self, now: Duration, disturbed: impl Fn(&Matter) -> bool) -> Vec<Matter> {
        let mut recovered = Vec::new();
        self.0.retain(|matter, fight| {
            let at_war = disturbed(matter) || now < fight.last.max(fight.until).saturating_add(CALM);
            if !at_war && fight.backed_off {
                recovered.push(matter.clone());
            }
            at_war
        });
        recovered
    }

    /// What is backed off.
    pub(super) fn truces(&self) -> Vec<Truce> {
        let truce = |(matter, fight): (&Matter, &Fight)| Truce {
            matter: matter.clone(),
            repairs: if fight.failures > 0 { fight.failures } else { fight.repairs },
            failing: fight.failures > 0,
            until: fight.until,
        };
        self.0.iter().filter(|(_, fight)| fight.is_rare()).map(truce).collect()
    }

    /// When something has to be looked at again for this: the end of the next pause, or of a peace.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        let backed_off = self.0.values().filter(|fight| fight.is_rare());
        let ends = backed_off.flat_map(|fight| [fight.until, fight.last.max(fight.until).saturating_add(CALM)]);
        ends.filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::plan::{Action, Manner};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn a() -> Matter {
        Matter { subject: "a".into(), file: None }
    }

    /// The same platform's file.
    fn b() -> Matter {
        Matter { file: Some("/b".into()), ..a() }
    }

    #[test]
    fn a_handler_and_its_file_are_two_things() {
        let rule = crate::binfmt::rule::Rule::parse(":qemu-x86_64:M::\\x7fELF::/usr/bin/q:F").unwrap();
        let step = |action, subject: Option<&str>| {
            Matter::of(&Step { action, subject: subject.map(Into::into), why: String::new() })
        };
        let about = |subject: &str, file: Option<&str>| Matter { subject: subject.into(), file: file.map(Into::into) };
        let subject = Some("linux/amd64");
        let path = || "/etc/binfmt.d/qemu-x86_64.conf".into();
        let register = Action::Register { rule: rule.clone(), manner: Manner::New, displaced: None };
        assert_eq!(step(register, subject), about("linux/amd64", None));
        assert_eq!(step(Action::Enable { name: "qemu-x86_64".into() }, subject), about("linux/amd64", None));
        let written = step(Action::WriteFragment { path: path(), rule }, subject);
        assert_eq!(written, about("linux/amd64", Some("/etc/binfmt.d/qemu-x86_64.conf")));
        assert_eq!(step(Action::RemoveFragment { path: path() }, subject), written);
        let orphan = step(Action::RemoveFragment { path: path() }, None);
        assert_eq!(orphan, about("host", Some("/etc/binfmt.d/qemu-x86_64.conf")));
        let retired = step(Action::Retire { name: "persist-x86_64".into(), restore: None }, None);
        assert_eq!(retired, about("persist-x86_64", None));
        assert_eq!(step(Action::EnableAll, None), about("host", None));
    }

    #[test]
    fn repairs_in_a_row_become_rare() {
        let mut fights = Fights::default();
        let mut now = s(100);
        for _ in 0..3 {
            assert!(fights.permits(&a(), now));
            assert!(!fights.count(&a(), now, 4, false));
        }
        assert!(fights.count(&a(), now, 4, false), "told once");
        let mut pauses = Vec::new();
        for _ in 0..13 {
            assert!(!fights.permits(&a(), now) && fights.permits(&b(), now));
            let end = fights.next(now).unwrap();
            pauses.push(end.as_secs() - now.as_secs());
            now = end;
            assert!(fights.permits(&a(), now));
            assert!(!fights.count(&a(), now, 4, false), "and not again");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
        assert_eq!(fights.truces()[0].repairs, 17);
    }

    #[test]
    fn peace_comes_by_itself_and_only_while_all_is_well() {
        let mut fights = Fights::default();
        fights.count(&a(), s(0), 1, false);
        assert_eq!(fights.settle(s(10), |_| false), []);
        assert_eq!(fights.settle(s(10_000), |_| true), []);
        assert_eq!(fights.truces().len(), 1);
        assert_eq!(fights.settle(s(10_000), |_| false), [a()]);
        assert!(fights.truces().is_empty() && fights.next(s(10_000)).is_none());
        // What was never given up is forgotten without a word.
        fights.count(&b(), s(0), 10, false);
        assert!(fights.settle(s(10_000), |_| false).is_empty() && fights.0.is_empty());
    }

    #[test]
    fn a_repair_has_one_rest_that_follows_soon() {
        let mut fights = Fights::default();
        fights.leave_rest(&a(), s(0));
        assert!(!fights.take_rest(&a(), s(0)), "nothing was repaired");
        fights.count(&a(), s(1), 10, false);
        assert!(!fights.take_rest(&a(), s(1)));
        fights.leave_rest(&a(), s(1));
        assert!(fights.take_rest(&a(), s(2)) && !fights.take_rest(&a(), s(2)));
        fights.leave_rest(&a(), s(3));
        assert!(!fights.take_rest(&a(), s(60)));
    }

    #[test]
    fn far_apart_repairs_are_no_fight_and_failures_are_one_at_once() {
        let mut fights = Fights::default();
        for i in 0..100 {
            assert!(!fights.count(&a(), s(i * 700), 2, false));
        }
        for (at, pause) in [(0, 1), (1, 2), (3, 4)] {
            assert!(!fights.count(&b(), s(at), 10, true), "nobody undoes it");
            assert!(!fights.permits(&b(), s(at + pause - 1)) && fights.permits(&b(), s(at + pause)));
        }
        let truce = Truce { matter: b(), repairs: 3, failing: true, until: s(7) };
        assert_eq!(fights.truces(), [truce]);
        assert!(!fights.count(&b(), s(7), 10, false), "it is mended at last");
        assert!(fights.truces().is_empty() && fights.permits(&b(), s(7)));
    }
}
