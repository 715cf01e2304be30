// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of one target.

use std::path::Path;

use super::boot::{fragment_administrator, fragment_broken, fragment_empty, fragment_masked, not_persistent};
use super::defects::{defect, has_translator};
use super::service::selftest_is_due;
use super::{Context, Found, emulator};
use crate::assess::advice;
use crate::assess::look::Look;
use crate::assess::plan::{Unmet, stand_in};
use crate::assess::proven::Proven;
use crate::binfmt::registry;
use crate::finding::Severity::{Critical, Note, Warning};
use crate::parts::{self, FRAGMENT, Part};
use crate::report::shell_word;

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
    defect_check!("other-interpreter", "the configuration names another interpreter than the handler's"),
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
    TargetCheck {
        id: "pages-fragment",
        title: "containers run, but some programs do not start because of the host's large pages",
        run: pages_fragment,
    },
    TargetCheck {
        id: "part-broken",
        title: "containers run, but something that some programs rely on is broken",
        run: part_broken,
    },
    TargetCheck {
        id: "emulator-unused",
        title: "QEMU of qemu-persist-emulator is preferred, and another handler runs programs",
        run: emulator::unused,
    },
    TargetCheck {
        id: "emulator-rejected",
        title: "a self-test with QEMU of qemu-persist-emulator failed, and the distribution's is used again",
        run: emulator::rejected,
    },
    TargetCheck {
        id: "emulator-used",
        title: "QEMU of qemu-persist-emulator runs programs, and why",
        run: emulator::used,
    },
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
    context.snapshot.kernel.table()?;
    let name = in_database_only(context, look)?;
    let apply = advice::apply(context.snapshot);
    let message = format!("{name} is in binfmt-support's database and disabled: no handler is registered");
    Some(Found::new(
        Critical,
        message,
        format!("Enable it: `sudo update-binfmts --enable {}`, or {apply}.", shell_word(name)),
    ))
}

fn disabled(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let entry = look.disabled?;
    let apply = advice::apply(context.snapshot);
    let message = format!("the handler {} is disabled", entry.name);
    Some(Found::new(Critical, message, format!("Enable it: {apply}.")))
}

fn shadowed(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let good = look.shadowed.as_ref()?;
    let winner = look.winner.as_ref()?;
    let apply = advice::apply(context.snapshot);
    let take_over = advice::take_over(context.snapshot);
    let message = format!("{} was registered later than the good handler {good}, and wins", winner.entry.name);
    let translator = has_translator(winner);
    let advice =
        if translator { format!("Decide for QEMU: {take_over}.") } else { format!("Let the good one win: {apply}.") };
    Some(Found::new(Critical, message, advice))
}

pub(super) fn unmet<'c>(context: &'c Context<'_>, look: &Look<'_>) -> Option<&'c Unmet> {
    context.plan.unmet.iter().find(|unmet| unmet.subject == look.target.subject)
}

pub(super) fn is_planned(context: &Context<'_>, look: &Look<'_>) -> bool {
    context.plan.steps.iter().any(|step| step.subject.as_deref() == Some(&look.target.subject))
}

fn name_taken(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let holder = look.name_taken_by?;
    let apply = advice::apply(context.snapshot);
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

fn pages_fragment(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    broken(context, look, |part| part.id == FRAGMENT)
}

fn part_broken(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    broken(context, look, |part| part.id != FRAGMENT && part.severity(&context.snapshot.config) > Note)
}

/// Those of the parts that a self-test found to be broken that `are_meant`.
fn broken(context: &Context<'_>, look: &Look<'_>, are_meant: impl Fn(&Part) -> bool) -> Option<Found> {
    let parts: Vec<_> = look.broken.iter().filter_map(|broken| Some((Part::named(&broken.part)?, *broken))).collect();
    let mut parts = parts.into_iter().filter(|(part, _)| are_meant(part)).peekable();
    let (first, _) = *parts.peek()?;
    let told: Vec<_> = parts.map(|(part, broken)| parts::describe(part, broken)).collect();
    Some(Found::new(
        first.severity(&context.snapshot.config),
        told.join("; "),
        first.cure(context.snapshot, Some(look)),
    ))
}
