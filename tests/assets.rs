// SPDX-License-Identifier: MIT OR Apache-2.0
//! The man pages and the completions: there is one for every verb, and their readers accept them.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]
#![cfg(feature = "assets")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use qemu_persist::cli::Cli;

fn write_assets(folder: &Path) {
    let status =
        Command::new(env!("CARGO_BIN_EXE_qemu-persist-assets")).arg(folder).arg("2026-11-23").status().unwrap();
    assert!(status.success());
}

fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn read_all(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = ["man", "completions"].map(|sub| list(&folder.join(sub))).concat();
    files.iter().map(|f| (f.strip_prefix(folder).unwrap().to_owned(), fs::read(f).unwrap())).collect()
}

/// What `program` says of `file` on its standard error, or none where there is no such program.
fn complaints(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let output =
        Command::new(program).args(arguments).arg(file).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").output();
    let Ok(output) = output else {
        eprintln!("skipped: {program} is not installed, which checks {}", file.display());
        return None;
    };
    assert!(output.status.success(), "{program} {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_verb_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    write_assets(folder.path());
    for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let page = folder.path().join(format!("man/qemu-persist-{}.1", verb.get_name()));
        let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        assert!(text.contains("EXIT STATUS") && text.contains("2026-11-23"), "{}", page.display());
    }
}

/// The ids that the source text gives to findings.
fn ids_in_source(folder: &Path, ids: &mut BTreeSet<String>) {
    for file in list(folder) {
        if file.is_dir() {
            // Not what tests make up.
            if file.file_name().is_some_and(|name| name != "tests") {
                ids_in_source(&file, ids);
            }
            continue;
        }
        let Ok(text) = fs::read_to_string(&file) else { continue };
        // The list itself does not count.
        let text = if file.ends_with("src/finding.rs") { String::new() } else { text };
        let program = text.split("#[cfg(test)]").next().unwrap();
        for before in ["id: \"", "defect_check!(\"", "(\"selftest-"] {
            let prefix = before.rsplit('"').next().unwrap();
            ids.extend(
                program.split(before).skip(1).map(|rest| format!("{prefix}{}", rest.split('"').next().unwrap())),
            );
        }
    }
}

#[test]
fn every_finding_is_in_its_man_page() {
    let folder = tempfile::tempdir().unwrap();
    write_assets(folder.path());
    let page = fs::read_to_string(folder.path().join("man/qemu-persist-findings.7")).unwrap().replace("\\-", "-");
    let listed = page.lines().filter_map(|line| line.strip_prefix("\\fB")?.strip_suffix("\\fR")).map(str::to_owned);
    let mut ids = BTreeSet::new();
    ids_in_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut ids);
    assert_eq!(listed.collect::<BTreeSet<_>>(), ids);
}

#[test]
fn man_pages_raise_no_warning() {
    let folder = tempfile::tempdir().unwrap();
    write_assets(folder.path());
    let written_by_hand = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man");
    for page in [list(&folder.path().join("man")), list(&written_by_hand)].concat() {
        // As lintian does it.
        let arguments = ["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"];
        assert_eq!(complaints("man", &arguments, &page).unwrap_or_default(), "", "{}", page.display());
    }
}

#[test]
fn shells_can_read_the_completions() {
    let folder = tempfile::tempdir().unwrap();
    write_assets(folder.path());
    for (shell, name) in [("bash", "qemu-persist"), ("zsh", "_qemu-persist"), ("fish", "qemu-persist.fish")] {
        let file = folder.path().join("completions").join(name);
        assert_eq!(complaints(shell, &["-n"], &file).unwrap_or_default(), "", "{}", file.display());
    }
}

#[test]
fn the_same_date_gives_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_assets(one.path());
    write_assets(two.path());
    assert_eq!(read_all(one.path()), read_all(two.path()));
}

#[test]
fn the_example_of_the_configuration_is_right() {
    let page = include_str!("../packaging/man/qemu-persist.toml.5");
    let example = page.split(".EX\n").nth(1).unwrap().split(".EE").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("etc/qemu-persist/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, example.replace("\\-", "-").replace("\\e", "\\")).unwrap();
    let check = ["config", "check", "--root"];
    let output = Command::new(env!("CARGO_BIN_EXE_qemu-persist")).args(check).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, format!("{}: ok\n", file.display()));
}
