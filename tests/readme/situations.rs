// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of situations: each is made, and helped by the commands that stand beside it.

use std::path::Path;

use qemu_persist::platform::Platform;
use qemu_persist::selftest::{
    image::{PROBE, Program, archive},
    probes::identity,
};

use crate::engines::{self, FOREIGN, Host, NATIVE};
use crate::registries::{Flavour, Registry};
use crate::sandbox::{QEMU, QEMU_P, Sandbox, TABLE, rule};
use crate::{SITUATIONS, good, parses, run, spans, starts, table, told};

/// What makes a situation, and shows that the commands help.
enum Situation {
    /// In a sandbox, given the commands.
    Kernel(fn(&Sandbox, &[String])),
    /// With a container engine, given the commands.
    Engine(fn(&Host, &[String])),
    /// Without either, given a folder of its own and the commands.
    Plain(fn(&Path, &[String])),
}
use Situation::{Engine, Kernel, Plain};

fn does_not_start(host: &Sandbox) {
    let ran = host.run_foreign();
    // The kernel says ENOEXEC, and whoever started it takes it for a shell's script then.
    assert!(ran.code != 0 && !ran.out.contains("aarch64"), "{ran:?}");
}

fn engine(host: &Host, command: &str) -> engines::Ran {
    let own = command.replace("linux/amd64", &format!("linux/{}", FOREIGN.0));
    let own = own.replace("IMAGE", "localhost/mine:1").replace("COMMAND", "nonce");
    let own = own.replace("NAME", engines::user::NAME);
    let words: Vec<_> = own.split(' ').filter(|word| !["sudo", "qemu-persist"].contains(word)).collect();
    host.run(env!("CARGO_BIN_EXE_qemu-persist"), &words)
}

/// An image of the user's own, labelled for `platform`.
fn load(host: &Host, platform: &str) {
    host.register(&engines::rule());
    let own = Platform::named(platform).unwrap();
    host.load("podman", &archive(own, "localhost/mine:1", &[Program::new(PROBE, identity(own))]).unwrap());
}

