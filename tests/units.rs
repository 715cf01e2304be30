// SPDX-License-Identifier: MIT OR Apache-2.0
//! The units: systemd understands them, they order no circle, come where they have to in the boot and in
//! the shutdown, and confine the service; the journal's catalog can be read.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use qemu_persist::emulator::path_for;
use qemu_persist::platform::{PLATFORMS, Platform};
use qemu_persist::{messages, service};

const SELFTEST: &str = "qemu-persist-selftest.service";
const PATH_UNIT: &str = "qemu-persist-selftest.path";

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn unit(name: &str) -> String {
    fs::read_to_string(source("systemd").join(name)).unwrap()
}

/// All values of `key` in a unit, split at blanks, as systemd adds them up.
fn values(unit: &str, key: &str) -> Vec<String> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(|value| value.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The version of systemd's programs here; none, said aloud, where there are none.
fn systemd_version() -> Option<u32> {
    let Ok(output) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("skipped: systemd-analyze is not installed");
        return None;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.split_ascii_whitespace().nth(1).unwrap().parse().unwrap())
}

/// A tree with systemd's own units and ours, enabled as the package enables them, and with files where
/// the programs are to be. `change` may alter the text of the service.
fn tree(change: impl Fn(String) -> String) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let units = tree.path().join("usr/lib/systemd/system");
    let enabled = tree.path().join("etc/systemd/system");
    fs::create_dir_all(units.parent().unwrap()).unwrap();
    fs::create_dir_all(&enabled).unwrap();
    let copied = Command::new("cp").args(["-R", "/usr/lib/systemd/system"]).arg(units.parent().unwrap()).status();
    assert!(copied.unwrap().success());
    symlink("usr/lib", tree.path().join("lib")).unwrap();
    for entry in fs::read_dir(source("systemd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = if name == service::UNIT { change(unit(&name)) } else { unit(&name) };
        for target in values(&text, "WantedBy") {
            let wants = enabled.join(format!("{target}.wants"));
            fs::create_dir_all(&wants).unwrap();
            symlink(Path::new("/usr/lib/systemd/system").join(&name), wants.join(&name)).unwrap();
        }
        fs::write(units.join(name), text).unwrap();
    }
    for program in ["usr/bin/qemu-persist", "usr/libexec/qemu-persist/qemu-persistd", "bin/sh", "bin/rm"] {
        let file = tree.path().join(program);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    tree
}

/// What `systemd-analyze verify` says of a boot into `tree`: whether it accepts all, and the lines about
/// us. Of circles it tells only at this level.
fn verify(tree: &Path, level: &str) -> (bool, Vec<String>) {
    let ours = [service::UNIT, SELFTEST, service::SELFTEST_TIMER, PATH_UNIT];
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).arg(format!("--root={}", tree.display())).env("SYSTEMD_LOG_LEVEL", level);
    let output = command.args(ours).arg("multi-user.target").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output.status.success(), said.lines().filter(|line| line.contains("qemu-persist")).map(str::to_owned).collect())
}

fn circles(tree: &Path) -> Vec<String> {
    verify(tree, "debug").1.into_iter().filter(|line| line.contains("ordering cycle")).collect()
}

#[test]
fn systemd_accepts_the_units() {
    if systemd_version().is_none_or(|version| version < 252) {
        return eprintln!("skipped: it takes systemd-analyze of systemd 252");
    }
    let (accepted, said) = verify(tree(|text| text).path(), "info");
    assert!(accepted && said.is_empty(), "{said:#?}");
    // It would tell of a program that is missing, and of a value that it does not know.
    for (old, new, complaint) in [
        ("/usr/libexec/qemu-persist/qemu-persistd", "/usr/libexec/missing", "not executable"),
        ("ProtectSystem=strict", "ProtectSystem=stict", "protect system"),
    ] {
        let (_, said) = verify(tree(|text| text.replace(old, new)).path(), "info");
        assert!(said.iter().any(|line| line.contains(complaint)), "{new}: {said:#?}");
    }
}

#[test]
fn the_boot_goes_round_no_circle() {
    if systemd_version().is_none_or(|version| version < 252) {
        return eprintln!("skipped: it takes systemd-analyze of systemd 252");
    }
    assert_eq!(circles(tree(|text| text).path()), [""; 0]);
    let round = tree(|text| text.replace("After=local-fs.target", "After=basic.target"));
    assert!(!circles(round.path()).is_empty(), "it would not be told of one");
}

#[test]
fn the_service_is_confined() {
    if systemd_version().is_none_or(|version| version < 252) {
        return eprintln!("skipped: it takes systemd-analyze of systemd 252");
    }
    let security = |file: &Path| {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--threshold=15", "--no-pager"]);
        command.arg(file).output().unwrap()
    };
    let output = security(&source("systemd").join(service::UNIT));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let folder = tempfile::tempdir().unwrap();
    let loose = folder.path().join(service::UNIT);
    fs::write(&loose, unit(service::UNIT).replace("SystemCallFilter=", "# ")).unwrap();
    assert!(!security(&loose).status.success(), "the threshold holds nothing back");
}

