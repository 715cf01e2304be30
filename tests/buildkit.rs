// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test in a step of a build: with Docker's BuildKit, on a real binfmt_misc.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod engines;

use std::process::Child;

use engines::{FOREIGN, Host, MACHINE, Report, TABLE, rule, wait_until};
use serde_json::Value;

/// Where BuildKit's own QEMU is in these tests.
const OWN: &str = "/run/own";

fn build(host: &Host, first: &str) -> Report {
    host.selftest_with(first, &["--runtime", "buildkit"])
}

/// BuildKit's releases have a QEMU under this name; that one also starts by itself what a program starts.
fn give_own_qemu(host: &Host) {
    host.sh(&format!("mkdir -p {OWN}; cp /usr/bin/qemu-{MACHINE}-static {OWN}/buildkit-qemu-{MACHINE}"));
}

fn passes(report: &Report) {
    assert_eq!((report.code, report.verdict("buildkit")), (0, "pass"), "{report:#?}");
    let path = report.result("buildkit")["interpreter"]["path"].as_str().expect("a path");
    assert_eq!(path, format!("/usr/bin/qemu-{MACHINE}-static"), "{report:#?}");
    assert_eq!((&report.result("buildkit")["machine"], &report.json["recorded"]), (&MACHINE.into(), &true.into()));
}

/// It ran, but not by the handler.
fn is_bypassed(report: &Report, reason: &str) {
    assert_eq!((report.code, report.verdict("buildkit")), (1, "bypassed"), "{report:#?}");
    assert_eq!((report.ids(), &report.json["recorded"]), (vec!["selftest-bypassed"], &false.into()), "{report:#?}");
    assert!(report.reason("buildkit").contains(reason), "{reason}: {report:#?}");
}

#[test]
fn a_step_passes_with_a_handler_and_fails_without() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc");
    let down = build(&host, "");
    assert_eq!((down.code, down.verdict("buildkit")), (3, "unknown"), "{down:#?}");
    host.start_docker();
    let report = build(&host, "");
    assert_eq!((report.code, report.verdict("buildkit")), (2, "fail"), "{report:#?}");
    assert!(report.reason("buildkit").contains("no handler is registered"), "{report:#?}");
    assert_eq!(report.result("buildkit")["advice"], "Run `sudo qemu-persist apply`.");
    // BuildKit has looked for handlers before there is one.
    host.register(&rule());
    passes(&build(&host, ""));
    let full = host.selftest(&["--runtime", "buildkit", "--depth", "full"]);
    let parts = full.result("buildkit")["parts"].as_array().expect("parts");
    for name in ["exec.path", "exec.script", "threads.run", "setuid"] {
        assert!(parts.iter().any(|part| part["part"] == name && part["found"] == "works"), "{name}: {full:#?}");
    }
    host.sh(&format!("echo -1 >{TABLE}/qemu-{MACHINE}"));
    host.register(&rule().replace("POF", "PO").replace("OPF", "OP"));
    let report = build(&host, "");
    assert_eq!((report.code, report.verdict("buildkit")), (2, "fail"), "{report:#?}");
    assert!(report.reason("buildkit").contains("has no F flag"), "{report:#?}");
    assert_eq!(host.inventory(&["docker"]), "", "something was left behind");
    let all = host.selftest(&["--runtime", "all"]);
    assert!(!all.runtimes().contains(&"buildkit"), "{all:#?}");
}

#[test]
fn buildkits_own_qemu_is_no_proof_of_a_handler() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc");
    give_own_qemu(&host);
    host.start_docker_from(OWN);
    is_bypassed(&build(&host, ""), "says nothing of `run`");
    assert_eq!(host.run("cat", &["/var/lib/qemu-persist/proofs.json"]).out, "", "it was recorded");
    let run = host.selftest(&["--runtime", "docker"]);
    assert_eq!((run.code, run.verdict("docker")), (2, "fail"), "{run:#?}");
    host.register(&rule());
    passes(&build(&host, ""));
    assert_eq!(host.inventory(&["docker"]), "", "something was left behind");
}

/// Puts Debian 13's Docker with buildx into `host`, and gives the directory of its programs.
fn newer_docker(host: &Host) -> Option<&'static str> {
    let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cache/docker");
    let folders = std::fs::read_dir(cache).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let Some(folder) = folders.filter(|path| path.join("docker-buildx").exists()).max() else {
        eprintln!("skipped: tests/run.sh has not fetched Debian 13's Docker");
        return None;
    };
    let (first, folder) = ("/run/newer", folder.display());
    host.sh(&format!(
        "ln -s {folder} {first}; mkdir -p /run/home/.docker/cli-plugins
         ln -s {folder}/docker-buildx /run/home/.docker/cli-plugins/docker-buildx"
    ));
    Some(first)
}

#[test]
fn buildx_does_as_the_older_client() {
    let host = host!("/usr/sbin/runc");
    let Some(newer) = newer_docker(&host) else { return };
    host.start_docker_from(newer);
    let report = build(&host, newer);
    assert_eq!((report.code, report.verdict("buildkit")), (2, "fail"), "{report:#?}");
    let version = report.result("buildkit")["version"].as_str().expect("a version");
    assert!(version.starts_with("buildx 0."), "{report:#?}");
    host.register(&rule());
    passes(&build(&host, newer));
    host.stop_docker();
    host.sh(&format!("echo -1 >{TABLE}/qemu-{MACHINE}"));
    give_own_qemu(&host);
    host.start_docker_from(&format!("{OWN}:{newer}"));
    is_bypassed(&build(&host, newer), "says nothing of `run`");
    assert_eq!(host.inventory(&["docker"]), "", "something was left behind");
    // Without its plugin that client has no BuildKit.
    host.sh("rm /run/home/.docker/cli-plugins/docker-buildx");
    let report = build(&host, newer);
    assert_eq!((report.code, report.verdict("buildkit")), (3, "unknown"), "{report:#?}");
    assert!(report.reason("buildkit").contains("buildx is not installed"), "{report:#?}");
}

