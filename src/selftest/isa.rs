// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the probe's words about the processor mean that programs find.

use super::depth::Found;
use crate::platform::Platform;

/// Whether programs for later levels than x86-64-v1 start on the one that is `told`; none where it is no level.
pub(super) fn level(told: &str) -> Option<(Found, &'static str)> {
    match told.strip_prefix("x86-64-v")? {
        "1" => Some((Found::Broken, "programs find x86-64-v1")),
        "2" => Some((Found::Works, "those for x86-64-v3, as in images of RHEL 10, do not start")),
        "3" | "4" => Some((Found::Works, "")),
        _ => None,
    }
}

/// The bits of `AT_HWCAP` and `AT_HWCAP2` that programs ask for most, with the names that /proc/cpuinfo gives them
/// (arch/arm64/include/uapi/asm/hwcap.h).
const ARM64: [&[(u32, &str)]; 2] = [
    &[
        (0, "fp"),
        (1, "asimd"),
        (3, "aes"),
        (4, "pmull"),
        (5, "sha1"),
        (6, "sha2"),
        (7, "crc32"),
        (8, "atomics"),
        (10, "asimdhp"),
        (12, "asimdrdm"),
        (13, "jscvt"),
        (15, "lrcpc"),
        (17, "sha3"),
        (20, "asimddp"),
        (21, "sha512"),
        (22, "sve"),
    ],
    &[(1, "sve2"), (13, "i8mm"), (14, "bf16"), (16, "rng"), (17, "bti")],
];
/// The same of 32-bit programs (arch/arm/include/uapi/asm/hwcap.h).
const ARM: [&[(u32, &str)]; 2] = [
    &[(1, "half"), (2, "thumb"), (6, "vfp"), (7, "edsp"), (12, "neon"), (13, "vfpv3"), (16, "vfpv4"), (17, "idiva")],
    &[(0, "aes"), (1, "pmull"), (2, "sha1"), (3, "sha2"), (4, "crc32")],
];

/// The names of what the two words say that `platform`'s programs have; none where they are not two words.
pub(super) fn features(platform: &Platform, words: &str) -> Option<String> {
    let tables = match platform.oci {
        "arm64" => ARM64,
        "arm" => ARM,
        _ => return None,
    };
    let mut names = Vec::new();
    let mut words = words.split(' ');
    for table in tables {
        let word = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        names.extend(table.iter().filter(|(bit, _)| word >> bit & 1 == 1).map(|(_, name)| *name));
    }
    Some(names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_arm_are_named() {
        assert_eq!(features(named("arm64"), "0x101 0x4000").as_deref(), Some("fp atomics bf16"));
        assert_eq!(features(named("arm"), "0x1000 0x1").as_deref(), Some("neon aes"));
        assert_eq!(features(named("arm64"), "0x101"), None);
        assert_eq!(features(named("amd64"), "x86-64-v2"), None);
    }

    fn named(name: &str) -> &'static Platform {
        Platform::named(name).unwrap()
    }
}
