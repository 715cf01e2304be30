// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of the host as a whole.

use std::path::Path;

use super::{Context, Found};
use crate::assess::plan::is_confined;
use crate::assess::{advice, look};
use crate::binfmt::entry::Entry;
use crate::binfmt::registry;
use crate::finding::Severity::{Critical, Note, Unknown, Warning};
use crate::host::{Confinement, EtcPersistence, KernelSupport};
use crate::platform::Platform;
use crate::snapshot::{Kernel, Snapshot};

/// One check of the host, or of the service.
pub struct HostCheck {
    /// The id of its findings.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Looks.
    pub run: fn(&Context<'_>) -> Vec<Found>,
}

/// Every check of the host, the most urgent first.
pub const CHECKS: &[HostCheck] = &[
    HostCheck { id: "native-captured", title: "a handler captures the host's own programs", run: native_captured },
    HostCheck {
        id: "fragment-captures-native",
        title: "at boot, a fragment captures the host's programs",
        run: fragment_captures,
    },
    HostCheck { id: "config-invalid", title: "the configuration cannot be used", run: config_invalid },
    HostCheck { id: "removed", title: "`remove` was the last word", run: removed },
    HostCheck { id: "nothing-wanted", title: "the configuration wants no platform", run: nothing_wanted },
    HostCheck { id: "refused-native", title: "a platform is wanted that the host runs itself", run: refused_native },
    HostCheck { id: "unsupported-host", title: "QEMU is of no use on this host", run: unsupported_host },
    HostCheck { id: "unknown-architecture", title: "the host's own architecture is not known", run: unknown_machine },
    HostCheck { id: "userland-mismatch", title: "a 32-bit userland on a 64-bit kernel", run: userland_mismatch },
    HostCheck { id: "confined", title: "this is a container or chroot", run: confined },
    HostCheck { id: "reboot-pending", title: "the running kernel's modules are gone", run: reboot_pending },
    HostCheck { id: "binfmt-missing", title: "the kernel has no binfmt_misc", run: binfmt_missing },
    HostCheck { id: "proc-read-only", title: "/proc/sys is read-only", run: proc_read_only },
    HostCheck { id: "masked-namespace", title: "no table in this user namespace", run: masked_namespace },
    HostCheck { id: "not-mounted", title: "binfmt_misc is not mounted", run: not_mounted },
    HostCheck { id: "table-unreadable", title: "the kernel's table cannot be read", run: table_unreadable },
    HostCheck { id: "entry-unreadable", title: "an entry of the table cannot be understood", run: entry_unreadable },
    HostCheck { id: "private-table", title: "a table of this user namespace's own", run: private_table },
    HostCheck { id: "read-only", title: "binfmt_misc is mounted read-only", run: read_only },
    HostCheck { id: "globally-off", title: "handlers are turned off as a whole", run: globally_off },
    HostCheck {
        id: "fragments-unreadable",
        title: "a directory of fragments cannot be read",
        run: fragments_unreadable,
    },
    HostCheck { id: "etc-volatile", title: "/etc does not survive a reboot", run: etc_volatile },
    HostCheck { id: "no-systemd", title: "nothing reads binfmt.d at boot", run: no_systemd },
];

pub(super) fn one(found: Option<Found>) -> Vec<Found> {
    found.into_iter().collect()
}

/// The enabled entries with which the host's own programs do not start: an emergency.
pub fn capturing(snapshot: &Snapshot) -> Vec<&Entry> {
    enabled(snapshot).filter(|entry| captures(snapshot, entry) == Some(Capture::Own)).collect()
}

fn enabled(snapshot: &Snapshot) -> impl Iterator<Item = &Entry> {
    let entries = snapshot.kernel.table().map_or(&[][..], |table| &table.entries);
    entries.iter().filter(|entry| entry.enabled)
}

/// Which of the programs that the host runs by itself a handler takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Capture {
    /// The other half of its family (32-bit ones): they still run, by emulation.
    Sibling,
    /// The kernel's or the userland's own: nothing can be started.
    Own,
}

