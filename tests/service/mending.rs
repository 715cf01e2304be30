// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the service mends, how soon, and what it leaves as somebody wants it.

use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::daemon::{Daemon, FRAGMENT, Intended, NAME, PATIENCE, STAND_IN, Shell, Shown, table, wait_for};
use crate::sandbox::{QEMU, QEMU_P, Sandbox, TABLE, rule};
use crate::together;

/// A host on which the handler and its fragment are ours, with the service running.
fn kept(host: &Sandbox) -> (Daemon<'_>, Intended) {
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    let daemon = Daemon::start(host);
    let intended = settled(host);
    (daemon, intended)
}

/// Waits for the state that the service comes to.
pub(crate) fn settled(host: &Sandbox) -> Intended {
    wait_for("its own name and a fragment", PATIENCE, || {
        let now = Intended::now(host)?;
        if host.path(FRAGMENT).exists() { Ok(now) } else { Err("no fragment".into()) }
    })
}

/// Breaks something, and waits until all is as it was.
fn check(host: &Sandbox, break_it: impl Fn(&Sandbox, &mut Shell)) {
    let mut shell = Shell::new(host);
    let (mut daemon, intended) = kept(host);
    for round in 0..2 {
        let before = table(host).unwrap();
        break_it(host, &mut shell);
        wait_for("something else", PATIENCE, || {
            let changed = daemon.state().repairs;
            let known = table(host)?;
            let same = known.iter().map(|e| (&e.name, e.inode)).eq(before.iter().map(|e| (&e.name, e.inode)));
            // What only a file shows is seen in the log.
            if same && intended.is_so(host).is_err() { Err(format!("{changed}: {known:?}")) } else { Ok(()) }
        });
        intended.wait(&format!("round {round}"), host);
    }
    assert!(daemon.runs());
    assert!(!daemon.log().contains("error: could not"), "{}", daemon.log());
}

macro_rules! mended {
    ($($name:ident: $break_it:expr;)*) => {
        $(fn $name(host: &Sandbox) {
            check(host, $break_it);
        })*

        #[test]
        fn what_is_broken_is_mended() {
            together(&[$((stringify!($name), $name),)*]);
        }
    };
}

mended! {
    a_flush: |_, shell| { shell.run(&format!("echo -1 > {TABLE}/status")); };
    one_that_was_removed: |_, shell| { shell.run(&format!("echo -1 > {TABLE}/{NAME}")); };
    one_that_was_disabled: |_, shell| { shell.run(&format!("echo 0 > {TABLE}/{NAME}")); };
    all_turned_off: |_, shell| { shell.run(&format!("echo 0 > {TABLE}/status")); };
    one_replaced_by_a_wrong_rule: |_, shell| {
        shell.run(&format!("echo -1 > {TABLE}/{NAME}"));
        shell.try_run(&format!("printf %s '{}' > {TABLE}/register", rule(NAME, "/usr/bin/gone", "O")));
        shell.run(&format!("test -e {TABLE}/{NAME} || true"));
    };
    one_shadowed_by_a_newer_one: |_, shell| {
        shell.run(&format!("test ! -e {TABLE}/newer || echo -1 > {TABLE}/newer"));
        shell.register(&rule("newer", "/usr/bin/gone", "O"));
    };
    the_interpreter_replaced: |_, shell| { shell.run(&format!("cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}")); };
    the_interpreter_gone_and_back: |_, shell| { shell.run(&format!("mv {QEMU} /opt/kept; sleep 1; mv /opt/kept {QEMU}")); };
    the_fragment_removed: |_, shell| { shell.run(&format!("rm {FRAGMENT}")); };
    the_fragments_folder_removed_and_made_again: |_, shell| {
        shell.run("rm -r /etc/binfmt.d; mkdir /etc/binfmt.d; sleep 0.1; echo '# mine' > /etc/binfmt.d/other.conf");
    };
    everything_at_once: |_, shell| {
        shell.run(&format!("echo 0 > {TABLE}/status; echo -1 > {TABLE}/status; rm {FRAGMENT}; touch {QEMU}"));
    };
}

/// The programs of this machine.
pub(crate) fn captor() -> String {
    let own = if cfg!(target_arch = "aarch64") { r"\xb7" } else { r"\x3e" };
    rule("captor", QEMU, "F").replace(r"\xb7", own)
}

fn a_handler_that_captures_the_hosts_own_programs_is_disabled_at_once(host: &Sandbox) {
    let mut shell = Shell::new(host);
    let (mut daemon, intended) = kept(host);
    for round in 0..5 {
        // Nor does it wait for a run of the command that hangs.
        let lock = std::fs::File::open(host.path("/run/qemu-persist/lock")).unwrap();
        let held = (round > 2).then(|| Flock::lock(lock, FlockArg::LockExclusive).unwrap());
        shell.register(&captor());
        wait_for("it is disabled", PATIENCE, || {
            let entry = table(host)?.into_iter().find(|entry| entry.name == "captor").ok_or("gone")?;
            if entry.text.starts_with("disabled") { Ok(()) } else { Err(entry.text) }
        });
        drop(held);
        // Programs start again.
        host.sh(&format!("echo -1 > {TABLE}/captor"));
        intended.wait("as before", host);
    }
    assert!(daemon.runs());
    let log = daemon.log();
    assert_eq!(log.matches("error: EMERGENCY: the handler captor captured").count(), 5, "{log}");
}

