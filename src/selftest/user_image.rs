// SPDX-License-Identifier: MIT OR Apache-2.0
//! An image of the user's own: it is run and looked at, and never removed or given another name.
//!
//! It is run by its id, since `docker run --platform` of a name can give that name to another
//! image.

use std::io;
use std::time::Duration;

use serde::Deserialize;

use super::engine::{Engine, Judged, SHORT, words};
use super::expect::{Expectation, Handler};
use super::image::engine_platform;
use super::judge::{Judgement, Observation, Verdict, judge};
use super::saying::{error_line, one_line};
use super::sight::{self, Sighting};
use super::token::{LABEL, Token};
use crate::host::command::{Output, Talk};
use crate::oci::platform::ImagePlatform;
use crate::platform::Platform;

/// How long an image may take to be pulled.
pub const PULL: Duration = Duration::from_secs(600);

/// An image, and what to run in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserImage {
    /// Its name or id, as the engine knows it.
    pub reference: String,
    /// The command; empty for `uname -m`, whose answer is compared.
    pub command: Vec<String>,
}

/// What an engine says of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    id: String,
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Inspected {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its platform, with its variant.
    pub fn image_platform(&self) -> ImagePlatform {
        ImagePlatform::new(&self.os, &self.architecture, &self.variant)
    }

    /// Its platform, as a text: `linux/arm64`.
    pub fn platform(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }
}

pub(super) fn read_inspection(json: &[u8]) -> Result<Inspected, String> {
    let mut images: Vec<Inspected> = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    images.pop().ok_or_else(|| "the engine says nothing of the image".into())
}

fn unknown(reason: impl Into<String>, advice: impl Into<String>) -> Judged {
    Judged::of_none(Judgement::new(Verdict::Unknown, reason, advice))
}

impl Engine {
    /// What it says of the image `reference`; none where it has no such image.
    ///
    /// # Errors
    /// What it said instead.
    pub async fn inspect_image(&self, reference: &str) -> Result<Option<Inspected>, String> {
        let output = self.ask(&["image", "inspect", "--", reference], SHORT).await.map_err(|e| e.to_string())?;
        if output.succeeded() {
            return read_inspection(&output.stdout).map(Some);
        }
        let said = error_line(&output.stderr);
        let lower = said.to_lowercase();
        let absent = ["no such", "not found", "not known"].iter().any(|text| lower.contains(text));
        if absent { Ok(None) } else { Err(said) }
    }

    /// The image to run for `platform`: the one that is here, else one that is pulled.
    pub(super) async fn obtain(
        &self,
        reference: &str,
        platform: &Platform,
        progress: &dyn Fn(&str),
    ) -> Result<Inspected, Judged> {
        let name = self.kind.program();
        let failed = |reason: String| unknown(reason, format!("See what `{name} image inspect {reference}` says."));
        let here = match self.inspect_image(reference).await.map_err(failed)? {
            None => self.pull(reference, platform, progress).await?,
            Some(here) => here,
        };
        if here.platform() == platform.to_string() {
            return Ok(here);
        }
        Err(unknown(
            format!("the image {reference} that is here is one of {}, not of {platform}", here.platform()),
            format!("Get the other: `{name} pull --platform {platform} {reference}`."),
        ))
    }

    async fn pull(&self, reference: &str, platform: &Platform, progress: &dyn Fn(&str)) -> Result<Inspected, Judged> {
        progress(&format!("{platform}: {} pulls {reference}", self.kind));
        let not_pulled = |why: String| {
            let reason = format!("{reference} is not here and could not be pulled: {why}");
            unknown(
                reason,
                "Look at its name and the network, or run the self-test without an image, which needs none.",
            )
        };
        let asked = engine_platform(platform);
        match self.ask(&["pull", "--platform", &asked, "--", reference], PULL).await {
            Err(e) => return Err(not_pulled(e.to_string())),
            Ok(pulled) if !pulled.succeeded() => return Err(not_pulled(error_line(&pulled.stderr))),
            Ok(_) => {}
        }
        let pulled = self.inspect_image(reference).await.map_err(not_pulled)?;
        pulled.ok_or_else(|| not_pulled("it is not there afterwards".into()))
    }

