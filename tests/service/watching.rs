// SPDX-License-Identifier: MIT OR Apache-2.0
//! What wakes the service, and what it says where it cannot be woken.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, NAME, PATIENCE, Shell, table, wait_for};
use crate::mending::settled;
use crate::sandbox::{QEMU, Sandbox, TABLE, rule};

/// How many watches the sandbox may have.
fn allow(host: &Sandbox, watches: u32) {
    host.sh(&format!("echo {watches} > /proc/sys/user/max_inotify_watches"));
}

fn what_cannot_be_watched_is_said_once_and_looked_at_by_the_timer(host: &Sandbox) {
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    allow(host, 0);
    // It looks every 0.3 seconds.
    let daemon = Daemon::spawn(host, &[("WATCHDOG_USEC", "600000")]);
    let intended = settled(host);
    let mut shell = Shell::new(host);
    shell.run(&format!("echo -1 > {TABLE}/status"));
    wait_for("a repair", PATIENCE, || match table(host)?.len() {
        0 => Err(daemon.log()),
        _ => Ok(()),
    });
    intended.wait("mended by the timer", host);
    let said = || daemon.log().lines().filter(|line| line.contains("cannot be watched")).count();
    assert_eq!(said(), 1, "{}", daemon.log());
    let log = daemon.log();
    assert!(
        log.contains("other directories cannot be watched") && log.contains("fs.inotify.max_user_watches"),
        "{log}"
    );
    let unwatched = daemon.state().unwatched;
    assert!(unwatched.iter().any(|of| of.path.as_os_str() == TABLE), "{unwatched:?}");
    assert!(daemon.told().last().unwrap().contains("; cannot watch "), "{:?}", daemon.told());
    assert_eq!(host.status().finding("service-blind")["severity"], "warning");

    allow(host, 10_000);
    wait_for("it is watched again", PATIENCE, || {
        let watched = daemon.state().unwatched.is_empty() && daemon.log().contains("everything is watched again");
        if watched { Ok(()) } else { Err(daemon.log()) }
    });
    assert!(!host.status().ids().contains(&"service-blind"), "{}", host.status().describe());
    assert_eq!(said(), 1, "{}", daemon.log());
}

fn the_table_is_watched_first(host: &Sandbox) {
    allow(host, 1);
    let mut daemon = Daemon::start(host);
    wait_for("its own name", PATIENCE, || if host.entries() == [NAME] { Ok(()) } else { Err(daemon.log()) });
    assert!(daemon.state().unwatched.iter().all(|of| of.path.as_os_str() != TABLE), "{}", daemon.log());
    host.sh(&format!("echo -1 > {TABLE}/status"));
    wait_for("mended", PATIENCE, || if host.run_foreign().code == 0 { Ok(()) } else { Err(daemon.log()) });
    allow(host, 10_000);
    daemon.signal(Signal::SIGHUP);
    daemon.expect_more("READY=1", 1);
    assert!(daemon.state().unwatched.is_empty(), "{:?}", daemon.state());
}

fn an_interpreter_that_a_new_handler_brings_is_watched_at_once(host: &Sandbox) {
    let daemon = Daemon::start(host);
    wait_for("its own name", PATIENCE, || if host.entries() == [NAME] { Ok(()) } else { Err(daemon.log()) });
    let mut shell = Shell::new(host);
    shell.run(&format!("mkdir /opt/own; cp {QEMU} /opt/own/one; cp {QEMU} /opt/own/two"));
    shell.run(&format!("mkdir /opt/far; cp {QEMU} /opt/far/three; ln -s ../far/three /opt/own/three"));
    // In a directory of its own, then in one that is watched by now, and where a link there leads to.
    for (own, file) in [("one", "/opt/own/one"), ("two", "/opt/own/two"), ("three", "/opt/far/three")] {
        let own = format!("/opt/own/{own}");
        std::thread::sleep(Duration::from_millis(1200));
        shell.run(&format!("echo -1 > {TABLE}/{NAME}"));
        shell.register(&rule(NAME, &own, "F"));
        let before = wait_for(&format!("{own}, and nothing else"), PATIENCE, || match &table(host)?[..] {
            [one] if one.name == NAME && one.text.contains(&own) => Ok(one.inode),
            other => Err(format!("{other:?}\n{}", daemon.log())),
        });
        std::thread::sleep(Duration::from_millis(1200));
        shell.run(&format!("cp {QEMU} {file}.new; mv {file}.new {file}"));
        wait_for("another handler", PATIENCE, || match &table(host)?[..] {
            [one] if one.name == NAME && one.inode != before => Ok(()),
            other => Err(format!("{other:?}\n{}", daemon.log())),
        });
        assert_eq!(host.run_foreign().code, 0);
    }
}

together! { it_watches_what_matters: an_interpreter_that_a_new_handler_brings_is_watched_at_once, what_cannot_be_watched_is_said_once_and_looked_at_by_the_timer, the_table_is_watched_first }
