// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of platforms: what each is called by OCI, QEMU, `uname` and Debian, and how its
//! programs are recognised.
//!
//! The patterns are those of QEMU's `scripts/qemu-binfmt-conf.sh`: twenty bytes of ELF header, of
//! which `e_type` also matches position-independent programs.

use std::fmt;

/// How many bytes of an ELF header a platform's pattern looks at.
pub const PATTERN_LEN: usize = 20;

/// One platform that QEMU can run programs of.
#[derive(Debug, PartialEq, Eq)]
pub struct Platform {
    /// The architecture in an OCI platform, without `linux/`: `amd64`, `arm64`.
    pub oci: &'static str,
    /// QEMU's name for it, as in `qemu-x86_64`.
    pub qemu: &'static str,
    /// What `uname -m` answers in such a container under QEMU.
    pub uname: &'static str,
    /// What `uname -m` answers on real hardware and kernels of the platform, for a host's own
    /// architecture; the first is the usual one.
    pub machines: &'static [&'static str],
    /// Debian's name for it.
    pub debian: &'static str,
    /// The bytes to match at offset 0.
    pub magic: [u8; PATTERN_LEN],
    /// Which bits of them count.
    pub mask: [u8; PATTERN_LEN],
}

const FF: u8 = 0xff;

const fn header(class: u8, data: u8, machine: u16) -> [u8; PATTERN_LEN] {
    let [low, high] = machine.to_le_bytes();
    let (e_type, e_machine) = if data == 1 { ([2, 0], [low, high]) } else { ([0, 2], [high, low]) };
    [
        0x7f,
        b'E',
        b'L',
        b'F',
        class,
        data,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        e_type[0],
        e_type[1],
        e_machine[0],
        e_machine[1],
    ]
}

const fn mask(data: [u8; 4], abi_version: u8, tail: [u8; 4]) -> [u8; PATTERN_LEN] {
    [
        FF,
        FF,
        FF,
        FF,
        data[0],
        data[1],
        data[2],
        data[3],
        abi_version,
        FF,
        FF,
        FF,
        FF,
        FF,
        FF,
        FF,
        tail[0],
        tail[1],
        tail[2],
        tail[3],
    ]
}

const PLAIN: [u8; 4] = [FF, FF, FF, 0];
const X86: [u8; 4] = [FF, 0xfe, 0xfe, 0];
const LITTLE: [u8; 4] = [0xfe, FF, FF, FF];
const BIG: [u8; 4] = [FF, 0xfe, FF, FF];

/// Every platform that is known by name, in the order in which they are listed to people.
pub static PLATFORMS: [Platform; 10] = [
    Platform {
        oci: "amd64",
        qemu: "x86_64",
        uname: "x86_64",
        machines: &["x86_64"],
        debian: "amd64",
        magic: header(2, 1, 62),
        mask: mask(X86, FF, LITTLE),
    },
    Platform {
        oci: "386",
        qemu: "i386",
        uname: "i686",
        machines: &["i686", "i586", "i486", "i386"],
        debian: "i386",
        magic: header(1, 1, 3),
        mask: mask(X86, FF, LITTLE),
    },
    Platform {
        oci: "arm64",
        qemu: "aarch64",
        uname: "aarch64",
        machines: &["aarch64"],
        debian: "arm64",
        magic: header(2, 1, 183),
        mask: mask(PLAIN, FF, LITTLE),
    },
    Platform {
        oci: "arm",
        qemu: "arm",
        uname: "armv7l",
        machines: &["armv7l", "armv8l", "armv6l", "armv5tel"],
        debian: "armhf",
        magic: header(1, 1, 40),
        mask: mask(PLAIN, FF, LITTLE),
    },
    Platform {
        oci: "riscv64",
        qemu: "riscv64",
        uname: "riscv64",
        machines: &["riscv64"],
        debian: "riscv64",
        magic: header(2, 1, 243),
        mask: mask(PLAIN, FF, LITTLE),
    },
    Platform {
        oci: "ppc64le",
        qemu: "ppc64le",
        uname: "ppc64le",
        machines: &["ppc64le"],
        debian: "ppc64el",
        magic: header(2, 1, 21),
        mask: mask(PLAIN, FF, [0xfe, FF, FF, 0]),
    },
    Platform {
        oci: "s390x",
        qemu: "s390x",
        uname: "s390x",
        machines: &["s390x"],
        debian: "s390x",
        magic: header(2, 2, 22),
        mask: mask(PLAIN, FF, BIG),
    },
    Platform {
        oci: "mips64le",
        qemu: "mips64el",
        uname: "mips64",
        machines: &["mips64"],
        debian: "mips64el",
        magic: header(2, 1, 8),
        mask: mask(PLAIN, 0, LITTLE),
    },
    Platform {
        oci: "mips64",
        qemu: "mips64",
        uname: "mips64",
        machines: &["mips64"],
        debian: "mips64",
        magic: header(2, 2, 8),
        mask: mask(PLAIN, 0, BIG),
    },
    Platform {
        oci: "loong64",
        qemu: "loongarch64",
        uname: "loongarch64",
        machines: &["loongarch64"],
        debian: "loong64",
        magic: header(2, 1, 258),
        mask: mask([FF, FF, FF, 0xfc], 0, LITTLE),
    },
];