fn a_stand_in_comes_at_once_and_the_usual_name_when_nobody_else_writes(host: &Sandbox) {
    const QUIET: Duration = Duration::from_secs(1);
    let (_daemon, intended) = kept(host);
    let mut shell = Shell::new(host);
    for _ in 0..3 {
        let before = Instant::now();
        shell.run(&format!("echo -1 > {TABLE}/status"));
        wait_for("a stand-in", PATIENCE, || match &table(host)?[..] {
            [Shown { name, .. }] if name == STAND_IN => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(host.run_foreign().code, 0);
        intended.wait("the usual name", host);
        let usual = before.elapsed();
        assert!(usual >= QUIET, "{usual:?}");
    }
    // While somebody else writes, it is left to them.
    let mut before_last = Instant::now();
    shell.run(&format!("echo -1 > {TABLE}/status"));
    let mut looks = 0;
    while looks < 8 {
        let before = Instant::now();
        shell.run(&format!("echo 1 > {TABLE}/status; sleep 0.3"));
        let table = table(host).unwrap();
        // On a machine with much else to do a second may have been quiet: then it says nothing.
        if before_last.elapsed() >= QUIET {
            intended.wait("meanwhile", host);
            before_last = Instant::now();
            shell.run(&format!("echo -1 > {TABLE}/status"));
            continue;
        }
        assert!(table.iter().all(|entry| entry.name != NAME), "{table:?}");
        (before_last, looks) = (before, looks + 1);
    }
    assert_eq!(host.run_foreign().code, 0);
    intended.wait("at last", host);
}

/// Long enough for the service to undo it, if it were to.
fn wait_a_while() {
    std::thread::sleep(Duration::from_millis(1600));
}

fn what_is_not_wanted_any_more_stays_away(host: &Sandbox) {
    let (mut daemon, intended) = kept(host);
    let calm = |daemon: &mut Daemon<'_>, what: &str| {
        wait_a_while();
        assert_eq!(host.entries(), [""; 0], "{what}\n{}", daemon.log());
        assert!(!host.path(FRAGMENT).exists(), "{what}");
        assert_ne!(host.run_foreign().code, 0, "{what}");
        assert!(daemon.runs());
    };
    for (undo, again) in [(&["disable", "linux/arm64"][..], &["enable", "linux/arm64"][..]), (&["remove"], &["apply"])]
    {
        assert_eq!(host.qemu_persist(undo).code, 0);
        calm(&mut daemon, undo[0]);
        assert!(daemon.told().last().unwrap().contains("0 of 0 handlers"), "{:?}", daemon.told());
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), 0);
        daemon = Daemon::start(host);
        calm(&mut daemon, "after a restart");
        host.sh(&format!("echo 1 > {TABLE}/status"));
        daemon.signal(Signal::SIGHUP);
        daemon.expect_more("READY=1", 1);
        calm(&mut daemon, "after a reload");

        let ran = host.qemu_persist(again);
        assert_eq!(ran.code, 0, "{ran:?}");
        intended.wait(again[0], host);
        host.sh(&format!("echo -1 > {TABLE}/status"));
        intended.wait("it is kept again", host);
    }
}

fn the_distributions_own_handler_is_left_alone_and_given_back(host: &Sandbox) {
    host.register(&rule(NAME, QEMU_P, "OPF"));
    let before = table(host).unwrap();
    let daemon = Daemon::start(host);
    wait_a_while();
    let after = table(host).unwrap();
    assert_eq!((after[0].inode, after.len()), (before[0].inode, 1));
    assert_eq!(daemon.state().repairs, 0, "{}", daemon.log());
    assert!(!host.path(FRAGMENT).exists());
    host.sh(&format!("echo -1 > {TABLE}/status"));
    wait_for("the same again", PATIENCE, || match &table(host)?[..] {
        [Shown { name, text, .. }] if name == NAME && *text == before[0].text => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(!host.path(FRAGMENT).exists());
}

/// Of a handler that systemd-binfmt registered the kernel holds the old file, too.
fn a_new_interpreter_is_used_though_somebody_else_registered_the_handler(host: &Sandbox) {
    let replace = format!("cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}");
    let exchanged = |before: &[Shown]| {
        wait_for("another entry", PATIENCE, || match &table(host)?[..] {
            [now] if now.name == NAME && now.inode != before[0].inode => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(host.run_foreign().code, 0);
        assert!(!host.status().ids().contains(&"interpreter-stale"), "{}", host.status().describe());
    };
    host.register(&rule(NAME, QEMU_P, "OPF"));
    let mut daemon = Daemon::start(host);
    wait_a_while();
    let before = table(host).unwrap();
    host.sh(&replace);
    exchanged(&before);

    // The same while the service does not run.
    host.sh(&format!("echo -1 > {TABLE}/{NAME}"));
    host.register(&rule(NAME, QEMU_P, "OPF"));
    wait_for("the stand-in is gone", PATIENCE, || Intended::now(host));
    wait_a_while();
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    let before = table(host).unwrap();
    host.sh(&replace);
    assert!(host.status().ids().contains(&"interpreter-stale"), "{}", host.status().describe());
    let _daemon = Daemon::start(host);
    exchanged(&before);
}

together! { it_is_mended_as_it_should_be: a_handler_that_captures_the_hosts_own_programs_is_disabled_at_once, a_stand_in_comes_at_once_and_the_usual_name_when_nobody_else_writes, what_is_not_wanted_any_more_stays_away, the_distributions_own_handler_is_left_alone_and_given_back,
    a_new_interpreter_is_used_though_somebody_else_registered_the_handler,
}
