// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs on a host: the images that its engines take, and how their programs would be run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::assess::emulator::copes;
use crate::assess::look::Look;
use crate::assess::proven::Proven;
use crate::assess::{assess, plan::Wish};
use crate::config::Config;
use crate::files::Root;
use crate::finding::{Finding, Severity};
use crate::host::Facts;
use crate::host::arm::Arm32;
use crate::oci::platform::ImagePlatform;
use crate::platform::{PLATFORMS, Platform};
use crate::snapshot::Snapshot;

/// The highest level of amd64 that QEMU emulates: AVX2, from 7.2 on, and no AVX-512 (QEMU's ChangeLog/7.2).
const EMULATED_LEVEL: u8 = 3;

/// How programs of a foreign platform fare on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Emulation {
    /// A container of the platform ran here.
    Proven {
        /// How long ago, in seconds.
        seconds_ago: u64,
    },
    /// A handler is there, and nothing was run through it that counts.
    Unproven {
        /// What to know of it; may be empty.
        reason: String,
    },
    /// Containers start, and some programs in them do not.
    Endangered {
        /// Why.
        reason: String,
    },
    /// It is another host: QEMU can emulate it, and whether it does there is not known here.
    Possible,
    /// They do not run.
    None {
        /// What is missing.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// That could not be found out.
    Unknown {
        /// Why.
        reason: String,
        /// What to do.
        advice: String,
    },
}

/// A host, as far as it decides what runs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// How it is told of: `this host`, `a Raspberry Pi 5`.
    pub label: String,
    /// What its engines look for in an index.
    pub engine: ImagePlatform,
    /// The architectures that its CPU and kernel run, by their names in OCI platforms.
    pub native: Vec<String>,
    /// The variants of 32-bit ARM that it runs by itself.
    pub arm: Vec<String>,
    /// The level of amd64 that its CPU has; 0 where it is another.
    pub level: u8,
    /// Bytes per page; 0 where that is not known.
    pub page_size: u64,
    /// How programs of other architectures fare, by their names in OCI platforms.
    pub emulation: BTreeMap<&'static str, Emulation>,
}

/// Whether pages of `size` bytes keep programs of `platform` from starting that are laid out for pages of 4 KiB: those
/// of arm64 and ppc64le are laid out for 64 KiB.
fn is_endangered_by_pages(platform: &Platform, size: u64) -> bool {
    size > 4096 && !["arm64", "ppc64le"].contains(&platform.oci)
}

/// What large pages do.
fn large_pages(size: u64) -> String {
    format!("the kernel's pages have {} KiB, and programs that are laid out for 4 KiB do not start", size / 1024)
}

impl Host {
    /// The host that this runs on.
    pub fn this() -> Self {
        let root = Root::live();
        let (wanted, _error) = Snapshot::take(&root, true);
        // Handlers may be there for platforms that nobody asked this program for.
        let all = PLATFORMS.iter().filter(|platform| !wanted.facts.native.contains(platform)).collect();
        let config = Config { platforms: Some(all), disable: Vec::new(), ..wanted.config.clone() };
        let snapshot = Snapshot::with_config(&root, config, false);
        let assessment = assess(&snapshot, &Wish::default());
        let is_wanted = |platform: &Platform| wanted.targets.iter().any(|target| target.platform == Some(platform));
        let fares = assessment.looks.iter().filter_map(|look| {
            let platform = look.target.platform?;
            Some((platform.oci, fare(look, &assessment.findings, is_wanted(platform), snapshot.facts.page_size)))
        });
        Self::of(&snapshot.facts, fares.collect(), level_of_cpu())
    }

    fn of(facts: &Facts, emulation: BTreeMap<&'static str, Emulation>, level: u8) -> Self {
        let native: Vec<String> = facts.native.iter().map(|platform| platform.oci.to_owned()).collect();
        let arm = Arm32::read(facts).map_or_else(Vec::new, |arm| arm.native);
        let mut arm: Vec<String> = arm.into_iter().map(str::to_owned).collect();
        if !arm.is_empty() && ["aarch64", "armv8l"].contains(&facts.machine.as_str()) {
            arm.insert(0, "v8".to_owned());
        }
        let own = facts.native.first().map_or("", |platform| platform.oci);
        // An engine of a 32-bit system looks for 32-bit images, whatever the kernel runs.
        let is_32_bit = facts.userland.is_some_and(|userland| userland.oci == "arm" && own == "arm64");
        let engine = match if is_32_bit { "arm" } else { own } {
            "arm" => ImagePlatform::new("linux", "arm", arm.first().map_or("", String::as_str)),
            "" => ImagePlatform::new("linux", &facts.machine, ""),
            own => ImagePlatform::new("linux", own, ""),
        };
        Self { label: "this host".to_owned(), engine, native, arm, level, page_size: facts.page_size, emulation }
    }

    /// Some host of `platform`, of which nothing else is known. Programs of others could be emulated there.
    pub fn of_platform(platform: &ImagePlatform) -> Self {
        let architecture = platform.architecture();
        let native = match architecture {
            "amd64" => vec!["amd64".to_owned(), "386".to_owned()],
            other => vec![other.to_owned()],
        };
        let number = |text: &str| text.trim_start_matches('v').parse::<u8>().ok();
        let arm = match (architecture, number(platform.variant())) {
            ("arm", Some(newest)) => (5..=newest.min(8)).rev().map(|version| format!("v{version}")).collect(),
            _ => Vec::new(),
        };
        let level = if architecture == "amd64" { number(platform.variant()).unwrap_or(1) } else { 0 };
        let label = format!("a host of {platform}");
        Self { label, engine: platform.clone(), native, arm, level, page_size: 0, emulation: BTreeMap::new() }
            .with_others(0)
    }

