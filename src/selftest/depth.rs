// SPDX-License-Identifier: MIT OR Apache-2.0
//! Depth: what the self-test looks at beside `uname`, and what it reads from the probe that does.
//!
//! The probe runs each part in a process of its own, so that one that crashes or hangs says
//! nothing of the others (see `probes/depth.c`).

use clap::ValueEnum;
use nix::errno::Errno;
use serde::Serialize;

use super::image::DEPTH_PROBE;
use super::isa;
use super::probes::status::CANNOT_BECOME;
use crate::assess::look::Look;
use crate::finding::Severity::{self, Note};
use crate::host::command::{Ending, Output};
use crate::parts::{LEVEL, PARTS, Part, SETUID};
use crate::platform::Platform;
use crate::record::BrokenPart;
use crate::snapshot::Snapshot;

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Depth {
    /// What decides whether common programs start: the layout of memory
    #[default]
    Quick,
    /// Everything
    Full,
}

impl Depth {
    /// The groups of parts.
    pub fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Quick => &["pages"],
            Self::Full => &["pages", "isa", "exec", "setuid", "threads", "syscalls", "address-space"],
        }
    }

    /// The parts that are looked at on `platform`; none where there is no probe of its depth.
    pub fn parts(self, platform: &Platform) -> impl Iterator<Item = &'static Part> {
        let (has_depth, x86, wide) = match platform.oci {
            "amd64" => (true, true, true),
            "386" => (true, true, false),
            "arm64" => (true, false, true),
            "arm" => (true, false, false),
            _ => (false, false, false),
        };
        let is_there = move |part: &&Part| match part.id {
            "isa.avx2" | "threads.order" => x86,
            LEVEL => platform.oci == "amd64",
            "address-space" => wide,
            _ => x86 || part.group() != "pages",
        };
        let groups = self.groups();
        PARTS.iter().filter(move |part| has_depth && groups.contains(&part.group())).filter(is_there)
    }
}

/// What is asked of one run of the probe, beside its answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    platform: &'static Platform,
    depth: Option<Depth>,
}

impl Asked {
    /// The parts of `depth` on `platform`, or nothing.
    pub fn new(platform: &'static Platform, depth: Option<Depth>) -> Self {
        Self { platform, depth }
    }

    fn parts(&self) -> impl Iterator<Item = &'static Part> + use<'_> {
        self.depth.into_iter().flat_map(|depth| depth.parts(self.platform))
    }

    /// What the probe becomes when it has answered: a program and its arguments, or nothing.
    pub fn arguments(&self, nonce: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        if let (Some(depth), Some(_)) = (self.depth, self.parts().next()) {
            arguments.extend([DEPTH_PROBE.to_owned(), nonce.to_owned()]);
            arguments.extend(depth.groups().iter().map(|&group| group.to_owned()));
        }
        arguments
    }

    /// As [`Asked::arguments`], for what is looked at in a container that may gain rights; empty where it is not asked for.
    pub fn arguments_for_rights(&self, nonce: &str) -> Vec<String> {
        let mut arguments = self.arguments(nonce);
        if self.depth != Some(Depth::Full) || arguments.is_empty() {
            return Vec::new();
        }
        arguments.truncate(2);
        arguments.push(SETUID.to_owned());
        arguments
    }

    /// Puts what `output`, that of such a container, says in the place of what `parts` say of it.
    pub fn read_rights(&self, parts: &mut [PartResult], output: &[u8], nonce: &str) {
        let newer = self.read(self.split(output).1, nonce).into_iter().find(|part| part.part == SETUID);
        if let (Some(known), Some(newer)) = (parts.iter_mut().find(|part| part.part == SETUID), newer) {
            *known = newer;
        }
    }

    /// The probe's answer, and what it wrote as another program.
    pub fn split<'o>(&self, output: &'o [u8]) -> (&'o [u8], &'o [u8]) {
        let end = output.iter().position(|byte| *byte == b'\n').filter(|_| self.parts().next().is_some());
        output.split_at(end.map_or(output.len(), |end| end + 1))
    }

    /// Whether it began to look at the parts, or should have.
    pub fn has_begun(&self, output: &Output) -> bool {
        let asked = self.parts().next().is_some();
        asked && (output.ending == Ending::Exit(CANNOT_BECOME) || !self.split(&output.stdout).1.is_empty())
    }

    /// What it found out, from what it wrote as another program.
    pub fn read(&self, output: &[u8], nonce: &str) -> Vec<PartResult> {
        let mut parts = read(output, nonce, self.parts());
        let Some(told) = parts.iter_mut().find(|part| part.part == "isa" && part.found == Found::Works) else {
            return parts;
        };
        let found = isa::level(&told.detail);
        if let Some(names) = isa::features(self.platform, &told.detail) {
            told.detail = names;
        }
        if let (Some(level), Some((found, detail))) = (parts.iter_mut().find(|part| part.part == LEVEL), found) {
            (level.found, level.detail) = (found, detail.to_owned());
        }
        parts
    }
}

