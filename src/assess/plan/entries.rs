// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to be done about the entries of one target.

use super::{Action, Manner, Plan, Unmet, Wish, stand_in};
use crate::assess::emulator::makes_way;
use crate::assess::look::{self, Look, Standing};
use crate::assess::origin::{Currency, Origin, is_recorded, origin_of};
use crate::assess::vet::Defect;
use crate::assess::{advice, checks};
use crate::binfmt::entry::Entry;
use crate::binfmt::rule::Rule;
use crate::snapshot::Snapshot;
use crate::target::Target;

pub(super) fn plan_entry(
    snapshot: &Snapshot,
    look: &Look<'_>,
    desired: Result<&Rule, &Unmet>,
    wish: &Wish,
    plan: &mut Plan,
) {
    let target = look.target;
    let subject = Some(target.subject.as_str());
    let take_over = wish.take_over || snapshot.config.take_over;
    let makes_way = |winner: &Standing| makes_way(snapshot, look, winner, desired.ok()?, take_over);
    let exchanged = look.winner.as_ref().filter(|winner| winner.is_good()).and_then(makes_way);
    if let Some(winner) = &look.winner {
        let against = winner.defects.iter().any(Defect::is_against_configuration);
        let overridable = matches!(winner.origin, Origin::Distribution(_) | Origin::Ours) || take_over;
        let outdated = winner.origin == Origin::Ours
            && desired.is_ok_and(|rule| snapshot.are_other_files(&rule.interpreter, &winner.entry.interpreter));
        if winner.is_good() && !outdated && exchanged.is_none() && !(against && overridable) {
            rename_stand_in(snapshot, look, desired.ok(), plan);
            return;
        }
        let translator = winner.defects.iter().find_map(|defect| match defect {
            Defect::OtherTranslator(translator) => Some(translator.name()),
            _ => None,
        });
        if let Some(name) = translator.filter(|_| !take_over) {
            plan.unmet.push(Unmet {
                subject: target.subject.clone(),
                id: "other-translator",
                message: format!("{name} runs {} programs here (entry {})", target.subject, winner.entry.name),
                advice: format!(
                    "To let QEMU run them instead, which works in every container: {}.",
                    advice::take_over(snapshot)
                ),
            });
            return;
        }
    }
    let Ok(desired) = desired else { return };
    let table = snapshot.kernel.table();
    let why = exchanged.unwrap_or_else(|| checks::why_not_working(look));
    let same = |entry: &Entry| !entry.enabled && entry.does_what(desired) && entry.name == desired.name;
    // A disabled entry may hold another file than the one on disk; only our record can tell.
    let disabled = table.and_then(|table| table.entry(&desired.name)).filter(|_| look.disabled.is_some());
    if let Some(entry) = disabled.filter(|entry| same(entry) && is_current(snapshot, target, entry)) {
        plan.push(subject, Action::Enable { name: entry.name.clone() }, why);
        return;
    }
    let Some(holder) = table.and_then(|table| table.entry(&desired.name)) else {
        plan.push(subject, Action::Register { rule: desired.clone(), manner: Manner::New, displaced: None }, why);
        return;
    };
    if may_displace(snapshot, target, holder) {
        let displaced = displaced_by(snapshot, holder).map(Box::new);
        plan.push(subject, Action::Register { rule: desired.clone(), manner: Manner::Exchange, displaced }, why);
        return;
    }
    let name = stand_in(&desired.name);
    let taken = table.is_some_and(|table| table.entry(&name).is_some());
    let manner = if taken { Manner::Exchange } else { Manner::New };
    let why = format!("{why}; the name {} is left to its holder", desired.name);
    plan.push(subject, Action::Register { rule: desired.renamed(name), manner, displaced: None }, why);
}

fn is_current(snapshot: &Snapshot, target: &Target, entry: &Entry) -> bool {
    look::stand(snapshot, target, entry, true).currency != Currency::Stale
}

pub(super) fn displaced_before(snapshot: &Snapshot, name: &str) -> Option<Rule> {
    snapshot.registrations.entries.get(name)?.displaced.as_deref().cloned()
}

pub(super) fn is_ours(snapshot: &Snapshot, entry: &Entry) -> bool {
    origin_of(snapshot, entry) == Origin::Ours
}

/// Whether the holder of the conventional name may be replaced: it is for the same programs, and
/// could be registered again, since its interpreter is there.
fn may_displace(snapshot: &Snapshot, target: &Target, holder: &Entry) -> bool {
    let reachable = !holder.flags.fix_binary
        || snapshot.interpreters.get(&holder.interpreter).is_some_and(Result::is_ok)
        || is_ours(snapshot, holder);
    target.heads.iter().any(|head| holder.matches(head)) && reachable
}

