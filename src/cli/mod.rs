// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: what can be asked for, and one file per verb.

pub mod apply;
mod as_user;
pub mod compose;
pub mod config;
pub mod explain;
pub mod fix;
pub mod host;
pub mod image;
mod package;
pub mod remove;
pub mod selftest;
pub mod status;
pub mod toggle;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::ConfigError;
use crate::files::Root;
use crate::platform::Platform;
use crate::report::{Screen, shell_word};
use crate::selftest::{as_user as inner, builtin};
use crate::snapshot::Snapshot;

/// Wrong usage (`EX_USAGE`, sysexits.h).
pub const USAGE: u8 = 64;
/// No permission (`EX_NOPERM`).
pub const NO_PERMISSION: u8 = 77;
/// A broken configuration (`EX_CONFIG`).
pub const BAD_CONFIG: u8 = 78;

/// Makes containers of other architectures work on this host, and keeps them working.
#[derive(Debug, Parser)]
#[command(
    name = "qemu-persist",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Say whether foreign containers work here, and what to do where they do not
    Status(status::Args),
    /// Make the configured platforms work, and keep them working across reboots
    Apply(apply::Args),
    /// Take back exactly what apply added
    Remove(remove::Args),
    /// Want further platforms, and make them work
    Enable(toggle::Args),
    /// No longer want platforms, and take back what was added for them
    Disable(toggle::Args),
    /// Run a container of each wanted platform and check what `uname -m` says in it
    Selftest(selftest::Args),
    /// Say what an error message means, how likely each cause is on this host, and what to do
    Explain(explain::Args),
    /// Say of images, before they are pulled, whether they run here
    Image(image::Args),
    /// Say of Compose files whether their services run here, and what to change in them
    Compose(compose::Args),
    /// Show, and make, a change of the system that keeps foreign programs from failing
    Fix(fix::Args),
    /// Show what this host is: CPU, kernel, binfmt_misc, QEMU, container engines
    Host(host::Args),
    /// Show or check the configuration
    Config(config::Args),
}

impl Verb {
    fn wants_json(&self) -> bool {
        match self {
            Self::Status(args) => args.json,
            Self::Apply(args) => args.json,
            Self::Remove(args) => args.json,
            Self::Enable(args) | Self::Disable(args) => args.json,
            Self::Selftest(args) => args.json,
            Self::Explain(args) => args.json,
            Self::Image(args) => args.wants_json(),
            Self::Compose(args) => args.wants_json(),
            Self::Fix(args) => args.json,
            Self::Host(args) => args.json,
            Self::Config(args) => args.wants_json(),
        }
    }
}

/// An error with an exit code of its own.
#[derive(Debug, Error)]
pub enum Failure {
    /// The command line asks for something that there is not.
    #[error("{0}")]
    Usage(String),
    /// Only root may do it.
    #[error("{what} needs root: run `sudo {command}`")]
    Permission {
        /// What was asked for.
        what: String,
        /// The command line to run as root.
        command: String,
    },
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Failure {
    /// Its exit code, from sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Permission { .. } => NO_PERMISSION,
            Self::Config(_) => BAD_CONFIG,
        }
    }

    /// That only root may do `what`; names this very command line with sudo before it.
    pub fn permission(what: &str) -> Self {
        let command: Vec<_> = std::env::args_os().map(|a| shell_word(&a.to_string_lossy())).collect();
        let command = command.join(" ");
        Self::Permission { what: what.to_owned(), command }
    }
}

/// The file tree that `--root` names.
///
/// # Errors
/// [`Failure::Usage`] where it is no directory.
pub fn open_root(root: Option<&PathBuf>) -> Result<Root, Failure> {
    let Some(path) = root else { return Ok(Root::live()) };
    Root::image(path).map_err(|e| Failure::Usage(format!("--root {}: {e}", path.display())))
}

