// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times the self-test with Docker beside what it takes by hand, for tests/bench.sh: loading the same image, running it,
//! and removing it. Argument: how many rounds.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what it is for")]

#[path = "../engines/mod.rs"]
mod engines;

use std::time::{Duration, Instant};

use engines::{FOREIGN, Host, MACHINE, rule};
use qemu_persist::platform::Platform;
use qemu_persist::selftest::image::{archive, programs};

const IMAGE: &str = "localhost/by-hand:1";

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn main() {
    // Cargo passes `--bench` as well.
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(20);
    let host = match Host::new(&["/usr/sbin/dockerd", "/usr/sbin/runc"]) {
        Ok(host) => host,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    host.start_docker();
    host.register(&rule());
    let platform = Platform::named(FOREIGN.0).expect("a platform");
    let image = archive(platform, IMAGE, &programs(platform)).expect("an archive");
    let run = format!("docker run --rm --network none --platform linux/{} {IMAGE} nonce </dev/null", FOREIGN.0);
    let by_hand = || {
        host.load("docker", &image);
        assert!(host.sh(&run).contains(MACHINE), "it has to answer");
        host.sh(&format!("docker rmi {IMAGE}"));
    };
    let selftest = |depth: &str| {
        let report = host.selftest(&["--runtime", "docker", "--depth", depth]);
        assert_eq!(report.verdict("docker"), "pass", "{report:#?}");
    };
    let ways: [(&str, &dyn Fn()); 3] =
        [("by hand", &by_hand), ("quick", &|| selftest("quick")), ("full", &|| selftest("full"))];
    let mut times = [const { Vec::new() }; 3];
    for round in 0..=rounds {
        for ((_, way), times) in ways.iter().zip(&mut times) {
            let start = Instant::now();
            way();
            // The first round finds nothing in any cache.
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    let [hand, quick, full] = times.each_mut().map(|times| median(times));
    println!("load, run and remove by hand   median {hand:7.0} ms   ({rounds} rounds)");
    println!("selftest --depth quick         median {quick:7.0} ms   {:.2} times that", quick / hand);
    println!("selftest --depth full          median {full:7.0} ms   {:.2} times that", full / hand);
}
