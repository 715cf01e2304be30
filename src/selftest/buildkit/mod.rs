// SPDX-License-Identifier: MIT OR Apache-2.0
//! A step of a build by Docker's BuildKit: buildx where it is installed, else the client that Docker had built in
//! before 23.0.
//!
//! BuildKit starts a small program of each platform to see whether the kernel runs it (moby/buildkit, util/archutil).
//! Where it does not, it runs steps by a `buildkit-qemu-ARCH` of its own, if it finds one: `docker build` works then
//! although `docker run` does not.
//!
//! No image comes of a build, and the daemon ends the step of a client that is killed (seen with Docker 20.10 and
//! 26.1), so that nothing has to be removed afterwards. What stays is in BuildKit's cache, which it prunes by itself.

mod look;
pub mod offers;
mod step;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use self::look::Seen;
use self::step::{End, LINKS, Step, context};
use super::depth::{Asked, Depth};
use super::engine::{Down, Engine, Judged, SHORT, words};
use super::expect::{Expectation, Handler};
use super::image::engine_platform;
use super::judge::{APPLY, Judgement, Observation, Verdict, judge};
use super::probes::parse_answer;
use super::saying::one_line;
use super::sight::{self, Sighting, Unseen};
use super::token::Token;
use crate::host::command::{Ending, Output, Talk};
use crate::host::engines::Kind;

/// What the client is told by its environment: to use BuildKit, and to add nothing to what is built.
const VARIABLES: [(&str, &str); 2] = [("DOCKER_BUILDKIT", "1"), ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")];

/// A builder whose client is here.
#[derive(Clone, Debug)]
pub struct Builder {
    docker: PathBuf,
    has_buildx: bool,
}

impl Builder {
    /// The one that `docker buildx build`, or else `docker build`, uses now, and the version of its client.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn find(limit: Duration) -> Result<(Self, String), Down> {
        let Some(engine) = Engine::find(Kind::Docker) else {
            return Err(Down {
                reason: "docker is not installed, whose BuildKit it is".into(),
                advice: "Install it, or leave --runtime away.".into(),
            });
        };
        let server = engine.version(limit).await?;
        let limit = limit.min(SHORT);
        let docker = engine.program.clone();
        if let Some(buildx) = answer(&engine, &["buildx", "version"], limit).await {
            // "github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3"
            let version = buildx.split(' ').nth(1).unwrap_or_default();
            return Ok((Self { docker, has_buildx: true }, format!("buildx {version}")));
        }
        let client = answer(&engine, &["version", "--format", "{{.Client.Version}}"], limit).await.unwrap_or_default();
        match client.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(..23) => Ok((Self { docker, has_buildx: false }, format!("docker {server}"))),
            _ => Err(Down {
                reason: "docker's plugin buildx is not installed, by which BuildKit is used".into(),
                advice: "Install it (in Debian's packages docker-buildx, in Docker's own docker-buildx-plugin), or \
                         leave --runtime away."
                    .into(),
            }),
        }
    }

    /// Runs the step and judges what is seen of it, and looks at the parts of `depth`.
    ///
    /// # Errors
    /// Those of starting the client.
    pub async fn test(
        &self,
        expectation: &Expectation,
        token: &Token,
        depth: Option<Depth>,
        limit: Duration,
    ) -> io::Result<Judged> {
        let asked = Asked::new(expectation.platform, depth);
        let archive = context(expectation.platform, token, &asked)?;
        let platform = engine_platform(expectation.platform);
        let mut build = words(if self.has_buildx { &["buildx", "build"] } else { &["build"] });
        build.extend(words(&["--platform", &platform, "--no-cache", "--network", "none", "--progress", "plain"]));
        // No image comes of it.
        build.extend(words(&["--output", "type=cacheonly", "-"]));
        let mut tries = sight::TRIES;
        loop {
            let before = sight::processes();
            let talk = Talk::start_with(&self.docker, &build, &VARIABLES)?;
            let nonce = &token.nonce;
            let (seen, output) = sight::watch_fed(talk, &archive, || look::glance(&before, nonce), limit).await?;
            let judged = conclude(expectation, nonce, &asked, seen, &output);
            tries -= 1;
            let missed = matches!(&judged.observation, Some(o) if o.sighting == Sighting::NotSeen(Unseen::Elsewhere));
            if tries == 0 || judged.judgement.verdict != Verdict::Unseen || !missed {
                return Ok(judged);
            }
        }
    }
}

