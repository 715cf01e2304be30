// SPDX-License-Identifier: MIT OR Apache-2.0
//! States that take more than a row, and what is said of them.

use crate::sandbox::{QEMU, QEMU_P, Status, TABLE, rule, skip};
use crate::{good, handler_config, own_machine};

#[test]
fn an_owner_that_cannot_be_seen_is_seen_where_the_advice_says() {
    let host = sandbox!();
    // Unproven would be a warning, which is worse than unknown.
    host.write("/etc/qemu-persist/config.toml", &handler_config(QEMU));
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    host.apply(&[], 0);
    // A user namespace inside, to which the sandbox is the host: nobody's number is mapped.
    let ran = host.run("/bin/busybox", &["unshare", "-U", "/usr/bin/qemu-persist", "status", "--json"]);
    let inside =
        Status { code: ran.code, json: serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}")) };
    assert_eq!((inside.code, inside.ids()), (3, vec!["interpreter-unverified"]), "{}", inside.describe());
    assert_eq!(inside.commands("interpreter-unverified"), ["qemu-persist status"]);
    // "As root, on the host itself".
    let ran = host.qemu_persist(&["status"]);
    assert!(ran.code == 0 && !ran.out.contains("interpreter-unverified"), "{ran:?}");
}

#[test]
fn what_a_user_may_not_look_at_is_seen_by_root_as_the_advice_says() {
    let host = sandbox!();
    host.sh(&format!("mkdir -m 755 /opt/private && cp {QEMU} /opt/private/qemu && chmod 700 /opt/private"));
    host.write("/etc/qemu-persist/config.toml", &handler_config("/opt/private/qemu"));
    host.apply(&[], 0);
    let Some(ran) = host.qemu_persist_as_user(&["status", "--json"]) else {
        return skip("the tests are not run by root, so there is nobody else in the sandbox");
    };
    let told =
        Status { code: ran.code, json: serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}")) };
    assert_eq!((told.code, told.ids()), (3, vec!["interpreter-unverified"]), "{}", told.describe());
    assert_eq!(told.commands("interpreter-unverified"), ["qemu-persist status"]);
    assert_eq!(host.status().ids(), Vec::<&str>::new());
}

/// As it is after a reboot, before systemd-binfmt has run: no handlers, no records of this boot.
const BOOT: &str = "echo -1 > /proc/sys/fs/binfmt_misc/status; rm -rf /run/qemu-persist";
/// What systemd-binfmt does then with our fragment.
const SYSTEMD_BINFMT: &str = "sed -n /^:/p /etc/binfmt.d/qemu-aarch64.conf > /proc/sys/fs/binfmt_misc/register";

#[test]
fn our_fragment_lasts_below_an_overlay_when_the_advice_is_followed() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf; cp -a /etc /below; mkdir /mnt/up; mount -t tmpfs up /mnt/up");
    // As a Raspberry Pi's initramfs does at every boot.
    let lay = "rm -rf /mnt/up/*; mkdir /mnt/up/files /mnt/up/work; mount -t overlay -o \
               lowerdir=/below,upperdir=/mnt/up/files,workdir=/mnt/up/work,userxattr overlay /etc";
    host.sh(lay);
    host.apply(&[], 0);
    let status = host.status();
    assert_eq!((status.code, status.ids()), (1, vec!["etc-volatile", "unproven"]), "{}", status.describe());
    let commands = status.commands("etc-volatile");
    host.sh(&format!("umount /etc; {lay}; {BOOT}"));
    assert_eq!(
        host.status().ids(),
        ["etc-volatile", "not-registered", "not-persistent"],
        "it was said that it is lost"
    );

    host.write("/usr/bin/raspi-config", "#!/bin/sh\ntest \"$*\" = 'nonint disable_overlayfs'\n");
    host.sh("chmod 755 /usr/bin/raspi-config");
    let [off, apply] = &commands[..] else { panic!("{commands:?}") };
    host.sh(off);
    host.sh(&format!("umount /etc; mount --bind /below /etc; {BOOT}"));
    host.sh(apply);
    host.sh(&format!("umount /etc; {lay}; {BOOT}; {SYSTEMD_BINFMT}"));
    let status = host.status();
    assert_eq!(status.ids(), ["unproven"], "{}", status.describe());
    assert_eq!(host.apply(&[], 0)["changed"], false);
    assert_eq!(host.run_foreign().code, 0);
}

#[test]
fn with_etc_in_memory_it_works_on_every_boot_when_the_advice_is_followed() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf; cp -a /etc /below");
    let lay = "mount -t tmpfs -o mode=755 etc /etc; cp -a /below/. /etc/";
    host.sh(lay);
    host.apply(&[], 0);
    let status = host.status();
    assert_eq!((status.code, status.ids()), (1, vec!["etc-volatile", "unproven"]), "{}", status.describe());
    let commands = status.commands("etc-volatile");
    assert_eq!(commands, ["qemu-persist apply"]);
    host.sh(&format!("umount /etc; {lay}; {BOOT}"));
    assert_ne!(host.run_foreign().code, 0);
    host.sh(&commands[0]);
    assert_eq!(host.run_foreign().code, 0);
    assert_eq!(host.status().ids(), ["etc-volatile", "unproven"], "the next boot will need it again");
}

