// SPDX-License-Identifier: MIT OR Apache-2.0
//! That the probes are what their sources make, and do what is said of them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::*;

pub(super) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/selftest/probes")
}

/// Where the command `name` is; if nowhere, a line says that the test is skipped.
fn find_command(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A command with a time limit of a minute.
pub(super) fn limited(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=1").arg("60").arg(program);
    command
}

/// Makes all probes from their sources with further compiler flags.
pub(super) fn build(flags: &[&str]) -> Option<tempfile::TempDir> {
    for command in ["clang-19", "ld.lld-19"] {
        find_command(command)?;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = limited(&sources().join("build.sh")).arg(dir.path()).args(flags).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(dir)
}

fn file_name(probe: &Probe) -> String {
    format!("identity.{}.elf", probe.platform.oci)
}

/// All of them, with the names of their files.
fn all() -> impl Iterator<Item = (String, &'static Probe)> {
    let depth = DEPTH.iter().map(|probe| (format!("depth.{}.elf", probe.platform.oci), probe));
    IDENTITY.iter().map(|probe| (file_name(probe), probe)).chain(depth)
}

/// The probe as a file that can be started: that which is carried in the program.
fn file(probe: &Probe) -> PathBuf {
    sources().join(file_name(probe))
}

/// Debian's QEMU for the platform, under bookworm's name or trixie's.
pub(super) fn find_qemu(platform: &Platform) -> Option<PathBuf> {
    let names = [format!("qemu-{}-static", platform.qemu), format!("qemu-{}", platform.qemu)];
    let found = names.iter().map(|name| Path::new("/usr/bin").join(name)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: {} is not installed", names[0]);
    }
    found
}

/// `program` started under the platform's QEMU, so that no handler of the kernel has a part in it.
fn under_qemu(probe: &Probe, program: &Path) -> Option<Command> {
    let mut command = limited(&find_qemu(probe.platform)?);
    command.arg(program).env_clear();
    Some(command)
}

fn stdout_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_bytes_come_from_the_sources() {
    let Some(built) = build(&[]) else { return };
    let compiler = |dir: &Path| std::fs::read_to_string(dir.join("compiler.txt")).unwrap();
    for (name, probe) in all() {
        let fresh = std::fs::read(built.path().join(&name)).unwrap();
        assert!(
            fresh == probe.elf,
            "{name} is not what build.sh makes of the sources now: run it and commit what it writes.\nmade with:\n{}here is:\n{}",
            compiler(&sources()),
            compiler(built.path()),
        );
    }
    assert_eq!(compiler(&sources()).lines().count(), 2);
    let elves = |dir: &Path| {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.filter(|name| Path::new(name).extension() == Some("elf".as_ref())).collect();
        names.sort();
        names
    };
    assert_eq!(elves(&sources()), elves(built.path()), "a program that build.sh does not make, or one that is missing");
}

#[test]
fn every_platform_has_the_probe_that_its_pattern_matches() {
    for (probe, platform) in IDENTITY.iter().zip(&PLATFORMS) {
        assert_eq!(probe.platform, platform);
        let matching: Vec<_> = PLATFORMS.iter().filter(|p| p.matches(&probe.elf[..64])).collect();
        assert_eq!(matching, [platform]);
        assert_eq!(Platform::of_program(identity(platform)), Some(platform));
    }
    for probe in &DEPTH {
        assert_eq!(Platform::of_program(depth(probe.platform).unwrap()), Some(probe.platform));
    }
}

/// Reads the unsigned integer of `size` bytes at `offset` in the file's own byte order.
fn integer(elf: &[u8], offset: usize, size: usize) -> u64 {
    let bytes = elf[offset..offset + size].iter();
    let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if elf[5] == 1 { bytes.rev().fold(0, add) } else { bytes.fold(0, add) }
}

#[test]
fn probes_are_small_static_and_map_with_any_page_size() {
    const LOAD: u64 = 1;
    const STACK: u64 = 0x6474_e551;
    for (file, probe) in all() {
        let (elf, name) = (probe.elf, probe.platform);
        let most = if file.starts_with("identity") { 2048 } else { 16384 };
        assert!(elf.len() < most, "{file}: {} bytes", elf.len());
        let wide = elf[4] == 2;
        // elf(5): e_phoff, e_flags, e_phnum; p_flags, p_offset, p_vaddr, p_filesz, p_memsz, p_align.
        let (word, at) = if wide { (8, [32, 48, 56]) } else { (4, [28, 36, 44]) };
        let field = if wide { [4, 8, 16, 32, 40, 48] } else { [24, 4, 8, 16, 20, 28] };
        assert_eq!(integer(elf, 16, 2), 2, "{name}: ET_EXEC");
        let flags = match name.oci {
            "arm" => 0x0500_0200,                 // EABI 5, soft float
            "ppc64le" => 2,                       // ELFv2
            "mips64" | "mips64le" => 0x2000_0001, // MIPS III, n64
            "loong64" => 0x41,                    // soft float, object ABI 1
            _ => 0,
        };
        assert_eq!(integer(elf, at[1], 4), flags, "{name}: e_flags");
        let table = usize::try_from(integer(elf, at[0], word)).unwrap();
        let size = if wide { 56 } else { 32 };
        let segments: Vec<_> = (0..usize::try_from(integer(elf, at[2], 2)).unwrap())
            .map(|i| table + i * size)
            .map(|start| (integer(elf, start, 4), start))
            .collect();
        // So there is no PT_INTERP and no PT_DYNAMIC either.
        assert_eq!(segments.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [LOAD, STACK], "{name}");
        let value = |segment: usize, i: usize| {
            let size = if i == 0 { 4 } else { word };
            integer(elf, segments[segment].1 + field[i], size)
        };
        assert_eq!(value(0, 0), 5, "{name}: the only segment is to be read and executed, not written");
        assert_eq!(value(1, 0), 6, "{name}: the stack is not executable");
        assert_eq!((value(0, 1), value(0, 2) % 0x10000, value(0, 5)), (0, 0, 0x10000), "{name}: alignment");
        assert_eq!(value(0, 3), value(0, 4), "{name}: nothing is to be zeroed");
    }
}

#[test]
fn each_says_under_qemu_what_its_platform_says() {
    for probe in &IDENTITY {
        let nonce = format!("nonce-for-{}", probe.platform.oci);
        let Some(mut command) = under_qemu(probe, &file(probe)) else { continue };
        let output = command.arg(&nonce).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(status::ANSWERED), "{}", probe.platform);
        assert_eq!(parse_answer(&output.stdout, &nonce).as_deref(), Ok(probe.platform.uname), "{}", probe.platform);
    }
}

/// QEMU up to 9.0 can be told to act as if the host's pages were larger (`-p`).
#[test]
fn each_runs_where_the_host_has_large_pages() {
    for probe in &IDENTITY {
        for size in ["16384", "65536"] {
            // QEMU 7.2 cannot run any 32-bit ARM program then: its vector page wraps around the
            // end of the guest's addresses (page_set_flags: Assertion `end - 1 <= GUEST_ADDR_MAX').
            if probe.platform.oci == "arm" && size == "65536" {
                continue;
            }
            let Some(qemu) = find_qemu(probe.platform) else { continue };
            let mut command = limited(&qemu);
            command.args(["-p", size]).arg(file(probe)).arg("large").env_clear();
            let output = command.stdin(Stdio::null()).output().unwrap();
            if String::from_utf8_lossy(&output.stderr).contains("cannot change host page size") {
                eprintln!("skipped: this QEMU knows no other page size than the host's");
                return;
            }
            let machine = parse_answer(&output.stdout, "large");
            assert_eq!(machine.as_deref(), Ok(probe.platform.uname), "{} with {size}: {output:?}", probe.platform);
        }
    }
}

#[test]
fn each_deals_with_the_nonce_and_with_an_output_that_is_closed() {
    for probe in &IDENTITY {
        let program = file(probe);
        let Some(mut command) = under_qemu(probe, &program) else { continue };
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(stdout_of(&output), format!("qemu-persist-probe 1 {}\n", probe.platform.uname));

        let longest = "n".repeat(NONCE_MAX);
        let run = |nonce: &str| under_qemu(probe, &program).unwrap().arg(nonce).stdin(Stdio::null()).output().unwrap();
        assert_eq!(parse_answer(&run(&longest).stdout, &longest).as_deref(), Ok(probe.platform.uname));
        let refused = run(&format!("{longest}n"));
        assert_eq!((refused.status.code(), stdout_of(&refused)), (Some(status::ARGUMENT_TOO_LONG), String::new()));

        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = under_qemu(probe, &program).unwrap();
        let failed = command.arg("x").stdin(Stdio::null()).stdout(full).status().unwrap();
        assert_eq!(failed.code(), Some(status::CANNOT_WRITE), "{}", probe.platform);
    }
}

/// Starts `command` with its standard input held open, and waits for its line.
fn start_and_read(command: &mut Command) -> (Child, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line)
}

