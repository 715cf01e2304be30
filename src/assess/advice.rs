// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do, in the words of the host's own distribution.

use std::path::Path;

use super::look::Standing;
use super::origin::Origin;
use crate::report::shell_word;
use crate::snapshot::Snapshot;

/// A path as a word of a command.
pub fn word(path: &Path) -> String {
    shell_word(&path.to_string_lossy())
}

/// The command `qemu-persist VERB` as root, for the tree that was looked at.
pub fn command(snapshot: &Snapshot, verb: &str) -> String {
    if snapshot.live {
        return format!("`sudo qemu-persist {verb}`");
    }
    format!("`sudo qemu-persist {verb} --root {}`", word(&snapshot.tree))
}

/// The command that applies.
pub fn apply(snapshot: &Snapshot) -> String {
    command(snapshot, "apply")
}

/// The command that applies and displaces what is not ours.
pub fn take_over(snapshot: &Snapshot) -> String {
    command(snapshot, "apply --take-over")
}

/// The command that removes the file `path` of the tree.
pub fn remove(snapshot: &Snapshot, path: &Path) -> String {
    format!("`sudo rm {}`", word(&snapshot.outside(path)))
}

/// How the handler that a file registers at boot, and that is no good, makes way for a good one.
pub fn yield_at_boot(snapshot: &Snapshot, boot: &Standing) -> String {
    let apply = apply(snapshot);
    match &boot.origin {
        Origin::Administrator(path) => format!("Correct it, or {}, then {apply}.", remove(snapshot, path)),
        Origin::Distribution(path) => {
            let mask = Path::new("/etc/binfmt.d").join(path.file_name().unwrap_or_default());
            let mask = word(&snapshot.outside(&mask));
            format!("Mask it: `sudo ln -s /dev/null {mask}`, then {apply}.")
        }
        Origin::BinfmtSupport => {
            let (name, interpreter) = (shell_word(&boot.entry.name), word(&boot.entry.interpreter));
            format!("Take it out of its database: `sudo update-binfmts --remove {name} {interpreter}`, then {apply}.")
        }
        Origin::Ours | Origin::Foreign => format!("Make it last: {apply}."),
    }
}

/// How to install QEMU here.
pub fn install_qemu(snapshot: &Snapshot) -> String {
    let distribution = &snapshot.facts.distribution;
    let is = |name: &str| distribution.id == name || distribution.id_like.iter().any(|like| like == name);
    let major: Option<u32> = distribution.version_id.split('.').next().and_then(|v| v.parse().ok());
    let raspbian_or_debian = ["debian", "raspbian"].contains(&distribution.id.as_str());
    let command = match () {
        // From Debian 13 on `qemu-user` is static, and its rules are in a package of their own.
        () if raspbian_or_debian && major.is_none_or(|major| major >= 13) => {
            "sudo apt-get install qemu-user qemu-user-binfmt"
        }
        () if is("debian") || is("ubuntu") || raspbian_or_debian => "sudo apt-get install qemu-user-static",
        () if is("fedora") || is("rhel") => "sudo dnf install qemu-user-static",
        () if is("arch") => "sudo pacman -S qemu-user-static",
        () if is("suse") || is("opensuse") => "sudo zypper install qemu-linux-user",
        () => {
            return format!("Install static QEMU user emulators for this host, then run {}.", apply(snapshot));
        }
    };
    if !snapshot.live {
        // The image's package manager runs in the image, and how that is entered is its builder's.
        return format!("Install it in the image, by `{}` there, then run {}.", &command[5..], apply(snapshot));
    }
    format!("Install it: `{command}`, then run {}.", apply(snapshot))
}
