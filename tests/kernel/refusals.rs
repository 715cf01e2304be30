// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is refused or cannot be done, and how that is told.

use crate::sandbox::{QEMU, TABLE, rule, skip};
use crate::{json, unwrapped};

#[test]
fn what_cannot_be_written_is_told_with_its_path_and_the_systems_error() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf; mkdir -p /etc/binfmt.d");
    host.sh("mount -t tmpfs -o ro,mode=755 full /etc/binfmt.d");
    let ran = host.qemu_persist(&["apply"]);
    let told = "x failed to write /etc/binfmt.d/qemu-aarch64.conf: the file system is mounted read-only (Read-only file \
                system (os error 30))";
    assert!(ran.code == 2 && unwrapped(&ran.out).contains(told), "{ran:?}");
    assert!(!ran.out.contains(".qemu-persist-") && !ran.err.contains(".qemu-persist-"), "{ran:?}");
}

#[test]
fn a_broken_configuration_stops_apply_before_anything_changes() {
    let host = sandbox!();
    host.write("/etc/qemu-persist/config.toml", "platforms = [\"linux/arm64\"]\ntake_ovr = true\n");
    let ran = host.qemu_persist(&["apply"]);
    assert_eq!(ran.code, 78, "{ran:?}");
    for part in ["/etc/qemu-persist/config.toml", "2:1", "take_over"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    assert_eq!(host.entries(), Vec::<String>::new());
    let status = host.status();
    assert_eq!(status.code, 2);
    status.finding("config-invalid");
}

#[test]
fn only_wanted_platforms_can_be_named() {
    let host = sandbox!();
    let ran = host.qemu_persist(&["apply", "--platform", "linux/s390x"]);
    assert!(ran.code == 64 && ran.err.contains("qemu-persist enable linux/s390x"), "{ran:?}");
    assert_eq!(host.entries(), Vec::<String>::new());
}

#[test]
fn in_a_chroot_the_kernel_is_left_alone() {
    let host = sandbox!();
    host.sh("mkdir -p /jail/proc; cp -a /bin /lib* /usr /etc /jail/; mkdir -p /jail/run/systemd/system; mount -t proc proc /jail/proc; mount --bind /proc/sys/fs/binfmt_misc /jail/proc/sys/fs/binfmt_misc");
    let inside = |arguments: &str| host.run("/bin/busybox", &["chroot", "/jail", "/bin/sh", "-c", arguments]);
    let ran = inside("qemu-persist apply");
    assert_eq!(host.entries(), Vec::<String>::new(), "{ran:?}");
    assert!(ran.out.contains("[confined]"), "{ran:?}");
    assert!(inside("qemu-persist status").out.contains("[confined]"));
    assert_eq!(inside("qemu-persist apply --force").code, 0);
    assert_eq!(host.entries(), ["qemu-aarch64"]);
}

#[test]
fn the_check_changes_nothing_and_says_what_would() {
    let host = sandbox!();
    let ran = host.qemu_persist(&["apply", "--check"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("would register qemu-aarch64"), "{ran:?}");
    assert_eq!(host.entries(), Vec::<String>::new());
    host.apply(&[], 0);
    let ran = host.qemu_persist(&["apply", "--check"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "Nothing to do.\n"));
    host.sh(&format!("rm {QEMU}; echo -1 > {TABLE}/qemu-aarch64"));
    assert_eq!(host.qemu_persist(&["apply", "--check"]).code, 2);
}

#[test]
fn a_user_is_shown_what_can_be_read_and_told_what_needs_root() {
    let host = sandbox!();
    let Some(ran) = host.qemu_persist_as_user(&["apply"]) else {
        return skip("the tests are not run by root, so there is nobody else in the sandbox");
    };
    assert_eq!(ran.code, 77, "{ran:?}");
    assert!(ran.out.contains("would register qemu-aarch64"), "{ran:?}");
    assert!(ran.err.contains("run `sudo /usr/bin/qemu-persist apply`"), "{ran:?}");
    assert_eq!(host.entries(), Vec::<String>::new());
    for verb in [&["remove"][..], &["enable", "linux/arm"], &["disable", "linux/arm64"]] {
        let ran = host.qemu_persist_as_user(verb).expect("it ran before");
        assert!(ran.code == 77 && ran.err.contains("sudo"), "{ran:?}");
    }
    host.apply(&[], 0);
    let ran = host.qemu_persist_as_user(&["status"]).expect("it ran before");
    assert!(ran.code == 1 && ran.out.contains("[unproven]"), "{ran:?}");
    assert_eq!(host.qemu_persist_as_user(&["apply"]).expect("it ran before").code, 0, "nothing to do needs no root");
}

/// Where nobody has mounted it, in the kernel's first user namespace: only looked at.
#[test]
fn a_table_that_is_not_mounted_is_found_and_mounting_is_planned() {
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root, to unmount it in a mount namespace of the test's own");
    }
    let script = format!("umount -l {TABLE} 2>/dev/null; \"$0\" \"$@\"");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_qemu-persist")]).args(arguments);
        command.output().expect("unshare")
    };
    let output = run(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ids: Vec<_> = json["findings"].as_array().expect("findings").iter().map(|f| f["id"].clone()).collect();
    // What stands there depends on the machine's kernel and on what else is wrong with it.
    let told = ["not-mounted", "binfmt-missing", "reboot-pending", "confined"];
    assert!(ids.iter().any(|id| told.iter().any(|t| id == t)), "{json:#}");
    let output = run(&["apply", "--check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    if ids.iter().any(|id| id == "not-mounted") && !ids.iter().any(|id| id == "confined") {
        assert_eq!((json["changes"][0]["action"].as_str(), output.status.code()), (Some("mount"), Some(1)), "{json:#}");
    }
}

#[test]
fn what_stops_a_verb_is_told_in_json_too() {
    let host = sandbox!();
    host.write("/etc/qemu-persist/config.toml", "nonsense = 1\n");
    for verb in [&["apply", "--json"][..], &["selftest", "--json"], &["apply", "--check", "--json"]] {
        let ran = host.qemu_persist(verb);
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        assert_eq!((ran.code, &json["exit_code"], &json["schema"]), (78, &78.into(), &1.into()), "{ran:?}");
        assert!(json["error"].as_str().is_some_and(|error| error.contains("nonsense")), "{ran:?}");
        assert!(ran.err.contains("nonsense"), "{ran:?}");
    }
    let status = host.status();
    assert_eq!((status.code, status.ids()), (2, vec!["config-invalid"]), "nothing is advised that it would stop");
}

#[test]
fn names_that_are_no_text_are_told_in_json_too() {
    let host = sandbox!();
    // What the kernel's table names, what a link leads to, and where a tree is.
    let odd = r"odd=$(printf '/opt/qemu-\377')";
    host.sh(&format!("{odd}; cp {QEMU} \"$odd\"; ln -s \"$odd\" /opt/link; mkdir -p \"$odd.d/usr/bin\""));
    host.sh(&format!("{odd}; cp {QEMU} \"$odd.d/usr/bin/qemu-arm-static\"; mkdir -p /usr/local/bin"));
    host.sh(&format!("{odd}; ln -s \"$odd\" /usr/local/bin/qemu-arm"));
    let pattern = rule("", "", "").split(':').skip(4).take(2).collect::<Vec<_>>().join(":");
    for (interpreter, shown, id) in
        [("$odd", "/opt/qemu-\u{fffd}", Some("interpreter-unverified")), ("/opt/link", "/opt/link", None)]
    {
        let register = format!("{odd}; printf ':one:M::%s:%s:F' \"$0\" \"{interpreter}\" > {TABLE}/register");
        let ran = host.run("/bin/sh", &["-ec", &register, &pattern]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(host.run_foreign().code, 0);
        let status = host.status();
        assert_eq!(status.json["platforms"][0]["handler"]["interpreter"], shown, "{}", status.describe());
        let expected: Vec<_> = id.into_iter().chain(["unproven"]).collect();
        assert_eq!(status.ids(), expected, "{}", status.describe());
        assert_eq!(host.apply(&[], 0)["changed"], false);
        json(&host.qemu_persist(&["selftest", "--runtime", "builtin", "--json"]));
        host.sh(&format!("echo -1 > {TABLE}/one"));
    }
    json(&host.qemu_persist(&["host", "--json"]));
    for verb in ["host", "apply --check", "config show", "config check", "remove --check"] {
        let ran = host.run("/bin/sh", &["-c", &format!("{odd}; qemu-persist {verb} --json --root \"$odd.d\"")]);
        assert!(json(&ran)["error"].is_null(), "{verb}: {ran:?}");
    }
}
