// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the verbs change, what they leave alone, and what they take back.

use crate::sandbox::{QEMU, QEMU_P, Sandbox, rule};
use crate::{actions, good, json, unwrapped};

#[test]
fn a_foreign_handler_that_is_held_and_gone_is_covered_and_uncovered() {
    let host = sandbox!();
    host.sh(&format!("cp {QEMU} /usr/bin/qemu-aarch64-image"));
    host.register(&rule("qemu-aarch64", "/usr/bin/qemu-aarch64-image", "F"));
    host.sh("rm /usr/bin/qemu-aarch64-image");
    let held = host.entry("qemu-aarch64");
    host.apply(&[], 0);
    assert_eq!(host.entry("qemu-aarch64"), held, "it could not be restored, so it stays");
    assert_eq!(host.status().json["platforms"][0]["handler"]["entry"], "persist-aarch64");
    host.qemu_persist(&["remove"]);
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    assert_eq!(host.entry("qemu-aarch64"), held);
    assert_eq!(host.run_foreign().code, 0, "the kernel still holds its interpreter");
}

#[test]
fn remove_gives_back_what_was_replaced_and_stays() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.register(&rule("qemu-aarch64", QEMU, "O"));
    let before = host.entry("qemu-aarch64");
    host.apply(&[], 0);
    assert_ne!(host.entry("qemu-aarch64"), before);
    assert!(host.sh("cat /etc/binfmt.d/qemu-aarch64.conf").starts_with("# Written by qemu-persist."));
    assert_eq!(host.qemu_persist(&["remove"]).code, 0);
    assert_eq!(host.entry("qemu-aarch64"), before);
    assert_eq!(host.sh("ls /etc/binfmt.d"), "");
    let status = host.status();
    assert_eq!((status.code, status.ids()), (0, vec![]), "{}", status.describe());
    status.finding("removed");
    assert_eq!(host.qemu_persist(&["remove"]).code, 0, "again is no error");
    assert_eq!(host.entry("qemu-aarch64"), before);
    assert_eq!(host.qemu_persist(&["apply"]).code, 0);
    assert_eq!(host.run_foreign().code, 0, "apply wants it again");
}

#[test]
fn remove_touches_nothing_else() {
    let host = sandbox!();
    host.register(&rule("their-own", QEMU, "F").replace(r"\xb7", r"\xb8"));
    host.write("/etc/binfmt.d/theirs.conf", &rule("their-own", QEMU, "F").replace(r"\xb7", r"\xb8"));
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    let listing = "find /etc /usr/lib/binfmt.d /var -type f | sort; cat /etc/binfmt.d/*";
    let files = host.sh(listing);
    host.apply(&[], 0);
    host.qemu_persist(&["remove"]);
    assert_eq!(host.entries(), ["their-own"]);
    assert_eq!(
        host.sh(listing),
        files.replace(
            "/etc/qemu-persist/config.toml\n",
            "/etc/qemu-persist/config.toml\n/var/lib/qemu-persist/removed\n"
        )
    );
}

#[test]
fn an_adopted_handler_outlives_remove() {
    let host = sandbox!();
    good(&host);
    let before = host.entry("qemu-aarch64");
    assert_eq!(host.apply(&[], 0)["changed"], false);
    host.qemu_persist(&["remove"]);
    assert_eq!(host.entry("qemu-aarch64"), before);
}

#[test]
fn an_adopted_handler_that_our_fragment_restores_outlives_remove_too() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.register(&rule("qemu-aarch64", QEMU_P, "OPF"));
    let before = host.entry("qemu-aarch64");
    host.apply(&[], 0);
    assert!(host.sh("cat /etc/binfmt.d/qemu-aarch64.conf").contains(QEMU_P));
    assert_eq!(host.status().json["platforms"][0]["handler"]["origin"]["kind"], "foreign");
    host.qemu_persist(&["remove"]);
    assert_eq!(host.entry("qemu-aarch64"), before);
    assert_eq!(host.sh("ls /etc/binfmt.d 2>/dev/null || true"), "");
}