#[test]
fn the_service_comes_before_everything_that_starts_containers() {
    let text = unit(service::UNIT);
    assert_eq!(values(&text, "DefaultDependencies"), ["no"]);
    for (key, expected) in [
        ("After", &["local-fs.target", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.mount"][..]),
        ("Before", &["sysinit.target", "shutdown.target"]),
        ("Conflicts", &["shutdown.target"]),
        ("Wants", &["proc-sys-fs-binfmt_misc.mount"]),
        ("WantedBy", &["sysinit.target"]),
    ] {
        let values = values(&text, key);
        assert!(expected.iter().all(|unit| values.iter().any(|value| value == unit)), "{key}={values:?}");
    }
    // A skipped or inactive unit would look healthy.
    for key in ["Requires", "Requisite", "BindsTo", "Condition", "Assert"] {
        assert!(!text.lines().any(|line| line.starts_with(key)), "{key}");
    }
    // What stops containers' handlers is none of this service's business, nor what a restart of systemd-binfmt is.
    assert!(values(&text, "PartOf").is_empty() && values(&text, "ExecStop").is_empty());
    assert_eq!(values(&text, "Type"), ["notify"]);
    assert_eq!(values(&text, "TimeoutStartSec"), ["10s"]);
    assert_eq!(values(&text, "RestartPreventExitStatus"), ["78"]);
    assert!(values(&text, "RuntimeDirectoryPreserve") == ["yes"] && values(&text, "WatchdogSec").len() == 1);
}

#[test]
fn the_self_test_is_not_in_the_way_of_the_boot() {
    let text = unit(SELFTEST);
    assert!(values(&text, "WantedBy").is_empty() && values(&text, "Before").is_empty());
    assert!(values(&text, "After").contains(&"docker.service".to_owned()));
    assert_eq!(values(&text, "SuccessExitStatus"), ["1", "143"], "2 and 3 leave it failed");
    // QEMU writes the code that it runs.
    assert!(values(&text, "MemoryDenyWriteExecute").is_empty() && values(&text, "SystemCallFilter").is_empty());
    // systemd looks again whether the file exists when the self-test ends (systemd.path(5)): what comes while
    // one runs is not lost, and none runs for ever, since each takes the file away first, on every condition.
    let path_unit = unit(PATH_UNIT);
    assert_eq!(values(&path_unit, "PathExists"), [service::SELFTEST_DUE]);
    assert!(!path_unit.contains("\nPathChanged=") && values(&path_unit, "TriggerLimitBurst") == ["30"]);
    assert_eq!(values(&text, "ExecStartPre"), ["/bin/rm", "-f", service::SELFTEST_DUE]);
    assert!(["Condition", "Assert", "ExecCondition"].iter().all(|key| !text.contains(&format!("\n{key}"))));
    assert_eq!(values(&text, "StartLimitIntervalSec"), ["0"]);
    // A host on which nothing is wanted has no failed unit.
    assert_eq!(values(&text, "ExecStart"), ["/usr/bin/qemu-persist", "selftest", "--if-wanted"]);
    assert!(values(&unit(service::SELFTEST_TIMER), "OnCalendar") == ["weekly"]);
}

#[test]
fn the_package_hears_of_every_interpreter() {
    let triggers = fs::read_to_string(source("packaging/debian/triggers")).unwrap();
    let interests: Vec<_> = triggers.lines().filter_map(|line| line.strip_prefix("interest-noawait ")).collect();
    let files = PLATFORMS.iter().flat_map(|p| ["", "-static"].map(|end| format!("/usr/bin/qemu-{}{end}", p.qemu)));
    let folders = ["/usr/lib/binfmt.d", "/usr/libexec/qemu-binfmt"].map(str::to_owned);
    // Those that qemu-persist-emulator has; the folder is this package's own as well.
    let emulator = ["amd64", "386", "arm64"].map(|name| path_for(Platform::named(name).unwrap()).display().to_string());
    assert_eq!(interests, folders.into_iter().chain(emulator).chain(files).collect::<Vec<_>>());
}

#[test]
fn the_journal_finds_every_message_in_the_catalog() {
    if systemd_version().is_none() {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let folder = tree.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(tree.path().join("var/lib/systemd/catalog")).unwrap();
    fs::copy(source("packaging/qemu-persist.catalog"), folder.join("qemu-persist.catalog")).unwrap();
    let journalctl = |what: &str| {
        let output =
            Command::new("journalctl").arg(format!("--root={}", tree.path().display())).arg(what).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    journalctl("--update-catalog");
    let listed = journalctl("--list-catalog");
    let listed: BTreeSet<_> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(listed, messages::ALL.iter().map(|(id, _)| *id).collect());
}
