// SPDX-License-Identifier: MIT OR Apache-2.0
//! The platform of an image, with its variant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image is for: operating system, architecture and variant, in the words of Go (`GOOS`, `GOARCH`), as the
/// property `platform` of a descriptor has them (OCI image-spec, image-index.md).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(from = "Written", into = "String")]
pub struct ImagePlatform {
    os: String,
    architecture: String,
    variant: String,
}

/// As it is written in JSON, where anything may be left out.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl From<Written> for ImagePlatform {
    fn from(written: Written) -> Self {
        Self::new(&written.os, &written.architecture, &written.variant)
    }
}

impl From<ImagePlatform> for String {
    fn from(platform: ImagePlatform) -> Self {
        platform.to_string()
    }
}

/// Why a text names no platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a platform is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm/v7")]
pub struct NoPlatform;

impl ImagePlatform {
    /// One of the operating system `os`, for `architecture` and its `variant` (which may be empty), by whatever name
    /// engines know them: `aarch64` is arm64, and arm without a variant v7, as containerd has it (`normalizeArch()`,
    /// github.com/containerd/platforms, database.go).
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let [os, architecture, variant] = [os, architecture, variant].map(str::to_ascii_lowercase);
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        Self { architecture: architecture.to_owned(), variant: variant.to_owned(), os }
    }

    /// The operating system: `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture: `arm64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant: `v7`; empty for the usual one of an architecture that has several, and where there are none.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Whether it says what programs are for. What BuildKit says where a build came from, in a manifest of its own, is
    /// for `unknown/unknown` (docs.docker.com, "Image attestation storage").
    pub fn is_known(&self) -> bool {
        [&self.os, &self.architecture].iter().all(|word| !word.is_empty() && *word != "unknown")
    }
}

impl ImagePlatform {
    /// The platforms whose images an engine takes where this one is wanted, the best first: itself, earlier variants, and
    /// the 32-bit ones of its family (`platforms.Only()`, github.com/containerd/platforms, compare.go). Whether programs
    /// of the last run on a host is for its CPU and kernel to say.
    pub fn taken(&self) -> Vec<Self> {
        let of = |architecture: &str, variant: &str| Self::new(&self.os, architecture, variant);
        let number = |text: &str| text.parse::<u8>().ok();
        let version = self.variant.trim_start_matches('v');
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        let mut taken = vec![self.clone()];
        match self.architecture.as_str() {
            "amd64" => {
                let levels = (1..number(major).unwrap_or(1).min(LEVELS)).rev();
                taken.extend(levels.map(|level| of("amd64", &format!("v{level}"))));
                taken.push(of("386", ""));
            }
            "arm" => {
                let versions = (5..number(major).unwrap_or(5).min(ARM_VERSIONS)).rev();
                taken.extend(versions.map(|version| of("arm", &format!("v{version}"))));
            }
            "arm64" => {
                let major = if self.variant.is_empty() { Some(8) } else { number(major) };
                if let (Some(major @ 8..=9), Some(minor)) = (major, number(minor)) {
                    let minor = minor.min(MINORS);
                    taken.extend((0..minor).rev().map(|minor| of("arm64", &arm64_variant(major, minor))));
                    if major == 9 {
                        // It diverged from the eighth version after its fifth extension.
                        taken.extend((0..=minor + 5).rev().map(|minor| of("arm64", &arm64_variant(8, minor))));
                    }
                }
                taken.extend((5..=8).rev().map(|version| of("arm", &format!("v{version}"))));
            }
            _ => {}
        }
        taken
    }
}

/// More than there are, so that no number in a name makes much work.
const LEVELS: u8 = 9;
/// The same of versions of 32-bit ARM.
const ARM_VERSIONS: u8 = 8;
/// The same of extensions of one version of 64-bit ARM.
const MINORS: u8 = 20;

fn arm64_variant(major: u8, minor: u8) -> String {
    if minor == 0 { format!("v{major}") } else { format!("v{major}.{minor}") }
}

impl FromStr for ImagePlatform {
    type Err = NoPlatform;

    fn from_str(text: &str) -> Result<Self, NoPlatform> {
        let words: Vec<&str> = text.split('/').collect();
        let is_word = |word: &&str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match words.as_slice() {
            [os, architecture, variant @ ..] if variant.len() < 2 && words.iter().all(is_word) => {
                Ok(Self::new(os, architecture, variant.first().unwrap_or(&"")))
            }
            _ => Err(NoPlatform),
        }
    }
}

impl fmt::Display for ImagePlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_platform_has_one_name() {
        let rows = [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/x86_64/v3", "linux/amd64/v3"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
            ("macos/arm64", "darwin/arm64"),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse().map(|platform: ImagePlatform| platform.to_string()), Ok(expected.to_owned()));
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/arm 7", "linux/\u{1b}[2J"] {
            assert_eq!(text.parse::<ImagePlatform>(), Err(NoPlatform), "{text}");
        }
    }

    #[test]
    fn an_attestation_is_for_no_platform() {
        let is_known = |text: &str| text.parse::<ImagePlatform>().unwrap().is_known();
        assert!(is_known("linux/amd64") && is_known("plan9/mips"));
        assert!(!is_known("unknown/unknown") && !ImagePlatform::new("", "amd64", "").is_known());
    }

    #[test]
    fn earlier_variants_are_taken() {
        let rows = [
            ("linux/amd64", "linux/amd64 linux/386"),
            ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
            ("linux/arm/v7", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
            ("linux/arm/v6", "linux/arm/v6 linux/arm/v5"),
            ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
            (
                "linux/arm64/v8.2",
                "linux/arm64/v8.2 linux/arm64/v8.1 linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5",
            ),
            ("linux/riscv64", "linux/riscv64"),
            ("windows/amd64", "windows/amd64 windows/386"),
        ];
        for (text, expected) in rows {
            let taken = text.parse::<ImagePlatform>().unwrap().taken();
            assert_eq!(taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), expected);
        }
        let ninth: Vec<_> = ImagePlatform::new("linux", "arm64", "v9.1").taken();
        let names = ninth.iter().map(ToString::to_string).take(4).collect::<Vec<_>>();
        assert_eq!(names, ["linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64/v8.5"]);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_taken_once(architecture in "arm|arm64|amd64", variant in "(v?[0-9]{0,3}([.][0-9]{0,3})?)?") {
            let platform = ImagePlatform::new("linux", &architecture, &variant);
            let taken = platform.taken();
            prop_assert_eq!(&taken[0], &platform);
            let once: std::collections::BTreeSet<_> = taken.iter().collect();
            prop_assert_eq!(once.len(), taken.len());
        }

        #[test]
        fn its_name_names_it(os in "[a-z]{1,8}", architecture in "[a-z0-9_]{1,8}", variant in "(v?[0-9])?") {
            let platform = ImagePlatform::new(&os, &architecture, &variant);
            prop_assert_eq!(platform.to_string().parse(), Ok(platform));
        }
    }
}
