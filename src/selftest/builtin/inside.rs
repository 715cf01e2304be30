// SPDX-License-Identifier: MIT OR Apache-2.0
//! The part of the builtin container that runs in a process of its own: it goes into new
//! namespaces, makes a root of nothing but the probes, gives up every right and starts the probe.
//!
//! Where it is not root, or root of a user namespace that knows no other user, it goes into a user
//! namespace of its own; binfmt_misc is never mounted there, so that the handlers are those of
//! the namespace above (`load_binfmt_misc()`, fs/binfmt_misc.c).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, chdir, getegid, geteuid, pivot_root, setgroups, setresgid, setresuid};

use super::{NO_CONTAINER, NO_EXEC, STARTED};
use crate::platform::Platform;
use crate::selftest::image::{PROBE, Program, programs};
use crate::selftest::programs::USUAL_PATH;
use crate::selftest::sight::MARK;
use crate::selftest::step::{Obstacle, Step as _};

/// The user and group that the probe runs as (Debian's `nobody` and `nogroup`; the kernel's
/// overflow ids): they own nothing.
const NOBODY: u32 = 65534;

/// Where the new root is put first; a directory that is always there.
const PLACES: [&str; 4] = ["/tmp", "/run", "/mnt", "/dev"];

/// What the container's root holds.
enum Content<'a> {
    /// The programs that are built in, and nothing else.
    Probes(Vec<Program>),
    /// What is in a folder of the user's.
    Folder(&'a Path),
}

/// Makes the container, runs a program in it, and gives the exit status. `arguments` are the path of the user namespace
/// to go into first, or nothing for our own; then the platform and those of its probe, or the path of a folder, what
/// marks the process, and the program with its own.
pub fn run(arguments: &[OsString]) -> u8 {
    let complain = |text: String| {
        // Nobody listens where this fails.
        let _ = writeln!(io::stderr(), "{text}");
    };
    let (namespace, arguments) = arguments.split_first().map_or((None, arguments), |(first, rest)| (Some(first), rest));
    let namespace = namespace.filter(|path| !path.is_empty()).map(Path::new);
    let platform = arguments.first().and_then(|name| Platform::named(name.to_str()?));
    let (content, program, words, mark) = match (platform, arguments) {
        (Some(platform), [_, words @ ..]) => (Content::Probes(programs(platform)), OsStr::new(PROBE), words, None),
        (None, [folder, mark, program, words @ ..]) if Path::new(folder).is_absolute() => {
            (Content::Folder(Path::new(folder)), program.as_os_str(), words, Some(mark))
        }
        _ => {
            complain("given neither a platform nor a folder".into());
            return NO_CONTAINER;
        }
    };
    if let Err(obstacle) = namespace.map_or(Ok(()), enter).and_then(|()| make(&content)) {
        complain(obstacle.to_string());
        return NO_CONTAINER;
    }
    // QEMU takes options from its environment, which is not what is tested here.
    let mut command = Command::new(program);
    command.args(words).env_clear().stdin(Stdio::inherit());
    if let Some(mark) = mark {
        command.envs([(MARK, mark.as_os_str()), ("PATH", OsStr::new(USUAL_PATH)), ("HOME", OsStr::new("/"))]);
    }
    let mut probe = match command.spawn() {
        Ok(probe) => probe,
        Err(e) => {
            complain(format!("exec {}: {e}", program.to_string_lossy()));
            return NO_EXEC;
        }
    };
    complain(format!("{STARTED}{}", probe.id()));
    match probe.wait() {
        Ok(status) => {
            if let Some(signal) = status.signal() {
                complain(format!("it was ended by signal {signal}"));
            }
            status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
        }
        Err(e) => {
            complain(format!("waiting for it: {e}"));
            NO_CONTAINER
        }
    }
}

/// Whether user id [`NOBODY`] exists in this user namespace (user_namespaces(7), uid_map).
fn knows_nobody() -> bool {
    let covers = |file| {
        fs::read_to_string(file).is_ok_and(|map| {
            map.lines().any(|line| {
                let fields: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
                matches!(fields[..], [first, _, count] if (first..first + count).contains(&u64::from(NOBODY)))
            })
        })
    };
    covers("/proc/self/uid_map") && covers("/proc/self/gid_map")
}

