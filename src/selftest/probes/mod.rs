// SPDX-License-Identifier: MIT OR Apache-2.0
//! The probes: a small static program for each platform, which is run to see that programs of
//! that platform do run.
//!
//! Their sources are beside this file, and `build.sh`, which makes the ELF files from them. A
//! probe is one C file on top of `runtime.h`; `arch.h` has what differs between architectures.

mod answer;
#[cfg(test)]
mod depth_tests;
#[cfg(test)]
mod tests;

pub use answer::{ANSWER_MAX, AnswerError, parse_answer};

use crate::platform::{PLATFORMS, Platform};

/// The longest nonce that a probe repeats, in bytes: `NONCE_MAX` in `runtime.h`.
pub const NONCE_MAX: usize = 64;

/// A probe as it is carried in the program.
#[derive(Debug)]
pub struct Probe {
    /// The platform whose program it is.
    pub platform: &'static Platform,
    /// The whole file: a static `ET_EXEC` ELF program of one segment.
    pub elf: &'static [u8],
}

/// The depth probe as it is carried in the program, for the platforms that have one.
///
/// It is given a nonce and names of parts, and writes what it finds out about each, line by line, as
/// `depth.c` says and [`super::depth::read`] reads.
pub static DEPTH: [Probe; 4] = [
    Probe { platform: &PLATFORMS[0], elf: include_bytes!("depth.amd64.elf") },
    Probe { platform: &PLATFORMS[1], elf: include_bytes!("depth.386.elf") },
    Probe { platform: &PLATFORMS[2], elf: include_bytes!("depth.arm64.elf") },
    Probe { platform: &PLATFORMS[3], elf: include_bytes!("depth.arm.elf") },
];

/// The depth probe of `platform`, where it has one.
pub fn depth(platform: &Platform) -> Option<&'static [u8]> {
    DEPTH.iter().find(|probe| probe.platform == platform).map(|probe| probe.elf)
}

/// How a probe exits: `enum status` in `runtime.h`. Anything else is not a probe's doing.
pub mod status {
    /// It wrote its answer, and its standard input came to an end.
    pub const ANSWERED: i32 = 0;
    /// It could not write its answer.
    pub const CANNOT_WRITE: i32 = 1;
    /// The system call that it probes failed.
    pub const CANNOT_ASK: i32 = 2;
    /// Its 120 seconds were over before its standard input ended, or could not be limited.
    pub const OUT_OF_TIME: i32 = 3;
    /// The nonce is longer than [`NONCE_MAX`](super::NONCE_MAX).
    pub const ARGUMENT_TOO_LONG: i32 = 4;
    /// The program that it was to become could not be started.
    pub const CANNOT_BECOME: i32 = 5;
}

macro_rules! identity_probes {
    ($($index:literal $oci:literal),*) => {
        [$(Probe {
            platform: &PLATFORMS[$index],
            elf: include_bytes!(concat!("identity.", $oci, ".elf")),
        }),*]
    };
}

/// The identity probe of every platform, in the order of [`PLATFORMS`].
///
/// It writes `qemu-persist-probe 1 MACHINE NONCE\n`, where MACHINE is what `uname(2)` says and
/// NONCE is its first argument, to its standard output. Then it waits until its standard input
/// ends, so that it can be looked at while it lives, but lives no longer than 120 seconds, also as
/// process 1 of a container. It then becomes the program that its further arguments name, if any. See [`parse_answer`] and [`status`].
pub static IDENTITY: [Probe; PLATFORMS.len()] = identity_probes![
    0 "amd64", 1 "386", 2 "arm64", 3 "arm", 4 "riscv64", 5 "ppc64le", 6 "s390x", 7 "mips64le", 8 "mips64", 9 "loong64"
];

/// The identity probe of `platform`.
///
/// # Panics
/// For a platform that is not one of [`PLATFORMS`]; there is no way to come by one.
pub fn identity(platform: &Platform) -> &'static [u8] {
    let probe = IDENTITY.iter().find(|probe| probe.platform == platform);
    probe.expect("every platform has a probe").elf
}