    /// The same with pages of `page_size` bytes, and QEMU's handlers for what it does not run by itself.
    #[must_use]
    pub(super) fn with_others(mut self, page_size: u64) -> Self {
        let foreign = PLATFORMS.iter().filter(|platform| !self.native.iter().any(|native| native == platform.oci));
        let fare = |platform: &Platform| {
            if is_endangered_by_pages(platform, page_size) {
                Emulation::Endangered { reason: large_pages(page_size) }
            } else {
                Emulation::Possible
            }
        };
        self.emulation = foreign.map(|platform| (platform.oci, fare(platform))).collect();
        self.page_size = page_size;
        self
    }

    /// Whether its CPU and kernel run programs of `platform`, and its engines let them.
    pub fn runs(&self, platform: &ImagePlatform) -> bool {
        let architecture = platform.architecture();
        if platform.os() != "linux" || !self.native.iter().any(|native| native == architecture) {
            return false;
        }
        match architecture {
            "amd64" => platform.variant().trim_start_matches('v').parse().unwrap_or(1) <= self.level,
            "arm" => self.arm.iter().any(|variant| variant == platform.variant()),
            // Under a 32-bit engine 64-bit programs are ended by its filter of system calls (exit status 159).
            "arm64" => self.engine.architecture() == "arm64" && self.engine.taken().contains(platform),
            _ => true,
        }
    }

    /// What keeps programs of `platform` from starting although they run natively.
    pub fn danger(&self, platform: &ImagePlatform) -> Option<String> {
        (platform.architecture() == "arm" && self.page_size > 4096).then(|| large_pages(self.page_size))
    }

    /// How programs of `platform` fare under emulation; none where no emulator is known.
    pub fn emulates(&self, platform: &ImagePlatform) -> Option<&Emulation> {
        let level = platform.variant().trim_start_matches('v').parse().unwrap_or(1);
        if platform.os() != "linux" || (platform.architecture() == "amd64" && level > EMULATED_LEVEL) {
            return None;
        }
        self.emulation.get(platform.architecture())
    }
}

/// How programs of the platform that `look` is about fare, by what was found.
fn fare(look: &Look<'_>, findings: &[Finding], is_wanted: bool, page_size: u64) -> Emulation {
    let Some(platform) = look.target.platform else {
        return Emulation::None { reason: String::new(), advice: String::new() };
    };
    if !look.works_now() {
        let about =
            |finding: &&Finding| finding.subject.is_none() || finding.subject.as_ref() == Some(&look.target.subject);
        let worst = findings.iter().filter(about).filter(|finding| finding.severity >= Severity::Unknown);
        let worst = worst.max_by_key(|finding| finding.severity);
        let reason = worst.map_or("there is no handler for it".to_owned(), |finding| finding.message.clone());
        if let Some(finding) = worst.filter(|finding| finding.severity == Severity::Unknown) {
            return Emulation::Unknown { reason, advice: finding.advice.clone() };
        }
        let advice = match worst {
            Some(finding) if is_wanted => finding.advice.clone(),
            _ => format!("To have it emulated: `sudo qemu-persist enable {}`.", platform.oci),
        };
        return Emulation::None { reason, advice };
    }
    let broken: Vec<&str> = look.broken.iter().map(|part| part.part.as_str()).collect();
    if is_endangered_by_pages(platform, page_size) && !copes(look) {
        return Emulation::Endangered { reason: large_pages(page_size) };
    }
    if !broken.is_empty() {
        return Emulation::Endangered { reason: format!("the self-test found broken: {}", broken.join(", ")) };
    }
    match &look.proven {
        Proven::Yes { seconds_ago } => Emulation::Proven { seconds_ago: *seconds_ago },
        Proven::Failed { reason } => Emulation::None {
            reason: format!("the self-test failed: {reason}"),
            advice: format!(
                "See `qemu-persist status`, and run it again: `sudo qemu-persist selftest --platform {}`.",
                platform.oci
            ),
        },
        Proven::Expired { .. } => Emulation::Unproven { reason: "its self-test is too long ago".to_owned() },
        Proven::Void { reason } => Emulation::Unproven { reason: reason.clone() },
        Proven::Never => Emulation::Unproven { reason: String::new() },
    }
}

/// The level of amd64 that this CPU has (x86-64 psABI, "Microarchitecture levels"); 0 on others.
#[cfg(target_arch = "x86_64")]
fn level_of_cpu() -> u8 {
    macro_rules! has {
        ($($feature:tt)*) => { $(std::arch::is_x86_feature_detected!($feature))&&* };
    }
    if !has!("cmpxchg16b" "popcnt" "sse3" "sse4.1" "sse4.2" "ssse3") {
        1
    } else if !has!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe") {
        2
    } else if !has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl") {
        3
    } else {
        4
    }
}

/// The level of amd64 that this CPU has; it is another.
#[cfg(not(target_arch = "x86_64"))]
fn level_of_cpu() -> u8 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::tests::Host as Fixture;

    #[test]
    fn large_pages_are_a_danger_unless_the_self_test_shows_that_qemu_copes_with_them() {
        let fares = |fixture: &Fixture| {
            let assessment = fixture.assess();
            fare(&assessment.looks[0], &assessment.findings, true, fixture.0.facts.page_size)
        };
        let mut large = Fixture::healthy();
        large.0.facts.page_size = 16384;
        assert!(matches!(fares(&large), Emulation::Endangered { .. }));
        assert_eq!(fares(&Fixture::with_emulator()), Emulation::Proven { seconds_ago: 60 });
        let mut unproven = Fixture::with_emulator();
        unproven.0.proofs.clear();
        assert!(matches!(fares(&unproven), Emulation::Endangered { .. }));
    }
}
