// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `status` says of the service, and how it waits for a self-test: with a lock that is really
//! held, and a state that is written as the service writes it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod sandbox;

use std::process::Child;
use std::time::{Duration, Instant};

use qemu_persist::record::boot_seconds;
use qemu_persist::service::{BackedOff, LOCK, Repair, STATE, UNIT, awake_seconds};
use sandbox::{QEMU, Sandbox, TABLE};

/// A sandbox where everything is good and proven.
fn proven(host: &Sandbox) {
    host.apply(&[], 0);
    assert_eq!(host.qemu_persist(&["selftest", "--runtime", "builtin"]).code, 0);
}

/// The exit code of `status`, what is wrong, and the first line about the service.
fn seen(host: &Sandbox) -> (i32, Vec<String>, String) {
    let status = host.status();
    let text = host.qemu_persist(&["status"]);
    assert_eq!(text.code, status.code);
    assert!(text.out.lines().all(|line| line.chars().count() <= 80), "{}", text.out);
    let line = text.out.lines().find(|line| line.starts_with("service ")).unwrap_or_default();
    (status.code, status.ids().into_iter().map(str::to_owned).collect(), line.to_owned())
}

fn expect(host: &Sandbox, code: i32, ids: &[&str], line: &str) {
    assert_eq!(seen(host), (code, ids.iter().map(|&id| id.to_owned()).collect(), line.to_owned()));
}

#[test]
fn a_service_and_handlers_are_judged_separately() {
    let host = sandbox!();
    proven(&host);
    expect(&host, 0, &[], "service not installed");
    host.install_unit(UNIT);
    expect(&host, 1, &["service-dead"], "service not running");
    assert_eq!(host.status().json["platforms"][0]["verdict"], "ok", "the handler is no worse for it");
    let held = host.serve();
    expect(&host, 0, &[], "service running");
    host.sh(&format!("echo -1 > {TABLE}/qemu-aarch64"));
    expect(&host, 2, &["not-registered"], "service running");
    assert_eq!(host.status().json["platforms"][0]["verdict"], "critical", "the handler is no better for it");
    host.let_go(held);
    // What it told, a moment ago, says nothing: nobody holds the lock.
    expect(&host, 2, &["not-registered", "service-dead"], "service not running");
    proven(&host);
    expect(&host, 1, &["service-dead"], "service not running");
    host.sh(&format!("mkdir -p /etc/systemd/system; ln -s /dev/null /etc/systemd/system/{UNIT}"));
    expect(&host, 1, &["service-masked"], "service masked");
    host.sh(&format!("rm /etc/systemd/system/{UNIT}; rm -r /run/systemd"));
    expect(&host, 1, &["no-systemd"], "service not running");
}

#[test]
fn what_it_tells_is_told_and_judged() {
    let host = sandbox!();
    proven(&host);
    let _held = host.serve();
    let now = boot_seconds();
    host.tell_state(|state| {
        state.repairs = 1;
        state.recent.push(Repair {
            boot_seconds: now,
            unix_time: 1,
            subject: Some("linux/arm64".into()),
            action: "register".into(),
            handler: "qemu-aarch64".into(),
            why: "no handler is registered".into(),
        });
        state.backed_off.push(BackedOff {
            subject: "linux/arm64".into(),
            file: None,
            repairs: 6,
            failing: false,
            until: now + 1000,
        });
        state.config_error = Some("/etc/qemu-persist/config.toml:1:1: no".into());
    });
    expect(&host, 1, &["service-backed-off", "service-config"], "service running");
    let text = host.qemu_persist(&["status"]).out;
    for told in [
        "  started      2 minutes ago, version 0.1.0\n",
        "  repairs      1 change since boot\n",
        "ago: registered qemu-aarch64 for linux/arm64, because",
        "  backed off   linux/arm64, after 6 repairs in a row: tries again in 16 minutes\n",
    ] {
        assert!(text.contains(told), "{told:?} is not in\n{text}");
    }
    let json = &host.status().json;
    assert_eq!(json["service"]["state"]["recent"][0]["handler"], "qemu-aarch64");
    assert!(json["boot_seconds"].as_u64().unwrap() >= now);
    host.tell_state(|state| {
        state.last_look = now.saturating_sub(901);
        state.last_look_awake = awake_seconds().map(|awake| awake.saturating_sub(901));
    });
    expect(&host, 1, &["service-stuck"], "service running");
    host.tell_state(|state| state.boot_id = "another".into());
    expect(&host, 3, &["service-unknown"], "service running");
    // What anybody could have written is no evidence.
    host.tell_state(|_| {});
    host.sh(&format!("chmod 666 {STATE}"));
    expect(&host, 3, &["service-unknown"], "service running");
    host.sh(&format!("chmod 644 {STATE}"));
    expect(&host, 0, &[], "service running");
    host.sh(&format!("rm {LOCK}"));
    expect(&host, 1, &["service-dead"], "service not running");
    host.sh("mount --bind /dev/null /proc/locks");
    host.sh(&format!("touch {LOCK}"));
    expect(&host, 3, &["service-unknown"], "service unknown");
}

#[test]
fn anybody_sees_it() {
    let host = sandbox!();
    proven(&host);
    let _held = host.serve();
    let Some(ran) = host.qemu_persist_as_user(&["status", "--wait", "--json"]) else {
        return sandbox::skip("the tests are not run by root, so there is nobody else in the sandbox");
    };
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &json["service"]["running"]), (0, &true.into()), "{ran:?}");
    assert_eq!(json["service"]["state"]["version"], "0.1.0", "{ran:?}");
}

fn wait(host: &Sandbox, argument: &str) -> Child {
    host.start("/usr/bin/qemu-persist", &["status", argument])
}

