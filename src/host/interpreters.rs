// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which programs that run foreign programs are installed: QEMU's user emulators, and others.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::command;
use super::dpkg::Packages;
use super::userland::read_head;
use crate::emulator;
use crate::files::Root;
use crate::platform::Platform;
use crate::qemu;

/// Where QEMU's user emulators are.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/usr/libexec/qemu-binfmt", emulator::DIRECTORY];

/// What QEMU has user emulators for (`configs/targets/*-linux-user.mak`, up to QEMU 10).
const TARGETS: [&str; 35] = [
    "aarch64",
    "aarch64_be",
    "alpha",
    "arm",
    "armeb",
    "cris",
    "hexagon",
    "hppa",
    "i386",
    "loongarch64",
    "m68k",
    "microblaze",
    "microblazeel",
    "mips",
    "mips64",
    "mips64el",
    "mipsel",
    "mipsn32",
    "mipsn32el",
    "nios2",
    "or1k",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv32",
    "riscv64",
    "s390x",
    "sh4",
    "sh4eb",
    "sparc",
    "sparc32plus",
    "sparc64",
    "x86_64",
    "xtensa",
    "xtensaeb",
];

/// The other translators, by name and the places that they are installed in.
const TRANSLATORS: [(&str, &[&str]); 4] = [
    ("box64", &["/usr/bin/box64", "/usr/local/bin/box64"]),
    ("box86", &["/usr/bin/box86", "/usr/local/bin/box86"]),
    ("FEX", &["/usr/bin/FEXInterpreter", "/usr/bin/FEX", "/usr/local/bin/FEXInterpreter", "/usr/local/bin/FEX"]),
    ("Rosetta", &["/run/rosetta/rosetta", "/media/rosetta/rosetta", "/mnt/lima-rosetta/rosetta"]),
];

/// How many programs are asked for their version at a time.
const AT_A_TIME: usize = 8;

/// A program that runs foreign programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Interpreter {
    /// What it is: `box64`, or QEMU's name of the architecture that it runs.
    pub name: String,
    /// The file itself, all links followed.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub path: PathBuf,
    /// The names under which it was found, other than that.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub aliases: Vec<PathBuf>,
    /// The platform that it runs, where the table has it.
    pub runs: Option<&'static Platform>,
    /// The platform that it is built for, where that could be told.
    pub built_for: Option<&'static Platform>,
    /// The package that it is from.
    pub package: Option<String>,
    /// Its version: the package's, or else what it answers itself.
    pub version: Option<String>,
    /// Why the version is not known.
    pub version_unknown: Option<String>,
}

/// The architecture in the name of a QEMU user emulator. None for other programs, QEMU's own among
/// them.
fn target(file_name: &str) -> Option<&'static str> {
    let named = qemu::target_of(Path::new(file_name))?;
    TARGETS.into_iter().find(|target| *target == named)
}

fn describe(root: &Root, packages: &Packages<'_>, name: &str, path: PathBuf, aliases: Vec<PathBuf>) -> Interpreter {
    let package = packages.owner(&path);
    Interpreter {
        name: name.to_owned(),
        runs: Platform::named(name),
        built_for: read_head(root, &path).ok().and_then(|head| Platform::of_program(&head)),
        version: package.as_deref().and_then(|package| packages.version(package)),
        version_unknown: None,
        path,
        aliases,
        package,
    }
}

/// The QEMU user emulators of `root`, by path.
pub fn find_qemu(root: &Root, packages: &Packages<'_>) -> Vec<Interpreter> {
    let mut files: BTreeMap<PathBuf, (&str, Vec<PathBuf>)> = BTreeMap::new();
    for directory in DIRECTORIES.map(Path::new) {
        for file_name in root.list(directory).unwrap_or_default() {
            let Some(target) = file_name.to_str().and_then(target) else { continue };
            let path = directory.join(file_name);
            let Ok(file) = root.resolve(&path) else { continue };
            let (_, aliases) = files.entry(file.clone()).or_insert((target, Vec::new()));
            if path != file {
                aliases.push(path);
            }
        }
    }
    files.into_iter().map(|(path, (name, aliases))| describe(root, packages, name, path, aliases)).collect()
}

/// The other translators of `root`.
pub fn find_translators(root: &Root, packages: &Packages<'_>) -> Vec<Interpreter> {
    let mut found: Vec<Interpreter> = Vec::new();
    for (name, places) in TRANSLATORS {
        for place in places.iter().map(Path::new) {
            let Ok(path) = root.resolve(place) else { continue };
            if let Some(known) = found.iter_mut().find(|known| known.path == path) {
                known.aliases.push(place.to_owned());
                continue;
            }
            let aliases = if path == place { Vec::new() } else { vec![place.to_owned()] };
            let interpreter = describe(root, packages, name, path, aliases);
            let runs = match name {
                "box86" => Platform::named("386"),
                _ => Platform::named("amd64"),
            };
            found.push(Interpreter { runs, ..interpreter });
        }
    }
    found
}

/// Why the program `path` is not to be started just to ask for its version, if so.
fn keep_from_running(path: &Path) -> Option<String> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) => return Some(e.to_string()),
    };
    let others_write = metadata.permissions().mode() & 0o022 != 0;
    let as_root = nix::unistd::geteuid().is_root();
    let not_roots = metadata.uid() != 0 || others_write;
    (as_root && not_roots).then(|| "not run as root: others than root may write it".to_owned())
}

