// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration: what was written in layered TOML files, and what it means.

pub mod dropin;
mod handler;
mod problem;
mod resolve;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::binfmt::rule::Rule;
use crate::files::Root;
use crate::layers;
use crate::platform::Platform;
pub use problem::{ConfigError, Place, Problem, Spot};
use resolve::Source;

/// Where configuration is looked for, the most important first.
pub const DIRECTORIES: [&str; 4] =
    ["/etc/qemu-persist", "/run/qemu-persist", "/usr/local/lib/qemu-persist", "/usr/lib/qemu-persist"];

/// The main file, of which the first one counts.
pub const MAIN_FILE: &str = "config.toml";

/// Where drop-ins are looked for, the most important first.
pub const DROP_IN_DIRECTORIES: [&str; 4] = [
    "/etc/qemu-persist/config.toml.d",
    "/run/qemu-persist/config.toml.d",
    "/usr/local/lib/qemu-persist/config.toml.d",
    "/usr/lib/qemu-persist/config.toml.d",
];

/// A handler beyond the known platforms, from a `[[handler]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CustomHandler {
    /// The complete rule, flags included.
    pub rule: Rule,
}

/// When QEMU of the package qemu-persist-emulator is preferred to the distribution's (see [`crate::emulator`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Emulator {
    /// Where the kernel's pages are larger than 4 KiB.
    #[default]
    Auto,
    /// Wherever it is installed.
    Always,
    /// Never: as if it were not installed.
    Never,
}

impl Emulator {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Always, Self::Never];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|when| when.name() == name)
    }
}

/// Which container runtime the self-test uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Every engine that is there, and `builtin` where none is.
    #[default]
    Auto,
    /// A container of namespaces and `pivot_root`, with no engine.
    Builtin,
    /// Docker, through its command line.
    Docker,
    /// Podman, through its command line.
    Podman,
    /// nerdctl (containerd), through its command line.
    Nerdctl,
    /// A step of a build by BuildKit, through Docker's command line.
    Buildkit,
    /// Builtin and every engine that is there.
    All,
}

impl Runtime {
    /// Every value.
    pub const ALL: [Self; 7] =
        [Self::Auto, Self::Builtin, Self::Docker, Self::Podman, Self::Nerdctl, Self::Buildkit, Self::All];

    /// Its name in the configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Builtin => "builtin",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nerdctl => "nerdctl",
            Self::Buildkit => "buildkit",
            Self::All => "all",
        }
    }

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.name() == name)
    }
}

/// What the configuration means, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The platforms asked for by name; none for `"auto"`.
    pub platforms: Option<Vec<&'static Platform>>,
    /// Platforms wanted besides those.
    pub enable: Vec<&'static Platform>,
    /// Platforms not wanted, whatever else says so.
    pub disable: Vec<&'static Platform>,
    /// Handlers beyond the known platforms.
    pub handlers: Vec<CustomHandler>,
    /// The interpreter to use for a platform, instead of the one that is found.
    pub interpreters: Vec<(&'static Platform, PathBuf)>,
    /// Whether to displace other translators that hold a wanted platform.
    pub take_over: bool,
    /// Whether handlers get the `C` flag, by which setuid programs gain their owner's rights.
    pub credentials: bool,
    /// When QEMU of the package qemu-persist-emulator is preferred.
    pub emulator: Emulator,
    /// How long a proof by execution counts.
    pub proof_max_age: Duration,
    /// Which runtime the self-test uses.
    pub selftest_runtime: Runtime,
    /// How long one container of the self-test may take.
    pub selftest_timeout: Duration,
    /// Whether it is an outage, and no limit only, that programs do not start because of the host's large pages.
    pub large_pages_are_critical: bool,
    /// After how many repairs of one thing in a row the service makes them rarely.
    pub back_off_after: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            platforms: None,
            enable: Vec::new(),
            disable: Vec::new(),
            handlers: Vec::new(),
            interpreters: Vec::new(),
            take_over: false,
            credentials: false,
            emulator: Emulator::Auto,
            proof_max_age: Duration::from_secs(8 * 24 * 60 * 60),
            selftest_runtime: Runtime::Auto,
            selftest_timeout: Duration::from_secs(60),
            large_pages_are_critical: false,
            back_off_after: 10,
        }
    }
}

/// What `"auto"` asks for on hosts of one family.
const AUTO_ON_ARM: [&str; 2] = ["amd64", "386"];
const AUTO_ON_X86: [&str; 3] = ["arm64", "arm", "riscv64"];
const AUTO_ELSEWHERE: [&str; 2] = ["amd64", "arm64"];
/// What it asks for on some host.
const AUTO_ANYWHERE: [&str; 5] = ["amd64", "386", "arm64", "arm", "riscv64"];