#[test]
fn remove_says_what_it_leaves_and_what_it_notes() {
    let host = sandbox!();
    host.apply(&[], 0);
    let left = serde_json::json!([{ "handler": "qemu-aarch64", "path": "/usr/lib/binfmt.d/qemu-aarch64.conf" }]);
    let ran = host.qemu_persist(&["remove", "--check", "--json"]);
    assert_eq!((ran.code, actions(&json(&ran)), &json(&ran)["left"]), (1, vec!["note_removal"], &left));
    let ran = host.qemu_persist(&["remove"]);
    let told = "left, since the distribution's /usr/lib/binfmt.d/qemu-aarch64.conf registers the same: qemu-aarch64";
    assert!(unwrapped(&ran.out).contains(told), "{ran:?}");
    assert!(ran.out.contains("* note in /var/lib/qemu-persist/removed that nothing is wanted\n"), "{ran:?}");
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    let ran = host.qemu_persist(&["remove", "--json"]);
    let told = json(&ran);
    assert_eq!((ran.code, &told["changed"], actions(&told), &told["left"]), (0, &false.into(), vec![], &left));
    let told = host.apply(&["--check"], 1);
    assert_eq!((&told["changed"], actions(&told)), (&true.into(), vec!["lift_removal"]));
    let told = host.apply(&[], 0);
    assert_eq!(
        (&told["changed"], actions(&told), &told["left"]),
        (&true.into(), vec!["lift_removal"], &serde_json::json!([]))
    );
    assert_eq!(host.apply(&[], 0)["changed"], false);
}

#[test]
fn disable_says_what_it_leaves() {
    let host = sandbox!();
    host.apply(&[], 0);
    let ran = host.qemu_persist(&["disable", "linux/arm64", "--json"]);
    let told = json(&ran);
    assert_eq!((ran.code, actions(&told)), (0, vec!["write_config"]), "{told:#}");
    assert_eq!(told["changes"][0]["path"], "/etc/qemu-persist/config.toml.d/90-enabled.toml");
    assert_eq!(told["left"][0]["handler"], "qemu-aarch64", "{told:#}");
    let ran = host.qemu_persist(&["disable", "linux/arm64"]);
    assert!(unwrapped(&ran.out).contains("registers the same: qemu-aarch64"), "{ran:?}");
    assert_eq!(host.entries(), ["qemu-aarch64"]);
}

#[test]
fn every_change_of_enable_and_disable_is_listed() {
    let host = sandbox!();
    host.apply(&[], 0);
    host.qemu_persist(&["remove"]);
    // What is wanted already: all that changes is that `remove` was the last word.
    let ran = host.qemu_persist(&["enable", "linux/arm64", "--json"]);
    let told = json(&ran);
    assert_eq!((ran.code, &told["changed"], actions(&told)), (0, &true.into(), vec!["lift_removal"]), "{told:#}");
    for (verb, expected) in [
        (["enable", "linux/arm"], &["write_config", "write_fragment", "register"][..]),
        (["enable", "linux/arm"], &[]),
        (["disable", "linux/arm"], &["remove_config", "remove_fragment", "retire"]),
        (["disable", "linux/arm"], &[]),
    ] {
        let told = json(&host.qemu_persist(&[&verb[..], &["--json"]].concat()));
        assert_eq!((actions(&told), &told["changed"]), (expected.to_vec(), &(!expected.is_empty()).into()), "{told:#}");
    }
}

#[test]
fn nothing_is_taken_back_where_that_cannot_be_noted() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.apply(&[], 0);
    host.sh("mkdir -p /var/lib/qemu-persist; mount --bind /var/lib /var/lib; mount -o remount,bind,ro /var/lib");
    let ran = host.qemu_persist(&["remove", "--json"]);
    let told = json(&ran);
    assert_eq!((ran.code, &told["changed"], &told["failed"][0]["action"]), (2, &false.into(), &"note_removal".into()));
    assert_eq!(host.entries(), ["qemu-aarch64"], "it would come back at the next occasion");
}

#[test]
fn the_flag_c_of_the_distribution_is_overridden_and_given_back() {
    let host = sandbox!();
    host.write("/usr/lib/binfmt.d/qemu-aarch64.conf", &rule("qemu-aarch64", QEMU_P, "OCPF"));
    host.register(&rule("qemu-aarch64", QEMU_P, "OCPF"));
    let before = host.entry("qemu-aarch64");
    assert_eq!(host.status().ids(), ["credentials-flag", "unproven"]);
    host.apply(&[], 0);
    assert!(host.entry("qemu-aarch64").expect("an entry").contains("flags: POF\n"));
    assert_eq!(host.status().ids(), ["unproven"]);
    host.qemu_persist(&["remove"]);
    assert_eq!(host.entry("qemu-aarch64"), before);
}

const OTHER: &str = "/usr/local/bin/qemu-aarch64";

