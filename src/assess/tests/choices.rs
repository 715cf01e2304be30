// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which QEMU should run programs, state by state.

use super::emulator::{PACKAGES, file, image, installed, packages, reject, running, steps, unfit, wanted};
use super::findings::with;
use super::*;
use crate::config::Emulator;

/// A state, what should run programs in it, and whether anything is to be done.
type Choices = &'static [(&'static str, fn() -> Host, Result<&'static str, &'static str>, bool)];

const CHOICES: Choices = &[
    ("usual pages", || installed(4, |_| {}), Ok(QEMU_P), false),
    ("large pages, without the package", || with(|h| h.0.facts.page_size = 16384), Ok(QEMU_P), false),
    ("large pages", || installed(16, |_| {}), Ok(PACKAGES), true),
    ("larger ones", || installed(64, |_| {}), Ok(PACKAGES), true),
    ("large pages, and never", || installed(16, |h| h.0.config.emulator = Emulator::Never), Ok(QEMU_P), false),
    ("usual pages, and always", || installed(4, |h| h.0.config.emulator = Emulator::Always), Ok(PACKAGES), true),
    ("it runs already", || running(|_| {}), Ok(PACKAGES), false),
    (
        "the configuration names the distribution's",
        || installed(16, |h| h.0.config.interpreters = vec![(platform("amd64"), QEMU_P.into())]),
        Ok(QEMU_P),
        false,
    ),
    (
        "the configuration names the package's",
        || installed(4, |h| h.0.config.interpreters = vec![(platform("amd64"), PACKAGES.into())]),
        Ok(PACKAGES),
        true,
    ),
    ("others could change it", || unfit(|i| i.trust = Trust::Writable(suspicion(PACKAGES))), Ok(QEMU_P), false),
    ("it is somebody else's", || unfit(|i| i.trust = Trust::Owned(suspicion(PACKAGES))), Ok(QEMU_P), false),
    ("whose it is cannot be seen", || unfit(|i| i.trust = Trust::Unknown("hidden".into())), Ok(QEMU_P), false),
    (
        "it is a dynamic program",
        || unfit(|i| i.program.as_mut().unwrap().loader = Some("/l".into())),
        Ok(QEMU_P),
        false,
    ),
    (
        "it is for another host",
        || unfit(|i| i.program.as_mut().unwrap().runs_on = Some(platform("amd64"))),
        Ok(QEMU_P),
        false,
    ),
    ("a self-test failed", || installed(16, |h| reject(h, "6.12.1", file())), Ok(QEMU_P), false),
    (
        "a self-test failed, when the disk had another number",
        || installed(16, |h| reject(h, "6.12.1", FileIdentity { dev: 9, ..file() })),
        Ok(QEMU_P),
        false,
    ),
    ("one failed on another kernel", || installed(16, |h| reject(h, "6.6.1", file())), Ok(PACKAGES), true),
    (
        "one failed with a file that was in its place on the disk",
        || installed(16, |h| reject(h, "6.12.1", FileIdentity { ctime_ns: 3, ..file() })),
        Ok(PACKAGES),
        true,
    ),
    ("one failed with another file", || installed(16, |h| reject(h, "6.12.1", identity(20))), Ok(PACKAGES), true),
    ("one failed, and it runs", || running(|h| reject(h, "6.12.1", file())), Ok(QEMU_P), true),
    (
        "one failed, and it is preferred always",
        || {
            running(|h| {
                reject(h, "6.12.1", file());
                h.0.config.emulator = Emulator::Always;
            })
        },
        Ok(QEMU_P),
        true,
    ),
    (
        "one failed, and there is no other",
        || {
            running(|h| {
                reject(h, "6.12.1", file());
                h.uninstall(QEMU).uninstall(QEMU_P);
            })
        },
        Ok(PACKAGES),
        false,
    ),
    ("it runs, and never should", || running(|h| h.0.config.emulator = Emulator::Never), Ok(QEMU_P), true),
    ("it runs, and the pages are the usual ones", || running(|h| h.0.facts.page_size = 4096), Ok(QEMU_P), true),
    (
        "it runs, and is gone",
        || {
            running(|h| {
                h.uninstall(PACKAGES);
            })
        },
        Ok(QEMU_P),
        true,
    ),
    (
        "usual pages, and there is no other",
        || {
            let mut host = installed(4, |h| {
                h.uninstall(QEMU).uninstall(QEMU_P);
            });
            host.table().entries.clear();
            host
        },
        Ok(PACKAGES),
        true,
    ),
    (
        "never, and there is no other",
        || {
            installed(16, |h| {
                h.uninstall(QEMU).uninstall(QEMU_P);
                h.0.config.emulator = Emulator::Never;
            })
        },
        Err("no-qemu"),
        false,
    ),
    (
        "an administrator's file says otherwise",
        || {
            installed(16, |h| {
                h.etc(&rule("qemu-x86_64", QEMU, "OF").to_string());
            })
        },
        Ok(QEMU),
        false,
    ),
    (
        "an administrator's file of another name",
        || {
            installed(16, |h| {
                let text = rule("qemu-x86_64", QEMU, "OF").to_string();
                h.add(fragment("/etc/binfmt.d/zz-mine.conf", parse(&text)));
            })
        },
        Ok(QEMU_P),
        false,
    ),
    (
        "somebody's file in /run",
        || {
            installed(16, |h| {
                let text = rule("qemu-x86_64", QEMU, "OF").to_string();
                h.0.fragments.clear();
                h.add(fragment("/run/binfmt.d/qemu-x86_64.conf", parse(&text)));
            })
        },
        Ok(QEMU),
        false,
    ),
    (
        "an administrator's mask",
        || {
            installed(16, |h| {
                h.etc("");
                h.0.fragments[0].masked = true;
            })
        },
        Ok(QEMU_P),
        false,
    ),
    (
        "somebody else's handler",
        || {
            installed(16, |h| {
                h.0.fragments.clear();
                h.install("/opt/qemu-x86_64").replace(&rule("theirs", "/opt/qemu-x86_64", "OF"));
                h.add(fragment("/usr/lib/binfmt.d/theirs.conf", parse("")));
            })
        },
        Ok(PACKAGES),
        true,
    ),
    ("a chroot", || installed(16, |h| h.0.facts.confinement = Confinement::Chroot), Ok(QEMU_P), false),
    ("an image", || image(|_| {}), Ok(QEMU_P), false),
    ("an image, and always", || image(|h| h.0.config.emulator = Emulator::Always), Ok(PACKAGES), true),
    (
        "an image of a system on which it was chosen",
        || {
            image(|h| {
                h.ours(&packages());
            })
        },
        Ok(PACKAGES),
        false,
    ),
    (
        "an image of one on which it was chosen, and is gone",
        || {
            image(|h| {
                h.ours(&packages()).uninstall(PACKAGES);
            })
        },
        Ok(QEMU_P),
        true,
    ),
];

#[test]
fn each_state_has_its_interpreter() {
    for (state, make, expected, changes) in CHOICES {
        let host = make();
        assert_eq!(wanted(&host).map(|(path, _)| path), expected.map(str::to_owned), "{state}");
        let steps = steps(&host);
        assert_eq!(!steps.is_empty(), *changes, "{state}: {steps:#?}");
    }
}