#[test]
fn each_lives_until_its_input_ends() {
    for probe in &IDENTITY {
        let Some(mut command) = under_qemu(probe, &file(probe)) else { continue };
        let (mut child, line) = start_and_read(command.arg("held"));
        assert_eq!(parse_answer(line.as_bytes(), "held").as_deref(), Ok(probe.platform.uname));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(child.try_wait().unwrap().is_none(), "{}: it does not wait", probe.platform);
        // wait() closes the child's standard input first.
        assert_eq!(child.wait().unwrap().code(), Some(status::ANSWERED), "{}", probe.platform);
    }
}

#[test]
fn each_ends_when_its_time_is_over() {
    let Some(built) = build(&["-DLIFETIME=1"]) else { return };
    let started: Vec<_> = IDENTITY
        .iter()
        .filter_map(|probe| Some((probe, under_qemu(probe, &built.path().join(file_name(probe)))?)))
        .map(|(probe, mut command)| (probe, start_and_read(command.arg("late"))))
        .collect();
    for (probe, (mut child, line)) in started {
        assert_eq!(parse_answer(line.as_bytes(), "late").as_deref(), Ok(probe.platform.uname));
        let input = child.stdin.take();
        assert_eq!(child.wait().unwrap().code(), Some(status::OUT_OF_TIME), "{}", probe.platform);
        drop(input);
    }
}

