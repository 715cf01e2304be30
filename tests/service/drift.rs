// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many random breakages in a row: after each of them all is as it was, and the service has not grown.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, FRAGMENT, NAME, PATIENCE, STAND_IN, Shell, table, wait_for};
use crate::host;
use crate::mending::{captor, settled};
use crate::sandbox::{QEMU, Sandbox, TABLE, rule, skip};

/// Random numbers that can be had again (splitmix64).
pub(crate) struct Chance(u64);

impl Chance {
    /// From the seed that `QEMU_PERSIST_TEST_SEED` gives, or any.
    pub(crate) fn new(what: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let given = std::env::var("QEMU_PERSIST_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
        let seed = given.unwrap_or(u64::from(now.subsec_nanos()) + now.as_secs());
        eprintln!("{what}: QEMU_PERSIST_TEST_SEED={seed}");
        Self(seed)
    }

    /// Another one that starts elsewhere.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// How many of something: fewer than what is promised, unless `variable` says how many.
pub(crate) fn times(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// How many hosts are broken at the same time: each waits for a quiet second most of the time.
const HOSTS: u64 = 10;
/// How many kinds of breakages there are.
const KINDS: u64 = 10;

/// Breaks something, and says what. What it does may fail: something may be broken already.
fn break_something(kind: u64, shell: &mut Shell) -> &'static str {
    let (what, script) = match kind {
        0 => ("flush", format!("echo -1 > {TABLE}/status")),
        1 => ("remove", format!("echo -1 > {TABLE}/{NAME}")),
        2 => ("disable", format!("echo 0 > {TABLE}/{NAME}")),
        3 => ("globally off", format!("echo 0 > {TABLE}/status")),
        4 => {
            let wrong = rule(NAME, "/usr/bin/gone", "O");
            ("wrong rule", format!("echo -1 > {TABLE}/{NAME}; printf %s '{wrong}' > {TABLE}/register"))
        }
        5 => ("shadow", format!("printf %s '{}' > {TABLE}/register", rule("newer", "/usr/bin/gone", "O"))),
        6 => ("interpreter replaced", format!("cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}")),
        7 => ("fragment removed", format!("rm {FRAGMENT}")),
        8 => ("captured", format!("printf %s '{}' > {TABLE}/register", captor())),
        _ => ("unmounted", format!("umount {TABLE}")),
    };
    shell.try_run(&script);
    what
}

/// Does what systemd does with a service that has ended, and clears what others left.
fn tidy<'h>(host: &'h Sandbox, shell: &mut Shell, daemon: &mut Daemon<'h>) {
    for entry in table(host).unwrap() {
        match entry.name.as_str() {
            "captor" => {
                wait_for("the captor is off", PATIENCE, || {
                    let text = std::fs::read_to_string(host.path(&format!("{TABLE}/captor"))).unwrap();
                    if text.starts_with("disabled") { Ok(()) } else { Err(text) }
                });
                shell.run(&format!("echo -1 > {TABLE}/captor"));
            }
            "newer" => drop(shell.run(&format!("echo -1 > {TABLE}/newer"))),
            _ => {}
        }
    }
    let is_mounted = host.path(&format!("{TABLE}/status")).exists();
    if !is_mounted {
        assert_eq!(daemon.ended(), 1);
        shell.run(&format!("mount -t binfmt_misc binfmt_misc {TABLE}"));
        *daemon = Daemon::start(host);
    }
}

/// `kinds` is how many kinds of breakages there are. Gives by how many KiB it grew, and how often it
/// was started again.
fn drift(host: &Sandbox, chance: &mut Chance, kinds: u64, rounds: u64) -> (u64, u64) {
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.write("/etc/qemu-persist/config.toml.d/many.toml", "[service]\nback_off_after = 1000000\n");
    let mut shell = Shell::new(host);
    let mut daemon = Daemon::start(host);
    let intended = settled(host);
    let (mut before, mut grown) = (None, 0);
    let mut done = String::new();
    let mut restarts = 0;
    for round in 0..rounds {
        // Now and then several at once, and now and then before it is quiet.
        let together = if chance.below(5) == 0 { 2 + chance.below(2) } else { 1 };
        for _ in 0..together {
            let kind = chance.below(kinds);
            let what = break_something(kind, &mut shell);
            done = format!("{round}: {what}, after {done:.200}");
            if what == "unmounted" {
                tidy(host, &mut shell, &mut daemon);
                (before, restarts) = (None, restarts + 1);
            }
        }
        if chance.below(4) == 0 {
            wait_for(&done, PATIENCE, || match host.run_foreign() {
                ran if ran.code == 0 => Ok(()),
                ran => Err(format!("{ran:?}")),
            });
            continue;
        }
        wait_for(&done, PATIENCE, || intended.is_so(host));
        tidy(host, &mut shell, &mut daemon);
        intended.wait(&done, host);
        // Once it has seen most of what there is, it is to be as large as it will ever be.
        let size = (daemon.number("RssAnon"), daemon.descriptors());
        match before {
            None => before = Some((size, round)),
            Some((_, since)) if round < since + 5 => before = Some((size, since)),
            Some(((anonymous, descriptors), _)) => {
                grown = grown.max(size.0.saturating_sub(anonymous));
                // In the middle of a look there are more.
                wait_for("as many descriptors", PATIENCE, || match daemon.descriptors() {
                    now if now <= descriptors => Ok(()),
                    now => Err(format!("{now} instead of {descriptors}, {done}")),
                });
            }
        }
    }
    assert!(daemon.runs() && daemon.state().backed_off.is_empty(), "{:?}", daemon.state());
    (grown, restarts)
}

#[test]
fn whatever_is_broken_is_mended() {
    let all = times("QEMU_PERSIST_TEST_BREAKAGES", 200);
    let mut chance = Chance::new("breakages");
    let hosts: Vec<_> = match (0..HOSTS).map(|_| host()).collect() {
        Ok(hosts) => hosts,
        Err(reason) => return skip(&reason),
    };
    let grown: Vec<_> = std::thread::scope(|scope| {
        let start = |(number, host)| {
            let mut chance = chance.fork();
            // On every other one it is never unmounted, so that the service lives from beginning to end.
            let kinds = KINDS - number % 2;
            scope.spawn(move || drift(host, &mut chance, kinds, all / HOSTS))
        };
        let threads: Vec<_> = (0_u64..).zip(&hosts).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    eprintln!("{all} breakages; the service grew by (KiB, restarted): {grown:?}");
    assert!(grown.iter().all(|(kib, _)| *kib <= 256), "{grown:?}");
}

#[test]
fn flushes_without_end_do_not_make_it_larger() {
    let host = match host() {
        Ok(host) => host,
        Err(reason) => return skip(&reason),
    };
    host.write("/etc/qemu-persist/config.toml.d/many.toml", "[service]\nback_off_after = 1000000\n");
    let daemon = Daemon::start(&host);
    let mut shell = Shell::new(&host);
    let mut flush = |times: u64| {
        for _ in 0..times {
            shell.run(&format!("echo -1 > {TABLE}/status"));
            wait_for("a handler", PATIENCE, || if table(&host)?.is_empty() { Err("none".to_owned()) } else { Ok(()) });
        }
        (daemon.number("RssAnon"), daemon.number("VmRSS"))
    };
    let all = times("QEMU_PERSIST_TEST_FLUSHES", 600);
    let sizes: Vec<_> = (0..6).map(|_| flush(all / 6)).collect();
    eprintln!("{all} flushes; private and resident KiB after each sixth of them: {sizes:?}");
    assert!(sizes[5].0 <= sizes[0].0 + 32, "{sizes:?}");
}

#[test]
fn killed_anywhere_it_converges_when_it_is_started_again() {
    let all = times("QEMU_PERSIST_TEST_KILLS", 40);
    let mut chance = Chance::new("kills");
    let hosts: Vec<_> = match (0..HOSTS).map(|_| host()).collect() {
        Ok(hosts) => hosts,
        Err(reason) => return skip(&reason),
    };
    let lost: u64 = std::thread::scope(|scope| {
        let start = |host| {
            let mut chance = chance.fork();
            scope.spawn(move || killed(host, &mut chance, all / HOSTS))
        };
        let threads: Vec<_> = hosts.iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    eprintln!("{all} kills; {lost} times programs did not run until it was started again");
}

/// Kills it while it mends something. Gives how often that left a host without a handler.
fn killed(host: &Sandbox, chance: &mut Chance, rounds: u64) -> u64 {
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.write("/etc/qemu-persist/config.toml.d/many.toml", "[service]\nback_off_after = 1000000\n");
    let mut shell = Shell::new(host);
    let mut daemon = Daemon::start(host);
    let intended = settled(host);
    let mut lost = 0;
    for round in 0..rounds {
        // The unmounting is for the other test: it ends by itself there.
        let kind = chance.below(KINDS - 1);
        let keeps = matches!(kind, 6 | 7);
        let what = break_something(kind, &mut shell);
        let pause = match chance.below(3) {
            0 => chance.below(4_000),
            1 => chance.below(40_000),
            _ => 950_000 + chance.below(150_000),
        };
        std::thread::sleep(std::time::Duration::from_micros(pause));
        daemon.signal(Signal::SIGKILL);
        assert_eq!(daemon.ended(), 128 + 9);
        let what = format!("{round}: {what}, killed after {pause} us");
        let captured = table(host).unwrap().iter().any(|e| e.name == "captor" && e.text.starts_with("enabled"));
        if captured {
            // Nothing can be started, the service itself included.
            shell.run(&format!("echo -1 > {TABLE}/captor"));
        }
        let stands = table(host).unwrap().iter().any(|e| e.name == STAND_IN && e.text.starts_with("enabled"));
        let ran = host.run_foreign();
        assert!(ran.code == 0 || !keeps, "{what}: {ran:?}");
        lost += u64::from(ran.code != 0);
        if stands && !matches!(kind, 3 | 5) {
            assert_eq!(ran.code, 0, "{what}: {ran:?}");
        }
        daemon = Daemon::start(host);
        assert_eq!(host.run_foreign().code, 0, "{what}: {}", daemon.log());
        wait_for(&what, PATIENCE, || intended.is_so(host));
        tidy(host, &mut shell, &mut daemon);
        intended.wait(&what, host);
    }
    lost
}
