// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which QEMU runs a target: the distribution's, or that of the package qemu-persist-emulator (see [`crate::emulator`]).
//!
//! The package's is preferred where it is of use, which is on large pages, and a self-test on this kernel has not shown
//! the contrary: the distribution's is what gets security updates.

use super::look::{Look, Standing};
use super::origin::Origin;
use super::plan::{is_confined, made_rule};
use super::proven::Proven;
use super::vet::vet;
use super::{advice, checks};
use crate::binfmt::fragment::Fragment;
use crate::binfmt::rule::Rule;
use crate::config::Emulator;
use crate::emulator::{PACKAGE, has, path_for};
use crate::parts::FRAGMENT;
use crate::record::{FileIdentity, Rejection};
use crate::snapshot::Snapshot;
use crate::target::Target;

/// The pages for which programs of amd64 and 386 are laid out.
const USUAL: u64 = 4096;

/// What speaks for the package's QEMU for a target, and against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// It is not there, not asked for, or something else was decided.
    Other,
    /// It is to run the target.
    Preferred {
        /// The rule.
        rule: Rule,
        /// Why, in one sentence without its end.
        why: String,
    },
    /// It would be preferred, and is not fit to be registered.
    Unfit {
        /// Why it would be preferred, as above.
        why: String,
        /// What is wrong with it, in one sentence without its end.
        defect: String,
        /// What to do.
        advice: String,
    },
    /// It would be preferred, and a self-test with it failed on this kernel.
    Rejected(&'a Rejection),
}

/// Judges the package's QEMU for the target of `look`. What the configuration or an administrator's file says of the
/// target counts more, and leaves [`Choice::Other`].
pub fn choose<'a>(snapshot: &'a Snapshot, look: &Look<'_>) -> Choice<'a> {
    let target = look.target;
    let Some(platform) = target.platform.filter(|_| target.rule.is_none()) else { return Choice::Other };
    if decision(snapshot, look).is_some() {
        return Choice::Other;
    }
    let path = path_for(platform);
    let (Some(why), Some(file)) = (why(snapshot, look), snapshot.file_on_disk(&path)) else { return Choice::Other };
    if let Some(rejected) = rejection(snapshot, target, file) {
        return Choice::Rejected(rejected);
    }
    let rule = made_rule(snapshot, target, &path);
    let defects = vet(snapshot, target, &rule);
    match defects.iter().find(|defect| defect.keeps_from_registering()) {
        None => Choice::Preferred { rule, why },
        Some(defect) => {
            let (_, what, advice) = checks::describe_defect(snapshot, target, &path, defect);
            let path = path.display().to_string();
            Choice::Unfit { why, defect: if what.contains(&path) { what } else { format!("{path}: {what}") }, advice }
        }
    }
}

/// That a self-test of `target` with `file` failed on this kernel.
fn rejection<'a>(snapshot: &'a Snapshot, target: &Target, file: &FileIdentity) -> Option<&'a Rejection> {
    let rejected = snapshot.proofs.get(&target.subject)?.rejected.as_ref()?;
    (snapshot.live && rejected.is_of(&snapshot.facts.kernel_release, file)).then_some(rejected)
}

/// What decides on the target's interpreter, where that is the configuration, a file of the administrator's, or one in
/// /run that is not ours: its name within a sentence.
fn decision(snapshot: &Snapshot, look: &Look<'_>) -> Option<String> {
    if snapshot.config.interpreter_of(look.target.platform).is_some() {
        return Some("`[interpreters]` of the configuration".to_owned());
    }
    let takes = |rule: &Rule| look.target.is_taken_by(&rule.pattern);
    let mut theirs = snapshot.fragments.iter().filter(|fragment| !fragment.content.ours && !fragment.is_vendors());
    let decides = |f: &&Fragment| f.name == format!("{}.conf", look.target.name) || f.content.rules.iter().any(takes);
    theirs.find(decides).map(|fragment| snapshot.outside(&fragment.path).display().to_string())
}

/// Why the package's QEMU is to be preferred, where it is.
fn why(snapshot: &Snapshot, look: &Look<'_>) -> Option<String> {
    let size = snapshot.facts.page_size;
    match snapshot.config.emulator {
        Emulator::Never => None,
        Emulator::Always => Some(format!("the configuration prefers {PACKAGE}'s QEMU, which is installed")),
        Emulator::Auto if has_own_kernel(snapshot) => {
            (size > USUAL).then(|| format!("pages of {} KiB need {PACKAGE}'s QEMU, which is installed", size / 1024))
        }
        // Which kernel a system image or a chroot will run on is not known: what was decided on it stays.
        Emulator::Auto => {
            let ours = look.fragment.filter(|fragment| fragment.content.ours);
            let named = ours.is_some_and(|fragment| fragment.content.rules.iter().any(|rule| has(&rule.interpreter)));
            named.then(|| format!("{PACKAGE}'s QEMU, which is installed, was chosen on the system itself"))
        }
    }
}

