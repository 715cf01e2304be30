// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every state of the kernel's table and of the files beside it, on a real binfmt_misc: each is
//! found under its own id, with the right exit code, and advice that mends it when it is followed.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod sandbox;

use sandbox::{QEMU, QEMU_P, Sandbox, Status, TABLE, rule};

/// A state: what makes it, what finds it, and what mends it.
struct State {
    /// Makes it, on a host with nothing registered.
    make: fn(&Sandbox),
    /// The id of its finding.
    id: &'static str,
    /// The exit code of `status`.
    code: i32,
    /// What mends it.
    cure: Cure,
}

/// What mends a state.
enum Cure {
    /// The commands in the finding's own advice, in their order.
    Advice,
    /// Those too, and only those: `apply` changes nothing unless it is asked so.
    Asked,
    /// Those too, for all that is missing is the proof: `apply` changes nothing.
    Proof,
    /// Nothing is to be mended: it is a note that asks for nothing, and `apply` changes nothing.
    Note,
}

/// The program that the advice to install QEMU calls: here it restores Debian's file.
const APT: &str = "#!/bin/sh\ncp /opt/packaged /usr/bin/qemu-aarch64-static\n";

fn check(state: &State) {
    let host = sandbox!();
    host.sh(&format!("cp {QEMU} /opt/packaged"));
    host.write("/usr/bin/apt-get", APT);
    host.sh("chmod 755 /usr/bin/apt-get");
    (state.make)(&host);
    let status = host.status();
    let finding = status.finding(state.id);
    assert_eq!(status.code, state.code, "{}", status.describe());
    assert!(!finding["message"].as_str().expect("a message").is_empty());
    if !matches!(state.cure, Cure::Advice) {
        assert_eq!(host.apply(&[], 0)["changed"], false);
    }
    let commands = status.commands(state.id);
    if matches!(state.cure, Cure::Note) {
        assert_eq!((&finding["severity"], &finding["advice"]), (&"note".into(), &"".into()));
    } else {
        assert!(!commands.is_empty(), "{finding}");
    }
    for command in commands {
        host.sh(&command);
    }
    let after = host.status();
    match state.cure {
        Cure::Proof => assert_eq!(after.ids(), Vec::<&str>::new(), "{}", after.describe()),
        _ => assert_eq!(after.ids(), ["unproven"], "{}", after.describe()),
    }
    let ran = host.run_foreign();
    assert_eq!((ran.code, ran.out.as_str()), (0, "qemu-persist-probe 1 aarch64 nonce\n"), "{}", ran.err);
}

macro_rules! states {
    ($($name:ident: $id:literal, $code:literal, $cure:ident, $make:expr;)*) => {
        $(#[test]
        fn $name() {
            check(&State { make: $make, id: $id, code: $code, cure: Cure::$cure });
        })*
    };
}

fn good(host: &Sandbox) {
    host.register(&rule("qemu-aarch64", QEMU_P, "OPF"));
}