/// Goes into the user namespace `path` and is root there, as nsenter(1) does.
fn enter(path: &Path) -> Result<(), Obstacle> {
    let namespace = fs::File::open(path).step("the user namespace's file")?;
    setns(namespace, CloneFlags::CLONE_NEWUSER).step("another user namespace")?;
    // Refused where the namespace may not change groups, which is no harm.
    let _ = setgroups(&[]);
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).step("its root's group")?;
    setresuid(user, user, user).step("its root")?;
    // Another user's files in /proc are root's, and could not be written to (PR_SET_DUMPABLE, prctl(2)).
    prctl::set_dumpable(true).step("dumpable")
}

fn make(content: &Content<'_>) -> Result<(), Obstacle> {
    let (user, group) = (geteuid(), getegid());
    let own_users = !user.is_root() || !knows_nobody();
    if own_users {
        unshare(CloneFlags::CLONE_NEWUSER).step("a user namespace")?;
        fs::write("/proc/self/setgroups", "deny").step("/proc/self/setgroups")?;
        // Inside it is nobody, who loses all rights over the namespace when the probe is started.
        fs::write("/proc/self/uid_map", format!("{NOBODY} {user} 1")).step("/proc/self/uid_map")?;
        fs::write("/proc/self/gid_map", format!("{NOBODY} {group} 1")).step("/proc/self/gid_map")?;
    }
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).step("namespaces")?;
    make_root(content)?;
    if !own_users {
        setgroups(&[]).step("giving up root's groups")?;
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setresgid(group, group, group).step("giving up root's group")?;
        setresuid(user, user, user).step("giving up root")?;
    }
    prctl::set_no_new_privs().step("no_new_privs")?;
    // After the change of user, which would undo it.
    prctl::set_pdeathsig(Signal::SIGKILL).step("the parent's death signal")
}

/// Puts the devices that programs rely on into the directory for them, where the new root has one: those of the
/// folder are of no use, since no device works there.
fn give_devices() -> Result<(), Obstacle> {
    let none = None::<&str>;
    // A link could lead elsewhere.
    if !fs::symlink_metadata("dev").is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    mount(Some("tmpfs"), "dev", Some("tmpfs"), MsFlags::MS_NOSUID, Some("size=64k,mode=0755")).step("a tmpfs")?;
    let devices = ["null", "zero", "full", "random", "urandom"].map(|device| format!("/dev/{device}"));
    // A container that this runs in may have fewer.
    for from in devices.iter().filter(|device| Path::new(device).exists()) {
        let to = from.trim_start_matches('/');
        fs::File::create_new(to).step("a device")?;
        mount(Some(from.as_str()), to, none, MsFlags::MS_BIND, none).step("a device")?;
    }
    Ok(())
}

/// A read-only root that holds the content alone.
fn make_root(content: &Content<'_>) -> Result<(), Obstacle> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).step("private mounts")?;
    let place = PLACES.into_iter().find(|place| Path::new(place).is_dir()).unwrap_or("/");
    let mut safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match content {
        Content::Probes(programs) => {
            mount(Some("tmpfs"), place, Some("tmpfs"), safe, Some("size=16m,mode=0755")).step("a tmpfs")?;
            chdir(place).step("the new root")?;
            for Program { path, content, .. } in programs {
                let path = path.trim_start_matches('/');
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o555).open(path);
                // Closed before it is started, else that fails with ETXTBSY.
                file.and_then(|mut file| file.write_all(content)).step("the probe's file")?;
            }
        }
        Content::Folder(folder) => {
            // What else is mounted below belongs to the folder, and cannot be left out in a user namespace.
            mount(Some(*folder), place, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).step("the folder")?;
            chdir(place).step("the new root")?;
            give_devices()?;
            // In a user namespace what its mount forbids has to stay forbidden (mount_namespaces(7)).
            let locked = statvfs(".").step("the folder")?.flags();
            let flags = [
                (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
                (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
                (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
                (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
            ];
            flags.into_iter().filter(|(flag, _)| locked.contains(*flag)).for_each(|(_, flag)| safe |= flag);
        }
    }
    // The old root ends up on top of the new one and is taken away there (pivot_root(2)).
    pivot_root(".", ".").step("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).step("leaving the old root")?;
    chdir("/").step("the new root")?;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | safe;
    mount(none, "/", none, read_only, none).step("a read-only root")
}
