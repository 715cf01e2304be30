// SPDX-License-Identifier: MIT OR Apache-2.0
//! One line that says how far long work is, for somebody who waits at a terminal.

use std::io::{self, IsTerminal as _, Write as _};

/// The line, on standard error; there is none where nobody looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    is_shown: bool,
}

impl Progress {
    /// One that is shown at a terminal, unless this run is `quiet`, since its output is for programs.
    pub fn new(quiet: bool) -> Self {
        Self { is_shown: !quiet && io::stderr().is_terminal() }
    }

    /// Says `what` is being done, in place of what was said before; it is to be ours, with nothing of others in it.
    pub fn tell(self, what: &str) {
        if self.is_shown {
            // Nothing depends on its being read.
            let _ = write!(io::stderr(), "\r\x1b[K{what} …");
        }
    }

    /// Takes the line away.
    pub fn clear(self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