states! {
    nothing_registered: "not-registered", 2, Advice, |_| {};
    adopted_from_the_distribution: "unproven", 1, Proof, good;
    adopted_under_another_name: "unproven", 1, Proof, |host| host.register(&rule("their-arm64", QEMU, "F"));
    disabled: "disabled", 2, Advice, |host| {
        good(host);
        host.sh(&format!("echo 0 > {TABLE}/qemu-aarch64"));
    };
    globally_off: "globally-off", 2, Advice, |host| {
        good(host);
        host.sh(&format!("echo 0 > {TABLE}/status"));
    };
    globally_off_and_empty: "globally-off", 2, Advice, |host| { host.sh(&format!("echo 0 > {TABLE}/status")); };
    shadowed: "shadowed", 2, Advice, |host| {
        good(host);
        host.register(&rule("newer", QEMU, "O"));
    };
    wrong_flags: "wrong-flags", 2, Advice, |host| host.register(&rule("qemu-aarch64", QEMU_P, "OF"));
    no_fix_binary: "no-fix-binary", 2, Advice, |host| host.register(&rule("qemu-aarch64", QEMU_P, "OP"));
    interpreter_missing: "interpreter-missing", 2, Advice, |host| {
        host.register(&rule("qemu-aarch64", "/usr/bin/qemu-aarch64-gone", "O"));
    };
    interpreter_missing_and_no_other: "interpreter-missing", 2, Advice, |host| {
        host.register(&rule("qemu-aarch64", QEMU, "O"));
        host.sh(&format!("rm {QEMU}"));
    };
    interpreter_deleted: "interpreter-deleted", 1, Advice, |host| {
        host.sh(&format!("cp {QEMU} /usr/bin/qemu-aarch64-old"));
        host.register(&rule("qemu-aarch64", "/usr/bin/qemu-aarch64-old", "OF"));
        host.sh("rm /usr/bin/qemu-aarch64-old");
    };
    interpreter_stale: "interpreter-stale", 1, Advice, |host| {
        host.apply(&[], 0);
        host.sh(&format!("cp {QEMU} {QEMU}.new && mv {QEMU}.new {QEMU}"));
    };
    interpreter_dynamic: "interpreter-dynamic", 2, Advice, |host| {
        host.sh("cp /usr/bin/qemu-persist /usr/bin/qemu-aarch64");
        host.register(&rule("qemu-aarch64", "/usr/bin/qemu-aarch64", "OF"));
    };
    interpreter_for_another_host: "interpreter-wrong-machine", 2, Advice, |host| {
        host.register(&rule("qemu-aarch64", "/opt/foreign", "OF"));
    };
    interpreter_for_another_platform: "interpreter-wrong-machine", 2, Advice, |host| {
        host.register(&rule("qemu-aarch64", "/usr/bin/qemu-arm-static", "OF"));
    };
    interpreter_that_is_a_script: "interpreter-wrong-machine", 2, Advice, |host| {
        host.register(&rule("qemu-aarch64", "/usr/bin/apt-get", "OF"));
    };
    interpreter_world_writable: "interpreter-writable", 2, Advice, |host| {
        good(host);
        host.sh(&format!("chmod 777 {QEMU}"));
    };
    directory_world_writable: "interpreter-writable", 2, Advice, |host| {
        good(host);
        host.sh("chmod 777 /usr/bin");
    };
    link_in_a_world_writable_directory: "interpreter-writable", 2, Advice, |host| {
        host.sh("mkdir -m 755 /srv && ln -s /usr/bin/qemu-aarch64-static /srv/qemu-aarch64 && chmod 777 /srv");
        host.register(&rule("qemu-aarch64", "/srv/qemu-aarch64", "OF"));
    };
    foreign_credentials: "credentials-flag", 1, Asked, |host| host.register(&rule("qemu-aarch64", QEMU_P, "OCPF"));
    a_second_one_behind: "duplicate", 1, Note, |host| {
        host.register(&rule("older", "/usr/bin/gone", "O"));
        good(host);
    };
    a_second_one_in_front: "shadowed", 2, Advice, |host| {
        good(host);
        host.register(&rule("newer", "/usr/bin/gone", "O"));
    };
    no_table_in_the_namespace: "masked-namespace", 3, Advice, |host| { host.sh(&format!("umount {TABLE}")); };
    read_only_table: "read-only", 2, Advice, |host| { host.sh(&format!("mount -o remount,ro {TABLE}")); };
    read_only_proc_sys: "proc-read-only", 3, Advice, |host| {
        host.sh(&format!("umount {TABLE}; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"));
    };
    fragment_masked: "fragment-masked", 1, Advice, |host| {
        good(host);
        host.sh("mkdir -p /etc/binfmt.d; ln -s /dev/null /etc/binfmt.d/qemu-aarch64.conf");
    };
    fragment_that_leads_nowhere: "fragment-masked", 1, Advice, |host| {
        good(host);
        host.sh("mkdir -p /etc/binfmt.d; ln -s /nowhere/at/all /etc/binfmt.d/qemu-aarch64.conf");
    };
    fragment_with_comments_only: "fragment-empty", 1, Advice, |host| {
        good(host);
        host.write("/etc/binfmt.d/qemu-aarch64.conf", "# nothing\n; here\n");
    };
    fragment_broken: "fragment-broken", 1, Advice, |host| {
        good(host);
        host.write("/etc/binfmt.d/qemu-aarch64.conf", ":qemu-aarch64:M:nonsense\n");
    };
    fragment_of_the_administrator_no_good: "fragment-administrator", 1, Advice, |host| {
        good(host);
        host.write("/etc/binfmt.d/qemu-aarch64.conf", &rule("qemu-aarch64", "/usr/bin/gone", "O"));
    };
    fragment_of_the_administrator_good: "fragment-administrator", 1, Note, |host| {
        host.write("/etc/binfmt.d/qemu-aarch64.conf", &rule("qemu-aarch64", QEMU, "F"));
        host.register(&rule("qemu-aarch64", QEMU, "F"));
    };
    no_fragment: "not-persistent", 1, Advice, |host| {
        good(host);
        host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
    };
    fragment_that_a_later_one_of_a_package_beats: "not-persistent", 1, Asked, |host| {
        good(host);
        // systemd's package has the directory.
        host.sh("mkdir /etc/binfmt.d");
        host.write("/usr/lib/binfmt.d/zz-other.conf", &rule("zz-other", "/usr/bin/box64", ""));
    };
    fragment_that_a_later_one_of_the_administrator_beats: "not-persistent", 1, Asked, |host| {
        good(host);
        host.write("/etc/binfmt.d/zz-other.conf", &rule("zz-other", "/usr/bin/gone", ""));
    };
    fragment_that_binfmt_support_beats: "not-persistent", 1, Asked, |host| {
        good(host);
        let remove = "#!/bin/sh\ntest \"$*\" = '--remove zz-other /usr/bin/gone' && rm /var/lib/binfmts/zz-other\n";
        host.write("/usr/sbin/update-binfmts", remove);
        host.sh("chmod 755 /usr/sbin/update-binfmts");
        host.write("/var/lib/binfmts/zz-other", &database_file().replace(QEMU_P, "/usr/bin/gone"));
    };
    another_translator: "other-translator", 2, Advice, |host| {
        host.sh("cp /usr/bin/qemu-persist /usr/bin/box64");
        host.register(&rule("box64", "/usr/bin/box64", ""));
    };
    disabled_by_binfmt_support: "binfmt-support-disabled", 2, Advice, |host| {
        // The program re-registers what its database holds, under names that are free.
        let enable = format!("#!/bin/sh\ncat /opt/database-rule > {TABLE}/register\n");
        host.write("/usr/sbin/update-binfmts", &enable);
        host.sh("chmod 755 /usr/sbin/update-binfmts");
        host.write("/opt/database-rule", &rule("qemu-aarch64", QEMU_P, "PF"));
        host.write("/var/lib/binfmts/qemu-aarch64", &database_file());
    };
    no_qemu_at_all: "no-qemu", 2, Advice, |host| { host.sh(&format!("rm {QEMU}")); };
}

