// SPDX-License-Identifier: MIT OR Apache-2.0
//! The steps of a process that goes to another place before it starts something: which one the
//! system did not allow.

use std::io;

/// A step that the system did not allow.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {error}")]
pub(super) struct Obstacle {
    step: &'static str,
    error: io::Error,
}

pub(super) trait Step<T> {
    /// Names the step that this is the result of.
    fn step(self, step: &'static str) -> Result<T, Obstacle>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Obstacle> {
        self.map_err(|e| Obstacle { step, error: e.into() })
    }
}
