// SPDX-License-Identifier: MIT OR Apache-2.0
//! What reaches the journal: native fields, as systemd-journald(8) takes them on its socket.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use crate::daemon::{Daemon, FRAGMENT, Intended, Mailbox, NAME, PATIENCE, STAND_IN, Shell, table, wait_for};
use crate::mending::captor;
use crate::sandbox::{QEMU_P, Sandbox, TABLE, rule};
use qemu_persist::messages;

/// The fields of a message: `NAME=value`, or for a value of several lines the name, its length in
/// eight bytes, and the value (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
fn fields(mut message: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = BTreeMap::new();
    while !message.is_empty() {
        let end = message.iter().position(|b| *b == b'\n').expect("a line");
        let (line, rest) = (&message[..end], &message[end + 1..]);
        if let Some(at) = line.iter().position(|b| *b == b'=') {
            fields.insert(text(&line[..at]), text(&line[at + 1..]));
            message = rest;
        } else {
            let length = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
            fields.insert(text(line), text(&rest[8..8 + length]));
            message = &rest[8 + length + 1..];
        }
    }
    fields
}

fn native_fields(host: &Sandbox) {
    host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf; mkdir -p /run/systemd/journal");
    let journald = Mailbox::new(host);
    host.sh(&format!("ln -s {} /run/systemd/journal/socket", journald.path));
    let log = OpenOptions::new().create(true).append(true).open(host.directory().join("log")).unwrap();
    let log = log.metadata().unwrap();
    let stream = format!("{}:{}", log.dev(), log.ino());
    let mut shell = Shell::new(host);
    let mut daemon = Daemon::spawn(host, &[("JOURNAL_STREAM", &stream)]);
    daemon.expect("READY=1");
    wait_for("its own name", PATIENCE, || Intended::now(host));
    shell.register(&captor());
    let find = |id: &str, wanted: &[(&str, &str)]| {
        let has = |f: &BTreeMap<String, String>| wanted.iter().all(|(k, v)| f.get(*k).is_some_and(|value| value == v));
        wait_for(&format!("{id} {wanted:?}"), PATIENCE, || {
            let all: Vec<_> = journald.received().iter().map(|message| fields(message)).collect();
            all.iter()
                .find(|f| f.get("MESSAGE_ID").is_some_and(|of| of == id) && has(f))
                .cloned()
                .ok_or(format!("{all:#?}"))
        })
    };
    let captured =
        find(messages::CAPTURED, &[("HANDLER", "captor"), ("ACTION", "disable_capturing"), ("PRIORITY", "3")]);
    assert!(captured["MESSAGE"].contains("EMERGENCY") && captured["BEFORE"].contains(":captor:M:"), "{captured:#?}");
    assert_eq!(captured["AFTER"], "disabled");

    let looked = find(messages::LOOKED, &[]);
    assert!(looked["MESSAGE"].starts_with("watching: "), "{looked:#?}");
    let changed = find(messages::CHANGED, &[("HANDLER", STAND_IN), ("ACTION", "register")]);
    for (field, value) in [("PLATFORM", "linux/arm64"), ("SYSLOG_IDENTIFIER", "qemu-persistd"), ("PRIORITY", "5")] {
        assert_eq!(changed.get(field).map(String::as_str), Some(value), "{field} of {changed:#?}");
    }
    assert!(changed["AFTER"].starts_with(":persist-aarch64:M:"), "{changed:#?}");
    assert!(changed["WHY"].contains("no handler is registered"), "{changed:#?}");
    find(messages::CHANGED, &[("HANDLER", NAME), ("ACTION", "register")]);
    find(messages::CHANGED, &[("HANDLER", FRAGMENT), ("ACTION", "write_fragment")]);
    let found = find(messages::FINDING, &[("FINDING", "proof-pending"), ("PLATFORM", "linux/arm64")]);
    assert!(found["ADVICE"].contains("--wait"), "{found:#?}");

    host.write("/etc/qemu-persist/config.toml.d/few.toml", "[service]\nback_off_after = 1\n");
    let before = journald.received().len();
    for _ in 0..3 {
        shell.run(&format!("echo -1 > {TABLE}/status"));
        std::thread::sleep(Duration::from_millis(100));
    }
    find(messages::BACKED_OFF, &[("PLATFORM", "linux/arm64")]);
    assert!(journald.received().len() > before);
    host.write("/etc/qemu-persist/config.toml.d/few.toml", "nonsense\n");
    find(messages::CONFIG_REJECTED, &[("PRIORITY", "3")]);
    // The journal's client sends an empty one to see whether anybody listens.
    for message in journald.received().iter().filter(|message| !message.is_empty()) {
        let fields = fields(message);
        assert!(fields.contains_key("MESSAGE_ID"), "{fields:#?}");
    }
    assert_eq!(daemon.log(), "", "nothing goes to standard error besides");
}

/// A restart of systemd-binfmt flushes twice, and registers what a file says.
fn one_record_for_each_handler(host: &Sandbox) {
    let daemon = Daemon::start(host);
    wait_for("its own name", PATIENCE, || Intended::now(host));
    std::thread::sleep(Duration::from_millis(1500));
    let mut shell = Shell::new(host);
    let before = daemon.log().len();
    let records = || daemon.log()[before..].lines().map(str::to_owned).collect::<Vec<_>>();
    let stands_in = || match &table(host)?[..] {
        [one] if one.name == STAND_IN => Ok(()),
        other => Err(format!("{other:?}")),
    };
    for _ in 0..3 {
        let repairs = daemon.state().repairs;
        shell.run(&format!("echo -1 > {TABLE}/status"));
        wait_for("a stand-in", PATIENCE, stands_in);
        // Flushed before the service has seen that it is there, it would be told as what somebody else has undone.
        wait_for("it is counted", PATIENCE, || match daemon.state().repairs {
            now if now > repairs => Ok(()),
            now => Err(format!("{now} repairs")),
        });
    }
    shell.register(&rule(NAME, QEMU_P, "OPF"));
    wait_for("the stand-in goes", PATIENCE, || Intended::now(host));
    std::thread::sleep(Duration::from_millis(1500));
    let records = records();
    assert!(records.len() == 1 && records[0].contains("register persist-aarch64: no handler"), "{records:#?}");
    assert!(daemon.state().repairs >= 4, "each of them is counted: {:?}", daemon.state());
}

together! { the_journal_gets_native_fields: native_fields, one_record_for_each_handler }
