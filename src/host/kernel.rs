// SPDX-License-Identifier: MIT OR Apache-2.0
//! The running kernel: what it is called, which programs it and the CPU run by themselves, and
//! how it comes by binfmt_misc.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::personality::{self, Persona};
use nix::unistd::{SysconfVar, sysconf};

use super::KernelSupport;
use crate::files::Root;
use crate::platform::Platform;

/// The execution domain of 32-bit Linux programs (`PER_LINUX32`, include/uapi/linux/personality.h).
const PER_LINUX32: i32 = 0x0008;
/// The bits of a personality that name the execution domain (`PER_MASK`).
const PER_MASK: i32 = 0x00ff;

/// What uname(2) says.
pub(super) struct Name {
    /// The architecture.
    pub(super) machine: String,
    /// The release.
    pub(super) release: String,
}

/// Runs `look` under the personality `wanted`, and goes back to the one before. The personality
/// belongs to the calling thread alone.
fn under<T>(wanted: i32, look: impl FnOnce() -> T) -> Result<T, Errno> {
    // nix gives only the bits that it has names for, and the execution domain is none of them.
    let text = Root::of_kernel("/proc/self/personality");
    let before = i32::from_str_radix(text.trim(), 16).unwrap_or(0);
    if before == wanted {
        return Ok(look());
    }
    personality::set(Persona::from_bits_retain(wanted))?;
    let seen = look();
    personality::set(Persona::from_bits_retain(before))?;
    Ok(seen)
}

/// The kernel's own name, also where this process was started by `linux32` or `--uname-2.6`,
/// under which an arm64 kernel calls itself armv8l and an amd64 one i686.
pub(super) fn name() -> Name {
    let ask = || {
        let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        nix::sys::utsname::uname().map_or_else(
            |_| Name { machine: String::new(), release: String::new() },
            |u| Name { machine: text(u.machine()), release: text(u.release()) },
        )
    };
    under(0, ask).unwrap_or_else(|_| ask())
}

