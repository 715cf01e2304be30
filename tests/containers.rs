// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test with real engines, Debian's Docker and Podman, on a real binfmt_misc.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod engines;

use engines::{FOREIGN, Host, MACHINE, NATIVE, TABLE, rule, wait_until};
use qemu_persist::platform::Platform;
use qemu_persist::selftest::image::{PROBE, Program, archive};
use qemu_persist::selftest::probes::identity;

const BOTH: [&str; 2] = ["docker", "podman"];

/// An image labelled for `platform` whose only program is one of `program`.
fn image(name: &str, platform: &str, program: &str) -> Vec<u8> {
    let [platform, program] = [platform, program].map(|name| Platform::named(name).expect("a platform"));
    archive(platform, name, &[Program::new(PROBE, identity(program))]).expect("an archive")
}

fn remembered(host: &Host) -> serde_json::Value {
    let text = host.sh("cat /var/lib/qemu-persist/proofs.json");
    let proofs: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    proofs[format!("linux/{}", FOREIGN.0)].clone()
}

#[test]
fn images_that_an_engine_has_are_checked_without_a_registry() {
    let host = host!("/usr/sbin/dockerd", "/usr/bin/podman", "/usr/sbin/runc");
    host.start_docker();
    host.load("docker", &image("localhost/native:1", NATIVE, NATIVE));
    host.load("podman", &image("localhost/foreign:1", FOREIGN.0, FOREIGN.0));
    let check = |name: &str| {
        let ran = host.run(env!("CARGO_BIN_EXE_qemu-persist"), &["image", "check", "--local", "--json", name]);
        let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        let image = &told["images"][0];
        (ran.code, image["verdict"].as_str().map(str::to_owned), image["platform"].as_str().map(str::to_owned))
    };
    let told = |code, verdict: &str, platform: &str| (code, Some(verdict.into()), Some(format!("linux/{platform}")));
    assert_eq!(check("localhost/native:1"), told(0, "native", NATIVE));
    assert_eq!(check("localhost/foreign:1"), told(2, "cannot_run", FOREIGN.0));
    host.register(&rule());
    assert_eq!(check("localhost/foreign:1"), told(1, "emulated", FOREIGN.0));
    assert_eq!(check("localhost/absent:1"), (3, Some("unknown".into()), None));
    let id = host.sh("docker image inspect --format '{{.Id}}' localhost/native:1");
    assert_eq!(check(id.trim()), told(0, "native", NATIVE));
}

#[test]
fn engines_pass_with_a_handler_and_fail_without() {
    let host = host!("/usr/sbin/dockerd", "/usr/bin/podman", "/usr/sbin/runc");
    host.start_docker();
    // An image of the same repository, and one that the user has: both are left as they are.
    host.load("docker", &image("localhost/qemu-persist/selftest:mine", NATIVE, NATIVE));
    host.load("podman", &image("localhost/qemu-persist/selftest:mine", NATIVE, NATIVE));
    host.load("docker", &image("localhost/users:1", FOREIGN.0, FOREIGN.0));
    let before = host.inventory(&BOTH);
    assert_eq!(before.lines().count(), 3, "{before}");

    let report = host.selftest(&["--runtime", "auto"]);
    assert_eq!(report.code, 2, "{report:#?}");
    for engine in BOTH {
        assert_eq!(report.verdict(engine), "fail");
        assert!(report.reason(engine).contains("no handler is registered"), "{report:#?}");
        assert_eq!(report.result(engine)["advice"], "Run `sudo qemu-persist apply`.");
    }
    assert_eq!(remembered(&host)["results"][0]["passed"], false);
    assert_eq!(host.inventory(&BOTH), before, "something was left behind after a failure");

    host.register(&rule());
    let report = host.selftest(&["--runtime", "all"]);
    assert_eq!(report.code, 0, "{report:#?}");
    assert_eq!(report.runtimes(), ["builtin", "docker", "podman"]);
    for runtime in report.runtimes() {
        let result = report.result(runtime);
        assert_eq!((report.verdict(runtime), &result["machine"]), ("pass", &MACHINE.into()), "{report:#?}");
        let path = result["interpreter"]["path"].as_str().expect("a path");
        assert_eq!(path, format!("/usr/bin/qemu-{MACHINE}-static"));
    }
    let proof = remembered(&host);
    assert_eq!(proof["results"].as_array().map(Vec::len), Some(3), "{proof:#}");
    assert!(proof["interpreter"]["ino"].as_u64().is_some() && proof["entry_inode"].as_u64() != Some(0), "{proof:#}");
    assert_eq!(host.inventory(&BOTH), before, "something was left behind after a pass");

    // The handler goes, and the pass with it.
    host.sh(&format!("echo -1 >{TABLE}/qemu-{MACHINE}"));
    let report = host.selftest(&["--runtime", "docker"]);
    assert_eq!((report.code, report.verdict("docker")), (2, "fail"), "{report:#?}");
    let results = remembered(&host)["results"].clone();
    assert!(results.as_array().expect("results").iter().all(|result| result["passed"] == false), "{results:#}");
}

