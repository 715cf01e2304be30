// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what was seen of a container to a verdict: pure.

use std::path::Path;

use serde::Serialize;

use super::depth::{Asked, PartResult};
use super::expect::{Expectation, Handler};
use super::probes::{self, AnswerError};
use super::sight::{Exe, Sighting, Unseen};
use crate::host::command::{Ending, Output};

/// What a run of one container shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The right answer, through the expected interpreter, which was seen running.
    Pass,
    /// As a pass, but not all that programs rely on works: some of them will not run.
    Limited,
    /// The right answer, but the interpreter could not be looked at: no proof.
    Unseen,
    /// The right answer, but through an emulator that the engine brings along: it says nothing of
    /// the handler.
    Bypassed,
    /// The container does not work as it must.
    Fail,
    /// It could not be found out.
    Unknown,
}

impl Verdict {
    /// Whether a container was seen to work.
    pub fn works(self) -> bool {
        matches!(self, Self::Pass | Self::Limited)
    }
}

/// What was seen of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What `uname` said in it, where it answered.
    pub machine: Option<String>,
    /// Whether an answer is what counts; else it is the status that its command ended with.
    pub asks_machine: bool,
    /// What its process runs.
    pub sighting: Sighting,
    /// How it ended.
    pub ending: Ending,
    /// What it, or its runtime, said of an error; one line.
    pub said: String,
    /// What was found out beside the answer.
    pub parts: Vec<PartResult>,
}

impl Observation {
    /// What was seen of a container that ran the probe, which was given `nonce`, and then looked at the parts
    /// of `depth`. `said` is what it or its runtime said of an error.
    pub fn of_probe(sighting: Sighting, output: &Output, nonce: &str, said: String, asked: &Asked) -> Self {
        let (answer, rest) = asked.split(&output.stdout);
        let answer = probes::parse_answer(answer, nonce);
        // How the second program ended is told part by part.
        let (ending, said) = match output.ending {
            Ending::Exit(_) | Ending::Signal(_) | Ending::TimedOut if answer.is_ok() && asked.has_begun(output) => {
                (Ending::Exit(0), String::new())
            }
            ending => (ending, said),
        };
        let parts = if answer.is_ok() { asked.read(rest, nonce) } else { Vec::new() };
        let said = match &answer {
            Err(e) if said.is_empty() && !output.stdout.is_empty() => e.to_string(),
            _ => said,
        };
        Self { machine: answer.ok(), asks_machine: true, sighting, ending, said, parts }
    }
}

impl Observation {
    /// What a log would have of it: what was said, and the exit code, by which causes are recognised.
    pub fn as_log(&self) -> String {
        let code = match self.ending {
            Ending::Exit(code) => code,
            Ending::Signal(signal) => 128 + signal,
            Ending::TimedOut => return self.said.clone(),
        };
        format!("{}\nexited with code {code}", self.said)
    }
}

/// Whether `output` of the probe holds its answer, or what can no longer become one.
pub fn has_answered(output: &[u8], nonce: &str, asked: &Asked) -> bool {
    !matches!(probes::parse_answer(asked.split(output).0, nonce), Err(AnswerError::Empty | AnswerError::BreaksOff))
}

/// A verdict, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What is wrong, in one sentence; empty for a pass.
    pub reason: String,
    /// What to do, in one sentence; empty for a pass.
    pub advice: String,
    /// Whether what was said may tell more than that.
    pub is_open: bool,
    /// Whether the kernel did not take the handler that is registered.
    pub is_not_taken: bool,
}

pub(super) const APPLY: &str = "Run `sudo qemu-persist apply`.";

impl Judgement {
    /// Nothing is wrong.
    pub fn pass() -> Self {
        Self::new(Verdict::Pass, "", "")
    }

    /// `reason` is what is wrong.
    pub fn new(verdict: Verdict, reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into(), advice: advice.into(), is_open: false, is_not_taken: false }
    }

    fn open(self) -> Self {
        Self { is_open: true, ..self }
    }

    fn fail(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, reason, advice)
    }
}

