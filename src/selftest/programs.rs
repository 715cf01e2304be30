// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real programs, taken from an image or a folder of the user's: which of them start?
//!
//! Each is run in a container of its own, by what does no more than show that it and all its
//! libraries were loaded. What is not there is left out, and is no failure.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::builtin;
use super::depth::Found;
use super::engine::Engine;
use super::expect::Expectation;
use super::judge::{Judgement, Observation, Verdict, judge};
use super::saying::{error_line, one_line};
use super::sight::{Exe, Sighting};
use super::token::{self, Token};
use super::user_image::is_not_on_path;
use crate::causes::{self, Host};
use crate::files::Root;
use crate::host::command::Output;
use crate::platform::Platform;

/// The programs, and the arguments with which they show that they start and then end.
const PROGRAMS: [(&str, &[&str]); 11] = [
    ("openssl", &["version"]),
    ("curl", &["--version"]),
    ("python3", &["-c", "import platform; print(platform.python_version(), platform.machine())"]),
    ("git", &["--version"]),
    ("tar", &["--version"]),
    ("busybox", &["uname", "-m"]),
    ("perl", &["-e", "print \"$]\\n\""]),
    ("node", &["--version"]),
    ("ruby", &["--version"]),
    ("php", &["--version"]),
    ("java", &["-version"]),
];

/// How many there are.
pub(super) fn most() -> u32 {
    u32::try_from(PROGRAMS.len()).unwrap_or(u32::MAX)
}

/// Where programs are looked for, in the order in which the usual PATH of an image has it.
pub(super) const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether one program starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct ProgramResult {
    /// Its name.
    pub program: &'static str,
    /// Whether it starts.
    pub found: Found,
    /// What it said, where it started; else what is wrong.
    pub detail: String,
    /// The cause, by its name in the table of `qemu-persist explain`, where it is recognised.
    pub cause: Option<&'static str>,
    /// What to do; empty where it starts or is not there.
    pub advice: String,
    /// The file that was seen running it.
    pub interpreter: Option<Exe>,
}

impl ProgramResult {
    fn absent(program: &'static str) -> Self {
        Self::unknown(program, Found::Absent, String::new(), String::new())
    }

    fn unknown(program: &'static str, found: Found, detail: String, advice: String) -> Self {
        Self { program, found, detail, cause: None, advice, interpreter: None }
    }

    /// By what was seen of it. `obstacle` is why nothing of it could be seen.
    fn new(
        program: &'static str,
        (sighting, output): (Sighting, &Output),
        obstacle: Option<Judgement>,
        expectation: &Expectation,
        host: &Host<'_>,
    ) -> Self {
        let observation = Observation {
            machine: None,
            asks_machine: false,
            sighting,
            ending: output.ending,
            said: error_line(&output.stderr),
            parts: Vec::new(),
        };
        let judgement = obstacle.unwrap_or_else(|| judge(expectation, &observation));
        let mut result = Self::unknown(program, Found::Unknown, judgement.reason, judgement.advice);
        match judgement.verdict {
            Verdict::Pass | Verdict::Limited | Verdict::Unseen => {
                result.found = Found::Works;
                // Java says its version on the other stream.
                let first = [&output.stdout, &output.stderr].into_iter().find_map(|said| first_words(said));
                (result.detail, result.advice) = (first.unwrap_or_default(), String::new());
            }
            Verdict::Fail => {
                result.found = Found::Broken;
                if let Some(cause) = causes::likeliest(&observation.as_log(), host) {
                    result.cause = Some(cause.id);
                    if judgement.is_open {
                        result.advice = format!("{}. {}", cause.title, (cause.cure)(host));
                    }
                }
            }
            Verdict::Bypassed | Verdict::Unknown => {}
        }
        if let Sighting::Seen(exe) = observation.sighting {
            result.interpreter = Some(exe);
        }
        result
    }
}

/// The first words that were said, as a version has them.
fn first_words(said: &[u8]) -> Option<String> {
    let line = said.split(|&byte| byte == b'\n').map(one_line).find(|line| !line.is_empty())?;
    let end = line.match_indices(' ').nth(3).map_or(line.len(), |(end, _)| end);
    Some(line[..end].to_owned())
}

/// What runs the programs, and how.
pub(super) struct Trial<'a> {
    /// What they have to show.
    pub expectation: &'a Expectation,
    /// The host, for causes.
    pub host: &'a Host<'a>,
    /// How long each may take.
    pub limit: Duration,
    /// Told what is being done.
    pub progress: &'a dyn Fn(&str),
}