/// What `engine` answers on one line; none where it does not.
async fn answer(engine: &Engine, arguments: &[&str], limit: Duration) -> Option<String> {
    let output = engine.ask(arguments, limit).await.ok().filter(Output::succeeded)?;
    Some(one_line(&output.stdout))
}

fn unknown(reason: impl Into<String>, advice: &str) -> Judged {
    Judged { observation: None, namespace: None, judgement: Judgement::new(Verdict::Unknown, reason, advice) }
}

/// What the client said is wrong.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let error = lines().rfind(|line| line.to_lowercase().starts_with("error")).or_else(|| lines().next_back());
    one_line(error.unwrap_or_default().as_bytes())
}

/// What a build that wrote `output` shows, whose process was `seen`.
fn conclude(expectation: &Expectation, nonce: &str, asked: &Asked, seen: Option<Seen>, output: &Output) -> Judged {
    let step = Step::read(&output.stderr, nonce);
    let by_emulator = seen.as_ref().is_some_and(|seen| seen.emulator) || step.names_emulator();
    // The probe lived as long as is enough for being seen, were it here.
    let sighting = seen.map_or(Sighting::NotSeen(Unseen::Elsewhere), |seen| seen.sighting);
    let again = "Run it again, or build something for this host's own platform, to see whether the builder works.";
    let ending = match (&step.end, step.ending(), output.ending) {
        (End::NotBegun, _, Ending::TimedOut) => {
            return unknown("the builder did not come to the step in time", again);
        }
        (_, _, Ending::TimedOut) => {
            return unknown("the step did not come to its end in time", "Give it more time with --timeout.");
        }
        (End::NotBegun, ..) => {
            return unknown(format!("the builder did not come to the step: {}", complaint(output)), again);
        }
        (_, Some(ending), _) => ending,
        (..) => return unknown(format!("the builder does not say how the step ended: {}", complaint(output)), again),
    };
    let answers = step.answers(nonce);
    if let Ending::Signal(signal @ (9 | 15)) = ending {
        let reason = format!("the step's process was ended by signal {signal}, and not by what it did");
        return unknown(reason, "Run it again; `dmesg` says whether memory was short.");
    }
    if answers == 0 && ending == Ending::Exit(0) {
        let wrote = step.as_output(nonce, ending).stdout;
        let why = parse_answer(&wrote, nonce).err().map(|e| e.to_string()).unwrap_or_default();
        return unknown(format!("the step wrote no answer of the probe: {why}"), again);
    }
    if answers > 0 && answers < LINKS && ending == Ending::Exit(0) {
        let reason = format!("the probe answered {answers} times, and not as often as it was started: {LINKS}");
        return unknown(reason, again);
    }
    let mut observation = if answers >= LINKS {
        Observation::of_probe(sighting, &step.as_output(nonce, ending), nonce, step.said(nonce), asked)
    } else {
        let first = step.lines.first().map(|line| format!("{line}\n")).unwrap_or_default();
        let machine = parse_answer(first.as_bytes(), nonce).ok();
        let said = step.said(nonce);
        Observation { machine, asks_machine: true, sighting, ending, said, parts: Vec::new() }
    };
    let judgement = if by_emulator {
        by_own_emulator(expectation, &mut observation, answers)
    } else {
        judge(expectation, &observation)
    };
    Judged { observation: Some(observation), namespace: None, judgement }
}

