// SPDX-License-Identifier: MIT OR Apache-2.0
//! What undoes every repair, and what cannot be repaired: the service gives way, says so once, and
//! uses no processor time.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use qemu_persist::record::boot_seconds;

use crate::daemon::{Daemon, FRAGMENT, Intended, NAME, PATIENCE, Shell, wait_for};
use crate::sandbox::{QEMU, Sandbox, TABLE};

fn ours(host: &Sandbox) -> Daemon<'_> {
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    let daemon = Daemon::start(host);
    wait_for("its own name", PATIENCE, || Intended::now(host));
    daemon
}

/// How often something has been mended, and how often it was told that it is given up.
fn counts(daemon: &Daemon<'_>) -> (u64, usize) {
    (daemon.state().repairs, daemon.log().matches("something keeps undoing repairs").count())
}

/// Undoes every repair for some seconds with `undo`, as soon as `is_mended`.
fn fight(host: &Sandbox, seconds: u64, undo: &str, is_mended: impl Fn(&Sandbox) -> bool) -> u32 {
    let mut shell = Shell::new(host);
    let (start, mut undone) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        if is_mended(host) {
            // It may be gone by itself, an exchange being made.
            shell.try_run(undo);
            undone += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    undone
}

fn it_gives_way_to_what_flushes_again_and_again(host: &Sandbox) {
    let daemon = ours(host);
    let (before, _) = counts(&daemon);
    let any = |host: &Sandbox| std::fs::read_dir(host.path(TABLE)).unwrap().count() > 2;
    let undone = fight(host, 12, &format!("echo -1 > {TABLE}/status"), any);
    let (after, told) = counts(&daemon);
    // Ten at once, then after 1, 2, 4 seconds, and what a repair consists of.
    assert!((10..=20).contains(&undone), "{undone} times");
    assert!(after - before <= 24, "{} changes for {undone}\n{}", after - before, daemon.log());
    assert_eq!(told, 1, "{}", daemon.log());
    let state = daemon.state();
    assert_eq!(state.backed_off.len(), 1, "{state:?}");
    assert_eq!(state.backed_off[0].subject, "linux/arm64");
    assert!(daemon.told().last().unwrap().contains("backed off from linux/arm64"), "{:?}", daemon.told());
    let status = host.status();
    assert!(status.ids().contains(&"service-backed-off"), "{}", status.describe());
    assert!(daemon.processor_time() < 200, "{}", daemon.processor_time());
    // The other side gives up: what is undone is mended when the pause is over.
    wait_for("it is mended", PATIENCE, || Intended::now(host));
    assert_eq!(host.run_foreign().code, 0);
    assert_eq!(counts(&daemon).1, 1);
}

fn it_gives_way_to_what_removes_its_fragment_again_and_again(host: &Sandbox) {
    let daemon = ours(host);
    wait_for("a fragment", PATIENCE, || if host.path(FRAGMENT).exists() { Ok(()) } else { Err("none".to_owned()) });
    host.write("/etc/qemu-persist/config.toml.d/few.toml", "[service]\nback_off_after = 3\n");
    let (before, _) = counts(&daemon);
    let undone = fight(host, 8, &format!("rm {FRAGMENT}"), |host| host.path(FRAGMENT).exists());
    let (after, told) = counts(&daemon);
    assert!((3..=6).contains(&undone) && after - before <= 6, "{undone} times, {}\n{}", after - before, daemon.log());
    assert_eq!(told, 1, "{}", daemon.log());
    // What does not fight is mended as ever.
    assert_eq!(host.run_foreign().code, 0);
}

fn a_race_that_is_lost_is_no_fight(host: &Sandbox) {
    host.write("/etc/qemu-persist/config.toml.d/many.toml", "[service]\nback_off_after = 100000\n");
    let daemon = ours(host);
    let mut shell = Shell::new(host);
    let flush = format!("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo -1 > {TABLE}/status; done");
    for _ in 0..40 {
        shell.run(&flush);
        if daemon.log().contains("could not register") {
            break;
        }
    }
    wait_for("it is mended", PATIENCE, || Intended::now(host));
    assert!(daemon.state().backed_off.is_empty(), "{}", daemon.log());
    assert!(daemon.log().contains("somebody else is changing the handlers"), "no race was lost\n{}", daemon.log());
}

/// A repair that fails, and would fail again at once.
fn fails(host: &Sandbox, break_it: &str, failing: &str, finding: &str) {
    let mut shell = Shell::new(host);
    let daemon = ours(host);
    wait_for("a fragment", PATIENCE, || if host.path(FRAGMENT).exists() { Ok(()) } else { Err("none".to_owned()) });
    std::thread::sleep(Duration::from_millis(1200));
    // It is not to see the half of it.
    daemon.signal(Signal::SIGSTOP);
    shell.run(break_it);
    daemon.signal(Signal::SIGCONT);
    wait_for("a failure", PATIENCE, || if daemon.log().contains(failing) { Ok(()) } else { Err(daemon.log()) });
    let (used, looks) = (daemon.processor_time(), daemon.number("voluntary_ctxt_switches"));
    std::thread::sleep(Duration::from_secs(8));
    let tries = daemon.log().matches(failing).count();
    assert!((2..=5).contains(&tries), "{tries} tries\n{}", daemon.log());
    let (used, looks) = (daemon.processor_time() - used, daemon.number("voluntary_ctxt_switches") - looks);
    assert!(used < 50 && looks < 100, "{used} hundredths of a second, {looks} times woken");
    let state = daemon.state();
    assert!(state.backed_off.iter().any(|off| off.failing && off.subject == "linux/arm64"), "{state:?}");
    assert_eq!(counts(&daemon).1, 0, "nobody undoes it");
    assert!(host.status().ids().contains(&"service-backed-off"), "{}", host.status().describe());
    assert!(daemon.log().contains(&format!("finding={finding} ")), "{finding} is told\n{}", daemon.log());
}

fn a_table_that_cannot_be_written_is_tried_rarely(host: &Sandbox) {
    fails(
        host,
        &format!("echo -1 > {TABLE}/status; mount -o remount,ro {TABLE}"),
        "could not register",
        "not-registered",
    );
}

fn a_folder_that_cannot_be_written_is_tried_rarely(host: &Sandbox) {
    host.sh("mkdir /etc/binfmt.d");
    let break_it = "rm /etc/binfmt.d/qemu-aarch64.conf; mount --bind /etc/binfmt.d /etc/binfmt.d; \
                    mount -o remount,bind,ro /etc/binfmt.d; true";
    fails(host, break_it, "could not write fragment", "not-persistent");
}

fn a_file_that_cannot_be_written_keeps_no_handler_away(host: &Sandbox) {
    host.sh("mkdir /etc/binfmt.d");
    let mut shell = Shell::new(host);
    let daemon = ours(host);
    wait_for("a fragment", PATIENCE, || if host.path(FRAGMENT).exists() { Ok(()) } else { Err("none".to_owned()) });
    let read_only = "mount --bind /etc/binfmt.d /etc/binfmt.d; mount -o remount,bind,ro /etc/binfmt.d";
    shell.run(&format!("rm {FRAGMENT}; {read_only}"));
    // From the third failure on it pauses for four seconds and more.
    let failed = |times: usize| {
        wait_for("failures", PATIENCE, || match daemon.log().matches("could not write fragment").count() {
            tries if tries >= times => Ok(()),
            _ => Err(daemon.log()),
        });
    };
    failed(3);
    let state = daemon.state();
    let [off] = &state.backed_off[..] else { panic!("{state:?}") };
    assert_eq!((off.subject.as_str(), off.file.as_deref(), off.failing), ("linux/arm64", Some(FRAGMENT), true));
    let flushed = Instant::now();
    shell.run(&format!("echo -1 > {TABLE}/status"));
    let any = || std::fs::read_dir(host.path(TABLE)).unwrap().count() > 2;
    wait_for("a handler", PATIENCE, || if any() { Ok(()) } else { Err(daemon.log()) });
    assert!(flushed.elapsed() < Duration::from_millis(3500), "{:?}\n{}", flushed.elapsed(), daemon.log());
    wait_for("the usual name", PATIENCE, || Intended::now(host).map_err(|why| format!("{why}\n{}", daemon.log())));
    assert!(flushed.elapsed() < Duration::from_secs(4), "{:?}\n{}", flushed.elapsed(), daemon.log());
    assert!(daemon.told().last().unwrap().contains("cannot mend linux/arm64, /etc/binfmt.d/"), "{:?}", daemon.told());
}

fn what_undoes_a_handler_does_not_keep_its_file_away(host: &Sandbox) {
    let daemon = ours(host);
    host.write("/etc/qemu-persist/config.toml.d/few.toml", "[service]\nback_off_after = 2\n");
    let any = |host: &Sandbox| std::fs::read_dir(host.path(TABLE)).unwrap().count() > 2;
    wait_for("a long pause", PATIENCE, || {
        fight(host, 1, &format!("echo -1 > {TABLE}/status"), any);
        let off = daemon.state().backed_off;
        let long = off.iter().any(|off| off.file.is_none() && off.until > boot_seconds() + 5);
        if long { Ok(()) } else { Err(format!("{off:?}")) }
    });
    let removed = Instant::now();
    host.sh(&format!("rm {FRAGMENT}"));
    wait_for("a fragment", PATIENCE, || if host.path(FRAGMENT).exists() { Ok(()) } else { Err(daemon.log()) });
    assert!(removed.elapsed() < Duration::from_secs(4), "{:?}\n{}", removed.elapsed(), daemon.log());
}

fn nothing_wakes_it_when_nothing_happens(host: &Sandbox) {
    let daemon = ours(host);
    let waits = || (daemon.number("voluntary_ctxt_switches"), daemon.processor_time());
    // Looks that were still due may come late on a machine with much else to do.
    let before = wait_for("its rest", PATIENCE, || {
        let before = waits();
        std::thread::sleep(Duration::from_secs(3));
        if waits() == before { Ok(before) } else { Err(daemon.log()) }
    });
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(waits(), before);
    // And what does not concern it is not looked at.
    let last_look = daemon.state().last_look;
    host.sh(&format!("touch /usr/bin/other; cp /bin/busybox /usr/bin/new; rm /usr/bin/new; {QEMU} --version"));
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(daemon.state().last_look, last_look);
    assert_eq!(host.entries(), [NAME]);
}

together! { it_gives_way: it_gives_way_to_what_flushes_again_and_again, it_gives_way_to_what_removes_its_fragment_again_and_again, a_race_that_is_lost_is_no_fight, a_table_that_cannot_be_written_is_tried_rarely, a_folder_that_cannot_be_written_is_tried_rarely, a_file_that_cannot_be_written_keeps_no_handler_away, what_undoes_a_handler_does_not_keep_its_file_away, nothing_wakes_it_when_nothing_happens }
