// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the Debian package's scripts call, beside a real table: which of it they may change.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod sandbox;

use sandbox::{QEMU, QEMU_P, Sandbox, rule};

const FRAGMENT: &str = "/etc/binfmt.d/qemu-aarch64.conf";
const REMOVED: &str = "/var/lib/qemu-persist/removed";

fn script(host: &Sandbox, what: &str) {
    let ran = host.qemu_persist(&["maintainer-script", what]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{what}: {ran:?}");
}

fn exists(host: &Sandbox, path: &str) -> bool {
    host.run("/bin/sh", &["-c", &format!("test -e {path}")]).code == 0
}

#[test]
fn files_leaves_the_table_alone() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    script(&host, "files");
    assert!(exists(&host, FRAGMENT) && host.entries().is_empty());
    script(&host, "hand-over-files");
    assert!(!exists(&host, FRAGMENT) && !exists(&host, REMOVED));
    // What apply does here, the scripts do not take back.
    host.apply(&[], 0);
    let entries = host.entries();
    script(&host, "hand-over-files");
    assert!(!exists(&host, FRAGMENT) && host.entries() == entries && !entries.is_empty());
}

#[test]
fn handing_over_gives_back_what_was_replaced_and_notes_nothing() {
    let host = sandbox!();
    // Debian's rule is good for nothing in a container, and so is overridden.
    host.write("/usr/lib/binfmt.d/qemu-aarch64.conf", &format!("{}\n", rule("qemu-aarch64", QEMU, "")));
    host.register(&rule("qemu-aarch64", QEMU, ""));
    let before = host.entry("qemu-aarch64");
    host.apply(&[], 0);
    assert!(host.entry("qemu-aarch64") != before && exists(&host, FRAGMENT));
    script(&host, "hand-over");
    assert_eq!((host.entry("qemu-aarch64"), host.entries()), (before, vec!["qemu-aarch64".to_owned()]));
    assert!(!exists(&host, FRAGMENT) && !exists(&host, REMOVED));
    // The package comes back.
    host.apply(&[], 0);
    assert!(exists(&host, FRAGMENT));
}

#[test]
fn files_that_are_there_are_renewed_and_no_others_begun() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    script(&host, "renew-files");
    assert!(!exists(&host, FRAGMENT));
    // A package whose QEMU was preferred goes, while the service does not run.
    let theirs = "/usr/libexec/qemu-persist/qemu-aarch64";
    host.sh("mkdir -p /usr/libexec/qemu-persist");
    host.write("/etc/qemu-persist/config.toml.d/50.toml", "emulator = \"always\"\n");
    host.sh(&format!("cp {QEMU} {theirs}"));
    host.apply(&[], 0);
    assert!(host.sh(&format!("cat {FRAGMENT}")).contains(theirs));
    let entries = host.entries();
    host.sh(&format!("rm {theirs}"));
    script(&host, "renew-files");
    let fragment = host.sh(&format!("cat {FRAGMENT}"));
    assert!(!fragment.contains(theirs) && fragment.contains(&format!(":{QEMU_P}:")), "{fragment}");
    assert_eq!(host.entries(), entries);
}

#[test]
fn the_word_of_remove_holds() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.apply(&[], 0);
    host.qemu_persist(&["remove"]);
    script(&host, "files");
    assert!(!exists(&host, FRAGMENT) && exists(&host, REMOVED));
    script(&host, "hand-over");
    assert!(exists(&host, REMOVED));
}

#[test]
fn nobody_calls_it_by_accident() {
    let host = sandbox!();
    for arguments in
        [&["maintainer-script"][..], &["maintainer-script", "--help"], &["maintainer-script", "files", "x"]]
    {
        assert_eq!(host.qemu_persist(arguments).code, 64, "{arguments:?}");
    }
}