/// The version in the first line of what `--version` wrote.
fn version_in(output: &str) -> Option<String> {
    let line = output.lines().next()?.trim();
    let number =
        |word: &&str| word.contains('.') && word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    let word = line.split_whitespace().find(number).map(|word| word.trim_matches(|c| c == '(' || c == ')' || c == ','));
    word.or(Some(line)).filter(|text| !text.is_empty() && text.len() <= 60).map(str::to_owned)
}

/// Asks those of the running system whose version no package told, for `limit` in all.
pub async fn ask_versions(interpreters: &mut [Interpreter], limit: Duration) {
    let start = Instant::now();
    let unknown: Vec<_> = interpreters.iter_mut().filter(|i| i.version.is_none()).collect();
    let mut unknown = unknown.into_iter().peekable();
    while unknown.peek().is_some() {
        let batch: Vec<_> = unknown.by_ref().take(AT_A_TIME).collect();
        let mut asked = Vec::new();
        for interpreter in batch {
            interpreter.version_unknown = keep_from_running(&interpreter.path);
            if interpreter.version_unknown.is_none() {
                let path = interpreter.path.clone();
                let rest = limit.saturating_sub(start.elapsed());
                let answer = tokio::spawn(async move { command::run(&path, &["--version"], rest).await });
                asked.push((interpreter, answer));
            }
        }
        for (interpreter, answer) in asked {
            match answer.await {
                Ok(Ok(output)) if output.succeeded() => {
                    interpreter.version = version_in(&String::from_utf8_lossy(&output.stdout));
                    interpreter.version_unknown =
                        interpreter.version.is_none().then(|| "it answered with no version".to_owned());
                }
                Ok(Ok(output)) => interpreter.version_unknown = Some(output.complaint()),
                Ok(Err(e)) => interpreter.version_unknown = Some(e.to_string()),
                Err(e) => interpreter.version_unknown = Some(e.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn user_emulators_are_told_by_their_names() {
        for (name, expected) in [
            ("qemu-x86_64", Some("x86_64")),
            ("qemu-aarch64_be-static", Some("aarch64_be")),
            ("x86_64-binfmt-P", Some("x86_64")),
            ("qemu-arm-binfmt", Some("arm")),
            ("qemu-persist", None),
            ("qemu-persistd", None),
            ("qemu-img", None),
            ("qemu-system-x86_64", None),
            ("x86_64-static", None),
            ("arm", None),
            ("qemu-", None),
        ] {
            assert_eq!(target(name), expected, "{name}");
        }
    }

    #[test]
    fn an_images_emulators_are_listed_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        let arm64 = Platform::named("arm64").unwrap();
        let write = |path: &str, content: &[u8]| root.write_whole(Path::new(path), content).unwrap();
        write("/usr/bin/qemu-x86_64-static", &arm64.sample_headers()[1]);
        write("/usr/bin/qemu-img", b"");
        write("/usr/local/bin/qemu-i386", b"#!/bin/sh\n");
        write("/usr/libexec/qemu-persist/qemu-x86_64", &arm64.sample_headers()[1]);
        write("/usr/libexec/qemu-persist/qemu-persistd", &arm64.sample_headers()[1]);
        write("/var/lib/dpkg/info/qemu-persist-emulator.list", b"/usr/libexec/qemu-persist/qemu-x86_64\n");
        write("/usr/local/bin/box64", &arm64.sample_headers()[1]);
        write("/var/lib/dpkg/info/qemu-user-static.list", b"/usr/bin/qemu-x86_64-static\n");
        write(
            "/var/lib/dpkg/status",
            b"Package: qemu-user-static\nStatus: install ok installed\nVersion: 1:7.2\n\n\
              Package: qemu-persist-emulator\nStatus: install ok installed\nVersion: 1:10.0.13+persist1\n",
        );
        root.create_dir_all(Path::new("/usr/libexec/qemu-binfmt")).unwrap();
        symlink("../../bin/qemu-x86_64-static", dir.path().join("usr/libexec/qemu-binfmt/x86_64-binfmt-P")).unwrap();
        let packages = Packages::of(&root);
        let found = find_qemu(&root, &packages);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].path, Path::new("/usr/bin/qemu-x86_64-static"));
        assert_eq!(found[0].aliases, [Path::new("/usr/libexec/qemu-binfmt/x86_64-binfmt-P")]);
        assert_eq!(found[0].runs.map(|p| p.oci), Some("amd64"));
        assert_eq!(found[0].built_for, Some(arm64));
        assert_eq!(
            (found[0].package.as_deref(), found[0].version.as_deref()),
            (Some("qemu-user-static"), Some("1:7.2"))
        );
        assert_eq!(found[1].path, Path::new("/usr/libexec/qemu-persist/qemu-x86_64"));
        assert_eq!(
            (found[1].package.as_deref(), found[1].version.as_deref()),
            (Some("qemu-persist-emulator"), Some("1:10.0.13+persist1"))
        );
        assert_eq!((found[2].built_for, found[2].package.as_deref()), (None, None));
        let translators = find_translators(&root, &packages);
        assert_eq!(translators.len(), 1);
        assert_eq!((translators[0].name.as_str(), translators[0].runs.map(|p| p.oci)), ("box64", Some("amd64")));
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (output, expected) in [
            ("qemu-x86_64 version 8.0.4 (tonistiigi)\nCopyright (c) 2003", Some("8.0.4")),
            ("qemu-arm version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", Some("7.2.22")),
            ("Box64 with Dynarec v0.3.4 3f2e1a built on Jan  1 2025", Some("v0.3.4")),
            ("FEX-2412", Some("FEX-2412")),
            ("", None),
        ] {
            assert_eq!(version_in(output).as_deref(), expected, "{output}");
        }
    }
}
