// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of an image on a host, from the platforms that it has.

use serde::Serialize;

use super::host::{Emulation, Host};
use crate::emulator::PACKAGE;
use crate::oci::platform::ImagePlatform;
use crate::report::span;

/// What happens, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The CPU runs it.
    Native,
    /// QEMU runs it.
    Emulated,
    /// It does not run.
    CannotRun,
    /// That is not known.
    Unknown,
}

/// What becomes of an image on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What happens.
    pub verdict: Verdict,
    /// The platform of the image that runs.
    pub platform: Option<ImagePlatform>,
    /// Whether the engine has to be told that platform, since it would not choose it by itself.
    pub needs_platform: bool,
    /// How emulation of it fares.
    pub emulation: Option<Emulation>,
    /// What there is to know: one sentence without its full stop.
    pub because: String,
    /// What keeps some of its programs from starting.
    pub danger: Option<String>,
    /// What to do; may be empty.
    pub advice: String,
}

impl Outcome {
    /// That nothing is known.
    pub fn unknown(because: String, advice: String) -> Self {
        Self {
            verdict: Verdict::Unknown,
            platform: None,
            needs_platform: false,
            emulation: None,
            because,
            danger: None,
            advice,
        }
    }

    /// The exit code that it stands for: 0, 1, 2 or 3. What runs natively and is endangered is no plain 0.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Native => u8::from(self.danger.is_some()),
            Verdict::Emulated => 1,
            Verdict::CannotRun => 2,
            Verdict::Unknown => 3,
        }
    }
}

/// What becomes of an image with `platforms` on `host`, where an engine is told nothing but its name.
pub fn judge(platforms: &[ImagePlatform], host: &Host) -> Outcome {
    let taken = host.engine.taken();
    let chosen = taken.iter().find(|platform| platforms.contains(platform));
    if let Some(platform) = chosen {
        return become_of(platform, host, false);
    }
    if let Some(platform) = platforms.iter().find(|platform| host.runs(platform)) {
        return become_of(platform, host, true);
    }
    let rank = |platform: &&ImagePlatform| host.emulates(platform).map(rank);
    let best = platforms.iter().filter(|platform| rank(platform).is_some()).min_by_key(rank);
    let is_near = |platform: &&ImagePlatform| {
        platform.os() == "linux" && host.native.iter().any(|native| native == platform.architecture())
    };
    match (best, platforms.iter().find(is_near)) {
        (Some(platform), _) => become_of(platform, host, true),
        (None, Some(platform)) => become_of(platform, host, false),
        (None, None) => no_platform(platforms, host),
    }
}

/// What becomes of the image when an engine is told to run `platform` of it, as by a `platform:` line; none where the
/// image does not have it.
pub fn judge_pinned(platforms: &[ImagePlatform], pinned: &ImagePlatform, host: &Host) -> Option<Outcome> {
    let chosen = pinned.taken().into_iter().find(|platform| platforms.contains(platform))?;
    Some(become_of(&chosen, host, false))
}

/// How good emulation is, the best first.
fn rank(emulation: &Emulation) -> u8 {
    match emulation {
        Emulation::Proven { .. } => 0,
        Emulation::Unproven { .. } => 1,
        Emulation::Possible => 2,
        Emulation::Endangered { .. } => 3,
        Emulation::Unknown { .. } => 4,
        Emulation::None { .. } => 5,
    }
}

fn become_of(platform: &ImagePlatform, host: &Host, needs_platform: bool) -> Outcome {
    let outcome = |verdict, emulation, because: String, advice: String| Outcome {
        verdict,
        platform: Some(platform.clone()),
        needs_platform,
        emulation,
        because,
        danger: None,
        advice,
    };
    let option = if needs_platform { format!("Run it with `--platform {platform}`.") } else { String::new() };
    if host.runs(platform) {
        let danger = host.danger(platform);
        let because = danger.as_ref().map_or(String::new(), |danger| format!("natively, but {danger}"));
        return Outcome { danger, ..outcome(Verdict::Native, None, because, option) };
    }
    let Some(emulation) = host.emulates(platform) else {
        let own = host.engine.architecture();
        let (because, advice) = if platform.architecture() == own {
            (format!("the CPU of {} is too old for it", host.label), "Look for a tag that is for an older CPU.")
        } else if own == "arm" {
            ("an engine of 32 bits ends 64-bit programs (exit code 159)".to_owned(), "")
        } else {
            (format!("{} runs no programs of {platform}", host.label), "")
        };
        return outcome(Verdict::CannotRun, None, because, advice.to_owned());
    };
    let told = Some(emulation.clone());
    match emulation {
        Emulation::Proven { seconds_ago } => {
            let because =
                format!("a container of linux/{} ran here {} ago", platform.architecture(), span(*seconds_ago));
            outcome(Verdict::Emulated, told, because, option)
        }
        Emulation::Unproven { reason } => {
            let reason = if reason.is_empty() { "no container was run with it yet" } else { reason };
            let because = format!("there is a handler, and it is not proven: {reason}");
            let advice = format!("{option} To prove it: `sudo qemu-persist selftest`.");
            outcome(Verdict::Emulated, told, because, advice.trim().to_owned())
        }
        Emulation::Endangered { reason } => {
            let fix = "n a Raspberry Pi 5, `sudo qemu-persist fix page-size` changes that.";
            let change = match platform.architecture() {
                "amd64" | "386" => format!("The package {PACKAGE} has a QEMU for such pages; o{fix}"),
                _ => format!("O{fix}"),
            };
            let advice = if host.page_size > 4096 { format!("{option} {change}") } else { option };
            let because = format!("some of its programs may fail: {reason}");
            Outcome {
                danger: Some(reason.clone()),
                ..outcome(Verdict::Emulated, told, because, advice.trim().to_owned())
            }
        }
        Emulation::Possible => outcome(
            Verdict::Emulated,
            told,
            "by QEMU, where that is registered; whether it is there is not known here".into(),
            option,
        ),
        Emulation::None { reason, advice } => outcome(Verdict::CannotRun, told, reason.clone(), advice.clone()),
        Emulation::Unknown { reason, advice } => outcome(Verdict::Unknown, told, reason.clone(), advice.clone()),
    }
}

