// SPDX-License-Identifier: MIT OR Apache-2.0
//! When QEMU of qemu-persist-emulator runs a target, when the distribution's does, and what is said of it.

use super::findings::{Row, UNPROVEN, with};
use super::plans::Model;
use super::*;
use crate::assess::look::boot_table;
use crate::assess::plan::desired;
use crate::binfmt::rule::Flags;
use crate::config::Emulator;
use crate::finding::Severity::{self, Note, Warning};
use crate::parts;
use crate::record::Rejection;

/// The package's QEMU for amd64.
pub(super) const PACKAGES: &str = "/usr/libexec/qemu-persist/qemu-x86_64";

/// The file of the package's.
pub(super) fn file() -> FileIdentity {
    identity(21)
}

/// Installs the package's QEMU.
pub(super) fn add(host: &mut Host) {
    let there = Interpreter { identity: file(), ..interpreter(PACKAGES) };
    host.0.interpreters.insert(PACKAGES.into(), Ok(there));
}

fn remove(host: &mut Host) {
    host.uninstall(PACKAGES);
}

/// Notes that a self-test with it failed.
pub(super) fn reject(host: &mut Host, kernel_release: &str, interpreter: FileIdentity) {
    let reason = "pages.fragment: mmap of a page EFAULT: Bad address".to_owned();
    let rejected = Rejection { kernel_release: kernel_release.to_owned(), interpreter, reason };
    host.0.proofs.entry("linux/amd64".into()).or_insert_with(proof).rejected = Some(rejected);
}

/// A host with the package installed, and pages of so many KiB.
pub(super) fn installed(pages: u64, change: impl FnOnce(&mut Host)) -> Host {
    with(|host| {
        host.0.facts.page_size = pages * 1024;
        add(host);
        change(host);
    })
}

pub(super) fn packages() -> Rule {
    rule("qemu-x86_64", PACKAGES, "POF")
}

/// A host on which it runs programs already, by a handler and a fragment of ours.
pub(super) fn running(change: impl FnOnce(&mut Host)) -> Host {
    installed(16, |host| {
        host.replace(&packages()).record(&packages(), 7, 21, None).ours(&packages());
        let ran = Proof { entry: packages().to_string(), interpreter: Some(file()), ..proof() };
        host.0.proofs.insert("linux/amd64".into(), ran);
        change(host);
    })
}

/// What runs the target: the interpreter of the rule that it should have.
pub(super) fn wanted(host: &Host) -> Result<(String, Flags), &'static str> {
    let assessment = host.assess();
    match desired(&host.0, &assessment.looks[0]) {
        Ok(rule) => Ok((rule.interpreter.display().to_string(), rule.flags)),
        Err(unmet) => Err(unmet.id),
    }
}

pub(super) fn steps(host: &Host) -> Vec<(&'static str, String)> {
    host.assess().plan.steps.into_iter().map(|step| (step.action.name(), step.why)).collect()
}

pub(super) fn unfit(change: impl Fn(&mut Interpreter)) -> Host {
    installed(16, |host| change(host.0.interpreters.get_mut(Path::new(PACKAGES)).unwrap().as_mut().unwrap()))
}

pub(super) fn image(change: impl FnOnce(&mut Host)) -> Host {
    let mut host = Host::image();
    host.0.facts.page_size = 0;
    add(&mut host);
    change(&mut host);
    host
}

#[test]
fn other_platforms_and_hosts_are_served_alike() {
    for (own, foreign, qemu) in [("arm64", "386", "i386"), ("amd64", "arm64", "aarch64")] {
        let [theirs, packages] =
            ["/usr/bin/qemu-{}", "/usr/libexec/qemu-persist/qemu-{}"].map(|p| p.replace("{}", qemu));
        let mut host = Host::empty();
        host.0.fragments.clear();
        host.0.facts.native = vec![platform(own)];
        host.0.targets = vec![target(foreign)];
        for path in [&theirs, &packages] {
            host.install(path);
            let there = host.0.interpreters.get_mut(Path::new(path)).unwrap().as_mut().unwrap();
            there.program.as_mut().unwrap().runs_on = Some(platform(own));
        }
        let runs = |host: &Host| wanted(host).unwrap().0;
        assert_eq!(runs(&host), theirs);
        host.0.facts.page_size = 16384;
        assert_eq!(runs(&host), packages);
        host.0.facts.page_size = 4096;
        host.0.config.emulator = Emulator::Always;
        assert_eq!(runs(&host), packages);
    }
}

