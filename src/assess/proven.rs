// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the last self-test of a target still proves.

use serde::Serialize;

use crate::binfmt::entry::Entry;
use crate::record::{BrokenPart, Proof, RuntimeResult};
use crate::snapshot::Snapshot;
use crate::target::Target;

/// What is proven of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Proven {
    /// A container ran, through the handler that wins now.
    Yes {
        /// How long ago, in seconds.
        seconds_ago: u64,
    },
    /// It ran, but longer ago than counts.
    Expired {
        /// How long ago, in seconds.
        seconds_ago: u64,
    },
    /// It ran, and something that mattered has changed since.
    Void {
        /// What.
        reason: String,
    },
    /// It was tried through the handler that wins now, and failed.
    Failed {
        /// Runtimes and what each said.
        reason: String,
    },
    /// It was never tried.
    Never,
}

/// Whether the proof is of `entry`, on the kernel that runs now.
pub(super) fn is_of_this_entry(snapshot: &Snapshot, proof: &Proof, entry: &Entry) -> bool {
    proof.boot_id == snapshot.facts.boot_id
        && proof.kernel_release == snapshot.facts.kernel_release
        && entry.rule().is_some_and(|rule| rule.to_string() == proof.entry)
}

/// What the self-test that `proven` is from found out, where that was not a failure.
pub(super) fn results<'a>(
    snapshot: &'a Snapshot,
    target: &Target,
    proven: &Proven,
) -> impl Iterator<Item = &'a RuntimeResult> + use<'a> {
    let counts = matches!(proven, Proven::Yes { .. } | Proven::Expired { .. });
    let proof = snapshot.proofs.get(&target.subject).filter(|_| counts);
    proof.into_iter().flat_map(|proof| &proof.results)
}

/// What the self-test that `proven` is from found to be broken.
pub(super) fn broken<'a>(snapshot: &'a Snapshot, target: &Target, proven: &Proven) -> Vec<&'a BrokenPart> {
    let mut parts: Vec<&BrokenPart> = Vec::new();
    for part in results(snapshot, target, proven).flat_map(|result| &result.broken) {
        if parts.iter().all(|known| known.part != part.part) {
            parts.push(part);
        }
    }
    parts
}

/// What the last self-test says of the handler that wins now.
pub(super) fn proven(snapshot: &Snapshot, target: &Target, winner: &Entry) -> Proven {
    let proof = snapshot.proofs.get(&target.subject).filter(|proof| !proof.results.is_empty());
    let Some(proof) = proof else { return Proven::Never };
    let void = |reason: &str| Proven::Void { reason: reason.to_owned() };
    if proof.boot_id != snapshot.facts.boot_id {
        return void("the host has been booted since");
    }
    if !is_of_this_entry(snapshot, proof, winner) {
        return void("another handler is registered now");
    }
    let disk = snapshot.file_on_disk(&winner.interpreter);
    let same_file = match (&proof.interpreter, disk) {
        (Some(seen), Some(disk)) => seen.is_same(disk),
        _ => false,
    };
    let same_entry = proof.entry_inode == winner.inode;
    if !proof.results.iter().any(|result| result.passed) {
        if !same_entry {
            return void("the handler has been registered anew since it failed");
        }
        let reasons: Vec<_> = proof.results.iter().map(|r| format!("{}: {}", r.runtime, r.reason)).collect();
        return Proven::Failed { reason: reasons.join("; ") };
    }
    if proof.interpreter.is_none() {
        return void("the interpreter that ran it could not be seen");
    }
    if disk.is_none() {
        return void("the interpreter cannot be looked at now");
    }
    if !same_file {
        return void("the interpreter has been replaced since");
    }
    let seconds_ago = snapshot.boot_seconds.saturating_sub(proof.boot_seconds);
    if seconds_ago > snapshot.config.proof_max_age.as_secs() {
        return Proven::Expired { seconds_ago };
    }
    if let Some(failed) = proof.results.iter().find(|result| !result.passed) {
        return Proven::Failed { reason: format!("{}: {}", failed.runtime, failed.reason) };
    }
    Proven::Yes { seconds_ago }
}
