// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of the service. It is judged by itself: a handler is no better for a service that runs,
//! and no worse for one that is dead.

use super::host::{HostCheck, one};
use super::{Context, Found};
use crate::assess::advice;
use crate::finding::Severity::{Unknown, Warning};
use crate::host::Confinement;
use crate::record::Proof;
use crate::report::span;
use crate::service::{self, BackedOff, Installed, State, Unwatched};
use crate::snapshot::Snapshot;
use crate::target::Target;

/// Every check of the service. Where it is not installed, nothing is found.
pub const CHECKS: &[HostCheck] = &[
    HostCheck { id: "service-masked", title: "the service is masked, so that systemd does not start it", run: masked },
    HostCheck { id: "service-dead", title: "the service is installed and does not run", run: dead },
    HostCheck { id: "service-unknown", title: "whether and how the service runs cannot be seen", run: unknown },
    HostCheck { id: "service-stuck", title: "the service runs and has not looked for too long", run: stuck },
    HostCheck {
        id: "service-backed-off",
        title: "something undoes what the service mends, or lets it fail, so that it mends it more and more rarely",
        run: backed_off,
    },
    HostCheck {
        id: "service-blind",
        title: "the service cannot watch a directory, and sees a change there late",
        run: blind,
    },
    HostCheck {
        id: "service-config",
        title: "the service runs with an older configuration, since the new one is broken",
        run: older_configuration,
    },
];

/// How long a self-test that is due may take to come, in seconds: what starts it may be broken.
const PATIENCE: u64 = 15 * 60;

/// How many of its longest pauses may pass without a look.
const MISSED_LOOKS: u64 = 3;

/// Whether systemd would run the service here: on a host of its own, and with systemd.
fn is_at_home(snapshot: &Snapshot) -> bool {
    snapshot.facts.systemd && snapshot.facts.confinement == Confinement::None
}

/// Whether systemd is to run it now.
fn is_expected(snapshot: &Snapshot) -> bool {
    snapshot.live && is_at_home(snapshot) && snapshot.service.installed == Installed::Yes
}

/// What a service that lives tells of itself.
fn told(snapshot: &Snapshot) -> Option<&State> {
    snapshot.service.state.as_ref().filter(|_| snapshot.service.running == Some(true))
}

/// Whether a self-test of `target` is about to run without anybody asking for it: the service says so,
/// or the timer that starts one after boot is there, and none has run since.
pub(super) fn selftest_is_due(snapshot: &Snapshot, target: &Target) -> bool {
    let of_this_boot = |proof: &&Proof| proof.boot_id == snapshot.facts.boot_id;
    let last_run = snapshot.proofs.get(&target.subject).filter(of_this_boot).map(|proof| proof.boot_seconds);
    let is_awaited =
        |due: u64| last_run.is_none_or(|run| run <= due) && snapshot.boot_seconds.saturating_sub(due) < PATIENCE;
    let at_boot = is_at_home(snapshot) && snapshot.service.selftest_timer && last_run.is_none();
    told(snapshot).and_then(|state| state.selftest_due).is_some_and(is_awaited) || (at_boot && is_awaited(0))
}

fn masked(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let (systemctl, then) = if snapshot.live {
        ("sudo systemctl".to_owned(), ", then `sudo systemctl start qemu-persist`")
    } else {
        (format!("sudo systemctl --root={}", advice::word(&snapshot.tree)), "")
    };
    let found = || {
        Found::new(
            Warning,
            format!("{} is masked: systemd does not start it, and nothing mends a handler that is lost", service::UNIT),
            format!("If that is not meant to be: `{systemctl} unmask qemu-persist`{then}."),
        )
    };
    one((is_at_home(snapshot) && snapshot.service.installed == Installed::Masked).then(found))
}

fn dead(context: &Context<'_>) -> Vec<Found> {
    let dead = is_expected(context.snapshot) && context.snapshot.service.running == Some(false);
    let message = "the service is installed and does not run: nothing mends a handler that is lost";
    let advice = "Start it: `sudo systemctl restart qemu-persist`; `systemctl status qemu-persist` says why it ended.";
    one(dead.then(|| Found::new(Warning, message, advice)))
}

