// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that `qemu-persist host` shows: the facts, and what takes longer to find out.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{AUTOFS_SUPER_MAGIC, PROC_SUPER_MAGIC, Statfs, fstatfs};
use nix::sys::statvfs::FsFlags;
use serde::Serialize;

use super::arm::Arm32;
use super::cpu::{self, Hardware};
use super::dpkg::Packages;
use super::engines::{self, Engine, Kind, State};
use super::interpreters::{self, Interpreter};
use super::{Facts, KernelSupport};
use crate::binfmt::registry;
use crate::files::Root;
use crate::platform::Platform;

/// What lies where binfmt_misc is to be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The file system itself.
    Mounted,
    /// systemd's automount, which mounts it when it is first touched.
    Automount,
    /// Nothing.
    NotMounted,
    /// Another file system, as container engines cover it with.
    Covered,
}

/// The state of binfmt_misc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct BinfmtMisc {
    /// Whether it is a part of the kernel itself (and not a module), where the kernel has it.
    pub built_in: Option<bool>,
    /// What lies at its place; none where that cannot be seen.
    pub place: Option<Place>,
    /// Whether that is read-only, so that not even root can register.
    pub read_only: bool,
    /// In a user namespace: whether the mounted table is this namespace's own, which hides the
    /// host's handlers (Linux 6.7 and later). None where that cannot be told.
    pub private: Option<bool>,
}

/// The program that runs as PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Init {
    /// Its name.
    pub name: String,
    /// The version of its package, where dpkg knows one.
    pub version: Option<String>,
}

/// What was found out about a host or a system image.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Survey {
    /// The version of this form; it only grows.
    pub schema: u32,
    /// The tree that was looked at; `/` for the running system.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub root: PathBuf,
    /// What judging needs to know.
    #[serde(flatten)]
    pub facts: Facts,
    /// Whether programs and kernel are of different architectures.
    pub userland_differs: Option<bool>,
    /// The machine; none for an image.
    pub hardware: Option<Hardware>,
    /// How many bits the addresses of programs have.
    pub address_bits: Option<u32>,
    /// What 32-bit ARM images find; none where the host is no ARM, and for an image.
    pub arm32: Option<Arm32>,
    /// What runs as PID 1; of an image, what would.
    pub init: Option<Init>,
    /// The kernels whose modules are in an image.
    pub kernels: Vec<String>,
    /// The state of binfmt_misc; none for an image.
    pub binfmt_misc: Option<BinfmtMisc>,
    /// QEMU's user emulators.
    pub qemu: Vec<Interpreter>,
    /// Other translators.
    pub translators: Vec<Interpreter>,
    /// Container engines.
    pub engines: Vec<Engine>,
    /// Why what is none is not known, by its name.
    pub unknown: BTreeMap<&'static str, String>,
}

impl BinfmtMisc {
    fn read(facts: &Facts) -> Self {
        let path = registry::DIRECTORY;
        // Opening a path with O_PATH does not trigger an automount at its end (open(2)).
        let opened = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok().map(std::fs::File::from);
        let status = opened.as_ref().and_then(|file| fstatfs(file).ok());
        let place = status.as_ref().map(place);
        let owner = opened.and_then(|file| file.metadata().ok()).map(|m| m.uid());
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let loaded = std::fs::read_to_string("/proc/modules").ok();
        Self {
            built_in: (facts.kernel_support == KernelSupport::Present)
                .then(|| !loaded.is_some_and(|list| list.lines().any(|line| line.starts_with("binfmt_misc ")))),
            place,
            read_only: status.is_some_and(|s| s.flags().contains(FsFlags::ST_RDONLY)),
            private: if facts.user_namespace && place == Some(Place::Mounted) {
                owner.and_then(|owner| is_private(owner, &map))
            } else {
                Some(false)
            },
        }
    }
}

fn place(status: &Statfs) -> Place {
    match status.filesystem_type() {
        AUTOFS_SUPER_MAGIC => Place::Automount,
        PROC_SUPER_MAGIC => Place::NotMounted,
        registry::BINFMTFS => Place::Mounted,
        _ => Place::Covered,
    }
}

/// Whether a table belongs to this user namespace: its root directory is owned by uid 0 of the
/// namespace that mounted it, so that another's is owned by somebody unknown here. Where this
/// namespace maps uid 0 to the outer uid 0, owners look the same.
fn is_private(owner: u32, uid_map: &str) -> Option<bool> {
    let mut numbers = uid_map.lines().map(|line| line.split_whitespace().map(str::parse::<u32>));
    let root_is_root = numbers.any(|mut line| (line.next(), line.next()) == (Some(Ok(0)), Some(Ok(0))));
    match owner {
        0 if root_is_root => None,
        owner => Some(owner == 0),
    }
}

fn init(root: &Root, packages: &Packages<'_>) -> Option<Init> {
    let name = if root.is_live() {
        std::fs::read_to_string("/proc/1/comm").ok()?.trim().to_owned()
    } else {
        root.resolve(Path::new("/sbin/init")).ok()?.file_name()?.to_string_lossy().into_owned()
    };
    let package = match name.as_str() {
        "systemd" => "systemd",
        "init" => "sysvinit-core",
        _ => return Some(Init { name, version: None }),
    };
    Some(Init { name, version: packages.version(package) })
}