#[test]
fn an_engine_that_is_down_is_told_and_no_failure_beside_a_pass() {
    let host = host!("/usr/bin/docker", "/usr/bin/podman", "/usr/sbin/runc");
    host.register(&rule());
    let report = host.selftest(&["--runtime", "docker"]);
    assert_eq!((report.code, report.verdict("docker")), (3, "unknown"), "{report:#?}");
    assert!(report.reason("docker").contains("Cannot connect to the Docker daemon"), "{report:#?}");
    let report = host.selftest(&[]);
    assert_eq!((report.code, report.runtimes(), report.verdict("podman")), (0, vec!["podman"], "pass"), "{report:#?}");
    assert_eq!(report.ids(), ["engine-down"]);
    let report = host.selftest(&["--runtime", "nerdctl"]);
    assert_eq!((report.code, report.verdict("nerdctl")), (3, "unknown"), "{report:#?}");
    assert!(report.reason("nerdctl").contains("not installed"), "{report:#?}");
}

#[test]
fn what_runs_natively_or_is_of_another_platform_is_no_pass() {
    let host = host!("/usr/sbin/dockerd", "/usr/bin/podman", "/usr/sbin/runc");
    host.start_docker();
    host.register(&rule());
    for engine in BOTH {
        host.load(engine, &image("localhost/mislabelled:1", FOREIGN.0, NATIVE));
        host.load(engine, &image("localhost/native:1", NATIVE, NATIVE));
        host.load(engine, &image("localhost/right:1", FOREIGN.0, FOREIGN.0));
    }
    let before = host.inventory(&BOTH);
    for engine in BOTH {
        let run =
            |image: &str| host.selftest(&["--runtime", engine, "--platform", FOREIGN.0, "--image", image, "--", "n"]);
        let report = run("localhost/mislabelled:1");
        // A program that is over in a moment may not be caught: that is said, and is no pass.
        match report.verdict(engine) {
            "fail" => assert!(report.reason(engine).contains("natively"), "{report:#?}"),
            other => assert_eq!((other, report.code), ("unseen", 1), "{report:#?}"),
        }
        let report = run("localhost/native:1");
        assert_eq!((report.code, report.verdict(engine)), (3, "unknown"), "{report:#?}");
        assert!(report.reason(engine).contains(&format!("one of linux/{NATIVE}")), "{report:#?}");
        let report = run("localhost/right:1");
        let passed = [(0, "pass"), (1, "unseen")].contains(&(report.code, report.verdict(engine)));
        assert!(passed, "{report:#?}");
        assert_eq!(report.json["recorded"], false);
    }
    assert_eq!(host.inventory(&BOTH), before);
}

