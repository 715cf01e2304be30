// SPDX-License-Identifier: MIT OR Apache-2.0
//! A look at one target: which entry would run its programs now, which after the next boot, what
//! is wrong with either, and what is proven.

use super::origin::{Currency, Origin, currency_of, origin_of};
use super::proven::{Proven, broken, proven, results};
use super::vet::{Defect, may_have_credentials, vet};
use crate::binfmt::entry::Entry;
use crate::binfmt::fragment::Fragment;
use crate::binfmt::rule::Rule;
use crate::qemu::Translator;
use crate::record::BrokenPart;
use crate::snapshot::Snapshot;
use crate::target::Target;

/// One handler and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The handler.
    pub entry: Entry,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether the kernel holds the file that is on disk; `Unknown` for a future boot.
    pub currency: Currency,
    /// What is wrong with it.
    pub defects: Vec<Defect>,
}

impl Standing {
    /// Whether nothing is wrong with it that keeps it from working in every container.
    pub fn is_good(&self) -> bool {
        !self.defects.iter().any(Defect::is_blocking)
    }
}

/// What was seen of one target.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// The target.
    pub target: &'a Target,
    /// The handler that runs its programs now.
    pub winner: Option<Standing>,
    /// A handler that would be good, but a newer one wins.
    pub shadowed: Option<String>,
    /// Further enabled handlers for the same programs, which do not win.
    pub others: Vec<String>,
    /// A disabled handler for it, where no enabled one is.
    pub disabled: Option<&'a Entry>,
    /// An entry that has the conventional name and is for other programs.
    pub name_taken_by: Option<&'a Entry>,
    /// The handler that will run its programs after the next boot, as far as files tell.
    pub boot: Option<Standing>,
    /// The fragment of the conventional name, whoever wrote it.
    pub fragment: Option<&'a Fragment>,
    /// What is proven.
    pub proven: Proven,
    /// What was found to be broken although containers run, each part once.
    pub broken: Vec<&'a BrokenPart>,
    /// The names of the parts that were found to work, some perhaps with one runtime only.
    pub working: Vec<&'a str>,
}

impl<'a> Look<'a> {
    /// Looks at `target`. `boot_table` is what [`boot_table`] gives.
    pub fn new(snapshot: &'a Snapshot, boot_table: &[Entry], target: &'a Target) -> Self {
        let entries = snapshot.kernel.table().map_or(&[][..], |table| &table.entries);
        let matching: Vec<&Entry> = entries.iter().filter(|e| target.heads.iter().any(|h| e.matches(h))).collect();
        let enabled: Vec<&Entry> = matching.iter().copied().filter(|e| e.enabled).collect();
        let winner = winner(snapshot, &enabled, target, true);
        let good_behind = || {
            let both_take = |w: &Standing, e: &Entry| target.heads.iter().any(|h| w.entry.matches(h) && e.matches(h));
            let hidden = |w: &Standing, e: &Entry| w.entry.name != e.name && both_take(w, e);
            let behind = enabled.iter().filter(|e| winner.as_ref().is_some_and(|w| hidden(w, e)));
            behind.map(|e| stand(snapshot, target, e, true)).find(Standing::is_good)
        };
        let shadowed = winner.as_ref().filter(|w| !w.is_good()).and_then(|_| good_behind()).map(|good| good.entry.name);
        let first = |head: &Vec<u8>| enabled.iter().find(|e| e.matches(head)).map(|e| &e.name);
        let winners: Vec<_> = target.heads.iter().filter_map(first).collect();
        let others = enabled.iter().map(|e| &e.name).filter(|name| winner.is_some() && !winners.contains(name));
        let others = others.cloned().collect();
        let boot = at_boot(snapshot, boot_table, target);
        let fragment_name = format!("{}.conf", target.name);
        let named = entries.iter().find(|e| e.name == target.name);
        let proven = winner.as_ref().map_or(Proven::Never, |winner| proven(snapshot, target, &winner.entry));
        Self {
            target,
            broken: broken(snapshot, target, &proven),
            working: results(snapshot, target, &proven).flat_map(|r| &r.working).map(String::as_str).collect(),
            proven,
            disabled: matching.iter().copied().find(|e| !e.enabled).filter(|_| winner.is_none() && enabled.is_empty()),
            name_taken_by: named.filter(|named| !target.heads.iter().any(|head| named.matches(head))),
            fragment: snapshot.fragments.iter().find(|f| f.name == fragment_name),
            winner,
            shadowed,
            others,
            boot,
        }
    }

