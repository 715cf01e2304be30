// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test as another user, with rootless Podman and Docker of this user's, and engines in namespaces that have
//! handlers of their own.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod engines;

use engines::user::{NAME, UID};
use engines::{FOREIGN, Host, MACHINE, NATIVE, Report, TABLE, rule, wait_until};
use qemu_persist::platform::Platform;
use qemu_persist::selftest::image::{Program, archive};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qemu-persist");
const MASKED: &str = "handlers-masked";

fn as_user(host: &Host, runtime: &str) -> Report {
    host.selftest(&["--as-user", NAME, "--runtime", runtime])
}

/// That `report` names the namespace as the reason, with `evidence`.
fn is_masked(report: &Report, engine: &str, evidence: &str) {
    assert_eq!((report.code, report.verdict(engine), report.ids()), (2, "fail", vec![MASKED]), "{report:#?}");
    let reason = report.reason(engine);
    assert!(reason.contains("has a binfmt_misc of its own") && reason.contains(evidence), "{evidence}: {report:#?}");
    assert_eq!(report.result(engine)["cause"], MASKED);
}

fn passes(report: &Report, engine: &str) {
    assert_eq!((report.code, report.verdict(engine), report.ids()), (0, "pass", vec![]), "{report:#?}");
    assert_eq!(report.result(engine)["interpreter"]["path"], format!("/usr/bin/qemu-{MACHINE}-static"));
}

#[test]
fn a_users_podman_is_reached_unless_its_namespace_hides_the_handlers() {
    let host = host!("/usr/bin/podman", "/usr/sbin/runc", "/usr/bin/newuidmap", "/bin/busybox");
    host.add_user();
    let report = as_user(&host, "podman");
    assert_eq!((report.code, report.ids()), (2, vec!["selftest-failed"]), "{report:#?}");
    assert!(report.reason("podman").contains("no handler is registered"), "{report:#?}");
    // The handlers of the host, and the interpreter that is not in the container.
    host.register(rule().trim_end_matches('F'));
    let report = as_user(&host, "podman");
    assert!(report.ids() == ["selftest-failed"] && report.reason("podman").contains("has no F flag"), "{report:#?}");
    host.sh(&format!("echo -1 >{TABLE}/qemu-{MACHINE}"));
    host.register(&rule());
    let report = as_user(&host, "podman");
    passes(&report, "podman");
    assert_eq!(report.json["user"], serde_json::json!({ "name": NAME, "uid": UID }));
    assert_eq!(report.json["recorded"], false);
    assert_eq!(host.run("test", &["-e", "/var/lib/qemu-persist/proofs.json"]).code, 1, "a user's run proved something");
    let text = host.run(PROGRAM, &["selftest", "--as-user", NAME, "--runtime", "podman"]).out;
    assert!(text.contains("Run as alice") && text.contains("Not recorded as proof"), "{text}");

    // The namespace that all of this user's containers are in.
    let mount = format!("mount -t binfmt_misc binfmt_misc {TABLE}");
    host.sh_as_user(&format!("podman unshare {mount}"));
    is_masked(&as_user(&host, "podman"), "podman", "(podman pause) has it mounted");
    // Outside of it all is well: another engine's, and root's.
    passes(&as_user(&host, "builtin"), "builtin");
    passes(&host.selftest(&["--runtime", "podman"]), "podman");
    host.sh_as_user(&format!("podman unshare umount {TABLE}"));
    let report = as_user(&host, "podman");
    is_masked(&report, "podman", "a probe without the engine fails there as well");
    let advice = report.result("podman")["advice"].as_str().unwrap().to_owned();
    assert!(advice.contains("as alice: `podman system migrate`"), "{advice}");
    host.sh_as_user("podman system migrate");
    passes(&as_user(&host, "podman"), "podman");

    // What brings it about: a container that registers handlers, as tonistiigi/binfmt does.
    let busybox = std::fs::read("/bin/busybox").unwrap().leak();
    let native = Platform::named(NATIVE).unwrap();
    let image = archive(native, "localhost/binfmt:1", &[Program::new("/busybox", busybox)]).unwrap();
    host.write("/home/alice/image", &image);
    host.sh_as_user(&format!(
        "podman load --input /home/alice/image >/dev/null
         podman run --rm --privileged --network none --entrypoint /busybox localhost/binfmt:1 {mount}"
    ));
    is_masked(&as_user(&host, "podman"), "podman", "a probe without the engine fails there as well");
    // Where nothing but the engine's containers can be made in it, it is an inference.
    host.sh_as_user("podman unshare sh -c 'echo 0 >/proc/sys/user/max_user_namespaces'");
    is_masked(&as_user(&host, "podman"), "podman", "probably has a binfmt_misc of its own");
    // What the namespace has nothing to do with is said as ever.
    host.sh(&format!("echo 0 >{TABLE}/qemu-{MACHINE}"));
    let report = as_user(&host, "podman");
    assert!(report.ids() == ["selftest-failed"] && report.reason("podman").contains("is disabled"), "{report:#?}");
}