fn own_machine() -> &'static str {
    if cfg!(target_arch = "aarch64") { r"\xb7" } else { r"\x3e" }
}

/// A configuration that wants no platform, but a handler of its own for arm64.
fn handler_config(interpreter: &str) -> String {
    let rule = rule("qemu-aarch64", interpreter, "OF");
    let fields: Vec<_> = rule.split(':').collect();
    format!(
        "platforms = []\n[[handler]]\nname = '{}'\nmagic = '{}'\nmask = '{}'\ninterpreter = '{}'\nflags = '{}'\n",
        fields[1], fields[4], fields[5], fields[6], fields[7]
    )
}

fn database_file() -> String {
    let rule = rule("qemu-aarch64", QEMU_P, "PF");
    let fields: Vec<_> = rule.split(':').collect();
    format!("qemu-user-static\nmagic\n0\n{}\n{}\n{}\n\nno\nyes\nyes\n", fields[4], fields[5], fields[6])
}

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
        return sandbox::skip("the tests are not run by root, so there is nobody else in the sandbox");
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
        return sandbox::skip("systemd-binfmt is not installed");
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

/// The actions of the changes that a verb with `--json` tells.
fn actions(told: &serde_json::Value) -> Vec<&str> {
    told["changes"].as_array().expect("changes").iter().filter_map(|change| change["action"].as_str()).collect()
}

