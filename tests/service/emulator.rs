// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU of the package qemu-persist-emulator: the service takes it up and gives it up by itself.

use std::time::Duration;

use qemu_persist::service::SELFTEST_DUE;

use crate::daemon::{Daemon, FRAGMENT, NAME, PATIENCE, Shown, table, wait_for};
use crate::sandbox::{QEMU, QEMU_P, Sandbox, rule};

const PACKAGES: &str = "/usr/libexec/qemu-persist/qemu-aarch64";

/// Installs `program` as the package does.
fn install(host: &Sandbox, program: &str) {
    host.sh(&format!("cp {program} {PACKAGES}.dpkg-new; mv {PACKAGES}.dpkg-new {PACKAGES}"));
}

/// The service, with the package not yet installed, and preferred although the pages are the usual ones.
fn begin(host: &Sandbox) -> Daemon<'_> {
    host.write("/etc/qemu-persist/config.toml.d/50.toml", "emulator = \"always\"\n");
    host.register(&rule(NAME, QEMU_P, "OPF"));
    // The folder with the service's program was not made by the root of this host.
    host.sh("cd /usr/libexec; cp -r qemu-persist own; mv qemu-persist old; mv own qemu-persist");
    let daemon = Daemon::start(host);
    // Of what was not proven since the boot a timer reminds; a proof that is voided is for the service.
    assert_eq!(selftest(host), 0);
    daemon
}

fn selftest(host: &Sandbox) -> i32 {
    // As its unit does before it begins.
    host.sh(&format!("rm -f {SELFTEST_DUE}"));
    host.qemu_persist(&["selftest", "--runtime", "builtin"]).code
}

/// Waits until the handler has that interpreter, and ours is the fragment or not.
fn wait_until(what: &str, host: &Sandbox, interpreter: &str, ours: bool) {
    wait_for(what, PATIENCE, || match &table(host)?[..] {
        [Shown { name, text, .. }]
            if name == NAME
                && text.contains(&format!("\ninterpreter {interpreter}\n"))
                && host.path(FRAGMENT).exists() == ours =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
}

fn wait_for_request(host: &Sandbox) {
    wait_for("a self-test is asked for", PATIENCE, || {
        if host.path(SELFTEST_DUE).exists() { Ok(()) } else { Err("it is not".to_owned()) }
    });
}

fn it_is_used_from_its_installation_to_its_removal(host: &Sandbox) {
    let mut daemon = begin(host);
    for _ in 0..2 {
        install(host, QEMU);
        wait_until("installed", host, PACKAGES, true);
        wait_for_request(host);
        assert_eq!(selftest(host), 0);
        let before = table(host).unwrap();
        install(host, QEMU);
        wait_for("upgraded", PATIENCE, || match &table(host)?[..] {
            [now] if now.name == NAME && now.inode != before[0].inode => Ok(()),
            other => Err(format!("{other:?}")),
        });
        wait_until("upgraded", host, PACKAGES, true);
        host.sh(&format!("rm {PACKAGES}"));
        wait_until("removed", host, QEMU_P, false);
        wait_for_request(host);
        assert_eq!((selftest(host), host.run_foreign().code), (0, 0));
    }
    assert!(daemon.runs());
    let log = daemon.log();
    assert!(log.contains("the configuration prefers qemu-persist-emulator's QEMU, which is installed"), "{log}");
}

fn one_that_fails_is_given_up(host: &Sandbox) {
    let mut daemon = begin(host);
    // It is QEMU, but for other programs.
    install(host, "/usr/bin/qemu-arm-static");
    wait_until("installed", host, PACKAGES, true);
    wait_for_request(host);
    assert_eq!(selftest(host), 2);
    wait_until("given up", host, QEMU_P, false);
    wait_for_request(host);
    assert_eq!(selftest(host), 0);
    let before = table(host).unwrap();
    std::thread::sleep(Duration::from_millis(1600));
    let after = table(host).unwrap();
    assert_eq!((after[0].inode, after.len()), (before[0].inode, 1), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("a self-test with qemu-persist-emulator's QEMU failed on this kernel (builtin: "), "{log}");
    assert_eq!(host.status().ids(), ["emulator-rejected"], "{}", host.status().describe());

    install(host, QEMU);
    wait_until("another file", host, PACKAGES, true);
    wait_for_request(host);
    assert_eq!((selftest(host), host.status().ids()), (0, vec![]));
    // That it runs, and does not help: as a kernel with large pages would have it recorded.
    let path = "/var/lib/qemu-persist/proofs.json";
    let mut proofs: serde_json::Value = serde_json::from_str(&host.sh(&format!("cat {path}"))).unwrap();
    let proof = &mut proofs["linux/arm64"];
    proof["rejected"] = serde_json::json!({
        "kernel_release": proof["kernel_release"],
        "interpreter": proof["interpreter"],
        "reason": "pages.fragment: mmap of a page EFAULT: Bad address",
    });
    host.write("/opt/proofs.json", &proofs.to_string());
    host.sh(&format!("mv /opt/proofs.json {path}"));
    wait_until("given up again", host, QEMU_P, false);
    assert!(daemon.runs());
    // It is told when all is done.
    wait_for("the reason", PATIENCE, || {
        let log = daemon.log();
        if log.contains("(pages.fragment: mmap of a page EFAULT: Bad address)") { Ok(()) } else { Err(log) }
    });
}

together! { it_takes_up_and_gives_up_the_package: it_is_used_from_its_installation_to_its_removal,
    one_that_fails_is_given_up,
}
