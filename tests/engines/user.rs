// SPDX-License-Identifier: MIT OR Apache-2.0
//! An ordinary user of a host with engines, for rootless ones: with a home, further numbers for its
//! containers, and the directory that a login would make.

use super::{Host, Ran, wait_until};

/// The user's name.
pub const NAME: &str = "alice";
/// The user's number.
pub const UID: u32 = 4500;

/// Where Debian's Docker has its script for users.
pub const ROOTLESS: &str = "/usr/share/docker.io/contrib/dockerd-rootless.sh";

impl Host {
    /// Makes the user known, in files that are mounted over the machine's own for this host alone.
    pub fn add_user(&self) {
        self.sh(&format!(
            "mkdir -p /run/etc /run/user/{UID}
            echo 'root:x:0:0::/root:/bin/sh
nobody:x:65534:65534::/nonexistent:/bin/sh
{NAME}:x:{UID}:{UID}::/home/{NAME}:/bin/sh' >/run/etc/passwd
            echo 'root:x:0:
{NAME}:x:{UID}:' >/run/etc/group
            echo {NAME}:20000:40000 | tee /run/etc/subuid >/run/etc/subgid
            for file in passwd group subuid subgid; do mount --bind /run/etc/$file /etc/$file; done
            mount -t tmpfs -o mode=755 home /home
            mkdir -p /home/{NAME}/.config/containers /home/{NAME}/.config/docker /home/{NAME}/bin
            cp /run/containers.conf /home/{NAME}/.config/containers/containers.conf
            sed -i '/^\\[engine\\]/r /dev/stdin' /home/{NAME}/.config/containers/containers.conf <<'end'
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
end
            printf '[storage]\\ndriver = \"vfs\"\\n' >/home/{NAME}/.config/containers/storage.conf
            echo '{{\"storage-driver\": \"vfs\", \"iptables\": false, \"bridge\": \"none\"}}' \
                >/home/{NAME}/.config/docker/daemon.json
            chown -R {UID}:{UID} /home/{NAME} /run/user/{UID}
            chmod 700 /home/{NAME} /run/user/{UID}",
        ));
    }

    /// Runs a shell script as the user.
    pub fn as_user(&self, script: &str) -> Ran {
        let id = UID.to_string();
        let set = |name: &str, value: String| format!("{name}={value}");
        self.run(
            "/usr/bin/setpriv",
            &[
                &["--reuid", &id, "--regid", &id, "--init-groups", "env", "--ignore-environment", "--chdir=/"][..],
                &[
                    &set("HOME", format!("/home/{NAME}")),
                    &set("USER", NAME.into()),
                    &set("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".into()),
                    &set("XDG_RUNTIME_DIR", format!("/run/user/{UID}")),
                    "/bin/sh",
                    "-ec",
                    script,
                ],
            ]
            .concat(),
        )
    }

    /// As [`Host::as_user`]; it has to succeed. Gives what it wrote.
    pub fn sh_as_user(&self, script: &str) -> String {
        let ran = self.as_user(script);
        assert_eq!(ran.code, 0, "{script}\n{}{}", ran.out, ran.err);
        ran.out
    }

    /// Starts the user's own dockerd, as Debian's script does, and waits until it answers. It shares the host's
    /// network, since for one of its own it would need /dev/net/tun.
    pub fn start_rootless_docker(&self) {
        self.sh_as_user(&format!(
            "TMPDIR=/var/tmp DOCKERD_ROOTLESS_ROOTLESSKIT_NET=host DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER=none \
             sh {ROOTLESS} --ip-forward=false >/home/{NAME}/dockerd.log 2>&1 &"
        ));
        let asks = format!("docker --host unix:///run/user/{UID}/docker.sock version");
        let up = wait_until(|| self.as_user(&asks).code == 0);
        assert!(up, "dockerd does not answer: {}", self.sh(&format!("cat /home/{NAME}/dockerd.log")));
    }
}