/// A `docker` whose containers live until half a minute is over or `rest`, a file, is gone, so that a run lasts.
fn slow_docker(host: &Host) {
    host.sh("mkdir -p /run/slow; touch /run/slow/rest");
    host.write(
        "/run/slow/docker",
        "#!/bin/sh
        [ \"$1\" = run ] || exec /usr/bin/docker \"$@\"
        { n=300; while [ -e /run/slow/rest ] && [ $((n -= 1)) -gt 0 ]; do sleep 0.1; done; } | /usr/bin/docker \"$@\"\n",
    );
    host.sh("chmod 755 /run/slow/docker");
}

fn wait_for_container(host: &Host) {
    assert!(wait_until(|| !host.sh("docker ps --quiet").is_empty()), "no container was started");
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc");
    host.start_docker();
    host.register(&rule());
    slow_docker(&host);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let child = host.start_selftest("/run/slow", "--runtime docker --timeout 60");
        wait_for_container(&host);
        assert!(!host.inventory(&["docker"]).is_empty());
        host.sh(&format!("kill -{signal} $(cat /run/pid)"));
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(host.inventory(&["docker"]), "", "left behind after SIG{signal}");
    }
}

#[test]
fn what_a_killed_run_has_left_is_cleared_when_its_time_is_over() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc");
    host.start_docker();
    host.register(&rule());
    slow_docker(&host);
    let mut child = host.start_selftest("/run/slow", "--runtime docker --timeout 60");
    wait_for_container(&host);
    host.sh("kill -KILL $(cat /run/pid)");
    child.wait().expect("an end");
    // The probe ends with its standard input, and its container with it.
    host.sh("rm /run/slow/rest");
    assert!(wait_until(|| host.sh("docker ps --quiet").is_empty()));
    let left = host.sh("docker images --format '{{.Repository}}:{{.Tag}}'");
    let (repository, tag) = left.trim().rsplit_once(':').expect("an image");
    assert_eq!(repository, "localhost/qemu-persist/selftest");

    // It could be of a run beside this one: it stays for its time.
    assert_eq!(host.selftest(&["--runtime", "docker"]).code, 0);
    assert_eq!(host.sh("docker images --format '{{.Repository}}:{{.Tag}}'"), left);

    // Its time is made to be over, as for a container that nobody has removed.
    let fields: Vec<&str> = tag.split('-').collect();
    let over = format!("{}-{}-1-{}", fields[0], fields[1], fields[3]);
    host.sh(&format!(
        "docker tag {left} {repository}:{over}; docker rmi {left} >/dev/null
         docker create --platform linux/{} --label qemu-persist.selftest=1 --name qemu-persist-selftest-{over} \
            {repository}:{over} x >/dev/null",
        FOREIGN.0,
        left = left.trim(),
    ));
    // Somebody else's of a like name stays.
    host.load("docker", &image("localhost/qemu-persist/selftest:arm64-else", NATIVE, NATIVE));
    host.sh("docker create --name qemu-persist-selftest-mine localhost/qemu-persist/selftest:arm64-else x >/dev/null");
    assert_eq!(host.selftest(&["--runtime", "docker"]).code, 0);
    let names = host.sh("docker images --format '{{.Tag}}'; docker ps --all --format '{{.Names}}'");
    assert_eq!(names, "arm64-else\nqemu-persist-selftest-mine\n");

    // One that was killed just before the package is removed is waited for by nobody.
    slow_docker(&host);
    let mut child = host.start_selftest("/run/slow", "--runtime docker --timeout 60");
    assert!(wait_until(|| host.sh("docker ps --quiet").lines().count() == 1), "no container was started");
    host.sh("kill -KILL $(cat /run/pid)");
    child.wait().expect("an end");
    host.sh("rm /run/slow/rest");
    assert_ne!(host.sh("docker images --format '{{.Tag}}'"), "arm64-else\n");
    host.sh(concat!(env!("CARGO_BIN_EXE_qemu-persist"), " maintainer-script hand-over"));
    let names = host.sh("docker images --format '{{.Tag}}'; docker ps --all --format '{{.Names}}'");
    assert_eq!(names, "arm64-else\nqemu-persist-selftest-mine\n");
}

