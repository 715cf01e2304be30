// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs of a platform rely on, part by part: that which the self-test looks at beside
//! `uname`, and what it means where it is broken.

use crate::assess::emulator;
use crate::assess::look::Look;
use crate::config::Config;
use crate::finding::Severity::{self, Critical, Note, Warning};
use crate::host::Facts;
use crate::platform::Platform;
use crate::record::BrokenPart;
use crate::snapshot::Snapshot;

/// What to do, on a host and about a target.
type Cure = fn(&Snapshot, Option<&Look<'_>>) -> String;

/// One part.
#[derive(Debug)]
pub struct Part {
    /// Its name: that of its group, or behind that a dot and its own.
    pub id: &'static str,
    /// How bad it is that it is broken, unless the configuration says otherwise.
    severity: Severity,
    /// What that means for programs, in one sentence without its end.
    pub meaning: &'static str,
    /// What to do.
    cure: Cure,
}

const fn part(id: &'static str, severity: Severity, meaning: &'static str, cure: Cure) -> Part {
    Part { id, severity, meaning, cure }
}

/// The part that decides whether common programs start at all (tonistiigi/binfmt issue 307).
pub const FRAGMENT: &str = "pages.fragment";

/// The part that follows from what another one, `isa`, found out: whether the level that programs find is enough for
/// those that ask for more than the first (x86-64 psABI, "Micro-Architecture Levels").
pub const LEVEL: &str = "isa.level";

/// The part that is looked at in a container of its own: one that may gain rights.
pub const SETUID: &str = "setuid";

/// All of them, in the order in which they are run.
pub static PARTS: &[Part] = &[
    part(
        FRAGMENT,
        Warning,
        "programs do not start that have one of the libraries whose layout wants pages of 4 KiB (\"failed to map \
         segment from shared object\")",
        small_pages,
    ),
    part("pages.guard", Note, "pages that a program forbids to itself can be used nevertheless", smaller_pages),
    part("pages.wx", Note, "code can be written to where data are next to it", smaller_pages),
    part("pages.shared", Note, "programs that share single pages of files (databases, caches) fail", smaller_pages),
    part("isa", Warning, "programs are not told which instructions they may use", look_at_qemu),
    part(
        LEVEL,
        Warning,
        "programs do not start that are built for x86-64-v2 (\"CPU does not support x86-64-v2\"), as in images of RHEL 9 \
         and its relatives",
        |_, _| {
            "Look whether a variable QEMU_CPU is set for containers, and for a QEMU of version 7.2 or newer: \
             `qemu-persist host`."
                .to_owned()
        },
    ),
    part("isa.avx2", Warning, "programs that calculate with AVX2 get wrong results or crash", look_at_qemu),
    part("exec.path", Warning, "programs cannot start others", look_at_handler),
    part("exec.relative", Warning, "programs cannot start others by a relative path", look_at_handler),
    part("exec.argv0", Warning, "programs that look at their own name do something else", look_at_handler),
    part("exec.script", Warning, "scripts do not start", look_at_handler),
    part("exec.self", Warning, "programs that start themselves again by /proc/self/exe fail", look_at_handler),
    part("exec.limits", Warning, "programs do not start with long arguments", look_at_handler),
    part(
        SETUID,
        Warning,
        "setuid programs gain their owner's rights, and QEMU with them, which is not what the configuration says",
        |_, _| "Run `sudo qemu-persist apply`, which registers the handler without the flag C.".to_owned(),
    ),
    part("threads.fork", Warning, "programs cannot divide themselves", look_at_qemu),
    part("threads.signal", Warning, "programs that handle signals on a stack of their own fail", look_at_qemu),
    part("threads.run", Warning, "programs with threads fail", look_at_qemu),
    part("threads.order", Warning, "programs with threads can go wrong at any time", look_at_qemu),
    part("syscalls.openat2", Note, "openat2 goes wrong", look_at_qemu),
    part("syscalls.statx", Note, "statx goes wrong", look_at_qemu),
    part("syscalls.clone3", Note, "clone3 goes wrong", look_at_qemu),
    part("syscalls.rseq", Note, "rseq goes wrong", look_at_qemu),
    part("syscalls.io_uring_setup", Note, "io_uring goes wrong", look_at_qemu),
    part("syscalls.close_range", Note, "close_range goes wrong", look_at_qemu),
    part("syscalls.getrandom", Note, "getrandom goes wrong", look_at_qemu),
    part("syscalls.memfd_create", Note, "memfd_create goes wrong", look_at_qemu),
    part("syscalls.pidfd_open", Note, "pidfd_open goes wrong", look_at_qemu),
    part(
        "address-space",
        Note,
        "programs get memory at addresses that some cannot use: those in Go from before 1.25.4 may end with \
         \"lfstack.push: invalid packing\"",
        |_, _| "Use images that were built with Go 1.25.4 or newer.".to_owned(),
    ),
];

impl Part {
    /// The part called `id`.
    pub fn named(id: &str) -> Option<&'static Self> {
        PARTS.iter().find(|part| part.id == id)
    }

    /// The group that it is one of.
    pub fn group(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }

    /// How bad it is under `config`.
    pub fn severity(&self, config: &Config) -> Severity {
        if self.id == FRAGMENT && config.large_pages_are_critical { Critical } else { self.severity }
    }

    /// What to do on the host that `snapshot` is of. `look` is that at the target where it is broken, where it is one.
    pub fn cure(&self, snapshot: &Snapshot, look: Option<&Look<'_>>) -> String {
        (self.cure)(snapshot, look)
    }
}

