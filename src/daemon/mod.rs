// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service: one look at the system, through the same steps as the command.

use std::process::ExitCode;

use tracing::Level;

use crate::apply::{Lock, apply};
use crate::assess::assess;
use crate::assess::plan::Wish;
use crate::files::Root;
use crate::finding::{self, Severity};
use crate::snapshot::Snapshot;

/// Looks once, mends what may be mended, and logs what was done and what is left. Gives the exit
/// code: 78 for a broken configuration, else 0.
pub fn main() -> ExitCode {
    crate::logging::init(Level::INFO);
    let root = Root::live();
    let _lock = match Lock::take(&root) {
        Ok(lock) => lock,
        Err(e) => {
            tracing::error!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let (snapshot, error) = Snapshot::take(&root, true);
    if let Some(error) = error {
        tracing::error!("{error}");
        return ExitCode::from(78);
    }
    let wish = Wish::default();
    apply(&root, &snapshot, &assess(&snapshot, &wish).plan);
    let (snapshot, _) = Snapshot::take(&root, true);
    let findings = assess(&snapshot, &wish).findings;
    for finding in findings.iter().filter(|finding| finding.severity > Severity::Note) {
        let subject = finding.subject.as_deref().unwrap_or("host");
        tracing::warn!(finding = finding.id, subject, "{}", finding.message);
    }
    tracing::info!(code = finding::exit_code(&findings), "looked");
    ExitCode::SUCCESS
}
