// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of exit codes: each is made, and nothing else is claimed.

use crate::sandbox::{QEMU, Sandbox, TABLE};
use crate::{README, good, run, spans, table};

/// An exit code, a state, what makes it, and the verbs that are claimed to end with that code in it.
type Row = (i32, &'static str, fn(&Sandbox), &'static [&'static str]);

const CODES: &[Row] = &[
    (0, "good and proven", proven, &["status", "selftest", "apply", "apply --check"]),
    (0, "good and proven, taken back", proven, &["remove"]),
    (1, "not proven", good, &["status"]),
    (
        1,
        "a dead service",
        |host| {
            proven(host);
            host.install_unit(qemu_persist::service::UNIT);
        },
        &["status"],
    ),
    (
        1,
        "a proof that cannot be recorded",
        |host| {
            good(host);
            host.sh("mount --bind /var/lib /var/lib; mount -o remount,bind,ro /var/lib");
        },
        &["selftest"],
    ),
    (1, "nothing registered", |_| {}, &["apply --check"]),
    (1, "something to take back", good, &["remove --check"]),
    (2, "no handler", |_| {}, &["status", "selftest"]),
    (2, "no QEMU", |host| _ = host.sh(&format!("rm {QEMU}")), &["apply", "apply --check"]),
    (
        2,
        "a step that fails",
        |host| {
            good(host);
            host.sh("mount --bind /var/lib /var/lib; mount -o remount,bind,ro /var/lib");
        },
        &["remove"],
    ),
    (3, "no table in sight", |host| _ = host.sh(&format!("umount {TABLE}")), &["status"]),
    (3, "an engine that is not there", good, &["selftest --runtime docker"]),
    (64, "", |_| {}, &["status --nonsense", "apply --platform linux/s390x"]),
    (
        78,
        "a broken configuration",
        |host| {
            host.write("/etc/qemu-persist/config.toml", "nonsense = 1\n");
        },
        &["apply", "apply --check", "selftest"],
    ),
];

fn proven(host: &Sandbox) {
    good(host);
    assert_eq!(host.qemu_persist(&["selftest"]).code, 0);
}

#[test]
fn the_exit_codes_are_those_of_the_table() {
    let rows = table("| exit code |");
    let heads = ["`status`, `selftest`", "`apply`, `remove`", "`apply --check`"];
    assert!(README.contains(&format!("| exit code | {} |", heads.join(" | "))));
    for (code, state, make, commands) in CODES {
        for command in *commands {
            let host = crate::sandbox!();
            make(&host);
            let ran = run(&host, command, *code);
            if *code == 78 {
                let told = run(&host, &format!("{command} --json"), *code).out;
                let told: serde_json::Value = serde_json::from_str(&told).unwrap();
                assert!(told["error"].is_string() && told["schema"] == 1 && told["exit_code"] == 78, "{told:#}");
            }
            // What the table has a text for is shown above, and what it has none for is not there.
            let verb = if command.contains("apply --check") { *command } else { command.split(' ').next().unwrap() };
            let column = heads.iter().position(|head| spans(head).iter().any(|span| span == verb));
            let row = rows.iter().find(|row| row[0] == code.to_string());
            if let (Some(row), Some(column), true) = (row, column, !command.contains("remove --check")) {
                assert!(!row[column + 1].is_empty(), "{state}: {command} ends with {code}: {ran:?}");
            }
        }
    }
    for row in rows {
        for (text, head) in row[1..].iter().zip(heads).filter(|(text, _)| !text.is_empty()) {
            for verb in spans(head) {
                let shown = CODES.iter().any(|(code, _, _, commands)| {
                    code.to_string() == row[0]
                        && commands.iter().any(|command| command.split(" --runtime").next() == Some(verb.as_str()))
                });
                assert!(shown, "{verb}, {}: {text}", row[0]);
            }
        }
    }
}

#[test]
fn without_root_the_exit_code_is_77() {
    let host = crate::sandbox!();
    let Some(ran) = host.qemu_persist_as_user(&["apply", "--json"]) else {
        return crate::sandbox::skip("the tests are not run by root, so there is nobody else in the sandbox");
    };
    assert_eq!(ran.code, 77, "{ran:?}");
}
