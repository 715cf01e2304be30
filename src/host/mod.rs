// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host: CPU, kernel, board, userland, and what stands in the way.
//!
//! [`Facts`] is what judging needs; it is read from files alone, in well under a millisecond, and
//! starts no program.

#[cfg(feature = "client")]
pub mod arm;
#[cfg(feature = "client")]
pub mod command;
mod confinement;
#[cfg(feature = "client")]
pub mod cpu;
pub mod dpkg;
#[cfg(feature = "client")]
pub mod engines;
#[cfg(feature = "client")]
pub mod interpreters;
mod kernel;
pub mod mounts;
#[cfg(feature = "client")]
pub mod survey;
mod userland;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use confinement::in_user_namespace;

use crate::binfmt::registry::DIRECTORY;
use crate::files::Root;
use crate::platform::Platform;

/// How the kernel of this host comes by binfmt_misc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
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
    /// Nothing here says: the kernel takes modules, and no directory of modules is in sight, as in
    /// a container.
    Unknown,
    /// Not looked at: a system image.
    NotAsked,
}

/// What this program runs inside of, other than the host itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
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
    /// Where the layers below an overlay on /etc have it, as far as they are in sight.
    #[serde(skip)]
    pub etc_below: Vec<PathBuf>,
    /// Whether /proc/sys is mounted read-only, as most containers have it.
    pub proc_sys_read_only: bool,
    /// How the kernel comes by binfmt_misc.
    pub kernel_support: KernelSupport,
    /// Whether the system was booted with systemd (`sd_booted(3)`); for an image, whether it has it.
    pub systemd: bool,
}

impl Facts {
    /// Reads the facts of the running host, or those of an image from its files alone. What cannot
    /// be read is empty, or as its field says.
    pub fn read(root: &Root) -> Self {
        if root.is_live() { Self::of_host(root) } else { Self::of_image(root) }
    }

    /// Whether the kernel is known to be older than that `version`, major and minor.
    pub fn has_kernel_before(&self, version: (u32, u32)) -> bool {
        let mut numbers = self.kernel_release.split(['.', '-']).map(|number| number.parse::<u32>().ok());
        let known = numbers.next().flatten().zip(numbers.next().flatten());
        known.is_some_and(|known| known < version)
    }

    /// Whether these are facts of the running host.
    pub fn is_live(&self) -> bool {
        self.kernel_support != KernelSupport::NotAsked
    }

    fn of_host(root: &Root) -> Self {
        let kernel::Name { machine, release } = kernel::name();
        let command_line = kernel::command_line();
        let mounts = mounts::parse(&root.read_text(Path::new(mounts::MOUNTINFO)).unwrap_or_default());
        Self {
            boot_id: kernel::boot_id(),
            page_size: kernel::page_size(),
            userland: userland::platform(root),
            native: kernel::native(&machine, &release, &command_line),
            distribution: userland::distribution(root),
            confinement: confinement::read(),
            user_namespace: in_user_namespace(),
            etc: mounts::persistence(&mounts, &command_line, Path::new("/etc")),
            etc_below: mounts::below(&mounts, Path::new("/etc")),
            // Where binfmt_misc is, or would be: the service may write nothing else there.
            proc_sys_read_only: mounts::holding(&mounts, Path::new(DIRECTORY)).is_some_and(|mount| mount.read_only),
            kernel_support: kernel::running_support(&release),
            systemd: root.link_metadata(Path::new("/run/systemd/system")).is_ok_and(|m| m.is_dir()),
            machine,
            kernel_release: release,
        }
    }

    /// An image's kernel and CPU are not known: both halves of its family count as native, since a
    /// needless rule does harm and a missing one none.
    fn of_image(root: &Root) -> Self {
        let userland = userland::platform(root);
        let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
        Self {
            machine: userland.map(|p| p.machines[0].to_owned()).unwrap_or_default(),
            kernel_release: String::new(),
            boot_id: String::new(),
            page_size: 0,
            userland,
            native: userland.into_iter().flat_map(|own| std::iter::once(own).chain(kernel::sibling(own))).collect(),
            distribution: userland::distribution(root),
            confinement: Confinement::None,
            user_namespace: false,
            etc: EtcPersistence::Persistent,
            etc_below: Vec::new(),
            proc_sys_read_only: false,
            kernel_support: KernelSupport::NotAsked,
            systemd: systemd.into_iter().any(|path| root.exists(Path::new(path))),
        }
    }
}

/// A package and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_facts_come_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        let write = |path: &str, content: &[u8]| root.write_whole(Path::new(path), content).unwrap();
        let empty = Facts::read(&root);
        assert_eq!((empty.userland, empty.machine.as_str(), empty.systemd), (None, "", false));
        assert!(empty.native.is_empty());
        write("/usr/bin/dpkg", &Platform::named("arm64").unwrap().sample_headers()[1]);
        write("/etc/os-release", b"ID=debian\nVERSION_ID=\"13\"\n");
        write("/usr/lib/systemd/systemd", b"");
        write("/.dockerenv", b"");
        write("/lib/modules/6.12/modules.builtin", b"kernel/fs/binfmt_misc.ko\n");
        let facts = Facts::read(&root);
        assert_eq!(facts.machine, "aarch64");
        assert_eq!(facts.native.iter().map(|p| p.oci).collect::<Vec<_>>(), ["arm64", "arm"]);
        assert_eq!((facts.kernel_release.as_str(), facts.boot_id.as_str(), facts.page_size), ("", "", 0));
        assert_eq!(facts.distribution.version_id, "13");
        assert_eq!(facts.kernel_support, KernelSupport::NotAsked);
        assert_eq!((facts.confinement, facts.systemd), (Confinement::None, true));
    }

    #[test]
    fn the_host_runs_its_own_programs() {
        let facts = Facts::read(&Root::live());
        assert!(!facts.machine.is_empty() && !facts.kernel_release.is_empty() && facts.page_size >= 4096);
        assert_eq!(facts.boot_id.len(), 36);
        assert!(facts.native.contains(&Platform::of_machine(std::env::consts::ARCH).unwrap()));
    }
}