/// What was written, without the ends of lines.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn json(ran: &sandbox::Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
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

#[test]
fn programs_start_at_every_moment_of_an_exchange() {
    let host = sandbox!();
    host.apply(&[], 0);
    // Every round makes the interpreter stale, so that the entry is exchanged under load.
    let rounds = format!(
        "for i in $(seq 25); do cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}; qemu-persist apply >/dev/null; done;          touch /tmp/done"
    );
    let mut exchanges = host.start("/bin/sh", &["-ec", &rounds]);
    let starts = "bad=0; ran=0
        while test $ran -lt 300 || ! test -e /tmp/done; do
            for i in 1 2 3 4; do { /opt/foreign x </dev/null >/dev/null 2>&1 || touch /tmp/failed; } & done
            wait; ran=$((ran+4))
        done
        echo $ran; ! test -e /tmp/failed";
    let ran = host.run("/bin/sh", &["-c", starts]);
    assert!(exchanges.wait().expect("an end").success());
    assert_eq!(ran.code, 0, "a start failed: {ran:?}");
    assert!(ran.out.trim().parse::<u32>().expect("a number") >= 300);
    assert_eq!(host.status().ids(), ["unproven"]);
}

#[test]
fn killed_at_any_moment_it_leaves_programs_running() {
    let host = sandbox!();
    host.apply(&[], 0);
    for round in 0..40 {
        host.sh(&format!("cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}"));
        let pause = f64::from(round) * 0.0004;
        host.sh(&format!("qemu-persist apply >/dev/null & sleep {pause}; kill -9 $! 2>/dev/null || true; wait"));
        assert_eq!(host.run_foreign().code, 0, "round {round}: {:?}", host.entries());
    }
    host.apply(&[], 0);
    assert_eq!(host.entries(), ["qemu-aarch64"], "stand-ins are cleared");
    assert_eq!(host.status().ids(), ["unproven"]);
}

#[test]
fn an_exchange_that_was_cut_short_is_finished() {
    let host = sandbox!();
    host.apply(&[], 0);
    // As it is when the stand-in is registered and the old entry not yet removed.
    host.register(&rule("persist-aarch64", QEMU_P, "OPF"));
    host.apply(&[], 0);
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    // And when the old entry is removed and the new one not yet registered.
    host.register(&rule("persist-aarch64", QEMU_P, "OPF"));
    host.sh(&format!("echo -1 > {TABLE}/qemu-aarch64"));
    host.apply(&[], 0);
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    assert_eq!(host.apply(&[], 0)["changed"], false);
    assert_eq!(host.run_foreign().code, 0);
    // And when that happened twice, so that a second stand-in is what runs programs now.
    for first in [true, false] {
        if first {
            host.register(&rule("persist-aarch64", QEMU_P, "OPF"));
        }
        host.register(&rule("persist-aarch64-next", QEMU_P, "OPF"));
        for held in [true, false] {
            if !held {
                host.sh(&format!("echo -1 > {TABLE}/qemu-aarch64"));
            }
            host.apply(&[], 0);
            assert_eq!(host.entries(), ["qemu-aarch64"], "{first} {held}");
            assert_eq!(host.apply(&[], 0)["changed"], false);
            host.register(&rule("persist-aarch64-next", QEMU_P, "OPF"));
        }
        host.apply(&[], 0);
    }
}

