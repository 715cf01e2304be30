// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every finding, made by a state that has it.

use std::collections::BTreeSet;

use super::emulator::EMULATOR_ROWS;
use super::service::{PENDING_ROWS, SERVICE_ROWS};
use super::*;
use crate::assess::checks::{HOST_CHECKS, SERVICE_CHECKS, TARGET_CHECKS};
use crate::binfmt::entry::Recognises;
use crate::binfmt::rule::Pattern;
use crate::config::CustomHandler;
use crate::finding::Severity::{self, Critical, Note, Unknown, Warning};
use crate::service::Installed;

/// What makes a state, and all that is found in it.
pub(super) type Row = (&'static str, fn() -> Host, &'static [(&'static str, Severity)]);

pub(super) fn with(change: impl FnOnce(&mut Host)) -> Host {
    let mut host = Host::healthy();
    change(&mut host);
    host
}

fn image_with(change: impl FnOnce(&mut Host)) -> Host {
    let mut host = Host::image();
    change(&mut host);
    host
}

fn unmounted(support: KernelSupport) -> Host {
    with(|h| {
        h.0.kernel = Kernel::NotMounted;
        h.0.facts.kernel_support = support;
    })
}

/// A rule for a program at a fixed address only (`ET_EXEC`) or for a position-independent one.
fn half(name: &str, interpreter: &str, e_type: u8) -> Rule {
    let mut rule = rule(name, interpreter, "F");
    rule.pattern.magic[16] = e_type;
    rule.pattern.mask[16] = 0xff;
    rule
}

pub(super) const UNPROVEN: (&str, Severity) = ("unproven", Warning);
const GONE_AT_BOOT: (&str, Severity) = ("not-persistent", Warning);

const HOST_ROWS: &[Row] = &[
    (
        "a handler for the kernel's own programs",
        || {
            with(|h| {
                h.entry(&rule_for("arm64", "oops", QEMU, "F"), 8);
            })
        },
        &[("native-captured", Critical)],
    ),
    (
        "a handler for the userland's programs",
        || {
            with(|h| {
                h.0.facts.userland = Some(platform("arm"));
                h.entry(&rule_for("arm", "qemu-arm", QEMU, "F"), 8);
            })
        },
        &[("native-captured", Critical), ("userland-mismatch", Warning)],
    ),
    (
        "a handler for 32-bit programs",
        || {
            with(|h| {
                h.entry(&rule_for("arm", "qemu-arm", QEMU, "F"), 8);
            })
        },
        &[("native-captured", Warning)],
    ),
    (
        "one that is disabled",
        || {
            with(|h| {
                h.entry(&rule_for("arm64", "oops", QEMU, "F"), 8).enabled = false;
            })
        },
        &[],
    ),
    (
        "a fragment for the kernel's own programs",
        || {
            with(|h| {
                let text = rule_for("arm64", "oops", QEMU, "F").to_string();
                h.add(fragment("/etc/binfmt.d/oops.conf", parse(&text)));
            })
        },
        &[("fragment-captures-native", Critical)],
    ),
    (
        "a broken configuration",
        || with(|h| h.0.config_error = Some("config.toml:1:1: no".into())),
        &[("config-invalid", Critical)],
    ),
    (
        "removed",
        || {
            with(|h| {
                h.0.removed = true;
                h.0.targets.clear();
            })
        },
        &[("removed", Note)],
    ),
    ("nothing wanted", || with(|h| h.0.targets.clear()), &[("nothing-wanted", Note)]),
    (
        "the host's own platform wanted",
        || with(|h| h.0.config.platforms = Some(vec![platform("arm64")])),
        &[("refused-native", Warning)],
    ),
    ("a Pi Zero", || with(|h| h.0.facts.machine = "armv6l".into()), &[("unsupported-host", Critical)]),
    (
        "Debian 13 for armhf",
        || {
            with(|h| {
                h.0.facts.machine = "armv7l".into();
                h.0.facts.userland = Some(platform("arm"));
                h.0.facts.distribution.version_id = "13".into();
            })
        },
        &[("unsupported-host", Critical)],
    ),
    (
        "Debian 12 for armhf",
        || {
            with(|h| {
                h.0.facts.machine = "armv7l".into();
                h.0.facts.userland = Some(platform("arm"));
            })
        },
        &[],
    ),
    ("a 32-bit userland", || with(|h| h.0.facts.userland = Some(platform("arm"))), &[("userland-mismatch", Warning)]),
    (
        "a machine that nobody knows",
        || with(|h| h.0.facts.native.clear()),
        &[("unknown-architecture", Unknown), ("interpreter-wrong-machine", Critical), GONE_AT_BOOT],
    ),
    ("a chroot", || with(|h| h.0.facts.confinement = Confinement::Chroot), &[("confined", Warning)]),
    (
        "a container",
        || with(|h| h.0.facts.confinement = Confinement::Container("docker".into())),
        &[("confined", Warning)],
    ),
    (
        "a rootless container",
        || {
            with(|h| {
                h.0.facts.confinement = Confinement::Container("podman".into());
                h.0.facts.user_namespace = true;
            })
        },
        &[("confined", Note), ("private-table", Note)],
    ),
    ("modules gone", || unmounted(KernelSupport::RebootPending), &[("reboot-pending", Critical)]),
    ("no binfmt_misc", || unmounted(KernelSupport::Missing), &[("binfmt-missing", Critical)]),
    ("not mounted", || unmounted(KernelSupport::Present), &[("not-mounted", Critical)]),
    ("not loaded", || unmounted(KernelSupport::Loadable), &[("not-mounted", Critical)]),
    ("who knows", || unmounted(KernelSupport::Unknown), &[("not-mounted", Critical)]),
    (
        "not mounted in a namespace",
        || {
            let mut host = unmounted(KernelSupport::Present);
            host.0.facts.user_namespace = true;
            host
        },
        &[("masked-namespace", Unknown)],
    ),
    (
        "a read-only /proc/sys",
        || {
            let mut host = with(|h| h.0.facts.proc_sys_read_only = true);
            host.0.kernel = Kernel::NotMounted;
            host
        },
        &[("proc-read-only", Unknown)],
    ),
    ("unreadable", || with(|h| h.0.kernel = Kernel::Unreadable("denied".into())), &[("table-unreadable", Unknown)]),
    (
        "an entry that cannot be understood",
        || with(|h| h.table().unreadable.push(("odd".into(), "it has no magic".into()))),
        &[("entry-unreadable", Unknown)],
    ),
    (
        "a directory of fragments that cannot be read",
        || {
            with(|h| {
                h.0.fragments.clear();
                h.0.fragment_errors.push("/etc/binfmt.d: Permission denied".into());
            })
        },
        &[("fragments-unreadable", Unknown)],
    ),
    ("a namespace's own table", || with(|h| h.0.facts.user_namespace = true), &[("private-table", Note)]),
    ("read-only", || with(|h| h.table().read_only = true), &[("read-only", Warning)]),
    ("turned off", || with(|h| h.table().enabled = false), &[("globally-off", Critical)]),
    ("an overlay, with what is needed below it", || with(|h| h.0.facts.etc = EtcPersistence::Overlay), &[]),
    (
        "an overlay, with our fragment on it",
        || {
            with(|h| {
                h.0.facts.etc = EtcPersistence::Overlay;
                h.vendors("OCPF").ours(&rule("qemu-x86_64", QEMU_P, "POF"));
            })
        },
        &[("etc-volatile", Warning)],
    ),
    (
        "an overlay, with our fragment on it and below it",
        || {
            with(|h| {
                h.0.facts.etc = EtcPersistence::Overlay;
                h.vendors("OCPF").ours(&rule("qemu-x86_64", QEMU_P, "POF"));
                h.0.fragments.iter_mut().for_each(|fragment| fragment.below = true);
            })
        },
        &[],
    ),
    (
        "/etc in memory",
        || {
            with(|h| {
                h.0.facts.etc = EtcPersistence::Tmpfs;
                h.0.fragments.clear();
            })
        },
        &[("etc-volatile", Warning), GONE_AT_BOOT],
    ),
    ("no systemd", || with(|h| h.0.facts.systemd = false), &[("no-systemd", Warning)]),
];

const TARGET_ROWS: &[Row] = &[
    ("healthy", Host::healthy, &[]),
    ("nothing registered", Host::empty, &[("not-registered", Critical)]),
    (
        "only position-independent programs",
        || {
            with(|h| {
                h.replace(&half("qemu-x86_64", QEMU, 3));
            })
        },
        &[("not-registered", Critical)],
    ),
    (
        "two halves, both good",
        || {
            with(|h| {
                h.replace(&half("one", QEMU, 2)).entry(&half("two", QEMU, 3), 9);
            })
        },
        &[UNPROVEN],
    ),
    (
        "two halves, one of them no good",
        || {
            with(|h| {
                add_bad_interpreters(h);
                h.replace(&half("one", QEMU, 2)).entry(&half("two", "/opt/dynamic", 3), 9);
            })
        },
        &[("interpreter-dynamic", Critical)],
    ),
    (
        "half of it shadowed",
        || {
            with(|h| {
                h.entry(&half("newer", QEMU_P, 3), 9);
            })
        },
        &[("shadowed", Critical), ("wrong-flags", Critical)],
    ),
    ("disabled", || with(|h| h.table().entries[0].enabled = false), &[("disabled", Critical)]),
    (
        "disabled in the database",
        || {
            let mut host = Host::empty();
            host.0.database = vec![rule("qemu-x86_64", QEMU_P, "PF")];
            host
        },
        &[("binfmt-support-disabled", Critical)],
    ),
    (
        "shadowed",
        || {
            with(|h| {
                h.entry(&rule("newer", QEMU, "O"), 9);
            })
        },
        &[("shadowed", Critical), ("no-fix-binary", Critical)],
    ),
    (
        "box64",
        || {
            with(|h| {
                add_bad_interpreters(h);
                h.replace(&rule("box64", "/usr/bin/box64", ""));
            })
        },
        &[("other-translator", Critical)],
    ),
    (
        "FEX",
        || {
            with(|h| {
                h.install("/usr/bin/FEXInterpreter").replace(&rule("FEX-x86_64", "/usr/bin/FEXInterpreter", "POCF"));
            })
        },
        &[("other-translator", Warning)],
    ),
    (
        "no F",
        || {
            with(|h| {
                h.replace(&rule("qemu-x86_64", QEMU, "O"));
            })
        },
        &[("no-fix-binary", Critical)],
    ),
    (
        "no F and no interpreter",
        || {
            with(|h| {
                add_bad_interpreters(h);
                h.replace(&rule("qemu-x86_64", "/opt/gone", "O"));
            })
        },
        &[("no-fix-binary", Critical), ("interpreter-missing", Critical)],
    ),
    (
        "deleted",
        || {
            with(|h| {
                add_bad_interpreters(h);
                h.replace(&rule("qemu-x86_64", "/opt/gone", "OF"));
            })
        },
        &[("interpreter-deleted", Warning)],
    ),
    (
        "stale, by the record",
        || {
            with(|h| {
                h.record(&rule("qemu-x86_64", QEMU_P, "POF"), 7, 10, None);
            })
        },
        &[("interpreter-stale", Warning)],
    ),
    (
        "stale, by what was seen",
        || {
            with(|h| {
                h.0.proofs.get_mut("linux/amd64").unwrap().interpreter = Some(identity(10));
            })
        },
        &[("interpreter-stale", Warning)],
    ),
    (
        "stale, by what was on disk when it was first seen",
        || {
            with(|h| {
                h.0.proofs.clear();
                let seen = crate::record::Seen { inode: 7, interpreter: identity(10) };
                h.0.registrations.seen.insert("qemu-x86_64".to_owned(), seen);
            })
        },
        &[("interpreter-stale", Warning)],
    ),
    (
        "dynamic",
        || {
            with(|h| {
                add_bad_interpreters(h);
                h.replace(&rule("qemu-x86_64", "/opt/dynamic", "OF"));
            })
        },
        &[("interpreter-dynamic", Critical)],
    ),
    (
        "for another host",
        || {
            with(|h| {
                add_bad_interpreters(h);
                h.replace(&rule("qemu-x86_64", "/opt/foreign", "OF"));
            })
        },
        &[("interpreter-wrong-machine", Critical)],
    ),
    (
        "for the 32-bit half of the family, which this host runs",
        || {
            with(|h| {
                h.qemu(|i| i.program = Some(Program { runs_on: Some(platform("arm")), loader: None }));
            })
        },
        &[],
    ),
    (
        "for the 32-bit half of the family, which this host does not run",
        || {
            with(|h| {
                h.0.facts.native.retain(|own| own.oci == "arm64");
                h.qemu(|i| i.program = Some(Program { runs_on: Some(platform("arm")), loader: None }));
            })
        },
        &[("interpreter-wrong-machine", Critical), GONE_AT_BOOT],
    ),
    (
        "for another platform",
        || {
            with(|h| {
                h.install("/usr/bin/qemu-arm-static").replace(&rule("qemu-x86_64", "/usr/bin/qemu-arm-static", "OF"));
            })
        },
        &[("interpreter-wrong-machine", Critical)],
    ),
    (
        "no program",
        || {
            with(|h| {
                h.qemu(|i| i.program = None);
            })
        },
        &[("interpreter-wrong-machine", Critical), GONE_AT_BOOT],
    ),
    (
        "not executable",
        || {
            with(|h| {
                h.qemu(|i| i.executable = false);
            })
        },
        &[("interpreter-wrong-machine", Critical), GONE_AT_BOOT],
    ),
    (
        "writable",
        || {
            with(|h| {
                h.qemu(|i| i.trust = Trust::Writable(suspicion(QEMU)));
            })
        },
        &[("interpreter-writable", Critical), GONE_AT_BOOT],
    ),
    (
        "another's",
        || {
            with(|h| {
                h.qemu(|i| i.trust = Trust::Owned(suspicion(QEMU)));
            })
        },
        &[("interpreter-owner", Critical), GONE_AT_BOOT],
    ),
    (
        "whose, cannot be seen",
        || {
            with(|h| {
                h.qemu(|i| i.trust = Trust::Unknown("hidden".into()));
            })
        },
        &[("interpreter-unverified", Unknown)],
    ),
    (
        "that this user may not read",
        || {
            with(|h| {
                let unreadable = || Err(crate::qemu::UNREADABLE.to_owned());
                h.0.interpreters.insert(QEMU.into(), unreadable());
                h.0.interpreters.insert(QEMU_P.into(), unreadable());
            })
        },
        &[("interpreter-unverified", Unknown), UNPROVEN],
    ),
    (
        "no P",
        || {
            with(|h| {
                h.replace(&rule("qemu-x86_64", QEMU_P, "OF"));
            })
        },
        &[("wrong-flags", Critical)],
    ),
    (
        "an interpreter that the configuration does not name",
        || {
            with(|h| {
                h.install("/opt/qemu")
                    .0
                    .interpreters
                    .get_mut(Path::new("/opt/qemu"))
                    .unwrap()
                    .as_mut()
                    .unwrap()
                    .identity
                    .ino = 12;
                h.0.config.interpreters.push((platform("amd64"), "/opt/qemu".into()));
            })
        },
        &[("other-interpreter", Warning)],
    ),
    (
        "the same file by another name",
        || {
            with(|h| {
                h.install("/opt/qemu").0.config.interpreters.push((platform("amd64"), "/opt/qemu".into()));
            })
        },
        &[],
    ),
    (
        "C",
        || {
            with(|h| {
                h.replace(&rule("qemu-x86_64", QEMU_P, "POCF")).0.proofs.clear();
            })
        },
        &[("credentials-flag", Warning), UNPROVEN],
    ),
    (
        "C, asked for",
        || {
            with(|h| {
                h.replace(&rule("qemu-x86_64", QEMU_P, "POCF")).0.config.credentials = true;
                h.0.proofs.clear();
            })
        },
        &[UNPROVEN],
    ),
    (
        "the name is another's",
        || {
            let mut host = Host::empty();
            host.entry(&rule_for("riscv64", "qemu-x86_64", QEMU, "F"), 9);
            host
        },
        &[("not-registered", Critical), ("name-taken", Warning)],
    ),
    (
        "two of them",
        || {
            with(|h| {
                h.table().entries.clear();
                h.entry(&rule("older", QEMU, "F"), 6);
                h.entry(&rule("qemu-x86_64", QEMU_P, "POF"), 7);
            })
        },
        &[("duplicate", Note)],
    ),
    (
        "no QEMU",
        || {
            let mut host = Host::empty();
            host.uninstall(QEMU).uninstall(QEMU_P);
            host
        },
        &[("not-registered", Critical), ("no-qemu", Critical), GONE_AT_BOOT],
    ),
    (
        "only a dynamic QEMU",
        || {
            let mut host = Host::empty();
            host.qemu(|i| i.program.as_mut().unwrap().loader = Some("/lib/ld.so".into()));
            host
        },
        &[("not-registered", Critical), ("interpreter-dynamic", Critical), GONE_AT_BOOT],
    ),
    (
        "masked",
        || {
            with(|h| {
                h.etc("").0.fragments[0].masked = true;
            })
        },
        &[("fragment-masked", Warning)],
    ),
    (
        "commented out",
        || {
            with(|h| {
                h.etc("# nothing\n");
            })
        },
        &[("fragment-empty", Warning)],
    ),
    (
        "broken",
        || {
            with(|h| {
                h.etc("nonsense\n");
            })
        },
        &[("fragment-broken", Warning)],
    ),
    (
        "unreadable fragment",
        || {
            with(|h| {
                h.etc("").0.fragments[0].unreadable = Some("denied".into());
            })
        },
        &[("fragment-broken", Warning)],
    ),
    (
        "the administrator's, good",
        || {
            with(|h| {
                h.etc(&rule("qemu-x86_64", QEMU, "F").to_string());
            })
        },
        &[("fragment-administrator", Note)],
    ),
    (
        "the administrator's, no good",
        || {
            with(|h| {
                h.etc(&rule("qemu-x86_64", QEMU, "O").to_string());
            })
        },
        &[("fragment-administrator", Warning)],
    ),
    ("nothing at boot", || with(|h| h.0.fragments.clear()), &[GONE_AT_BOOT]),
    (
        "another at boot",
        || {
            with(|h| {
                let text = rule("zz", QEMU, "O").to_string();
                h.add(fragment("/usr/lib/binfmt.d/zz.conf", parse(&text)));
            })
        },
        &[GONE_AT_BOOT],
    ),
    ("never proven", || with(|h| h.0.proofs.clear()), &[UNPROVEN]),
    (
        "proven too long ago",
        || {
            with(|h| {
                h.0.boot_seconds = NOW + 9 * 86400;
            })
        },
        &[("proof-expired", Warning)],
    ),
    (
        "failed",
        || {
            with(|h| {
                h.0.proofs.get_mut("linux/amd64").unwrap().results = vec![result("docker", false)];
            })
        },
        &[("proof-failed", Critical)],
    ),
    (
        "failed in one of two",
        || {
            with(|h| {
                h.0.proofs.get_mut("linux/amd64").unwrap().results.push(result("docker", false));
            })
        },
        &[("proof-failed", Critical)],
    ),
    (
        "programs that do not start with large pages",
        || {
            with(|h| {
                h.0.facts.page_size = 16384;
                h.break_part("pages.fragment");
            })
        },
        &[("pages-fragment", Warning)],
    ),
    (
        "programs that do not start with large pages, which is an outage here",
        || {
            with(|h| {
                h.break_part("pages.fragment");
                h.0.config.large_pages_are_critical = true;
            })
        },
        &[("pages-fragment", Critical)],
    ),
    (
        "no threads, and guard pages that do not guard",
        || {
            with(|h| {
                h.break_part("threads.run");
                h.break_part("pages.guard");
            })
        },
        &[("part-broken", Warning)],
    ),
    (
        "a handler of the configuration's, which no container can prove",
        || {
            let mut host = Host::empty();
            let toy = rule("toy", "/opt/toy", "F");
            host.0.config = Config {
                platforms: Some(Vec::new()),
                handlers: vec![CustomHandler { rule: toy.clone() }],
                ..Config::default()
            };
            host.0.targets = Target::all(&host.0.config, &host.0.facts.native);
            host.install("/opt/toy").add(fragment("/etc/binfmt.d/toy.conf", parse(&render(&toy)))).entry(&toy, 7);
            host.0.fragments.retain(|f| f.name == "toy.conf");
            host
        },
        &[],
    ),
];

const IMAGE_ROWS: &[Row] = &[
    ("a good image", Host::image, &[]),
    ("nothing at boot", || image_with(|h| h.0.fragments.clear()), &[("not-persistent", Critical)]),
    (
        "no QEMU",
        || {
            image_with(|h| {
                h.uninstall(QEMU).uninstall(QEMU_P);
            })
        },
        &[("interpreter-missing", Critical), ("no-qemu", Critical), ("not-persistent", Critical)],
    ),
    (
        "no system",
        || {
            image_with(|h| {
                h.0.facts.native.clear();
                h.0.fragments.clear();
            })
        },
        &[("unknown-architecture", Unknown), ("interpreter-wrong-machine", Critical), ("not-persistent", Critical)],
    ),
    ("no systemd", || image_with(|h| h.0.facts.systemd = false), &[("no-systemd", Warning)]),
    ("with the service", || image_with(|h| h.0.service.installed = Installed::Yes), &[]),
    (
        "with the service masked",
        || image_with(|h| h.0.service.installed = Installed::Masked),
        &[("service-masked", Warning)],
    ),
];

const ROWS: [&[Row]; 6] = [HOST_ROWS, TARGET_ROWS, EMULATOR_ROWS, PENDING_ROWS, SERVICE_ROWS, IMAGE_ROWS];

#[test]
fn every_state_is_found_and_nothing_else_is() {
    for (state, make, expected) in ROWS.concat() {
        let host = make();
        let assessment = host.assess();
        let found: Vec<_> = assessment.findings.iter().map(|f| (f.id, f.severity)).collect();
        assert_eq!(found, expected, "{state}: {:#?}", assessment.findings);
        for finding in &assessment.findings {
            assert!(!finding.message.is_empty(), "{state}: {}", finding.id);
            assert!(finding.severity == Note || !finding.advice.is_empty(), "{state}: {} has no advice", finding.id);
            let of_target = TARGET_CHECKS.iter().any(|check| check.id == finding.id);
            assert_eq!(finding.subject.is_some(), of_target, "{state}: {}", finding.id);
        }
    }
}

#[test]
fn every_check_has_a_row() {
    let ids: Vec<_> = HOST_CHECKS.iter().chain(SERVICE_CHECKS).map(|c| c.id).collect();
    let ids = [ids, TARGET_CHECKS.iter().map(|c| c.id).collect()].concat();
    let unique: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(unique.len(), ids.len(), "an id stands for one thing");
    let rows = ROWS.concat();
    let made: BTreeSet<_> = rows.iter().flat_map(|(_, _, found)| found.iter().map(|(id, _)| *id)).collect();
    assert_eq!(unique.difference(&made).collect::<Vec<_>>(), Vec::<&&str>::new(), "checks without a row");
}

/// What `status` says is wrong and can be mended is in the plan, and where nothing is wrong, or
/// nothing can be done, nothing is planned.
#[test]
fn what_is_found_is_planned() {
    for (state, make, expected) in ROWS.concat() {
        let host = make();
        let assessment = host.assess();
        let advised = |finding: &crate::finding::Finding| finding.advice.contains("`sudo qemu-persist apply`");
        let alone = assessment.findings.iter().filter(|f| f.severity > Note && advised(f)).count();
        let other = assessment
            .findings
            .iter()
            .any(|f| advised(f) && (f.advice.contains("`sudo ") && f.advice.matches('`').count() > 2));
        let nothing = assessment.plan.steps.is_empty();
        assert!(alone == 0 || other || !nothing, "{state}: {:#?}", assessment.findings);
        assert!(!expected.is_empty() || nothing, "{state}: {:#?}", assessment.plan.steps);
    }
}

#[test]
fn entries_by_extension_and_at_an_offset_are_no_concern() {
    let mut host = Host::healthy();
    let entry = host.entry(&rule("jar", "/usr/bin/jexec", ""), 9);
    entry.recognises = Recognises::Extension("jar".into());
    let entry = host.entry(&rule("later", "/usr/bin/other", ""), 10);
    entry.recognises = Recognises::Magic(Pattern { offset: 200, magic: vec![1, 1], mask: vec![0xff, 0xff] });
    assert_eq!(host.ids(), Vec::<&str>::new());
}