fn captures(snapshot: &Snapshot, entry: &Entry) -> Option<Capture> {
    let facts = &snapshot.facts;
    let takes = |platform: &&Platform| platform.sample_headers().iter().any(|head| entry.matches(head));
    let own = facts.native.first().copied().into_iter().chain(facts.userland);
    if own.into_iter().any(|platform| takes(&platform)) {
        return Some(Capture::Own);
    }
    facts.native.iter().any(takes).then_some(Capture::Sibling)
}

fn native_captured(context: &Context<'_>) -> Vec<Found> {
    let capture = |entry: &Entry| {
        let (name, path) = (&entry.name, entry.interpreter.display());
        let file = advice::word(&Path::new(registry::DIRECTORY).join(name));
        Some(match captures(context.snapshot, entry)? {
            Capture::Own => Found::new(
                Critical,
                format!("the handler {name} ({path}) captures programs that this host runs by itself"),
                format!("Remove it before anything else: `echo -1 > {file}` in a root shell."),
            ),
            Capture::Sibling => Found::new(
                Warning,
                format!("the handler {name} ({path}) emulates 32-bit programs that this host runs by itself"),
                format!("Remove it: `echo -1 | sudo tee {file}`."),
            ),
        })
    };
    enabled(context.snapshot).filter_map(capture).collect()
}

fn fragment_captures(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let mut found = Vec::new();
    for fragment in &snapshot.fragments {
        for rule in &fragment.content.rules {
            let (path, name) = (fragment.path.display(), &rule.name);
            let (severity, what) = match captures(snapshot, &Entry::of_rule(rule)) {
                None => continue,
                Some(Capture::Own) => (Critical, "programs that this host runs by itself: it would not boot"),
                Some(Capture::Sibling) => (Warning, "32-bit programs that this host runs by itself: they are emulated"),
            };
            let file = snapshot.outside(&fragment.path);
            found.push(Found::new(
                severity,
                format!("{path} registers {name} for {what}"),
                format!("Take that rule out of {} before the next boot.", file.display()),
            ));
        }
    }
    found
}

fn config_invalid(context: &Context<'_>) -> Vec<Found> {
    one(context.snapshot.config_error.as_ref().map(|error| {
        Found::new(Critical, error.clone(), "Correct it; `qemu-persist config check` says when it is right.")
    }))
}

fn removed(context: &Context<'_>) -> Vec<Found> {
    let advice = format!("To undo that: {}.", advice::apply(context.snapshot));
    let found = || Found::new(Note, "nothing is wanted since `qemu-persist remove`", advice);
    one((context.snapshot.removed && context.snapshot.targets.is_empty()).then(found))
}

fn nothing_wanted(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let advice = format!("To want one: {}.", advice::command(snapshot, "enable PLATFORM"));
    let found = || Found::new(Note, "the configuration wants no platform", advice);
    one((snapshot.targets.is_empty() && !snapshot.removed && snapshot.config_error.is_none()).then(found))
}

fn refused_native(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let refuse = |platform: &Platform| {
        Found::new(
            Warning,
            format!("{platform} is wanted by the configuration, and this host runs it by itself: it is not registered"),
            format!("Take it out: {}.", advice::command(snapshot, &format!("disable {platform}"))),
        )
    };
    snapshot.config.refused(&snapshot.facts.native).into_iter().map(refuse).collect()
}

/// Why nothing can be done for this host, where that is so.
fn unsupported(snapshot: &Snapshot) -> Option<(String, String)> {
    let facts = &snapshot.facts;
    if facts.machine.starts_with("armv6") || facts.machine.starts_with("armv5") {
        let what = format!("this CPU is {}: neither QEMU for amd64 nor a current Docker runs on it", facts.machine);
        return Some((what, "Use a Raspberry Pi 3 or newer with a 64-bit system.".to_owned()));
    }
    let distribution = &facts.distribution;
    let major: u32 = distribution.version_id.split('.').next().and_then(|v| v.parse().ok()).unwrap_or(0);
    let armhf = facts.userland.is_some_and(|platform| platform.oci == "arm");
    if armhf && ["debian", "raspbian"].contains(&distribution.id.as_str()) && major >= 13 {
        let what = format!("{} for armhf has no QEMU for 64-bit platforms any more", distribution.pretty_name);
        return Some((what, "Install the 64-bit (arm64) system.".to_owned()));
    }
    None
}