#[test]
fn programs_are_told_their_own_names_where_the_kernel_says_so() {
    for (release, flags) in [("6.12.1", "POF"), ("5.12.0-1", "POF"), ("5.10.0-28", "OF"), ("", "POF")] {
        let host = installed(16, |host| release.clone_into(&mut host.0.facts.kernel_release));
        assert_eq!(wanted(&host).unwrap().1.to_string(), flags, "{release}");
    }
}

#[test]
fn each_step_says_why() {
    let why = |host: &Host| steps(host).into_iter().map(|(_, why)| why).collect::<std::collections::BTreeSet<_>>();
    let only = |text: &str| std::iter::once(text.to_owned()).collect();
    let pages = "pages of 16 KiB need qemu-persist-emulator's QEMU, which is installed";
    assert_eq!(why(&installed(16, |_| {})), only(pages));
    let always = "the configuration prefers qemu-persist-emulator's QEMU, which is installed";
    assert_eq!(why(&installed(4, |h| h.0.config.emulator = Emulator::Always)), only(always));
    let failed = "a self-test with qemu-persist-emulator's QEMU failed on this kernel (pages.fragment: mmap of a page \
                  EFAULT: Bad address)";
    assert_eq!(why(&running(|h| reject(h, "6.12.1", file()))), only(failed));
    let usual = "pages of 4 KiB do not need qemu-persist-emulator's QEMU";
    assert_eq!(why(&running(|h| h.0.facts.page_size = 4096)), only(usual));
    let never = "the configuration does not want qemu-persist-emulator's QEMU";
    assert_eq!(why(&running(|h| h.0.config.emulator = Emulator::Never)), only(never));
}

/// What the host would be after a reboot: what files register, and nothing of this boot.
fn reboot(host: &mut Host) {
    host.0.registrations.entries.clear();
    let mut table = boot_table(&host.0);
    for (inode, entry) in (500..).zip(&mut table) {
        entry.inode = inode;
    }
    host.table().entries = table;
}

/// The interpreter that runs programs now, the one that will after a boot, and whether a fragment of ours is there.
fn runs(host: &Host) -> (String, String, bool) {
    let assessment = host.assess();
    let look = &assessment.looks[0];
    let path = |standing: &Option<super::super::look::Standing>| {
        standing.as_ref().map_or_else(String::new, |s| s.entry.interpreter.display().to_string())
    };
    (path(&look.winner), path(&look.boot), host.0.fragments.iter().any(|fragment| fragment.content.ours))
}

/// It is installed, and used; then it is not to be used any more, whatever the reason, and at last again. After each
/// of them one plan does all, without a moment in which programs do not start, whether or not there was a boot.
#[test]
fn it_comes_and_goes_and_comes_back() {
    type Change = fn(&mut Host);
    let ways: [(&str, Change, Change); 4] = [
        ("rejected", |h| reject(h, "6.12.1", file()), |h| h.0.facts.kernel_release = "6.12.2".into()),
        ("removed", remove, add),
        ("never", |h| h.0.config.emulator = Emulator::Never, |h| h.0.config.emulator = Emulator::Auto),
        ("usual pages", |h| h.0.facts.page_size = 4096, |h| h.0.facts.page_size = 16384),
    ];
    for (way, away, back) in ways {
        for (has_fragment, boots) in [(true, false), (true, true), (false, false), (false, true)] {
            let story = format!("{way}, the distribution's fragment {has_fragment}, boots {boots}");
            let theirs = if has_fragment { QEMU_P } else { QEMU };
            let mut model = Model::new(installed(16, |host| {
                if !has_fragment {
                    host.0.fragments.clear();
                    host.uninstall(QEMU_P).replace(&rule("qemu-x86_64", QEMU, "OF"));
                }
            }));
            let first = runs(&model.host).0;
            assert_eq!(first, theirs, "{story}");
            for (change, expected) in
                [((|_| {}) as Change, (PACKAGES, true)), (away, (theirs, !has_fragment)), (back, (PACKAGES, true))]
            {
                change(&mut model.host);
                if boots {
                    reboot(&mut model.host);
                }
                // Where a fragment names a file that is gone, nothing of it is registered at boot.
                let gone = model.host.0.interpreters[Path::new(PACKAGES)].is_err();
                if boots && gone {
                    model.host.table().entries.retain(|entry| entry.interpreter != Path::new(PACKAGES));
                }
                // Without a fragment of others a handler of somebody else's is not displaced.
                if has_fragment || expected.0 != PACKAGES {
                    model.apply(&Wish::default()).unwrap();
                } else {
                    model.apply(&Wish { take_over: true, ..Wish::default() }).unwrap();
                }
                let (path, ours) = expected;
                assert_eq!(runs(&model.host), (path.to_owned(), path.to_owned(), ours), "{story}: {:?}", model.host);
                assert_eq!(steps(&model.host), [], "{story}");
            }
        }
    }
}