/// What it means that BuildKit ran the step by its own QEMU: whatever it shows is nothing of the handler.
fn by_own_emulator(expectation: &Expectation, observation: &mut Observation, answers: usize) -> Judgement {
    // They are those of another QEMU.
    observation.parts.clear();
    let lead = "the step ran under BuildKit's own QEMU, not by a handler";
    let advice = match expectation.handler {
        Handler::Wins { .. } => {
            "BuildKit may not have seen the handler yet: restart the builder (`sudo systemctl restart docker`), and \
             run it again. What `docker run` does is shown by `--runtime docker`."
        }
        _ => APPLY,
    };
    let right = observation.machine.as_deref() == Some(expectation.platform.uname);
    match observation.ending {
        Ending::Exit(0) if right => Judgement::new(
            Verdict::Bypassed,
            format!("{lead}: `build` works through it, which says nothing of `run`"),
            advice,
        ),
        _ if right && answers > 0 => Judgement::new(
            Verdict::Bypassed,
            format!("{lead}: it runs a step's program, but none that this one starts, and says nothing of `run`"),
            advice,
        ),
        _ => {
            let said = if observation.said.is_empty() { "it gave no right answer" } else { &observation.said };
            Judgement::new(Verdict::Unknown, format!("{lead}, and failed: {said}"), advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;
    use crate::record::FileIdentity;
    use crate::selftest::sight::Exe;

    const RIGHT: &str = "qemu-persist-probe 1 aarch64 n0";

    /// What a build writes whose step answers `answer` so often and then ends as `end` says.
    fn build(answer: &str, often: usize, end: &str) -> Output {
        let lines = format!("#4 0.1 {answer}\n").repeat(often);
        let stderr = format!("#4 [2/2] RUN [\"/p\", \"n0\"]\n{lines}#4 {end}\n").into_bytes();
        Output { ending: Ending::Exit(i32::from(end.starts_with("ERROR"))), stdout: Vec::new(), stderr }
    }

    #[test]
    fn only_what_the_handler_ran_and_was_seen_passes() {
        let identity = FileIdentity { dev: 1, ino: 7, size: 2, mtime_ns: 3, ctime_ns: 4, build_id: None };
        let handler = Handler::Wins {
            name: "q".into(),
            rule: ":q:".into(),
            inode: 1,
            interpreter: "/usr/bin/qemu".into(),
            fixed: true,
            file: Ok(identity.clone()),
        };
        let exe = Exe { path: "/usr/bin/qemu".into(), deleted: false, identity, inside: false };
        let seen = |emulator| Some(Seen { emulator, sighting: Sighting::Seen(exe.clone()) });
        let own = "ERROR: process \"/dev/.buildkit_qemu_emulator /p n0\" did not complete: exit code: 5";
        let (none, done) = (Handler::None(Vec::new()), "DONE 0.2s");
        let failed = |code: i32| format!("ERROR: process \"/p n0\" did not complete: exit code: {code}");
        #[rustfmt::skip]
        let rows = [
            (&handler, seen(false), build(RIGHT, LINKS, done), Verdict::Pass, ""),
            // Started by BuildKit's own, and seen when it had become another program, which the handler runs.
            (&handler, seen(true), build(RIGHT, LINKS, done), Verdict::Bypassed, "says nothing of `run`"),
            (&none, seen(true), build(RIGHT, LINKS, done), Verdict::Bypassed, "`build` works"),
            (&none, None, build(RIGHT, 1, own), Verdict::Bypassed, "but none that this one starts"),
            (&none, seen(true), build("qemu-persist-probe 1 x86_64 n0", LINKS, done), Verdict::Unknown, "no right answer"),
            (&none, None, build("qemu: fatal", 1, own), Verdict::Unknown, "and failed: qemu: fatal"),
            (&handler, None, build(RIGHT, LINKS, done), Verdict::Unseen, "do not run on this machine"),
            (&handler, seen(false), build(RIGHT, LINKS - 1, &failed(5)), Verdict::Fail, "status 5"),
            (&handler, seen(false), build(RIGHT, 3, &failed(139)), Verdict::Fail, "signal 11"),
            (&handler, seen(false), build(RIGHT, 3, &failed(137)), Verdict::Unknown, "signal 9"),
            (&handler, seen(false), build(RIGHT, 3, done), Verdict::Unknown, "as often as"),
            (&handler, seen(false), build("qemu-persist-probe 1 aarch64 n1", 1, done), Verdict::Unknown, "nonce"),
            (&handler, seen(false), build("qemu-persist-probe 1 x86_64 n0", LINKS, done), Verdict::Fail, "has to say"),
            (&none, None, build("exec /p: exec format error", 1, &failed(1)), Verdict::Fail, "no handler is registered"),
        ];
        let platform = Platform::named("arm64").unwrap();
        let asked = Asked::new(platform, None);
        for (handler, seen, output, verdict, reason) in rows {
            let expectation = Expectation { platform, host: "x86_64".into(), handler: handler.clone() };
            let judgement = conclude(&expectation, "n0", &asked, seen, &output).judgement;
            assert_eq!(judgement.verdict, verdict, "{reason}: {judgement:?}");
            assert!(judgement.reason.contains(reason), "{reason}: {judgement:?}");
        }
    }
}
