// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test in its own container, and with engines that misbehave.

mod sandbox;

use std::time::{Duration, Instant};

use sandbox::{QEMU, QEMU_P, Ran, Sandbox, TABLE, rule};
use serde_json::Value;

fn selftest(host: &Sandbox, arguments: &[&str]) -> (i32, Value) {
    let ran = host.qemu_persist(&[&["selftest", "--json"], arguments].concat());
    let json = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    (ran.code, json)
}

/// Runs it builtin, which has to end with `code`; gives the result.
fn builtin(host: &Sandbox, code: i32) -> Value {
    let (ended, json) = selftest(host, &["--runtime", "builtin"]);
    assert_eq!((ended, &json["exit_code"], &json["schema"]), (code, &code.into(), &1.into()), "{json:#}");
    json["platforms"][0]["results"][0].clone()
}

fn debian() -> String {
    rule("qemu-aarch64", QEMU_P, "OPF")
}

#[test]
fn what_is_applied_is_proven_and_status_believes_it() {
    let host = sandbox!();
    host.apply(&[], 0);
    assert_eq!(host.status().ids(), ["unproven"]);
    let result = builtin(&host, 0);
    assert_eq!((&result["verdict"], &result["machine"]), (&"pass".into(), &"aarch64".into()), "{result:#}");
    assert_eq!(result["interpreter"]["path"], QEMU);
    assert!(result["interpreter"]["identity"]["build_id"].is_string(), "{result:#}");
    let status = host.status();
    assert_eq!((status.code, status.ids()), (0, vec![]), "{}", status.describe());
    // A failure replaces it, also where the handler is good again afterwards.
    host.sh(&format!("echo 0 >{TABLE}/status"));
    assert_eq!(builtin(&host, 2)["verdict"], "fail");
    host.sh(&format!("echo 1 >{TABLE}/status"));
    assert_ne!(host.status().code, 0);
    builtin(&host, 0);
    assert_eq!(host.status().code, 0);
}

#[test]
fn the_package_is_told_of_the_file_that_ran_and_is_still_there() {
    let host = sandbox!();
    host.write("/var/lib/dpkg/info/qemu-user-static.list", &format!("{QEMU}\n"));
    let status = "Package: qemu-user-static\nStatus: install ok installed\nVersion: 1:7.2\n";
    host.write("/var/lib/dpkg/status", status);
    host.apply(&[], 0);
    let result = builtin(&host, 0);
    let expected = serde_json::json!({"name": "qemu-user-static", "version": "1:7.2"});
    assert_eq!(result["package"], expected, "{result:#}");
    let text = host.qemu_persist(&["selftest", "--runtime", "builtin", "--depth", "full"]).out;
    assert!(text.contains("    identity       qemu-user-static 1:7.2; the file on disk\n"), "{text}");
    host.sh(&format!("cp {QEMU} {QEMU}.new; mv {QEMU}.new {QEMU}"));
    let result = builtin(&host, 2);
    assert_eq!((&result["package"], &result["interpreter"]["deleted"]), (&Value::Null, &true.into()), "{result:#}");
}

