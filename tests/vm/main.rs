// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real systems: Debian booted in virtual machines, the package installed in it, and then all that
//! breaks foreign containers: reboots, power cuts, flushes, upgrades, other tools.
//!
//! They take minutes: they run where the environment says `QEMU_PERSIST_VM=quick` or `full`, as
//! `tests/run.sh --vm=...` does, and one at a time (.config/nextest.toml).

#![allow(unreachable_pub, clippy::must_use_candidate, reason = "modules of a test program")]
#![allow(clippy::print_stderr, reason = "a test says aloud why it is skipped and how long its steps take")]

mod machine;
mod shell;
mod steps;
mod system;

use machine::Image;
use steps::Steps;
use system::System;

/// Docker, and QEMU 10 without Debian's rules for it.
const TRIXIE: Image = Image { name: "trixie-arm64", arch: "arm64" };
/// Docker, and QEMU 7.2 with Debian's rules.
const BOOKWORM: Image = Image { name: "bookworm-arm64", arch: "arm64" };
/// What the article's command installs: QEMU 7.2, Debian's rules and binfmt-support.
const ARTICLE: Image = Image { name: "article-arm64", arch: "arm64" };
/// No container engine.
const PLAIN: Image = Image { name: "plain-arm64", arch: "arm64" };
/// The other way round.
const X86: Image = Image { name: "trixie-amd64", arch: "amd64" };

/// What the environment asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Quick,
    Full,
}

/// None, and a word on standard error, where virtual machines are not asked for.
fn mode() -> Option<Mode> {
    match std::env::var("QEMU_PERSIST_VM").as_deref() {
        Ok("quick") => Some(Mode::Quick),
        Ok("full") => Some(Mode::Full),
        _ => {
            eprintln!("skipped: virtual machines are not asked for (QEMU_PERSIST_VM=quick, or full)");
            None
        }
    }
}

/// As [`mode`], for what takes too long for every day.
fn is_full() -> bool {
    let full = mode() == Some(Mode::Full);
    if !full {
        eprintln!("skipped: only with QEMU_PERSIST_VM=full");
    }
    full
}

#[test]
fn trixie_arm64_keeps_its_containers() {
    let Some(mode) = mode() else { return };
    let cuts = if mode == Mode::Full { 10 } else { 1 };
    keeps_its_containers(TRIXIE, cuts, &["16k", "4k"]);
}

#[test]
fn bookworm_arm64_keeps_its_containers() {
    if is_full() {
        keeps_its_containers(BOOKWORM, 1, &["4k"]);
    }
}

#[test]
fn a_system_set_up_by_the_article_keeps_its_containers() {
    if is_full() {
        keeps_its_containers(ARTICLE, 1, &["4k"]);
    }
}

#[test]
fn trixie_amd64_keeps_its_containers() {
    if is_full() {
        keeps_its_containers(X86, 1, &["4k"]);
    }
}

/// The whole life of a system with Docker, from the installation to the removal.
fn keeps_its_containers(image: Image, cuts: u32, sizes: &[&str]) {
    let mut system = System::new(image, image.name);
    let system = &mut system;
    let mut steps = Steps::default();
    let mut before = None;
    steps.require("boot", || system.boot("4k"));
    steps.step("before the installation", || {
        system.load_images();
        let handlers = system.handlers();
        if !handlers.contains_key(&system.handler()) {
            system.refuses_container();
        }
        before = Some(handlers);
    });
    steps.require("installation", || system.install());
    steps.step("a container runs, after the installation", || system.runs_container());
    steps.require("first reboot", || system.reboot("4k"));
    steps.step("a container runs", || system.runs_container());
    steps.step("status", || system.is_healthy());
    steps.step("a container that is to be restarted", || system.start_lasting());
    for &size in sizes {
        steps.require(&format!("reboot, with pages of {size}"), || system.reboot(size));
        steps.step("the container runs again", || system.lasting_runs());
        steps.step("another container runs", || system.runs_container());
        steps.step("status", || system.is_healthy());
        steps.step("share of the boot", || system.tell_boot());
    }
    for breakage in &system::BREAKAGES {
        steps.step(breakage.name, || system.survives(breakage));
    }
    for cut in 1..=cuts {
        steps.step(&format!("power cut {cut} during apply"), || system.survives_cut(cut));
    }
    steps.step("uninstall", || system.uninstall(before.as_ref().expect("the first look")));
    steps.step("power off", || system.machine.shut_down("poweroff"));
    steps.finish();
}

#[test]
fn a_system_without_docker_is_proven() {
    if !is_full() {
        return;
    }
    let mut system = System::new(PLAIN, PLAIN.name);
    let system = &mut system;
    let mut steps = Steps::default();
    steps.require("boot", || system.boot("4k"));
    steps.require("installation", || system.install());
    steps.require("boot after the installation", || system.reboot("4k"));
    steps.step("status", || system.is_healthy());
    steps.step("builtin self-test", || {
        let said = system.machine.sh("qemu-persist selftest --json");
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said["platforms"][0]["results"][0]["runtime"], "builtin", "{said:#}");
        assert_eq!(said["platforms"][0]["results"][0]["verdict"], "pass", "{said:#}");
    });
    steps.step("power off", || system.machine.shut_down("poweroff"));
    steps.finish();
}
