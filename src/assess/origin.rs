// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a handler comes from, and whether the file that the kernel holds for it is still the one on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::plan;
use super::proven::is_of_this_entry;
use crate::binfmt::entry::Entry;
use crate::binfmt::rule::Rule;
use crate::record::Seen;
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
pub(super) fn currency_of(snapshot: &Snapshot, target: &Target, entry: &Entry) -> Currency {
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
