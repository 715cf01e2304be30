// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service, and what is not proven but about to be: every finding, made by a state that has it.

use super::findings::{Row, UNPROVEN, with};
use super::*;
use crate::finding::Severity::{self, Critical, Unknown, Warning};
use crate::service::{BackedOff, Installed, State, Unwatched};

/// A service that looked a second ago.
fn state() -> State {
    State { boot_id: BOOT.into(), pid: 7, last_look: NOW - 1, look_every: 60, ..State::default() }
}

/// A host with a service that runs.
fn served(change: impl FnOnce(&mut Host)) -> Host {
    with(|h| {
        let (installed, state) = (Installed::Yes, Some(state()));
        h.0.service = Service { installed, selftest_timer: true, running: Some(true), state, silent: None };
        change(h);
    })
}

fn telling(change: impl FnOnce(&mut State)) -> Host {
    served(|h| change(h.0.service.state.as_mut().unwrap()))
}

/// A host whose service is dead.
fn unserved(change: impl FnOnce(&mut Host)) -> Host {
    served(|h| {
        h.0.service.running = Some(false);
        change(h);
    })
}

/// A host without a proof, whose service says that a self-test is due since `ago` seconds.
fn awaited(ago: u64, change: impl FnOnce(&mut Host)) -> Host {
    served(|h| {
        h.0.proofs.clear();
        h.0.service.state.as_mut().unwrap().selftest_due = Some(NOW - ago);
        change(h);
    })
}

/// A host without a proof, `uptime` seconds after it was booted, with the timer of the self-test.
fn booted(uptime: u64, change: impl FnOnce(&mut Host)) -> Host {
    with(|h| {
        h.0.proofs.clear();
        h.0.boot_seconds = uptime;
        h.0.service.selftest_timer = true;
        change(h);
    })
}

/// The last self-test: on which boot, when, and whether it passed.
fn tested(h: &mut Host, boot: &str, boot_seconds: u64, passed: bool) {
    let results = vec![result("builtin", passed)];
    let proof = Proof { boot_id: boot.into(), boot_seconds, results, ..proof() };
    h.0.proofs.insert("linux/amd64".into(), proof);
}

const PENDING: (&str, Severity) = ("proof-pending", Warning);

/// What is not proven, and whether a self-test is about to prove it.
pub(super) const PENDING_ROWS: &[Row] = &[
    ("the service says it is due", || awaited(5, |_| {}), &[PENDING]),
    (
        "a service that is dead said so",
        || awaited(5, |h| h.0.service.running = Some(false)),
        &[UNPROVEN, ("service-dead", Warning)],
    ),
    (
        "nobody knows whether it lives",
        || awaited(5, |h| h.0.service.running = None),
        &[UNPROVEN, ("service-unknown", Unknown)],
    ),
    ("due for less than 15 minutes", || awaited(899, |_| {}), &[PENDING]),
    ("due for 15 minutes", || awaited(900, |_| {}), &[UNPROVEN]),
    (
        "a proof of this boot that is void now",
        || {
            awaited(5, |h| {
                tested(h, BOOT, NOW - 6, true);
                h.qemu(|i| i.identity = identity(12));
                h.table().entries[0].inode = 8;
            })
        },
        &[PENDING],
    ),
    (
        "a run since it is due that proves nothing",
        || {
            awaited(5, |h| {
                tested(h, BOOT, NOW - 4, true);
                h.qemu(|i| i.identity = identity(12));
                h.table().entries[0].inode = 8;
            })
        },
        &[UNPROVEN],
    ),
    (
        "a run since it is due that failed",
        || awaited(5, |h| tested(h, BOOT, NOW - 4, false)),
        &[("proof-failed", Critical)],
    ),
    ("a run since it is due that passed", || awaited(5, |h| tested(h, BOOT, NOW - 4, true)), &[]),
    ("no handler, and due", || awaited(5, |h| h.table().entries.clear()), &[("not-registered", Critical)]),
    ("turned off, and due", || awaited(5, |h| h.table().enabled = false), &[("globally-off", Critical)]),
    ("nothing due", || served(|h| h.0.proofs.clear()), &[UNPROVEN]),
    ("booted just now", || booted(20, |_| {}), &[PENDING]),
    ("booted just now, proven on the boot before", || booted(20, |h| tested(h, "another-boot", 50, true)), &[PENDING]),
    (
        "booted just now, and tested already",
        || booted(20, |h| tested(h, BOOT, 15, false)),
        &[("proof-failed", Critical)],
    ),
    (
        "booted just now, and tested through another handler",
        || {
            booted(20, |h| {
                tested(h, BOOT, 15, true);
                h.table().entries[0].flags.open_binary ^= true;
            })
        },
        &[UNPROVEN],
    ),
    ("booted just now, no timer", || booted(20, |h| h.0.service.selftest_timer = false), &[UNPROVEN]),
    ("booted just now, no systemd", || booted(20, |h| h.0.facts.systemd = false), &[("no-systemd", Warning), UNPROVEN]),
    (
        "a chroot on a host that was booted just now",
        || booted(20, |h| h.0.facts.confinement = Confinement::Chroot),
        &[("confined", Warning), UNPROVEN],
    ),
    ("a timer that never comes", || booted(900, |_| {}), &[UNPROVEN]),
];

