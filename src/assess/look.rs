// SPDX-License-Identifier: MIT OR Apache-2.0
//! A look at one target: which entry would run its programs now, which after the next boot, what
//! is wrong with either, and what is proven.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::plan;
use super::vet::{Defect, may_have_credentials, vet};
use crate::binfmt::entry::Entry;
use crate::binfmt::fragment::Fragment;
use crate::binfmt::rule::Rule;
use crate::qemu::Translator;
use crate::record::{BrokenPart, Proof, RuntimeResult, Seen};
use crate::snapshot::Snapshot;
use crate::target::Target;

/// Where a handler comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind", content = "path")]
pub enum Origin {
    /// This program registered it, or its fragment did at boot.
    Ours,
    /// A fragment that a package installed.
    Distribution(PathBuf),
    /// A fragment in /etc or /run that somebody else wrote.
    Administrator(PathBuf),
    /// The database of binfmt-support.
    BinfmtSupport,
    /// Nothing that is on this host.
    Foreign,
}

/// Whether the file that the kernel holds is the one on disk now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Currency {
    /// It is, by our own record of the registration or by a process that was seen.
    Current,
    /// It is not.
    Stale,
    /// There is no evidence.
    Unknown,
    /// Without `F` the kernel holds no file.
    NotHeld,
}

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

/// What is proven of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Proven {
    /// A container ran, through the handler that wins now.
    Yes {
        /// How long ago, in seconds.
        seconds_ago: u64,
    },
    /// It ran, but longer ago than counts.
    Expired {
        /// How long ago, in seconds.
        seconds_ago: u64,
    },
    /// It ran, and something that mattered has changed since.
    Void {
        /// What.
        reason: String,
    },
    /// It was tried through the handler that wins now, and failed.
    Failed {
        /// Runtimes and what each said.
        reason: String,
    },
    /// It was never tried.
    Never,
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
        let proven = winner.as_ref().map_or(Proven::Never, |winner| proven(snapshot, target, winner));
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

/// Where an entry comes from: our own record first, then the files that could have made it.
pub fn origin_of(snapshot: &Snapshot, entry: &Entry) -> Origin {
    if is_recorded(snapshot, entry) {
        return Origin::Ours;
    }
    let makes = |rule: &&Rule| rule.name == entry.name && entry.does_what(rule);
    let adopted = snapshot.registrations.adopted.get(&entry.name) == Some(&entry.inode);
    // Of two that make the same one, the later is the one that did.
    for fragment in snapshot.fragments.iter().rev().filter(|fragment| !(adopted && fragment.content.ours)) {
        if fragment.content.rules.iter().any(|rule| makes(&rule)) {
            return match () {
                () if fragment.content.ours => Origin::Ours,
                () if fragment.is_vendors() => Origin::Distribution(fragment.path.clone()),
                () => Origin::Administrator(fragment.path.clone()),
            };
        }
    }
    let overridden = snapshot.fragments.iter().flat_map(|fragment| &fragment.overridden);
    if let Some(made) = overridden.into_iter().find(|o| o.content.rules.iter().any(|rule| makes(&rule))) {
        return Origin::Distribution(made.path.clone());
    }
    if snapshot.database.iter().any(|rule| makes(&rule)) {
        return Origin::BinfmtSupport;
    }
    Origin::Foreign
}

/// Whether this very entry is one that this program registered: under its own name, or standing in
/// for one that it was exchanging.
pub fn is_recorded(snapshot: &Snapshot, entry: &Entry) -> bool {
    let registrations = &snapshot.registrations.entries;
    let own = registrations.get(&entry.name).filter(|r| r.inode == entry.inode || r.inode == 0);
    if own.is_some_and(|registration| entry.does_what(&registration.rule)) {
        return true;
    }
    let mut name = entry.name.clone();
    // An exchange takes a second stand-in where an earlier run left the first one behind.
    while let Some(exchanged) = plan::stood_in_for(&name) {
        if registrations.get(&exchanged).is_some_and(|registration| entry.does_what(&registration.rule)) {
            return true;
        }
        name = exchanged;
    }
    false
}

/// Judges from evidence alone: our record of the registration, or a process that was seen running
/// through this very entry.
fn currency_of(snapshot: &Snapshot, target: &Target, entry: &Entry) -> Currency {
    if !entry.flags.fix_binary {
        return Currency::NotHeld;
    }
    let recorded = snapshot.registrations.entries.get(&entry.name);
    let recorded = recorded.filter(|r| r.inode == entry.inode && r.inode != 0).and_then(|r| r.interpreter.as_ref());
    let proof = snapshot.proofs.get(&target.subject).filter(|proof| is_of_this_entry(snapshot, proof, entry));
    let seen = proof.filter(|p| p.entry_inode == entry.inode && p.entry_inode != 0);
    let held = recorded.or_else(|| seen.and_then(|proof| proof.interpreter.as_ref()));
    let first_seen = snapshot.registrations.seen.get(&entry.name).filter(|seen| seen.inode == entry.inode);
    match (held, first_seen, snapshot.file_on_disk(&entry.interpreter)) {
        (Some(held), _, Some(disk)) if held.is_same(disk) => Currency::Current,
        (Some(_), _, Some(_)) => Currency::Stale,
        (None, Some(seen), Some(disk)) if !seen.interpreter.is_same(disk) => Currency::Stale,
        _ => Currency::Unknown,
    }
}

