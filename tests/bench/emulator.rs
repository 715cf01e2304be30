// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times a fixed set of arm64 programs under several QEMUs side by side, on an x86 host:
//!   cargo bench --bench emulator -- ROUNDS NAME=QEMU-AARCH64 NAME=QEMU-AARCH64… [-- ARGUMENT…]
//! What follows `--` is given to each QEMU in place of the set: a program with its arguments, options of QEMU before it.
//! The first is what the others are compared with. In each round every program runs once under each, in an order that
//! changes. What counts is the processor's time of the whole tree of processes, and of it the least over the rounds, since
//! other work of the machine only adds to it. A ratio above 1 is faster. The noise is the first against itself: its even
//! rounds against its odd ones.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what it is for")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio, exit};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// Its name, how often it runs at a time, and the program with its arguments.
type Guest<'a> = (&'a str, u32, &'a [&'a str]);

const SHELL: &str = "i=0; while [ $i -lt 300 ]; do (exit 0); x=$(echo $i); i=$((i + 1)); done
    while [ $i -lt 12000 ]; do case $i in *7) y=$y.;; esac; i=$((i + 1)); done";
const AWK: &str = "BEGIN { for (i = 1; i < 60000; i++) { s += i * 1.0001 / (i + 0.5); t = t * 0.999 + s } print s, t }";

const GUESTS: [Guest<'static>; 11] = [
    ("integer", 1, &["int"]),
    ("gzip", 1, &["busybox", "gzip", "-c", "data"]),
    ("sha256", 1, &["busybox", "sha256sum", "data"]),
    ("sort", 1, &["busybox", "sort", "-k3", "text"]),
    ("float", 1, &["fp"]),
    ("awk", 1, &["busybox", "awk", AWK]),
    ("memory", 1, &["mem"]),
    ("syscalls", 1, &["sys"]),
    ("exec", 30, &["busybox", "true"]),
    ("shell", 1, &["busybox", "sh", "-c", SHELL]),
    ("threads", 1, &["thr"]),
];

/// What is compiled, of the folder `guests`.
const SOURCES: [&str; 5] = ["int", "fp", "mem", "sys", "thr"];

/// Puts the programs and what they work on into `folder`.
fn prepare(folder: &Path) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for source in SOURCES {
        let mut gcc = Command::new("aarch64-linux-gnu-gcc");
        gcc.args(["-O2", "-static", "-pthread", "-o"]).arg(folder.join(source));
        gcc.arg(tests.join("bench/guests").join(source).with_extension("c")).arg("-lm");
        assert!(gcc.status().is_ok_and(|status| status.success()), "{gcc:?}: apt-get install gcc-aarch64-linux-gnu");
    }
    let busybox = tests.join("cache/busybox/arm64/bin/busybox");
    let busybox = fs::read(&busybox).unwrap_or_else(|e| panic!("{}: {e}; tests/run.sh fetches it", busybox.display()));
    let mut text = String::new();
    let mut x: u64 = 12_345;
    for i in 1..=15_000 {
        x = (x * 1_103_515_245 + 12_345) % (1 << 31);
        let columns = [x / 65_536 % 100, x / 7 % 9973, i * 31 % 1009, x % 10];
        let [first, word, whole, part] = columns;
        writeln!(text, "{x} {first} word{word} {whole}.{part} lorem ipsum dolor").expect("memory");
    }
    let data = [text.as_bytes(), &busybox[..busybox.len().min(1_500_000)], text.as_bytes()].concat();
    fs::write(folder.join("text"), text).expect("a file");
    fs::write(folder.join("data"), data).expect("a file");
    fs::write(folder.join("busybox"), busybox).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.join("busybox"), mode).expect("a mode");
}

/// The processor's time of all that has been waited for, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a run are few")]
fn used() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e3
}

/// Runs a guest in `folder`, and gives what it took.
fn run(folder: &Path, emulator: &str, (name, times, words): Guest<'_>) -> f64 {
    let before = used();
    for _ in 0..times {
        let mut command = Command::new(emulator);
        command.current_dir(folder).args(words).stdin(Stdio::null()).stdout(Stdio::null());
        assert!(command.status().is_ok_and(|status| status.success()), "{name}: {command:?}");
    }
    used() - before
}

fn least(times: impl Iterator<Item = f64>) -> f64 {
    times.fold(f64::INFINITY, f64::min)
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    // Cargo passes `--bench` as well.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (words, own) = match words.iter().position(|word| word == "--") {
        Some(at) => (&words[..at], words[at + 1..].iter().map(String::as_str).collect()),
        None => (&words[..], Vec::new()),
    };
    let rounds = words.first().and_then(|word| word.parse().ok()).filter(|rounds| *rounds > 1);
    let emulators: Option<Vec<_>> = words.iter().skip(1).map(|word| word.split_once('=')).collect();
    let (Some(rounds), Some(emulators @ [_, _, ..])) = (rounds, emulators.as_deref()) else {
        eprintln!("usage: cargo bench --bench emulator -- ROUNDS NAME=QEMU-AARCH64 NAME=QEMU-AARCH64… [-- ARGUMENT…]");
        exit(64);
    };
    let temporary = tempfile::tempdir().expect("a folder");
    let own: [Guest<'_>; 1] = [("own", 1, &own)];
    let (folder, guests) = if own[0].2.is_empty() {
        prepare(temporary.path());
        (temporary.path(), &GUESTS[..])
    } else {
        (Path::new("."), &own[..])
    };

    let mut took = vec![vec![Vec::new(); emulators.len()]; guests.len()];
    for round in 0..rounds {
        for (guest, took) in guests.iter().zip(&mut took) {
            for turn in 0..emulators.len() {
                let which = (round + turn) % emulators.len();
                took[which].push(run(folder, emulators[which].1, *guest));
            }
        }
    }

    println!("milliseconds of the processor, least (median) of {rounds} rounds; ratio of the least (of the medians)");
    print!("{:10}{:>18}{:>7}", "", emulators[0].0, "noise");
    emulators[1..].iter().for_each(|(name, _)| print!("{name:>18}{:>14}", "ratio"));
    println!();
    let mut sums = vec![(0.0, 0.0); emulators.len()];
    for ((name, ..), took) in guests.iter().zip(&took) {
        let figures: Vec<_> = took.iter().map(|times| (least(times.iter().copied()), median(times))).collect();
        let show = |(least, median): (f64, f64)| format!("{least:.0} ({median:.0})");
        let half = |odd: usize| least(took[0].iter().copied().skip(odd).step_by(2));
        let noise = (half(0) / half(1) - 1.0).abs() * 100.0;
        print!("{name:10}{:>18}{noise:>6.0}%", show(figures[0]));
        for (figure, sum) in figures.iter().zip(&mut sums).skip(1) {
            let ratios = (figures[0].0 / figure.0, figures[0].1 / figure.1);
            *sum = (sum.0 + ratios.0.ln(), sum.1 + ratios.1.ln());
            print!("{:>18}{:>14}", show(*figure), format!("{:.2} ({:.2})", ratios.0, ratios.1));
        }
        println!();
    }
    print!("{:10}{:25}", "geometric", "");
    let mean = |sum: f64| (sum / f64::from(u32::try_from(guests.len()).expect("few"))).exp();
    sums[1..].iter().for_each(|sum| print!("{:18}{:>14}", "", format!("{:.2} ({:.2})", mean(sum.0), mean(sum.1))));
    println!();
}
