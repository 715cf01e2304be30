// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this program runs inside of: a chroot, a container, a user namespace.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Confinement;
use crate::files::Root;

/// The inode of the kernel's first user namespace (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
/// The inode of its first PID namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What can be seen from inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Signs {
    /// Whether a proc file system is mounted.
    proc: bool,
    /// Whether `/` is the root of PID 1, where that may be looked at.
    root_of_init: Option<bool>,
    /// Whether this is the kernel's first PID namespace.
    initial_pids: Option<bool>,
    /// The name that a container manager gave, in `/run/systemd/container` or PID 1's environment
    /// (systemd.io/CONTAINER_INTERFACE).
    announced: Option<String>,
    /// The engine whose marker file lies in `/`.
    marker: Option<&'static str>,
}

impl Signs {
    /// Judges them as systemd's `running_in_chroot()` and `detect_container()` do, but for one
    /// thing: a marker file alone does not make a container of a system that was unpacked from an
    /// image, so it counts only outside the kernel's first PID namespace or below another root.
    fn judge(self) -> Confinement {
        if self.root_of_init == Some(false) {
            return self.marker.map_or(Confinement::Chroot, |name| Confinement::Container(name.to_owned()));
        }
        if !self.proc {
            return Confinement::Chroot;
        }
        match (self.announced, self.marker) {
            (Some(name), _) => Confinement::Container(name),
            (None, Some(name)) if self.initial_pids != Some(true) => Confinement::Container(name.to_owned()),
            _ => Confinement::None,
        }
    }
}

/// The number in the text of a namespace link, such as `user:[4026531837]`.
fn namespace_number(link: &str) -> Option<u64> {
    link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

fn own_namespace(kind: &str) -> Option<u64> {
    namespace_number(fs::read_link(format!("/proc/self/ns/{kind}")).ok()?.to_str()?)
}

/// The value of `container` in the environment that a process was started with.
fn container_variable(environ: &[u8]) -> Option<String> {
    let value = environ.split(|&b| b == 0).find_map(|entry| entry.strip_prefix(b"container="))?;
    Some(String::from_utf8_lossy(value).into_owned()).filter(|name| !name.is_empty())
}

/// What the running process is inside of. What may not be read counts as no sign: an ordinary
/// user cannot look at the root directory of PID 1, and is then not told of a chroot.
pub(super) fn read() -> Confinement {
    let identity = |path: &str| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let announced = Root::live().read_text(Path::new("/run/systemd/container")).ok().map(|name| name.trim().to_owned());
    let environ = || container_variable(&Root::live().read(Path::new("/proc/1/environ")).ok()?);
    let marker = [("/run/.containerenv", "podman"), ("/.dockerenv", "docker")];
    Signs {
        proc: Path::new("/proc/self").exists(),
        root_of_init: identity("/proc/1/root").zip(identity("/")).map(|(init, own)| init == own),
        initial_pids: own_namespace("pid").map(|number| number == INITIAL_PID_NAMESPACE),
        announced: announced.filter(|name| !name.is_empty()).or_else(environ),
        marker: marker.into_iter().find(|(path, _)| Path::new(path).exists()).map(|(_, name)| name),
    }
    .judge()
}

/// Whether this process is in another user namespace than the kernel's first. Where there is no
/// /proc to tell, no.
pub fn in_user_namespace() -> bool {
    own_namespace("user").is_some_and(|number| number != INITIAL_USER_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_judged() {
        let host = Signs { proc: true, root_of_init: Some(true), initial_pids: Some(true), ..Signs::default() };
        let container = |name: &str| Confinement::Container(name.to_owned());
        let table = [
            (host.clone(), Confinement::None),
            // An ordinary user on the host.
            (Signs { root_of_init: None, ..host.clone() }, Confinement::None),
            (Signs { root_of_init: Some(false), ..host.clone() }, Confinement::Chroot),
            // A chroot into which nobody mounted /proc.
            (Signs::default(), Confinement::Chroot),
            // Namespaces of its own, PID 1 below the same root.
            (Signs { initial_pids: Some(false), ..host.clone() }, Confinement::None),
            (Signs { initial_pids: Some(false), announced: Some("lxc".into()), ..host.clone() }, container("lxc")),
            (Signs { initial_pids: Some(false), marker: Some("docker"), ..host.clone() }, container("docker")),
            // docker run --pid=host
            (Signs { root_of_init: Some(false), marker: Some("docker"), ..host.clone() }, container("docker")),
            // A machine whose disk was unpacked from a container image.
            (Signs { marker: Some("docker"), ..host.clone() }, Confinement::None),
            (Signs { marker: Some("docker"), root_of_init: None, ..host }, Confinement::None),
        ];
        for (signs, expected) in table {
            assert_eq!(signs.clone().judge(), expected, "{signs:?}");
        }
    }

    #[test]
    fn namespace_links_and_environments_are_read() {
        assert_eq!(namespace_number("user:[4026531837]"), Some(INITIAL_USER_NAMESPACE));
        assert_eq!(namespace_number("pid:[4026531836]"), Some(INITIAL_PID_NAMESPACE));
        assert_eq!(namespace_number("user"), None);
        assert_eq!(container_variable(b"A=b\0container=podman\0"), Some("podman".into()));
        assert_eq!(container_variable(b"mycontainer=x\0container=\0"), None);
    }
}