impl Platform {
    /// The platform called `name`, which may be an OCI platform (`linux/amd64`, `amd64`,
    /// `linux/arm/v7`), QEMU's name (`x86_64`) or Debian's (`ppc64el`).
    pub fn named(name: &str) -> Option<&'static Self> {
        let bare = name.strip_prefix("linux/").unwrap_or(name);
        let (arch, variant) = bare.split_once('/').map_or((bare, None), |(arch, variant)| (arch, Some(variant)));
        let variant_fits = |p: &Platform| match (p.oci, variant) {
            (_, None) | ("arm", Some("v5" | "v6" | "v7")) | ("arm64", Some("v8")) => true,
            ("amd64", Some(v)) => matches!(v, "v1" | "v2" | "v3" | "v4"),
            _ => false,
        };
        PLATFORMS
            .iter()
            .find(|p| p.oci == arch)
            .or_else(|| PLATFORMS.iter().find(|p| p.qemu == arch || p.debian == arch || p.machines[0] == arch))
            .filter(|p| variant_fits(p))
    }

    /// The platform of a host whose `uname -m` is `machine`, where the table has it.
    pub fn of_machine(machine: &str) -> Option<&'static Self> {
        PLATFORMS.iter().find(|p| p.machines.contains(&machine))
    }

    /// The platform that the program starting with these bytes is for.
    pub fn of_program(head: &[u8]) -> Option<&'static Self> {
        PLATFORMS.iter().find(|p| p.matches(head))
    }

    /// Whether a program that starts with these bytes is one of this platform.
    pub fn matches(&self, head: &[u8]) -> bool {
        head.len() >= PATTERN_LEN
            && self.magic.iter().zip(&self.mask).zip(head).all(|((magic, mask), byte)| (magic ^ byte) & mask == 0)
    }

    /// The conventional name of its handler, which playbooks and other tools look for.
    pub fn handler_name(&self) -> String {
        format!("qemu-{}", self.qemu)
    }

    /// The first 64 bytes of two programs of this platform, one at a fixed address (`ET_EXEC`)
    /// and one position-independent (`ET_DYN`), zero where the kernel's matching never looks.
    pub fn sample_headers(&self) -> [[u8; 64]; 2] {
        let mut exec = [0; 64];
        exec[..PATTERN_LEN].copy_from_slice(&self.magic);
        let mut dynamic = exec;
        let e_type = if self.magic[5] == 1 { 16 } else { 17 };
        dynamic[e_type] = 3;
        [exec, dynamic]
    }

    /// Whether its programs are 32-bit ones.
    pub fn is_32_bit(&self) -> bool {
        self.magic[4] == 1
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.oci)
    }
}

impl serde::Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_platform() {
        for platform in &PLATFORMS {
            for name in [platform.to_string(), platform.oci.into(), platform.debian.into()] {
                assert_eq!(Platform::named(&name).map(|p| p.oci), Some(platform.oci), "{name}");
            }
            assert_eq!(Platform::named(platform.qemu).map(|p| p.qemu), Some(platform.qemu));
        }
        assert_eq!(Platform::named("linux/arm/v7").map(|p| p.oci), Some("arm"));
        assert_eq!(Platform::named("linux/arm64/v8").map(|p| p.oci), Some("arm64"));
        for wrong in ["", "linux/", "windows/amd64", "linux/riscv64/v2", "linux/arm/v9", "vax"] {
            assert_eq!(Platform::named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn patterns_tell_the_platforms_apart() {
        for platform in &PLATFORMS {
            for sample in platform.sample_headers() {
                let matching: Vec<_> = PLATFORMS.iter().filter(|p| p.matches(&sample)).collect();
                assert_eq!(matching, [platform]);
            }
        }
    }

    #[test]
    fn patterns_are_those_of_qemu() {
        let hex = crate::binfmt::rule::hex;
        let amd64 = Platform::named("amd64").unwrap();
        assert_eq!(hex(&amd64.magic), "7f454c4602010100000000000000000002003e00");
        assert_eq!(hex(&amd64.mask), "fffffffffffefe00fffffffffffffffffeffffff");
        let s390x = Platform::named("s390x").unwrap();
        assert_eq!(hex(&s390x.magic), "7f454c4602020100000000000000000000020016");
        assert_eq!(hex(&s390x.mask), "ffffffffffffff00fffffffffffffffffffeffff");
        let loong64 = Platform::named("loong64").unwrap();
        assert_eq!(hex(&loong64.magic), "7f454c4602010100000000000000000002000201");
        assert_eq!(hex(&loong64.mask), "fffffffffffffffc00fffffffffffffffeffffff");
        let ppc64le = Platform::named("ppc64le").unwrap();
        assert_eq!(hex(&ppc64le.mask), "ffffffffffffff00fffffffffffffffffeffff00");
    }
}