fn unsupported_host(context: &Context<'_>) -> Vec<Found> {
    one(unsupported(context.snapshot).map(|(what, advice)| Found::new(Critical, what, advice)))
}

fn unknown_machine(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let unknown = snapshot.facts.native.is_empty();
    let (message, advice) = if snapshot.live {
        let message =
            format!("this host is {}, which is not known here: nothing is registered", snapshot.facts.machine);
        (message, "Register handlers by hand.".to_owned())
    } else {
        let tree = snapshot.tree.display();
        let message = format!("no program in {tree} tells for which architecture it is: no handler is written");
        (message, format!("See whether {tree} is the directory of a whole system, with its /usr mounted."))
    };
    one(unknown.then(|| Found::new(Unknown, message, advice)))
}

fn userland_mismatch(context: &Context<'_>) -> Vec<Found> {
    let facts = &context.snapshot.facts;
    let kernel = Platform::of_machine(&facts.machine);
    let (Some(kernel), Some(userland)) = (kernel, facts.userland) else { return Vec::new() };
    let differs = userland.is_32_bit() && !kernel.is_32_bit();
    let message = format!("the kernel is {kernel} and the userland {userland}: Docker takes this for a 32-bit host");
    let advice = "64-bit images fail here with exit code 159; install the 64-bit system.";
    one(differs.then(|| Found::new(Warning, message, advice)))
}

fn confined(context: &Context<'_>) -> Vec<Found> {
    let what = match &context.snapshot.facts.confinement {
        Confinement::None => return Vec::new(),
        Confinement::Chroot => "a chroot".to_owned(),
        Confinement::Container(kind) if kind.is_empty() => "a container".to_owned(),
        Confinement::Container(kind) => format!("a container ({kind})"),
    };
    if !is_confined(context.snapshot) {
        return vec![Found::new(Note, format!("this is {what}, with a user namespace of its own"), "")];
    }
    vec![Found::new(
        Warning,
        format!("this is {what}: the handlers seen here are those of the host around it, and are not changed"),
        "Run qemu-persist on the host, or give `--force` to change its handlers from here.",
    )]
}

/// Whether a mounted table is missing, with something wanted of it.
fn table_missing(context: &Context<'_>) -> bool {
    context.snapshot.kernel == Kernel::NotMounted
}

fn reboot_pending(context: &Context<'_>) -> Vec<Found> {
    let facts = &context.snapshot.facts;
    let pending = table_missing(context) && facts.kernel_support == KernelSupport::RebootPending;
    let release = &facts.kernel_release;
    let message = format!("the modules of the running kernel {release} are gone, so binfmt_misc cannot be loaded");
    one(pending.then(|| Found::new(Critical, message, "Reboot into the new kernel: `sudo reboot`.")))
}

fn binfmt_missing(context: &Context<'_>) -> Vec<Found> {
    let facts = &context.snapshot.facts;
    let missing = table_missing(context) && facts.kernel_support == KernelSupport::Missing;
    let message = format!("the kernel {} has no binfmt_misc", facts.kernel_release);
    let advice = "Boot a kernel that has it (CONFIG_BINFMT_MISC), such as the distribution's own.";
    one(missing.then(|| Found::new(Critical, message, advice)))
}

fn can_be_mounted(context: &Context<'_>) -> bool {
    let support = context.snapshot.facts.kernel_support;
    table_missing(context) && !matches!(support, KernelSupport::RebootPending | KernelSupport::Missing)
}

fn proc_read_only(context: &Context<'_>) -> Vec<Found> {
    let message = "/proc/sys is mounted read-only, as containers have it, and shows no table of handlers";
    let advice =
        "Run qemu-persist on the host, or `sudo mount -o remount,bind,rw /proc/sys`, then `sudo qemu-persist apply`.";
    let hidden = table_missing(context) && context.snapshot.facts.proc_sys_read_only;
    one(hidden.then(|| Found::new(Unknown, message, advice)))
}

fn masked_namespace(context: &Context<'_>) -> Vec<Found> {
    let facts = &context.snapshot.facts;
    let masked = can_be_mounted(context) && facts.user_namespace && !facts.proc_sys_read_only;
    let message = "this user namespace shows no table of handlers: it may have one of its own that hides the host's";
    let advice = "Run `qemu-persist apply` in this namespace to give it handlers of its own, or ask on the host.";
    one(masked.then(|| Found::new(Unknown, message, advice)))
}

