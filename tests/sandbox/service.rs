// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service as others see it, without one: its unit, the lock that it holds, and what it tells.

use std::io::{BufRead as _, BufReader};
use std::process::Child;

use qemu_persist::record::boot_seconds;
use qemu_persist::service::{LOCK, SELFTEST_TIMER, STATE, State, UNIT, awake_seconds};

use super::Sandbox;

/// A lock that is held as a service that lives holds it.
pub struct Held {
    holder: Child,
    /// The process that holds it, inside.
    process: String,
}

impl Sandbox {
    /// Installs a unit that nothing reads.
    pub fn install_unit(&self, name: &str) {
        self.write(&format!("/usr/lib/systemd/system/{name}"), "[Unit]\n");
    }

    /// Writes what a service tells that was started two minutes ago, which any machine is up for, and has just looked.
    pub fn tell_state(&self, change: impl FnOnce(&mut State)) {
        let now = boot_seconds();
        let mut state = State {
            boot_id: self.sh("cat /proc/sys/kernel/random/boot_id").trim().to_owned(),
            pid: 1,
            version: "0.1.0".to_owned(),
            started: now.saturating_sub(121),
            last_look: now,
            last_look_awake: awake_seconds(),
            look_every: 300,
            ..State::default()
        };
        change(&mut state);
        self.write(STATE, &serde_json::to_string(&state).expect("JSON"));
    }

    /// Takes the lock.
    pub fn hold_lock(&self) -> Held {
        self.install("/usr/bin/flock");
        self.sh("mkdir -p /run/qemu-persist");
        let arguments = ["--no-fork", "--exclusive", LOCK, "/bin/sh", "-c", "echo $$; exec sleep 1000"];
        let mut holder = self.start("/usr/bin/flock", &arguments);
        let mut process = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut process).expect("to be read");
        assert!(process.trim().parse::<u32>().is_ok(), "{process:?}");
        Held { holder, process: process.trim().to_owned() }
    }

    /// Lets the lock go, as a service does that ends, however.
    pub fn let_go(&self, mut held: Held) {
        self.sh(&format!("kill -9 {}", held.process));
        held.holder.wait().expect("an end");
    }

    /// Starts the service itself.
    pub fn start_service(&self) -> Child {
        self.install_at(env!("CARGO_BIN_EXE_qemu-persistd"), "/usr/libexec/qemu-persist/qemu-persistd");
        self.install_unit(UNIT);
        self.start("/usr/libexec/qemu-persist/qemu-persistd", &[])
    }

    /// A service that is installed, with the timer of the self-test, and runs.
    pub fn serve(&self) -> Held {
        self.install_unit(UNIT);
        self.install_unit(SELFTEST_TIMER);
        self.tell_state(|_| {});
        self.hold_lock()
    }
}
