// SPDX-License-Identifier: MIT OR Apache-2.0
//! Container engines, through their command lines: Docker, Podman, nerdctl.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::depth::{Asked, Depth};
use super::expect::Expectation;
use super::image::{self, engine_platform};
use super::judge::{Judgement, Observation, Verdict, has_answered, judge};
use super::saying::{error_line, one_line};
use super::sight::{self, Sighting, Unseen};
use super::token::{CONTAINER_PREFIX, LABEL, REPOSITORY, Token};
use super::user_namespace::UserNamespace;
use crate::host::command::{self, Ending, Output, Talk};
use crate::host::engines::{self, Kind, State};
use crate::record::boot_seconds;

/// How long an engine may take for a question or for removing something.
pub const SHORT: Duration = Duration::from_secs(20);

/// The user and group of those who own nothing, in a container that may gain rights.
const NOBODY: &str = "65534:65534";

/// An engine whose program is here.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Which it is.
    pub kind: Kind,
    /// Its program.
    pub program: PathBuf,
}

/// Of which runs what was left is removed.
#[derive(Clone, Copy, Debug)]
pub enum Runs<'a> {
    /// Those whose time is over, seen from the boot `boot_id`; another may run beside this one.
    Over {
        /// The id of this boot.
        boot_id: &'a str,
    },
    /// All, since none will run any more.
    All,
}

/// Why an engine cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// What is wrong, in one sentence.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// `arguments` as a list that can grow.
pub(super) fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|word| (*word).to_owned()).collect()
}

impl Engine {
    /// The engine `kind`, where its program is here.
    pub fn find(kind: Kind) -> Option<Self> {
        let program = command::find(kind.program())?;
        Some(Self { kind, program })
    }

    /// Runs it with `arguments`, for `limit` at most.
    ///
    /// # Errors
    /// Those of starting it.
    pub async fn ask(&self, arguments: &[&str], limit: Duration) -> io::Result<Output> {
        command::run(&self.program, arguments, limit).await
    }

