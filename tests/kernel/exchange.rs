// SPDX-License-Identifier: MIT OR Apache-2.0
//! While a handler is exchanged: concurrent starts, kills, two runs at once, no room on the disk.

use crate::sandbox::{QEMU, QEMU_P, TABLE, rule};

#[test]
fn programs_start_at_every_moment_of_an_exchange() {
    let host = sandbox!();
    host.apply(&[], 0);
    // Every round makes the interpreter stale, so that the entry is exchanged under load.
    let rounds = format!(
        "for i in $(seq 25); do cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}; qemu-persist apply >/dev/null; done;          touch /tmp/done"
    );
    let mut exchanges = host.start("/bin/sh", &["-ec", &rounds]);
    let starts = "bad=0; ran=0
        while test $ran -lt 300 || ! test -e /tmp/done; do
            for i in 1 2 3 4; do { /opt/foreign x </dev/null >/dev/null 2>&1 || touch /tmp/failed; } & done
            wait; ran=$((ran+4))
        done
        echo $ran; ! test -e /tmp/failed";
    let ran = host.run("/bin/sh", &["-c", starts]);
    assert!(exchanges.wait().expect("an end").success());
    assert_eq!(ran.code, 0, "a start failed: {ran:?}");
    assert!(ran.out.trim().parse::<u32>().expect("a number") >= 300);
    assert_eq!(host.status().ids(), ["unproven"]);
}

#[test]
fn killed_at_any_moment_it_leaves_programs_running() {
    let host = sandbox!();
    host.apply(&[], 0);
    for round in 0..40 {
        host.sh(&format!("cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}"));
        let pause = f64::from(round) * 0.0004;
        host.sh(&format!("qemu-persist apply >/dev/null & sleep {pause}; kill -9 $! 2>/dev/null || true; wait"));
        assert_eq!(host.run_foreign().code, 0, "round {round}: {:?}", host.entries());
    }
    host.apply(&[], 0);
    assert_eq!(host.entries(), ["qemu-aarch64"], "stand-ins are cleared");
    assert_eq!(host.status().ids(), ["unproven"]);
}

#[test]
fn an_exchange_that_was_cut_short_is_finished() {
    let host = sandbox!();
    host.apply(&[], 0);
    // As it is when the stand-in is registered and the old entry not yet removed.
    host.register(&rule("persist-aarch64", QEMU_P, "OPF"));
    host.apply(&[], 0);
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    // And when the old entry is removed and the new one not yet registered.
    host.register(&rule("persist-aarch64", QEMU_P, "OPF"));
    host.sh(&format!("echo -1 > {TABLE}/qemu-aarch64"));
    host.apply(&[], 0);
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    assert_eq!(host.apply(&[], 0)["changed"], false);
    assert_eq!(host.run_foreign().code, 0);
    // And when that happened twice, so that a second stand-in is what runs programs now.
    for first in [true, false] {
        if first {
            host.register(&rule("persist-aarch64", QEMU_P, "OPF"));
        }
        host.register(&rule("persist-aarch64-next", QEMU_P, "OPF"));
        for held in [true, false] {
            if !held {
                host.sh(&format!("echo -1 > {TABLE}/qemu-aarch64"));
            }
            host.apply(&[], 0);
            assert_eq!(host.entries(), ["qemu-aarch64"], "{first} {held}");
            assert_eq!(host.apply(&[], 0)["changed"], false);
            host.register(&rule("persist-aarch64-next", QEMU_P, "OPF"));
        }
        host.apply(&[], 0);
    }
}

#[test]
fn of_two_runs_at_once_one_waits() {
    let host = sandbox!();
    let both = "for i in 1 2 3 4 5 6; do qemu-persist apply --json > /tmp/$i & done; wait; cat /tmp/1 /tmp/2 /tmp/3 /tmp/4 /tmp/5 /tmp/6";
    let out = host.sh(both);
    assert_eq!(out.matches("\"changed\": true").count(), 1, "{out}");
    assert_eq!(out.matches("\"exit_code\": 0").count(), 6, "{out}");
}

#[test]
fn what_is_no_file_is_no_lock_and_holds_nobody() {
    let host = sandbox!();
    host.sh("mkdir -p /run/qemu-persist; busybox mkfifo /run/qemu-persist/lock");
    let ran = host.run("/bin/busybox", &["timeout", "10", "/usr/bin/qemu-persist", "apply"]);
    assert!(ran.code == 2 && ran.err.contains("/run/qemu-persist/lock"), "{ran:?}");
}

#[test]
fn a_full_disk_leaves_what_worked() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf; mkdir -p /etc/binfmt.d");
    host.sh("mount -t tmpfs -o size=4k,mode=755 full /etc/binfmt.d; cat /usr/bin/qemu-persist > /etc/binfmt.d/x 2>/dev/null || true");
    let report = host.apply(&[], 2);
    assert_eq!(report["failed"][0]["action"], "write_fragment", "{report:#}");
    // Nothing of the temporary file, whose name is nobody's concern.
    assert_eq!(report["failed"][0]["error"], "the disk is full (No space left on device (os error 28))");
    assert_eq!(host.sh("ls -A /etc/binfmt.d"), "x\n", "no half-written file");
    assert_eq!(host.run_foreign().code, 0, "the kernel's part is done all the same");
}

#[test]
fn without_room_for_the_record_it_works_and_that_is_told() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf; mkdir -p /run/qemu-persist");
    host.sh("mount -t tmpfs -o size=4k,mode=755 full /run/qemu-persist; touch /run/qemu-persist/lock");
    host.sh("cat /usr/bin/qemu-persist > /run/qemu-persist/x 2>/dev/null || true");
    let report = host.apply(&[], 0);
    let finding = &report["findings"][0];
    assert_eq!((&finding["id"], &finding["severity"]), (&"registration-not-recorded".into(), &"warning".into()));
    let message = finding["message"].as_str().expect("a message");
    assert!(message.starts_with("/run/qemu-persist/registrations.json: the disk is full (No space left"), "{message}");
    assert_eq!(host.run_foreign().code, 0);
    // What is registered is known again by the fragment, so that it can be taken back.
    assert_eq!(host.status().json["platforms"][0]["handler"]["origin"]["kind"], "ours");
    host.sh(&format!("echo -1 > {TABLE}/qemu-aarch64"));
    let told = host.qemu_persist(&["apply"]);
    assert!(told.code == 0 && told.out.contains("[registration-not-recorded]"), "{told:?}");
    // As the advice says.
    host.sh("rm /run/qemu-persist/x");
    assert_eq!(host.status().json["platforms"][0]["handler"]["interpreter_on_disk"], "unknown");
    assert_eq!(host.qemu_persist(&["selftest"]).code, 0);
    assert_eq!(host.status().json["platforms"][0]["handler"]["interpreter_on_disk"], "current");
    assert_eq!(host.status().ids(), Vec::<&str>::new());
    assert_eq!(host.qemu_persist(&["remove"]).code, 0);
    assert_eq!(host.entries(), Vec::<String>::new());
}