/// The engines whose programs are in an image.
fn engines_of_image(root: &Root) -> Vec<Engine> {
    let find = |kind: Kind| {
        let mut places = ["/usr/bin", "/usr/local/bin"].into_iter().map(|dir| Path::new(dir).join(kind.program()));
        let path = places.find(|path| root.exists(path))?;
        let state = State::NotAsked("it is in a system image".to_owned());
        Some(Engine { state, ..Engine::of(kind, path) })
    };
    Kind::ALL.into_iter().filter_map(find).collect()
}

/// Asks the installed engines, all at once.
async fn ask_engines(limit: Duration) -> Vec<Engine> {
    let asked: Vec<_> =
        engines::find().into_iter().map(|(kind, path)| tokio::spawn(engines::ask(kind, path, limit))).collect();
    let mut answers = Vec::new();
    for engine in asked {
        answers.extend(engine.await);
    }
    answers
}

/// Finds out all about `root`. Of the running system, programs are asked as well, each for `limit`
/// at most; of an image, nothing but its files.
pub async fn survey(root: &Root, limit: Duration) -> Survey {
    let facts = Facts::read(root);
    let packages = Packages::of(root);
    let live = root.is_live();
    let mut unknown = BTreeMap::new();
    let mut qemu = interpreters::find_qemu(root, &packages);
    let mut translators = interpreters::find_translators(root, &packages);
    let mut engines = if live {
        let (engines, (), ()) = tokio::join!(
            ask_engines(limit),
            interpreters::ask_versions(&mut qemu, limit),
            interpreters::ask_versions(&mut translators, limit),
        );
        engines
    } else {
        let files_only =
            |i: &mut Interpreter| i.version_unknown = Some("no package owns it, and it is not run".to_owned());
        qemu.iter_mut().chain(&mut translators).filter(|i| i.version.is_none()).for_each(files_only);
        engines_of_image(root)
    };
    for engine in engines.iter_mut().filter(|engine| engine.client_version.is_none()) {
        engine.client_version = packages.owner(&engine.path).and_then(|package| packages.version(&package));
    }
    let hardware = live.then(Hardware::read);
    let address_bits = if live { cpu::address_bits() } else { Err("a system image".to_owned()) };
    let address_bits = address_bits.map_err(|why| unknown.insert("address_bits", why)).ok();
    let binfmt_misc = live.then(|| BinfmtMisc::read(&facts));
    let init = init(root, &packages);
    for (name, missing) in [("hardware", hardware.is_none()), ("binfmt_misc", binfmt_misc.is_none())] {
        if missing {
            unknown.insert(name, "a system image".to_owned());
        }
    }
    if hardware.as_ref().is_some_and(|h| h.board.is_none()) {
        unknown.insert("hardware.board", "neither a device tree nor DMI names it".to_owned());
    }
    if facts.userland.is_none() {
        unknown.insert("userland", "none of its basic programs is an ELF file of a known platform".to_owned());
    }
    if init.is_none() {
        let why = if live { "/proc/1/comm cannot be read" } else { "/sbin/init leads nowhere" };
        unknown.insert("init", why.to_owned());
    }
    if binfmt_misc.as_ref().is_some_and(|b| b.place.is_none()) {
        unknown.insert("binfmt_misc.place", "/proc/sys/fs/binfmt_misc cannot be opened".to_owned());
    }
    if binfmt_misc.as_ref().is_some_and(|b| b.private.is_none()) {
        unknown.insert("binfmt_misc.private", "uid 0 is the same in this user namespace and outside".to_owned());
    }
    Survey {
        schema: 1,
        root: root.outside(Path::new("/")),
        userland_differs: facts.userland.zip(Platform::of_machine(&facts.machine)).map(|(a, b)| a != b),
        hardware,
        address_bits,
        arm32: if live { Arm32::read(&facts) } else { None },
        init,
        kernels: if live { Vec::new() } else { kernels(root) },
        binfmt_misc,
        qemu,
        translators,
        engines,
        unknown,
        facts,
    }
}

fn kernels(root: &Root) -> Vec<String> {
    let names = root.list(Path::new("/lib/modules")).unwrap_or_default();
    names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_table_it_is_shows_in_its_owner() {
        let (mapped, identity) = ("         0       1000          1\n", "0 0 4294967295\n");
        assert_eq!(is_private(0, mapped), Some(true));
        assert_eq!(is_private(65534, mapped), Some(false));
        assert_eq!(is_private(65534, identity), Some(false));
        assert_eq!(is_private(0, identity), None);
        assert_eq!(is_private(0, ""), Some(true));
    }

    #[test]
    fn an_image_is_surveyed_by_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        root.write_whole(Path::new("/usr/lib/systemd/systemd"), b"").unwrap();
        root.write_whole(Path::new("/usr/local/bin/docker"), b"").unwrap();
        root.create_dir_all(Path::new("/usr/lib/modules/6.12.25+rpt-rpi-2712")).unwrap();
        root.create_dir_all(Path::new("/sbin")).unwrap();
        std::os::unix::fs::symlink("usr/lib", dir.path().join("lib")).unwrap();
        std::os::unix::fs::symlink("/lib/systemd/systemd", dir.path().join("sbin/init")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let survey = runtime.block_on(survey(&root, Duration::from_secs(1)));
        assert_eq!(survey.init, Some(Init { name: "systemd".into(), version: None }));
        assert_eq!(survey.kernels, ["6.12.25+rpt-rpi-2712"]);
        assert!(survey.hardware.is_none() && survey.binfmt_misc.is_none() && survey.address_bits.is_none());
        assert_eq!(survey.engines.len(), 1);
        assert!(survey.unknown.contains_key("userland") && survey.unknown.contains_key("hardware"));
    }
}
