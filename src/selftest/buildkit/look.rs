// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at the process of a build's step: by what does it run?
//!
//! The step's container has BuildKit's own QEMU in it, or not, as long as it lives. What the file is that its process
//! runs is not enough: a program that the first one has become runs by the kernel's handler, where there is one.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;

use super::step::EMULATOR;
use crate::selftest::sight::{self, Sighting, Unseen};

/// What was seen of the step's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether BuildKit has put its own QEMU into the container.
    pub(super) emulator: bool,
    /// What it runs.
    pub(super) sighting: Sighting,
}

/// Looks for the process that was given `nonce` as an argument, among those that were not there `before`. None where
/// there is none now.
pub(super) fn glance(before: &BTreeSet<u32>, nonce: &str) -> Option<Seen> {
    sight::processes().difference(before).find_map(|&pid| look(pid, nonce))
}

fn look(pid: u32, nonce: &str) -> Option<Seen> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    if !line.windows(nonce.len()).any(|window| window == nonce.as_bytes()) {
        return None;
    }
    // Before the file that it runs: a process of which that can still be read was there for both.
    let emulator = match fs::symlink_metadata(format!("/proc/{pid}/root{EMULATOR}")) {
        Ok(_) => true,
        Err(_) if line.starts_with(EMULATOR.as_bytes()) => true,
        Err(e) if e.kind() == ErrorKind::NotFound => false,
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return Some(Seen { emulator: false, sighting: Sighting::NotSeen(Unseen::NotAllowed) });
        }
        Err(_) => return None,
    };
    let sighting = match sight::exe(pid) {
        Ok(exe) => Sighting::Seen(exe),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Sighting::NotSeen(Unseen::NotAllowed),
        Err(_) if emulator => Sighting::NotSeen(Unseen::TooSoon),
        Err(_) => return None,
    };
    Some(Seen { emulator, sighting })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_found_by_its_argument_and_only_if_it_is_new() {
        let before = sight::processes();
        let mut child = Command::new("/bin/sleep").arg("600.0456").stdout(Stdio::null()).spawn().unwrap();
        let mut seen = None;
        while seen.is_none() {
            seen = glance(&before, "600.0456");
        }
        let again = glance(&sight::processes(), "600.0456");
        child.kill().unwrap();
        child.wait().unwrap();
        let Some(Seen { emulator: false, sighting: Sighting::Seen(exe) }) = seen else { panic!("{seen:?}") };
        assert!(exe.inside && again.is_none(), "{exe:?}");
        assert_eq!(glance(&before, "600.0456"), None);
    }
}
