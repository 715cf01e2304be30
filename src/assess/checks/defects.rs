// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a handler, in words: what it is, how bad that is, and what to do.

use std::path::Path;

use super::target::{is_planned, unmet};
use super::{Context, Found};
use crate::assess::advice;
use crate::assess::look::{Look, Standing};
use crate::assess::vet::Defect;
use crate::finding::Severity::{self, Critical, Unknown, Warning};
use crate::qemu;
use crate::snapshot::Snapshot;
use crate::target::Target;

pub(super) fn has_translator(standing: &Standing) -> bool {
    standing.defects.iter().any(|defect| matches!(defect, Defect::OtherTranslator(_)))
}

/// The handler that is judged: the one that runs programs now, and in an image the one that will.
fn judged<'l>(context: &Context<'_>, look: &'l Look<'_>) -> Option<&'l Standing> {
    if context.snapshot.live { look.winner.as_ref() } else { look.boot.as_ref() }
}

fn severity_of(defect: &Defect, standing: &Standing) -> Severity {
    match defect {
        Defect::OtherTranslator(_) if standing.entry.flags.fix_binary => Warning,
        Defect::InterpreterDeleted(_) | Defect::InterpreterStale | Defect::Credentials | Defect::NotConfigured(_) => {
            Warning
        }
        Defect::InterpreterTrustUnknown(_) => Unknown,
        _ => Critical,
    }
}

/// The finding of `id` about the handler that is judged, where it has that defect, or about the one
/// that would take its place, where that has it.
pub(super) fn defect(context: &Context<'_>, look: &Look<'_>, id: &str) -> Option<Found> {
    let own = judged(context, look).and_then(|standing| defect_of(context, look, standing, id));
    own.or_else(|| {
        let unmet = unmet(context, look).filter(|unmet| unmet.id == id)?;
        let severity = if id == "interpreter-unverified" { Unknown } else { Critical };
        Some(Found::new(severity, unmet.message.clone(), unmet.advice.clone()))
    })
}

fn defect_of(context: &Context<'_>, look: &Look<'_>, standing: &Standing, id: &str) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    let path = &standing.entry.interpreter;
    // What another translator's interpreter is like is its own affair.
    let foreign = has_translator(standing) && id != "other-translator";
    let described = standing
        .defects
        .iter()
        .filter(|_| !foreign)
        .map(|defect| (defect, describe_defect(context.snapshot, look.target, path, defect)));
    let (defect, (_, message, own_advice)) = described.into_iter().find(|(_, (found, _, _))| *found == id)?;
    let advice = match unmet(context, look) {
        Some(unmet) if unmet.id != id => unmet.advice.clone(),
        _ if is_planned(context, look) && !matches!(defect, Defect::Credentials) => {
            format!("Register a good one: {apply}.")
        }
        _ => own_advice,
    };
    let message = format!("{} (entry {}): {message}", path.display(), standing.entry.name);
    Some(Found::new(severity_of(defect, standing), message, advice))
}

