// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real texts, and what they mean on hosts of several kinds.

use std::collections::BTreeSet;

use super::table::CAUSES;
use super::{Chance, Fit, Host, exit_code, explain};
use crate::assess::tests::{Host as Fixture, QEMU, rule};
use crate::platform::Platform;
use crate::snapshot::Kernel;

fn with<T>(fixture: &Fixture, bits: u32, use_it: impl FnOnce(&Host<'_>) -> T) -> T {
    let assessment = fixture.assess();
    let (looks, findings) = (&assessment.looks[..], &assessment.findings[..]);
    use_it(&Host { snapshot: &fixture.0, looks, findings, address_bits: Some(bits) })
}

fn told(fits: &[Fit]) -> Vec<(&'static str, Chance)> {
    fits.iter().map(|fit| (fit.cause.id, fit.weight.chance)).collect()
}

/// Where a text comes from, the text, and the causes that have to be told for it.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// "Printed": by that program, brought about on purpose. A name with a number is a public issue that has it.
const TEXTS: &[Row] = &[
    (
        "printed by docker run of Docker 20.10, without a handler",
        "exec /bin/uname: exec format error",
        &["no-handler", "wrong-program", "handlers-masked"],
    ),
    (
        "printed by bash 5.2 for a foreign program, without a handler",
        "bash: line 1: /bin/busybox: cannot execute binary file: Exec format error",
        &["no-handler", "wrong-program", "handlers-masked"],
    ),
    (
        "printed by dash for the same",
        "sh: 1: /bin/busybox: Exec format error",
        &["no-handler", "wrong-program", "handlers-masked"],
    ),
    (
        "printed by bash 5.2, with a handler whose interpreter is not there",
        "bash: line 1: /bin/busybox: cannot execute: required file not found",
        &["interpreter-not-held", "program-not-there"],
    ),
    (
        "docker-library/python #363",
        "standard_init_linux.go:190: exec user process caused \"no such file or directory\"",
        &["interpreter-not-held", "program-not-there"],
    ),
    (
        "as runc words it",
        "docker: Error response from daemon: OCI runtime create failed: exec: \"bash\": executable file not found in $PATH: unknown.",
        &["program-not-there"],
    ),
    (
        "printed by QEMU 7.2 for a dynamic program without its loader",
        "qemu-x86_64-static: Could not open '/lib64/ld-linux-x86-64.so.2': No such file or directory",
        &["foreign-program-in-image"],
    ),
    (
        "caprover/caprover #1378",
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
        &["no-image-for-platform"],
    ),
    (
        "containers/podman #6507",
        "Error choosing an image from manifest list docker://k8s.gcr.io/pause:3.2: no image found in manifest list for architecture arm64, variant v8, OS linux",
        &["no-image-for-platform"],
    ),
    (
        "as Docker words it",
        "WARNING: The requested image's platform (linux/amd64) does not match the detected host platform (linux/arm64/v8) and no specific platform was requested",
        &["image-of-another-platform"],
    ),
    (
        "tonistiigi/binfmt #307",
        "curl: error while loading shared libraries: libcrypto.so.3: failed to map segment from shared object",
        &["large-pages"],
    ),
    ("the same under QEMU 7.2, as `docker ps` shows an exit code", "Exited (133) 2 seconds ago", &["large-pages"]),
    ("sebadob/rauthy #1287", "<jemalloc>: Unsupported system page size", &["large-pages-native"]),
    ("docker/for-mac #6657", "qemu: uncaught target signal 11 (Segmentation fault) - core dumped", &["qemu-crashed"]),
    ("as `docker compose up` shows an exit code", "web-1 exited with code 139", &["qemu-crashed"]),
    ("as shells word a signal", "Illegal instruction (core dumped)", &["missing-instructions"]),
    (
        "as glibc words it, with QEMU_CPU=qemu64",
        "Fatal glibc error: CPU does not support x86-64-v2",
        &["missing-instructions"],
    ),
    (
        "as QEMU words it",
        "qemu: uncaught target signal 4 (Illegal instruction) - core dumped",
        &["missing-instructions", "qemu-crashed"],
    ),
    ("as an init tells how a program ended", "app: terminated by signal 4", &["missing-instructions"]),
    ("what users put into a search box", "write register: file exists", &["name-taken"]),
    ("what users put into a search box", "write register: invalid argument", &["rule-refused"]),
    ("the article that many users come from", "Slow Performance on ARM", &["slow-emulation"]),
    ("the article that many users come from", "Image Pulls the Wrong Architecture", &["image-of-another-platform"]),
    (
        "the article that many users come from",
        "segfault or Illegal Instruction",
        &["missing-instructions", "qemu-crashed"],
    ),
    ("argoproj/argo-cd #26916", "runtime: lfstack.push invalid packing", &["go-addresses"]),
    (
        "docker/buildx #1335",
        "sudo: effective uid is not 0, is /usr/bin/sudo on a file system with the 'nosuid' option set or an NFS file system without root privileges?",
        &["setuid-ignored"],
    ),
    (
        "as Docker's API words an exit code",
        "\"State\": {\"Status\": \"exited\", \"ExitCode\": 159}",
        &["engine-32-bit"],
    ),
    (
        "printed by modprobe for a module that is not there",
        "modprobe: FATAL: Module binfmt_misc not found in directory /lib/modules/6.12.25+rpt-rpi-v8",
        &["no-module"],
    ),
    ("printed by bash that registers a rule twice", "bash: line 1: echo: write error: File exists", &["name-taken"]),
    ("printed by bash that registers nonsense", "bash: line 1: echo: write error: Invalid argument", &["rule-refused"]),
    (
        "printed by systemd-binfmt 252 for a rule with a wrong flag",
        "/etc/binfmt.d/y.conf:1: Failed to add binary format 'bad': Invalid argument",
        &["rule-refused"],
    ),
    (
        "printed by bash, with a handler for the host's own programs",
        "bash: /usr/bin/ls: Too many levels of symbolic links",
        &["native-captured"],
    ),
    (
        "the text in Debian's QEMU",
        "qemu: /usr/libexec/qemu-binfmt/x86_64-binfmt-P has to be run using kernel binfmt-misc subsystem",
        &["wrong-flags"],
    ),
    (
        "printed by QEMU 7.2 that may not make memory executable (PR_SET_MDWE)",
        "qemu-aarch64-static: mprotect of jit buffer: Permission denied",
        &["no-code-generation"],
    ),
    (
        "as Docker words it",
        "docker: Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
        &["engine-not-allowed"],
    ),
    (
        "printed by docker without a daemon",
        "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        &["engine-down"],
    ),
    (
        "solidnerd/docker-bookstack #349",
        "ERROR: docker exporter does not currently support exporting manifest lists",
        &["build-not-loadable"],
    ),
];

#[test]
fn texts_are_recognised() {
    let fixture = Fixture::healthy();
    let mut seen = BTreeSet::new();
    for (source, text, expected) in TEXTS {
        let log = format!("2026-11-01 12:00:00 starting\n\n  {text}  \nbye\n");
        let fits = with(&fixture, 47, |host| explain(&log, host));
        let ids: BTreeSet<_> = fits.iter().map(|fit| fit.cause.id).collect();
        assert_eq!(ids, expected.iter().copied().collect(), "{source}");
        assert!(fits.iter().all(|fit| text.contains(&fit.said)), "{source}: {fits:?}");
        seen.extend(ids);
    }
    let all: BTreeSet<_> = CAUSES.iter().map(|cause| cause.id).collect();
    assert_eq!(seen, all, "every cause has a text");
    assert_eq!(CAUSES.len(), all.len(), "ids are unique");
}

#[test]
fn what_is_common_in_logs_counts_only_alone() {
    let ids = |text: &str| {
        let fits = with(&Fixture::healthy(), 47, |host| explain(text, host));
        fits.iter().map(|fit| fit.cause.id).collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from(["interpreter-not-held", "program-not-there"]);
    assert_eq!(ids("\n No such file or directory.\n"), both);
    assert_eq!(ids("open /etc/app.conf\nNo such file or directory\n"), BTreeSet::new());
    assert_eq!(ids("open /etc/app.conf: no such file or directory"), BTreeSet::new());
}

/// A text, the host, its address bits, and what has to be told, in this order.
type OnHost<'a> = (&'a str, &'a Fixture, u32, &'a [(&'a str, Chance)]);

#[test]
fn the_host_says_what_is_likely() {
    use Chance::{Likely, Possible, Unlikely};
    let healthy = Fixture::healthy();
    let mut large = Fixture::healthy();
    large.0.facts.page_size = 16384;
    let copes = Fixture::with_emulator();
    let mut not_held = Fixture::healthy();
    not_held.replace(&rule("qemu-x86_64", QEMU, ""));
    let empty = Fixture::empty();
    let mut old = Fixture::healthy();
    old.0.facts.kernel_release = "6.1.0-40-arm64".into();
    let mut hidden = Fixture::empty();
    (hidden.0.kernel, hidden.0.facts.user_namespace) = (Kernel::NotMounted, true);
    let mut narrow = Fixture::healthy();
    narrow.0.facts.userland = Platform::named("arm");
    let exec = "exec /bin/app: exec format error";
    let rows: &[OnHost<'_>] = &[
        (exec, &healthy, 47, &[("wrong-program", Possible), ("handlers-masked", Possible), ("no-handler", Unlikely)]),
        (exec, &old, 47, &[("no-handler", Possible), ("wrong-program", Possible), ("handlers-masked", Unlikely)]),
        (exec, &hidden, 47, &[("handlers-masked", Likely), ("no-handler", Possible), ("wrong-program", Possible)]),
        (exec, &empty, 47, &[("no-handler", Likely), ("wrong-program", Possible), ("handlers-masked", Unlikely)]),
        (
            "exec /app: no such file or directory",
            &not_held,
            47,
            &[("interpreter-not-held", Likely), ("program-not-there", Possible)],
        ),
        (
            "exec /app: no such file or directory",
            &healthy,
            47,
            &[("program-not-there", Possible), ("interpreter-not-held", Unlikely)],
        ),
        ("x: failed to map segment from shared object", &healthy, 47, &[("large-pages", Unlikely)]),
        ("x: failed to map segment from shared object", &large, 47, &[("large-pages", Likely)]),
        ("x: failed to map segment from shared object", &copes, 47, &[("large-pages", Unlikely)]),
        ("<jemalloc>: Unsupported system page size", &copes, 47, &[("large-pages-native", Likely)]),
        ("exited with code 139", &healthy, 47, &[("qemu-crashed", Possible)]),
        ("exited with code 139", &large, 47, &[("qemu-crashed", Likely)]),
        ("runtime: lfstack.push", &healthy, 48, &[("go-addresses", Likely)]),
        ("runtime: lfstack.push", &healthy, 47, &[("go-addresses", Unlikely)]),
        ("exit status 159", &healthy, 47, &[("engine-32-bit", Unlikely)]),
        ("exit status 159", &narrow, 47, &[("engine-32-bit", Likely)]),
        ("hello", &healthy, 47, &[]),
        ("", &healthy, 47, &[]),
    ];
    for (text, fixture, bits, expected) in rows {
        let fits = with(fixture, *bits, |host| explain(text, host));
        assert_eq!(told(&fits), *expected, "{text}: {fits:?}");
    }
}

/// Each cure can be given on every host.
#[test]
fn every_cause_has_a_cure_everywhere() {
    let mut large = Fixture::empty();
    large.0.facts.page_size = 65536;
    for fixture in [Fixture::healthy(), Fixture::empty(), large] {
        with(&fixture, 52, |host| {
            for cause in CAUSES {
                let cure = (cause.cure)(host);
                assert!(cure.ends_with('.') && !cure.contains("  "), "{}: {cure}", cause.id);
                assert!(!cause.title.ends_with('.') && !cause.title.contains("  "), "{}", cause.id);
            }
        });
    }
}

#[test]
fn no_text_is_too_much() {
    let fixture = Fixture::healthy();
    let long = "exit ".repeat(200_000);
    let texts = ["\0\u{1b}[2J\u{202e}exec format error", &long, "exit 99999999999999999999", "\u{130}exit\u{131} 7"];
    with(&fixture, 47, |host| {
        for text in texts {
            assert!(explain(text, host).iter().all(|fit| fit.said.chars().count() <= 2000));
        }
    });
}

#[test]
fn exit_codes_are_read_as_engines_and_shells_tell_them() {
    for (line, code) in [
        ("web-1 exited with code 139", Some(139)),
        ("error: exit status 132", Some(132)),
        ("c1 img \"sh\" 2 hours ago exited (133) 2 hours ago", Some(133)),
        ("process completed with exit code 159.", Some(159)),
        ("exit code: 127", Some(127)),
        ("\"status\": \"exited\", \"exitcode\": 139,", Some(139)),
        ("exit 1000", None),
        ("exit", None),
        ("exited after 5 minutes, 139 of them", Some(5)),
        ("it exited; see http://x/139", None),
    ] {
        assert_eq!(exit_code(line), code, "{line}");
    }
}