/// What `observation` of a container says where `expectation` is what it must show.
pub fn judge(expectation: &Expectation, observation: &Observation) -> Judgement {
    let platform = expectation.platform;
    match &observation.machine {
        None if observation.asks_machine => return no_answer(expectation, observation),
        Some(machine) if machine != platform.uname => {
            let ran = match &observation.sighting {
                Sighting::Seen(exe) if is_native(exe, &expectation.handler) => "it ran natively and ",
                _ if *machine == expectation.host => "it ran natively and ",
                _ => "it ",
            };
            return Judgement::fail(
                format!("{ran}said {machine}, where {platform} has to say {}", platform.uname),
                "Look at what its handler runs: `qemu-persist status`.",
            );
        }
        _ => {}
    }
    if observation.ending != Ending::Exit(0) {
        return no_answer(expectation, observation);
    }
    match &observation.sighting {
        Sighting::NotSeen(why) => not_seen(why, observation.asks_machine),
        Sighting::Seen(exe) => by_interpreter(exe, expectation),
    }
}

fn not_seen(why: &Unseen, asks_machine: bool) -> Judgement {
    let (why, advice) = match why {
        Unseen::NotAllowed => ("only root may look at its process".to_owned(), "Run it with sudo for a proof."),
        Unseen::Elsewhere => (
            "the engine's containers do not run on this machine itself".to_owned(),
            "Use an engine that runs them here, or `--runtime builtin`.",
        ),
        Unseen::TooSoon if asks_machine => ("it was over too soon".to_owned(), "Run it again."),
        Unseen::TooSoon => ("it was over too soon".to_owned(), "Run a command that lasts longer, such as `sleep 1`."),
        Unseen::Other(why) => (why.clone(), "Run it again, or by `--runtime builtin`."),
    };
    let well = if asks_machine { "the answer is right" } else { "the command succeeded" };
    Judgement::new(Verdict::Unseen, format!("{well}, but by what it was run was not seen: {why}"), advice)
}

fn is_native(exe: &Exe, handler: &Handler) -> bool {
    let named = matches!(handler, Handler::Wins { interpreter, .. } if *interpreter == exe.path);
    exe.inside && !named
}