fn no_platform(platforms: &[ImagePlatform], host: &Host) -> Outcome {
    let because = if platforms.is_empty() {
        "its index lists no image".to_owned()
    } else if platforms.iter().all(|platform| platform.os() != "linux") {
        "it is for other systems than Linux".to_owned()
    } else {
        format!("{} runs none of its platforms, natively or by an emulator that is known", host.label)
    };
    Outcome { verdict: Verdict::CannotRun, ..Outcome::unknown(because, String::new()) }
}

#[cfg(test)]
mod tests {
    use super::super::profiles::Profile;
    use super::*;

    fn shown(outcome: &Outcome) -> String {
        let platform = outcome.platform.as_ref().map_or("-".to_owned(), ToString::to_string);
        let marks = [(outcome.needs_platform, " option"), (outcome.danger.is_some(), " danger")];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        format!("{:?} {platform}{marks}", outcome.verdict)
    }

    #[test]
    fn a_host_takes_what_is_best_for_it() {
        let multi = "linux/amd64 linux/386 linux/arm/v5 linux/arm/v6 linux/arm/v7 linux/arm64 linux/riscv64";
        #[rustfmt::skip]
        let rows = [
            ("pi5", multi, "Native linux/arm64"),
            ("pi5", "linux/amd64", "Emulated linux/amd64 option danger"),
            ("pi5", "linux/amd64 linux/arm/v7", "Native linux/arm/v7 danger"),
            ("pi5", "linux/riscv64 linux/ppc64le", "Emulated linux/ppc64le option"),
            ("pi4", "linux/amd64", "Emulated linux/amd64 option"),
            ("pi4", "linux/arm/v6", "Native linux/arm/v6"),
            ("pi4", "linux/arm64/v9", "CannotRun linux/arm64/v9"),
            ("pi4", "linux/amd64/v4", "CannotRun -"),
            ("pi4", "linux/amd64/v3", "Emulated linux/amd64/v3 option"),
            ("pi4", "windows/amd64", "CannotRun -"),
            ("pi4", "linux/wasm", "CannotRun -"),
            ("pi4", "", "CannotRun -"),
            ("pi4-32bit", multi, "Native linux/arm/v7"),
            ("pi4-32bit", "linux/amd64 linux/arm64", "Emulated linux/amd64 option"),
            ("pi4-32bit", "linux/arm64", "CannotRun linux/arm64"),
            ("pi1", multi, "Native linux/arm/v6"),
            ("pi1", "linux/arm/v7", "CannotRun linux/arm/v7"),
            ("pi1", "linux/arm/v7 linux/arm64", "Emulated linux/arm64 option"),
            ("pi2", "linux/arm64 linux/arm/v5", "Native linux/arm/v5"),
            ("x86-64", multi, "Native linux/amd64"),
            ("x86-64", "linux/386 linux/arm64", "Native linux/386"),
            ("x86-64", "linux/arm/v7 linux/arm64", "Emulated linux/arm/v7 option"),
            ("x86-64", "linux/amd64/v3", "CannotRun linux/amd64/v3"),
            ("x86-64-v3", "linux/amd64/v3", "Native linux/amd64/v3 option"),
            ("x86-64-v3", "linux/amd64/v3 linux/amd64", "Native linux/amd64"),
        ];
        for (name, platforms, expected) in rows {
            let platforms: Vec<ImagePlatform> =
                platforms.split_whitespace().map(|text| text.parse().unwrap()).collect();
            let outcome = judge(&platforms, &Profile::named(name).unwrap().host());
            assert_eq!(shown(&outcome), expected, "{name} {platforms:?}");
        }
    }
}
