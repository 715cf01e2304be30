// SPDX-License-Identifier: MIT OR Apache-2.0
//! The step of a build, and what `--progress=plain` tells of it: pure.
//!
//! BuildKit numbers what it does, and starts each line with that number (moby/buildkit,
//! util/progress/progressui/printer.go): `#5 [2/2] RUN …`, `#5 0.108 what the step wrote`, and at its end
//! `#5 DONE 0.2s` or `#5 ERROR: … exit code: 5`.

use std::io;

use crate::host::command::{Ending, Output};
use crate::platform::Platform;
use crate::selftest::depth::Asked;
use crate::selftest::image::{PROBE, Program, append, programs};
use crate::selftest::probes::parse_answer;
use crate::selftest::saying::one_line;
use crate::selftest::token::Token;

/// Where BuildKit mounts its own QEMU in the container of a step, and starts the step's program by it
/// (moby/buildkit, solver/llbsolver/ops/exec_binfmt.go).
pub(super) const EMULATOR: &str = "/dev/.buildkit_qemu_emulator";

/// How often the probe answers in a step, each time as the program that it has become. A step's standard input is
/// /dev/null, so that one answer is over too soon to be looked at.
pub(super) const LINKS: usize = 32;

/// The user and group of those who own nothing.
const NOBODY: &str = "65534:65534";

/// The archive of what is built, for `docker build -`: nothing is written to a disk here, and an image without a base
/// asks no registry.
///
/// # Errors
/// Those of writing a tar archive to memory.
pub(super) fn context(platform: &Platform, token: &Token, asked: &Asked) -> io::Result<Vec<u8>> {
    // The name tells in the list of what BuildKit keeps whose it is.
    let folder = token.to_string();
    let links = (0..LINKS).flat_map(|_| [PROBE.to_owned(), token.nonce.clone()]);
    let further = asked.arguments(&token.nonce);
    // BuildKit keeps a copy of it: nothing that is not used.
    let used = if further.is_empty() { 1 } else { usize::MAX };
    let words: Vec<_> = links.chain(further).map(|word| format!("\"{word}\"")).collect();
    let steps = format!("FROM scratch\nCOPY {folder}/ /\nUSER {NOBODY}\nRUN [{}]\n", words.join(", "));
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "Dockerfile", 0o444, steps.as_bytes())?;
    for Program { path, content, mode } in programs(platform).into_iter().take(used) {
        append(&mut archive, &format!("{folder}{path}"), mode, content)?;
    }
    archive.into_inner()
}

/// What became of the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The builder did not come to it.
    NotBegun,
    /// Nothing was told of its end.
    Open,
    /// It ended well.
    Done,
    /// It did not, and what the builder says.
    Failed(String),
}

/// What a build told of the step that was given a nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// What the step wrote, and what its runtime said, line by line.
    pub(super) lines: Vec<String>,
    /// Its end.
    pub(super) end: End,
}