/// What was found out about a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// It is as programs expect.
    Works,
    /// It is not.
    Broken,
    /// Programs are told that it is not there, and can do without.
    Absent,
    /// It could not be found out.
    Unknown,
}

/// One part, and what was found out about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct PartResult {
    /// Its name.
    pub part: &'static str,
    /// What was found out.
    pub found: Found,
    /// In what that showed, or more about it; may be empty.
    pub detail: String,
    /// What to do; empty unless it is broken.
    pub advice: String,
    /// How bad that is.
    #[serde(skip)]
    pub severity: Severity,
}

impl PartResult {
    /// The part that it is about.
    pub fn about(&self) -> &'static Part {
        PARTS.iter().find(|part| part.id == self.part).unwrap_or(&PARTS[0])
    }

    /// Adds what its being broken means on the host that `snapshot` is of, for the target of `look`.
    pub fn judge(&mut self, snapshot: &Snapshot, look: Option<&Look<'_>>) {
        if self.part == SETUID && self.found == Found::Works {
            // What the handler is not to give is a defect, and what it is to give as well.
            let wanted = if snapshot.config.credentials { "gained" } else { "not gained" };
            self.found = if self.detail == wanted { Found::Works } else { Found::Broken };
        }
        if self.found == Found::Broken {
            let part = self.about();
            (self.severity, self.advice) = (part.severity(&snapshot.config), part.cure(snapshot, look));
        }
    }

    /// Whether it was seen that this is as programs expect.
    pub fn works(&self) -> bool {
        self.found == Found::Works
    }

    /// Whether programs do not run because of it.
    pub fn is_bad(&self) -> bool {
        self.severity > Note
    }

    /// What is remembered of it, where it is broken.
    pub fn broken(&self) -> Option<BrokenPart> {
        let broken = || BrokenPart { part: self.part.to_owned(), detail: self.detail.clone() };
        (self.found == Found::Broken).then(broken)
    }
}

/// The first line of what the probe writes.
const HEADER: &str = "qemu-persist-depth 1";
/// More than this is not the probe's doing, in bytes.
const MOST: usize = 64 << 10;
/// The probe ends a part that takes too long with this exit code (`OUT_OF_TIME` in `runtime.h`).
const OUT_OF_TIME: &str = "3";

/// Reads what the probe wrote for the parts `wanted`. `nonce` is what it was given. A part of which nothing
/// can be read is unknown.
pub fn read(output: &[u8], nonce: &str, wanted: impl Iterator<Item = &'static Part>) -> Vec<PartResult> {
    let text = String::from_utf8_lossy(&output[..output.len().min(MOST)]);
    let mut lines = text.split_terminator('\n');
    let begun = lines.next() == Some(HEADER);
    let lines: Vec<&str> = if begun { lines.collect() } else { Vec::new() };
    let whole = output.len() <= MOST && lines.last() == Some(&format!("end {nonce}").as_str());
    let none = match (output.is_empty(), begun, whole) {
        (true, ..) => "the program that looks at it was not started",
        (_, false, _) => "something else was written than what the probe writes",
        (_, _, false) => "the probe did not come to its end",
        _ => "the probe does not know it",
    };
    wanted.map(|part| of_part(part, &lines, none)).collect()
}

fn of_part(part: &'static Part, lines: &[&str], none: &str) -> PartResult {
    let result = |found, detail| PartResult { part: part.id, found, detail, advice: String::new(), severity: Note };
    let (mut finding, mut ending) = (None, None);
    for line in lines.iter().filter_map(|line| line.strip_prefix(part.id)?.strip_prefix(' ')) {
        let (word, detail) = line.split_once(' ').unwrap_or((line, ""));
        let found = match word {
            "works" => Found::Works,
            "broken" => Found::Broken,
            "absent" => Found::Absent,
            "unknown" => Found::Unknown,
            "exit" | "signal" => {
                ending = Some((word, detail));
                continue;
            }
            _ => return result(Found::Unknown, "the probe wrote what cannot be read".to_owned()),
        };
        finding = Some((found, named_error(detail)));
    }
    match (finding, ending) {
        (Some((found, detail)), Some(("exit", "0"))) => result(found, detail),
        (_, Some(("exit", OUT_OF_TIME))) => result(Found::Unknown, "it did not come to its end in time".to_owned()),
        // Whoever ended it did not do so because of what it did.
        (_, Some(("signal", number @ ("9" | "15")))) => {
            result(Found::Unknown, format!("its process was ended by signal {number}"))
        }
        (_, Some(("signal", number))) => result(Found::Broken, format!("its process was ended by signal {number}")),
        (_, Some((_, code))) => result(Found::Unknown, format!("its process ended with status {code}")),
        (_, None) => result(Found::Unknown, none.to_owned()),
    }
}