    /// The version of the engine itself; where it has no server, of its program.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn version(&self, limit: Duration) -> Result<String, Down> {
        let asked = engines::ask_version(self.kind, self.program.clone(), limit.min(SHORT)).await;
        if asked.stands_for_podman {
            let reason = "this `docker` is Podman under another name".to_owned();
            return Err(Down { reason, advice: "Use `--runtime podman`.".into() });
        }
        let why = match asked.state {
            // Podman that this user has not used yet makes its storage when it runs something.
            State::Answered | State::NotAsked(_) => {
                return Ok(asked.server_version.or(asked.client_version).unwrap_or_default());
            }
            State::Unreachable(why) => why,
        };
        let advice = match self.kind {
            _ if why.to_lowercase().contains("permission denied") => {
                "Run it as root (with sudo, and without --as-user), or start an engine of this user's own."
            }
            Kind::Docker if asked.endpoint.is_some_and(|place| place.starts_with("unix:///run/user/")) => {
                "Start it, as its user: `systemctl --user start docker`."
            }
            Kind::Docker => "Start it: `sudo systemctl start docker`.",
            Kind::Podman => "See what `podman info` says.",
            Kind::Nerdctl => "Start it: `sudo systemctl start containerd`.",
        };
        let reason = format!("{} is installed but cannot be used: {}", self.kind, one_line(why.as_bytes()));
        Err(Down { reason, advice: advice.into() })
    }

    /// Loads the private image of `token` and runs it, and looks at the parts of `depth`.
    ///
    /// # Errors
    /// Those of starting the engine's program.
    pub async fn test(
        &self,
        expectation: &Expectation,
        token: &Token,
        depth: Option<Depth>,
        limit: Duration,
    ) -> io::Result<Judged> {
        let platform = expectation.platform;
        let archive = image::archive(platform, &token.image(), &image::programs(platform))?;
        let asked = Asked::new(platform, depth);
        let platform = engine_platform(platform);
        let mut load = words(&["load"]);
        if self.kind == Kind::Nerdctl {
            // It unpacks the images of the host's own platform alone otherwise.
            load.extend(words(&["--platform", &platform]));
        }
        let loaded = command::run_with_input(&self.program, &load, &archive, limit).await?;
        if !loaded.succeeded() {
            let how = if loaded.ending == Ending::TimedOut { " in time" } else { "" };
            let reason = format!("{} did not take the test's image{how}: {}", self.kind, error_line(&loaded.stderr));
            let advice = "See whether the engine has room for images and can load one.";
            return Ok(Judged::of_none(Judgement::new(Verdict::Unknown, reason, advice)));
        }
        let name = token.container();
        let mut run = self.run_command(&platform, token, &["--security-opt", "no-new-privileges"]);
        run.extend(asked.arguments(&token.nonce));
        let before = sight::processes();
        let mut talk = Talk::start(&self.program, &run)?;
        let mut sighting = Sighting::NotSeen(Unseen::TooSoon);
        let mut namespace = None;
        let conversation = async {
            if talk.until(|output, _| has_answered(output, &token.nonce, &asked)).await {
                (sighting, namespace) = self.look(&name, &token.nonce, &before, limit).await;
            }
            talk.finish(&[]).await
        };
        let ended = timeout(limit, conversation).await;
        let output = talk.conclude(ended.ok()).await?;
        let said = error_line(&output.stderr);
        let mut observation = Observation::of_probe(sighting, &output, &token.nonce, said, &asked);
        let rights = asked.arguments_for_rights(&token.nonce);
        if !rights.is_empty() && observation.machine.is_some() {
            let mut run = self.run_command(&platform, token, &["--user", NOBODY]);
            run.extend(rights);
            let output = command::run(&self.program, &run, limit).await?;
            asked.read_rights(&mut observation.parts, &output.stdout, &token.nonce);
        }
        let judgement = judge(expectation, &observation);
        Ok(Judged { observation: Some(observation), judgement, namespace: namespace.map(Rc::new) })
    }

    /// The arguments that run the private image of `token`, up to what the probe is given behind its nonce.
    fn run_command(&self, platform: &str, token: &Token, options: &[&str]) -> Vec<String> {
        let (name, label) = (token.container(), format!("{LABEL}=1"));
        #[rustfmt::skip]
        let mut run = words(&[
            "run", "--rm", "--interactive", "--network", "none", "--pull", "never", "--platform", platform,
            "--name", &name, "--label", &label, "--env", &sight::mark(&token.nonce), "--read-only", "--cap-drop", "ALL",
        ]);
        run.extend(words(options));
        if self.kind != Kind::Nerdctl {
            run.extend(words(&["--log-driver", "none"]));
        }
        run.extend([token.image(), token.nonce.clone()]);
        run
    }

    /// Looks at the process of the running container `name`, and where it is seen for its user namespace, if that is
    /// another than ours. The engine is asked for it only where it is not found among those that were not there
    /// `before`, which is quicker.
    async fn look(
        &self,
        name: &str,
        nonce: &str,
        before: &BTreeSet<u32>,
        limit: Duration,
    ) -> (Sighting, Option<UserNamespace>) {
        let of = |pid| {
            let sighting = sight::look(pid, nonce);
            let is_seen = matches!(sighting, Sighting::Seen(_));
            let namespace = is_seen.then(|| UserNamespace::other(pid).ok().flatten()).flatten();
            (sighting, namespace)
        };
        if let Some(found @ (Sighting::Seen(_), _)) = sight::find(before, nonce).map(of) {
            return found;
        }
        let inspect = ["inspect", "--format", "{{.State.Pid}}", name];
        let why = match self.ask(&inspect, limit.min(SHORT)).await {
            Ok(output) if output.succeeded() => match one_line(&output.stdout).parse() {
                Ok(pid) if pid > 0 => return of(pid),
                _ => "the engine does not say which process it is".into(),
            },
            Ok(output) => error_line(&output.stderr),
            Err(e) => e.to_string(),
        };
        (Sighting::NotSeen(Unseen::Other(why)), None)
    }

    /// Removes a container, by name. One that is not there is no error.
    ///
    /// # Errors
    /// What the engine said.
    async fn remove_container(&self, name: &str) -> Result<(), String> {
        gone(self.ask(&["rm", "--force", name], SHORT).await)
    }

    /// Removes an image's name, and with it the image that has no other. One that is not there is
    /// no error.
    ///
    /// # Errors
    /// What the engine said.
    async fn remove_image(&self, name: &str) -> Result<(), String> {
        gone(self.ask(&["rmi", name], SHORT).await)
    }

    /// Removes what the run of `token` has left.
    ///
    /// # Errors
    /// What the engine said.
    pub async fn remove(&self, token: &Token) -> Result<(), String> {
        // An image that is gone had no container any more: the usual case, in which the engine is asked only once.
        if self.kind != Kind::Nerdctl && self.remove_image(&token.image()).await.is_ok() {
            return Ok(());
        }
        let container = self.remove_container(&token.container()).await;
        let image = self.remove_image(&token.image()).await;
        container.and(image)
    }

    /// Removes what runs that were killed have left, on this boot or an earlier one: only what bears the
    /// self-test's own name, and only of runs that are `whose`. Gives an error, too, where the engine does not say what
    /// there is.
    pub async fn remove_leftovers(&self, whose: Runs<'_>) -> Vec<Result<(), String>> {
        let now = boot_seconds();
        let over = |text: &str| {
            Token::parse(text).is_some_and(|token| match whose {
                Runs::Over { boot_id } => token.is_over(boot_id, now),
                Runs::All => true,
            })
        };
        let filter = format!("label={LABEL}=1");
        let reference = format!("reference={REPOSITORY}:*");
        let list_containers = ["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"];
        let list_images = ["images", "--filter", &reference, "--format", "{{.Repository}}:{{.Tag}}"];
        let (containers, images) = tokio::join!(self.names(&list_containers), self.names(&list_images));
        let mut results = Vec::new();
        let mut found = |names: Result<Vec<String>, String>| {
            names.unwrap_or_else(|reason| {
                results.push(Err(reason));
                Vec::new()
            })
        };
        let (containers, images) = (found(containers), found(images));
        for name in containers.iter().filter(|name| name.strip_prefix(CONTAINER_PREFIX).is_some_and(over)) {
            results.push(self.remove_container(name).await);
        }
        let tag = |name: &str| name.strip_prefix(REPOSITORY)?.strip_prefix(':').map(str::to_owned);
        for name in images.iter().filter(|name| tag(name).is_some_and(|tag| over(&tag))) {
            results.push(self.remove_image(name).await);
        }
        results
    }

    /// The lines that the engine writes for `arguments`, or why there are none.
    async fn names(&self, arguments: &[&str]) -> Result<Vec<String>, String> {
        let output = self.ask(arguments, SHORT).await.map_err(|e| e.to_string())?;
        if !output.succeeded() {
            return Err(output.complaint());
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect())
    }
}