#[test]
fn a_newer_client_works_with_the_older_daemon() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc", "/usr/local/bin/docker");
    host.start_docker();
    host.register(&rule());
    let report = host.selftest_with("/usr/local/bin", &["--runtime", "docker"]);
    assert_eq!((report.code, report.verdict("docker")), (0, "pass"), "{report:#?}");
    assert_eq!(host.inventory(&["docker"]), "");
}

#[test]
fn running_containers_under_emulation_are_listed() {
    let host = host!("/usr/sbin/dockerd", "/usr/bin/podman", "/usr/sbin/runc");
    host.start_docker();
    host.register(&rule());
    for engine in BOTH {
        host.load(engine, &image("localhost/foreign:1", FOREIGN.0, FOREIGN.0));
        host.load(engine, &image("localhost/native:1", NATIVE, NATIVE));
        let start = |name: &str, platform: &str| {
            host.sh(&format!(
                "{engine} run --detach --interactive --init=false --network none --platform linux/{platform} \
                 --name {name} localhost/{name}:1 nonce </dev/null"
            ));
        };
        start("foreign", FOREIGN.0);
        start("native", NATIVE);
    }
    let ran = host.run(env!("CARGO_BIN_EXE_qemu-persist"), &["status", "--containers", "--json"]);
    let running: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    let containers = running["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 2, "{running:#}");
    for (container, engine) in containers.iter().zip(BOTH) {
        assert_eq!((container["engine"].as_str(), container["name"].as_str()), (Some(engine), Some("foreign")));
        assert_eq!(container["platform"], format!("linux/{}", FOREIGN.0));
        assert_eq!(container["interpreter"], format!("/usr/bin/qemu-{MACHINE}-static"), "{running:#}");
    }
}

#[test]
fn what_programs_rely_on_is_looked_at_in_containers() {
    let host = host!("/usr/sbin/dockerd", "/usr/bin/podman", "/usr/sbin/runc");
    host.start_docker();
    host.register(&rule());
    let report = host.selftest(&["--runtime", "all", "--depth", "full"]);
    for engine in BOTH {
        let parts = report.result(engine)["parts"].as_array().expect("parts");
        let found = |name: &str| {
            let part = parts.iter().find(|part| part["part"] == name);
            part.and_then(|part| part["found"].as_str()).unwrap_or("missing").to_owned()
        };
        // Unlike in the builtin container there is a /proc.
        for part in ["exec.path", "exec.relative", "exec.script", "exec.limits", "threads.run", "address-space"] {
            assert_eq!(found(part), "works", "{engine}: {part}: {report:#?}");
        }
        assert_ne!(found("exec.self"), "unknown", "{report:#?}");
        let setuid = parts.iter().find(|part| part["part"] == "setuid").expect("a part");
        assert_eq!((&setuid["found"], &setuid["detail"]), (&"works".into(), &"not gained".into()), "{report:#?}");
    }
    // A handler that gives rights, which the configuration does not ask for.
    host.sh(&format!("echo -1 >{TABLE}/qemu-{MACHINE}"));
    host.register(&format!("{}C", rule()));
    let report = host.selftest(&["--runtime", "docker", "--depth", "full"]);
    let parts = report.result("docker")["parts"].as_array().expect("parts");
    let setuid = parts.iter().find(|part| part["part"] == "setuid").expect("a part");
    assert_eq!((&setuid["found"], &setuid["detail"]), (&"broken".into(), &"gained".into()), "{report:#?}");
    assert_eq!((report.code, report.verdict("docker")), (1, "limited"), "{report:#?}");
}

#[test]
fn system_calls_that_a_seccomp_profile_refuses_are_told() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc");
    let refuse =
        |name: &str, errno: i32| format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO", "errnoRet": {errno}}}"#);
    let calls = [refuse("memfd_create", nix::libc::EPERM), refuse("close_range", nix::libc::ENOSYS)].join(", ");
    host.write("/run/profile.json", format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{calls}]}}"#));
    host.write("/run/daemon.json", r#"{"seccomp-profile": "/run/profile.json"}"#);
    host.start_docker();
    host.register(&rule());
    let report = host.selftest(&["--runtime", "docker", "--depth", "full"]);
    let parts = report.result("docker")["parts"].as_array().expect("parts");
    let of = |name: &str| parts.iter().find(|part| part["part"] == name).expect("the part");
    assert_eq!(of("syscalls.memfd_create")["found"], "broken", "{report:#?}");
    assert!(of("syscalls.memfd_create")["detail"].as_str().is_some_and(|text| text.contains("EPERM")), "{report:#?}");
    assert_eq!(of("syscalls.close_range")["found"], "absent", "{report:#?}");
    for well in ["syscalls.statx", "syscalls.getrandom", "syscalls.pidfd_open"] {
        assert_eq!(of(well)["found"], "works", "{report:#?}");
    }
    // Programs fall back, so that it is no more than a note.
    assert_eq!((report.code, report.verdict("docker")), (0, "pass"), "{report:#?}");
}