#[test]
fn a_fragment_that_would_capture_the_hosts_own_programs_is_critical() {
    let host = sandbox!();
    good(&host);
    host.write("/etc/binfmt.d/wrong.conf", &rule("wrong", QEMU, "F").replace(r"\xb7", own_machine()));
    let status = host.status();
    assert_eq!((status.code, status.ids()), (2, vec!["fragment-captures-native", "unproven"]));
    assert_eq!(host.apply(&[], 2)["changed"], false, "the file is somebody else's");
}

#[test]
fn people_are_told_that_there_is_no_handler_or_none_of_its_flags() {
    let host = sandbox!();
    let told = host.qemu_persist(&["status"]).out;
    assert!(told.contains("  handler      none\n") && !told.contains("  interpreter  "), "{told}");
    host.register(&rule("qemu-aarch64", QEMU, ""));
    let told = host.qemu_persist(&["status"]).out;
    assert!(told.contains("  handler      qemu-aarch64, no flags\n"), "{told}");
}

#[test]
fn a_handler_whose_name_is_no_text_is_seen_too() {
    let host = sandbox!();
    good(&host);
    let shadow = rule("NAME", QEMU, "O").replace('\\', "\\\\").replace("NAME", "a\\377");
    host.sh(&format!("printf '{shadow}' > {TABLE}/register"));
    let status = host.status();
    assert!(status.code == 2 && status.ids().contains(&"shadowed"), "{}", status.describe());
    host.apply(&[], 0);
    assert_eq!(host.status().json["platforms"][0]["handler"]["entry"], "qemu-aarch64");
}

#[test]
fn an_interpreter_that_the_configuration_names_and_is_not_there_is_told_with_its_path() {
    let host = sandbox!();
    host.write("/etc/qemu-persist/config.toml", &handler_config("/opt/gone"));
    let report = host.apply(&[], 2);
    let (message, advice) = (report["unmet"][0]["message"].as_str(), report["unmet"][0]["advice"].as_str());
    assert!(message.is_some_and(|text| text.starts_with("/opt/gone: ")), "{report:#}");
    assert!(advice.is_some_and(|text| text.contains("config show") && !text.contains("apt-get")), "{report:#}");
}

#[test]
fn advice_about_a_path_with_a_blank_can_be_pasted() {
    let host = sandbox!();
    host.write("/etc/qemu-persist/config.toml", &handler_config("/opt/my qemu/arm64"));
    host.sh(&format!("mkdir '/opt/my qemu' && cp {QEMU} '/opt/my qemu/arm64' && chmod 777 '/opt/my qemu'"));
    for command in host.status().commands("interpreter-writable") {
        host.sh(&command);
    }
    assert_eq!(host.status().ids(), Vec::<&str>::new());
    assert_eq!(host.run_foreign().code, 0);
}

/// systemd-binfmt itself registers at boot what status says that it will.
#[test]
fn systemd_reads_the_fragments_as_it_is_said_here() {
    let host = sandbox!();
    let program = "/usr/lib/systemd/systemd-binfmt";
    if !std::path::Path::new(program).exists() {
        return skip("systemd-binfmt is not installed");
    }
    host.install(program);
    let good = rule("qemu-aarch64", QEMU_P, "OPF");
    host.write("/opt/elsewhere.conf", &good);
    for (make, registers) in [
        ("true", true),
        ("ln -s /dev/null qemu-aarch64.conf", false),
        ("ln -s ../../dev/null qemu-aarch64.conf", false),
        ("ln -s /nowhere/at/all qemu-aarch64.conf", false),
        ("touch qemu-aarch64.conf", false),
        ("ln -s /opt/elsewhere.conf qemu-aarch64.conf", true),
        ("ln -s /opt/elsewhere.conf other.conf; ln -s /dev/null qemu-aarch64.conf", true),
        ("mkdir qemu-aarch64.conf.d; touch qemu-aarch64.conf~", true),
    ] {
        host.sh(&format!("rm -rf /etc/binfmt.d; mkdir /etc/binfmt.d; cd /etc/binfmt.d; {make}"));
        host.run(program, &[]);
        assert_eq!(host.entries().len(), usize::from(registers), "{make}");
        let status = host.status();
        assert_eq!(status.json["platforms"][0]["at_boot"]["good"] == true, registers, "{make}: {}", status.describe());
    }
}

#[test]
fn a_name_that_is_taken_is_left_to_its_holder() {
    let host = sandbox!();
    let other = rule("qemu-aarch64", QEMU, "F").replace(r"\xb7", r"\xb8");
    host.register(&other);
    let held = host.entry("qemu-aarch64");
    assert_eq!(host.status().ids(), ["not-registered", "name-taken"]);
    host.apply(&[], 0);
    assert_eq!(host.entries(), ["persist-aarch64", "qemu-aarch64"]);
    assert_eq!(host.entry("qemu-aarch64"), held);
    assert_eq!(host.run_foreign().code, 0);
    assert_eq!(host.apply(&[], 0)["changed"], false);
    assert_eq!(host.status().ids(), ["unproven"]);
    assert_eq!(host.status().finding("name-taken")["severity"], "note");
    host.qemu_persist(&["remove"]);
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    assert_eq!(host.entry("qemu-aarch64"), held);
}

#[test]
fn the_advice_for_a_taken_name_mends_it() {
    let host = sandbox!();
    host.register(&rule("qemu-aarch64", QEMU, "F").replace(r"\xb7", r"\xb8"));
    host.sh(&host.status().commands("name-taken").join("; "));
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    assert_eq!(host.status().ids(), ["unproven"]);
}