    /// Runs `image` and judges what is seen of it.
    ///
    /// # Errors
    /// Those of starting the engine's program.
    pub async fn test_image(
        &self,
        expectation: &Expectation,
        image: &UserImage,
        token: &Token,
        limit: Duration,
        progress: &dyn Fn(&str),
    ) -> io::Result<Judged> {
        let inspected = match self.obtain(&image.reference, expectation.platform, progress).await {
            Ok(inspected) => inspected,
            Err(judged) => return Ok(judged),
        };
        let mut run = run_command(expectation, token);
        if image.command.is_empty() {
            run.extend(instead_of_entrypoint("uname", &inspected, &["-m"]));
        } else {
            run.push(inspected.id.clone());
            run.extend(image.command.iter().cloned());
        }
        // `uname` may be over too soon to be caught; asking again does no harm, which cannot be
        // said of a command of the user's.
        let mut tries = if image.command.is_empty() { sight::TRIES } else { 1 };
        loop {
            let (sighting, output) = self.run_watched(&run, &token.nonce, limit).await?;
            tries -= 1;
            let right = one_line(&output.stdout) == expectation.platform.uname;
            if tries == 0 || !right || matches!(sighting, Sighting::Seen(_)) {
                return Ok(conclude(expectation, image, sighting, &output));
            }
        }
    }

    /// Runs `program` of an image in place of what the image would run, and looks at its process meanwhile.
    ///
    /// # Errors
    /// Those of starting the engine's program.
    pub(super) async fn run_program(
        &self,
        expectation: &Expectation,
        image: &Inspected,
        (program, arguments): (&str, &[&str]),
        token: &Token,
        limit: Duration,
    ) -> io::Result<(Sighting, Output)> {
        let mut run = run_command(expectation, token);
        run.extend(instead_of_entrypoint(program, image, arguments));
        self.run_watched(&run, &token.nonce, limit).await
    }

    /// Runs the engine's program with the arguments `run`, and looks for the container's process
    /// meanwhile, which has `nonce` in its environment.
    async fn run_watched(&self, run: &[String], nonce: &str, limit: Duration) -> io::Result<(Sighting, Output)> {
        let before = sight::processes();
        let talk = Talk::start(&self.program, run)?;
        sight::watch_to_end(talk, || sight::exe(sight::find(&before, nonce)?).ok(), limit).await
    }
}

/// What a run of any image of the user's begins with.
fn run_command(expectation: &Expectation, token: &Token) -> Vec<String> {
    let (asked, name, label) = (engine_platform(expectation.platform), token.container(), format!("{LABEL}=1"));
    let mark = sight::mark(&token.nonce);
    #[rustfmt::skip]
    let run = words(&[
        "run", "--rm", "--pull", "never", "--platform", &asked, "--name", &name, "--label", &label, "--env", &mark,
    ]);
    run
}

fn instead_of_entrypoint(program: &str, image: &Inspected, arguments: &[&str]) -> Vec<String> {
    let mut run = words(&["--network", "none", "--entrypoint", program, &image.id]);
    run.extend(words(arguments));
    run
}

/// Whether an engine `said` that an image has no program of this name: runc and crun in their own words.
pub(super) fn is_not_on_path(said: &str) -> bool {
    let lower = said.to_lowercase();
    lower.split_once("executable file").is_some_and(|(_, behind)| behind.contains("not found in $path"))
}

fn conclude(expectation: &Expectation, image: &UserImage, sighting: Sighting, output: &Output) -> Judged {
    let asks_machine = image.command.is_empty();
    let answer = one_line(&output.stdout);
    let observation = Observation {
        parts: Vec::new(),
        machine: (asks_machine && !answer.is_empty()).then_some(answer),
        asks_machine,
        sighting,
        ending: output.ending,
        said: error_line(&output.stderr),
    };
    let said = &observation.said;
    let no_program = is_not_on_path(said) || said.to_lowercase().contains("no such file");
    let usable = matches!(expectation.handler, Handler::Wins { fixed: true, .. });
    let judgement = if no_program && usable && !output.succeeded() {
        Judgement::new(
            Verdict::Unknown,
            format!("the command is not in the image: {}", observation.said),
            format!("Name one that is: `qemu-persist selftest --image {} -- COMMAND`.", image.reference),
        )
    } else {
        judge(expectation, &observation)
    };
    Judged { observation: Some(observation), judgement, namespace: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_cannot_be_started() {
        // Printed by Docker 20.10 with runc 1.1 and, the second, as crun has it in libcrun/container.c.
        for said in [
            "failed to create shim: exec: \"nothing\": executable file not found in $PATH: unknown.",
            "crun: executable file `nothing` not found in $PATH: No such file or directory",
        ] {
            assert!(is_not_on_path(said), "{said}");
        }
        for said in ["exec /bin/x: no such file or directory", "exec format error", ""] {
            assert!(!is_not_on_path(said), "{said}");
        }
    }

    #[test]
    fn what_engines_say_of_an_image_is_read() {
        let docker = br#"[{"Id":"sha256:ab","RepoTags":["x:y"],"Os":"linux","Architecture":"arm64","Variant":"v8"}]"#;
        assert_eq!(read_inspection(docker).unwrap().platform(), "linux/arm64");
        for wrong in ["", "[]", "[{}]", "{}", "[1]"] {
            assert!(read_inspection(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
