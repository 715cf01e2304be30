// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told to the journal: one function for each kind of event, each with a message id of its
//! own (systemd.journal-fields(7)), which packaging/qemu-persist.catalog explains.
//!
//! Fields reach the journal in capitals: `PLATFORM=`, `HANDLER=`, `ACTION=`, `FINDING=`, `WHY=`,
//! `BEFORE=`, `AFTER=`.

use tracing::Level;

use crate::assess::plan::{Action, Step};
use crate::binfmt::entry::Entry;
use crate::config::ConfigError;
use crate::finding::{Finding, Severity};
use crate::report::span;
use crate::service::{Unwatched, in_words};
use crate::snapshot::Snapshot;

/// Something was changed.
pub const CHANGED: &str = "5d0c2a7e3b9f4c1a8e6d7f20b1c3a4e5";
/// A change failed.
pub const CHANGE_FAILED: &str = "8a41f6d2c0734e5b9d18e2b7f3c6a590";
/// A look found something that it had not found before.
pub const FINDING: &str = "c7e95b1034f84d2ab6a3908d1f7e5c26";
/// What had been found is gone.
pub const FINDING_GONE: &str = "d2a07f4e8b5c4961937e60f1c4b8a25d";
/// Repairs are undone again and again.
pub const BACKED_OFF: &str = "2f6b8d40a9e14c7385d2c1f0e7b9a463";
/// Nothing undoes them any more.
pub const RECOVERED: &str = "e13d7c958b2046f1a4b5d6908c7f2e31";
/// A handler captured the host's own programs.
pub const CAPTURED: &str = "94b2e7f0c6d1483fa0e58b3d7c192f64";
/// The service has looked for the first time.
pub const LOOKED: &str = "61f8c3a5d7e24b90b8c4f1e2a3d5076b";
/// A new configuration is broken.
pub const CONFIG_REJECTED: &str = "b05e4d9c2a7f41688f3e6c1d9a0b7542";
/// Something cannot be watched.
pub const UNWATCHED: &str = "7c1e94a0d3584b6fa2c85e0f96d17b38";
/// Everything can be watched again.
pub const WATCHED_AGAIN: &str = "3ad8f6027be149c59e40c1b8d52f7a61";

/// Every message id, and what it is about.
pub const ALL: [(&str, &str); 11] = [
    (CHANGED, "changed"),
    (CHANGE_FAILED, "change failed"),
    (FINDING, "finding"),
    (FINDING_GONE, "finding gone"),
    (BACKED_OFF, "backed off"),
    (RECOVERED, "recovered"),
    (CAPTURED, "captured"),
    (LOOKED, "looked"),
    (CONFIG_REJECTED, "configuration rejected"),
    (UNWATCHED, "unwatched"),
    (WATCHED_AGAIN, "watched again"),
];

/// Tells it as bad as `$level` says, which is known only when it is told.
macro_rules! tell {
    ($level:expr, $($event:tt)*) => {
        match $level {
            Level::ERROR => tracing::error!($($event)*),
            Level::WARN => tracing::warn!($($event)*),
            _ => tracing::info!($($event)*),
        }
    };
}

/// One thing that was changed, as it was in `before` and as it is now.
pub fn changed(step: &Step, before: &Snapshot) {
    let (platform, action, handler) = about(step);
    let (old, new) = (state_before(&step.action, before), state_after(&step.action));
    let why = step.why.as_str();
    let (level, id, message) = if let Action::DisableCapturing { name } = &step.action {
        let message = format!(
            "EMERGENCY: the handler {name} captured the host's own programs, so that nothing could be started; it is \
             disabled now: find out who registered it"
        );
        (Level::ERROR, CAPTURED, message)
    } else {
        let what = format!("{} {handler}", action.replace('_', " "));
        (Level::INFO, CHANGED, format!("{}: {why}", what.trim_end()))
    };
    tell!(level, message_id = id, platform, action, handler, why, before = old, after = new, "{message}");
}

/// One change that failed; with `lost_race`, since somebody else changed the same at that moment.
pub fn failed(step: &Step, error: &str, lost_race: bool, before: &Snapshot) {
    let (platform, action, handler) = about(step);
    let old = state_before(&step.action, before);
    let words = action.replace('_', " ");
    if lost_race {
        // Whoever did is heard of next, and what is wrong then is mended.
        tracing::info!(platform, action, handler, "left {words} {handler} for now: {error}");
        return;
    }
    tracing::error!(
        message_id = CHANGE_FAILED,
        platform,
        action,
        handler,
        why = step.why,
        before = old,
        "could not {words} {handler}: {error}"
    );
}

