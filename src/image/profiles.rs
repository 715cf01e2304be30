// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hosts that people have, by names: what `--for` takes.

use super::host::Host;
use crate::oci::platform::ImagePlatform;

/// A kind of host.
#[derive(Debug)]
pub struct Profile {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// What its engines look for.
    engine: (&'static str, &'static str),
    /// What its CPU and kernel run.
    native: &'static [&'static str],
    /// The newest variant of 32-bit ARM that it runs by itself; 0 for none.
    arm: u8,
    /// The level of amd64 that its CPU has; 0 where it is another.
    level: u8,
    /// Bytes per page.
    page_size: u64,
}

const ARM: &[&str] = &["arm"];
const BOTH: &[&str] = &["arm64", "arm"];
const X86: &[&str] = &["amd64", "386"];

const fn profile(
    name: &'static str,
    title: &'static str,
    engine: (&'static str, &'static str),
    native: &'static [&'static str],
    (arm, level, page_size): (u8, u8, u64),
) -> Profile {
    Profile { name, title, engine, native, arm, level, page_size }
}

/// The kinds of hosts. Raspberry Pi OS of 32 bits runs a 64-bit kernel from the Pi 4 on, and that of 64 bits one with
/// pages of 16 KiB on the Pi 5 (raspberrypi.com/documentation, "config.txt", `kernel` and `arm_64bit`).
#[rustfmt::skip]
pub static PROFILES: [Profile; 14] = [
    profile("pi1", "a Raspberry Pi 1", ("arm", "v6"), ARM, (6, 0, 4096)),
    profile("pizero", "a Raspberry Pi Zero", ("arm", "v6"), ARM, (6, 0, 4096)),
    profile("pizero2", "a Raspberry Pi Zero 2 with a 64-bit system", ("arm64", ""), BOTH, (8, 0, 4096)),
    profile("pi2", "a Raspberry Pi 2", ("arm", "v7"), ARM, (7, 0, 4096)),
    profile("pi3", "a Raspberry Pi 3 with a 64-bit system", ("arm64", ""), BOTH, (8, 0, 4096)),
    profile("pi3-32bit", "a Raspberry Pi 3 with a 32-bit system", ("arm", "v7"), ARM, (7, 0, 4096)),
    profile("pi4", "a Raspberry Pi 4 with a 64-bit system", ("arm64", ""), BOTH, (8, 0, 4096)),
    profile("pi4-32bit", "a Raspberry Pi 4 with a 32-bit system", ("arm", "v8"), BOTH, (8, 0, 4096)),
    profile("pi5", "a Raspberry Pi 5 with its default kernel", ("arm64", ""), BOTH, (8, 0, 16384)),
    profile("pi5-4k", "a Raspberry Pi 5 with the kernel of 4 KiB pages", ("arm64", ""), BOTH, (8, 0, 4096)),
    profile("pi5-32bit", "a Raspberry Pi 5 with a 32-bit system", ("arm", "v8"), BOTH, (8, 0, 4096)),
    profile("x86-64", "a PC", ("amd64", ""), X86, (0, 1, 4096)),
    profile("x86-64-v2", "a PC of 2009 or later (x86-64-v2)", ("amd64", ""), X86, (0, 2, 4096)),
    profile("x86-64-v3", "a PC of 2013 or later (x86-64-v3)", ("amd64", ""), X86, (0, 3, 4096)),
];

impl Profile {
    /// The one called `name`.
    ///
    /// # Errors
    /// The names that there are.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        PROFILES.iter().find(|profile| profile.name == name).ok_or_else(|| {
            let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
            format!("known hosts are {}; for others, --platform", names.join(", "))
        })
    }

    /// The host.
    pub fn host(&self) -> Host {
        let (architecture, variant) = self.engine;
        Host {
            label: self.title.to_owned(),
            engine: ImagePlatform::new("linux", architecture, variant),
            native: self.native.iter().map(|&name| name.to_owned()).collect(),
            arm: (5..=self.arm).rev().map(|version| format!("v{version}")).collect(),
            level: self.level,
            page_size: self.page_size,
            emulation: std::collections::BTreeMap::new(),
        }
        .with_others(self.page_size)
    }
}