/// Whether programs of `platform` are laid out for pages of 4 KiB, so that [`FRAGMENT`] is looked at.
pub fn is_laid_out_for_small_pages(platform: &Platform) -> bool {
    ["amd64", "386"].contains(&platform.oci)
}

/// The id of the finding that `part` is broken.
pub fn finding_id(part: &Part) -> &'static str {
    if part.id == FRAGMENT { "pages-fragment" } else { "part-broken" }
}

/// What is wrong with `part`: what that means, and in what it showed.
pub fn describe(part: &Part, broken: &BrokenPart) -> String {
    let shown = if broken.detail.is_empty() { String::new() } else { format!(" ({}: {})", part.id, broken.detail) };
    format!("{}{shown}", part.meaning)
}

/// What to do about pages with which the foreign programs of the target of `look` do not start: a QEMU that copes with
/// them, or another kernel.
pub fn small_pages(snapshot: &Snapshot, look: Option<&Look<'_>>) -> String {
    match (kernel_with_small_pages(&snapshot.facts), emulator::way(snapshot, look)) {
        (Some(kernel), Some(way)) => format!("{way}; or {}{}", kernel[..1].to_lowercase(), &kernel[1..]),
        _ => smaller_pages(snapshot, look),
    }
}

/// What to do about pages with which no QEMU copes in all regards.
fn smaller_pages(snapshot: &Snapshot, look: Option<&Look<'_>>) -> String {
    kernel_with_small_pages(&snapshot.facts).unwrap_or_else(|| look_at_qemu(snapshot, look))
}

/// How to get a kernel with pages of 4 KiB, where the host that `facts` are of has no such.
pub fn kernel_with_small_pages(facts: &Facts) -> Option<String> {
    let how = "Boot a kernel with pages of 4 KiB: on a Raspberry Pi the line `kernel=kernel8.img` in \
               /boot/firmware/config.txt selects it (`sudo qemu-persist fix page-size` writes it), on Debian it is the \
               package linux-image-arm64.";
    (facts.page_size != 4096).then(|| how.to_owned())
}

fn look_at_qemu(_: &Snapshot, _: Option<&Look<'_>>) -> String {
    "Look for a newer QEMU, or take images of this host's own platform.".to_owned()
}

fn look_at_handler(_: &Snapshot, _: Option<&Look<'_>>) -> String {
    "Look at its handler: `qemu-persist status`.".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_once_and_group_by_group() {
        let mut groups: Vec<&str> = Vec::new();
        for part in PARTS {
            assert!(Part::named(part.id).is_some_and(|named| std::ptr::eq(named, part)));
            assert!(part.severity <= Warning && !part.meaning.ends_with('.'), "{}", part.id);
            if groups.last() != Some(&part.group()) {
                assert!(!groups.contains(&part.group()), "{}", part.id);
                groups.push(part.group());
            }
        }
        assert_eq!(groups, ["pages", "isa", "exec", "setuid", "threads", "syscalls", "address-space"]);
    }
}
