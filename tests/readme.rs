// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the README says is what the program does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod sandbox;

use std::path::Path;

use clap::Parser as _;
use qemu_persist::cli::Cli;
use sandbox::TABLE;

const README: &str = include_str!("../README.md");

/// The commands in code spans and shell blocks that begin with `qemu-persist`, with or without sudo.
fn commands() -> Vec<String> {
    let joined = README.replace('\n', " \n");
    let spans = joined.split('`').skip(1).step_by(2).flat_map(str::lines).map(str::trim);
    let lines = README.lines().map(|line| line.trim_start_matches("$ "));
    let yaml = README.lines().filter_map(|line| line.split_once("command: ").map(|(_, command)| command));
    let all = spans.chain(lines).chain(yaml).map(|c| c.trim_start_matches("sudo ").to_owned());
    all.filter(|c| c.starts_with("qemu-persist ") && !c.contains("_0.1.0") && !c.contains(" DIR ")).collect()
}

#[test]
fn every_command_is_one_that_the_program_takes() {
    let commands = commands();
    assert!(commands.len() >= 15, "{commands:?}");
    let mut wrong = Vec::new();
    for command in commands {
        let words = command.split_whitespace().map(|word| word.replace("IMAGE", "alpine").replace("DIR", "/mnt"));
        if let Err(e) = Cli::try_parse_from(words) {
            wrong.push(format!("{command}: {e}"));
        }
    }
    // A code span that is broken over two lines is not a whole command.
    wrong.retain(|text| !text.starts_with("qemu-persist config:"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_that_is_named_is_there() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = README.split(|c: char| c.is_whitespace() || "`(),".contains(c));
    let files = words.filter(|word| ["packaging/", "tests/", "src/"].iter().any(|folder| word.starts_with(folder)));
    let missing: Vec<_> = files.filter(|file| !tree.join(file.trim_end_matches(['.', ';', ':'])).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The console blocks, each without its command line.
fn screens() -> Vec<&'static str> {
    let blocks = README.split("```console\n$ qemu-persist status\n").skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0).collect()
}

#[test]
fn the_screens_are_what_status_shows() {
    let host = sandbox!();
    host.write("/var/lib/dpkg/info/qemu-user-static.list", "/usr/bin/qemu-aarch64-static\n");
    host.write(
        "/var/lib/dpkg/status",
        "Package: qemu-user-static\nStatus: install ok installed\nVersion: 1:7.2+dfsg-7+deb12u18\n\n",
    );
    host.apply(&[], 0);
    assert_eq!(host.qemu_persist(&["selftest", "--runtime", "builtin"]).code, 0);
    let [good, off] = screens()[..] else { panic!("two screens are expected") };
    // How long ago it was, and notes about the sandbox itself, are left aside.
    let shown = |code| {
        let ran = host.qemu_persist(&["status"]);
        assert_eq!(ran.code, code, "{ran:?}");
        let mut lines: Vec<_> = ran.out.lines().map(str::to_owned).collect();
        for line in &mut lines {
            if line.trim_start().starts_with("proof") {
                *line = "  proof        a container ran 0 seconds ago".to_owned();
            }
        }
        while let Some(note) = lines.iter().position(|line| line.starts_with("note")) {
            let end = note + 1 + lines[note + 1..].iter().take_while(|line| line.starts_with("   ")).count();
            lines.drain(note..end);
        }
        let text = lines.join("\n");
        text.replace("\n\n\n", "\n\n").trim().to_owned()
    };
    assert_eq!(shown(0), good.trim());
    host.sh(&format!("echo 0 > {TABLE}/status"));
    assert_eq!(shown(2), off.trim());
}
