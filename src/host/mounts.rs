// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is mounted where, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)), and what follows
//! from it for /etc. Reading that file triggers no automount.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::EtcPersistence;

/// Where the kernel lists the mounts of this process.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The file system's device, as `major:minor`.
    pub device: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The kind of file system: `ext4`, `overlay`.
    pub kind: String,
    /// Whether the mount or the file system itself is read-only.
    pub read_only: bool,
    /// The file system's own options, each unescaped: `upperdir=/upper`.
    pub options: Vec<OsString>,
}

/// Undoes the octal escapes (`\040`) that the kernel writes for blanks, commas and backslashes.
fn unescape(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes)
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (device, _root, point, mount_options) = (left.next()?, left.next()?, left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, _source) = (right.next()?, right.next()?);
    let options = right.next().unwrap_or_default();
    let read_only = |options: &str| options.split(',').any(|o| o == "ro");
    Some(Mount {
        device: device.to_owned(),
        point: unescape(point).into(),
        kind: kind.to_owned(),
        read_only: read_only(mount_options) || read_only(options),
        options: options.split(',').map(unescape).collect(),
    })
}

/// Reads the content of a mountinfo file. Lines that are no mount are left out.
pub fn parse(content: &str) -> Vec<Mount> {
    content.lines().filter_map(parse_line).collect()
}

/// The mount that `path` lies on: the deepest one above it, and of several the last made.
pub fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().filter(|m| path.starts_with(&m.point)).max_by_key(|m| m.point.components().count())
}

fn in_memory(mount: &Mount) -> bool {
    ["tmpfs", "ramfs", "rootfs"].contains(&mount.kind.as_str())
}

/// Words of the kernel's command line with which an initramfs lays an overlay in memory over the
/// root: raspi-config (`boot=overlay` of old, `overlayroot=tmpfs` since), live images, systemd.
fn asks_for_memory_root(command_line: &str) -> bool {
    command_line.split_ascii_whitespace().any(|word| {
        ["boot=overlay", "boot=live", "boot=casper", "systemd.volatile=overlay"].contains(&word)
            || word.strip_prefix("overlayroot=").is_some_and(|kind| kind.starts_with("tmpfs"))
    })
}

/// Whether `path` survives a reboot. The upper layer of an overlay is looked up among the mounts;
/// where it was mounted by an initramfs and is out of sight, the kernel's command line decides.
pub fn persistence(mounts: &[Mount], command_line: &str, path: &Path) -> EtcPersistence {
    let Some(mount) = holding(mounts, path) else { return EtcPersistence::Persistent };
    if in_memory(mount) {
        return EtcPersistence::Tmpfs;
    }
    let option = |o: &OsString| o.to_str()?.strip_prefix("upperdir=").map(PathBuf::from);
    let Some(upper) = mount.options.iter().find_map(option).filter(|_| mount.kind == "overlay") else {
        return EtcPersistence::Persistent;
    };
    match holding(mounts, &upper) {
        Some(below) if in_memory(below) => EtcPersistence::Overlay,
        // An overlay's upper layer cannot lie on that overlay itself: the real one is out of sight.
        Some(below) if std::ptr::eq(below, mount) && asks_for_memory_root(command_line) => EtcPersistence::Overlay,
        None if asks_for_memory_root(command_line) => EtcPersistence::Overlay,
        _ => EtcPersistence::Persistent,
    }
}

