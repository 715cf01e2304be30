// SPDX-License-Identifier: MIT OR Apache-2.0
//! That the depth probe tells good from bad: it passes where programs run natively, and each part fails where that
//! is broken which it looks at.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tests::{build, find_qemu, limited, sources};
use super::*;
use crate::selftest::depth::{Asked, Depth, Found};

/// What was found out about each part, and in what that showed.
type Results = BTreeMap<&'static str, (Found, String)>;

/// A folder with the depth probe of `platform` and the script that it starts.
struct Place {
    folder: tempfile::TempDir,
    platform: &'static Platform,
}

impl Place {
    fn new(oci: &str, elf: Option<&Path>) -> Self {
        let platform = Platform::named(oci).unwrap();
        let place = Self { folder: tempfile::tempdir().unwrap(), platform };
        let carried = sources().join(format!("depth.{oci}.elf"));
        std::fs::copy(elf.unwrap_or(&carried), place.probe()).unwrap();
        let script = place.folder.path().join("depth.script");
        std::fs::write(&script, format!("#!{} =child\n", place.probe().display())).unwrap();
        for file in [place.probe(), script] {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        place
    }

    fn probe(&self) -> PathBuf {
        self.folder.path().join("depth")
    }

    /// What the probe finds out when `command` starts it.
    fn ask(&self, mut command: Command) -> Results {
        let asked = Asked::new(self.platform, Some(Depth::Full));
        command.arg("nonce").args(Depth::Full.groups()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let parts = asked.read(&output.stdout, "nonce");
        parts.into_iter().map(|part| (part.part, (part.found, part.detail))).collect()
    }

    fn natively(&self) -> Results {
        self.ask(limited(&self.probe()))
    }

    /// Under Debian's QEMU with further arguments; what the probe starts runs as the kernel has it.
    fn under_qemu(&self, arguments: &[&str], cpu: Option<&str>) -> Option<Results> {
        let mut command = limited(&find_qemu(self.platform)?);
        command.args(arguments).arg(self.probe()).env_clear();
        command.envs(cpu.map(|cpu| ("QEMU_CPU", cpu)));
        Some(self.ask(command))
    }
}

/// Whether it cannot be told by a machine that has other things to do, or by root.
fn is_open(part: &str, found: Found) -> bool {
    ["threads.order", "setuid"].contains(&part) && found == Found::Unknown
}

fn of_group<'r>(results: &'r Results, group: &str) -> Vec<(&'r str, Found)> {
    let prefix = format!("{group}.");
    let is_in = |part: &str| part == group || part.starts_with(&prefix);
    results.iter().filter(|(part, _)| is_in(part)).map(|(part, (found, _))| (*part, *found)).collect()
}

#[test]
fn everything_works_natively() {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("skipped: the machine is no x86-64 one");
        return;
    }
    for oci in ["amd64", "386"] {
        let results = Place::new(oci, None).natively();
        if oci == "386" && results.values().all(|(found, _)| *found == Found::Unknown) {
            eprintln!("skipped: this kernel runs no 32-bit programs");
            continue;
        }
        assert_eq!(results.len(), Depth::Full.parts(Platform::named(oci).unwrap()).count());
        for (part, (found, detail)) in results {
            // The processor, an old kernel or a filter may not have these.
            let may_be_absent = part == "isa.avx2" || part.starts_with("syscalls.");
            let good = found == Found::Works || may_be_absent && found == Found::Absent || is_open(part, found);
            assert!(good, "{oci}: {part} {found:?} {detail}");
        }
    }
}