#[test]
fn what_an_engine_alone_brings_about_is_not_put_down_to_its_namespace() {
    let host = host!("/usr/bin/podman", "/usr/sbin/runc", "/usr/bin/newuidmap");
    host.add_user();
    host.register(&rule());
    host.write(
        "/home/alice/bin/podman",
        format!(
            "#!/bin/sh
            case \"$*\" in run\\ *linux/{}*) echo 'exec /p: exec format error' >&2; exit 1;; esac
            exec /usr/bin/podman \"$@\"",
            FOREIGN.0
        ),
    );
    host.sh("chmod 755 /home/alice/bin/podman");
    let report = as_user(&host, "podman");
    assert_eq!((report.code, report.ids()), (2, vec!["selftest-failed"]), "{report:#?}");
    assert!(report.reason("podman").contains("it was not run by the handler"), "{report:#?}");
}

#[test]
fn a_users_docker_is_reached_unless_its_namespace_hides_the_handlers() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc", "/usr/bin/newuidmap", "/usr/bin/rootlesskit");
    host.add_user();
    host.register(&rule());
    host.start_rootless_docker();
    passes(&as_user(&host, "docker"), "docker");
    let inside = |command: &str| host.sh(&format!("nsenter --user --mount --target $(pgrep -x dockerd) {command}"));
    inside(&format!("mount -t binfmt_misc binfmt_misc {TABLE}"));
    is_masked(&as_user(&host, "docker"), "docker", "has it mounted");
    inside(&format!("umount {TABLE}"));
    is_masked(&as_user(&host, "docker"), "docker", "a probe without the engine fails there as well");
    // Root asks the same engine.
    let socket = format!("DOCKER_HOST=unix:///run/user/{UID}/docker.sock");
    let ran = host.run("env", &[&socket, PROGRAM, "selftest", "--runtime", "docker", "--json"]);
    let report = Report { code: ran.code, json: serde_json::from_str(&ran.out).unwrap() };
    is_masked(&report, "docker", "a probe without the engine fails there as well");
    assert!(
        report.result("docker")["advice"].as_str().unwrap().contains("as alice: `systemctl --user restart docker`")
    );
    // As that restarts it.
    host.sh("kill $(pgrep -x rootlesskit)");
    assert!(wait_until(|| host.run("pgrep", &["-x", "dockerd"]).code == 1));
    let report = as_user(&host, "docker");
    assert_eq!((report.code, report.verdict("docker")), (3, "unknown"), "{report:#?}");
    host.start_rootless_docker();
    passes(&as_user(&host, "docker"), "docker");
}

