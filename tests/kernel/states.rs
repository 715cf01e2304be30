// SPDX-License-Identifier: MIT OR Apache-2.0
//! The states, one in a row: what makes it, what finds it, and what mends it.

use crate::good;
use crate::sandbox::{QEMU, QEMU_P, Sandbox, TABLE, rule};

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
    another_interpreter: "other-interpreter", 1, Advice, |host| {
        good(host);
        host.sh(&format!("mkdir -p /usr/local/bin; cp {QEMU} /usr/local/bin/qemu-aarch64"));
        host.write("/etc/qemu-persist/config.toml.d/50.toml", "interpreters.arm64 = \"/usr/local/bin/qemu-aarch64\"\n");
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

fn database_file() -> String {
    let rule = rule("qemu-aarch64", QEMU_P, "PF");
    let fields: Vec<_> = rule.split(':').collect();
    format!("qemu-user-static\nmagic\n0\n{}\n{}\n{}\n\nno\nyes\nyes\n", fields[4], fields[5], fields[6])
}
