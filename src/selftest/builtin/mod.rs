// SPDX-License-Identifier: MIT OR Apache-2.0
//! The builtin container: namespaces and `pivot_root`, and no engine.
//!
//! This program starts itself anew in the part of [`inside`], which makes the container and stays
//! beside it as its parent; what it has to say to this side, it says on standard error and by its
//! exit status.

pub mod inside;

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::depth::{Asked, Depth};
use super::expect::Expectation;
use super::judge::{Judgement, Observation, Verdict, has_answered, judge};
use super::saying::one_line;
use super::sight::{self, Sighting, Unseen};
use super::user_namespace::UserNamespace;
use crate::host::command::{Ending, Output, Talk};

/// The first argument by which this program is told to be [`inside::run`].
pub const VERB: &str = "__builtin-container";
/// The container could not be made.
pub const NO_CONTAINER: u8 = 125;
/// The probe could not be started in it.
pub const NO_EXEC: u8 = 126;

/// The line by which `inside` says which process the probe is.
const STARTED: &str = "qemu-persist-container ";

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was seen.
    pub observation: Observation,
    /// What that means.
    pub judgement: Judgement,
}

/// The process id that the line of `inside` names.
fn pid_in(output: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(output);
    let complete = text.rsplit_once('\n').map(|(lines, _)| lines)?;
    complete.lines().find_map(|line| line.strip_prefix(STARTED))?.trim().parse().ok()
}

/// Runs the probe of `expectation`'s platform in a builtin container, for `limit` at most, and looks at the
/// parts of `depth`. The container is made below the user namespace `namespace`, or below our own.
///
/// # Errors
/// Where this program cannot be started anew.
pub async fn run(
    expectation: &Expectation,
    nonce: &str,
    depth: Depth,
    limit: Duration,
    namespace: Option<&UserNamespace>,
) -> std::io::Result<Outcome> {
    let asked = Asked::new(expectation.platform, Some(depth));
    let place = namespace.map(UserNamespace::path).unwrap_or_default();
    let mut arguments = vec![VERB.to_owned(), place, expectation.platform.oci.to_owned(), nonce.to_owned()];
    arguments.extend(asked.arguments(nonce));
    let mut talk = Talk::start(Path::new("/proc/self/exe"), &arguments)?;
    let answered = |output: &[u8], said: &[u8]| pid_in(said).is_some() && has_answered(output, nonce, &asked);
    let mut sighting = Sighting::NotSeen(Unseen::TooSoon);
    let conversation = async {
        if talk.until(answered).await {
            if let Some(pid) = pid_in(talk.complaints()) {
                sighting = sight::look(pid, nonce);
            }
        }
        talk.finish(&[]).await
    };
    let ended = timeout(limit, conversation).await;
    let output = talk.conclude(ended.ok()).await?;
    Ok(conclude(expectation, nonce, &asked, sighting, &output))
}

/// Runs `program` in a builtin container whose root is `folder`, for `limit` at most, with `nonce` in its environment;
/// again where it was over too soon to be seen, since it can change nothing there.
///
/// # Errors
/// Where this program cannot be started anew.
pub async fn run_in_folder(
    folder: &Path,
    program: &str,
    arguments: &[&str],
    nonce: &str,
    limit: Duration,
) -> std::io::Result<(Sighting, Output)> {
    let words = [OsStr::new(VERB), OsStr::new(""), folder.as_os_str(), OsStr::new(nonce), OsStr::new(program)];
    let words: Vec<_> = words.into_iter().chain(arguments.iter().map(OsStr::new)).collect();
    let mut tries = sight::TRIES;
    loop {
        let mut talk = Talk::start(Path::new("/proc/self/exe"), &words)?;
        // It makes the container within moments or not at all.
        let _ = timeout(limit, talk.until(|_, said| pid_in(said).is_some())).await;
        let pid = pid_in(talk.complaints());
        let (sighting, mut output) = sight::watch_to_end(talk, || sight::marked(pid?, nonce), limit).await?;
        tries -= 1;
        if tries == 0 || !output.succeeded() || matches!(sighting, Sighting::Seen(_)) {
            output.stderr = without_own_words(&output.stderr).into_bytes();
            return Ok((sighting, output));
        }
    }
}

/// What was said in the container, without the line of `inside`.
fn without_own_words(stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let said: Vec<_> = stderr.lines().filter(|line| !line.starts_with(STARTED)).collect();
    said.join("\n")
}

/// That the container could not be made, where `ending` is of that.
pub fn obstacle(ending: Ending, said: &str) -> Option<Judgement> {
    (ending == Ending::Exit(NO_CONTAINER.into())).then(|| {
        Judgement::new(
            Verdict::Unknown,
            format!("this system does not let us make a container: {said}"),
            if nix::unistd::geteuid().is_root() {
                "Run it outside of a container or sandbox, or with an engine: `--runtime docker`."
            } else {
                "Run it as root: with sudo, and without --as-user."
            },
        )
    })
}

fn conclude(expectation: &Expectation, nonce: &str, asked: &Asked, sighting: Sighting, output: &Output) -> Outcome {
    let said = one_line(without_own_words(&output.stderr).as_bytes());
    let observation = Observation::of_probe(sighting, output, nonce, said.clone(), asked);
    let judgement = obstacle(output.ending, &said).unwrap_or_else(|| judge(expectation, &observation));
    Outcome { observation, judgement }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_whole_lines() {
        assert_eq!(pid_in(b"qemu-persist-container 12"), None);
        assert_eq!(pid_in(b"warning\nqemu-persist-container 123\n"), Some(123));
        assert_eq!(pid_in(b"qemu-persist-container x\n"), None);
    }
}