/// The id of the finding that tells a defect of the interpreter `path`, what is wrong, and what to
/// do where no other interpreter can take its place.
pub fn describe_defect(
    snapshot: &Snapshot,
    target: &Target,
    path: &Path,
    defect: &Defect,
) -> (&'static str, String, String) {
    let apply = advice::apply(snapshot);
    let take_over = advice::take_over(snapshot);
    let again = format!("then {apply}");
    let install = || advice::install_qemu(snapshot);
    let shown = path.display();
    match defect {
        Defect::OtherTranslator(translator) => (
            "other-translator",
            format!("{} runs programs for {} here, not QEMU", translator.name(), target.subject),
            format!("To let QEMU run them, which works in every container: {take_over}."),
        ),
        Defect::NoFixBinary => (
            "no-fix-binary",
            "it has no flag F, so containers look for the interpreter inside themselves".to_owned(),
            format!("Register it with F: {apply}."),
        ),
        Defect::InterpreterMissing(why) => {
            ("interpreter-missing", format!("the interpreter is missing: {why}"), install())
        }
        Defect::InterpreterDeleted(why) => (
            "interpreter-deleted",
            format!("the kernel may still hold it, but on disk {why}: it cannot be checked nor registered again"),
            install(),
        ),
        Defect::InterpreterStale => (
            "interpreter-stale",
            "it was replaced on disk, and the kernel still runs the old one".to_owned(),
            format!("Register it again: {apply}."),
        ),
        Defect::InterpreterDynamic(loader) => {
            ("interpreter-dynamic", format!("it needs {loader}, which containers do not have for this host"), install())
        }
        Defect::InterpreterWrongMachine(why) => ("interpreter-wrong-machine", why.clone(), install()),
        Defect::InterpreterWritable(suspicion) => (
            "interpreter-writable",
            format!("{}: whoever changes it runs inside everybody's containers", suspicion.why),
            format!("Take that away: `sudo chmod go-w {}`, {again}.", advice::word(&snapshot.outside(&suspicion.path))),
        ),
        Defect::InterpreterOwner(suspicion) => (
            "interpreter-owner",
            format!("{}: whoever changes it runs inside everybody's containers", suspicion.why),
            format!(
                "Make it root's: `sudo chown root:root {}`, {again}.",
                advice::word(&snapshot.outside(&suspicion.path))
            ),
        ),
        Defect::InterpreterTrustUnknown(why) => ("interpreter-unverified", why.clone(), who_can_see(snapshot, why)),
        Defect::WrongFlags => (
            "wrong-flags",
            format!("{shown} works only with the flag P, and is registered without"),
            format!("Register it with P: {apply}."),
        ),
        Defect::Credentials => (
            "credentials-flag",
            "the flag C lets setuid programs in foreign containers gain their owner's rights on this host".to_owned(),
            format!("Unless you rely on that: {take_over}."),
        ),
        Defect::NotConfigured(wanted) => (
            "other-interpreter",
            format!("the configuration names another interpreter, {}", wanted.display()),
            format!("To have that one run them: {take_over}."),
        ),
    }
}

/// What to do where an interpreter cannot be judged from here.
fn who_can_see(snapshot: &Snapshot, why: &str) -> String {
    let look = if snapshot.live { "status" } else { "apply --check" };
    let look = advice::command(snapshot, look);
    if snapshot.facts.user_namespace || !snapshot.live {
        return format!("Ask as root, on the host itself: {look}.");
    }
    if why.contains(qemu::BY_THIS_USER) {
        return format!("Ask as root: {look}.");
    }
    format!("Correct what keeps it from being looked at, then see again: {look}.")
}

/// Why a target does not work now, in the words of a step.
pub fn why_not_working(look: &Look<'_>) -> String {
    if let Some(entry) = look.disabled {
        return format!("{} is disabled", entry.name);
    }
    let Some(winner) = &look.winner else {
        return "no handler is registered".to_owned();
    };
    let name = &winner.entry.name;
    let what = match winner.defects.first() {
        None => "is to be registered again",
        Some(Defect::OtherTranslator(translator)) => {
            return format!("{} (entry {name}) is to make way", translator.name());
        }
        Some(Defect::NoFixBinary) => "has no flag F",
        Some(Defect::InterpreterMissing(_)) => "names an interpreter that is missing",
        Some(Defect::InterpreterDeleted(_)) => "names an interpreter that is gone from the disk",
        Some(Defect::InterpreterStale) => "holds an older interpreter than the one on disk",
        Some(Defect::InterpreterDynamic(_)) => "names a dynamic interpreter",
        Some(Defect::InterpreterWrongMachine(_)) => "names an interpreter for another machine",
        Some(Defect::InterpreterWritable(_) | Defect::InterpreterOwner(_)) => {
            "names an interpreter that others could change"
        }
        Some(Defect::InterpreterTrustUnknown(_)) => "names an interpreter whose owner cannot be seen",
        Some(Defect::WrongFlags) => "lacks the flag P",
        Some(Defect::Credentials) => "has the flag C",
        Some(Defect::NotConfigured(_)) => "names another interpreter than the configuration",
    };
    match &look.shadowed {
        Some(good) => format!("{name} {what}, and hides {good}"),
        None => format!("{name} {what}"),
    }
}