/// Refuses to be limited to platforms that are not wanted.
///
/// # Errors
/// [`Failure::Usage`], which says how to want it.
pub fn refuse_unwanted(snapshot: &Snapshot, platforms: &[&'static Platform]) -> Result<(), Failure> {
    let wanted = |platform: &Platform| snapshot.targets.iter().any(|target| target.platform == Some(platform));
    let Some(platform) = platforms.iter().find(|platform| !wanted(platform)) else { return Ok(()) };
    Err(Failure::Usage(if snapshot.facts.native.contains(platform) {
        format!("{platform} is what this host runs by itself: it is never registered")
    } else {
        format!("{platform} is not wanted by the configuration: `sudo qemu-persist enable {platform}`")
    }))
}

/// Reads a platform from the command line.
///
/// # Errors
/// The names that are known.
pub fn parse_platform(text: &str) -> Result<&'static Platform, String> {
    Platform::named(text).ok_or_else(|| {
        let known: Vec<_> = crate::platform::PLATFORMS.iter().map(ToString::to_string).collect();
        format!("not a platform that QEMU is known to run; known are {}", known.join(", "))
    })
}

/// Waits for a signal that asks to stop, and gives the exit code that shells give for it.
async fn interrupted() -> io::Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        _ = hangup.recv() => 129,
    })
}

/// Does `work` in a thread of its own, and gives what it gives, or the exit code for a signal that asked to stop. The
/// process is to end then: `close` makes sure that the work leaves nothing behind.
///
/// # Errors
/// Those of the system.
fn unless_interrupted<T: Send>(work: impl FnOnce() -> T + Send, close: impl FnOnce(u8)) -> io::Result<T> {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::scope(|scope| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        scope.spawn(move || sender.send(work()).is_ok());
        reactor.block_on(async {
            tokio::select! {
                done = receiver => done.map_err(|_| io::Error::other("the work was given up")),
                code = interrupted() => {
                    close(code?);
                    Err(io::ErrorKind::Interrupted.into())
                }
            }
        })
    })
}

/// Runs the command line `arguments` and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    crate::logging::init(tracing::Level::WARN);
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // No verb for people: neither help nor completions are to show it.
    if arguments.get(1).is_some_and(|verb| verb == builtin::VERB) {
        return builtin::inside::run(&arguments[2..]);
    }
    if arguments.get(1).is_some_and(|verb| verb == inner::VERB) {
        return inner::become_user(&arguments[2..]);
    }
    let mut screen = Screen::stdout();
    if arguments.get(1).is_some_and(|verb| verb == package::VERB) {
        let result = package::run(&arguments[2..], &mut screen);
        return result.and_then(|code| screen.flush().map(|()| code).map_err(Into::into)).unwrap_or_else(|error| {
            screen.error(&error);
            error.downcast_ref::<Failure>().map_or(2, Failure::exit_code)
        });
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => {
            // Printing can only fail where nobody reads it.
            let _ = e.print();
            return if e.use_stderr() { USAGE } else { 0 };
        }
    };
    let result = match &cli.verb {
        Verb::Status(args) => status::run(args, &mut screen),
        Verb::Apply(args) => apply::run(args, &mut screen),
        Verb::Remove(args) => remove::run(args, &mut screen),
        Verb::Enable(args) => toggle::run(args, true, &mut screen),
        Verb::Disable(args) => toggle::run(args, false, &mut screen),
        Verb::Selftest(args) => selftest::run(args, &mut screen),
        Verb::Explain(args) => explain::run(args, &mut screen),
        Verb::Compose(args) => compose::run(args, &mut screen),
        Verb::Image(args) => image::run(args, &mut screen),
        Verb::Fix(args) => fix::run(args, &mut screen),
        Verb::Host(args) => host::run(args, &mut screen),
        Verb::Config(args) => config::run(args, &mut screen),
    };
    // What is still to be written may fail as well.
    let result = result.and_then(|code| screen.flush().map(|()| code).map_err(Into::into));
    result.unwrap_or_else(|error| {
        let looks = matches!(
            cli.verb,
            Verb::Status(_) | Verb::Selftest(_) | Verb::Explain(_) | Verb::Host(_) | Verb::Image(_) | Verb::Compose(_)
        );
        let unexpected = if looks { 3 } else { 2 };
        let exit_code = error.downcast_ref::<Failure>().map_or(unexpected, Failure::exit_code);
        if cli.verb.wants_json() && !screen.has_written() {
            // Standard error tells it as well, and the exit code.
            let _ = screen.json(&Stopped { schema: 1, error: format!("{error:#}"), exit_code });
        }
        screen.error(&error);
        exit_code
    })
}

/// What a verb with `--json` tells where an error stops it.
#[derive(serde::Serialize)]
struct Stopped {
    schema: u32,
    error: String,
    exit_code: u8,
}
