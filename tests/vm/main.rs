// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real systems: Debian booted in virtual machines, the package installed in it, and then all that
//! breaks foreign containers: reboots, power cuts, flushes, upgrades, other tools.
//!
//! They take minutes: they run where the environment says `QEMU_PERSIST_VM=quick` or `full`, as
//! `tests/run.sh --vm=...` does, and one at a time (.config/nextest.toml).

#![allow(unreachable_pub, clippy::must_use_candidate, reason = "modules of a test program")]
#![allow(clippy::print_stderr, reason = "a test says aloud why it is skipped and how long its steps take")]

#[path = "../emulator/built.rs"]
mod built;
mod emulator;
mod machine;
mod shell;
mod steps;
mod system;
mod verdict;

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
    match mode() {
        Some(Mode::Quick) => keeps_its_containers(TRIXIE, &Extent { full: false, sizes: &["16k"], cuts: 1 }),
        Some(Mode::Full) => keeps_its_containers(TRIXIE, &Extent { full: true, sizes: &["16k", "4k"], cuts: 10 }),
        None => {}
    }
}

#[test]
fn bookworm_arm64_keeps_its_containers() {
    if is_full() {
        keeps_its_containers(BOOKWORM, &ONCE);
    }
}

#[test]
fn a_system_set_up_by_the_article_keeps_its_containers() {
    if is_full() {
        keeps_its_containers(ARTICLE, &ONCE);
    }
}

#[test]
fn trixie_amd64_keeps_its_containers() {
    if is_full() {
        keeps_its_containers(X86, &ONCE);
    }
}

/// How much of a system's life is gone through.
struct Extent {
    /// Every breakage, the proof after every boot, Debian's own rules, and a boot after the removal.
    full: bool,
    /// The pages of the kernels that are booted after the installation, one after the other.
    sizes: &'static [&'static str],
    /// How many times the power is cut.
    cuts: u32,
}

const ONCE: Extent = Extent { full: true, sizes: &["4k"], cuts: 1 };

/// The whole life of a system with Docker, from the installation to the removal. A boot is what
/// takes the longest, so each shows as much as it can; `status` waits for the self-test, which is due
/// a while after the boot, and so comes late.
fn keeps_its_containers(image: Image, extent: &Extent) {
    let mut system = System::new(image, image.name);
    let system = &mut system;
    let mut steps = Steps::default();
    let (mut before, mut with_rules) = (None, None);
    steps.require("boot", || system.boot("4k"));
    steps.step("before the installation", || {
        system.load_images();
        if extent.full && system.has_spare_rules() {
            with_rules = Some(system.try_spare_rules());
        }
        let handlers = system.handlers();
        if !handlers.contains_key(&system.handler()) {
            system.refuses_container();
        }
        before = Some(handlers);
    });
    steps.require("installation", || system.install());
    steps.step("a container runs, after the installation", || system.runs_container());
    steps.step("a container that is to be restarted", || system.start_lasting());
    if extent.full {
        steps.step("status", || system.is_healthy());
    }
    for &size in extent.sizes {
        steps.require(&format!("reboot, with pages of {size}"), || system.reboot(size));
        steps.step("the container runs again", || system.lasting_runs());
        steps.step("another container runs", || system.runs_container());
        steps.step("share of the boot", || system.tell_boot());
        if system.has_programs() {
            steps.step("the verdict agrees with what programs do", || system.tells_what_programs_do(size));
            steps.step("32-bit ARM", || system.tells_of_32_bit_arm(size));
            steps.step("the probes pass natively", || system.probes_pass_natively(size));
            if extent.full {
                steps.step("the same with an older QEMU", || system.tells_what_programs_do_with_older(size));
            }
            if size == "16k" {
                uses_the_emulator(system, &mut steps, size);
            }
        }
        if extent.full {
            steps.step("status", || system.is_healthy());
        }
    }
    for breakage in system::BREAKAGES.iter().filter(|breakage| extent.full || breakage.quick) {
        steps.step(breakage.name, || system.survives(breakage));
    }
    steps.step("status", || system.is_healthy());
    for cut in 1..=extent.cuts {
        steps.require(&format!("boot after power cut {cut} during apply"), || system.cut_power_during_apply(cut));
        steps.step("the journal tells of it", || system.told_boot());
        steps.step("the container runs again", || system.lasting_runs());
        steps.step("another container runs", || system.runs_container());
    }
    if extent.full {
        steps.step("status", || system.is_healthy());
    }
    if with_rules.is_some() {
        steps.step("the distribution's rules come", || system.hands_over());
        before = with_rules;
    }
    let handlers = before.expect("the first look");
    steps.step("uninstall", || system.uninstall(&handlers));
    if extent.full {
        steps.require("boot after the removal", || system.reboot("4k"));
        steps.step("the same handlers", || system.has_exactly(&handlers));
    }
    steps.step("power off", || system.machine.shut_down("poweroff"));
    steps.finish();
}

/// The package qemu-persist-emulator comes and goes, and leaves all as it was.
fn uses_the_emulator(system: &mut System, steps: &mut Steps, size: &str) {
    let handlers = system.handlers();
    steps.step("a QEMU in its place that does not help", || system.gives_up_one_that_does_not_help());
    steps.step("the same handlers", || system.has_exactly(&handlers));
    steps.step("qemu-persist-emulator is installed", || system.takes_up_the_emulator());
    steps.step("the verdict agrees with what programs do", || system.tells_what_programs_do(size));
    steps.step("qemu-persist-emulator is removed", || system.gives_up_the_emulator());
    steps.step("the same handlers", || system.has_exactly(&handlers));
}

#[test]
fn programs_of_debian_run_with_the_emulator() {
    if is_full() {
        emulator::proves_the_emulator(TRIXIE);
    }
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
    steps.step("a self-test that is asked for while one runs", || system.runs_self_test_again());
    steps.step("binfmt_misc is unmounted", || system.survives_unmount());
    steps.step("a self-test that is asked for where nothing is wanted", || system.proves_nothing_without_failing());
    steps.step("power off", || system.machine.shut_down("poweroff"));
    steps.finish();
}