/// Whether the running kernel is the one of the system that was looked at.
fn has_own_kernel(snapshot: &Snapshot) -> bool {
    snapshot.live && !is_confined(snapshot)
}

/// Why `standing`, a good handler of the target of `look`, makes way for `rule`, the one that the target should have:
/// one of them is the package's QEMU. None where it does not: neither is, or it is somebody else's handler, which goes
/// only with `take_over`.
pub fn makes_way(
    snapshot: &Snapshot,
    look: &Look<'_>,
    standing: &Standing,
    rule: &Rule,
    take_over: bool,
) -> Option<String> {
    let (held, wanted) = (has(&standing.entry.interpreter), has(&rule.interpreter));
    let may = match &standing.origin {
        Origin::Ours | Origin::Distribution(_) | Origin::BinfmtSupport => true,
        Origin::Administrator(_) => false,
        // Nobody else registers the package's.
        Origin::Foreign => held || take_over,
    };
    if held == wanted || !may {
        return None;
    }
    match choose(snapshot, look) {
        Choice::Preferred { why, .. } => wanted.then_some(why),
        Choice::Rejected(rejected) => held.then(|| failed(rejected)),
        // That it is all there is says nothing against a handler that is good.
        _ if wanted => None,
        Choice::Unfit { defect, .. } => Some(defect),
        Choice::Other => Some(match snapshot.config.emulator {
            Emulator::Never => format!("the configuration does not want {PACKAGE}'s QEMU"),
            Emulator::Auto if has_own_kernel(snapshot) && snapshot.facts.page_size <= USUAL => {
                format!("pages of 4 KiB do not need {PACKAGE}'s QEMU")
            }
            _ => format!("{} is to run it, and not {PACKAGE}'s QEMU", rule.interpreter.display()),
        }),
    }
}

/// That a self-test failed, in one sentence without its end.
pub fn failed(rejected: &Rejection) -> String {
    format!("a self-test with {PACKAGE}'s QEMU failed on this kernel ({})", rejected.reason)
}

/// Whether the package's QEMU runs the target of `look` now.
fn runs(look: &Look<'_>) -> bool {
    look.winner.as_ref().is_some_and(|winner| has(&winner.entry.interpreter))
}

/// Whether the package's QEMU runs the target of `look`, and a self-test has shown on this host that it copes with the
/// kernel's pages.
pub fn copes(look: &Look<'_>) -> bool {
    let broken = look.broken.iter().any(|broken| broken.part == FRAGMENT);
    runs(look) && matches!(look.proven, Proven::Yes { .. }) && look.working.contains(&FRAGMENT) && !broken
}

/// How programs of the target of `look`, laid out for pages of 4 KiB, can be run on larger ones, as far as that is
/// QEMU's affair: the end of a sentence, or its whole. Without a look it is a platform that nobody asked for. None where
/// the package is of no use, since there is none for this host.
pub fn way(snapshot: &Snapshot, look: Option<&Look<'_>>) -> Option<String> {
    let own = snapshot.facts.native.first().map(|platform| platform.oci);
    if !own.is_some_and(|own| ["arm64", "amd64"].contains(&own)) {
        return None;
    }
    let apply = advice::apply(snapshot);
    let install = format!("Install the package {PACKAGE}, whose QEMU can do it, then {apply}");
    let Some((look, platform)) = look.and_then(|look| Some((look, look.target.platform?))) else {
        return Some(install);
    };
    let path = path_for(platform);
    Some(match choose(snapshot, look) {
        Choice::Rejected(_) => newer(),
        _ if runs(look) => newer(),
        Choice::Unfit { defect, advice, .. } => {
            let advice = advice.trim_end_matches('.');
            format!("Let {PACKAGE}'s QEMU run them, which is not fit for it ({defect}). {advice}")
        }
        Choice::Preferred { rule, .. } => {
            let goes = |take_over| {
                look.winner.as_ref().is_none_or(|it| makes_way(snapshot, look, it, &rule, take_over).is_some())
            };
            let command = if !goes(false) && goes(true) { advice::take_over(snapshot) } else { apply };
            format!("Let {PACKAGE}'s QEMU run them: {command}")
        }
        Choice::Other => match decision(snapshot, look) {
            Some(decision) => format!("Have {decision} name {} of the package {PACKAGE}", path.display()),
            None if snapshot.file_on_disk(&path).is_none() => install,
            None if snapshot.config.emulator == Emulator::Never => {
                format!("Take `emulator = \"never\"` out of the configuration, then {apply}")
            }
            None => return None,
        },
    })
}

/// What to do about a QEMU of the package's that does not help.
pub fn newer() -> String {
    format!("Install a newer {PACKAGE}, if there is one")
}
