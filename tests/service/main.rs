// SPDX-License-Identifier: MIT OR Apache-2.0
//! The running service, on a real binfmt_misc that nobody else sees: what it tells systemd and the
//! journal, what it mends and how soon, what it leaves alone, and how it ends.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

use daemon::Daemon;
use sandbox::{Sandbox, skip};

/// What is tested, in a sandbox of its own.
type Case = (&'static str, fn(&Sandbox));

/// Runs cases that wait most of the time at the same time, each on a host of its own.
fn together(cases: &[Case]) {
    let hosts: Result<Vec<_>, _> = cases.iter().map(|_| host()).collect();
    let hosts = match hosts {
        Ok(hosts) => hosts,
        Err(reason) => return skip(&reason),
    };
    let failed: Vec<_> = std::thread::scope(|scope| {
        let mut started = Vec::new();
        for (&(name, case), host) in cases.iter().zip(&hosts) {
            let thread = std::thread::Builder::new().name(name.to_owned());
            started.push((name, thread.spawn_scoped(scope, move || case(host)).unwrap()));
        }
        started.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
    });
    assert_eq!(failed, [""; 0]);
}

/// A host with the service installed. To be made before there are threads: a file that is being
/// written when another thread starts a program cannot be executed until that has begun.
fn host() -> Result<Sandbox, String> {
    let host = Sandbox::new()?;
    Daemon::install(&host);
    Ok(host)
}

/// A test of cases that run together.
macro_rules! together {
    ($name:ident: $($case:ident),* $(,)?) => {
        #[test]
        fn $name() {
            $crate::together(&[$((stringify!($case), $case),)*]);
        }
    };
}

mod basics;
mod beside;
mod daemon;
mod drift;
mod emulator;
mod fights;
mod journal;
mod mending;
#[path = "../sandbox/mod.rs"]
mod sandbox;
mod watching;
