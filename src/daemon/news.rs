// SPDX-License-Identifier: MIT OR Apache-2.0
//! News: what a look found and none before it did, and what has to be proven again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::assess::look::Look;
use crate::assess::plan::{Action, Step, stood_in_for};
use crate::assess::proven::Proven;
use crate::files::Root;
use crate::finding::{Finding, Severity};
use crate::messages;
use crate::service::SELFTEST_DUE;
use crate::snapshot::Snapshot;

/// Until when the self-test after boot, which a timer starts, may be yet to come.
const AFTER_BOOT: Duration = Duration::from_secs(300);
/// How often it is told that a stand-in was registered.
const SECOND: Duration = Duration::from_secs(1);

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The id, the subject and the message of each finding.
    told: BTreeSet<(&'static str, Option<String>, String)>,
    /// The entry for which a proof was asked for last, of each target.
    asked: BTreeMap<String, u64>,
    /// When it was last told of each stand-in that it was registered.
    stand_ins: BTreeMap<String, Instant>,
}

impl News {
    /// Whether a step that was carried out is worth a record. One that says that programs run again is
    /// enough for each handler and second, however often its stand-in is flushed and registered again; that
    /// it goes explains nothing.
    pub(super) fn is_worth_telling(&mut self, step: &Step) -> bool {
        match &step.action {
            Action::Register { rule, .. } if stood_in_for(&rule.name).is_some() => {
                let recent = self.stand_ins.get(&rule.name).is_some_and(|told| told.elapsed() < SECOND);
                if !recent {
                    self.stand_ins.insert(rule.name.clone(), Instant::now());
                }
                !recent
            }
            Action::Retire { name, restore: None } => stood_in_for(name).is_none(),
            _ => true,
        }
    }

    /// Tells which of `findings` are new, and which are gone.
    pub(super) fn tell(&mut self, findings: &[Finding]) {
        // What the service is itself about is not said by it.
        let findings = findings.iter().filter(|f| f.severity > Severity::Note && !f.id.starts_with("service-"));
        let mut told = BTreeSet::new();
        for finding in findings {
            // That a proof is on its way, and that it does not come, is no news after each other.
            let key = match finding.id {
                "proof-pending" | "unproven" => ("unproven", finding.subject.clone(), String::new()),
                id => (id, finding.subject.clone(), finding.message.clone()),
            };
            if !self.told.contains(&key) {
                messages::found(finding);
            }
            told.insert(key);
        }
        for (id, subject, _) in self.told.difference(&told) {
            if !told.iter().any(|(other, of, _)| (other, of) == (id, subject)) {
                messages::gone(id, subject.as_deref());
            }
        }
        self.told = told;
    }

    /// Has the self-test started where nothing proves the handler that wins now. That nothing is
    /// proven yet since the host was booted is not for here: a timer sees to that.
    pub(super) fn ask_for_proof(&mut self, root: &Root, snapshot: &Snapshot, look: &Look<'_>) {
        let reason = match &look.proven {
            Proven::Void { reason } => reason.as_str(),
            Proven::Never if look.target.platform.is_some() => "it was never proven",
            _ => return,
        };
        let Some(winner) = &look.winner else { return };
        let proof = snapshot.proofs.get(&look.target.subject);
        let of_this_boot = proof.is_some_and(|proof| proof.boot_id == snapshot.facts.boot_id);
        let left_to_timer = !of_this_boot && Duration::from_secs(snapshot.boot_seconds) < AFTER_BOOT;
        let (subject, inode) = (look.target.subject.clone(), winner.entry.inode);
        if left_to_timer || self.asked.get(&subject) == Some(&inode) {
            return;
        }
        let note = format!("{subject}: {reason}\n");
        match root.write_whole(Path::new(SELFTEST_DUE), note.as_bytes()) {
            Ok(()) => drop(self.asked.insert(subject, inode)),
            // The next look asks again.
            Err(e) => tracing::warn!("{SELFTEST_DUE}: {e}"),
        }
    }
}