#[test]
fn a_handler_of_somebody_else_stays_unless_asked() {
    let theirs = rule("qemu-x86_64", "/opt/qemu-x86_64", "OF");
    let host = installed(16, |h| {
        h.install("/opt/qemu-x86_64").replace(&theirs).vendors("POF");
    });
    let registers = |wish: &Wish| assess(&host.0, wish).plan.steps.iter().any(|s| s.action.name() == "register");
    assert!(!registers(&Wish::default()) && registers(&Wish { take_over: true, ..Wish::default() }));
    let box64 = installed(16, |h| {
        h.install("/usr/bin/box64").replace(&rule("box64", "/usr/bin/box64", ""));
    });
    assert_eq!(box64.assess().plan.unmet[0].id, "other-translator");
    assert!(!box64.ids().contains(&"emulator-unused"));
}

/// Hosts with large pages, and the first of the two ways out that are told there.
const WAYS: &[(&str, fn() -> Host, &str)] = &[
    (
        "not installed",
        || with(|h| h.0.facts.page_size = 16384),
        "Install the package qemu-persist-emulator, whose QEMU can do it, then `sudo qemu-persist apply`",
    ),
    ("installed", || installed(16, |_| {}), "Let qemu-persist-emulator's QEMU run them: `sudo qemu-persist apply`"),
    (
        "somebody else's handler runs programs",
        || {
            installed(16, |h| {
                h.install("/opt/qemu-x86_64").replace(&rule("qemu-x86_64", "/opt/qemu-x86_64", "OF"));
            })
        },
        "Let qemu-persist-emulator's QEMU run them: `sudo qemu-persist apply --take-over`",
    ),
    (
        "nothing runs programs",
        || installed(16, |h| h.table().entries.clear()),
        "Let qemu-persist-emulator's QEMU run them: `sudo qemu-persist apply`",
    ),
    (
        "never",
        || installed(16, |h| h.0.config.emulator = Emulator::Never),
        "Take `emulator = \"never\"` out of the configuration, then `sudo qemu-persist apply`",
    ),
    (
        "the configuration names another",
        || {
            installed(16, |h| {
                h.0.config.interpreters.push((platform("amd64"), QEMU.into()));
            })
        },
        "Have `[interpreters]` of the configuration name /usr/libexec/qemu-persist/qemu-x86_64 of the package \
         qemu-persist-emulator",
    ),
    (
        "an administrator's file names another",
        || {
            installed(16, |h| {
                h.add(fragment("/etc/binfmt.d/zz-own.conf", parse(&rule("own", QEMU, "OF").to_string())));
            })
        },
        "Have /etc/binfmt.d/zz-own.conf name /usr/libexec/qemu-persist/qemu-x86_64 of the package qemu-persist-emulator",
    ),
    (
        "others could change it",
        || unfit(|i| i.trust = Trust::Writable(suspicion(PACKAGES))),
        "Let qemu-persist-emulator's QEMU run them, which is not fit for it (/usr/libexec/qemu-persist/qemu-x86_64 is not \
         safe: whoever changes it runs inside everybody's containers). Take that away: `sudo chmod go-w \
         /usr/libexec/qemu-persist/qemu-x86_64`, then `sudo qemu-persist apply`",
    ),
    ("in use", || running(|_| {}), "Install a newer qemu-persist-emulator, if there is one"),
    (
        "rejected",
        || installed(16, |h| reject(h, "6.12.1", file())),
        "Install a newer qemu-persist-emulator, if there is one",
    ),
];

