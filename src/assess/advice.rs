// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do, in the words of the host's own distribution.

use crate::snapshot::Snapshot;

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
            return "Install static QEMU user emulators for this host, then run `sudo qemu-persist apply`.".to_owned();
        }
    };
    format!("Install it: `{command}`, then run `sudo qemu-persist apply`.")
}
