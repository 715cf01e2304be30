// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a container of a platform has to show: the machine that its programs are told, and the
//! interpreter by which the kernel has to run them.

use std::path::PathBuf;

use crate::platform::Platform;
use crate::record::FileIdentity;
use crate::snapshot::{Kernel, Snapshot};

/// Which handler the kernel would take for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// The entry that wins.
    Wins {
        /// Its name.
        name: String,
        /// Its rule, as it would be written to `register`.
        rule: String,
        /// The number of its inode, another one after every registration.
        inode: u64,
        /// The path of its interpreter.
        interpreter: PathBuf,
        /// Whether the interpreter was opened at registration (`F`).
        fixed: bool,
        /// The file that is at that path now, or why there is none.
        file: Result<FileIdentity, String>,
    },
    /// No entry takes it; the names of disabled ones that would.
    None(Vec<String>),
    /// Handlers are turned off as a whole.
    Off,
    /// binfmt_misc is not mounted here.
    NotMounted,
    /// It could not be found out, and why.
    Unknown(String),
}

impl Handler {
    /// The name of the entry that wins.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Wins { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// What a container of a platform has to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The platform.
    pub platform: &'static Platform,
    /// What `uname -m` says on this host.
    pub host: String,
    /// The handler by which it has to run.
    pub handler: Handler,
}

impl Expectation {
    /// What `snapshot` lets expect for a program of `platform` that starts with `head`.
    pub fn new(platform: &'static Platform, head: &[u8], snapshot: &Snapshot) -> Self {
        let handler = match &snapshot.kernel {
            Kernel::NotAsked => Handler::Unknown("they are those of another system".into()),
            Kernel::Unreadable(why) => Handler::Unknown(why.clone()),
            Kernel::NotMounted => Handler::NotMounted,
            Kernel::Table(table) if !table.enabled => Handler::Off,
            Kernel::Table(table) => match table.winner(head) {
                Some(entry) => Handler::Wins {
                    name: entry.name.clone(),
                    rule: entry.rule().map(|rule| rule.to_string()).unwrap_or_default(),
                    inode: entry.inode,
                    interpreter: entry.interpreter.clone(),
                    fixed: entry.flags.fix_binary,
                    file: match snapshot.interpreters.get(&entry.interpreter) {
                        Some(Ok(interpreter)) => Ok(interpreter.identity.clone()),
                        Some(Err(why)) => Err(why.clone()),
                        None => Err("it was not looked at".into()),
                    },
                },
                None => Handler::None(
                    table.entries.iter().filter(|entry| entry.matches(head)).map(|entry| entry.name.clone()).collect(),
                ),
            },
        };
        Self { platform, host: snapshot.facts.machine.clone(), handler }
    }
}