fn unknown(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let found = |message: String| {
        let advice = "Ask systemd: `systemctl status qemu-persist`.";
        one(is_expected(snapshot).then(|| Found::new(Unknown, message, advice)))
    };
    match (snapshot.service.running, &snapshot.service.state) {
        (None, _) => found(format!("whether the service runs cannot be seen: /proc/locks or {}", service::LOCK)),
        (Some(true), None) => {
            found(format!("the service runs, and {} does not tell what it does, or cannot be trusted", service::STATE))
        }
        _ => Vec::new(),
    }
}

fn stuck(context: &Context<'_>) -> Vec<Found> {
    let Some(state) = told(context.snapshot) else { return Vec::new() };
    // A version that is not restarted yet tells only a time that goes on while the system is suspended.
    let since_boot = context.snapshot.boot_seconds.saturating_sub(state.last_look);
    let silent = context.snapshot.service.silent.unwrap_or(since_boot);
    let stuck = silent > state.look_every.saturating_mul(MISSED_LOOKS);
    let (last, every) = (span(silent), span(state.look_every));
    let message = format!("the service runs, and last looked {last} ago, though it is to look every {every}");
    let advice = "Restart it: `sudo systemctl restart qemu-persist`; `systemctl status qemu-persist` shows its log.";
    one(stuck.then(|| Found::new(Warning, message, advice)))
}

fn backed_off(context: &Context<'_>) -> Vec<Found> {
    let tell = |backed_off: &BackedOff| {
        let (subject, BackedOff { repairs, failing, until, .. }) = (backed_off.about(), backed_off);
        let next = match until.saturating_sub(context.snapshot.boot_seconds) {
            0 => "now".to_owned(),
            seconds => format!("in {}", span(seconds)),
        };
        let times = if *repairs == 1 { "once" } else { &format!("{repairs} times in a row") };
        if *failing {
            let message = format!("what the service mends fails ({subject}): it tried {times}, and tries again {next}");
            return Found::new(Warning, message, "See why: `sudo journalctl -u qemu-persist`.");
        }
        Found::new(
            Warning,
            format!(
                "something undoes what the service mends ({subject}): it mended that {times}, and tries again {next}"
            ),
            "Find out what it is, and stop that: `sudo journalctl -u qemu-persist` shows what was undone, and when.",
        )
    };
    told(context.snapshot).iter().flat_map(|state| &state.backed_off).map(tell).collect()
}

fn blind(context: &Context<'_>) -> Vec<Found> {
    let Some(state) = told(context.snapshot) else { return Vec::new() };
    let Some((what, reason)) = Unwatched::in_words(&state.unwatched) else { return Vec::new() };
    let every = span(state.look_every);
    let message = format!("the service cannot watch {what}, and sees a change there every {every} only: {reason}");
    let advice = if reason.contains("max_user_watches") {
        "Raise the limit (as root: `sysctl fs.inotify.max_user_watches=524288`, and the same in a file of \
         /etc/sysctl.d), or find out who needs so many; then `sudo systemctl reload qemu-persist`."
    } else {
        "See who may read that directory; then `sudo systemctl reload qemu-persist`."
    };
    one(Some(Found::new(Warning, message, advice)))
}

fn older_configuration(context: &Context<'_>) -> Vec<Found> {
    let snapshot = context.snapshot;
    let error = told(snapshot).and_then(|state| state.config_error.as_ref());
    let tell = |error: &String| {
        let message = "the service still runs with the configuration of before, since the new one is broken";
        // Else the configuration's own finding tells it.
        let message = if snapshot.config_error.is_some() { message.to_owned() } else { format!("{message}: {error}") };
        let advice = "When `qemu-persist config check` finds it right: `sudo systemctl reload qemu-persist`.";
        Found::new(Warning, message, advice)
    };
    one(error.map(tell))
}
