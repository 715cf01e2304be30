// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times the service beside systemd-binfmt, for tests/bench.sh, in whose namespace it runs: from a
//! flush of the table until programs run again, from the start until READY=1, and what it takes of
//! memory and of wake-ups. Arguments: the service's program, systemd-binfmt's, how many flushes, a
//! foreign program, and what it has to print.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::error::Error;
use std::fs::{self, read_dir};
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

type Fallible<T> = Result<T, Box<dyn Error>>;

const TABLE: &str = "/proc/sys/fs/binfmt_misc";
const SOCKET: &str = "/run/bench-notify";
/// A flush whose handlers are not back by then is lost.
const LOST: Duration = Duration::from_secs(10);

/// The middle, and the one that only one in a hundred is above, in milliseconds.
fn show(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let count = times.len();
    println!("{what:<34} median {:6.2} ms   99th percentile {:6.2}   most {:6.2}   ({count})", at(50), at(99), at(100));
}

fn handlers() -> Fallible<usize> {
    Ok(read_dir(TABLE)?.count().saturating_sub(2))
}

/// What its unit sets.
const TUNABLES: &str = "glibc.malloc.tcache_count=0:glibc.malloc.trim_threshold=0:glibc.malloc.top_pad=0:\
                        glibc.malloc.mmap_threshold=32768";

/// Starts the service, and gives it and the time until it says that it is ready.
fn start(program: &str) -> Fallible<(Child, Duration)> {
    let _ = fs::remove_file(SOCKET);
    let socket = UnixDatagram::bind(SOCKET)?;
    socket.set_read_timeout(Some(LOST))?;
    let begin = Instant::now();
    let child = Command::new(program)
        .env("NOTIFY_SOCKET", SOCKET)
        .env("GLIBC_TUNABLES", TUNABLES)
        .stderr(Stdio::null())
        .spawn()?;
    let mut text = [0; 512];
    let length = socket.recv(&mut text)?;
    let took = begin.elapsed();
    assert!(text[..length].starts_with(b"READY=1"), "{}", String::from_utf8_lossy(&text[..length]));
    Ok((child, took))
}

fn stop(mut child: Child) -> Fallible<()> {
    let pid = nix::unistd::Pid::from_raw(child.id().try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    assert!(child.wait()?.success());
    Ok(())
}

/// Flushes the table, and gives the time until `wanted` handlers are there again. Then the foreign
/// program has to run.
fn flush(wanted: usize, foreign: &[String], restore: impl FnOnce() -> Fallible<()>) -> Fallible<Duration> {
    fs::write(Path::new(TABLE).join("status"), "-1")?;
    let begin = Instant::now();
    restore()?;
    while handlers()? < wanted {
        assert!(begin.elapsed() < LOST, "lost: {} of {wanted} handlers are back", handlers()?);
        // The other core is for whoever else is at work.
        std::thread::yield_now();
    }
    let took = begin.elapsed();
    let output = Command::new(&foreign[0]).args(["uname", "-m"]).output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), foreign[1], "the foreign program did not run");
    Ok(took)
}

fn status(pid: u32, key: &str) -> Fallible<u64> {
    let mut text = String::new();
    fs::File::open(format!("/proc/{pid}/status"))?.read_to_string(&mut text)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.and_then(|line| line.split_ascii_whitespace().next()).ok_or("no such line")?.parse()?)
}

fn main() -> Fallible<()> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [program, peer, flushes, foreign @ ..] = &arguments[..] else { return Err("see the top of this file".into()) };
    let flushes: usize = flushes.parse()?;
    let wanted = handlers()?;
    println!("-- {wanted} handlers");

    let mut starts = Vec::new();
    for _ in 0..flushes.min(50) {
        let (child, took) = start(program)?;
        starts.push(took);
        stop(child)?;
    }
    show("start until READY=1", &mut starts);

    let mut by_peer = Vec::new();
    for _ in 0..flushes.min(100) {
        let run = || {
            assert!(Command::new(peer).status()?.success());
            Ok(())
        };
        by_peer.push(flush(wanted, foreign, run)?);
    }
    show("flush until back, systemd-binfmt", &mut by_peer);

    let (child, _) = start(program)?;
    sleep(Duration::from_secs(3));
    let mut by_service = Vec::new();
    for _ in 0..flushes {
        by_service.push(flush(wanted, foreign, || Ok(()))?);
        sleep(Duration::from_millis(20));
    }
    show("flush until back, qemu-persistd", &mut by_service);
    sleep(Duration::from_secs(4));
    assert_eq!(handlers()?, wanted, "the stand-ins are gone and the names are back");

    let before = status(child.id(), "voluntary_ctxt_switches")?;
    sleep(Duration::from_secs(20));
    let woken = status(child.id(), "voluntary_ctxt_switches")? - before;
    println!(
        "memory afterwards: {} kB resident, {} kB of it private",
        status(child.id(), "VmRSS")?,
        status(child.id(), "RssAnon")?
    );
    println!("wake-ups in 20 idle seconds: {woken}");
    stop(child)
}
