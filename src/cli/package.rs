// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the Debian package's maintainer scripts call, and nobody else.
//!
//! They run wherever a package is installed, in the chroot of an image builder as well, and there
//! the kernel's table is the build host's. So `files` looks at the files alone, as if the tree were
//! that of an image, and `hand-over` leaves the table alone in a chroot or container.

use std::ffi::OsString;
use std::time::Duration;

use super::{Failure, apply, remove};
use crate::assess::plan::Wish;
use crate::files::Root;
use crate::report::changes::{self, Report};
use crate::report::{self, Screen};
use crate::selftest;
use crate::service::Service;
use crate::snapshot::Snapshot;

/// How long an engine may take to answer at all, while a package is removed: a slow machine that has just been started
/// takes its time, and nobody else will remove what is left there.
const ANSWER: Duration = Duration::from_secs(20);

/// The verb; neither help nor completions show it.
pub(super) const VERB: &str = "maintainer-script";

/// Runs `maintainer-script WHAT` and gives the exit code. Neither gives the word of `remove` nor
/// takes it back, and after `remove` nothing is written.
///
/// - `files`: fragments are written where nothing else registers a wanted platform at boot, and those
///   that are no longer needed withdrawn.
/// - `renew-files`: the same where there is a fragment of ours already and the service, which would see to it, does not
///   run; else nothing.
/// - `hand-over`: what was added is taken back, and what it replaced given back, so that the
///   distribution's own rules are all that is left, and what a self-test that was killed has left with engines removed.
/// - `hand-over-files`: the same for the files alone.
///
/// # Errors
/// A broken configuration, a lock that is held, and those of writing.
pub(super) fn run(arguments: &[OsString], screen: &mut Screen) -> anyhow::Result<u8> {
    let what = match arguments {
        [what] => what.to_str(),
        _ => None,
    };
    let wish = Wish::default();
    let report = match what {
        Some("renew-files") if is_served() || !has_fragment() => return Ok(0),
        Some("files" | "renew-files") => apply::perform(&Root::files_only(), &wish, true)?,
        Some("hand-over") => {
            let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            for finding in reactor.block_on(selftest::forget_runs(ANSWER)) {
                report::finding(&finding, screen)?;
            }
            remove::perform(&Root::live(), &wish)?
        }
        Some("hand-over-files") => remove::perform(&Root::files_only(), &wish)?,
        _ => return Err(Failure::Usage(format!("{VERB} is for the Debian package's own scripts")).into()),
    };
    if report.changed || !report.failed.is_empty() {
        // What it means for this host is told by `status`.
        let only = Report { findings: Vec::new(), unmet: Vec::new(), platforms: Vec::new(), ..report };
        changes::show(&only, false, screen)?;
        return Ok(if only.failed.is_empty() { 0 } else { 2 });
    }
    Ok(0)
}

/// Whether the service runs, or may do so.
fn is_served() -> bool {
    Service::read(&Root::live(), "").running != Some(false)
}

/// Whether a fragment of ours registers something at boot.
fn has_fragment() -> bool {
    Snapshot::take(&Root::files_only(), true).0.fragments.iter().any(|fragment| fragment.content.ours)
}
