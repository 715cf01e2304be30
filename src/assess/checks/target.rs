// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of one target.

use std::path::Path;

use super::service::selftest_is_due;
use super::{Context, Found};
use crate::assess::advice;
use crate::assess::look::{Look, Origin, Proven, Standing};
use crate::assess::plan::{Unmet, stand_in};
use crate::assess::vet::Defect;
use crate::binfmt::{fragment, registry};
use crate::finding::Severity::{self, Critical, Note, Unknown, Warning};
use crate::qemu;
use crate::report::shell_word;
use crate::snapshot::Snapshot;
use crate::target::Target;

/// One check of a target.
pub struct TargetCheck {
    /// The id of its findings.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Looks.
    pub run: fn(&Context<'_>, &Look<'_>) -> Option<Found>,
}

macro_rules! defect_check {
    ($id:literal, $title:literal) => {
        TargetCheck { id: $id, title: $title, run: |context, look| defect(context, look, $id) }
    };
}

/// Every check of a target: whether it works now, whether it will after the next boot, and whether
/// that is proven.
pub const CHECKS: &[TargetCheck] = &[
    TargetCheck { id: "not-registered", title: "no handler is registered", run: not_registered },
    TargetCheck { id: "disabled", title: "the handler is disabled", run: disabled },
    TargetCheck { id: "binfmt-support-disabled", title: "binfmt-support has it disabled", run: database_disabled },
    TargetCheck { id: "shadowed", title: "a newer handler hides a good one", run: shadowed },
    defect_check!("other-translator", "another translator than QEMU holds the platform"),
    defect_check!("no-fix-binary", "the handler has no F, so containers lack the interpreter"),
    defect_check!("interpreter-missing", "the interpreter is not there"),
    defect_check!("interpreter-deleted", "the kernel holds an interpreter that is gone from the disk"),
    defect_check!("interpreter-stale", "the kernel holds an older interpreter than the one on disk"),
    defect_check!("interpreter-dynamic", "the interpreter needs libraries that containers lack"),
    defect_check!("interpreter-wrong-machine", "the interpreter is for another host or platform"),
    defect_check!("interpreter-writable", "others than root could change the interpreter"),
    defect_check!("interpreter-owner", "the interpreter is not root's"),
    defect_check!("interpreter-unverified", "whether others could change it cannot be seen"),
    defect_check!("wrong-flags", "the interpreter's name demands the flag P"),
    defect_check!("credentials-flag", "setuid programs gain their owner's rights in containers"),
    TargetCheck { id: "name-taken", title: "the conventional name is another handler's", run: name_taken },
    TargetCheck { id: "duplicate", title: "several handlers match the same programs", run: duplicate },
    TargetCheck { id: "no-qemu", title: "no QEMU that could be used is installed", run: no_qemu },
    TargetCheck {
        id: "fragment-masked",
        title: "the fragment is masked by a link to /dev/null or to nothing",
        run: fragment_masked,
    },
    TargetCheck { id: "fragment-empty", title: "the fragment has nothing but comments", run: fragment_empty },
    TargetCheck { id: "fragment-broken", title: "the fragment has lines that are no rule", run: fragment_broken },
    TargetCheck {
        id: "fragment-administrator",
        title: "a file of the administrator's decides",
        run: fragment_administrator,
    },
    TargetCheck { id: "not-persistent", title: "nothing restores a good handler at boot", run: not_persistent },
    TargetCheck {
        id: "proof-pending",
        title: "no container has proven that it works, and a self-test is about to run",
        run: proof_pending,
    },
    TargetCheck { id: "unproven", title: "no container has proven that it works", run: unproven },
    TargetCheck { id: "proof-expired", title: "the proof is too old to count", run: proof_expired },
    TargetCheck { id: "proof-failed", title: "a container has shown that it does not work", run: proof_failed },
];

/// Whether the kernel's table could be seen and is on: without it nothing can be said of entries.
fn table_is_on(context: &Context<'_>) -> bool {
    context.snapshot.kernel.table().is_some_and(|table| table.enabled)
}

/// What would register it: `apply` where a plan is there, else what the plan says is missing.
fn mend(context: &Context<'_>, look: &Look<'_>) -> String {
    let apply = advice::apply(context.snapshot);
    unmet(context, look).map_or_else(|| format!("Register it: {apply}."), |unmet| unmet.advice.clone())
}