/// Gives the exit code and the output of what ends within a time that is ample.
fn finish(mut child: Child) -> (Option<i32>, String) {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it waits on");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn waiting_ends_when_the_self_test_has_run() {
    let host = sandbox!();
    host.apply(&[], 0);
    let _held = host.serve();
    host.tell_state(|state| state.selftest_due = Some(boot_seconds()));
    expect(&host, 1, &["proof-pending"], "service running");
    let mut child = wait(&host, "--wait");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(child.try_wait().unwrap(), None, "it waits");
    proven(&host);
    let (code, text) = finish(child);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches("Verdict: ").count(), 1, "{text}");
    assert!(text.starts_with("linux/arm64 ok\n"), "{text}");
}

#[test]
fn waiting_ends_when_the_self_test_has_failed() {
    let host = sandbox!();
    // Static and of this machine, and no QEMU.
    host.sh(&format!("cp /bin/busybox {QEMU}"));
    host.apply(&[], 0);
    let _held = host.serve();
    host.tell_state(|state| state.selftest_due = Some(boot_seconds()));
    let child = wait(&host, "--wait=300");
    assert_eq!(host.qemu_persist(&["selftest", "--runtime", "builtin"]).code, 2);
    assert_eq!(finish(child).0, Some(2));
    expect(&host, 2, &["proof-failed"], "service running");
}

#[test]
fn waiting_ends_at_its_time_and_where_nothing_is_to_come() {
    let host = sandbox!();
    host.apply(&[], 0);
    // Nobody is about to run a self-test.
    assert_eq!(host.qemu_persist(&["status", "--wait"]).code, 1);
    expect(&host, 1, &["unproven"], "service not installed");
    let held = host.serve();
    host.tell_state(|state| state.selftest_due = Some(boot_seconds()));
    let began = Instant::now();
    let ran = host.qemu_persist(&["status", "--wait=2"]);
    assert!(ran.code == 1 && ran.out.contains("[proof-pending]"), "{ran:?}");
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(host.qemu_persist(&["status", "--wait=0"]).code, 1);
    let ran = host.qemu_persist(&["status", "--wait", "--root", "/mnt"]);
    assert!(ran.code == 64 && ran.err.contains("--root"), "{ran:?}");
    assert_eq!(host.qemu_persist(&["status", "--wait=soon"]).code, 64);
    // The one that was to run it dies.
    let child = wait(&host, "--wait=300");
    host.let_go(held);
    let (code, text) = finish(child);
    assert!(code == Some(1) && text.contains("[unproven]") && text.contains("[service-dead]"), "{text}");
}

#[test]
fn an_interrupt_ends_waiting_at_once() {
    let host = sandbox!();
    host.apply(&[], 0);
    let _held = host.serve();
    host.tell_state(|state| state.selftest_due = Some(boot_seconds()));
    let began = Instant::now();
    let arguments = ["timeout", "-s", "INT", "1", "/usr/bin/qemu-persist", "status", "--wait=300"];
    let (code, text) = finish(host.start("/bin/busybox", &arguments));
    assert!(code != Some(0) && text.is_empty(), "{code:?} {text}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_service_is_not_stuck_because_the_system_was_suspended() {
    let host = sandbox!();
    host.install("/usr/bin/unshare");
    proven(&host);
    let mut service = host.start_service();
    await_ids(&host, &[&[]]);
    // After a suspend of two hours one clock has gone on and the other has not (time_namespaces(7)).
    let arguments = ["--time", "--boottime", "7200", "--fork", "/usr/bin/qemu-persist", "status"];
    let ran = host.run("/usr/bin/unshare", &arguments);
    assert!(ran.out.contains("last look    2 hours ago"), "no time has passed for it: {ran:?}");
    assert!(ran.code == 0 && !ran.out.contains("service-stuck"), "{ran:?}");
    // Two hours in which the system was awake are another thing.
    let awake = [&arguments[..3], &["--monotonic", "7200"], &arguments[3..]].concat();
    let ran = host.run("/usr/bin/unshare", &awake);
    assert!(ran.code == 1 && ran.out.contains("[service-stuck]"), "{ran:?}");
    service.kill().unwrap();
    service.wait().unwrap();
}

/// Looks again and again until `status` sees exactly one of these, with a time that is ample.
fn await_ids(host: &Sandbox, ids: &[&[&str]]) {
    let began = Instant::now();
    while !ids.contains(&host.status().ids().as_slice()) {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", host.status().describe());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_service_itself_is_seen_and_waited_for() {
    let host = sandbox!();
    proven(&host);
    let mut service = host.start_service();
    await_ids(&host, &[&[]]);
    expect(&host, 0, &[], "service running");
    assert_eq!(host.status().json["service"]["state"]["repairs"], 0);
    // While another handler stands in for the one that was proven, and until it has its name again.
    host.sh(&format!("echo -1 > {TABLE}/qemu-aarch64"));
    await_ids(&host, &[&["proof-pending"], &[]]);
    assert_eq!(host.qemu_persist(&["status", "--wait"]).code, 0);
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    // A new QEMU: until it is proven as well.
    host.sh(&format!("cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}"));
    await_ids(&host, &[&["proof-pending"]]);
    let mut child = wait(&host, "--wait");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(child.try_wait().unwrap(), None, "it waits, whatever the service does in between");
    assert_eq!(host.qemu_persist(&["selftest", "--runtime", "builtin"]).code, 0);
    assert_eq!(finish(child).0, Some(0));
    host.sh(&format!("kill {}", host.status().json["service"]["state"]["pid"]));
    assert!(service.wait().unwrap().success());
    expect(&host, 1, &["service-dead"], "service not running");
}