/// Something that a look found and the one before had not.
pub fn found(finding: &Finding) {
    let (id, platform) = (finding.id, finding.subject.as_deref().unwrap_or("host"));
    let message = format!("{platform}: {}", finding.message);
    let level = if finding.severity == Severity::Critical { Level::ERROR } else { Level::WARN };
    tell!(level, message_id = FINDING, finding = id, platform, advice = finding.advice, "{message}");
}

/// Something that is found no more.
pub fn gone(id: &str, subject: Option<&str>) {
    let platform = subject.unwrap_or("host");
    tracing::info!(message_id = FINDING_GONE, finding = id, platform, "{platform}: no more {id}");
}

/// Something keeps undoing what is mended for `platform`: its handler, or `file`.
pub fn backed_off(platform: &str, file: Option<&str>) {
    let (handler, what) = (file.unwrap_or_default(), in_words(platform, file));
    tracing::warn!(
        message_id = BACKED_OFF,
        platform,
        handler,
        "{what}: something keeps undoing repairs; from here on they are made more and more rarely"
    );
}

/// Nothing undoes any more what was mended for `platform`: its handler, or `file`.
pub fn recovered(platform: &str, file: Option<&str>) {
    let (handler, what) = (file.unwrap_or_default(), in_words(platform, file));
    tracing::info!(message_id = RECOVERED, platform, handler, "{what}: nothing undoes repairs any more");
}

/// The service has looked for the first time: `good` of the `wanted` handlers work.
pub fn looked(good: usize, wanted: usize) {
    tracing::info!(message_id = LOOKED, "watching: {good} of {wanted} handlers work");
}

/// Something cannot be watched, and is only looked at every `every` seconds.
pub fn unwatched(all: &[Unwatched], every: u64) {
    let Some((what, reason)) = Unwatched::in_words(all) else { return };
    let (finding, every) = ("service-blind", span(every));
    tracing::warn!(
        message_id = UNWATCHED,
        finding,
        "{what} cannot be watched, and a change there is seen every {every} only: {reason}"
    );
}

/// Everything can be watched again.
pub fn watched_again() {
    let finding = "service-blind";
    tracing::info!(message_id = WATCHED_AGAIN, finding, "everything is watched again");
}

/// A new configuration is broken.
pub fn config_rejected(error: &ConfigError) {
    tracing::error!(
        message_id = CONFIG_REJECTED,
        "the new configuration is broken, and the one before is used on: {error}"
    );
}

fn about(step: &Step) -> (&str, &'static str, String) {
    (step.subject.as_deref().unwrap_or("host"), step.action.name(), step.action.handler())
}

/// An entry in one line: its rule, and whether it is off.
fn shown(entry: &Entry) -> String {
    let rule = entry.rule().map_or_else(|| format!("{} by extension", entry.name), |rule| rule.to_string());
    if entry.enabled { rule } else { format!("{rule} (disabled)") }
}

fn state_before(action: &Action, before: &Snapshot) -> String {
    let table = before.kernel.table();
    let entry = |name: &str| table.and_then(|table| table.entry(name)).map(shown).unwrap_or_default();
    match action {
        Action::Register { rule, .. } | Action::Restore { rule } => entry(&rule.name),
        Action::Enable { name } | Action::DisableCapturing { name } | Action::Retire { name, .. } => entry(name),
        Action::WriteFragment { path, .. } | Action::RemoveFragment { path } => {
            let fragment = before.fragments.iter().find(|fragment| fragment.path == *path);
            let rules = fragment.iter().flat_map(|fragment| &fragment.content.rules);
            rules.map(ToString::to_string).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn state_after(action: &Action) -> String {
    match action {
        Action::Register { rule, .. } | Action::Restore { rule } | Action::WriteFragment { rule, .. } => {
            rule.to_string()
        }
        Action::Retire { restore: Some(rule), .. } => rule.to_string(),
        Action::Enable { .. } | Action::EnableAll => "enabled".to_owned(),
        Action::DisableCapturing { .. } => "disabled".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_ids_and_differ() {
        let ids: std::collections::BTreeSet<_> = ALL.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), ALL.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
