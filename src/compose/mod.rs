// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compose files: which images their services run and build on, and for which platform.
//!
//! They are read by Docker Compose itself where it is installed (`docker compose config`, which needs no engine), else
//! by a reader of our own, which says what it cannot resolve. Nothing here asks a registry.
//!
//! A service with the label [`EMULATE`] is meant to be emulated, whatever [`workloads`] says of its image.

mod build;
pub mod check;
mod dockerfile;
mod dotenv;
mod interpolate;
mod merge;
mod overrides;
mod own;
mod paths;
mod real;
mod service;
mod surroundings;
pub mod workloads;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{Root, text_of};

pub use overrides::override_file;
pub use own::read_own;
pub use real::{read, read_in};
pub use surroundings::{Surroundings, Variables};

/// The label of a service whose value `true` says that it is meant to be emulated: no word is to be said of what its
/// image does under emulation.
pub const EMULATE: &str = "io.github.qemu-persist.emulate";

/// The largest Compose file, `.env` file or Dockerfile that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// What is to be read.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The Compose files, the later over the earlier ones. None: as Compose looks for them, by `COMPOSE_FILE`, else
    /// `compose.yaml` and its other names with its override, here or in the nearest folder above.
    pub files: Vec<PathBuf>,
    /// The profiles that are in use; none: those of `COMPOSE_PROFILES`. All services are read in any case.
    pub profiles: Vec<String>,
    /// Instead of `.env` in the project's folder.
    pub env_file: Vec<PathBuf>,
    /// Instead of the folder of the first file.
    pub project_directory: Option<PathBuf>,
}

/// What Compose files say.
#[derive(Clone, Debug)]
pub struct Project {
    /// The files that were read: those of the question first, then what they include and extend, where that is known.
    pub files: Vec<PathBuf>,
    /// What read them.
    pub read_by: ReadBy,
    /// In the order of their names.
    pub services: Vec<Service>,
    /// The profiles that are in use; `*` is all.
    pub profiles: Vec<String>,
    /// What `DOCKER_DEFAULT_PLATFORM` says, in the environment or `.env`: the platform of what names none.
    pub default_platform: Option<String>,
    /// What could not be resolved, and what deserves a look.
    pub remarks: Vec<Remark>,
}

/// What read the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadBy {
    /// Docker's plugin: `docker compose`.
    DockerCompose {
        /// As it says itself.
        version: String,
    },
    /// The same as a program of its own: `docker-compose`, from version 2 on.
    StandaloneCompose {
        /// As it says itself.
        version: String,
    },
    /// Our own reader.
    Own,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The image that it runs, or that its build is called.
    pub image: Option<String>,
    /// What its `platform:` says, as it is written.
    pub platform: Option<String>,
    /// How its image is built.
    pub build: Option<Build>,
    /// Its labels, not those of its image.
    pub labels: BTreeMap<String, String>,
    /// The profiles that it is of; none: it always runs.
    pub profiles: Vec<String>,
    /// Where it stands in the files, where that is known.
    pub places: Places,
}

impl Service {
    /// Whether it runs where the profiles `active` are in use.
    pub fn is_active(&self, active: &[String]) -> bool {
        self.profiles.is_empty() || active.iter().any(|name| name == "*" || self.profiles.contains(name))
    }

    /// Whether its label says that it is meant to be emulated.
    pub fn is_meant_to_be_emulated(&self) -> bool {
        self.labels.get(EMULATE).is_some_and(|value| value == "true")
    }
}

/// Where a service stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The service itself.
    pub service: Option<Place>,
    /// Its `image:`.
    pub image: Option<Place>,
    /// Its `platform:`.
    pub platform: Option<Place>,
    /// Its `build:`.
    pub build: Option<Place>,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Its line, from 1 on.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// How an image is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Where its files are.
    pub context: Context,
    /// What it is built by.
    pub dockerfile: Dockerfile,
    /// The platforms that it is built for; none: that of the service.
    pub platforms: Vec<String>,
    /// The stage that is run; none: the last.
    pub target: Option<String>,
    /// Build arguments. One without a value has that of the environment, and is none where it is not there.
    pub args: BTreeMap<String, String>,
    /// Other names that the Dockerfile may build on, and what they are.
    pub additional_contexts: BTreeMap<String, String>,
    /// The platform that `up` builds it for.
    pub built_for: String,
    /// The images that it is built from; or why they are not known.
    pub bases: Result<Vec<Base>, String>,
}

/// Where the files of a build are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// A folder of this host.
    Folder(PathBuf),
    /// Elsewhere: a Git repository or an archive.
    Remote(String),
}

/// What an image is built by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dockerfile {
    /// This file.
    File(PathBuf),
    /// This text, of the Compose file.
    Inline(String),
    /// This file of a remote context.
    Remote(String),
}

/// An image that a Dockerfile builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its name, with all variables replaced.
    pub image: String,
    /// Its platform, with all variables replaced; none: the one that is built for.
    pub platform: Option<String>,
    /// The line in the Dockerfile.
    pub line: usize,
    /// Whether what is run is made of it, as opposed to a stage that others only copy from.
    pub is_final: bool,
}

/// Something about the files that deserves a look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Where, if that is known.
    pub place: Option<Place>,
    /// The service that it is about, where it is about one.
    pub service: Option<String>,
    /// The variable that is not set, where it is about one.
    pub variable: Option<String>,
    /// What it is.
    pub what: String,
}

impl Remark {
    fn new(what: impl Into<String>) -> Self {
        Self { place: None, service: None, variable: None, what: what.into() }
    }

    fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    fn of(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    fn unset(variable: &str) -> Self {
        let what = format!("the variable {variable} is not set, so that nothing stands in its place");
        Self { variable: Some(variable.to_owned()), ..Self::new(what) }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(service) = &self.service {
            write!(f, "service `{service}`: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Why Compose files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// None is named, and none is where Compose looks for them.
    #[error(
        "no Compose file: {} and no folder above it has compose.yaml, compose.yml, docker-compose.yml or \
         docker-compose.yaml; name the file",
        .0.display()
    )]
    NoFile(PathBuf),
    /// A file that is needed cannot be read.
    #[error("{}: {reason}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// A file is wrong, in the words of our own reader or of Docker Compose.
    #[error("{}{what}", .place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    Wrong {
        /// Where, if that is known.
        place: Option<Place>,
        /// What is wrong.
        what: String,
    },
    /// The folder that this runs in cannot be told.
    #[error("the current folder: {0}")]
    NoFolder(io::Error),
}

impl ComposeError {
    fn wrong(place: &Place, what: impl Into<String>) -> Self {
        Self::Wrong { place: Some(place.clone()), what: what.into() }
    }

    fn unreadable(file: &Path, reason: io::Error) -> Self {
        Self::Unreadable { file: file.to_owned(), reason }
    }
}

/// The text of `file`, which is a regular one and not too large.
fn text_of_file(file: &Path) -> io::Result<String> {
    let open = Root::live().open(file)?;
    if !open.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut content = Vec::new();
    open.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than 1 MiB"));
    }
    Ok(text_of(content))
}