/// Gives the rule of a stand-in that wins the conventional name, where that is free by now, or held
/// by what an exchange that was cut short would have replaced.
fn rename_stand_in(snapshot: &Snapshot, look: &Look<'_>, desired: Option<&Rule>, plan: &mut Plan) {
    let Some(table) = snapshot.kernel.table() else { return };
    let names = stand_ins(&look.target.name);
    let ours = |name: &str| table.entry(name).is_some_and(|entry| is_recorded(snapshot, entry));
    let wins = look.winner.as_ref().is_some_and(|w| names.contains(&w.entry.name) && ours(&w.entry.name));
    let Some(rule) = desired.filter(|_| wins) else { return };
    let (action, why) = match table.entry(&rule.name) {
        Some(_) if good_behind(snapshot, look) => return,
        None => (
            Action::Register { rule: rule.clone(), manner: Manner::New, displaced: None },
            format!("the name {} is free, under which other tools look for it", rule.name),
        ),
        Some(holder) if may_displace(snapshot, look.target, holder) => {
            let displaced = displaced_by(snapshot, holder).map(Box::new);
            (
                Action::Register { rule: rule.clone(), manner: Manner::Exchange, displaced },
                format!("an exchange of {} was cut short", rule.name),
            )
        }
        Some(_) => return,
    };
    plan.push(Some(&look.target.subject), action, why);
}

/// Whether a good handler of the conventional name would run everything without the stand-ins, since
/// somebody registered it while they stood in.
fn good_behind(snapshot: &Snapshot, look: &Look<'_>) -> bool {
    let Some(table) = snapshot.kernel.table() else { return false };
    let (target, names) = (look.target, stand_ins(&look.target.name));
    // Those of an exchange are recorded under the name that they stand in for: its old holder is
    // what was to be replaced.
    let own = |name: &String| table.entry(name).is_none() || snapshot.registrations.entries.contains_key(name);
    let good = |entry: &Entry| {
        let standing = look::stand(snapshot, target, entry, true);
        standing.is_good() && !standing.defects.iter().any(Defect::is_against_configuration)
    };
    names.iter().all(own)
        && target.heads.iter().all(|head| {
            let mut behind = table.entries.iter().filter(|entry| !names.contains(&entry.name));
            let behind = behind.find(|entry| entry.enabled && entry.matches(head));
            behind.is_some_and(|entry| entry.name == target.name && good(entry))
        })
}

/// What is to be given back when `holder` has been replaced.
fn displaced_by(snapshot: &Snapshot, holder: &Entry) -> Option<Rule> {
    let given_back = holder.rule().filter(|_| !is_ours(snapshot, holder));
    given_back.or_else(|| displaced_before(snapshot, &holder.name))
}

/// The names under which a rule may stand in for `name`: an exchange takes the second where an
/// earlier one left the first behind.
fn stand_ins(name: &str) -> [String; 2] {
    let first = stand_in(name);
    let second = stand_in(&first);
    [first, second]
}

/// Clears stand-ins that a run left behind, unless they are what runs programs after this plan.
pub(super) fn clear_stand_ins(snapshot: &Snapshot, look: &Look<'_>, plan: &mut Plan) {
    let Some(table) = snapshot.kernel.table() else { return };
    let own = &look.target.name;
    let [first, second] = stand_ins(own);
    for name in [&second, &first] {
        if !table.entry(name).is_some_and(|entry| is_recorded(snapshot, entry)) {
            continue;
        }
        // An exchange clears the first by itself, and the second where the first is there.
        let cleared = name == &first || table.entry(&first).is_some();
        let mut replaced = false;
        let mut kept = false;
        for step in &plan.steps {
            match &step.action {
                Action::Register { rule, manner: Manner::Exchange, .. } if rule.name == *own => {
                    replaced = true;
                    kept |= cleared;
                }
                Action::Register { rule, .. } if rule.name == *name => kept = true,
                Action::Register { rule, .. } => replaced |= rule.name == *own,
                Action::Enable { name: enabled } => replaced |= enabled == own,
                _ => {}
            }
        }
        let wins = look.target.heads.iter().any(|head| table.winner(head).is_some_and(|entry| entry.name == *name));
        if !kept && (replaced || !wins || good_behind(snapshot, look)) {
            let why = "it stood in for the handler, and is needed no more";
            plan.push(Some(&look.target.subject), Action::Retire { name: name.clone(), restore: None }, why);
        }
    }
}
