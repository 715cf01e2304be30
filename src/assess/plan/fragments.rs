// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to be done about the fragment of one target.

use std::path::{Path, PathBuf};

use super::{Action, Plan, Wish};
use crate::assess::emulator::makes_way;
use crate::assess::look::{Look, would_work_at_boot};
use crate::assess::origin::Origin;
use crate::assess::vet::Defect;
use crate::binfmt::fragment::{self, Content, Fragment};
use crate::binfmt::rule::Rule;
use crate::snapshot::Snapshot;

pub(super) fn plan_fragment(
    snapshot: &Snapshot,
    look: &Look<'_>,
    desired: Option<&Rule>,
    wish: &Wish,
    plan: &mut Plan,
) {
    let target = look.target;
    let subject = Some(target.subject.as_str());
    let path = fragment::path_of(&target.name);
    let ours = look.fragment.filter(|fragment| fragment.content.ours);
    let foreign = look.fragment.filter(|fragment| fragment.is_administrators());
    let take_over = wish.take_over || snapshot.config.take_over;
    let boot = look.boot.as_ref().filter(|boot| boot.is_good());
    let exchanged = boot.zip(desired).and_then(|(boot, rule)| makes_way(snapshot, look, boot, rule, take_over));
    let vendors = vendors_rule(look.fragment).filter(|rule| desired == Some(rule));
    match (ours, desired) {
        (Some(_), _) if vendors.is_some() => {
            let good = || "the distribution's own fragment is good, so ours is not needed".to_owned();
            let why = exchanged.unwrap_or_else(good);
            plan.push(subject, Action::RemoveFragment { path }, why);
        }
        (Some(ours), None) if !look.works_after_boot() => {
            let _ = ours;
            let why = "the interpreter that it names is no good any more";
            plan.push(subject, Action::RemoveFragment { path }, why);
        }
        (Some(ours), Some(rule)) if ours.content.rules != [rule.clone()] => {
            let why = exchanged.unwrap_or_else(|| "it names another rule than the one that is wanted".to_owned());
            plan.push(subject, Action::WriteFragment { path, rule: rule.clone() }, why);
        }
        (None, Some(rule))
            if foreign.is_none()
                && (exchanged.is_some() || !restored_at_boot(look, take_over))
                && would_work_at_boot(snapshot, target, &format!("{}.conf", target.name), rule) =>
        {
            let why = exchanged.unwrap_or_else(|| "no file in binfmt.d restores a good handler at boot".to_owned());
            plan.push(subject, Action::WriteFragment { path, rule: rule.clone() }, why);
        }
        _ => {}
    }
}

/// Whether the files of others restore a handler at boot with which nothing is to be mended.
fn restored_at_boot(look: &Look<'_>, take_over: bool) -> bool {
    let Some(boot) = &look.boot else { return false };
    let against = boot.defects.iter().any(Defect::is_against_configuration);
    let mended = against && matches!(boot.origin, Origin::Distribution(_));
    let translator = boot.defects.iter().any(|d| matches!(d, Defect::OtherTranslator(_)));
    let left_alone = translator && !take_over;
    (boot.is_good() && !mended) || left_alone
}

/// The rule of the distribution's own fragment of that name, whether ours overrides it or not; none
/// where the administrator's does.
pub(super) fn vendors_rule(fragment: Option<&Fragment>) -> Option<Rule> {
    vendors(fragment?).find_map(|(_, content)| content.rules.first().cloned())
}

/// Where the file is that has that rule.
pub(super) fn vendors_path(fragment: &Fragment) -> Option<PathBuf> {
    vendors(fragment).find_map(|(path, content)| content.rules.first().map(|_| path.to_owned()))
}

fn vendors(fragment: &Fragment) -> impl Iterator<Item = (&Path, &Content)> {
    let overridden = fragment.overridden.iter().map(|o| (o.path.as_path(), &o.content));
    let own = fragment.is_vendors().then_some((fragment.path.as_path(), &fragment.content));
    let counts = fragment.is_vendors() || fragment.content.ours;
    own.into_iter().chain(overridden).filter(move |_| counts)
}

/// Whether the kernel would not take `rule`, since its interpreter is known to be gone.
pub(super) fn is_hopeless(snapshot: &Snapshot, rule: &Rule) -> bool {
    rule.flags.fix_binary && snapshot.interpreters.get(&rule.interpreter).is_some_and(Result::is_err)
}