/// The rows of the table, by the beginning of what is seen or wanted.
const ROWS: &[(&str, Situation)] = &[
    (
        "`exec format error`",
        Kernel(|host, commands| {
            does_not_start(host);
            for command in commands {
                run(host, command, 0);
            }
            starts(host);
        }),
    ),
    (
        "`docker build` works",
        Engine(|host, commands| {
            if !Path::new("/usr/sbin/dockerd").exists() {
                return crate::sandbox::skip("`docker build`: /usr/sbin/dockerd is not installed");
            }
            host.sh(&format!("mkdir /run/own; cp /usr/bin/qemu-{0}-static /run/own/buildkit-qemu-{0}", FOREIGN.1));
            host.start_docker_from("/run/own");
            let ran = engine(host, &commands[0]);
            assert!(ran.code == 1 && told(&ran.out).contains("under BuildKit's own QEMU"), "{ran:?}");
            assert_eq!(engine(host, &commands[1]).code, 0);
            assert_eq!(engine(host, "qemu-persist selftest --runtime docker").code, 0);
        }),
    ),
    (
        "\"Verify it worked\"",
        Kernel(|host, commands| {
            good(host);
            let ran = run(host, &commands[0], 0);
            assert!(ran.out.contains("pass"), "{ran:?}");
            let ran = run(host, &commands[1], 0);
            assert!(ran.out.contains("    threads        works: "), "{ran:?}");
        }),
    ),
    (
        "It worked until the reboot",
        Kernel(|host, commands| {
            // That command registers as this does, and writes no file.
            host.sh("rm /usr/lib/binfmt.d/qemu-aarch64.conf");
            host.register(&rule("qemu-aarch64", QEMU, "F"));
            host.sh(&format!("echo -1 > {TABLE}/status; rm -rf /run/qemu-persist"));
            does_not_start(host);
            run(host, &commands[0], 0);
            // What systemd-binfmt does at boot.
            host.sh(&format!("echo -1 > {TABLE}/status; rm -rf /run/qemu-persist"));
            host.sh(&format!("sed -n /^:/p /etc/binfmt.d/qemu-aarch64.conf > {TABLE}/register"));
            starts(host);
        }),
    ),
    (
        "`apt install",
        Kernel(|host, commands| {
            host.register(&rule("qemu-aarch64", QEMU_P, "OPF"));
            let held = host.entry("qemu-aarch64");
            assert!(run(host, &commands[0], 0).out.contains("Nothing to do."));
            assert_eq!(host.entry("qemu-aarch64"), held);
            host.sh(&format!("echo 0 > {TABLE}/qemu-aarch64"));
            does_not_start(host);
            run(host, &commands[0], 0);
            starts(host);
        }),
    ),
    (
        "Will an image run here",
        Plain(|folder, commands| {
            let registry = Registry::plain().start();
            let platforms = [("linux", "amd64", ""), ("linux", "arm64", "v8")];
            registry.content.index("vaultwarden/server", "1.33.2", Flavour::Attested, &platforms);
            let lead = format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n", registry.address());
            std::fs::write(folder.join("registries.conf"), lead).unwrap();
            let pods = r#"{"items": [{"spec": {"containers": [{"image": "vaultwarden/server:1.33.2"}]}}]}"#;
            std::fs::write(folder.join("pods.json"), pods).unwrap();
            for command in commands {
                let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_qemu-persist"));
                program.args(command.split(' ').skip(1)).current_dir(folder).env("XDG_CACHE_HOME", folder);
                let output =
                    program.env("CONTAINERS_REGISTRIES_CONF", folder.join("registries.conf")).output().unwrap();
                let out = String::from_utf8(output.stdout).unwrap();
                assert!(output.status.success() && out.starts_with("native "), "{command}: {out}");
            }
        }),
    ),
    (
        "A Compose file",
        Plain(|folder, commands| {
            let registry = Registry::plain().start();
            registry.content.index("app", "1", Flavour::Attested, &[("linux", "amd64", ""), ("linux", "arm64", "v8")]);
            let file = format!("services:\n  a:\n    image: {}\n", registry.reference("app:1"));
            std::fs::write(folder.join("compose.yaml"), file).unwrap();
            for (command, begin) in commands.iter().zip(["service ", "service ", "# No service"]) {
                let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_qemu-persist"));
                program.args(command.split(' ').skip(1)).current_dir(folder).env("XDG_CACHE_HOME", folder);
                let output = program.output().unwrap();
                let out = String::from_utf8(output.stdout).unwrap();
                assert!(output.status.success() && out.starts_with(begin), "{command}: {out}");
            }
        }),
    ),
    (
        "Does *my* image run here?",
        Engine(|host, commands| {
            load(host, FOREIGN.0);
            let ran = engine(host, &commands[0]);
            // A program that is over in a moment may not be caught, which is a warning.
            assert!([0, 1].contains(&ran.code) && ran.out.contains("podman"), "{ran:?}");
        }),
    ),
    (
        "Which programs of an image",
        Kernel(|host, commands| {
            good(host);
            assert!(commands[0].ends_with(" --programs IMAGE"), "{commands:?}");
            host.sh("mkdir -p /srv/root/usr/bin; cp /opt/foreign /srv/root/usr/bin/openssl");
            let ran = run(host, &commands[1], 0);
            assert!(ran.out.contains("    openssl        starts: "), "{ran:?}");
        }),
    ),
    (
        "Rootless Docker or Podman",
        Engine(|host, commands| {
            host.add_user();
            host.register(&engines::rule());
            let ran = engine(host, &commands[0]);
            assert!(ran.code == 0 && ran.out.contains("podman   pass") && ran.out.contains("Run as alice"), "{ran:?}");
        }),
    ),
    (
        "Docker has the image of the wrong platform",
        Engine(|host, commands| {
            load(host, NATIVE);
            let ran = engine(host, &commands[0]);
            assert!(ran.code == 3 && told(&ran.out).contains(&format!("one of linux/{NATIVE}")), "{ran:?}");
        }),
    ),
    (
        "A container is slow",
        Engine(|host, commands| {
            load(host, FOREIGN.0);
            host.sh(&format!(
                "podman run --detach --interactive --init=false --network none --platform linux/{} --name slow \
                 localhost/mine:1 nonce </dev/null",
                FOREIGN.0
            ));
            let ran = engine(host, &commands[0]);
            assert!(ran.out.contains("slow") && ran.out.contains(&format!("qemu-{}", FOREIGN.1)), "{ran:?}");
        }),
    ),
    (
        "An error message",
        Kernel(|host, commands| {
            let ran = run(host, &commands[0], 0);
            assert!(ran.out.starts_with("likely ") && ran.out.contains("[no-handler]"), "{ran:?}");
            let piped = host.sh("echo 'web-1 exited with code 139' | qemu-persist explain");
            assert!(piped.contains("[qemu-crashed]"), "{piped}");
        }),
    ),
    (
        "Segfaults, illegal instructions",
        Kernel(|host, commands| {
            let ran = run(host, &commands[0], 0);
            for label in ["Page size: ", "QEMU: ", "CPU: "] {
                assert!(ran.out.contains(label), "{label}: {ran:?}");
            }
        }),
    ),
    (
        "Raspberry Pi 5",
        Kernel(|host, commands| {
            good(host);
            assert!(!run(host, &commands[0], 0).out.contains("[pages-fragment]"));
            // With pages of 4 KiB it is not preferred.
            host.sh(&format!("mkdir -p /usr/libexec/qemu-persist; cp {QEMU} /usr/libexec/qemu-persist/qemu-aarch64"));
            assert!(run(host, &commands[1], 0).out.contains("Nothing to do."));
            host.write("/etc/qemu-persist/config.toml.d/50.toml", "emulator = \"always\"\n");
            assert!(
                run(host, &commands[1], 0)
                    .out
                    .contains("replace qemu-aarch64 with /usr/libexec/qemu-persist/qemu-aarch64")
            );
            assert!(run(host, &commands[2], 0).out.contains("4 KiB"));
        }),
    ),
    (
        "QEMU was upgraded",
        Kernel(|host, commands| {
            good(host);
            host.sh(&format!("cp {QEMU} {QEMU}.new && mv {QEMU}.new {QEMU}"));
            assert!(run(host, &commands[0], 1).out.contains("[interpreter-stale]"));
            run(host, &commands[1], 0);
            assert!(!run(host, &commands[0], 1).out.contains("[interpreter-stale]"));
        }),
    ),
    (
        "box64 or FEX is installed",
        Kernel(|host, commands| {
            host.sh("cp /usr/bin/qemu-persist /usr/bin/box64");
            host.register(&rule("box64", "/usr/bin/box64", ""));
            assert!(
                told(&run(host, &commands[0], 2).out).contains("box64 runs programs for linux/arm64 here, not QEMU")
            );
            run(host, &commands[1], 0);
            starts(host);
        }),
    ),
    (
        "Further platforms",
        Kernel(|host, commands| {
            good(host);
            host.sh(&format!("cp {QEMU} /usr/bin/qemu-riscv64-static"));
            run(host, &commands[0], 0);
            assert_eq!(host.entries(), ["qemu-aarch64", "qemu-riscv64"]);
            run(host, &commands[1], 0);
            assert_eq!(host.entries(), ["qemu-aarch64"]);
        }),
    ),
    (
        "Preparing an SD card image",
        Kernel(|host, commands| {
            host.sh("mkdir /card; cp -a /bin /lib* /usr /etc /card/; rm /card/usr/lib/binfmt.d/qemu-aarch64.conf");
            host.sh("mkdir -p /card/usr/lib/systemd; touch /card/usr/lib/systemd/systemd");
            run(host, &commands[0].replace("DIR", "/card"), 0);
            assert!(host.sh("cat /card/etc/binfmt.d/qemu-aarch64.conf").contains("\n:qemu-aarch64:M:"));
            assert_eq!(host.entries(), Vec::<String>::new());
        }),
    ),
];

#[test]
fn every_situation_is_helped_by_what_stands_beside_it() {
    let rows = table(SITUATIONS);
    assert_eq!(rows.len(), ROWS.len());
    for (row, (beginning, situation)) in rows.iter().zip(ROWS) {
        assert!(row[0].starts_with(beginning), "{row:?}");
        let commands: Vec<_> = spans(row[1]).into_iter().filter(|span| span.contains("qemu-persist ")).collect();
        assert!(!commands.is_empty() && commands.iter().all(|command| parses(command).is_ok()), "{commands:?}");
        match situation {
            Kernel(show) => {
                let host = crate::sandbox!();
                show(&host, &commands);
            }
            Plain(show) => show(tempfile::tempdir().unwrap().path(), &commands),
            Engine(show) => match Host::new(&["/usr/bin/podman", "/usr/sbin/runc"]) {
                Ok(host) => show(&host, &commands),
                Err(reason) => crate::sandbox::skip(&format!("{}: {reason}", row[0])),
            },
        }
    }
}