/// What `status --containers` says, with the directories `first` before the others in `PATH`.
fn status(host: &Host, first: &str) -> Value {
    let program = env!("CARGO_BIN_EXE_qemu-persist");
    let text = host.sh(&format!("PATH={first}:$PATH {program} status --containers --json || true"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn the_status_says_what_the_builder_offers_and_why_builds_work_where_containers_do_not() {
    let host = host!("/usr/sbin/runc");
    let Some(newer) = newer_docker(&host) else { return };
    host.start_docker_from(newer);
    let platform = format!("linux/{}", FOREIGN.0);
    let offers = |status: &Value| {
        assert_eq!((&status["builder"]["name"], &status["builder"]["driver"]), (&"default".into(), &"docker".into()));
        let platforms = status["builder"]["platforms"].as_array().expect("platforms");
        platforms.iter().any(|name| *name == platform.as_str())
    };
    let why = |status: &Value| {
        let findings = status["findings"].as_array().expect("findings");
        let finding = findings.iter().find(|finding| finding["id"] == "build-without-handler");
        finding.map(|finding| {
            assert_eq!((&finding["severity"], &finding["subject"]), (&"note".into(), &platform.as_str().into()));
            finding["message"].as_str().unwrap_or_default().to_owned()
        })
    };
    let without = status(&host, newer);
    assert!(!offers(&without) && why(&without).is_none(), "{without:#}");
    host.register(&rule());
    let with = status(&host, newer);
    assert!(offers(&with) && why(&with).is_none(), "{with:#}");
    // The daemon does not forget what it once offered.
    host.sh(&format!("echo -1 >{TABLE}/qemu-{MACHINE}"));
    let gone = status(&host, newer);
    assert!(offers(&gone) && why(&gone).is_some_and(|text| text.contains("still offers it")), "{gone:#}");
    give_own_qemu(&host);
    let own = status(&host, &format!("{OWN}:{newer}"));
    assert!(why(&own).is_some_and(|text| text.contains(&format!("{OWN}/buildkit-qemu-{MACHINE}"))), "{own:#}");
    let text = host.sh(&format!(
        "PATH={newer}:$PATH {} status --containers | grep -A 1 '^builder'",
        env!("CARGO_BIN_EXE_qemu-persist")
    ));
    assert!(text.starts_with("builder default (driver docker)\n  platforms    linux/"), "{text}");
    // Without being asked it starts no program.
    let plain = host.run(env!("CARGO_BIN_EXE_qemu-persist"), &["status", "--json"]);
    assert!(!plain.out.contains("\"builder\""), "{plain:?}");
}

/// Stops the step's process in its course, and gives its number inside.
fn stop_step(host: &Host) -> String {
    let pid = host.sh("n=0
        while test $((n += 1)) -lt 5000; do
            for file in $(grep -ls 'qemu-persist-[p]robe' /proc/[0-9]*/cmdline); do
                pid=${file#/proc/}; pid=${pid%/cmdline}
                if kill -STOP $pid 2>/dev/null; then echo $pid; exit; fi
            done
        done
        exit 1");
    pid.trim().to_owned()
}

fn is_gone(host: &Host, pid: &str) -> bool {
    wait_until(|| host.run("test", &["-e", &format!("/proc/{pid}/exe")]).code != 0)
}

#[test]
fn what_hangs_or_is_killed_or_says_something_else_is_unknown() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc", "/bin/busybox");
    host.start_docker();
    let is_unknown = |report: &Report, reason: &str| {
        assert_eq!((report.code, report.verdict("buildkit")), (3, "unknown"), "{report:#?}");
        assert!(report.reason("buildkit").contains(reason), "{reason}: {report:#?}");
        assert_eq!(report.json["recorded"], false);
    };
    let ended = |child: Child| {
        let code = child.wait_with_output().expect("an end").status.code().unwrap_or(-1);
        let json = serde_json::from_str(&host.sh("cat /run/report")).expect("JSON");
        Report { code, json }
    };
    // An interpreter that writes the name and arguments of what it is to run.
    host.sh("cp /bin/busybox /run/echo");
    let rule = rule();
    let mut fields: Vec<&str> = rule.split(':').collect();
    (fields[1], fields[6], fields[7]) = ("odd", "/run/echo", "F");
    host.register(&fields.join(":"));
    is_unknown(&build(&host, ""), "no answer of the probe");
    host.sh(&format!("echo -1 >{TABLE}/odd"));
    host.register(&rule);
    let child = host.start_selftest("/usr/bin", "--runtime buildkit --timeout 5 --json >/run/report");
    let step = stop_step(&host);
    is_unknown(&ended(child), "in time");
    assert!(is_gone(&host, &step), "the step was left running");
    let child = host.start_selftest("/usr/bin", "--runtime buildkit --json >/run/report");
    let step = stop_step(&host);
    host.sh(&format!("kill -KILL {step}"));
    is_unknown(&ended(child), "ended by signal 9");
    assert_eq!(host.inventory(&["docker"]), "", "something was left behind");
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc");
    host.start_docker();
    host.register(&rule());
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let child = host.start_selftest("/usr/bin", "--runtime buildkit");
        let step = stop_step(&host);
        host.sh(&format!("kill -{signal} $(cat /run/pid)"));
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(is_gone(&host, &step), "the step was left running after SIG{signal}");
        assert_eq!(host.inventory(&["docker"]), "", "left behind after SIG{signal}");
    }
}