#[test]
fn of_two_runs_at_once_one_waits() {
    let host = sandbox!();
    let both = "for i in 1 2 3 4 5 6; do qemu-persist apply --json > /tmp/$i & done; wait; cat /tmp/1 /tmp/2 /tmp/3 /tmp/4 /tmp/5 /tmp/6";
    let out = host.sh(both);
    assert_eq!(out.matches("\"changed\": true").count(), 1, "{out}");
    assert_eq!(out.matches("\"exit_code\": 0").count(), 6, "{out}");
}

#[test]
fn what_is_no_file_is_no_lock_and_holds_nobody() {
    let host = sandbox!();
    host.sh("mkdir -p /run/qemu-persist; busybox mkfifo /run/qemu-persist/lock");
    let ran = host.run("/bin/busybox", &["timeout", "10", "/usr/bin/qemu-persist", "apply"]);
    assert!(ran.code == 2 && ran.err.contains("/run/qemu-persist/lock"), "{ran:?}");
}

#[test]
fn a_full_disk_leaves_what_worked() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf; mkdir -p /etc/binfmt.d");
    host.sh("mount -t tmpfs -o size=4k,mode=755 full /etc/binfmt.d; cat /usr/bin/qemu-persist > /etc/binfmt.d/x 2>/dev/null || true");
    let report = host.apply(&[], 2);
    assert_eq!(report["failed"][0]["action"], "write_fragment", "{report:#}");
    // Nothing of the temporary file, whose name is nobody's concern.
    assert_eq!(report["failed"][0]["error"], "the disk is full (No space left on device (os error 28))");
    assert_eq!(host.sh("ls -A /etc/binfmt.d"), "x\n", "no half-written file");
    assert_eq!(host.run_foreign().code, 0, "the kernel's part is done all the same");
}

#[test]
fn without_room_for_the_record_it_works_and_that_is_told() {
    let host = sandbox!();
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf; mkdir -p /run/qemu-persist");
    host.sh("mount -t tmpfs -o size=4k,mode=755 full /run/qemu-persist; touch /run/qemu-persist/lock");
    host.sh("cat /usr/bin/qemu-persist > /run/qemu-persist/x 2>/dev/null || true");
    let report = host.apply(&[], 0);
    let finding = &report["findings"][0];
    assert_eq!((&finding["id"], &finding["severity"]), (&"registration-not-recorded".into(), &"warning".into()));
    let message = finding["message"].as_str().expect("a message");
    assert!(message.starts_with("/run/qemu-persist/registrations.json: the disk is full (No space left"), "{message}");
    assert_eq!(host.run_foreign().code, 0);
    // What is registered is known again by the fragment, so that it can be taken back.
    assert_eq!(host.status().json["platforms"][0]["handler"]["origin"]["kind"], "ours");
    host.sh(&format!("echo -1 > {TABLE}/qemu-aarch64"));
    let told = host.qemu_persist(&["apply"]);
    assert!(told.code == 0 && told.out.contains("[registration-not-recorded]"), "{told:?}");
    // As the advice says.
    host.sh("rm /run/qemu-persist/x");
    assert_eq!(host.status().json["platforms"][0]["handler"]["interpreter_on_disk"], "unknown");
    assert_eq!(host.qemu_persist(&["selftest"]).code, 0);
    assert_eq!(host.status().json["platforms"][0]["handler"]["interpreter_on_disk"], "current");
    assert_eq!(host.status().ids(), Vec::<&str>::new());
    assert_eq!(host.qemu_persist(&["remove"]).code, 0);
    assert_eq!(host.entries(), Vec::<String>::new());
}

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
        return sandbox::skip("the tests are not run by root, so there is nobody else in the sandbox");
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
        return sandbox::skip("needs root, to unmount it in a mount namespace of the test's own");
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
