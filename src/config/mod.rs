// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration: what was written in layered TOML files, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::binfmt::rule::Rule;
use crate::platform::Platform;

/// A handler beyond the known platforms, from a `[[handler]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CustomHandler {
    /// The complete rule, flags included.
    pub rule: Rule,
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
    /// Builtin and every engine that is there.
    All,
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
    /// How long a proof by execution counts.
    pub proof_max_age: Duration,
    /// Which runtime the self-test uses.
    pub selftest_runtime: Runtime,
    /// How long one container of the self-test may take.
    pub selftest_timeout: Duration,
}

impl Config {
    /// Temporary.
    pub fn wanted(&self, native: &[&'static Platform]) -> Vec<&'static Platform> {
        let arm = native.iter().any(|p| p.oci == "arm64" || p.oci == "arm");
        let auto: &[&str] = if arm { &["amd64", "386"] } else { &["arm64", "arm", "riscv64"] };
        let auto = || auto.iter().filter_map(|n| Platform::named(n)).collect();
        self.platforms.clone().unwrap_or_else(auto).into_iter().filter(|p| !native.contains(p)).collect()
    }
    /// Temporary.
    pub fn refused(&self, _native: &[&'static Platform]) -> Vec<&'static Platform> {
        Vec::new()
    }
    /// Temporary.
    pub fn load(_root: &crate::files::Root) -> Result<Loaded, ConfigError> {
        Ok(Loaded { config: Self::default() })
    }
}

/// Temporary.
pub struct Loaded {
    /// Temporary.
    pub config: Config,
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
            proof_max_age: Duration::from_secs(8 * 24 * 60 * 60),
            selftest_runtime: Runtime::Auto,
            selftest_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Temporary.
pub mod dropin {
    /// Temporary.
    pub fn write_toggle(
        _r: &crate::files::Root,
        _e: &[&'static crate::platform::Platform],
        _d: &[&'static crate::platform::Platform],
    ) -> anyhow::Result<bool> {
        Ok(false)
    }
}