fn not_registered(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    context.snapshot.kernel.table()?;
    let nothing = look.winner.is_none() && look.disabled.is_none() && in_database_only(context, look).is_none();
    let message =
        format!("no handler is registered, so programs for {} do not start (exec format error)", look.target.subject);
    nothing.then(|| Found::new(Critical, message, mend(context, look)))
}

/// Its name in binfmt-support's database, where it is there and not in the kernel.
fn in_database_only<'c>(context: &'c Context<'_>, look: &Look<'_>) -> Option<&'c str> {
    let absent = look.winner.is_none() && look.disabled.is_none();
    let rule = context.snapshot.database.iter().find(|rule| look.target.is_taken_by(&rule.pattern))?;
    absent.then_some(rule.name.as_str())
}

fn database_disabled(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    context.snapshot.kernel.table()?;
    let name = in_database_only(context, look)?;
    let message = format!("{name} is in binfmt-support's database and disabled: no handler is registered");
    Some(Found::new(
        Critical,
        message,
        format!("Enable it: `sudo update-binfmts --enable {}`, or {apply}.", shell_word(name)),
    ))
}

fn disabled(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    let entry = look.disabled?;
    let message = format!("the handler {} is disabled", entry.name);
    Some(Found::new(Critical, message, format!("Enable it: {apply}.")))
}

fn shadowed(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    let take_over = advice::take_over(context.snapshot);
    let good = look.shadowed.as_ref()?;
    let winner = look.winner.as_ref()?;
    let message = format!("{} was registered later than the good handler {good}, and wins", winner.entry.name);
    let translator = has_translator(winner);
    let advice =
        if translator { format!("Decide for QEMU: {take_over}.") } else { format!("Let the good one win: {apply}.") };
    Some(Found::new(Critical, message, advice))
}

fn has_translator(standing: &Standing) -> bool {
    standing.defects.iter().any(|defect| matches!(defect, Defect::OtherTranslator(_)))
}

/// The handler that is judged: the one that runs programs now, and in an image the one that will.
fn judged<'l>(context: &Context<'_>, look: &'l Look<'_>) -> Option<&'l Standing> {
    if context.snapshot.live { look.winner.as_ref() } else { look.boot.as_ref() }
}

/// How bad it is that nothing good is registered at boot: an image has nothing else.
fn severity_at_boot(context: &Context<'_>) -> Severity {
    if context.snapshot.live { Warning } else { Critical }
}

fn severity_of(defect: &Defect, standing: &Standing) -> Severity {
    match defect {
        Defect::OtherTranslator(_) if standing.entry.flags.fix_binary => Warning,
        Defect::InterpreterDeleted(_) | Defect::InterpreterStale | Defect::Credentials => Warning,
        Defect::InterpreterTrustUnknown(_) => Unknown,
        _ => Critical,
    }
}

/// The finding of `id` about the handler that is judged, where it has that defect, or about the one
/// that would take its place, where that has it.
fn defect(context: &Context<'_>, look: &Look<'_>, id: &str) -> Option<Found> {
    let own = judged(context, look).and_then(|standing| defect_of(context, look, standing, id));
    own.or_else(|| {
        let unmet = unmet(context, look).filter(|unmet| unmet.id == id)?;
        let severity = if id == "interpreter-unverified" { Unknown } else { Critical };
        Some(Found::new(severity, unmet.message.clone(), unmet.advice.clone()))
    })
}

fn unmet<'c>(context: &'c Context<'_>, look: &Look<'_>) -> Option<&'c Unmet> {
    context.plan.unmet.iter().find(|unmet| unmet.subject == look.target.subject)
}

fn is_planned(context: &Context<'_>, look: &Look<'_>) -> bool {
    context.plan.steps.iter().any(|step| step.subject.as_deref() == Some(&look.target.subject))
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
    };
    match &look.shadowed {
        Some(good) => format!("{name} {what}, and hides {good}"),
        None => format!("{name} {what}"),
    }
}

fn name_taken(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    let holder = look.name_taken_by?;
    let (name, ours) = (&look.target.name, stand_in(&look.target.name));
    let message = format!(
        "the name {name} belongs to a handler of other programs ({}): {ours} is used",
        holder.interpreter.display()
    );
    let severity = if look.works_now() { Note } else { Warning };
    let file = advice::word(&Path::new(registry::DIRECTORY).join(name));
    let advice = format!("If nothing needs that handler: `echo -1 | sudo tee {file}`, then {apply}.");
    Some(Found::new(severity, message, advice))
}

