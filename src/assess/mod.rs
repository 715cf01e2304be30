// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judging: a pure function of a snapshot that yields what is found and what would mend it.

pub mod advice;
pub mod checks;
pub mod emulator;
pub mod look;
pub mod origin;
pub mod plan;
pub mod proven;
#[cfg(test)]
pub(crate) mod tests;
pub mod vet;

use look::Look;
use plan::{Plan, Wish};

use crate::finding::Finding;
use crate::snapshot::Snapshot;

/// What a snapshot says.
#[derive(Debug)]
pub struct Assessment<'a> {
    /// What was seen of each target that is wanted.
    pub looks: Vec<Look<'a>>,
    /// What was found: the host as a whole first, then target by target, then the service.
    pub findings: Vec<Finding>,
    /// What would mend it.
    pub plan: Plan,
}

/// Looks at each target that is wanted, without judging what is seen.
pub fn look_at_targets(snapshot: &Snapshot) -> Vec<Look<'_>> {
    let boot_table = look::boot_table(snapshot);
    snapshot.targets.iter().map(|target| Look::new(snapshot, &boot_table, target)).collect()
}

/// Judges `snapshot`.
pub fn assess<'a>(snapshot: &'a Snapshot, wish: &Wish) -> Assessment<'a> {
    let looks = look_at_targets(snapshot);
    let plan = plan::plan(snapshot, &looks, wish);
    let findings = checks::run(snapshot, &looks, &plan, wish);
    Assessment { looks, findings, plan }
}