#[test]
fn programs_below_a_folder_are_tried_one_by_one() {
    let host = sandbox!();
    host.apply(&[], 0);
    host.sh("mkdir -p /srv/root/usr/bin /srv/root/bin /srv/root/dev /srv/none /srv/own/bin
        cp /opt/foreign /srv/root/usr/bin/curl; ln -s /usr/bin/curl /srv/root/bin/openssl
        printf '\\177ELF' >/srv/root/bin/tar; chmod 755 /srv/root/bin/tar
        cp /usr/bin/qemu-persist /srv/own/bin/git; cp /usr/bin/qemu-persist /srv/root/bin/git");
    let (code, json) = selftest(&host, &["--programs", "/srv/root"]);
    let result = &json["platforms"][0]["results"][0];
    let programs = result["programs"].as_array().expect("programs");
    let told: Vec<_> = programs
        .iter()
        .filter(|program| program["found"] != "absent")
        .map(|program| {
            format!("{} {} {}", program["program"], program["found"], program["interpreter"]["path"]).replace('"', "")
        })
        .collect();
    let works = |name: &str| format!("{name} works {QEMU}");
    let expected = [works("openssl"), works("curl"), "git unknown null".into(), "tar broken null".into()];
    assert_eq!(told, expected, "{json:#}");
    let of = |name: &str| programs.iter().find(|program| program["program"] == name).expect("it");
    assert!(of("git")["detail"].as_str().is_some_and(|text| text.contains("it is one of linux/amd64")), "{json:#}");
    assert!(of("tar")["detail"].as_str().is_some_and(|text| text.contains("Exec format error")), "{json:#}");
    assert_eq!((code, &result["verdict"], &json["recorded"]), (1, &"limited".into(), &false.into()), "{json:#}");
    assert_eq!(json["findings"][0]["id"], "program-broken", "{json:#}");
    // Nothing is written there, and nothing left mounted.
    assert_eq!(host.sh("ls -A /srv/root/dev; grep -c /srv /proc/self/mounts || true"), "0\n");
    for (folder, expected) in [("/srv/none", "none of these programs"), ("/srv/own", "which this host runs by itself")]
    {
        let (code, json) = selftest(&host, &["--programs", folder]);
        assert_eq!((code, &json["findings"][0]["id"]), (3, &"selftest-image".into()), "{json:#}");
        assert!(json["findings"][0]["message"].as_str().is_some_and(|text| text.contains(expected)), "{json:#}");
    }
    for arguments in [&["--programs", "/srv/nothing"][..], &["--programs", "/srv/root", "--runtime", "docker"]] {
        let ran = host.qemu_persist(&[&["selftest"], arguments].concat());
        assert!(ran.code == 64 && !ran.err.is_empty(), "{ran:?}");
    }
}

#[test]
fn programs_below_a_folder_have_the_usual_devices() {
    let busybox = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cache/busybox/arm64/bin/busybox");
    if !busybox.exists() {
        return sandbox::skip("tests/run.sh has not fetched tests/cache/busybox/arm64/bin/busybox");
    }
    let host = sandbox!();
    host.apply(&[], 0);
    host.write(
        "/srv/root/bin/perl",
        "#!/bin/busybox sh\necho nothing >/dev/null && echo devices:$(busybox ls /dev | busybox tr '\\n' ,)\n",
    );
    std::fs::copy(&busybox, host.path("/srv/root/bin/busybox")).expect("a copy");
    host.sh("mkdir /srv/root/dev; touch /srv/root/dev/other; chmod 755 /srv/root/bin/perl");
    let (code, json) = selftest(&host, &["--programs", "/srv/root"]);
    let programs = json["platforms"][0]["results"][0]["programs"].as_array().expect("programs");
    let perl = programs.iter().find(|program| program["program"] == "perl").expect("it");
    assert_eq!((code, &perl["found"]), (0, &"works".into()), "{json:#}");
    // A sandbox has few of its own.
    let script = "cd /dev; for device in full null random urandom zero; do [ ! -e $device ] || echo $device; done";
    assert_eq!(perl["detail"], format!("devices:{}", host.sh(script).replace('\n', ",")), "{json:#}");
    assert_eq!(host.sh("ls /srv/root/dev"), "other\n");
}

#[test]
fn every_way_of_not_working_is_told_apart() {
    let host = sandbox!();
    let entry = format!("{TABLE}/qemu-aarch64");
    let fails = |reason: &str| {
        let result = builtin(&host, 2);
        assert_eq!(result["verdict"], "fail", "{result:#}");
        assert!(result["reason"].as_str().is_some_and(|text| text.contains(reason)), "{reason}: {result:#}");
        assert!(result["advice"].as_str().is_some_and(|text| text.contains("sudo qemu-persist apply")), "{result:#}");
        result["cause"].clone()
    };
    let anew = |rule: &str| {
        host.sh(&format!("if test -e {entry}; then echo -1 >{entry}; fi"));
        host.register(rule);
    };
    assert_eq!(fails("no handler is registered for linux/arm64"), "no-handler");
    anew(&debian());
    builtin(&host, 0);
    host.sh(&format!("echo 0 >{entry}"));
    fails("its handler qemu-aarch64 is disabled");
    host.sh(&format!("echo 1 >{entry}; echo 0 >{TABLE}/status"));
    fails("turned off as a whole");
    host.sh(&format!("echo 1 >{TABLE}/status"));
    builtin(&host, 0);
    anew(&rule("qemu-aarch64", QEMU_P, "OP"));
    assert_eq!(fails("has no F flag"), "interpreter-not-held");
    // The file is exchanged behind the handler's back.
    anew(&debian());
    host.sh(&format!("cp {QEMU} /opt/new; mv /opt/new {QEMU}"));
    fails("older file");
    anew(&debian());
    builtin(&host, 0);
    // The path leads to another file, and the kernel has the first.
    host.sh(&format!("cp {QEMU} /opt/copy; ln -s {QEMU} /opt/link"));
    anew(&rule("qemu-aarch64", "/opt/link", "OF"));
    builtin(&host, 0);
    host.sh("rm /opt/link; ln -s copy /opt/link");
    fails("another interpreter");
    host.sh("rm /opt/link");
    fails("/opt/link is not there");
    // The newest handler wins, and it is one of another architecture.
    anew(&debian());
    host.register(&rule("shadow", "/usr/bin/qemu-arm-static", "F"));
    let result = builtin(&host, 2);
    assert_eq!(result["verdict"], "fail", "{result:#}");
}

#[test]
fn what_programs_rely_on_is_looked_at_part_by_part() {
    let host = sandbox!();
    let full = |code: i32| {
        let (ended, json) = selftest(&host, &["--runtime", "builtin", "--depth", "full"]);
        assert_eq!(ended, code, "{json:#}");
        json
    };
    let found = |json: &Value, part: &str| {
        let parts = json["platforms"][0]["results"][0]["parts"].as_array().expect("parts").clone();
        let part = parts.into_iter().find(|known| known["part"] == part);
        part.map_or(String::new(), |part| part["found"].as_str().unwrap_or_default().to_owned())
    };
    host.apply(&[], 0);
    let json = full(0);
    assert_eq!(json["platforms"][0]["results"][0]["verdict"], "pass", "{json:#}");
    let works = ["isa", "exec.path", "exec.relative", "exec.argv0", "exec.script", "exec.limits", "threads.fork"];
    for part in works.into_iter().chain(["threads.signal", "threads.run", "syscalls.getrandom", "address-space"]) {
        assert_eq!(found(&json, part), "works", "{part}: {json:#}");
    }
    // There is no /proc in the container, and QEMU 7.2 does not know the call.
    assert_eq!((found(&json, "exec.self"), found(&json, "pages.fragment")), ("unknown".into(), String::new()));
    assert_eq!(host.status().code, 0);
    // Without P a program is not told the name that it was started by.
    host.sh(&format!("echo -1 >{TABLE}/qemu-aarch64"));
    host.register(&rule("qemu-aarch64", QEMU, "OF"));
    let json = full(1);
    assert_eq!((found(&json, "exec.argv0"), found(&json, "exec.path")), ("broken".into(), "works".into()));
    assert_eq!(json["platforms"][0]["results"][0]["verdict"], "limited", "{json:#}");
    assert_eq!((&json["findings"][0]["id"], &json["recorded"]), (&"part-broken".into(), &true.into()), "{json:#}");
    let status = host.status();
    assert_eq!((status.code, status.ids()), (1, vec!["part-broken"]), "{}", status.describe());
    let text = host.qemu_persist(&["selftest", "--runtime", "builtin", "--depth", "full"]).out;
    assert!(text.contains("  LIMITED ") && text.contains("    exec           BROKEN: argv0 ("), "{text}");
    assert!(text.lines().filter(|line| line.starts_with(' ')).all(|line| line.chars().count() <= 80), "{text}");
    // What a quick run does not look at is as it was.
    builtin(&host, 0);
    assert_eq!(host.status().ids(), ["part-broken"]);
    host.sh(&format!("echo -1 >{TABLE}/qemu-aarch64"));
    host.register(&debian());
    full(0);
    assert_eq!(host.status().code, 0);
}

#[test]
fn where_nothing_is_wanted_there_is_nothing_to_prove_if_one_says_so() {
    let host = sandbox!();
    host.apply(&[], 0);
    // What could not be found out stays unknown.
    assert_eq!(selftest(&host, &["--if-wanted", "--runtime", "docker"]).0, 3);
    assert_eq!(selftest(&host, &["--if-wanted", "--runtime", "builtin"]).0, 0);
    assert_eq!(host.qemu_persist(&["remove"]).code, 0);
    for (arguments, expected, severity) in [(&[][..], 3, "unknown"), (&["--if-wanted"], 0, "note")] {
        let (code, json) = selftest(&host, arguments);
        let found = &json["findings"][0];
        assert_eq!((code, &found["id"], &found["severity"]), (expected, &"selftest-nothing".into(), &severity.into()));
    }
}

#[test]
fn people_get_aligned_lines_and_wrong_usage_is_64() {
    let host = sandbox!();
    host.register(&debian());
    let ran = host.qemu_persist(&["selftest", "--runtime", "builtin"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("linux/arm64     builtin  pass    aarch64"), "{ran:?}");
    assert_eq!(ran.err, "", "progress is for terminals");
    host.sh(&format!("echo 0 >{TABLE}/status"));
    let ran = host.qemu_persist(&["selftest"]);
    assert!(ran.code == 2 && ran.out.lines().all(|line| line.chars().count() <= 80), "{ran:?}");
    for (arguments, text) in [
        (&["--platform", "linux/s390x"][..], "sudo qemu-persist enable linux/s390x"),
        (&["--platform", "vax"], "known are"),
        (&["--runtime", "lxc"], "nerdctl"),
        (&["--timeout", "0"], "0"),
        (&["--", "true"], "--image"),
    ] {
        let ran = host.qemu_persist(&[&["selftest"], arguments].concat());
        assert!(ran.code == 64 && ran.err.contains(text) && ran.out.is_empty(), "{arguments:?}: {ran:?}");
    }
    host.write("/etc/qemu-persist/config.toml", "platforms = [");
    assert_eq!(host.qemu_persist(&["selftest"]).code, 78);
}

/// Puts a `docker` into the sandbox that does what `cases` says, the arms of a shell's `case` over
/// its first argument, and writes down how it was called. Containers of this machine's own
/// platform run in it.
fn fake_docker(host: &Sandbox, cases: &str) {
    let version = r#"version) echo '{"Client":{"Version":"1"},"Server":{"Version":"2","Arch":"amd64"}}';;"#;
    let own =
        r#"run\ *--platform\ linux/amd64\ *) for nonce; do :; done; echo "qemu-persist-probe 1 x86_64 $nonce"; exit;;"#;
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>/run/calls\ncase \"$*\" in {own} esac\n\
         case \"$1\" in\n{cases}\n{version}\n*) exit 0;;\nesac\n"
    );
    host.write("/usr/bin/docker", &script);
    host.sh("chmod 755 /usr/bin/docker");
}

fn in_time(run: impl FnOnce() -> (i32, Value)) -> (i32, Value) {
    let start = Instant::now();
    let ended = run();
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
    ended
}

#[test]
fn an_engine_that_hangs_or_floods_does_not_hold_us() {
    let host = sandbox!();
    host.register(&debian());
    for cases in [
        "*) sleep 600;;",
        "*) busybox yes;;",
        "*) busybox yes | head -c 30000000; busybox yes | head -c 30000000 >&2;;",
    ] {
        fake_docker(&host, cases);
        let (code, json) = in_time(|| selftest(&host, &["--runtime", "docker", "--timeout", "1"]));
        assert_eq!((code, &json["platforms"][0]["results"][0]["verdict"]), (3, &"unknown".into()), "{cases}: {json:#}");
        // What else there is, is tested.
        let (code, json) = in_time(|| selftest(&host, &["--timeout", "2"]));
        assert_eq!((code, &json["platforms"][0]["results"][0]["runtime"]), (0, &"builtin".into()), "{cases}: {json:#}");
        assert_eq!(json["findings"][0]["id"], "engine-down");
    }
    for (cases, verdict, reason) in [
        ("load) sleep 600;;", "unknown", "did not take the test's image in time"),
        ("load) cat >/dev/null; echo 'no space left on device' >&2; exit 1;;", "unknown", "no space left"),
        ("run) sleep 600;;", "unknown", "no answer in time"),
        ("run) kill -KILL $$;;", "unknown", "killed from outside"),
        ("run) echo rubbish; cat >/dev/null;;", "unknown", "not that of this probe"),
        ("run) busybox yes;;", "unknown", "longer than an answer of the probe"),
        ("run) echo 'cgroup trouble' >&2; exit 125;;", "fail", "could not be started: cgroup trouble"),
        // An image in use cannot be removed: its container has to go first.
        ("run) sleep 600;; rm) touch /run/gone;; rmi) [ -e /run/gone ];;", "unknown", "no answer in time"),
    ] {
        fake_docker(&host, cases);
        host.sh("rm -f /run/calls /run/gone");
        let (_, json) = in_time(|| selftest(&host, &["--runtime", "docker", "--timeout", "2"]));
        let result = &json["platforms"][0]["results"][0];
        assert_eq!(result["verdict"], verdict, "{cases}: {json:#}");
        assert!(result["reason"].as_str().is_some_and(|text| text.contains(reason)), "{cases}: {json:#}");
        let calls = host.sh("cat /run/calls");
        assert!(calls.contains("rmi localhost/qemu-persist/selftest:arm64-"), "{cases}: {calls}");
        let in_use = cases.contains("rmi)");
        assert_eq!(calls.contains("rm --force qemu-persist-selftest-"), in_use, "{cases}: {calls}");
        assert_eq!(json["findings"].as_array().map(Vec::len), Some(1), "{cases}: {json:#}");
    }
}

#[test]
fn a_builder_that_hangs_or_says_what_it_should_not_is_unknown() {
    /// Begins the step, of which it knows by what it is given to build, as the real one does.
    const BEGIN: &str = r##"n=$(grep -a -o 'COPY [^/]*'); exec >&2; echo "#4 [2/2] RUN [${n##*-}""##;
    let host = sandbox!();
    host.register(&debian());
    for (begin, rest, reason) in [
        ("", "sleep 600", "did not come to the step in time"),
        ("", "busybox yes >&2", "did not come to the step in time"),
        ("", "echo 'ERROR: no space left' >&2; exit 1", "did not come to the step: ERROR: no space left"),
        ("", "exit 0", "did not come to the step"),
        (BEGIN, "echo '#4 CANCELED'; exit 1", "does not say how the step ended"),
        (BEGIN, "busybox yes '#4 0.1 y' | head -c 9000000; echo '#4 DONE 1s'", "does not say how the step ended"),
        (BEGIN, "echo '#4 0.1 aarch64'; echo '#4 DONE 1s'", "the output is not that of this probe"),
        (BEGIN, "echo '#4 DONE 1s'", "the probe wrote nothing"),
        (BEGIN, "echo '#4 ERROR: x: exit code: 137'; exit 1", "ended by signal 9"),
        (BEGIN, "sleep 600", "the step did not come to its end in time"),
    ] {
        fake_docker(&host, &format!("buildx) test $2 = build || {{ echo x 0.1; exit; }}\n{begin}\n{rest};;"));
        let (code, json) = in_time(|| selftest(&host, &["--runtime", "buildkit", "--timeout", "2"]));
        let result = &json["platforms"][0]["results"][0];
        assert_eq!((code, &result["verdict"], &json["recorded"]), (3, &"unknown".into(), &false.into()), "{json:#}");
        assert!(result["reason"].as_str().is_some_and(|text| text.contains(reason)), "{rest}: {reason}: {json:#}");
    }
    // A newer client without the plugin.
    fake_docker(&host, "buildx) exit 1;;");
    let (code, json) = selftest(&host, &["--runtime", "buildkit"]);
    let reason = json["platforms"][0]["results"][0]["reason"].as_str();
    assert!(code == 3 && reason.is_some_and(|text| text.contains("buildx is not installed")), "{json:#}");
}

#[test]
fn what_is_registered_anew_meanwhile_is_tested_again() {
    const PROOFS: &str = "/var/lib/qemu-persist/proofs.json";
    let host = sandbox!();
    host.register(&debian());
    host.write("/opt/rule", &debian());
    let entry = format!("{TABLE}/qemu-aarch64");
    let anew = format!("echo -1 >{entry}; cat /opt/rule >{TABLE}/register");
    for (times, expected) in [(0, 1), (1, 2), (100, 4)] {
        fake_docker(
            &host,
            &format!(
                "run) test $(grep -c '^run.*arm64' /run/calls) -gt {times} || {{ {anew}; }}
                 test ! -e {PROOFS} || : >/run/early; exit 125;;"
            ),
        );
        host.sh(&format!("rm -f /run/calls {PROOFS}"));
        let (code, json) = selftest(&host, &["--runtime", "docker"]);
        assert_eq!((code, json["platforms"].as_array().map(Vec::len)), (2, Some(1)), "{json:#}");
        assert_eq!(host.sh("grep -c '^run.*arm64' /run/calls").trim(), expected.to_string(), "{times}: {json:#}");
        host.sh("test ! -e /run/early");
        if times < 100 {
            let proofs: Value = serde_json::from_str(&host.sh(&format!("cat {PROOFS}"))).unwrap();
            let inode = host.sh(&format!("stat -c %i {entry}"));
            assert_eq!(proofs["linux/arm64"]["entry_inode"].to_string(), inode.trim(), "{times}: {proofs:#}");
        }
    }
}

#[test]
fn what_an_engine_says_cannot_move_the_cursor() {
    let host = sandbox!();
    host.register(&debian());
    fake_docker(&host, "run) printf 'bad\\033[2J\\033]0;title\\007 thing\\n' >&2; exit 125;;");
    let Ran { code, out, err } = host.qemu_persist(&["selftest", "--runtime", "docker"]);
    assert_eq!(code, 2, "{out}{err}");
    assert!(out.contains("\\u{1b}[2J") && !out.contains(['\u{1b}', '\u{7}']), "{out:?}");
}

#[test]
fn interrupted_it_ends_at_once_and_removes_what_it_made() {
    let host = sandbox!();
    host.register(&debian());
    fake_docker(&host, "run) echo $$ >/run/runs; sleep 600;;");
    // Of an engine that nobody waits for, as the first process here does not, the number is left, and no command line.
    let script = "qemu-persist selftest --runtime docker & pid=$!
        n=0; while ! test -s /run/runs; do sleep 0.1; n=$((n + 1)); test $n -lt 300 || exit 1; done
        kill -INT $pid; code=0; wait $pid || code=$?; echo $code
        test -z $(head -c 1 /proc/$(cat /run/runs)/cmdline 2>/dev/null) || echo the engine still runs
        grep -c ^rmi /run/calls";
    // Shells start background programs with SIGINT ignored; this one is not to be.
    host.write("/opt/interrupt", &script.replace("qemu-persist selftest", "env -i /usr/bin/qemu-persist selftest"));
    let ran = host.run("/bin/sh", &["/opt/interrupt"]);
    assert_eq!(ran.out, "130\n1\n", "{ran:?}");
}

#[test]
fn that_an_image_needs_an_engine_is_said_once() {
    let host = sandbox!();
    host.apply(&[], 0);
    host.write("/etc/qemu-persist/config.toml", "platforms = [\"linux/arm64\", \"linux/arm\"]\n");
    for runtime in [&[][..], &["--runtime", "builtin"], &["--runtime", "all"], &["--runtime", "buildkit"]] {
        let (code, json) = selftest(&host, &[&["--image", "alpine"], runtime].concat());
        let findings = json["findings"].as_array().expect("findings");
        assert_eq!((code, findings.len(), &json["platforms"]), (3, 1, &serde_json::json!([])), "{json:#}");
        assert_eq!(findings[0]["id"], "selftest-image");
        assert!(findings[0]["advice"].as_str().is_some_and(|text| text.contains("podman")), "{json:#}");
    }
}