pub(super) const SERVICE_ROWS: &[Row] = &[
    ("a service that runs", || served(|_| {}), &[]),
    ("a service that is dead", || unserved(|_| {}), &[("service-dead", Warning)]),
    (
        "a dead service that told much before",
        || {
            let mut host = telling(|state| {
                state.last_look = 1;
                state.backed_off = vec![BackedOff {
                    subject: "linux/amd64".into(),
                    file: None,
                    repairs: 6,
                    failing: false,
                    until: NOW + 1,
                }];
                state.config_error = Some("no".into());
            });
            host.0.service.running = Some(false);
            host
        },
        &[("service-dead", Warning)],
    ),
    (
        "a dead service and no handler",
        || unserved(|h| h.table().entries.clear()),
        &[("not-registered", Critical), ("service-dead", Warning)],
    ),
    ("a service that runs, and no handler", || served(|h| h.table().entries.clear()), &[("not-registered", Critical)]),
    ("no systemd to run the service", || unserved(|h| h.0.facts.systemd = false), &[("no-systemd", Warning)]),
    (
        "the service's unit in a chroot",
        || unserved(|h| h.0.facts.confinement = Confinement::Chroot),
        &[("confined", Warning)],
    ),
    (
        "the service's unit in a container",
        || unserved(|h| h.0.facts.confinement = Confinement::Container("docker".into())),
        &[("confined", Warning)],
    ),
    (
        "a service that is masked",
        || unserved(|h| h.0.service.installed = Installed::Masked),
        &[("service-masked", Warning)],
    ),
    (
        "a service that was masked and runs still",
        || served(|h| h.0.service.installed = Installed::Masked),
        &[("service-masked", Warning)],
    ),
    ("no /proc/locks", || served(|h| h.0.service.running = None), &[("service-unknown", Unknown)]),
    ("nothing told", || served(|h| h.0.service.state = None), &[("service-unknown", Unknown)]),
    ("nothing of the service can be seen where it is not installed", || with(|h| h.0.service.running = None), &[]),
    (
        "a system that was suspended for an hour since the last look",
        || {
            let mut host = telling(|s| s.last_look = NOW - 3600);
            host.0.service.silent = Some(180);
            host
        },
        &[],
    ),
    (
        "one that was awake for more than three pauses of it",
        || {
            let mut host = telling(|s| s.last_look = NOW - 3600);
            host.0.service.silent = Some(181);
            host
        },
        &[("service-stuck", Warning)],
    ),
    ("three pauses without a look", || telling(|s| s.last_look = NOW - 180), &[]),
    ("more than that", || telling(|s| s.last_look = NOW - 181), &[("service-stuck", Warning)]),
    (
        "two things undone again and again",
        || {
            telling(|s| {
                let backed_off = |subject: &str, until| BackedOff {
                    subject: subject.into(),
                    file: None,
                    repairs: 6,
                    failing: false,
                    until,
                };
                s.backed_off = vec![backed_off("linux/amd64", NOW + 240), backed_off("host", NOW - 1)];
            })
        },
        &[("service-backed-off", Warning), ("service-backed-off", Warning)],
    ),
    (
        "two directories that cannot be watched",
        || {
            telling(|s| {
                let unwatched = |path: &str| Unwatched { path: path.into(), reason: "no".into() };
                s.unwatched = vec![unwatched("/a"), unwatched("/b")];
            })
        },
        &[("service-blind", Warning)],
    ),
    (
        "a configuration that the service does not take",
        || telling(|s| s.config_error = Some("config.toml:1:1: no".into())),
        &[("service-config", Warning)],
    ),
    (
        "one that is broken still",
        || {
            let mut host = telling(|s| s.config_error = Some("config.toml:1:1: no".into()));
            host.0.config_error = Some("config.toml:1:1: no".into());
            host
        },
        &[("config-invalid", Critical), ("service-config", Warning)],
    ),
];

#[test]
fn a_thing_that_is_undone_is_told_with_how_often_and_when_it_is_tried_again() {
    for (subject, repairs, until, told) in [
        ("linux/amd64", 6, NOW + 240, "(linux/amd64): it mended that 6 times in a row, and tries again in 4 minutes"),
        ("host", 1, NOW, "(host): it mended that once, and tries again now"),
    ] {
        let host = telling(|state| {
            state.backed_off = vec![BackedOff { subject: subject.into(), file: None, repairs, failing: false, until }];
        });
        let findings = host.assess().findings;
        assert!(findings[0].message.ends_with(told), "{}", findings[0].message);
    }
    let failing = BackedOff { subject: "linux/amd64".into(), file: None, repairs: 2, failing: true, until: NOW + 4 };
    let findings = telling(|state| state.backed_off = vec![failing.clone()]).assess().findings;
    let told = "what the service mends fails (linux/amd64): it tried 2 times in a row, and tries again in 4 seconds";
    assert_eq!(findings[0].message, told);
}
