// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of what QEMU of the package qemu-persist-emulator does for a target.

use super::defects::has_translator;
use super::target::{is_planned, unmet};
use super::{Context, Found};
use crate::assess::advice;
use crate::assess::emulator::{Choice, choose, copes, failed, newer};
use crate::assess::look::{Look, Standing};
use crate::assess::plan::desired;
use crate::assess::proven::Proven;
use crate::emulator::{PACKAGE, has};
use crate::finding::Severity::{Note, Warning};
use crate::parts::{self, is_laid_out_for_small_pages};

/// The handler that is judged, where it works by QEMU: the one that runs programs now, and in an image the one that
/// will.
fn working<'l>(context: &Context<'_>, look: &'l Look<'_>) -> Option<&'l Standing> {
    let standing = if context.snapshot.live { look.winner.as_ref() } else { look.boot.as_ref() };
    standing.filter(|standing| standing.is_good() && !has_translator(standing))
}

pub(super) fn used(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let Choice::Preferred { why, .. } = choose(context.snapshot, look) else { return None };
    let standing = working(context, look).filter(|standing| has(&standing.entry.interpreter))?;
    let path = standing.entry.interpreter.display();
    let is_proven = matches!(look.proven, Proven::Yes { .. }) && look.broken.is_empty();
    if is_proven && look.target.platform.is_some_and(is_laid_out_for_small_pages) && !copes(look) {
        let message = format!("{why}: {path} runs it, and whether that helps could not be found out");
        return Some(Found::new(Note, message, "Find out: `sudo qemu-persist selftest`."));
    }
    Some(Found::new(Note, format!("{why}: {path} runs it"), ""))
}

pub(super) fn unused(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let snapshot = context.snapshot;
    let standing = working(context, look).filter(|standing| !has(&standing.entry.interpreter))?;
    match choose(snapshot, look) {
        Choice::Preferred { why, .. } => {
            let message = format!("{why}, and {} runs it", standing.entry.interpreter.display());
            let advice = match unmet(context, look) {
                Some(unmet) => unmet.advice.clone(),
                None if is_planned(context, look) => format!("Use it: {}.", advice::apply(snapshot)),
                None => format!("Have it take the place of {}: {}.", standing.entry.name, advice::take_over(snapshot)),
            };
            Some(Found::new(Warning, message, advice))
        }
        Choice::Unfit { why, defect, advice } => {
            Some(Found::new(Warning, format!("{why}, and is not used: {defect}"), advice))
        }
        Choice::Other | Choice::Rejected(_) => None,
    }
}

pub(super) fn rejected(context: &Context<'_>, look: &Look<'_>) -> Option<Found> {
    let snapshot = context.snapshot;
    let Choice::Rejected(rejected) = choose(snapshot, look) else { return None };
    // Where there is no other, it stays, and what is wrong with it is told as of any.
    let other = desired(snapshot, look).ok().filter(|rule| !has(&rule.interpreter))?;
    let back = working(context, look).is_some_and(|standing| has(&standing.entry.interpreter));
    let (message, path) = (failed(rejected), other.interpreter.display());
    let advice = if back && is_planned(context, look) {
        format!("Go back: {}.", advice::apply(snapshot))
    } else {
        let kernel = parts::kernel_with_small_pages(&snapshot.facts);
        let kernel = kernel.map_or_else(String::new, |kernel| format!(" {kernel}"));
        format!(
            "{}, or remove it: `sudo apt-get remove {PACKAGE}`. It is tried again when it is installed anew, or on another \
             kernel.{kernel}",
            newer()
        )
    };
    let used = if back { "is to be used" } else { "is used" };
    Some(Found::new(Warning, format!("{message}: {path} {used} instead"), advice))
}
