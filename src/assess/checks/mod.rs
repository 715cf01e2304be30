// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks, as tables: an id, a title, and the function that looks.
//!
//! Adding a check is adding a row here and a row to the tests.

mod boot;
mod defects;
mod emulator;
mod host;
mod service;
mod target;

pub use defects::{describe_defect, why_not_working};
pub use host::{CHECKS as HOST_CHECKS, HostCheck, capturing};
pub use service::CHECKS as SERVICE_CHECKS;
pub use target::{CHECKS as TARGET_CHECKS, TargetCheck};

use super::look::Look;
use super::plan::{Plan, Wish};
use crate::finding::{Finding, Severity};
use crate::snapshot::Snapshot;

/// What a check looks at besides its target.
pub struct Context<'a> {
    /// Everything that was read.
    pub snapshot: &'a Snapshot,
    /// What was seen of each target.
    pub looks: &'a [Look<'a>],
    /// What would mend it.
    pub plan: &'a Plan,
}

/// What a check found: how bad, what is wrong, what to do.
pub struct Found {
    severity: Severity,
    message: String,
    advice: String,
}

impl Found {
    fn new(severity: Severity, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity, message: message.into(), advice: advice.into() }
    }

    fn into_finding(self, id: &'static str, subject: Option<&str>) -> Finding {
        let Self { severity, message, advice } = self;
        Finding { id, severity, subject: subject.map(str::to_owned), message, advice }
    }
}

/// Runs every check: those of the host, those of each target that `wish` does not leave out, then
/// those of the service.
pub fn run(snapshot: &Snapshot, looks: &[Look<'_>], plan: &Plan, wish: &Wish) -> Vec<Finding> {
    let context = Context { snapshot, looks, plan };
    let of_whole = |check: &HostCheck| {
        let id = check.id;
        (check.run)(&context).into_iter().map(move |found| found.into_finding(id, None)).collect::<Vec<_>>()
    };
    let mut findings: Vec<_> = HOST_CHECKS.iter().flat_map(of_whole).collect();
    for look in looks.iter().filter(|look| look.target.is_among(&wish.only)) {
        for check in TARGET_CHECKS {
            if let Some(found) = (check.run)(&context, look) {
                findings.push(found.into_finding(check.id, Some(&look.target.subject)));
            }
        }
    }
    findings.extend(SERVICE_CHECKS.iter().flat_map(of_whole));
    findings
}
