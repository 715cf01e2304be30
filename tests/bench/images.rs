// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times `image check` beside a loop of `skopeo inspect --raw`, for tests/bench.sh: images of one registry, which is 20
//! milliseconds away. Arguments: the program, and how many rounds.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what it is for")]

#[path = "../registries/mod.rs"]
mod registries;

use std::process::Command;
use std::time::{Duration, Instant};

use registries::{Delay, Flavour, PROGRAM, Registry, missing};

const SKOPEO: &str = "/usr/bin/skopeo";
const TIME: &str = "/usr/bin/time";
const IMAGES: usize = 100;
/// Each way.
const LATENCY: Duration = Duration::from_millis(10);

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [program, rounds] = arguments.as_slice() else { return eprintln!("usage: images PROGRAM ROUNDS") };
    if let Some(reason) = missing(&[PROGRAM, SKOPEO, TIME]) {
        return eprintln!("skipped: {reason}");
    }
    let registry = Registry::plain().start();
    let platforms = [("linux", "amd64", ""), ("linux", "arm", "v7"), ("linux", "arm64", "v8")];
    for number in 0..IMAGES {
        let name = format!("app{number}");
        registry.content.index(&name, "1", Flavour::Attested, &platforms[..=number % 3]);
    }
    let away = Delay::to(registry.address(), LATENCY);
    let images: Vec<String> = (0..IMAGES).map(|number| format!("{}/app{number}:1", away.address())).collect();
    let (mut loops, mut firsts, mut seconds, mut memory) = (Vec::new(), Vec::new(), Vec::new(), 0_u64);
    for _ in 0..rounds.parse().unwrap_or(5) {
        let start = Instant::now();
        for image in &images {
            let address = format!("docker://{image}");
            let output = Command::new(SKOPEO).args(["inspect", "--raw", "--tls-verify=false", &address]).output();
            assert!(output.expect("skopeo").status.success(), "{image}");
        }
        loops.push(start.elapsed());
        let home = tempfile::tempdir().expect("a folder");
        for times in [&mut firsts, &mut seconds] {
            let mut command = Command::new(TIME);
            command.args(["-f", "%M", program, "image", "check", "--json", "--for", "pi4"]).args(&images);
            let start = Instant::now();
            let output = command.env_clear().env("HOME", home.path()).output().expect("time");
            times.push(start.elapsed());
            let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let known = told["images"].as_array().expect("images").iter().filter(|image| image["error"].is_null());
            assert_eq!(known.count(), IMAGES);
            let said = String::from_utf8_lossy(&output.stderr);
            memory = memory.max(said.lines().last().and_then(|line| line.trim().parse().ok()).expect("KiB"));
        }
    }
    let [loops, first, second] = [&mut loops, &mut firsts, &mut seconds].map(|times| median(times));
    println!("skopeo inspect --raw, one by one   median {loops:7.0} ms   ({rounds} rounds of {IMAGES} images)");
    println!("image check                        median {first:7.0} ms   {:.1} times faster", loops / first);
    println!("image check, again                 median {second:7.0} ms   {:.2} of the first time", second / first);
    println!("image check, peak memory           {memory:7} KiB");
}
