// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU of the package qemu-persist-emulator: it comes, is used, fails, and goes.

use crate::sandbox::{QEMU, QEMU_P, Sandbox, rule};
use crate::{actions, good};

const PACKAGES: &str = "/usr/libexec/qemu-persist/qemu-aarch64";
const FRAGMENT: &str = "/etc/binfmt.d/qemu-aarch64.conf";

/// Installs `program` as the package does, which is preferred here although the pages are the usual ones.
fn install(host: &Sandbox, program: &str) {
    host.write("/etc/qemu-persist/config.toml.d/50.toml", "emulator = \"always\"\n");
    let path = "/var/lib/dpkg/info/qemu-persist-emulator.list";
    host.write(path, &format!("{PACKAGES}\n"));
    let status = "Package: qemu-persist-emulator\nStatus: install ok installed\nVersion: 1:10.0.13+persist1\n\n";
    host.write("/var/lib/dpkg/status", status);
    host.sh(&format!("mkdir -p /usr/libexec/qemu-persist; cp {program} {PACKAGES}.new; mv {PACKAGES}.new {PACKAGES}"));
}

/// The interpreter of the handler, and whether a fragment of ours names it.
fn used(host: &Sandbox) -> (String, bool) {
    let entry = host.entry("qemu-aarch64").expect("an entry");
    let path = entry.lines().find_map(|line| line.strip_prefix("interpreter ")).expect("an interpreter").to_owned();
    let fragment = host.sh(&format!("cat {FRAGMENT} 2>/dev/null || true"));
    let named = fragment.contains(&format!(":{path}:"));
    assert!(named || fragment.is_empty(), "{path} and {fragment}");
    let ran = host.run_foreign();
    assert_eq!((ran.code, ran.out.as_str()), (0, "qemu-persist-probe 1 aarch64 nonce\n"), "{}", ran.err);
    (path, named)
}

/// Changes what is to be changed, which is that much, and nothing after it.
fn apply(host: &Sandbox, expected: &[&str]) {
    assert_eq!(actions(&host.apply(&["--check"], i32::from(!expected.is_empty()))), expected);
    assert_eq!(actions(&host.apply(&[], 0)), expected);
    assert_eq!(host.apply(&[], 0)["changed"], false);
}

fn selftest(host: &Sandbox) -> i32 {
    host.qemu_persist(&["selftest", "--runtime", "builtin"]).code
}

#[test]
fn it_is_used_while_it_is_installed() {
    let host = sandbox!();
    good(&host);
    let before = host.entry("qemu-aarch64");
    install(&host, QEMU);
    let status = host.status();
    assert_eq!(status.ids(), ["unproven", "emulator-unused"], "{}", status.describe());
    apply(&host, &["write_fragment", "register"]);
    assert_eq!(used(&host), (PACKAGES.to_owned(), true));
    assert!(host.entry("qemu-aarch64").expect("an entry").contains("flags: POF\n"));
    assert_eq!(selftest(&host), 0);
    let status = host.status();
    let note = status.finding("emulator-used")["message"].as_str().expect("a message").to_owned();
    assert!(status.code == 0 && note.starts_with("the configuration prefers qemu-persist-emulator's QEMU"), "{note}");
    assert_eq!(status.json["platforms"][0]["handler"]["package"]["version"], "1:10.0.13+persist1");
    let listed = host.qemu_persist(&["host", "--json"]).out;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let packages = listed["qemu"].as_array().expect("a list").iter().find(|qemu| qemu["path"] == PACKAGES);
    assert_eq!(packages.expect("it is listed")["package"], "qemu-persist-emulator");

    // An upgrade brings another file, which the kernel does not hold yet.
    install(&host, QEMU);
    assert_eq!(host.status().ids(), ["interpreter-stale"]);
    apply(&host, &["register"]);
    assert_eq!(used(&host), (PACKAGES.to_owned(), true));

    host.sh(&format!("rm {PACKAGES}"));
    assert!(host.status().ids().contains(&"interpreter-deleted"), "{}", host.status().describe());
    apply(&host, &["remove_fragment", "register"]);
    assert_eq!(used(&host), (QEMU_P.to_owned(), false));
    assert_eq!(host.status().ids(), ["unproven"]);
    host.qemu_persist(&["remove"]);
    assert_eq!(host.entry("qemu-aarch64"), before);
}