fn not_mounted(context: &Context<'_>) -> Vec<Found> {
    let facts = &context.snapshot.facts;
    let missing = can_be_mounted(context) && !facts.user_namespace && !facts.proc_sys_read_only;
    let message = "binfmt_misc is not mounted, so there are no handlers";
    one(missing.then(|| Found::new(Critical, message, "Mount it and register: `sudo qemu-persist apply`.")))
}

fn table_unreadable(context: &Context<'_>) -> Vec<Found> {
    let Kernel::Unreadable(why) = &context.snapshot.kernel else { return Vec::new() };
    let message = format!("/proc/sys/fs/binfmt_misc cannot be read: {why}");
    vec![Found::new(Unknown, message, "Ask as root: `sudo qemu-persist status`.")]
}

fn entry_unreadable(context: &Context<'_>) -> Vec<Found> {
    let unreadable = context.snapshot.kernel.table().map_or(&[][..], |table| &table.unreadable);
    let tell = |(name, why): &(String, String)| {
        let path = Path::new(registry::DIRECTORY).join(name);
        Found::new(
            Unknown,
            format!("the entry {name} may take any program: {why}"),
            format!("See what it is: `cat {}`.", advice::word(&path)),
        )
    };
    unreadable.iter().map(tell).collect()
}

fn private_table(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let private = snapshot.facts.user_namespace && snapshot.kernel.table().is_some();
    let message = "this is a user namespace: its table may be its own, and not the host's";
    one(private.then(|| Found::new(Note, message, "")))
}

fn read_only(context: &Context<'_>) -> Vec<Found> {
    let read_only = context.snapshot.kernel.table().is_some_and(|table| table.read_only);
    let message = "binfmt_misc is mounted read-only: no handler can be changed";
    let advice = "Remount it: `sudo mount -o remount,rw /proc/sys/fs/binfmt_misc`, then `sudo qemu-persist apply`.";
    one(read_only.then(|| Found::new(Warning, message, advice)))
}

fn globally_off(context: &Context<'_>) -> Vec<Found> {
    let off = context.snapshot.kernel.table().is_some_and(|table| !table.enabled);
    let message = "handlers are turned off as a whole, though each entry may say `enabled`";
    one(off.then(|| Found::new(Critical, message, "Turn them on: `sudo qemu-persist apply`.")))
}

fn fragments_unreadable(context: &Context<'_>) -> Vec<Found> {
    let tell = |error: &String| {
        let message = format!("what restores handlers at boot is not known in full: {error}");
        Found::new(Unknown, message, "Ask as root, or correct what is there.")
    };
    context.snapshot.fragment_errors.iter().map(tell).collect()
}

fn etc_volatile(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let (what, advice) = match snapshot.facts.etc {
        EtcPersistence::Persistent => return Vec::new(),
        EtcPersistence::Overlay => (
            "an overlay in memory (overlayroot)",
            "Turn the overlay off (on Raspberry Pi OS `sudo raspi-config nonint disable_overlayfs`), reboot, run \
             `sudo qemu-persist apply`, and turn it on again.",
        ),
        EtcPersistence::Tmpfs => ("in memory (tmpfs)", "Run `sudo qemu-persist apply` at every boot."),
    };
    let lost = |l: &look::Look<'_>| l.fragment.is_some_and(|f| f.path.starts_with("/etc") && !f.below);
    let needed = context.looks.iter().any(|look| lost(look) || !look.works_after_boot());
    let message = format!("/etc is {what}: what is written there, such as our fragments, is gone at the next boot");
    one(needed.then(|| Found::new(Warning, message, advice)))
}

fn no_systemd(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let missing = !snapshot.facts.systemd && !snapshot.targets.is_empty() && !is_confined(snapshot);
    let (message, advice) = if snapshot.live {
        ("systemd is not running here, so nothing reads binfmt.d at boot", "Run `qemu-persist apply` at every boot.")
    } else {
        ("the image has no systemd, so nothing reads binfmt.d at boot", "Run `qemu-persist apply` there at every boot.")
    };
    one(missing.then(|| Found::new(Warning, message, advice)))
}