#[test]
fn an_engine_in_a_namespace_with_handlers_of_its_own_is_told() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc");
    host.register(&rule());
    // A container or a virtual server that dockerd runs in: everybody has the number there that he has outside.
    host.write(
        "/run/inside",
        "read _; mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
         exec dockerd --config-file /run/daemon.json --bridge=none --iptables=false --ip-forward=false --ip-masq=false \
         --storage-driver vfs",
    );
    host.sh(
        "mkfifo /run/fifo; unshare --user --mount /bin/sh -e /run/inside </run/fifo >/run/dockerd.log 2>&1 & pid=$!
         exec 3>/run/fifo
         until test \"$(readlink /proc/$pid/ns/user)\" != \"$(readlink /proc/self/ns/user)\"; do sleep 0.1; done
         echo 0 0 65536 >/proc/$pid/uid_map; echo 0 0 65536 >/proc/$pid/gid_map; echo >&3; echo $pid >/run/pid",
    );
    let up = wait_until(|| host.run("docker", &["version"]).code == 0);
    assert!(up, "dockerd does not answer: {}", host.sh("cat /run/dockerd.log"));
    let selftest = || host.selftest(&["--runtime", "docker"]);
    is_masked(&selftest(), "docker", "(dockerd) has it mounted");
    let status = host.run(PROGRAM, &["status"]);
    assert_eq!(status.code, 2, "root's own engine failed: {status:?}");
    let inside = |command: &str| host.sh(&format!("nsenter --user --mount --target $(cat /run/pid) {command}"));
    inside(&format!("umount {TABLE}"));
    let report = selftest();
    is_masked(&report, "docker", "a probe without the engine fails there as well");
    assert!(report.result("docker")["advice"].as_str().unwrap().contains("`qemu-persist apply` inside it"));
    inside(&format!(
        "/bin/sh -ec 'mount -t binfmt_misc b {TABLE}; cat /usr/lib/binfmt.d/qemu-{MACHINE}.conf >{TABLE}/register'"
    ));
    passes(&selftest(), "docker");
}

#[test]
fn containers_with_other_users_than_the_hosts_are_reached() {
    let host = host!("/usr/sbin/dockerd", "/usr/sbin/runc");
    host.add_user();
    host.register(&rule());
    host.write("/run/daemon.json", format!("{{\"userns-remap\": \"{NAME}\"}}"));
    host.start_docker();
    passes(&host.selftest(&["--runtime", "docker"]), "docker");
}

#[test]
fn what_runs_as_a_user_has_nothing_of_roots() {
    let host = host!("/usr/bin/script");
    host.add_user();
    host.register(&rule());
    // A program of the user's own that is run in an engine's place.
    host.write(
        "/home/alice/bin/docker",
        "#!/bin/sh
        exec >>/home/alice/seen 2>&1
        id; pwd; env; grep -E '^(Cap(Prm|Eff|Amb)|Groups)' /proc/self/status
        echo terminal $(cut -d ' ' -f 7 /proc/self/stat)
        ls -l /proc/$PPID/fd
        exit 1",
    );
    host.sh("chmod 755 /home/alice/bin/docker
         echo secret >/run/secret; chmod 600 /run/secret");
    // In a terminal of root's, with a file of root's open.
    let run = format!("{PROGRAM} selftest --as-user {NAME} --runtime docker");
    host.sh(&format!(
        "export LEAK=1; script --quiet --return --command '{run} 7</run/secret' /dev/null || test $? = 3"
    ));
    let seen = host.sh("cat /home/alice/seen");
    for line in [
        &format!("uid={UID}({NAME}) gid={UID}({NAME}) groups={UID}({NAME})")[..],
        "/home/alice",
        "HOME=/home/alice",
        "USER=alice",
        "LOGNAME=alice",
        &format!("XDG_RUNTIME_DIR=/run/user/{UID}"),
        &format!("Groups:\t{UID} "),
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "terminal 0",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line}: {seen}");
    }
    assert!(seen.contains("pipe:"), "nothing of what is open is seen: {seen}");
    for text in ["LEAK", "secret\n", "/dev/pts", "DOCKER_HOST", "STORAGE_DRIVER"] {
        assert!(!seen.contains(text), "{text}: {seen}");
    }
}

#[test]
fn what_a_user_writes_cannot_move_roots_cursor() {
    let host = host!("/usr/bin/setpriv");
    host.add_user();
    host.register(&rule());
    host.write("/home/alice/bin/docker", "#!/bin/sh\nprintf 'bad\\033[2J thing\\n' >&2; exit 1\n");
    host.sh("chmod 755 /home/alice/bin/docker");
    let ran = host.run(PROGRAM, &["selftest", "--as-user", NAME, "--runtime", "docker"]);
    assert!(ran.code == 3 && ran.out.contains("\\u{1b}[2J") && !ran.out.contains('\u{1b}'), "{ran:?}");
}

