// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of what one target will have after the next boot.

use super::defects::{describe_defect, has_translator};
use super::target::{is_planned, unmet};
use super::{Context, Found};
use crate::assess::advice;
use crate::assess::look::Look;
use crate::assess::origin::Origin;
use crate::binfmt::fragment;
use crate::finding::Severity::{self, Critical, Note, Warning};

/// How bad it is that nothing good is registered at boot: an image has nothing else.
fn severity_at_boot(context: &Context<'_>) -> Severity {
    if context.snapshot.live { Warning } else { Critical }
}

pub(super) fn fragment_masked(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let fragment = look.fragment.filter(|fragment| fragment.masked && !look.works_after_boot())?;
    let apply = advice::apply(context.snapshot);
    let path = fragment.path.display();
    let what = if fragment.dangling { "a link that leads nowhere" } else { "a link to /dev/null" };
    let message = format!("{path} is {what}, which masks the handler at every boot");
    let removal = advice::remove(context.snapshot, &fragment.path);
    Some(Found::new(severity_at_boot(context), message, format!("Unless that is meant: {removal}, then {apply}.")))
}

pub(super) fn fragment_empty(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let fragment = look.fragment.filter(|fragment| !fragment.masked && !look.works_after_boot())?;
    let apply = advice::apply(context.snapshot);
    let content = &fragment.content;
    let empty = content.rules.is_empty() && content.broken.is_empty() && fragment.unreadable.is_none();
    let path = fragment.path.display();
    let message = format!("{path} has no rule in it, and so masks the handler at every boot");
    let removal = advice::remove(context.snapshot, &fragment.path);
    empty.then(|| {
        Found::new(severity_at_boot(context), message, format!("Unless that is meant: {removal}, then {apply}."))
    })
}

pub(super) fn fragment_broken(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let fragment = look.fragment?;
    let path = fragment.path.display();
    let what = match (fragment.content.broken.first(), &fragment.unreadable) {
        (Some((line, why)), _) => format!("{path}:{line}: {why}"),
        (None, Some(why)) => format!("{path} cannot be read: {why}"),
        (None, None) => return None,
    };
    let apply = advice::apply(context.snapshot);
    let severity = if look.works_after_boot() { Warning } else { severity_at_boot(context) };
    let advice = match () {
        () if fragment.is_vendors() && is_planned(context, look) => format!("Override it: {apply}."),
        () if fragment.is_vendors() => "Reinstall the package that it belongs to.".to_owned(),
        () => format!("Correct it, or {}, then {apply}.", advice::remove(context.snapshot, &fragment.path)),
    };
    Some(Found::new(severity, what, advice))
}

pub(super) fn fragment_administrator(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let fragment = look.fragment.filter(|f| f.is_administrators() && !f.masked && !f.content.rules.is_empty())?;
    let path = fragment.path.display();
    if look.works_after_boot() {
        return Some(Found::new(Note, format!("{path} is the administrator's own, and is left alone"), ""));
    }
    let apply = advice::apply(context.snapshot);
    let made = Origin::Administrator(fragment.path.clone());
    let boot = look.boot.as_ref().filter(|boot| boot.origin == made);
    let boot = boot.and_then(|boot| Some((boot, boot.defects.first()?)));
    let reason = boot.map_or("has no rule for it".to_owned(), |(boot, defect)| {
        let interpreter = &boot.entry.interpreter;
        let (_, why, _) = describe_defect(context.snapshot, look.target, interpreter, defect);
        format!("{} is no good: {why}", interpreter.display())
    });
    let message = format!("{path} is the administrator's own, and {reason}");
    let removal = advice::remove(context.snapshot, &fragment.path);
    Some(Found::new(severity_at_boot(context), message, format!("Correct it, or {removal}, then {apply}.")))
}

pub(super) fn not_persistent(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let told = look.fragment.is_some_and(|f| f.masked || f.is_administrators());
    let unknown = look.boot.is_none() && !context.snapshot.fragment_errors.is_empty();
    if look.works_after_boot() || told || unknown {
        return None;
    }
    let message = match &look.boot {
        None => "nothing in binfmt.d registers it at the next boot".to_owned(),
        Some(boot) if has_translator(boot) => format!("at the next boot {} runs it", boot.entry.name),
        Some(boot) => {
            let from = match &boot.origin {
                Origin::Distribution(path) | Origin::Administrator(path) => path.display().to_string(),
                Origin::BinfmtSupport => "binfmt-support".to_owned(),
                Origin::Ours | Origin::Foreign => "our fragment".to_owned(),
            };
            format!("at the next boot {from} registers {}, which is no good", boot.entry.name)
        }
    };
    Some(Found::new(severity_at_boot(context), message, make_last(context, look)))
}

/// What makes the next boot register a good handler: `apply` where its plan does, else what is in
/// the way of that.
pub(super) fn make_last(context: &Context<'_>, look: &Look<'_>) -> String {
    let snapshot = context.snapshot;
    let apply = advice::apply(snapshot);
    if let Some(unmet) = unmet(context, look) {
        return unmet.advice.clone();
    }
    let Some(boot) = look.boot.as_ref().filter(|_| !context.plan.changes_fragment(look)) else {
        return format!("Make it last: {apply}.");
    };
    // A fragment that is read before ours loses against it.
    let own = fragment::path_of(&look.target.name);
    let earlier = match &boot.origin {
        Origin::Distribution(path) | Origin::Administrator(path) => path.file_name() < own.file_name(),
        _ => false,
    };
    if has_translator(boot) && earlier {
        return format!("To let QEMU run it: {}.", advice::take_over(snapshot));
    }
    advice::yield_at_boot(snapshot, boot)
}
