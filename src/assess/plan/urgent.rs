// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of a plan cannot wait, and is done without taking a name that somebody else may be about to
//! take: systemd-binfmt removes a name and then registers it, and fails where it is taken in between.

use super::{Action, Manner, Plan, Step, stand_in, stood_in_for};
use crate::assess::look::Look;
use crate::assess::vet::Defect;
use crate::binfmt::registry::Table;

impl Plan {
    /// The steps without which programs do not start now: handlers are registered under the names of
    /// their stand-ins. `looks` are what the plan was made from, and so is `table`.
    #[must_use]
    pub fn urgent(&self, looks: &[Look<'_>], table: Option<&Table>) -> Self {
        let runs_now = |subject: &Option<String>| {
            let look = looks.iter().find(|look| Some(&look.target.subject) == subject.as_ref());
            look.is_some_and(runs)
        };
        let urgent = |step: &Step| match &step.action {
            Action::DisableCapturing { .. } | Action::EnableAll => Some(step.clone()),
            Action::Enable { .. } if !runs_now(&step.subject) => Some(step.clone()),
            Action::Register { rule, .. } if !runs_now(&step.subject) => {
                let name = if stood_in_for(&rule.name).is_some() { rule.name.clone() } else { stand_in(&rule.name) };
                let taken = table.is_some_and(|table| table.entry(&name).is_some());
                let manner = if taken { Manner::Exchange } else { Manner::New };
                let action = Action::Register { rule: rule.renamed(name), manner, displaced: None };
                Some(Step { action, ..step.clone() })
            }
            _ => None,
        };
        Self { steps: self.steps.iter().filter_map(urgent).collect(), ..self.clone() }
    }
}

/// Whether the target's programs start now, if not with the interpreter that they should.
fn runs(look: &Look<'_>) -> bool {
    let held = |defect: &Defect| matches!(defect, Defect::InterpreterStale | Defect::InterpreterDeleted(_));
    look.winner.as_ref().is_some_and(|winner| winner.defects.iter().filter(|d| d.is_blocking()).all(held))
}