fn gone(result: io::Result<Output>) -> Result<(), String> {
    let output = result.map_err(|e| e.to_string())?;
    let said = match output.ending {
        Ending::TimedOut => output.complaint(),
        _ => error_line(&output.stderr),
    };
    let lower = said.to_lowercase();
    let absent = ["no such", "not known", "not found"].iter().any(|text| lower.contains(text));
    if output.succeeded() || absent { Ok(()) } else { Err(said) }
}

/// What a run gave; without an observation where no container was started.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What was seen.
    pub observation: Option<Observation>,
    /// What that means.
    pub judgement: Judgement,
    /// The user namespace of the container, where it was seen and is another than ours.
    pub namespace: Option<Rc<UserNamespace>>,
}

impl Judged {
    /// Where no container was started.
    pub fn of_none(judgement: Judgement) -> Self {
        Self { observation: None, judgement, namespace: None }
    }
}

/// What runs have left with engines and is to be removed, whatever happens.
#[derive(Debug, Default)]
pub struct Traces(RefCell<Vec<(Engine, Token)>>);

impl Traces {
    /// Notes that `token` is about to be used with `engine`.
    pub fn note(&self, engine: &Engine, token: &Token) {
        self.0.borrow_mut().push((engine.clone(), token.clone()));
    }

    /// Removes everything noted. Gives what could not be removed: the engine's name, the name of
    /// the image, and what the engine said.
    pub async fn clear(&self) -> Vec<(&'static str, String, String)> {
        let mut left = Vec::new();
        // Crossed out only when it is done: this may be dropped half-way and asked again.
        loop {
            let Some((engine, token)) = self.0.borrow().last().cloned() else { return left };
            if let Err(reason) = engine.remove(&token).await {
                left.push((engine.kind.program(), token.image(), reason));
            }
            self.0.borrow_mut().pop();
        }
    }
}