#[test]
fn containers_that_have_ended_are_explained() {
    let host = host!("/usr/sbin/dockerd", "/usr/bin/podman", "/usr/sbin/runc");
    host.start_docker();
    let explain = || {
        let ran = host.run(env!("CARGO_BIN_EXE_qemu-persist"), &["explain", "--last", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        (ran.code, json["containers"].as_array().expect("containers").clone())
    };
    assert_eq!(explain(), (0, vec![]));
    for engine in BOTH {
        host.load(engine, &image("localhost/foreign:1", FOREIGN.0, FOREIGN.0));
        host.load(engine, &image("localhost/native:1", NATIVE, NATIVE));
        let run = format!("{engine} run --network none --platform linux");
        host.sh(&format!(
            "{run}/{0} --name {engine}-foreign localhost/foreign:1 x </dev/null 2>/dev/null || true
             {run}/{NATIVE} --name {engine}-good localhost/native:1 x </dev/null >/dev/null
             {run}/{NATIVE} --detach --interactive --name {engine}-killed localhost/native:1 x </dev/null >/dev/null
             {engine} kill {engine}-killed >/dev/null; {engine} wait {engine}-killed >/dev/null",
            FOREIGN.0
        ));
    }
    let (code, containers) = explain();
    assert_eq!(code, 1, "of those that were killed nothing is known: {containers:#?}");
    let mut told: Vec<_> = containers
        .iter()
        .map(|container| format!("{} {}", container["name"].as_str().unwrap_or(""), container["causes"][0]["id"]))
        .collect();
    told.sort();
    let expected =
        ["docker-foreign \"no-handler\"", "docker-killed null", "podman-foreign \"no-handler\"", "podman-killed null"];
    assert_eq!(told, expected, "{containers:#?}");
    let text = host.run(env!("CARGO_BIN_EXE_qemu-persist"), &["explain", "--last"]).out;
    assert!(text.contains("docker: docker-foreign (localhost/foreign:1) ended with "), "{text}");
}

/// Where tests/run.sh has put Debian's foreign busybox; none where it has not run.
fn busybox() -> Option<String> {
    let arch = Platform::named(FOREIGN.0).expect("a platform").debian;
    let folder = format!("{}/tests/cache/busybox/{arch}/bin", env!("CARGO_MANIFEST_DIR"));
    let is_there = std::path::Path::new(&folder).join("busybox").exists();
    if !is_there {
        eprintln!("skipped: tests/run.sh has not fetched {folder}/busybox");
    }
    is_there.then_some(folder)
}

#[test]
fn programs_of_an_image_are_tried_one_by_one() {
    let Some(folder) = busybox() else { return };
    let host = host!("/usr/sbin/dockerd", "/usr/bin/podman", "/usr/sbin/runc");
    host.start_docker();
    host.register(&rule());
    let busybox: &[u8] = std::fs::read(format!("{folder}/busybox")).expect("busybox").leak();
    let platform = Platform::named(FOREIGN.0).expect("a platform");
    let of = |names: &[&'static str]| -> Vec<_> { names.iter().map(|name| Program::new(name, busybox)).collect() };
    for engine in BOTH {
        let load = |name: &str, programs: &[Program]| {
            host.load(engine, &archive(platform, name, programs).expect("an archive"));
        };
        load("localhost/good:1", &of(&["/usr/bin/busybox", "/bin/tar"]));
        // It knows no such applet.
        load("localhost/part:1", &of(&["/usr/bin/busybox", "/usr/bin/openssl"]));
        load("localhost/bad:1", &of(&["/usr/bin/openssl"]));
        load("localhost/none:1", &of(&["/usr/bin/something"]));
    }
    let before = host.inventory(&BOTH);
    for engine in BOTH {
        let run = |image: &str, verdict: &str, code: i32, ids: &[&str], expected: &[&str]| {
            let report = host.selftest(&["--runtime", engine, "--platform", FOREIGN.0, "--programs", image]);
            assert_eq!((report.verdict(engine), report.code), (verdict, code), "{report:#?}");
            assert_eq!(report.ids(), ids, "{report:#?}");
            let programs = report.result(engine)["programs"].as_array().into_iter().flatten();
            let told: Vec<_> = programs
                .filter(|program| program["found"] != "absent")
                .map(|program| {
                    format!("{} {} {}", program["program"], program["found"], program["detail"]).replace('"', "")
                })
                .collect();
            assert!(told.len() == expected.len(), "{report:#?}");
            for (told, expected) in told.iter().zip(expected) {
                assert!(told.starts_with(expected), "{told}, not {expected}");
            }
            assert_eq!(report.json["recorded"], false);
        };
        let works = format!("busybox works {MACHINE}");
        let broken = "openssl broken the command ended with status 127: openssl: applet not found";
        run("localhost/good:1", "pass", 0, &[], &["tar works tar (busybox)", &works]);
        run("localhost/part:1", "limited", 1, &["program-broken"], &[broken, &works]);
        run("localhost/bad:1", "fail", 2, &["selftest-failed"], &[broken]);
        run("localhost/none:1", "unknown", 3, &["selftest-unknown"], &[]);
        run("localhost/nowhere:1", "unknown", 3, &["selftest-unknown"], &[]);
    }
    assert_eq!(host.inventory(&BOTH), before);
}

#[test]
fn debians_own_foreign_busybox_runs_when_apply_has_been_run() {
    let Some(folder) = busybox() else { return };
    let host = host!("/usr/sbin/dockerd", "/usr/bin/podman", "/usr/sbin/runc");
    host.start_docker();
    host.load("docker", &image("localhost/foreign:1", FOREIGN.0, FOREIGN.0));
    // What a user types who has an image with it: only the program comes from outside of ours.
    let run = format!(
        "docker run --rm --network none --platform linux/{} --volume {folder}:/bin:ro --entrypoint /bin/busybox \
         localhost/foreign:1 uname -m",
        FOREIGN.0
    );
    let before = host.run("/bin/sh", &["-c", &run]);
    assert!(before.code != 0 && before.err.contains("exec format error"), "{before:?}");
    let applied = host.run(env!("CARGO_BIN_EXE_qemu-persist"), &["apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(host.sh(&run).trim(), MACHINE);
}