#[test]
fn both_ways_out_of_large_pages_are_told() {
    let advice = |host: &Host, part: &str| {
        let assessment = host.assess();
        parts::Part::named(part).unwrap().cure(&host.0, Some(&assessment.looks[0]))
    };
    let kernel = "oot a kernel with pages of 4 KiB: on a Raspberry Pi the line `kernel=kernel8.img`";
    for (state, host, way) in WAYS {
        let host = host();
        let said = advice(&host, FRAGMENT);
        assert!(said.starts_with(&format!("{way}; or b{kernel}")), "{state}: {said}");
        // With that no QEMU copes.
        for part in ["pages.guard", "pages.wx", "pages.shared"] {
            assert!(advice(&host, part).starts_with(&format!("B{kernel}")), "{state}: {}", advice(&host, part));
        }
    }
    // Of what is no target nothing is known, but what is to be installed.
    let without = with(|h| h.0.facts.page_size = 16384);
    assert!(parts::small_pages(&without.0, None).starts_with("Install the package"));
    assert_eq!(advice(&installed(4, |_| {}), FRAGMENT), advice(&installed(4, |_| {}), "pages.guard"));
    // There is none for this one.
    let other = with(|h| {
        h.0.facts.page_size = 65536;
        h.0.facts.native = vec![platform("ppc64le")];
    });
    assert!(advice(&other, FRAGMENT).starts_with("Boot a kernel"));
    // It is no finding that asks for another kernel where it works.
    assert!(running(|_| {}).assess().findings.iter().all(|finding| finding.advice.is_empty()));
}

#[test]
fn that_it_helps_is_not_said_before_it_was_seen() {
    let told = |host: &Host| {
        let assessment = host.assess();
        let used = assessment.findings.iter().find(|finding| finding.id == "emulator-used").unwrap();
        (used.message.contains("whether that helps could not be found out"), used.advice.clone())
    };
    assert_eq!(told(&running(|_| {})), (false, String::new()));
    let unknown = running(|h| h.0.proofs.get_mut("linux/amd64").unwrap().results[0].working.clear());
    assert_eq!(told(&unknown), (true, "Find out: `sudo qemu-persist selftest`.".to_owned()));
    // Before any self-test that is what is said.
    let unproven = running(|h| h.0.proofs.clear());
    assert_eq!(told(&unproven), (false, String::new()));
}

const USED: (&str, Severity) = ("emulator-used", Note);

/// The states in which it is told of, and all that is found in them.
pub(super) const EMULATOR_ROWS: &[Row] = &[
    ("it is preferred, and not used yet", || installed(16, |_| {}), &[("emulator-unused", Warning)]),
    ("it is used", || running(|_| {}), &[USED]),
    (
        "it is used, and does not help, and there is no other",
        || {
            running(|h| {
                h.uninstall(QEMU).uninstall(QEMU_P).break_part("pages.fragment");
                reject(h, "6.12.1", file());
            })
        },
        &[("pages-fragment", Warning)],
    ),
    (
        "it does not help, and is to go",
        || {
            running(|h| {
                h.break_part("pages.fragment");
                reject(h, "6.12.1", file());
            })
        },
        &[("pages-fragment", Warning), ("emulator-rejected", Warning)],
    ),
    ("it was rejected", || installed(16, |h| reject(h, "6.12.1", file())), &[("emulator-rejected", Warning)]),
    (
        "it was rejected, and never is preferred",
        || {
            installed(16, |h| {
                reject(h, "6.12.1", file());
                h.0.config.emulator = Emulator::Never;
            })
        },
        &[],
    ),
    (
        "others could change it",
        || unfit(|i| i.trust = Trust::Writable(suspicion(PACKAGES))),
        &[("emulator-unused", Warning)],
    ),
    (
        "somebody else's handler runs programs",
        || {
            installed(16, |h| {
                h.install("/opt/qemu-x86_64").replace(&rule("qemu-x86_64", "/opt/qemu-x86_64", "OF"));
                h.ours(&packages());
            })
        },
        &[UNPROVEN, ("emulator-unused", Warning)],
    ),
    (
        "it is gone, and the kernel still holds it",
        || {
            running(|h| {
                h.uninstall(PACKAGES);
            })
        },
        &[("interpreter-deleted", Warning), ("not-persistent", Warning)],
    ),
];