#[test]
fn an_interrupted_run_of_a_users_tidies_up() {
    let host = host!("/usr/bin/setpriv");
    host.add_user();
    host.register(&rule());
    host.write(
        "/home/alice/bin/docker",
        "#!/bin/sh
        case $1 in
        version) echo '{\"Client\": {\"Version\": \"1\"}, \"Server\": {\"Version\": \"2\", \"Arch\": \"amd64\"}}';;
        run) echo $$ >/home/alice/runs; exec sleep 600;;
        # An image in use cannot be removed.
        rm | rmi) echo \"$@\" >>/home/alice/removed; grep -q '^rm ' /home/alice/removed;;
        esac",
    );
    host.sh("chmod 755 /home/alice/bin/docker");
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        host.sh("rm -f /home/alice/runs /home/alice/removed");
        let child = host.start_selftest("", &format!("--as-user {NAME} --runtime docker"));
        assert!(wait_until(|| host.run("test", &["-s", "/home/alice/runs"]).code == 0), "nothing was started");
        host.sh(&format!("kill -{signal} $(cat /run/pid)"));
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code, "{signal}: {output:?}");
        let removed = || host.run("grep", &["-c", "qemu-persist", "/home/alice/removed"]).out == "3\n";
        assert!(wait_until(removed), "{signal}: {}", host.sh("cat /home/alice/removed || true"));
        // Of one that nobody waits for, as the first process here does not, the number is left, and no command line.
        let runs = || !host.run("/bin/sh", &["-c", "cat /proc/$(cat /home/alice/runs)/cmdline"]).out.is_empty();
        assert!(wait_until(|| !runs()), "{signal}: the engine still runs");
    }
}

#[test]
fn users_that_cannot_be_are_told_with_what_to_do() {
    let host = host!("/usr/bin/setpriv");
    host.add_user();
    host.register(&rule());
    for (name, text) in [
        ("bob", "there is no user bob here"),
        ("root", "without --as-user"),
        ("nobody", "the user nobody has no home directory (/nonexistent is none)"),
        ("", "there is no user"),
    ] {
        let ran = host.run(PROGRAM, &["selftest", "--json", "--as-user", name]);
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert!(ran.code == 64 && ran.err.contains(text) && json["exit_code"] == 64, "{name}: {ran:?}");
    }
    host.sh(&format!("install -m 755 {PROGRAM} /run/qemu-persist/program"));
    let ran = host.as_user("/run/qemu-persist/program selftest --as-user nobody");
    assert!(ran.code == 77 && ran.err.contains("needs root: run `sudo "), "{ran:?}");
    // One's own needs none.
    let ran = host.as_user(&format!("/run/qemu-persist/program selftest --as-user {NAME} --runtime builtin"));
    assert!(ran.code == 0 && ran.out.contains("Run as alice"), "{ran:?}");
    // A user that the namespace does not know, and a home that is closed.
    host.sh("echo 'far:x:70000:70000::/home:/bin/sh' >>/etc/passwd");
    let ran = host.run(PROGRAM, &["selftest", "--as-user", "far", "--json"]);
    assert!(ran.code == 3 && ran.err.contains("the self-test cannot run as far: the user's group"), "{ran:?}");
    host.sh(&format!("chown 0:0 /home/{NAME}"));
    let ran = host.run(PROGRAM, &["selftest", "--as-user", NAME]);
    assert!(ran.code == 3 && ran.err.contains("as alice: the user's home directory: Permission denied"), "{ran:?}");
    host.sh(&format!("chown {UID}:{UID} /home/{NAME}"));
    let ran = host.run(PROGRAM, &["selftest", "--as-user", NAME, "--programs", "./root"]);
    assert!(ran.code == 64 && ran.err.contains("by its absolute path"), "{ran:?}");
    // What stops the run there ends it here the same way.
    let ran = host.run(PROGRAM, &["selftest", "--as-user", NAME, "--platform", "linux/s390x", "--json"]);
    assert!(ran.code == 64 && ran.err.contains("sudo qemu-persist enable linux/s390x"), "{ran:?}");
}
