// SPDX-License-Identifier: MIT OR Apache-2.0
//! `packaging/install.sh` refuses what cannot work before it changes anything.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Runs it where `uname` and `dpkg` answer as told and `apt-get` always fails; gives code and stderr.
fn install(kernel: &str, userland: &str, deb: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, body) in
        [("uname", format!("echo {kernel}")), ("dpkg", format!("echo {userland}")), ("apt-get", "exit 99".into())]
    {
        let file = folder.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install.sh");
    let output = Command::new("bash").arg(script).arg(deb).env("PATH", path).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn unsupported_hosts_are_told_why() {
    let rows = [
        ("armv6l", "armhf", "ARMv6"),
        ("aarch64", "armhf", "64-bit kernel (aarch64) with a 32-bit userland (armhf)"),
        ("x86_64", "i386", "64-bit kernel (x86_64) with a 32-bit userland (i386)"),
        ("armv7l", "armhf", "32-bit ARM system"),
        ("riscv64", "riscv64", "not supported: userland riscv64 on kernel riscv64"),
    ];
    for (kernel, userland, reason) in rows {
        let (code, text) = install(kernel, userland, "no.deb");
        assert_eq!(code, 69, "{text}");
        assert!(text.contains(reason) && text.contains("next: "), "{text}");
    }
}

#[test]
fn a_file_that_is_no_package_of_ours_is_refused() {
    for (kernel, userland) in [("x86_64", "amd64"), ("aarch64", "arm64")] {
        let (code, text) = install(kernel, userland, "/etc/passwd");
        assert_eq!(code, 65, "{text}");
        assert!(text.contains("/etc/passwd is not a qemu-persist package"), "{text}");
    }
}
