// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service: looks at the start, tells systemd that it is ready, and then watches.
//!
//! Everything goes through the same steps as with the command. One thread waits for changes in the
//! kernel's table and in files, for signals, and for a slow timer as a net; nothing else wakes it.

mod diary;
mod fights;
mod keeper;
mod life;
mod news;
mod permit;
mod registrars;
mod watches;

use std::io;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;
use tracing::Level;

use keeper::Keeper;
use life::Stop;
use watches::Change;

/// The longest time between two looks when nothing happens.
const NET: Duration = Duration::from_secs(300);

/// Runs the service until it is told to stop. Gives the exit code: 0 after SIGTERM or SIGINT, 78 for
/// a configuration that is broken at the start, 1 where it cannot go on and should be started again.
pub fn main() -> ExitCode {
    crate::logging::init(Level::INFO);
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            tracing::error!("{stop}");
            if matches!(stop, Stop::Config(_)) { ExitCode::from(78) } else { ExitCode::FAILURE }
        }
    }
}

/// Tells systemd, where it started this process. That it cannot be told changes nothing here.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("systemd could not be told: {e}");
    }
}

/// What woke the service.
enum Event {
    Changes,
    Time,
    Reload,
    Stop,
}

/// Signals are read like everything else, so that none comes in the middle of a change.
fn signals() -> io::Result<SignalFd> {
    let set = SigSet::from_iter([Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT]);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn wait(keeper: &Keeper, signals: &SignalFd) -> io::Result<Event> {
    let pause = keeper.next_look().saturating_duration_since(Instant::now());
    // Up, so that nothing is looked at just before its time.
    let pause = pause.as_nanos().div_ceil(1_000_000);
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
    let mut ready =
        [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(keeper.descriptor(), PollFlags::POLLIN)];
    match poll(&mut ready, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(e.into()),
    }
    if let Some(signal) = signals.read_signal()? {
        let hangup = i32::try_from(signal.ssi_signo) == Ok(Signal::SIGHUP as i32);
        return Ok(if hangup { Event::Reload } else { Event::Stop });
    }
    Ok(if ready[1].any().unwrap_or(false) { Event::Changes } else { Event::Time })
}

fn run() -> Result<(), Stop> {
    let signals = signals()?;
    // systemd ends a service that does not ping in this time.
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(NET, |limit| NET.min(limit / 2));
    let mut keeper = Keeper::start(every)?;
    tell(&[NotifyState::Ready, NotifyState::Status(&keeper.status())]);
    loop {
        let change = match wait(&keeper, &signals)? {
            Event::Stop => break,
            Event::Reload => {
                reload(&mut keeper)?;
                continue;
            }
            Event::Changes => match keeper.changes() {
                Change::None if Instant::now() < keeper.next_look() => continue,
                change => change,
            },
            Event::Time => Change::None,
        };
        if keeper.look(change)? {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&keeper.status())]);
        }
    }
    tell(&[NotifyState::Stopping]);
    Ok(())
}

fn reload(keeper: &mut Keeper) -> Result<(), Stop> {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
    keeper.look(Change::All)?;
    tell(&[NotifyState::Ready, NotifyState::Watchdog, NotifyState::Status(&keeper.status())]);
    Ok(())
}