/// The handlers of others with `F` that are there, as they were when they were first seen, which for
/// those that are not known yet is now.
pub fn first_seen(snapshot: &Snapshot) -> BTreeMap<String, Seen> {
    let known = &snapshot.registrations;
    let entries = snapshot.kernel.table().map_or(&[][..], |table| &table.entries).iter();
    let others = entries.filter(|entry| {
        entry.flags.fix_binary && known.entries.get(&entry.name).is_none_or(|ours| ours.inode != entry.inode)
    });
    let see = |entry: &Entry| {
        if let Some(seen) = known.seen.get(&entry.name).filter(|seen| seen.inode == entry.inode) {
            return Some((entry.name.clone(), seen.clone()));
        }
        let interpreter = snapshot.file_on_disk(&entry.interpreter)?.clone();
        Some((entry.name.clone(), Seen { inode: entry.inode, interpreter }))
    };
    others.filter_map(see).collect()
}

fn is_of_this_entry(snapshot: &Snapshot, proof: &Proof, entry: &Entry) -> bool {
    proof.boot_id == snapshot.facts.boot_id
        && proof.kernel_release == snapshot.facts.kernel_release
        && entry.rule().is_some_and(|rule| rule.to_string() == proof.entry)
}

/// What the self-test that `proven` is from found out, where that was not a failure.
fn results<'a>(
    snapshot: &'a Snapshot,
    target: &Target,
    proven: &Proven,
) -> impl Iterator<Item = &'a RuntimeResult> + use<'a> {
    let counts = matches!(proven, Proven::Yes { .. } | Proven::Expired { .. });
    let proof = snapshot.proofs.get(&target.subject).filter(|_| counts);
    proof.into_iter().flat_map(|proof| &proof.results)
}

/// What the self-test that `proven` is from found to be broken.
fn broken<'a>(snapshot: &'a Snapshot, target: &Target, proven: &Proven) -> Vec<&'a BrokenPart> {
    let mut parts: Vec<&BrokenPart> = Vec::new();
    for part in results(snapshot, target, proven).flat_map(|result| &result.broken) {
        if parts.iter().all(|known| known.part != part.part) {
            parts.push(part);
        }
    }
    parts
}

/// What the last self-test says of the handler that wins now.
fn proven(snapshot: &Snapshot, target: &Target, winner: &Standing) -> Proven {
    let proof = snapshot.proofs.get(&target.subject).filter(|proof| !proof.results.is_empty());
    let Some(proof) = proof else { return Proven::Never };
    let void = |reason: &str| Proven::Void { reason: reason.to_owned() };
    if proof.boot_id != snapshot.facts.boot_id {
        return void("the host has been booted since");
    }
    if !is_of_this_entry(snapshot, proof, &winner.entry) {
        return void("another handler is registered now");
    }
    let disk = snapshot.file_on_disk(&winner.entry.interpreter);
    let same_file = match (&proof.interpreter, disk) {
        (Some(seen), Some(disk)) => seen.is_same(disk),
        _ => false,
    };
    let same_entry = proof.entry_inode == winner.entry.inode;
    if !proof.results.iter().any(|result| result.passed) {
        if !same_entry {
            return void("the handler has been registered anew since it failed");
        }
        let reasons: Vec<_> = proof.results.iter().map(|r| format!("{}: {}", r.runtime, r.reason)).collect();
        return Proven::Failed { reason: reasons.join("; ") };
    }
    if proof.interpreter.is_none() {
        return void("the interpreter that ran it could not be seen");
    }
    if disk.is_none() {
        return void("the interpreter cannot be looked at now");
    }
    if !same_file {
        return void("the interpreter has been replaced since");
    }
    let seconds_ago = snapshot.boot_seconds.saturating_sub(proof.boot_seconds);
    if seconds_ago > snapshot.config.proof_max_age.as_secs() {
        return Proven::Expired { seconds_ago };
    }
    if let Some(failed) = proof.results.iter().find(|result| !result.passed) {
        return Proven::Failed { reason: format!("{}: {}", failed.runtime, failed.reason) };
    }
    Proven::Yes { seconds_ago }
}