/// Another QEMU than the one that is registered, which the configuration names.
fn configure_another(host: &Sandbox) {
    host.sh(&format!("mkdir -p /usr/local/bin; cp {QEMU} {OTHER}"));
    host.write("/etc/qemu-persist/config.toml.d/50.toml", &format!("interpreters.arm64 = {OTHER:?}\n"));
}

#[test]
fn the_interpreter_that_the_configuration_names_takes_the_place_of_the_distributions_and_gives_it_back() {
    let host = sandbox!();
    host.write("/usr/lib/binfmt.d/qemu-aarch64.conf", &rule("qemu-aarch64", QEMU_P, "OPF"));
    host.register(&rule("qemu-aarch64", QEMU_P, "OPF"));
    let before = host.entry("qemu-aarch64");
    // The same file by another name.
    host.write("/etc/qemu-persist/config.toml.d/50.toml", &format!("interpreters.arm64 = {QEMU:?}\n"));
    assert_eq!(host.apply(&[], 0)["changed"], false);
    configure_another(&host);
    assert_eq!(host.status().ids(), ["other-interpreter", "unproven"]);
    host.apply(&[], 0);
    assert!(host.entry("qemu-aarch64").expect("an entry").contains(OTHER));
    assert!(host.sh("cat /etc/binfmt.d/qemu-aarch64.conf").contains(OTHER));
    assert_eq!(host.status().ids(), ["unproven"]);
    assert_eq!(host.apply(&[], 0)["changed"], false);
    // What is no longer configured is no longer used.
    host.sh("rm /etc/qemu-persist/config.toml.d/50.toml");
    host.apply(&[], 0);
    assert!(!host.entry("qemu-aarch64").expect("an entry").contains(OTHER));
    assert!(!host.sh("cat /etc/binfmt.d/* 2>/dev/null || true").contains(OTHER));
    assert_eq!(host.apply(&[], 0)["changed"], false);
    host.qemu_persist(&["remove"]);
    assert_eq!(host.entry("qemu-aarch64"), before);
}

#[test]
fn the_interpreter_of_somebody_else_goes_only_when_asked() {
    let host = sandbox!();
    host.register(&rule("qemu-aarch64", QEMU, "OF"));
    configure_another(&host);
    let before = host.entry("qemu-aarch64");
    host.qemu_persist(&["apply"]);
    assert_eq!(host.entry("qemu-aarch64"), before);
    assert!(host.status().ids().contains(&"other-interpreter"));
    host.apply(&["--take-over"], 0);
    assert!(host.entry("qemu-aarch64").expect("an entry").contains(OTHER));
}

#[test]
fn the_flag_c_of_somebody_else_goes_only_when_asked() {
    let host = sandbox!();
    host.register(&rule("qemu-aarch64", QEMU, "OCF"));
    assert_eq!(host.apply(&[], 0)["changed"], false);
    host.apply(&["--take-over"], 0);
    assert!(host.entry("qemu-aarch64").expect("an entry").contains("flags: POF\n"));
}

#[test]
fn another_translator_keeps_its_place_unless_asked() {
    let host = sandbox!();
    host.sh("cp /usr/bin/qemu-persist /usr/bin/box64");
    host.register(&rule("box64", "/usr/bin/box64", ""));
    let report = host.apply(&[], 2);
    assert_eq!((&report["changed"], &report["unmet"][0]["id"]), (&false.into(), &"other-translator".into()));
    assert_eq!(host.entries(), ["box64"]);
    host.apply(&["--take-over"], 0);
    assert_eq!(host.entries(), ["box64", "qemu-aarch64"]);
    assert_eq!(host.run_foreign().code, 0);
    host.qemu_persist(&["remove"]);
    assert!(host.entries().contains(&"box64".to_owned()));
}

#[test]
fn enable_and_disable_change_what_is_wanted() {
    let host = sandbox!();
    host.apply(&[], 0);
    let ran = host.qemu_persist(&["enable", "linux/arm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("write /etc/qemu-persist/config.toml.d/90-enabled.toml\n"), "{ran:?}");
    assert_eq!(host.entries(), ["qemu-aarch64", "qemu-arm"]);
    assert_eq!(host.qemu_persist(&["apply", "--check"]).code, 0);
    let ran = host.qemu_persist(&["disable", "linux/arm"]);
    assert!(ran.code == 0 && ran.out.contains("because linux/arm is not wanted any more\n"), "{ran:?}");
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    assert_eq!(host.sh("ls /etc/binfmt.d 2>/dev/null || true"), "");
    let own = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let ran = host.qemu_persist(&["enable", own]);
    assert!(ran.code == 64 && ran.err.contains("runs by itself"), "{ran:?}");
}
