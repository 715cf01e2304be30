// SPDX-License-Identifier: MIT OR Apache-2.0
//! The steps of a scenario: a boot is too dear to be spent on one check, and a step that fails does
//! not hide what the next ones would tell.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// How much of a reason is said again at the end, in characters.
const LONGEST: usize = 2000;

/// What was tried, in order.
#[derive(Default)]
pub struct Steps {
    /// Those that failed, and what they panicked with.
    failed: Vec<(String, String)>,
}

impl Steps {
    /// Tries one step; what it panics with is on standard error, as for a test.
    pub fn step(&mut self, name: &str, action: impl FnOnce()) {
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(action));
        let passed = ended.is_ok();
        if let Err(payload) = ended {
            let constant = payload.downcast_ref::<&str>().copied().unwrap_or("a panic");
            let reason = payload.downcast_ref::<String>().map_or(constant, String::as_str);
            self.failed.push((name.to_owned(), reason.chars().take(LONGEST).collect()));
        }
        eprintln!("{} {:6.1} s  {name}", if passed { "ok    " } else { "FAILED" }, start.elapsed().as_secs_f64());
    }

    /// As [`Steps::step`], for one without which there is no next: the test ends where it fails.
    pub fn require(&mut self, name: &str, action: impl FnOnce()) {
        let before = self.failed.len();
        self.step(name, action);
        assert!(self.failed.len() == before, "{}no way on", self.told());
    }

    /// The end: fails where a step has failed.
    pub fn finish(self) {
        assert!(self.failed.is_empty(), "{}", self.told());
    }

    /// A line and more for each that failed: CI may show no more than the end of what was written.
    fn told(&self) -> String {
        let lines: Vec<_> = self.failed.iter().map(|(name, reason)| format!("failed: {name}: {reason}\n")).collect();
        lines.concat()
    }
}