#[test]
fn setuid_programs_gain_rights_natively() {
    if !cfg!(target_arch = "x86_64") || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: it needs root on an x86-64 machine");
        return;
    }
    let place = Place::new("amd64", None);
    std::fs::set_permissions(place.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = place.folder.path().join("depth.setuid");
    std::fs::copy(place.probe(), &copy).unwrap();
    let as_nobody = |gives_none: &[&str]| {
        let mut command = limited(Path::new("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(gives_none).arg(place.probe());
        place.ask(command)["setuid"].clone()
    };
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let (found, detail) = as_nobody(&[]);
    // A file system that is mounted with nosuid gives none.
    let flags = nix::sys::statvfs::statvfs(&copy).unwrap().flags();
    let gained = if flags.contains(nix::sys::statvfs::FsFlags::ST_NOSUID) { "not gained" } else { "gained" };
    assert_eq!((found, detail.as_str()), (Found::Works, gained));
    assert_eq!(as_nobody(&["--no-new-privs"]).0, Found::Unknown);
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(as_nobody(&[]), (Found::Works, "not gained".to_owned()));
}

#[test]
fn memory_and_threads_work_under_qemu() {
    for probe in &DEPTH {
        let Some(results) = Place::new(probe.platform.oci, None).under_qemu(&[], None) else { continue };
        for group in ["pages", "threads", "address-space"] {
            for (part, found) in of_group(&results, group) {
                let good = found == Found::Works || is_open(part, found);
                assert!(good, "{}: {part}: {}", probe.platform, results[part].1);
            }
        }
    }
}

/// QEMU up to 9.0 can be told to act as if the host's pages were larger (`-p`).
#[test]
fn large_pages_are_noticed() {
    for oci in ["amd64", "386"] {
        let Some(results) = Place::new(oci, None).under_qemu(&["-p", "16384"], None) else { continue };
        if results.values().all(|(found, _)| *found == Found::Unknown) {
            eprintln!("skipped: this QEMU knows no other page size than the host's");
            return;
        }
        for part in ["pages.guard", "pages.wx", "pages.shared"] {
            assert_eq!(results[part].0, Found::Broken, "{oci}: {part}");
        }
    }
}

#[test]
fn the_level_is_that_of_the_processor_that_qemu_shows() {
    let place = Place::new("amd64", None);
    for (cpu, level, avx2) in [
        ("qemu64", "x86-64-v1", Found::Absent),
        ("Nehalem", "x86-64-v2", Found::Absent),
        ("max", "x86-64-v3", Found::Works),
        ("max,-avx2", "x86-64-v2", Found::Absent),
        ("max,-sse4.2", "x86-64-v1", Found::Works),
    ] {
        let Some(results) = place.under_qemu(&[], Some(cpu)) else { return };
        assert_eq!(results["isa"], (Found::Works, level.to_owned()), "{cpu}");
        assert_eq!(results["isa.avx2"].0, avx2, "{cpu}");
        let enough = if level == "x86-64-v1" { Found::Broken } else { Found::Works };
        assert_eq!(results["isa.level"].0, enough, "{cpu}");
    }
}

#[test]
fn features_are_those_of_the_processor_that_qemu_shows() {
    let place = Place::new("arm64", None);
    for (cpu, has, lacks) in
        [("cortex-a53", "aes", "atomics"), ("cortex-a76", "atomics", "sve"), ("max", "sve", "none")]
    {
        let Some(results) = place.under_qemu(&[], Some(cpu)) else { return };
        let names: Vec<_> = results["isa"].1.split(' ').collect();
        assert!(names.contains(&has) && !names.contains(&lacks), "{cpu}: {names:?}");
    }
}

/// What is broken here is in the probe itself: only an ARM host, or a system with five levels of page tables, could
/// break it from outside.
#[test]
fn wrong_orders_and_high_addresses_would_be_noticed() {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("skipped: the machine is no x86-64 one");
        return;
    }
    let Some(built) = build(&["-DSEND_IN_WRONG_ORDER", "-DADDRESS_BITS=40"]) else { return };
    let place = Place::new("amd64", Some(&built.path().join("depth.amd64.elf")));
    // Where two threads hardly ever run at the same time, an order is hardly ever seen.
    let mut runs =
        (0..50).map(|_| place.natively()["threads.order"].0).inspect(|found| assert_ne!(*found, Found::Works));
    assert!(runs.any(|found| found == Found::Broken));
    let results = place.natively();
    assert_eq!((results["address-space"].0, results["threads.run"].0), (Found::Broken, Found::Works));
}

#[test]
fn a_part_that_hangs_or_crashes_says_nothing_of_the_others() {
    let Some(built) = build(&["-DPART_LIFETIME=1", "-DHANG=\"pages.guard\"", "-DCRASH=\"pages.wx\""]) else { return };
    let place = Place::new("amd64", Some(&built.path().join("depth.amd64.elf")));
    let Some(results) = place.under_qemu(&[], None) else { return };
    assert_eq!(results["pages.guard"], (Found::Unknown, "it did not come to its end in time".to_owned()));
    assert_eq!(results["pages.wx"].0, Found::Broken, "{:?}", results["pages.wx"]);
    assert_eq!((results["pages.fragment"].0, results["pages.shared"].0), (Found::Works, Found::Works));
}

/// Without a handler nothing of the platform can be started.
#[test]
fn what_cannot_be_started_is_noticed() {
    let namespaces = ["--user", "--map-root-user", "--mount"];
    let empty = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && exec \"$@\"";
    let place = Place::new("arm64", None);
    let Some(qemu) = find_qemu(place.platform) else { return };
    let mut command = limited(Path::new("unshare"));
    command.args(namespaces).args(["sh", "-c", empty, "sh"]).arg(qemu).arg(place.probe());
    let results = place.ask(command);
    if results["threads.fork"].0 == Found::Unknown {
        eprintln!("skipped: no user namespace with a binfmt_misc of its own can be made here");
        return;
    }
    for (part, found) in of_group(&results, "exec") {
        assert_eq!(found, Found::Broken, "{part}: {}", results[part].1);
    }
}