/// The error's name in the place of its number, which is the same on all platforms that have a probe.
fn named_error(detail: &str) -> String {
    let name = |(before, number): (&str, &str)| Some(format!("{before}{}", Errno::from_raw(number.parse().ok()?)));
    let printable = || detail.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect();
    detail.split_once("errno ").and_then(name).unwrap_or_else(printable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn platform(name: &str) -> &'static Platform {
        Platform::named(name).unwrap()
    }

    fn results(output: &str) -> Vec<(Found, String)> {
        let parts = read(output.as_bytes(), "n", Depth::Quick.parts(platform("amd64")));
        parts.into_iter().map(|part| (part.found, part.detail)).collect()
    }

    #[test]
    fn what_is_looked_at_depends_on_the_platform() {
        let of = |depth: Depth, name| depth.parts(platform(name)).map(|part| part.id).collect::<Vec<_>>();
        assert_eq!(of(Depth::Quick, "386"), ["pages.fragment", "pages.guard", "pages.wx", "pages.shared"]);
        assert_eq!(of(Depth::Quick, "arm64"), [""; 0]);
        assert_eq!(of(Depth::Full, "riscv64"), [""; 0]);
        assert_eq!(of(Depth::Full, "amd64").len(), PARTS.len());
        assert!(
            !of(Depth::Full, "386").contains(&"address-space") && of(Depth::Full, "arm64").contains(&"address-space")
        );
    }

    #[test]
    fn each_part_is_judged_by_itself() {
        let parts = results(
            "qemu-persist-depth 1\npages.fragment broken mmap of a page errno 14\npages.fragment exit 0\n\
             pages.guard signal 5\npages.wx exit 3\npages.shared works\npages.shared exit 0\nend n\n",
        );
        let expected = [
            (Found::Broken, "mmap of a page EFAULT: Bad address".to_owned()),
            (Found::Broken, "its process was ended by signal 5".to_owned()),
            (Found::Unknown, "it did not come to its end in time".to_owned()),
            (Found::Works, String::new()),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_never_works() {
        let whole = "pages.wx works\npages.wx exit 0\n";
        let table = [
            (String::new(), "was not started"),
            ("x86_64\n".to_owned(), "something else was written"),
            ("qemu-persist-depth 2\npages.fragment works\npages.fragment exit 0\nend n\n".to_owned(), "something else"),
            (format!("qemu-persist-depth 1\n{whole}end n\n"), "does not know it"),
            (format!("qemu-persist-depth 1\n{whole}end m\n"), "did not come to its end"),
            (format!("qemu-persist-depth 1\n{whole}pages.fragment works\n"), "did not come to its end"),
            ("qemu-persist-depth 1\npages.fragment works\npages.fragment exit 1\nend n\n".to_owned(), "status 1"),
            ("qemu-persist-depth 1\npages.fragment signal 9\nend n\n".to_owned(), "signal 9"),
            ("qemu-persist-depth 1\npages.fragment perhaps\nend n\n".to_owned(), "cannot be read"),
            (format!("qemu-persist-depth 1\n{}", "x".repeat(MOST)), "did not come to its end"),
        ];
        for (output, why) in &table {
            let (found, detail) = &results(output)[0];
            assert_eq!(*found, Found::Unknown, "{output}");
            assert!(detail.contains(why), "{output}: {detail}");
        }
    }

    #[test]
    fn what_the_level_foretells_is_told() {
        let of = |told: &str, name| {
            let output = format!("A nonce\nqemu-persist-depth 1\nisa works {told}\nisa exit 0\nend n\n");
            let asked = Asked::new(platform(name), Some(Depth::Full));
            let parts = asked.read(asked.split(output.as_bytes()).1, "n");
            parts.into_iter().find(|part| part.part == LEVEL).map(|part| part.found)
        };
        assert_eq!(of("x86-64-v1", "amd64"), Some(Found::Broken));
        assert_eq!(of("x86-64-v2", "amd64"), Some(Found::Works));
        assert_eq!(of("x86-64-v4", "amd64"), Some(Found::Works));
        assert_eq!(of("x86-64-v9", "amd64"), Some(Found::Unknown));
        assert_eq!(of("x86-64-v1", "386"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_claim_what_was_not_said(output: Vec<u8>) {
            let parts = read(&output, "n", Depth::Full.parts(platform("amd64")));
            prop_assert_eq!(parts.len(), PARTS.len());
            prop_assert!(parts.iter().all(|part| part.found == Found::Unknown));
        }
    }
}
