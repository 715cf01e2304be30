// SPDX-License-Identifier: MIT OR Apache-2.0
//! systemd-binfmt beside the running service: it removes a name and then registers it, and fails
//! where somebody took the name in between.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, FRAGMENT, NAME, PATIENCE, Shell, table, wait_for};
use crate::drift::{Chance, times};
use crate::host;
use crate::mending::settled;
use crate::sandbox::{Sandbox, TABLE, skip};

const SYSTEMD_BINFMT: &str = "/usr/lib/systemd/systemd-binfmt";
const HOSTS: u64 = 10;

/// Runs it again and again, at once and about when the service takes the usual names. Gives what
/// failed, and how often it was in between that the service changed something.
fn beside(host: &Sandbox, chance: &mut Chance, rounds: u64) -> (Vec<String>, u64) {
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.write("/etc/qemu-persist/config.toml.d/many.toml", "[service]\nback_off_after = 1000000\n");
    let mut shell = Shell::new(host);
    let mut daemon = Daemon::start(host);
    let intended = settled(host);
    let mut failed = Vec::new();
    for round in 0..rounds {
        let (what, script) = match chance.below(3) {
            // As at boot, and by Debian's trigger: all is flushed.
            0 => ("all", SYSTEMD_BINFMT.to_owned()),
            1 => ("one", format!("{SYSTEMD_BINFMT} {FRAGMENT}")),
            // Something that the service mends, so that it takes the usual name a second later.
            _ => ("flush, then one", format!("echo -1 > {TABLE}/status; sleep 1; {SYSTEMD_BINFMT} {FRAGMENT}")),
        };
        let pause = match chance.below(4) {
            0 => 0,
            1 => chance.below(30_000),
            _ => 990_000 + chance.below(30_000),
        };
        std::thread::sleep(Duration::from_micros(pause));
        let (code, out) = shell.try_run(&script);
        if code != "0" {
            failed.push(format!("{round}, {what}, after {pause} us: {code} {out}"));
        }
        if chance.below(8) == 0 {
            wait_for("all as it should be", PATIENCE, || intended.is_so(host));
        }
    }
    intended.wait("at the end", host);
    assert!(daemon.runs());
    assert!(daemon.state().backed_off.is_empty(), "{:?}", daemon.state());
    (failed, daemon.state().repairs)
}

#[test]
fn systemd_binfmt_does_not_fail_beside_the_service() {
    if !Path::new(SYSTEMD_BINFMT).exists() {
        return skip("systemd-binfmt is not installed");
    }
    let all = times("QEMU_PERSIST_TEST_SYSTEMD_BINFMT_RUNS", 100);
    let mut chance = Chance::new("runs of systemd-binfmt");
    let hosts: Vec<_> = match (0..HOSTS).map(|_| host()).collect() {
        Ok(hosts) => hosts,
        Err(reason) => return skip(&reason),
    };
    for host in &hosts {
        host.install(SYSTEMD_BINFMT);
    }
    // The processors have something else to do all the time.
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let script = "while [ -d /proc/$PPID ]; do :; done";
    let burn = || Command::new("/bin/busybox").args(["sh", "-c", script]).stdin(Stdio::null()).spawn();
    let mut burning: Vec<_> = (0..cpus).map(|_| burn().unwrap()).collect();
    let results: Vec<_> = std::thread::scope(|scope| {
        let start = |host| {
            let mut chance = chance.fork();
            scope.spawn(move || beside(host, &mut chance, all / HOSTS))
        };
        let threads: Vec<_> = hosts.iter().map(start).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    for child in &mut burning {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    let repairs: u64 = results.iter().map(|(_, repairs)| repairs).sum();
    let failed: Vec<_> = results.into_iter().flat_map(|(failed, _)| failed).collect();
    eprintln!("{all} runs of systemd-binfmt, {} failed; {repairs} changes by the service", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What runs under the name of systemd-binfmt may be about to register, and no event tells of it.
fn the_usual_name_is_left_to_a_registrar_that_runs(host: &Sandbox) {
    let usual = |host: &Sandbox| table(host).unwrap().iter().any(|entry| entry.name == NAME);
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.install_at("/usr/bin/sleep", "/opt/systemd-binfmt");
    let daemon = Daemon::start(host);
    let intended = settled(host);
    let mut shell = Shell::new(host);
    // One that ends by itself, were this test to end before it.
    shell.run("/opt/systemd-binfmt 60 & registrar=$!");
    shell.run(&format!("echo -1 > {TABLE}/status"));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        assert!(!usual(host), "after {:?}\n{}", begin.elapsed(), daemon.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(host.run_foreign().code, 0, "programs run meanwhile");
    assert!(daemon.processor_time() < 100, "{}", daemon.processor_time());
    shell.run("kill $registrar");
    intended.wait("when it has ended", host);
}

together! { a_registrar_is_waited_for: the_usual_name_is_left_to_a_registrar_that_runs }
