// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens where the output cannot be written.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};

fn image(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("etc/qemu-persist")).unwrap();
    std::fs::write(dir.path().join("etc/qemu-persist/config.toml"), config).unwrap();
    dir
}

/// The exit code and the errors of a run whose output nobody reads, or goes to a full disk.
fn code_without_a_reader(arguments: &[&str], root: &Path, full: bool) -> (Option<i32>, String) {
    let output = if full {
        Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
    } else {
        let (_, writer) = nix::unistd::pipe().unwrap();
        Stdio::from(writer)
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_qemu-persist"));
    command.args(arguments).arg("--root").arg(root).stdout(output).stderr(Stdio::piped());
    let ended = command.spawn().unwrap().wait_with_output().unwrap();
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[test]
fn a_reader_that_goes_away_changes_no_exit_code() {
    let dir = image("platforms = [");
    for arguments in [&["status"][..], &["status", "--json"]] {
        assert_eq!(code_without_a_reader(arguments, dir.path(), false), (Some(2), String::new()), "{arguments:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_told() {
    let dir = image("");
    for (arguments, expected) in [(&["status"][..], 3), (&["status", "--json"], 3), (&["config", "check"], 2)] {
        let (code, said) = code_without_a_reader(arguments, dir.path(), true);
        assert!(code == Some(expected) && said.contains("No space left"), "{arguments:?}: {code:?} {said}");
    }
}

/// Whatever is on standard input, and however much of it.
#[test]
fn explain_takes_any_input() {
    use std::io::Write as _;
    let explain = |arguments: &[&str], input: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qemu-persist"))
            .arg("explain")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It stops reading where it has enough.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let binary: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    assert_eq!(explain(&[], &binary).0, Some(1));
    assert_eq!(explain(&["-"], b"").0, Some(1));
    let endless = b"exec format error\n".repeat(1_000_000);
    let (code, out, _) = explain(&["-"], &endless);
    assert!(code == Some(0) && out.contains("[no-handler]"), "{out}");
    let (code, out, _) = explain(&["exited", "with", "code", "139"], b"");
    assert!(code == Some(0) && out.contains("[qemu-crashed]") && out.lines().all(|l| l.chars().count() <= 80), "{out}");
    let (code, out, _) = explain(&["--", "-x: exec format error \u{1b}[2J\u{202e}"], b"");
    assert!(code == Some(0) && !out.contains('\u{1b}') && !out.contains('\u{202e}'), "{out}");
}