fn duplicate(_context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let winner = look.winner.as_ref().filter(|winner| winner.is_good())?;
    let others = look.others.join(", ");
    let message = format!("{others} would take the same programs; {} wins, being newer", winner.entry.name);
    (!look.others.is_empty()).then(|| Found::new(Note, message, ""))
}

fn no_qemu(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let unmet = context.plan.unmet.iter().find(|u| u.subject == look.target.subject && u.id == "no-qemu")?;
    Some(Found::new(Critical, unmet.message.clone(), unmet.advice.clone()))
}

fn fragment_masked(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    let fragment = look.fragment.filter(|fragment| fragment.masked && !look.works_after_boot())?;
    let path = fragment.path.display();
    let what = if fragment.dangling { "a link that leads nowhere" } else { "a link to /dev/null" };
    let message = format!("{path} is {what}, which masks the handler at every boot");
    let removal = advice::remove(context.snapshot, &fragment.path);
    Some(Found::new(severity_at_boot(context), message, format!("Unless that is meant: {removal}, then {apply}.")))
}

fn fragment_empty(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    let fragment = look.fragment.filter(|fragment| !fragment.masked && !look.works_after_boot())?;
    let content = &fragment.content;
    let empty = content.rules.is_empty() && content.broken.is_empty() && fragment.unreadable.is_none();
    let path = fragment.path.display();
    let message = format!("{path} has no rule in it, and so masks the handler at every boot");
    let removal = advice::remove(context.snapshot, &fragment.path);
    empty.then(|| {
        Found::new(severity_at_boot(context), message, format!("Unless that is meant: {removal}, then {apply}."))
    })
}

fn fragment_broken(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    let fragment = look.fragment?;
    let path = fragment.path.display();
    let what = match (fragment.content.broken.first(), &fragment.unreadable) {
        (Some((line, why)), _) => format!("{path}:{line}: {why}"),
        (None, Some(why)) => format!("{path} cannot be read: {why}"),
        (None, None) => return None,
    };
    let severity = if look.works_after_boot() { Warning } else { severity_at_boot(context) };
    let advice = match () {
        () if fragment.is_vendors() && is_planned(context, look) => format!("Override it: {apply}."),
        () if fragment.is_vendors() => "Reinstall the package that it belongs to.".to_owned(),
        () => format!("Correct it, or {}, then {apply}.", advice::remove(context.snapshot, &fragment.path)),
    };
    Some(Found::new(severity, what, advice))
}

fn fragment_administrator(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let apply = advice::apply(context.snapshot);
    let fragment = look.fragment.filter(|f| f.is_administrators() && !f.masked && !f.content.rules.is_empty())?;
    let path = fragment.path.display();
    if look.works_after_boot() {
        return Some(Found::new(Note, format!("{path} is the administrator's own, and is left alone"), ""));
    }
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

fn not_persistent(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
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
fn make_last(context: &Context<'_>, look: &Look<'_>) -> String {
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

/// Why it is not proven that it works, where it looks as if it did.
fn why_unproven(context: &Context<'_>, look: &Look<'_>) -> Option<String> {
    if !look.works_now() || !table_is_on(context) || look.target.platform.is_none() {
        return None;
    }
    match &look.proven {
        Proven::Never => Some("it is registered, and no container has shown yet that it works".to_owned()),
        Proven::Void { reason } => Some(format!("it was proven once, but {reason}")),
        _ => None,
    }
}

fn proof_pending(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let why = why_unproven(context, look).filter(|_| selftest_is_due(context.snapshot, look.target))?;
    let advice = "Wait for it: `qemu-persist status --wait`.";
    Some(Found::new(Warning, format!("{why}; the self-test is due"), advice))
}

fn unproven(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let why = why_unproven(context, look).filter(|_| !selftest_is_due(context.snapshot, look.target))?;
    Some(Found::new(Warning, why, "Prove it: `sudo qemu-persist selftest`."))
}

fn proof_expired(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let Proven::Expired { seconds_ago } = look.proven else { return None };
    let works = look.works_now() && table_is_on(context);
    let message = format!("it was proven {} days ago, which is too long", seconds_ago / 86400);
    works.then(|| Found::new(Warning, message, "Prove it again: `sudo qemu-persist selftest`."))
}

fn proof_failed(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let Proven::Failed { reason } = &look.proven else { return None };
    let works = look.works_now() && table_is_on(context);
    let message = format!("it looks right, but the last self-test failed: {reason}");
    works.then(|| Found::new(Critical, message, "See what it says now: `sudo qemu-persist selftest`."))
}
