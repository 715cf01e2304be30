// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the README says is what the program does: every command in it is run here, or listed with
//! the reason why it is only looked at, and what is shown is what comes out.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod codes;
#[path = "../engines/mod.rs"]
mod engines;
#[path = "../registries/mod.rs"]
mod registries;
#[path = "../sandbox/mod.rs"]
mod sandbox;
mod situations;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::Parser as _;
use qemu_persist::cli::Cli;
use qemu_persist::emulator::PACKAGE;
use sandbox::{Ran, Sandbox, TABLE};
use yaml_rust2::{Yaml, YamlLoader};

const README: &str = include_str!("../../README.md");

/// The text between the blocks, and the blocks: the word behind the fence, and the lines.
fn parts() -> (String, Vec<(&'static str, &'static str)>) {
    let (mut text, mut blocks) = (String::new(), Vec::new());
    for (number, part) in README.split("```").enumerate() {
        match part.split_once('\n') {
            Some(block) if number % 2 == 1 => blocks.push(block),
            _ => text.push_str(part),
        }
    }
    (text, blocks)
}

/// The code spans in `text`, each on one line.
fn spans(text: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The rows of the table whose head begins with `head`, each split into its cells.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let lines = README.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The head of the table of situations.
const SITUATIONS: &str = "| what you see or want |";

/// How a command of the README is shown to be right.
enum Shown {
    /// It is run in a sandbox on which something good is registered, has to end with this code, and
    /// its output to contain that.
    Runs(i32, &'static str),
    /// By the test of the screens, here or in tests/image_check, or of the Ansible tasks.
    Elsewhere,
    /// It is only looked at, and why.
    Parsed(&'static str),
    /// It is no command.
    Text,
}
use Shown::{Elsewhere, Parsed, Runs, Text};

const CHANGES: &str = "it changes the machine that the tests run on";
const LONG: &str = "it is run by itself, for it takes minutes";

/// Everything in a code span or a block that has a blank in it, other than in the situations.
const COMMANDS: &[(&str, Shown)] = &[
    ("exec format error", Text),
    ("uname -m", Text),
    ("sudo packaging/install.sh", Parsed(CHANGES)),
    ("sudo packaging/install.sh qemu-persist_0.1.0_arm64.deb", Parsed(CHANGES)),
    ("packaging/build-deb.sh --arch arm64", Parsed("tests/run.sh runs it: it takes minutes and a cross compiler")),
    ("sudo tests/run.sh", Parsed("it is what runs this test")),
    ("qemu-persist status", Elsewhere),
    ("qemu-persist image check --for pi5 nginx:1.27 mcr.microsoft.com/mssql/server:2022-latest", Elsewhere),
    ("cat compose.yaml", Text),
    ("qemu-persist compose check --for pi5", Elsewhere),
    ("failed to map segment from shared object", Text),
    (
        "sudo packaging/qemu/build.sh --arch arm64",
        Parsed("tests/run.sh runs it: it takes minutes and a cross compiler"),
    ),
    ("sudo apt-get install ./target/debian/qemu-persist-emulator_*_arm64.deb", Parsed(CHANGES)),
    ("sudo qemu-persist apply", Parsed("the row of the situations that has it is run")),
    ("sudo qemu-persist selftest", Parsed("the row of the situations that has it is run")),
    ("sudo apt-get purge qemu-persist-emulator", Parsed(CHANGES)),
    ("sudo qemu-persist fix page-size", Parsed("tests/fix.rs runs it, on other systems than this one")),
    ("apply --check", Runs(0, "Nothing to do.")),
    ("remove --check", Runs(1, "would note in /var/lib/qemu-persist/removed")),
    ("man qemu-persist-findings", Parsed("the package has it, and is not installed here")),
    ("man qemu-persist.toml", Parsed("the package has it, and is not installed here")),
    (r#"{"schema": 1, "error": "...", "exit_code": 78}"#, Text),
    ("qemu-persist apply --json", Elsewhere),
    ("qemu-persist selftest", Elsewhere),
    ("qemu-persist status --wait", Runs(1, "Verdict: warning")),
    ("image check", Text),
    ("compose check", Text),
    ("qemu-persist config show", Runs(0, "platforms")),
    ("qemu-persist config check", Runs(0, "")),
    ("sudo qemu-persist remove", Runs(0, "that nothing is wanted")),
    ("sudo apt-get purge qemu-persist", Parsed(CHANGES)),
    ("apt-get remove", Text),
    ("apt-get upgrade", Text),
    ("tests/fuzz/run.sh SECONDS", Parsed(LONG)),
];

#[test]
fn everything_that_looks_like_a_command_is_accounted_for() {
    let (text, blocks) = parts();
    let situations: Vec<_> = text.lines().filter(|line| !is_situation(line)).collect();
    let mut found: BTreeSet<String> = spans(&situations.join("\n")).into_iter().filter(|s| s.contains(' ')).collect();
    for (kind, block) in blocks {
        match kind {
            "sh" => found.extend(block.lines().map(str::to_owned)),
            "console" => found.extend(block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned)),
            "yaml" => found.extend(tasks(block).into_iter().map(|task| task.command)),
            other => panic!("a block of a kind that nothing is known of: {other}"),
        }
    }
    let known: BTreeSet<String> = COMMANDS.iter().map(|(command, _)| (*command).to_owned()).collect();
    let (unknown, gone): (Vec<_>, Vec<_>) = (found.difference(&known).collect(), known.difference(&found).collect());
    assert!(unknown.is_empty() && gone.is_empty(), "not accounted for: {unknown:#?}; not in it any more: {gone:#?}");
}

fn is_situation(line: &str) -> bool {
    line.starts_with('|') && table(SITUATIONS).iter().any(|row| line.contains(row[0]))
}

/// Whether the program takes a command line, whose name may be left out.
fn parses(command: &str) -> Result<(), String> {
    let command = command.trim_start_matches("sudo ").trim_start_matches("qemu-persist ");
    Cli::try_parse_from(std::iter::once("qemu-persist").chain(command.split(' '))).map(drop).map_err(|e| e.to_string())
}

#[test]
fn what_is_not_run_is_at_least_there() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (command, shown) in COMMANDS {
        let Parsed(reason) = shown else { continue };
        let words: Vec<_> = command.split(' ').filter(|word| *word != "sudo").collect();
        match words[0] {
            "apt-get" => {
                let name = words[2].trim_start_matches("./target/debian/").split('_').next();
                assert!([Some("qemu-persist"), Some(PACKAGE)].contains(&name), "{command}");
            }
            "qemu-persist" => assert_eq!(parses(command), Ok(())),
            "man" => {
                let source = tree.join("packaging/man").join(format!("{}.5", words[1]));
                let assets = std::fs::read_to_string(tree.join("packaging/assets.rs")).unwrap();
                assert!(source.exists() || assets.contains(words[1]), "{command}");
            }
            script => {
                let checked = Command::new("bash").arg("-n").arg(tree.join(script)).status().unwrap();
                assert!(checked.success(), "{command}");
            }
        }
        eprintln!("only looked at: {command}: {reason}");
    }
}

/// Runs the command line `command` in the sandbox; it has to end with `code`.
fn run(host: &Sandbox, command: &str, code: i32) -> Ran {
    let words: Vec<_> = command.split(' ').filter(|word| !["sudo", "qemu-persist"].contains(word)).collect();
    let ran = host.qemu_persist(&words);
    assert_eq!(ran.code, code, "{command}: {ran:?}");
    ran
}

/// What was written, without the ends of lines.
fn told(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn good(host: &Sandbox) {
    host.apply(&[], 0);
}

#[test]
fn every_command_runs() {
    for (command, shown) in COMMANDS {
        let Runs(code, expected) = shown else { continue };
        let host = sandbox!();
        good(&host);
        let ran = run(&host, command, *code);
        assert!(ran.out.contains(expected), "{command}: {ran:?}");
    }
}

fn starts(host: &Sandbox) {
    let ran = host.run_foreign();
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// A task of the Ansible block.
struct Task {
    command: String,
    /// Whether its result tells if anything was changed.
    tells: bool,
}

fn tasks(block: &str) -> Vec<Task> {
    let documents = YamlLoader::load_from_str(block).unwrap();
    let [Yaml::Array(tasks)] = &documents[..] else { panic!("one list of tasks is expected: {documents:?}") };
    let read = |task: &Yaml| {
        let command = task["ansible.builtin.command"].as_str().expect("a command").to_owned();
        let tells = match &task["changed_when"] {
            Yaml::Boolean(false) => false,
            Yaml::String(expression) => {
                assert_eq!(expression, "(result.stdout | from_json).changed");
                assert_eq!(task["register"].as_str(), Some("result"));
                true
            }
            other => panic!("{other:?}"),
        };
        assert!(task["name"].as_str().is_some());
        Task { command, tells }
    };
    tasks.iter().map(read).collect()
}

#[test]
fn the_ansible_tasks_do_what_their_names_say() {
    let (_, blocks) = parts();
    let block = blocks.iter().find(|(kind, _)| *kind == "yaml").unwrap().1;
    let host = sandbox!();
    for changed in [true, false] {
        for task in tasks(block) {
            let ran = run(&host, &task.command, 0);
            if task.tells {
                let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
                assert_eq!(told["changed"], changed, "{}", task.command);
            }
        }
    }
    starts(&host);
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
    let held = host.serve();
    let [good, off] = screens()[..] else { panic!("two screens are expected") };
    // How long ago it was, and notes about the sandbox itself, are left aside.
    let shown = |code| {
        let ran = host.qemu_persist(&["status"]);
        assert_eq!(ran.code, code, "{ran:?}");
        let mut lines: Vec<_> = ran.out.lines().map(str::to_owned).collect();
        for line in &mut lines {
            for then in ["  proof        a container ran ", "  last look    "] {
                if line.starts_with(then) {
                    *line = format!("{then}0 seconds ago");
                }
            }
            if let Some(version) = line.strip_prefix("  started      2 minutes ago, ") {
                *line = format!("  started      2 hours ago, {version}");
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
    host.let_go(held);
    host.sh(&format!("echo 0 > {TABLE}/status"));
    assert_eq!(shown(2), off.trim());
}
