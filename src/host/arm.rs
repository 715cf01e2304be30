// SPDX-License-Identifier: MIT OR Apache-2.0
//! 32-bit ARM on an ARM host: which variants of such images its kernel runs by itself.

use std::path::Path;

use serde::Serialize;

use super::Facts;
use crate::files::Root;
use crate::platform::Platform;

/// What 32-bit ARM images find on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Arm32 {
    /// The variants that run without a handler, the newest first; empty where none does.
    pub native: Vec<&'static str>,
    /// The older instructions that the kernel is set to refuse (`/proc/sys/abi`), so that programs which use them are
    /// ended by SIGILL: `swp` (v5 and before; refused by default), `cp15_barrier` and `setend` (v6).
    pub refused: Vec<&'static str>,
    /// Whether programs that are laid out for pages of 4 KiB do not start natively, since the kernel's are larger.
    pub large_pages: bool,
}

/// What instructions of ARMv7 and before a 64-bit kernel runs in a way that can be set
/// (Documentation/arch/arm64/legacy_instructions.rst).
const LEGACY: [&str; 3] = ["swp", "cp15_barrier", "setend"];

impl Arm32 {
    /// Of the running system that `facts` tell of; none where it is no ARM.
    pub fn read(facts: &Facts) -> Option<Self> {
        let setting = |name: &str| Root::live().read_text(Path::new(&format!("/proc/sys/abi/{name}"))).ok();
        Self::of(&facts.machine, &facts.native, facts.page_size, setting)
    }

    /// Of a host whose kernel calls it `machine` and runs the platforms `native`. `setting` gives the content of a file
    /// in /proc/sys/abi.
    fn of(
        machine: &str,
        native: &[&'static Platform],
        page_size: u64,
        setting: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let variants: &[&str] = match machine {
            "armv5tel" => &["v5"],
            "armv6l" => &["v6", "v5"],
            _ => &["v7", "v6", "v5"],
        };
        let has = |oci: &str| native.iter().any(|platform| platform.oci == oci);
        let runs = has("arm");
        if !runs && !has("arm64") {
            return None;
        }
        // 0 is to refuse it, 1 to emulate it, 2 to leave it to the CPU.
        let refused = LEGACY.into_iter().filter(|name| runs && setting(name).is_some_and(|text| text.trim() == "0"));
        Some(Self {
            native: if runs { variants.to_vec() } else { Vec::new() },
            refused: refused.collect(),
            large_pages: runs && page_size > 4096,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_follow_from_the_kernel_and_its_settings() {
        let of = |machine, native: &[&str], pages, setting: &str| {
            let native: Vec<_> = native.iter().map(|name| Platform::named(name).unwrap()).collect();
            let told = Arm32::of(machine, &native, pages, |name| (name != "setend").then(|| setting.to_owned()))?;
            Some(format!("{} -{} {}", told.native.join(" "), told.refused.join(" "), told.large_pages))
        };
        let rows = [
            ("aarch64", &["arm64", "arm"][..], 4096, "1\n", Some("v7 v6 v5 - false")),
            ("aarch64", &["arm64", "arm"], 16384, "2\n", Some("v7 v6 v5 - true")),
            ("aarch64", &["arm64", "arm"], 4096, "0\n", Some("v7 v6 v5 -swp cp15_barrier false")),
            ("aarch64", &["arm64"], 16384, "0\n", Some(" - false")),
            ("armv7l", &["arm"], 4096, "", Some("v7 v6 v5 - false")),
            ("armv6l", &["arm"], 4096, "", Some("v6 v5 - false")),
            ("armv5tel", &["arm"], 4096, "", Some("v5 - false")),
            ("x86_64", &["amd64", "386"], 4096, "", None),
        ];
        for (machine, native, pages, setting, expected) in rows {
            assert_eq!(of(machine, native, pages, setting).as_deref(), expected, "{machine} {native:?} {pages}");
        }
    }
}
