// SPDX-License-Identifier: MIT OR Apache-2.0
//! What counts as proof, and as evidence for the interpreter that the kernel holds.

use super::*;
use crate::assess::origin::Currency;
use crate::assess::proven::Proven;

/// What changes after a proof was made.
type Change = fn(&mut Host, &mut Proof);
/// What makes a host of its own out of a healthy one.
type HostChange<'a> = dyn Fn(&mut Host) + 'a;

fn proven(change: impl FnOnce(&mut Host, &mut Proof)) -> Proven {
    let mut host = Host::healthy();
    let mut proof = proof();
    change(&mut host, &mut proof);
    host.0.proofs.insert("linux/amd64".into(), proof);
    host.assess().looks[0].proven.clone()
}

#[test]
fn a_proof_counts_while_nothing_has_changed() {
    assert_eq!(proven(|_, _| {}), Proven::Yes { seconds_ago: 60 });
    assert_eq!(proven(|host, _| host.0.boot_seconds = 10), Proven::Yes { seconds_ago: 0 });
    let days = |days: u64| proven(|host, _| host.0.boot_seconds = NOW - 60 + days * 86400);
    assert_eq!(days(8), Proven::Yes { seconds_ago: 8 * 86400 });
    assert_eq!(days(9), Proven::Expired { seconds_ago: 9 * 86400 });
    // Registered again by somebody, with the same rule and interpreter.
    assert_eq!(proven(|host, _| host.table().entries[0].inode = 8), Proven::Yes { seconds_ago: 60 });
}

#[test]
fn a_proof_is_void_for_each_thing_that_changed() {
    let voids: [(&str, Change); 7] = [
        ("booted since", |_, proof| proof.boot_id = "another-boot".into()),
        ("another handler", |_, proof| proof.kernel_release = "6.1.0".into()),
        ("another handler", |host, _| {
            host.replace(&rule("qemu-x86_64", QEMU, "OF"));
        }),
        ("could not be seen", |_, proof| proof.interpreter = None),
        ("replaced since", |host, proof| {
            proof.entry_inode = 6;
            host.qemu(|interpreter| interpreter.identity = identity(12));
        }),
        ("replaced since", |_, proof| {
            proof.entry_inode = 6;
            proof.interpreter.as_mut().unwrap().size += 1;
        }),
        ("registered anew", |_, proof| {
            proof.entry_inode = 6;
            proof.results = vec![result("docker", false)];
        }),
    ];
    for (why, change) in voids {
        match proven(change) {
            Proven::Void { reason } => assert!(reason.contains(why), "{why}: {reason}"),
            other => panic!("{why}: {other:?}"),
        }
    }
    let mut host = Host::healthy();
    host.0.proofs.clear();
    assert_eq!(host.assess().looks[0].proven, Proven::Never);
}

#[test]
fn a_failure_is_told_by_runtime() {
    let failed = |results: Vec<RuntimeResult>| match proven(|_, proof| proof.results = results) {
        Proven::Failed { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(failed(vec![result("builtin", true), result("docker", false)]), "docker: exec format error");
    assert_eq!(failed(vec![result("podman", false)]), "podman: exec format error");
    // A run in which nothing ran proves nothing.
    assert_eq!(proven(|_, proof| proof.results.clear()), Proven::Never);
}

#[test]
fn what_the_kernel_holds_is_judged_by_evidence_alone() {
    let held = rule("qemu-x86_64", QEMU_P, "POF");
    let currency = |change: &dyn Fn(&mut Host)| {
        let mut host = Host::healthy();
        host.0.proofs.clear();
        change(&mut host);
        host.assess().looks[0].winner.as_ref().unwrap().currency
    };
    let cases: [(&str, &HostChange<'_>, Currency); 8] = [
        ("no evidence", &|_| {}, Currency::Unknown),
        (
            "our record",
            &|h| {
                h.record(&held, 7, 11, None);
            },
            Currency::Current,
        ),
        (
            "our record, another file",
            &|h| {
                h.record(&held, 7, 10, None);
            },
            Currency::Stale,
        ),
        (
            "our record of an earlier registration",
            &|h| {
                h.record(&held, 6, 10, None);
            },
            Currency::Unknown,
        ),
        (
            "a registration that was cut off",
            &|h| {
                h.record(&held, 0, 10, None);
            },
            Currency::Unknown,
        ),
        ("seen running", &|h| drop(h.0.proofs.insert("linux/amd64".into(), proof())), Currency::Current),
        (
            "seen running before it was registered again",
            &|h| drop(h.0.proofs.insert("linux/amd64".into(), Proof { entry_inode: 6, ..proof() })),
            Currency::Unknown,
        ),
        (
            "no F",
            &|h| {
                h.replace(&rule("qemu-x86_64", QEMU, "O"));
            },
            Currency::NotHeld,
        ),
    ];
    for (case, change, expected) in cases {
        assert_eq!(currency(change), expected, "{case}");
    }
}