    /// Whether its programs run in every container now, as far as can be judged without trying.
    pub fn works_now(&self) -> bool {
        self.winner.as_ref().is_some_and(Standing::is_good)
    }

    /// Whether they will after the next boot.
    pub fn works_after_boot(&self) -> bool {
        self.boot.as_ref().is_some_and(Standing::is_good)
    }
}

/// The handler that runs the target's programs, judged. Where programs of its two kinds go to
/// different handlers, one that is no good; none where one kind has no handler.
fn winner(snapshot: &Snapshot, enabled: &[&Entry], target: &Target, now: bool) -> Option<Standing> {
    let mut standings = Vec::new();
    for head in &target.heads {
        let entry = enabled.iter().find(|entry| entry.matches(head))?;
        if standings.iter().all(|standing: &Standing| standing.entry.name != entry.name) {
            standings.push(stand(snapshot, target, entry, now));
        }
    }
    let bad = standings.iter().position(|standing| !standing.is_good()).unwrap_or(0);
    (!standings.is_empty()).then(|| standings.swap_remove(bad))
}

/// The handler of `table`, the one of the next boot, that will run the target's programs.
fn at_boot(snapshot: &Snapshot, table: &[Entry], target: &Target) -> Option<Standing> {
    winner(snapshot, &table.iter().collect::<Vec<_>>(), target, false)
}

/// The table that systemd and binfmt-support will make at the next boot, newest first.
pub fn boot_table(snapshot: &Snapshot) -> Vec<Entry> {
    boot_table_of(snapshot, snapshot.fragments.iter().flat_map(|fragment| &fragment.content.rules))
}

/// Whether `rule` would be the good handler for `target` after a boot, were it all that the fragment
/// `name` says.
pub fn would_work_at_boot<'a>(snapshot: &'a Snapshot, target: &Target, name: &str, rule: &'a Rule) -> bool {
    let others = snapshot.fragments.iter().filter(|fragment| fragment.name != name);
    let (before, after): (Vec<_>, Vec<_>) = others.partition(|fragment| fragment.name.as_str() < name);
    let rules_of = |fragments: Vec<&'a Fragment>| fragments.into_iter().flat_map(|fragment| &fragment.content.rules);
    let rules = rules_of(before).chain([rule]).chain(rules_of(after));
    at_boot(snapshot, &boot_table_of(snapshot, rules), target)
        .is_some_and(|boot| boot.is_good() && boot.entry.does_what(rule))
}

fn boot_table_of<'r>(snapshot: &Snapshot, rules: impl IntoIterator<Item = &'r Rule>) -> Vec<Entry> {
    let mut table: Vec<Entry> = Vec::new();
    for rule in rules {
        table.retain(|entry| entry.name != rule.name);
        table.insert(0, Entry::of_rule(rule));
    }
    for rule in &snapshot.database {
        if table.iter().all(|entry| entry.name != rule.name) {
            table.insert(0, Entry::of_rule(rule));
        }
    }
    table
}

/// Judges `entry` as a handler for `target`; `now` as the kernel shows it, else as it will be.
pub fn stand(snapshot: &Snapshot, target: &Target, entry: &Entry, now: bool) -> Standing {
    let origin = origin_of(snapshot, entry);
    let currency = if now { currency_of(snapshot, target, entry) } else { Currency::Unknown };
    let mut defects = Vec::new();
    if let Some(translator) = Translator::of_entry(&entry.name, &entry.interpreter) {
        defects.push(Defect::OtherTranslator(translator));
    }
    if let Some(rule) = entry.rule() {
        let held = now && entry.flags.fix_binary;
        defects.extend(vet(snapshot, target, &rule).into_iter().map(|defect| match defect {
            Defect::InterpreterMissing(why) if held => Defect::InterpreterDeleted(why),
            other => other,
        }));
    }
    if currency == Currency::Stale {
        defects.push(Defect::InterpreterStale);
    }
    if entry.flags.credentials && !may_have_credentials(snapshot, target) {
        defects.push(Defect::Credentials);
    }
    Standing { entry: entry.clone(), origin, currency, defects }
}