impl Trial<'_> {
    /// Runs them from the image `reference` with `engine`. The judgement is why that cannot be done.
    ///
    /// # Errors
    /// Those of starting the engine's program.
    pub(super) async fn in_image(
        &self,
        engine: &Engine,
        reference: &str,
        token: &Token,
    ) -> io::Result<Result<Vec<ProgramResult>, Judgement>> {
        let platform = self.expectation.platform;
        let image = match engine.obtain(reference, platform, self.progress).await {
            Ok(image) => image,
            Err(judged) => return Ok(Err(judged.judgement)),
        };
        let mut results = Vec::new();
        for (program, arguments) in PROGRAMS {
            (self.progress)(&format!("{platform}: {}: {program}", engine.kind.program()));
            let (sighting, output) =
                engine.run_program(self.expectation, &image, (program, arguments), token, self.limit).await?;
            results.push(if !output.succeeded() && is_not_on_path(&error_line(&output.stderr)) {
                ProgramResult::absent(program)
            } else {
                ProgramResult::new(program, (sighting, &output), None, self.expectation, self.host)
            });
        }
        Ok(Ok(results))
    }

    /// Runs them from `folder`.
    ///
    /// # Errors
    /// Those of starting this program anew.
    pub(super) async fn in_folder(&self, folder: &Folder) -> io::Result<Vec<ProgramResult>> {
        let platform = self.expectation.platform;
        let mut results = Vec::new();
        for (program, arguments) in PROGRAMS {
            let Some(found) = folder.programs.iter().find(|found| found.name == program) else {
                results.push(ProgramResult::absent(program));
                continue;
            };
            if let Some(other) = found.platform.filter(|&other| other != platform) {
                let detail = format!("it is one of {other}, not of {platform}");
                let advice = format!("Look at it alone: `--platform {other}`.");
                results.push(ProgramResult::unknown(program, Found::Unknown, detail, advice));
                continue;
            }
            (self.progress)(&format!("{platform}: builtin: {program}"));
            let (sighting, output) =
                builtin::run_in_folder(&folder.path, &found.path, arguments, &token::nonce()?, self.limit).await?;
            let obstacle = builtin::obstacle(output.ending, &error_line(&output.stderr));
            results.push(ProgramResult::new(program, (sighting, &output), obstacle, self.expectation, self.host));
        }
        Ok(results)
    }
}

/// The root of a system, and what is in it of the programs.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    programs: Vec<InFolder>,
}

#[derive(Clone, Debug)]
struct InFolder {
    name: &'static str,
    path: String,
    /// What it is a program of; none for a script.
    platform: Option<&'static Platform>,
}

impl Folder {
    /// Looks into `path`.
    ///
    /// # Errors
    /// Where it is no directory that can be opened.
    pub fn new(path: &Path) -> io::Result<Self> {
        let root = Root::image(path)?;
        let at_first_place = |name: &'static str| {
            USUAL_PATH.split(':').find_map(|folder| {
                let path = format!("{folder}/{name}");
                let mut head = Vec::new();
                // Its links lead to where they would with this root.
                let file = root.open(Path::new(&path)).ok().filter(|f| f.metadata().is_ok_and(|m| m.is_file()))?;
                file.take(HEAD).read_to_end(&mut head).ok()?;
                Some(InFolder { name, path, platform: Platform::of_program(&head) })
            })
        };
        let programs = PROGRAMS.iter().filter_map(|(name, _)| at_first_place(name)).collect();
        Ok(Self { path: path.canonicalize()?, programs })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the first of its programs is one of.
    ///
    /// # Errors
    /// That there is none, in one sentence.
    pub fn platform(&self) -> Result<&'static Platform, String> {
        let first = self.programs.iter().find_map(|program| program.platform);
        first.ok_or_else(|| format!("none of these programs is in {}: {}", self.path.display(), names()))
    }
}

/// As much of a program as a handler looks at, in bytes (`BINPRM_BUF_SIZE`).
const HEAD: u64 = 256;

fn names() -> String {
    PROGRAMS.map(|(name, _)| name).join(", ")
}

/// What `results` come to.
pub fn sum_up(results: &[ProgramResult]) -> Judgement {
    let of = |found| results.iter().filter(move |result| result.found == found);
    let works = of(Found::Works).count();
    match (works, of(Found::Broken).next(), of(Found::Unknown).next()) {
        (0, Some(first), _) => Judgement::new(
            Verdict::Fail,
            format!("no program starts; {}: {}", first.program, first.detail),
            first.advice.clone(),
        ),
        (_, Some(_), _) => Judgement::new(Verdict::Limited, "", ""),
        (_, None, Some(first)) => {
            let reason = format!("whether {} starts could not be found out: {}", first.program, first.detail);
            Judgement::new(Verdict::Unknown, reason, first.advice.clone())
        }
        (0, None, None) => Judgement::new(
            Verdict::Unknown,
            format!("none of these programs is in it: {}", names()),
            "Run one that is there: `qemu-persist selftest --image IMAGE -- COMMAND`.",
        ),
        _ if of(Found::Works).any(|result| result.interpreter.is_some()) => Judgement::pass(),
        _ => Judgement::new(
            Verdict::Unseen,
            "all programs start, but by what they were run was not seen",
            "Run it again; where it is not root's run, with sudo.",
        ),
    }
}

/// The names of those of `results` that are broken, once for every advice, with what is said of the first.
pub fn broken(results: &[ProgramResult]) -> Vec<(String, &ProgramResult)> {
    let mut groups: Vec<(String, &ProgramResult)> = Vec::new();
    for result in results.iter().filter(|result| result.found == Found::Broken) {
        match groups.iter_mut().find(|(_, first)| first.advice == result.advice) {
            Some((names, _)) => *names = format!("{names}, {}", result.program),
            None => groups.push((result.program.to_owned(), result)),
        }
    }
    groups
}