fn by_interpreter(exe: &Exe, expectation: &Expectation) -> Judgement {
    let platform = expectation.platform;
    let ran = exe.path.display();
    if is_native(exe, &expectation.handler) {
        return Judgement::fail(
            format!("{ran} ran natively, without an interpreter: it is no program of {platform}"),
            "Use an image whose programs are of the platform that it says.",
        );
    }
    match &expectation.handler {
        Handler::Wins { file: Ok(file), .. } if file.is_same(&exe.identity) => Judgement::pass(),
        Handler::Wins { interpreter, file: Err(_), .. } => Judgement::fail(
            format!(
                "it ran through {ran}, and {} is not there: it will not come back after a reboot",
                shown(interpreter)
            ),
            APPLY,
        ),
        Handler::Wins { interpreter, .. } if exe.deleted => Judgement::fail(
            format!("the kernel still runs an older file than the {} that is there now", shown(interpreter)),
            APPLY,
        ),
        Handler::Wins { name, interpreter, .. } => Judgement::fail(
            format!("it ran through another interpreter ({ran}) than {} of the handler {name}", shown(interpreter)),
            APPLY,
        ),
        Handler::None(_) | Handler::Off => Judgement::fail(
            format!("it ran through {ran}, though no handler for {platform} is registered here"),
            "Look for another set of handlers, in a container or a virtual machine, that the engine uses.",
        ),
        Handler::NotMounted => Judgement::new(
            Verdict::Unknown,
            format!("it ran through {ran}, but binfmt_misc is not mounted here, so what had to run it is not known"),
            APPLY,
        ),
        Handler::Unknown(why) => Judgement::new(
            Verdict::Unknown,
            format!("it ran through {ran}, but the handlers cannot be read: {why}"),
            "Run it with sudo.",
        ),
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

fn no_answer(expectation: &Expectation, observation: &Observation) -> Judgement {
    let platform = expectation.platform;
    let said = &observation.said;
    let lower = said.to_lowercase();
    let behind = if said.is_empty() { String::new() } else { format!(": {said}") };
    match observation.ending {
        Ending::TimedOut => {
            return Judgement::new(
                Verdict::Unknown,
                format!("it gave no answer in time{behind}"),
                "Give it more time with --timeout, or look at what the host is busy with.",
            );
        }
        // SIGKILL, which no program gives itself.
        Ending::Signal(9) | Ending::Exit(137) => {
            return Judgement::new(
                Verdict::Unknown,
                format!("it was killed from outside{behind}"),
                "Run it again, and see by `journalctl -k` whether memory has run out.",
            );
        }
        // An engine that could not make the container, or a program that could not be started.
        _ if lower.contains("exec format error") || lower.contains("no such file") || said.is_empty() => {}
        Ending::Exit(125) => {
            return Judgement::fail(
                format!("the container could not be started{behind}"),
                "See whether the engine runs a container of this host's own architecture.",
            )
            .open();
        }
        Ending::Exit(_) | Ending::Signal(_) => {}
    }
    let how = match observation.ending {
        Ending::Signal(signal) => format!("was ended by signal {signal}"),
        Ending::Exit(0) => "gave no answer".to_owned(),
        Ending::Exit(code) => format!("ended with status {code}"),
        Ending::TimedOut => "gave no answer in time".to_owned(),
    };
    match &expectation.handler {
        Handler::None(disabled) if disabled.is_empty() => {
            Judgement::fail(format!("no handler is registered for {platform}{behind}"), APPLY)
        }
        Handler::None(disabled) => {
            Judgement::fail(format!("its handler {} is disabled{behind}", disabled.join(", ")), APPLY)
        }
        Handler::Off => Judgement::fail(format!("handlers are turned off as a whole{behind}"), APPLY),
        Handler::NotMounted => Judgement::fail(format!("binfmt_misc is not mounted here{behind}"), APPLY),
        Handler::Wins { name, fixed: false, .. } if lower.contains("no such file") => Judgement::fail(
            format!("the handler {name} has no F flag, so that its interpreter is not found in a container{behind}"),
            APPLY,
        ),
        Handler::Wins { name, .. } if lower.contains("exec format error") => Judgement {
            is_not_taken: true,
            ..Judgement::fail(
                format!("it was not run by the handler {name} that is registered here{behind}"),
                "See whether the engine runs in a container or virtual machine with handlers of its own.",
            )
        },
        _ if !observation.asks_machine => Judgement::fail(
            format!("the command {how}{behind}"),
            "See whether the command does so on a machine of that platform as well.",
        )
        .open(),
        Handler::Wins { .. } if observation.ending == Ending::Exit(0) => Judgement::new(
            Verdict::Unknown,
            format!("it {how}{behind}"),
            "See what else writes to the output of containers: a wrapper of the engine, or a plugin.",
        ),
        Handler::Wins { interpreter, .. } => Judgement::fail(
            format!("it {how}{behind}"),
            format!("Look at its interpreter {}: `qemu-persist status`.", shown(interpreter)),
        )
        .open(),
        Handler::Unknown(why) => Judgement::fail(
            format!("it {how}{behind}"),
            format!("The handlers cannot be read ({why}): run it with sudo."),
        )
        .open(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;
    use crate::record::FileIdentity;
    use std::path::PathBuf;

    fn identity(ino: u64) -> FileIdentity {
        FileIdentity { dev: 1, ino, size: 2, mtime_ns: 3, ctime_ns: 4, build_id: None }
    }

    fn wins(fixed: bool, file: Result<FileIdentity, String>) -> Handler {
        let (name, rule) = ("qemu-aarch64".to_owned(), ":rule:".to_owned());
        Handler::Wins { name, rule, inode: 1, interpreter: PathBuf::from("/usr/bin/qemu"), fixed, file }
    }

    fn seen(path: &str, ino: u64, deleted: bool, inside: bool) -> Sighting {
        Sighting::Seen(Exe { path: path.into(), deleted, identity: identity(ino), inside })
    }

    #[test]
    fn only_the_right_answer_through_the_right_file_passes() {
        let ok = || Sighting::NotSeen(Unseen::TooSoon);
        let q = "/usr/bin/qemu";
        let right = Some("aarch64");
        let done = Ending::Exit(0);
        #[rustfmt::skip]
        let rows = [
            (wins(true, Ok(identity(7))), right, seen(q, 7, false, false), done, "", Verdict::Pass, ""),
            (wins(true, Ok(identity(7))), right, seen(q, 7, true, false), done, "", Verdict::Pass, ""),
            (wins(true, Ok(identity(7))), right, ok(), done, "", Verdict::Unseen, "not seen"),
            (wins(true, Ok(identity(7))), right, seen(q, 8, true, false), done, "", Verdict::Fail, "older file"),
            (wins(true, Ok(identity(7))), right, seen("/x", 8, false, false), done, "", Verdict::Fail, "another interpreter"),
            (wins(true, Ok(identity(7))), right, seen("/probe", 8, false, true), done, "", Verdict::Fail, "natively"),
            (wins(true, Ok(identity(7))), right, seen(q, 8, false, true), done, "", Verdict::Fail, "another interpreter"),
            (wins(true, Err("gone".into())), right, seen(q, 8, true, false), done, "", Verdict::Fail, "not there"),
            (wins(true, Ok(identity(7))), right, seen(q, 7, false, false), Ending::Exit(1), "", Verdict::Fail, "status 1"),
            (wins(true, Ok(identity(7))), Some("x86_64"), seen("/probe", 8, false, true), done, "", Verdict::Fail, "natively and said x86_64"),
            (wins(true, Ok(identity(7))), Some("x86_64"), ok(), done, "", Verdict::Fail, "natively and said x86_64"),
            (wins(true, Ok(identity(7))), Some("armv7l"), seen(q, 7, false, false), done, "", Verdict::Fail, "has to say aarch64"),
            (wins(true, Ok(identity(7))), None, ok(), Ending::TimedOut, "", Verdict::Unknown, "in time"),
            (wins(true, Ok(identity(7))), None, ok(), Ending::Signal(9), "", Verdict::Unknown, "killed"),
            (wins(true, Ok(identity(7))), None, ok(), Ending::Exit(137), "", Verdict::Unknown, "killed"),
            (wins(true, Ok(identity(7))), None, ok(), Ending::Exit(0), "not that of this probe", Verdict::Unknown, "not that of this probe"),
            (wins(true, Ok(identity(7))), None, ok(), Ending::Exit(125), "no cgroup", Verdict::Fail, "could not be started: no cgroup"),
            (wins(true, Ok(identity(7))), None, ok(), Ending::Exit(1), "exec format error", Verdict::Fail, "not run by the handler"),
            (wins(false, Ok(identity(7))), None, ok(), Ending::Exit(127), "no such file or directory", Verdict::Fail, "no F flag"),
            (wins(true, Ok(identity(7))), None, ok(), Ending::Signal(11), "", Verdict::Fail, "signal 11"),
            (Handler::None(vec![]), None, ok(), Ending::Exit(1), "exec format error", Verdict::Fail, "no handler is registered for linux/arm64"),
            (Handler::None(vec!["q".into()]), None, ok(), Ending::Exit(1), "Exec format error", Verdict::Fail, "handler q is disabled"),
            (Handler::Off, None, ok(), Ending::Exit(1), "Exec format error", Verdict::Fail, "as a whole"),
            (Handler::NotMounted, None, ok(), Ending::Exit(1), "Exec format error", Verdict::Fail, "not mounted"),
            (Handler::NotMounted, right, seen(q, 7, false, false), done, "", Verdict::Unknown, "not mounted"),
            (Handler::None(vec![]), right, seen(q, 7, false, false), done, "", Verdict::Fail, "though no handler"),
            (Handler::Unknown("no".into()), right, seen(q, 7, false, false), done, "", Verdict::Unknown, "cannot be read"),
        ];
        for (handler, machine, sighting, ending, said, verdict, reason) in rows {
            let platform = Platform::named("arm64").unwrap();
            let expectation = Expectation { platform, host: "x86_64".into(), handler };
            let machine = machine.map(str::to_owned);
            let observation =
                Observation { machine, asks_machine: true, sighting, ending, said: said.into(), parts: Vec::new() };
            let judgement = judge(&expectation, &observation);
            assert_eq!(judgement.verdict, verdict, "{expectation:?} {observation:?}: {judgement:?}");
            assert!(judgement.reason.contains(reason), "{reason}: {judgement:?}");
            assert_eq!(judgement.advice.is_empty(), verdict == Verdict::Pass, "{judgement:?}");
        }
    }
}