/// A configuration, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// The file that set each key, as a path of the tree. Keys are those of the files, with tables
    /// as `selftest.timeout`, and one for each of `enable.amd64`, `disable.amd64`,
    /// `interpreters.amd64` and `handler.NAME`. What no file sets is missing.
    pub origins: BTreeMap<String, PathBuf>,
    /// The files that were read, in that order, as paths of the tree.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// The interpreter that is named for `platform`, if any.
    pub fn interpreter_of(&self, platform: Option<&Platform>) -> Option<&Path> {
        let named = self.interpreters.iter().find(|(known, _)| Some(*known) == platform);
        named.map(|(_, path)| path.as_path())
    }

    /// Reads the configuration of `root`: the first `config.toml` of [`DIRECTORIES`], and then the
    /// drop-ins of [`DROP_IN_DIRECTORIES`] in the order of their names. Later files win.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files, and what could not be read.
    pub fn load(root: &Root) -> Result<Loaded, ConfigError> {
        let (sources, problems) = read(root);
        resolve::resolve(&sources, problems)
    }

    /// Reads the configuration that these files, a path and a content each, make in this order.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_files<'c>(files: impl IntoIterator<Item = (&'c Path, &'c [u8])>) -> Result<Loaded, ConfigError> {
        let source =
            |(path, content): (&Path, &[u8])| Source { path: path.into(), shown: path.into(), content: content.into() };
        resolve::resolve(&files.into_iter().map(source).collect::<Vec<_>>(), Vec::new())
    }

    /// Whether `platform` is asked for by name, in `platforms` or `enable`, and not disabled.
    fn names(&self, platform: &'static Platform) -> bool {
        let named = self.platforms.iter().flatten().chain(&self.enable).any(|p| *p == platform);
        named && !self.disable.contains(&platform)
    }

    /// The platforms that are to work on a host that runs those of `native` by itself, which are
    /// never among them.
    pub fn wanted(&self, native: &[&'static Platform]) -> Vec<&'static Platform> {
        let automatic = if self.platforms.is_none() { automatic(native) } else { Vec::new() };
        let asked = self.platforms.iter().flatten().copied().chain(automatic).chain(self.enable.iter().copied());
        let mut wanted = Vec::new();
        for platform in asked {
            if !wanted.contains(&platform) && !self.disable.contains(&platform) && !native.contains(&platform) {
                wanted.push(platform);
            }
        }
        wanted
    }

    /// The platforms of `native` that are asked for by name although the host runs them by itself.
    pub fn refused(&self, native: &[&'static Platform]) -> Vec<&'static Platform> {
        native.iter().copied().filter(|platform| self.names(platform)).collect()
    }
}

/// What `"auto"` asks for on a host that runs the platforms of `native` by itself.
fn automatic(native: &[&'static Platform]) -> Vec<&'static Platform> {
    let runs = |names: &[&str]| native.iter().any(|p| names.contains(&p.oci));
    let names: &[&str] = match () {
        () if runs(&["arm64", "arm"]) => &AUTO_ON_ARM,
        () if runs(&["amd64", "386"]) => &AUTO_ON_X86,
        () => &AUTO_ELSEWHERE,
    };
    names.iter().filter_map(|name| Platform::named(name)).collect()
}

/// Reads the files of `root` that count, in their order, and tells what could not be read.
fn read(root: &Root) -> (Vec<Source>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut fail = |path: &Path, e: std::io::Error| {
        problems.push(Problem::new(Place::whole(&root.outside(path)), format!("cannot be read: {e}")));
    };
    let mut paths = Vec::new();
    match layers::first(root, &DIRECTORIES, MAIN_FILE) {
        Ok(main) => paths.extend(main.filter(|path| !layers::is_dev_null(root, path))),
        Err((path, e)) => fail(&path, e),
    }
    let scan = layers::scan(root, &DROP_IN_DIRECTORIES, ".toml");
    paths.extend(scan.files.into_iter().filter(|file| !file.masked && !file.dangling).map(|file| file.path));
    for (path, e) in scan.errors {
        fail(&path, e);
    }
    let mut sources = Vec::new();
    for path in paths {
        match root.read(&path) {
            Ok(content) => sources.push(Source { shown: root.outside(&path), path, content }),
            Err(e) => fail(&path, e),
        }
    }
    (sources, problems)
}
