// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist selftest --as-user`: root's side of it, which watches over the run and passes on what it says.
//!
//! What comes from there is the user's: it proves nothing, and is shown with its control characters escaped.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use tokio::time::timeout;

use super::interrupted;
use super::selftest::{AGAIN, Args};
use super::{Failure, refuse_unwanted};
use crate::files::{Root, text_of};
use crate::host::command::{Ending, Output, Talk};
use crate::report::{Progress, Screen, escape};
use crate::selftest::as_user::{Account, NOT_BECOME, VERB};
use crate::selftest::engine::SHORT;
use crate::selftest::user_image::PULL;
use crate::snapshot::Snapshot;

/// How many containers are run for a platform at most: by every engine, with controls, or one for each program.
const CONTAINERS: u32 = 48;
/// How long the run may take to tidy up when it is asked to stop.
const TIDYING: Duration = Duration::from_secs(4 * SHORT.as_secs());

/// Runs the self-test as the user `name` and gives its exit code; none where that is the user that runs this.
///
/// # Errors
/// [`Failure`], where the run cannot be started, and where it does not end as one does.
pub(super) fn run(name: &str, args: &Args, screen: &mut Screen) -> anyhow::Result<Option<u8>> {
    let account = Account::named(name).map_err(Failure::Usage)?;
    if account.uid == Uid::effective() {
        return Ok(None);
    }
    if !Uid::effective().is_root() {
        return Err(Failure::permission("a self-test as another user").into());
    }
    account.has_home().map_err(Failure::Usage)?;
    if args.programs.as_ref().is_some_and(|from| from.starts_with('.')) {
        let message = "--programs: with --as-user a folder is named by its absolute path";
        return Err(Failure::Usage(message.to_owned()).into());
    }
    let limit = longest(args)?;
    let mut arguments = vec![VERB.into(), name.into()];
    arguments.extend(std::env::args_os().skip(1));
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let progress = Progress::new(args.json);
    progress.tell(&format!("the self-test as {}", account.name));
    let output = reactor.block_on(async {
        let mut talk = Talk::start_leader(Path::new("/proc/self/exe"), &arguments)?;
        let stopped = tokio::select! {
            ended = timeout(limit, talk.finish(&[])) => Err(ended.ok()),
            code = interrupted() => Ok(code?),
        };
        match stopped {
            Err(ended) => talk.conclude(ended).await.map(Ok),
            Ok(code) => {
                talk.signal(Signal::SIGTERM);
                let ended = timeout(TIDYING, talk.finish(&[])).await;
                talk.conclude(ended.ok()).await.map(|output| Err((code, output)))
            }
        }
    });
    progress.clear();
    match output.context("/proc/self/exe")? {
        Ok(output) => pass_on(name, args.json, &output, screen).map(Some),
        Err((code, output)) => {
            complaints(&output);
            Ok(Some(code))
        }
    }
}

/// How long the run may last.
fn longest(args: &Args) -> anyhow::Result<Duration> {
    let (snapshot, error) = Snapshot::take(&Root::live(), true);
    if let Some(error) = error {
        return Err(Failure::Config(error).into());
    }
    refuse_unwanted(&snapshot, &args.platform)?;
    let limit = args.timeout.map_or(snapshot.config.selftest_timeout, Duration::from_secs);
    let pulling = if args.image.is_some() || args.programs.is_some() { PULL } else { Duration::ZERO };
    let rounds = u32::try_from((AGAIN + 1) * snapshot.targets.len().max(1))?;
    Ok((pulling + 4 * limit + 4 * SHORT) * CONTAINERS * rounds)
}

/// Shows what the run has written, and gives its exit code.
fn pass_on(name: &str, json: bool, output: &Output, screen: &mut Screen) -> anyhow::Result<u8> {
    let code = match output.ending {
        Ending::Exit(code) => u8::try_from(code)?,
        Ending::Signal(_) | Ending::TimedOut => bail!("the self-test as {name}: {}", output.complaint()),
    };
    ensure!(code != NOT_BECOME, "the self-test cannot run as {name}: {}", output.complaint());
    complaints(output);
    let text = text_of(output.stdout.clone());
    if json {
        let told: serde_json::Value = serde_json::from_str(&text).context("what the self-test wrote")?;
        ensure!(told["exit_code"] == code, "the self-test as {name} wrote no report of its own");
    }
    for line in text.lines() {
        // In JSON they are escaped already, in another way.
        screen.line(if json { line.to_owned() } else { escape(line) })?;
    }
    screen.flush()?;
    Ok(code)
}

fn complaints(output: &Output) {
    for line in text_of(output.stderr.clone()).lines() {
        // Nobody listens where this fails.
        let _ = writeln!(io::stderr(), "{}", escape(line));
    }
}