/// Whether the machine that the tests run on is an x86-64 one, where two probes run natively.
fn runs_x86() -> bool {
    let is_x86 = cfg!(target_arch = "x86_64");
    if !is_x86 {
        eprintln!("skipped: the machine is no x86-64 one");
    }
    is_x86
}

#[test]
fn x86_probes_run_natively() {
    if !runs_x86() {
        return;
    }
    // A kernel without 32-bit support would hand the second to QEMU or to nobody.
    for oci in ["amd64", "386"] {
        let probe = IDENTITY.iter().find(|probe| probe.platform.oci == oci).unwrap();
        let output = limited(&file(probe)).arg("native").stdin(Stdio::null()).output().unwrap();
        match parse_answer(&output.stdout, "native") {
            Ok(machine) => assert!(machine == "x86_64" || oci == "386" && machine.starts_with('i'), "{oci}: {machine}"),
            Err(_) if oci == "386" && output.status.code() == Some(126) => {
                eprintln!("skipped: this kernel runs no 32-bit programs");
            }
            Err(error) => panic!("{oci}: {error}: {output:?}"),
        }
    }
}

/// A signal without a handler is ignored by process 1 of a PID namespace, which the probe is in a
/// container: its time limit must hold there as well.
#[test]
fn time_is_limited_for_process_1_too() {
    if !runs_x86() {
        return;
    }
    let Some(unshare) = find_command("unshare") else { return };
    let namespaces = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    if !limited(&unshare).args(namespaces).arg("true").output().unwrap().status.success() {
        eprintln!("skipped: no user namespace can be made here");
        return;
    }
    let Some(built) = build(&["-DLIFETIME=1"]) else { return };
    let mut command = limited(&unshare);
    command.args(namespaces).arg(built.path().join("identity.amd64.elf")).arg("first");
    let (mut child, line) = start_and_read(&mut command);
    assert_eq!(parse_answer(line.as_bytes(), "first").as_deref(), Ok("x86_64"));
    let input = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(status::OUT_OF_TIME));
    drop(input);
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