impl Step {
    /// Reads what a build wrote as it went.
    pub(super) fn read(progress: &[u8], nonce: &str) -> Self {
        let text = String::from_utf8_lossy(progress);
        let mut step = Self { lines: Vec::new(), end: End::NotBegun };
        let mut own = None;
        for line in text.lines() {
            let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' ')) else { continue };
            if own.is_none() && rest.starts_with('[') && rest.contains("] RUN [") && rest.contains(nonce) {
                (own, step.end) = (Some(number), End::Open);
            }
            if own != Some(number) {
                continue;
            }
            match rest.split_once(' ') {
                Some(("DONE", _)) => step.end = End::Done,
                Some(("ERROR:", why)) => step.end = End::Failed(why.to_owned()),
                Some((seconds, said)) if seconds.parse::<f64>().is_ok() => step.lines.push(said.to_owned()),
                _ => {}
            }
        }
        step
    }

    /// How often the probe answered, at the beginning and always alike.
    pub(super) fn answers(&self, nonce: &str) -> usize {
        let Some(first) = self.lines.first() else { return 0 };
        match parse_answer(format!("{first}\n").as_bytes(), nonce) {
            Ok(_) => self.lines.iter().take_while(|line| *line == first).count(),
            Err(_) => 0,
        }
    }

    /// What it wrote, as one probe would have written it that answered once, and how it ended.
    pub(super) fn as_output(&self, nonce: &str, ending: Ending) -> Output {
        let again = self.answers(nonce).saturating_sub(1);
        let lines = self.lines.iter().skip(again).flat_map(|line| [line.as_bytes(), b"\n"].concat());
        Output { ending, stdout: lines.collect(), stderr: Vec::new() }
    }

    /// What it wrote besides the probe's answers, on one line.
    pub(super) fn said(&self, nonce: &str) -> String {
        one_line(self.lines[self.answers(nonce)..].join("\n").as_bytes())
    }

    /// Whether the builder itself says that it started the program by its own QEMU, as it does of a step that failed.
    pub(super) fn names_emulator(&self) -> bool {
        matches!(&self.end, End::Failed(why) if why.contains(EMULATOR))
    }

    /// How its process ended: a runtime gives 128 and the number for a signal.
    pub(super) fn ending(&self) -> Option<Ending> {
        let code = match &self.end {
            End::NotBegun | End::Open => return None,
            End::Done => 0,
            End::Failed(why) => why.rsplit_once("exit code: ").and_then(|(_, code)| code.trim().parse().ok())?,
        };
        Some(if (129..=192).contains(&code) { Ending::Signal(code - 128) } else { Ending::Exit(code) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Docker 20.10 writes it, with its own client.
    const OLD: &str = "#1 [internal] load remote build context\n#1 DONE 0.0s\n\n#4 [1/2] COPY t/ /\n#4 DONE 0.0s\n\n\
        #5 [2/2] RUN [\"/qemu-persist-probe\", \"n0\"]\n#5 sha256:4324b4f3\n\
        #5 0.108 exec /qemu-persist-probe: exec format error\n\
        #5 ERROR: executor failed running [/qemu-persist-probe n0]: exit code: 1\n------\n > [2/2] RUN [\"n0\"]:\n------\n\
        executor failed running [/qemu-persist-probe n0]: exit code: 1\n";
    /// As buildx 0.13 writes it, of a step under BuildKit's own QEMU.
    const NEW: &str = "#0 building with \"default\" instance using docker driver\n\n#4 [2/2] RUN [\"/probe\", \"n0\"]\n\
        #4 0.104 qemu-persist-probe 1 aarch64 n0\n\
        #4 ERROR: process \"/dev/.buildkit_qemu_emulator /probe n0\" did not complete successfully: exit code: 139\n\
        ------\n > [2/2] RUN [\"/probe\", \"n0\"]:\n0.104 qemu-persist-probe 1 aarch64 n0\n------\nDockerfile:3\n";

    #[test]
    fn what_builds_write_is_read() {
        let step = Step::read(OLD.as_bytes(), "n0");
        assert_eq!(step.said("n0"), "exec /qemu-persist-probe: exec format error");
        assert_eq!((step.ending(), step.names_emulator(), step.answers("n0")), (Some(Ending::Exit(1)), false, 0));
        let step = Step::read(NEW.as_bytes(), "n0");
        assert_eq!((step.ending(), step.names_emulator(), step.answers("n0")), (Some(Ending::Signal(11)), true, 1));
        let two = "#4 [2/2] RUN [\"/p\", \"n0\"]\n#4 0.1 qemu-persist-probe 1 aarch64 n0\n#5 0.2 other\n\
            #4 0.2 qemu-persist-probe 1 aarch64 n0\n#4 0.3 more  here \n#4 DONE 0.2s\n";
        let step = Step::read(two.as_bytes(), "n0");
        assert_eq!((step.ending(), step.answers("n0")), (Some(Ending::Exit(0)), 2));
        let output = step.as_output("n0", Ending::Exit(0));
        assert_eq!(output.stdout, b"qemu-persist-probe 1 aarch64 n0\nmore  here \n");
    }

    #[test]
    fn what_is_no_end_of_the_step_is_none() {
        for (progress, end) in [
            ("", End::NotBegun),
            ("ERROR: no builder\n", End::NotBegun),
            ("#4 [2/2] RUN [\"/p\", \"other\"]\n#4 DONE 0.1s\n", End::NotBegun),
            ("#4 [2/2] RUN [\"/p\", \"n0\"]\n#4 CACHED\n", End::Open),
            ("#4 [2/2] RUN [\"/p\", \"n0\"]\n#4 CANCELED\n", End::Open),
            ("#4 [2/2] RUN [\"/p\", \"n0\"]\n#4 0.1 DONE 0.1s\n#4 0.1 ERROR: x\n#5 DONE 0.1s\n", End::Open),
        ] {
            let step = Step::read(progress.as_bytes(), "n0");
            assert_eq!((&step.end, step.ending()), (&end, None), "{progress}");
        }
    }

    #[test]
    fn what_is_built_holds_the_probes_and_starts_the_first_again_and_again() {
        let platform = Platform::named("arm64").unwrap();
        let token = Token::new(platform, "0f3c6a52", std::time::Duration::from_secs(60)).unwrap();
        let context = context(platform, &token, &Asked::new(platform, None)).unwrap();
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(&context[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), (entry.header().mode().unwrap(), content));
        }
        let (mode, probe) = &files[&format!("{token}/qemu-persist-probe")];
        assert_eq!((*mode, probe.as_slice()), (0o555, crate::selftest::probes::identity(platform)));
        let steps = String::from_utf8(files["Dockerfile"].1.clone()).unwrap();
        assert!(steps.starts_with(&format!("FROM scratch\nCOPY {token}/ /\nUSER ")), "{steps}");
        assert_eq!(steps.matches(&format!("\"{PROBE}\", \"{}\"", token.nonce)).count(), LINKS);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_claim_an_answer(progress: Vec<u8>, text in "(#[0-4] (\\[1/2\\] RUN \\[n0|[0-9.]+|DONE|ERROR:)?.{0,20}\n){0,9}") {
            for progress in [&progress[..], text.as_bytes()] {
                let step = Step::read(progress, "n0");
                prop_assert_eq!(step.answers("n0"), 0);
                let _ = (step.as_output("n0", Ending::Exit(0)), step.said("n0"), step.ending());
            }
        }
    }
}