/// Where the layers below the overlay that `path` lies on have it, the uppermost first: what survives
/// a reboot where the overlay is in memory. Layers that are in memory themselves, out of sight, or
/// hidden by the overlay are left out.
pub fn below(mounts: &[Mount], path: &Path) -> Vec<PathBuf> {
    let Some(mount) = holding(mounts, path).filter(|mount| mount.kind == "overlay") else { return Vec::new() };
    let rest = path.strip_prefix(&mount.point).unwrap_or(path);
    // The new mount API shows each layer by itself (Documentation/filesystems/overlayfs.rst).
    let option = |o: &OsString| Some(o.to_str()?.strip_prefix("lowerdir")?.trim_start_matches('+').to_owned());
    let layers = mount.options.iter().filter_map(option);
    let layers: Vec<_> = layers
        .filter_map(|text| Some(text.strip_prefix('=')?.split(':').map(PathBuf::from).collect::<Vec<_>>()))
        .flatten()
        .collect();
    let in_sight = |layer: &PathBuf| {
        holding(mounts, layer).is_some_and(|holder| !std::ptr::eq(holder, mount) && !in_memory(holder))
    };
    layers.into_iter().filter(in_sight).map(|layer| layer.join(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: &str = "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mmcblk0p2 rw\n\
        28 27 0:25 / /run rw - tmpfs tmpfs rw,size=4k\n";

    #[test]
    fn lines_are_taken_apart() {
        let mounts = parse(
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 propagate_from:2 - ext3 /dev/root ro,errors=continue\n\
             nonsense\n37 35 0:3 / /x rw - overlay overlay rw,upperdir=/a\\054b\n",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].point.as_path(), mounts[0].device.as_str()), (Path::new("/mnt 2"), "98:0"));
        assert_eq!((mounts[0].kind.as_str(), mounts[0].read_only), ("ext3", true));
        assert_eq!(mounts[1].options, ["rw", "upperdir=/a,b"]);
    }

    #[test]
    fn whether_etc_survives_is_told_by_its_mount() {
        let table = [
            (DISK.to_owned(), "", EtcPersistence::Persistent),
            (String::new(), "", EtcPersistence::Persistent),
            (format!("{DISK}40 27 0:9 / /etc rw - tmpfs tmpfs rw\n"), "", EtcPersistence::Tmpfs),
            ("1 1 0:2 / / rw - rootfs rootfs rw\n".into(), "", EtcPersistence::Tmpfs),
            // overlayroot: the tmpfs is moved below the new root and can be seen.
            (
                "25 1 0:21 / / rw - overlay overlayroot rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay\n\
                 26 25 0:20 / /media/root-rw rw - tmpfs tmpfs-root rw\n"
                    .into(),
                "overlayroot=tmpfs",
                EtcPersistence::Overlay,
            ),
            // raspi-config's older script: the upper layer stays in the initramfs.
            (
                "25 1 0:21 / / rw - overlay overlay rw,lowerdir=/lower,upperdir=/upper/data\n".into(),
                "console=tty1 boot=overlay root=PARTUUID=1",
                EtcPersistence::Overlay,
            ),
            // A container's root, whose upper layer is on the host's disk.
            (
                "25 1 0:21 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/x/diff\n".into(),
                "console=tty1",
                EtcPersistence::Persistent,
            ),
            // /etc as an overlay of its own, kept on a disk.
            (
                format!("{DISK}40 27 0:9 / /etc rw - overlay overlay rw,upperdir=/var/etc/upper\n"),
                "",
                EtcPersistence::Persistent,
            ),
            // ... and in memory.
            (
                format!("{DISK}40 27 0:9 / /etc rw - overlay overlay rw,upperdir=/run/etc\n"),
                "",
                EtcPersistence::Overlay,
            ),
        ];
        for (content, command_line, expected) in table {
            assert_eq!(persistence(&parse(&content), command_line, Path::new("/etc")), expected, "{content}");
        }
    }

    #[test]
    fn what_is_below_an_overlay_is_found_where_it_is_in_sight() {
        let overlay = |point: &str, options: &str| {
            format!("{DISK}40 27 0:9 / {point} rw - overlay overlay rw,{options},upperdir=/run/up\n")
        };
        for (mounts, expected) in [
            (DISK.to_owned(), &[][..]),
            (overlay("/etc", "lowerdir=/below"), &["/below"]),
            (overlay("/etc", "lowerdir=/one:/run/two:/three"), &["/one", "/three"]),
            (overlay("/etc", "lowerdir+=/one,lowerdir+=/three"), &["/one", "/three"]),
            // The overlay itself hides what it was mounted over.
            (overlay("/etc", "lowerdir=/etc"), &[]),
            // overlayroot, and raspi-config's older script, whose layers stay in the initramfs.
            (
                format!(
                    "{}26 25 8:2 / /media/root-ro ro - ext4 /dev/mmcblk0p2 rw\n",
                    overlay("/", "lowerdir=/media/root-ro")
                ),
                &["/media/root-ro/etc"],
            ),
            (overlay("/", "lowerdir=/lower"), &[]),
        ] {
            let paths: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(below(&parse(&mounts), Path::new("/etc")), paths, "{mounts}");
        }
    }
}
