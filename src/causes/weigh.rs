// SPDX-License-Identifier: MIT OR Apache-2.0
//! What on a host speaks for a cause, or against it.

use super::{Chance, Host, Weight};
use crate::assess::emulator::copes;
use crate::assess::look::Look;
use crate::assess::proven::Proven;
use crate::assess::vet::Defect;
use crate::emulator::PACKAGE;
use crate::finding::{Finding, Severity};
use crate::parts::is_laid_out_for_small_pages;
use crate::platform::Platform;

impl Weight {
    fn new(chance: Chance, because: impl Into<String>) -> Self {
        Self { chance, because: because.into() }
    }

    fn open() -> Self {
        Self::new(Chance::Possible, "")
    }
}

/// Nothing on a host tells.
pub(super) fn open(_: &Host<'_>) -> Weight {
    Weight::open()
}

/// What keeps a wanted platform from working, as `status` says it: the worst first.
fn failing<'a>(host: &Host<'a>) -> Option<&'a Finding> {
    host.findings.iter().find(|finding| finding.severity == Severity::Critical)
}

/// A platform that a container was seen to work for, now.
fn proven(host: &Host<'_>) -> Option<&'static Platform> {
    let look = host.looks.iter().find(|look| matches!(look.proven, Proven::Yes { .. }))?;
    look.target.platform
}

fn told(finding: &Finding) -> String {
    let subject = finding.subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
    format!("{subject}{}", finding.message)
}

/// A handler is missing or out of use.
pub(super) fn no_handler(host: &Host<'_>) -> Weight {
    match (failing(host), proven(host)) {
        (Some(finding), _) => Weight::new(Chance::Likely, told(finding)),
        (None, Some(platform)) => Weight::new(
            Chance::Unlikely,
            format!("{platform} was seen to work here; of the platforms that are wanted none is without a handler"),
        ),
        (None, None) => Weight::open(),
    }
}

/// A user namespace hides the host's handlers.
pub(super) fn masked(host: &Host<'_>) -> Weight {
    if let Some(weight) = found(host, "masked-namespace") {
        return weight;
    }
    let release = &host.snapshot.facts.kernel_release;
    match failing(host) {
        _ if host.snapshot.facts.has_kernel_before((6, 7)) => Weight::new(
            Chance::Unlikely,
            format!("the kernel {release} has one table of handlers for all; namespaces have their own from 6.7 on"),
        ),
        Some(finding) => Weight::new(Chance::Unlikely, format!("the host's own do not work: {}", told(finding))),
        None => Weight::open(),
    }
}

/// A handler's interpreter is not to be found inside containers.
pub(super) fn not_held(host: &Host<'_>) -> Weight {
    let bad = |defect: &Defect| matches!(defect, Defect::NoFixBinary | Defect::InterpreterDynamic(_));
    let standing = host.looks.iter().filter_map(|look| look.winner.as_ref());
    let mut bad = standing.filter(|standing| standing.defects.iter().any(bad));
    match bad.next() {
        Some(standing) => Weight::new(
            Chance::Likely,
            format!("the handler {} does not hold an interpreter that containers can use", standing.entry.name),
        ),
        None if host.looks.iter().any(Look::works_now) => {
            Weight::new(Chance::Unlikely, "the handlers here hold their interpreters (flag F)")
        }
        None => Weight::open(),
    }
}

/// The looks at the targets whose programs are laid out for pages of 4 KiB.
pub(super) fn endangered_by_pages<'h>(host: &Host<'h>) -> impl Iterator<Item = &'h Look<'h>> {
    host.looks.iter().filter(|look| look.target.platform.is_some_and(is_laid_out_for_small_pages))
}

/// Pages of more than 4 KiB, with a QEMU that does not cope with them.
pub(super) fn large_pages(host: &Host<'_>) -> Weight {
    let mut endangered = endangered_by_pages(host).peekable();
    if host.snapshot.facts.page_size > 4096 && endangered.peek().is_some() && endangered.all(copes) {
        let because = format!("{PACKAGE}'s QEMU runs such programs here, as the self-test has shown");
        return Weight::new(Chance::Unlikely, because);
    }
    large_pages_native(host)
}

/// Pages of more than 4 KiB.
pub(super) fn large_pages_native(host: &Host<'_>) -> Weight {
    match host.snapshot.facts.page_size {
        4096 => Weight::new(Chance::Unlikely, "this kernel's pages have 4 KiB"),
        size => Weight::new(Chance::Likely, format!("this kernel's pages have {} KiB", size / 1024)),
    }
}

/// As [`large_pages`], for what has other causes as well.
pub(super) fn perhaps_large_pages(host: &Host<'_>) -> Weight {
    match large_pages(host) {
        Weight { chance: Chance::Unlikely, because } => Weight::new(Chance::Possible, because),
        likely => likely,
    }
}

/// Addresses of more than 47 bits, as Go before 1.25.4 cannot have under QEMU.
pub(super) fn wide_addresses(host: &Host<'_>) -> Weight {
    match host.address_bits {
        Some(bits @ 48..) => Weight::new(Chance::Likely, format!("addresses have {bits} bits here")),
        Some(bits) => Weight::new(Chance::Unlikely, format!("addresses have {bits} bits here")),
        None => Weight::open(),
    }
}

/// 32-bit programs on a 64-bit kernel.
pub(super) fn narrow_userland(host: &Host<'_>) -> Weight {
    match host.snapshot.facts.userland {
        Some(userland) if !is_32_bit(userland) => {
            Weight::new(Chance::Unlikely, format!("the programs of this host are of {userland}"))
        }
        _ => found(host, "userland-mismatch").unwrap_or_else(Weight::open),
    }
}

/// By the class in its ELF header.
fn is_32_bit(platform: &Platform) -> bool {
    platform.magic[4] == 1
}

/// The finding `id` is there.
fn found(host: &Host<'_>, id: &str) -> Option<Weight> {
    let finding = host.findings.iter().find(|finding| finding.id == id)?;
    Some(Weight::new(Chance::Likely, told(finding)))
}

/// The kernel's modules are gone, or it has no binfmt_misc.
pub(super) fn no_module(host: &Host<'_>) -> Weight {
    found(host, "reboot-pending").or_else(|| found(host, "binfmt-missing")).unwrap_or_else(|| {
        match host.snapshot.kernel.table() {
            Some(_) => Weight::new(Chance::Unlikely, "binfmt_misc is mounted here"),
            None => Weight::open(),
        }
    })
}

/// A handler takes the host's own programs.
pub(super) fn captured(host: &Host<'_>) -> Weight {
    found(host, "native-captured").unwrap_or_else(|| match host.snapshot.kernel.table() {
        Some(_) => Weight::new(Chance::Unlikely, "no handler here takes the host's own programs"),
        None => Weight::open(),
    })
}

/// A handler without `P` before an interpreter that asks for it.
pub(super) fn no_preserve(host: &Host<'_>) -> Weight {
    found(host, "wrong-flags").unwrap_or_else(Weight::open)
}