/// Bytes per page; 0 where the system does not say.
pub(super) fn page_size() -> u64 {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

/// The boot's id; empty where /proc is not there.
pub(super) fn boot_id() -> String {
    Root::of_kernel("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

/// The kernel's command line; empty where /proc is not there.
pub(super) fn command_line() -> String {
    Root::of_kernel("/proc/cmdline")
}

/// The platform whose programs are the other half of a family that one kernel may run whole.
pub(super) fn sibling(platform: &Platform) -> Option<&'static Platform> {
    let other = match platform.oci {
        "amd64" => "386",
        "386" => "amd64",
        "arm64" => "arm",
        "arm" => "arm64",
        _ => return None,
    };
    Platform::named(other)
}

/// Whether something is at `path` of /proc/sys; none where /proc/sys itself cannot be seen.
fn sysctl_exists(path: &str) -> Option<bool> {
    Path::new("/proc/sys/vm").exists().then(|| Path::new("/proc/sys").join(path).exists())
}

/// Whether the configuration of kernel `release` in /boot sets `option` to `y`; none where it is
/// not there or may not be read.
fn configured(root: &Root, release: &str, option: &str) -> Option<bool> {
    let content = root.read(Path::new(&format!("/boot/config-{release}"))).ok()?;
    Some(String::from_utf8_lossy(&content).contains(&format!("\n{option}=y\n")))
}

/// A boolean of the kernel's command line, read as `kstrtobool()` does; the last one counts.
fn boolean_option(command_line: &str, name: &str) -> Option<bool> {
    let value = |word: &str| {
        let value = word.strip_prefix(name)?.strip_prefix('=')?.to_ascii_lowercase();
        match value.as_bytes() {
            [b'y' | b't' | b'1' | b'e', ..] | [b'o', b'n', ..] => Some(true),
            [b'n' | b'f' | b'0' | b'd', ..] | [b'o', b'f', ..] => Some(false),
            _ => None,
        }
    };
    command_line.split_ascii_whitespace().filter_map(value).next_back()
}

/// Whether an x86-64 kernel runs 32-bit programs, which every such CPU can. The evidence:
/// /proc/sys/abi/vsyscall32 is there in kernels with `CONFIG_IA32_EMULATION` (arch/x86/entry/vdso),
/// unless `ia32_emulation=` on the command line or, since Linux 6.7, the configuration's default
/// turns it off. What cannot be seen counts as running them, since a needless rule does harm.
fn amd64_runs_386(vsyscall32: Option<bool>, command_line: &str, off_by_default: impl FnOnce() -> Option<bool>) -> bool {
    vsyscall32.unwrap_or(true)
        && boolean_option(command_line, "ia32_emulation").unwrap_or_else(|| off_by_default() != Some(true))
}

/// Whether an arm64 kernel runs 32-bit programs. The evidence: personality(PER_LINUX32) gives
/// EINVAL where no CPU has a 32-bit EL0 (arch/arm64/kernel/sys.c), and /proc/sys/vm has
/// `mmap_rnd_compat_bits` just in kernels with `CONFIG_COMPAT` (arch/arm64/Kconfig). Another
/// error, as from a seccomp filter, tells nothing and counts as running them.
fn arm64_runs_arm(linux32: Result<(), Errno>, compat: Option<bool>) -> bool {
    linux32 != Err(Errno::EINVAL) && compat.unwrap_or(true)
}

/// The platforms that the running kernel and CPU run by themselves: that of `machine`, and its
/// other half where they run that too. A 64-bit kernel says so in `machine`, so a 32-bit one
/// never runs 64-bit programs.
pub(super) fn native(machine: &str, release: &str, command_line: &str) -> Vec<&'static Platform> {
    let Some(own) = Platform::of_machine(machine) else { return Vec::new() };
    let both = match own.oci {
        "amd64" => {
            let off = || configured(&Root::live(), release, "CONFIG_IA32_EMULATION_DEFAULT_DISABLED");
            amd64_runs_386(sysctl_exists("abi/vsyscall32"), command_line, off)
        }
        "arm64" => arm64_runs_arm(under(PER_LINUX32 & PER_MASK, || ()), sysctl_exists("vm/mmap_rnd_compat_bits")),
        // An arm64 kernel that could not be asked without the personality of 32-bit programs.
        "arm" => machine == "armv8l",
        _ => false,
    };
    std::iter::once(own).chain(sibling(own).filter(|_| both)).collect()
}

/// How kernel `release` comes by binfmt_misc, from `filesystems` (the content of
/// /proc/filesystems) and the modules below `root`. `modular` says whether that kernel takes
/// modules at all (/proc/modules).
pub(super) fn support(root: &Root, filesystems: &str, modular: bool, release: &str) -> KernelSupport {
    if filesystems.lines().any(|line| line.split_ascii_whitespace().last() == Some("binfmt_misc")) {
        return KernelSupport::Present;
    }
    let modules = Path::new("/lib/modules");
    let own = modules.join(release);
    if !root.exists(&own) {
        return match root.list(modules) {
            _ if !modular => KernelSupport::Missing,
            Ok(others) if !others.is_empty() => KernelSupport::RebootPending,
            _ => KernelSupport::Unknown,
        };
    }
    let named = |file: &str| {
        let content = root.read(&own.join(file)).unwrap_or_default();
        let names = |line: &str| {
            let path = line.split(':').next().unwrap_or_default();
            path.rsplit('/').next().is_some_and(|name| name == "binfmt_misc.ko" || name.starts_with("binfmt_misc.ko."))
        };
        String::from_utf8_lossy(&content).lines().any(names)
    };
    if named("modules.builtin") {
        return KernelSupport::Present;
    }
    let usual = own.join("kernel/fs");
    let there = ["", ".xz", ".zst", ".gz"].iter().any(|e| root.exists(&usual.join(format!("binfmt_misc.ko{e}"))));
    if there || named("modules.dep") { KernelSupport::Loadable } else { KernelSupport::Missing }
}

/// As [`support`], of the running kernel.
pub(super) fn running_support(release: &str) -> KernelSupport {
    let filesystems = Root::of_kernel("/proc/filesystems");
    let modular = filesystems.is_empty() || Path::new("/proc/modules").exists();
    support(&Root::live(), &filesystems, modular, release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_32_bit_programs_run_is_told_by_evidence() {
        let off = || Some(true);
        for (vsyscall32, line, config, runs) in [
            (Some(true), "quiet", None, true),
            (Some(false), "quiet", None, false),
            (None, "quiet", None, true),
            (Some(true), "ia32_emulation=0", None, false),
            (Some(true), "ia32_emulation=false quiet", None, false),
            (Some(true), "ia32_emulation=off", None, false),
            (Some(true), "ia32_emulation=off ia32_emulation=on", off(), true),
            (Some(true), "ia32_emulation=maybe xia32_emulation=0", None, true),
            (Some(true), "", Some(true), false),
            (Some(true), "", Some(false), true),
        ] {
            assert_eq!(amd64_runs_386(vsyscall32, line, || config), runs, "{vsyscall32:?} {line} {config:?}");
        }
        for (linux32, compat, runs) in [
            (Ok(()), Some(true), true),
            (Ok(()), Some(false), false),
            (Err(Errno::EINVAL), Some(true), false),
            (Err(Errno::EPERM), Some(true), true),
            (Err(Errno::EPERM), Some(false), false),
            (Ok(()), None, true),
        ] {
            assert_eq!(arm64_runs_arm(linux32, compat), runs, "{linux32:?} {compat:?}");
        }
    }

    #[test]
    fn native_platforms_of_other_machines() {
        let names = |machine| native(machine, "", "").iter().map(|p| p.oci).collect::<Vec<_>>();
        assert_eq!(names("armv7l"), ["arm"]);
        assert_eq!(names("armv8l"), ["arm", "arm64"]);
        assert_eq!(names("riscv64"), ["riscv64"]);
        assert!(names("vax").is_empty());
    }

    #[test]
    fn the_personality_is_as_before() {
        let text = || Root::of_kernel("/proc/thread-self/personality");
        let before = text();
        let inside = under(PER_LINUX32, text);
        assert_eq!(inside.as_deref().map(str::trim), Ok("00000008"));
        assert_eq!(text(), before);
    }

    #[test]
    fn how_the_kernel_comes_by_it() {
        let with = |files: &[(&str, &str)], filesystems: &str, modular| {
            let dir = tempfile::tempdir().unwrap();
            let root = Root::image(dir.path()).unwrap();
            for (path, content) in files {
                root.write_whole(Path::new(path), content.as_bytes()).unwrap();
            }
            support(&root, filesystems, modular, "6.1.0-1")
        };
        let bare = "nodev\tproc\n\text4\n";
        assert_eq!(with(&[], "nodev\tproc\nnodev\tbinfmt_misc\n", true), KernelSupport::Present);
        assert_eq!(with(&[], bare, true), KernelSupport::Unknown);
        assert_eq!(with(&[], bare, false), KernelSupport::Missing);
        assert_eq!(with(&[("/lib/modules/6.2/modules.dep", "")], bare, true), KernelSupport::RebootPending);
        let own = |file: &str| format!("/lib/modules/6.1.0-1/{file}");
        let other = ("/lib/modules/6.2/kernel/fs/binfmt_misc.ko", "");
        for (file, content, expected) in [
            ("modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/fs/binfmt_misc.ko\n", KernelSupport::Present),
            ("modules.builtin", "kernel/fs/ext4/ext4.ko\n", KernelSupport::Missing),
            ("kernel/fs/binfmt_misc.ko.xz", "", KernelSupport::Loadable),
            ("modules.dep", "updates/binfmt_misc.ko.zst: kernel/a.ko\n", KernelSupport::Loadable),
            ("modules.dep", "kernel/a.ko: kernel/fs/not_binfmt_misc.ko\n", KernelSupport::Missing),
        ] {
            assert_eq!(with(&[(&own(file), content), other], bare, true), expected, "{file} {content}");
        }
    }
}
