// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking back what is ours and no longer wanted.

use super::entries::{displaced_before, is_ours};
use super::fragments::{is_hopeless, vendors_path, vendors_rule};
use super::{Action, Left, Plan, Wish, stand_in, stood_in_for};
use crate::assess::look::Look;
use crate::snapshot::Snapshot;

/// Takes back what is ours and no longer wanted.
pub(super) fn plan_leftovers(snapshot: &Snapshot, looks: &[Look<'_>], wish: &Wish, kernel: bool, plan: &mut Plan) {
    let why = "nothing that is wanted needs it any more";
    let is_target = |name: &str| looks.iter().any(|look| look.target.name == name);
    let stands_in = |name: &str| stood_in_for(name).is_some_and(|base| is_target(&base) && stand_in(&base) == name);
    let wanted = |name: &str| is_target(name) || stands_in(name);
    let meant = |name: &str| wish.only.is_empty() || wish.only.iter().any(|p| p.handler_name() == name);
    for fragment in snapshot.fragments.iter().filter(|fragment| fragment.content.ours) {
        let name = fragment.name.trim_end_matches(".conf");
        if wanted(name) || !meant(name) {
            continue;
        }
        plan.push(None, Action::RemoveFragment { path: fragment.path.clone() }, why);
        let restore = vendors_rule(Some(fragment));
        let held = snapshot.kernel.table().is_some_and(|table| table.entry(name).is_some());
        if let Some(rule) = restore.filter(|rule| kernel && !held && !is_hopeless(snapshot, rule)) {
            let why = "the distribution's own handler, which ours had overridden";
            plan.push(None, Action::Restore { rule }, why);
        }
    }
    let entries = snapshot.kernel.table().filter(|_| kernel).map_or(&[][..], |table| &table.entries);
    for entry in entries.iter().filter(|entry| is_ours(snapshot, entry)) {
        let base = stood_in_for(&entry.name).unwrap_or_else(|| entry.name.clone());
        let runs = |look: &Look<'_>| look.winner.as_ref().is_some_and(|winner| winner.entry.name == entry.name);
        let needed = looks.iter().any(|look| runs(look) && !plan.replaces(look));
        if wanted(&entry.name) || needed || !meant(&base) {
            continue;
        }
        let fragment = snapshot.fragments.iter().find(|f| f.name == format!("{}.conf", entry.name));
        let vendors = vendors_rule(fragment);
        let displaced = displaced_before(snapshot, &entry.name);
        // What the distribution would have registered itself is not taken away.
        if displaced.is_none() && vendors.as_ref().is_some_and(|rule| entry.enabled && entry.does_what(rule)) {
            let path = fragment.and_then(vendors_path).unwrap_or_default();
            plan.left.push(Left { handler: entry.name.clone(), path });
            continue;
        }
        let restore = displaced.or(vendors).filter(|rule| !is_hopeless(snapshot, rule));
        plan.push(None, Action::Retire { name: entry.name.clone(), restore }, why);
    }
}
