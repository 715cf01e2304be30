// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host: CPU, kernel, board, userland, and what stands in the way.
//!
//! [`Facts`] is what judging needs; it is read from files alone, in well under a millisecond, and
//! starts no program.

use serde::Serialize;

use crate::files::Root;
use crate::platform::Platform;

/// How the kernel of this host comes by binfmt_misc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelSupport {
    /// The kernel knows the file system now: built in, or the module is loaded.
    Present,
    /// A module that is there and can be loaded.
    Loadable,
    /// The modules of the running kernel are gone (a kernel upgrade): reboot.
    RebootPending,
    /// This kernel was built without it.
    Missing,
    /// Not looked at: a system image.
    NotAsked,
}

/// What this program runs inside of, other than the host itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Confinement {
    /// Nothing: the host itself.
    None,
    /// Another root directory than that of PID 1.
    Chroot,
    /// A container, and what kind where it says so.
    Container(String),
}

/// Whether files in /etc are still there after a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EtcPersistence {
    /// On a file system of its own or the root's, on a disk.
    Persistent,
    /// An overlay whose upper layer is in memory (raspi-config's overlay root).
    Overlay,
    /// A tmpfs.
    Tmpfs,
}

/// The distribution, from os-release(5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `ID_LIKE`, split.
    pub id_like: Vec<String>,
    /// `VERSION_ID`, such as `12`.
    pub version_id: String,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
}

/// What judging needs to know of a host or a system image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The kernel's architecture, as `uname -m` says it; of an image, that of its programs.
    pub machine: String,
    /// The kernel's release; empty for an image.
    pub kernel_release: String,
    /// The boot's id, by which records of this boot are told from older ones; empty for an image.
    pub boot_id: String,
    /// Bytes per page; 0 for an image.
    pub page_size: u64,
    /// The platform that the programs of the userland are of, where it could be told.
    pub userland: Option<&'static Platform>,
    /// The platforms that the host runs by itself and that are never registered: its own, and the
    /// 32-bit one where kernel and CPU run it.
    pub native: Vec<&'static Platform>,
    /// The distribution.
    pub distribution: Distribution,
    /// What this program runs inside of.
    pub confinement: Confinement,
    /// Whether this is a user namespace other than the kernel's first.
    pub user_namespace: bool,
    /// Whether /etc survives a reboot.
    pub etc: EtcPersistence,
    /// How the kernel comes by binfmt_misc.
    pub kernel_support: KernelSupport,
    /// Whether the system was booted with systemd (`sd_booted(3)`); for an image, whether it has it.
    pub systemd: bool,
}

impl Facts {
    /// Reads the facts of the running host, or those of an image from its files alone.
    pub fn read(root: &Root) -> Self {
        let _ = root;
        let uname = nix::sys::utsname::uname().ok();
        let machine = uname.as_ref().map(|u| u.machine().to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            kernel_release: uname.map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default(),
            boot_id: String::new(),
            page_size: 4096,
            userland: Platform::of_machine(&machine),
            native: PLACEHOLDER_NATIVE.iter().filter_map(|n| Platform::named(n)).collect(),
            machine,
            distribution: Distribution::default(),
            confinement: Confinement::None,
            user_namespace: false,
            etc: EtcPersistence::Persistent,
            kernel_support: KernelSupport::Present,
            systemd: false,
        }
    }
}

const PLACEHOLDER_NATIVE: [&str; 2] = ["amd64", "386"];

/// A package and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Temporary.
pub mod dpkg {
    use super::Package;
    /// Temporary.
    pub fn package_of(_root: &crate::files::Root, _path: &std::path::Path) -> Option<Package> {
        None
    }
}
