// SPDX-License-Identifier: MIT OR Apache-2.0
//! What systemd and an administrator see of the service.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, FRAGMENT, NAME, PATIENCE, Shell, wait_for};
use crate::sandbox::{QEMU, Sandbox, TABLE};

fn config(host: &Sandbox, text: &str) {
    // Whole, as an editor does it.
    host.write("/etc/qemu-persist/new", text);
    host.sh("mv /etc/qemu-persist/new /etc/qemu-persist/config.toml");
}

fn it_is_ready_when_programs_run(host: &Sandbox) {
    let mut daemon = Daemon::start(host);
    assert_eq!(host.run_foreign().code, 0, "{}", daemon.log());
    let status = daemon.expect("STATUS=");
    assert!(status.contains("STATUS=1 of 1 handlers work; one change since boot"), "{status}");
    wait_for("the usual name", PATIENCE, || match &host.entries()[..] {
        [name] if name == NAME => Ok(()),
        other => Err(format!("{other:?}")),
    });
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended(), 0);
    daemon.expect("STOPPING=1");
    assert_eq!(host.entries(), [NAME]);
    assert_eq!(host.run_foreign().code, 0, "handlers stay");
}

fn it_is_ready_though_nothing_can_be_mended(host: &Sandbox) {
    host.sh(&format!("rm {QEMU}"));
    let mut daemon = Daemon::start(host);
    let status = daemon.expect("STATUS=");
    assert!(status.contains("STATUS=0 of 1 handlers work; nothing mended since boot"), "{status}");
    wait_for("a finding", PATIENCE, || if daemon.log().contains("no-qemu") { Ok(()) } else { Err(daemon.log()) });
    assert!(daemon.runs());
}

fn it_pings_the_watchdog(host: &Sandbox) {
    let mut daemon = Daemon::spawn(host, &[("WATCHDOG_USEC", "600000")]);
    daemon.expect_more("WATCHDOG=1", 4);
    assert_eq!(daemon.state().look_every, 0);
    drop(daemon);
    let mut daemon = Daemon::start(host);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(daemon.runs() && daemon.state().look_every == 300);
}