#[test]
fn without_a_fragment_of_the_distributions_ours_names_the_other_again() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    install(&host, QEMU);
    apply(&host, &["write_fragment", "register"]);
    assert_eq!(used(&host), (PACKAGES.to_owned(), true));
    host.sh(&format!("rm {PACKAGES}"));
    apply(&host, &["write_fragment", "register"]);
    assert_eq!(used(&host), (QEMU_P.to_owned(), true));
    // Where there is no other either, nothing names what is gone.
    host.sh(&format!("rm {QEMU} {QEMU_P}; cp /opt/outside {PACKAGES}"));
    apply(&host, &["write_fragment", "register"]);
    assert_eq!(used(&host), (PACKAGES.to_owned(), true));
    host.sh(&format!("rm {PACKAGES}"));
    host.qemu_persist(&["apply"]);
    assert!(!host.path(FRAGMENT).exists());
    assert_eq!(host.run_foreign().code, 0, "the kernel holds it");
}

#[test]
fn one_that_fails_the_self_test_is_used_no_more() {
    let host = sandbox!();
    good(&host);
    // It is QEMU, but for other programs.
    install(&host, "/usr/bin/qemu-arm-static");
    host.apply(&[], 0);
    assert_ne!(host.run_foreign().code, 0);
    assert_eq!(selftest(&host), 2);
    let status = host.status();
    assert_eq!(status.ids(), ["emulator-rejected", "proof-failed"], "{}", status.describe());
    assert_eq!(status.commands("emulator-rejected"), ["qemu-persist apply"]);
    let ran = host.qemu_persist(&["apply"]);
    let told = crate::unwrapped(&ran.out);
    assert!(told.contains("because linux/arm64: a self-test with qemu-persist-emulator's QEMU failed on this kernel"));
    assert_eq!(used(&host), (QEMU_P.to_owned(), false));
    // The proof of the other changes nothing of it.
    assert_eq!(selftest(&host), 0);
    let status = host.status();
    assert_eq!((status.code, status.ids()), (1, vec!["emulator-rejected"]), "{}", status.describe());
    apply(&host, &[]);

    // Another file is tried again.
    install(&host, QEMU);
    assert_eq!(host.status().ids(), ["emulator-unused"]);
    apply(&host, &["write_fragment", "register"]);
    assert_eq!((used(&host), selftest(&host)), ((PACKAGES.to_owned(), true), 0));
    assert_eq!(host.status().ids(), [""; 0]);
}

#[test]
fn what_is_not_safe_or_not_wanted_is_not_used() {
    let host = sandbox!();
    good(&host);
    install(&host, QEMU);
    host.sh(&format!("chmod 777 {PACKAGES}"));
    apply(&host, &[]);
    let status = host.status();
    assert_eq!(status.ids(), ["unproven", "emulator-unused"], "{}", status.describe());
    for command in status.commands("emulator-unused") {
        host.sh(&command);
    }
    assert_eq!(used(&host), (PACKAGES.to_owned(), true));
    for (configuration, ours) in [("never", false), ("always", true), ("auto", false)] {
        host.write("/etc/qemu-persist/config.toml.d/50.toml", &format!("emulator = \"{configuration}\"\n"));
        host.apply(&[], 0);
        assert_eq!(used(&host).1, ours, "{configuration}");
    }
    // The handler of somebody else goes only when asked.
    host.sh(&format!("cp {QEMU} /usr/bin/qemu-aarch64; echo -1 > {}/qemu-aarch64", crate::sandbox::TABLE));
    host.register(&rule("qemu-aarch64", "/usr/bin/qemu-aarch64", "OF"));
    host.write("/etc/qemu-persist/config.toml.d/50.toml", "emulator = \"always\"\n");
    assert_eq!(actions(&host.apply(&[], 0)), ["write_fragment"]);
    for command in host.status().commands("emulator-unused") {
        host.sh(&command);
    }
    assert_eq!(used(&host), (PACKAGES.to_owned(), true));
}