fn it_takes_a_new_configuration_and_keeps_the_old_one_from_a_broken_one(host: &Sandbox) {
    let mut daemon = Daemon::start(host);
    daemon.signal(Signal::SIGHUP);
    let message = daemon.expect("RELOADING=1");
    let stamp = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("a stamp");
    assert!(stamp.parse::<u64>().unwrap() > 0);
    daemon.expect_more("READY=1", 1);
    wait_for("its own name", PATIENCE, || if host.entries() == [NAME] { Ok(()) } else { Err(daemon.log()) });

    config(host, "platforms = [\"linux/arm64\", \"linux/nonsense\"]\n");
    daemon.signal(Signal::SIGHUP);
    daemon.expect_more("READY=1", 2);
    let error = daemon.state().config_error.expect("an error");
    assert!(error.contains("nonsense"), "{error}");
    assert!(daemon.log().contains("the new configuration is broken"), "{}", daemon.log());
    assert!(daemon.told().last().unwrap().contains("the old one is used"), "{:?}", daemon.told());
    assert!(host.status().ids().contains(&"service-config"), "{}", host.status().describe());
    host.sh(&format!("echo -1 > {TABLE}/status"));
    wait_for("the old one is followed", PATIENCE, || match host.run_foreign() {
        ran if ran.code == 0 => Ok(()),
        ran => Err(ran.err),
    });

    config(host, "platforms = [\"linux/arm64\", \"linux/arm\"]\n");
    // No signal: the files are watched.
    wait_for("both handlers", PATIENCE, || match &host.entries()[..] {
        [one, other] if one == NAME && other == "qemu-arm" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(daemon.state().config_error, None);
    daemon.signal(Signal::SIGHUP);
    daemon.expect_more("READY=1", 3);
    assert!(daemon.told().last().unwrap().contains("2 of 2 handlers work"), "{:?}", daemon.told());
}

fn it_does_not_start_with_a_broken_configuration_twice_or_without_a_table(host: &Sandbox) {
    let mut daemon = Daemon::start(host);
    let mut second = Daemon::spawn(host, &[]);
    assert_eq!(second.ended(), 1);
    assert!(second.log().contains("another qemu-persistd holds /run/qemu-persist/service.lock"), "{}", second.log());
    assert_eq!(second.count_told("READY=1"), 0);
    assert!(daemon.runs() && daemon.state().pid != 0);
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.ended(), 0);

    config(host, "platforms = 7\n");
    let mut broken = Daemon::spawn(host, &[]);
    assert_eq!(broken.ended(), 78);
    assert_eq!(broken.count_told("READY=1"), 0);
    assert!(broken.log().contains("/etc/qemu-persist/config.toml"), "{}", broken.log());

    config(host, "");
    host.sh(&format!("umount {TABLE}"));
    let mut unmounted = Daemon::spawn(host, &[]);
    assert_eq!(unmounted.ended(), 1);
    let log = unmounted.log();
    assert!(
        log.contains("error: binfmt_misc is not mounted") && log.contains("proc-sys-fs-binfmt_misc.mount"),
        "{log}"
    );
}

fn it_ends_with_an_error_when_the_table_goes_away_and_begins_anew_when_it_is_back(host: &Sandbox) {
    let mut shell = Shell::new(host);
    let mut daemon = Daemon::start(host);
    // While it looks there the table is busy.
    let unmount = format!("until umount {TABLE} 2>/dev/null; do sleep 0.01; done");
    shell.run(&unmount);
    assert_eq!(daemon.ended(), 1);
    assert_eq!(daemon.count_told("STOPPING=1"), 0);
    shell.run(&format!("mount -t binfmt_misc binfmt_misc {TABLE}"));
    assert_ne!(host.run_foreign().code, 0);
    let _daemon = Daemon::start(host);
    assert_eq!(host.run_foreign().code, 0);
    // Gone and back before anybody could look: it goes on.
    shell.run(&format!("{unmount}; mount -t binfmt_misc binfmt_misc {TABLE}"));
}

fn it_is_started_again_where_its_folder_was_made_anew(host: &Sandbox) {
    host.install("/usr/bin/unshare");
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    let fragment = |daemon: &Daemon<'_>| {
        wait_for("a fragment", PATIENCE, || if host.path(FRAGMENT).exists() { Ok(()) } else { Err(daemon.log()) });
    };
    // Where there was none at the start, nothing can be written until it is made.
    let mut daemon = Daemon::start_confined(host);
    let failure = "could not write fragment";
    wait_for(failure, PATIENCE, || if daemon.log().contains(failure) { Ok(()) } else { Err(daemon.log()) });
    assert!(daemon.runs() && host.run_foreign().code == 0);
    for make_anew in [
        "mkdir /etc/binfmt.d",
        "rm -r /etc/binfmt.d; mkdir /etc/binfmt.d",
        "mv /etc/binfmt.d /opt; mkdir /etc/binfmt.d; rm -r /opt/binfmt.d",
    ] {
        host.sh(make_anew);
        assert_eq!(daemon.ended(), 1, "{make_anew}: {}", daemon.log());
        assert!(daemon.log().contains("/etc/binfmt.d was made anew"), "{}", daemon.log());
        assert_eq!(host.run_foreign().code, 0, "handlers stay");
        daemon = Daemon::start_confined(host);
        fragment(&daemon);
    }
    // What is only removed from it is written again without any of this.
    host.sh(&format!("rm {FRAGMENT}"));
    fragment(&daemon);
    assert!(daemon.runs());
}

together! { systemd_and_administrators_see: it_is_ready_when_programs_run, it_is_ready_though_nothing_can_be_mended, it_pings_the_watchdog, it_takes_a_new_configuration_and_keeps_the_old_one_from_a_broken_one, it_does_not_start_with_a_broken_configuration_twice_or_without_a_table, it_ends_with_an_error_when_the_table_goes_away_and_begins_anew_when_it_is_back, it_is_started_again_where_its_folder_was_made_anew }
