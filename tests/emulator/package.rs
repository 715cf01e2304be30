// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages that were built here: what is in them, and whether it works.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use qemu_persist::emulator::{PACKAGE, path_for};
use qemu_persist::files::Root;
use qemu_persist::platform::Platform;
use qemu_persist::qemu::Inspector;

use crate::{SCRIPT, built, here, native, ran};

/// How long memory is changed at random, in seconds; tests/vm does it where it matters, on large pages.
const STRESS: &str = "5";

/// As [`built::packages`]; says aloud where there is none.
fn packages(arch: &str) -> Vec<PathBuf> {
    let found = built::packages(arch);
    if found.is_empty() {
        eprintln!("skipped: no package for {arch} is in target/debian ({SCRIPT} --arch {arch})");
    }
    found
}

fn field(deb: &Path, name: &str) -> String {
    ran(Command::new("dpkg-deb").arg("-f").arg(deb).arg(name)).trim().to_owned()
}

fn unpacked(deb: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    ran(Command::new("dpkg-deb").arg("-x").arg(deb).arg(folder.path()));
    folder
}

/// Each architecture that packages are built for, and what they emulate there.
const BUILT: [(&str, &[&str]); 2] = [("amd64", &["arm64"]), ("arm64", &["amd64", "386"])];

#[test]
fn the_programs_are_where_they_are_looked_for_and_static() {
    for (arch, guests) in BUILT {
        for deb in packages(arch) {
            let folder = unpacked(&deb);
            let root = Root::image(folder.path()).unwrap();
            let mut inspector = Inspector::new(&root, false);
            for guest in guests {
                let path = path_for(Platform::named(guest).unwrap());
                let found = inspector.inspect(&path).clone().unwrap();
                let program = found.program.unwrap();
                assert_eq!(program.runs_on.map(|platform| platform.debian), Some(arch), "{}", path.display());
                assert_eq!(program.loader, None, "{}", path.display());
                assert_eq!(fs::metadata(root.outside(&path)).unwrap().permissions().mode() & 0o7777, 0o755);
                let content = fs::read(root.outside(&path)).unwrap();
                for machine in [env!("CARGO_MANIFEST_DIR"), "/target/qemu/", "building-"] {
                    let found = memchr::memmem::find(&content, machine.as_bytes());
                    assert!(found.is_none(), "{}: {machine}", path.display());
                }
            }
            let programs = fs::read_dir(folder.path().join("usr/libexec/qemu-persist")).unwrap().count();
            assert_eq!(programs, guests.len());
        }
    }
}

#[test]
fn the_source_goes_with_the_package() {
    for (arch, _) in BUILT {
        for deb in packages(arch) {
            let (version, maintainer) = (field(&deb, "Version"), field(&deb, "Maintainer"));
            let (source, revision) = version.rsplit_once("+persist").unwrap();
            assert!(revision.parse::<u32>().is_ok(), "{version}");
            assert!(
                fs::read_to_string(here("Cargo.toml")).unwrap().contains(&format!("maintainer = \"{maintainer}\""))
            );
            let used = field(&deb, "Built-Using");
            for linked in [&format!("qemu (= {source})"), "glib2.0 (= ", "glibc (= ", "gcc-"] {
                assert!(used.contains(linked), "{linked}: {used}");
            }

            let folder = unpacked(&deb);
            let doc = folder.path().join("usr/share/doc").join(PACKAGE);
            let read = |name: &str| fs::read_to_string(doc.join(name)).unwrap();
            let (_, file_version) = version.split_once(':').unwrap();
            let tar = format!("{PACKAGE}_{file_version}_source.tar");
            for words in [tar.as_str(), "three years", maintainer.as_str(), "General Public License, version 2"] {
                assert!(read("README").contains(words), "{words}");
            }
            assert!(
                !read("README").contains('@') || read("README").matches('@').count() == maintainer.matches('@').count()
            );
            assert!(read("copyright").contains("GPL-2") && read("build.sh").contains("dpkg-deb"));
            assert!(fs::read_dir(doc.join("libraries")).unwrap().count() >= 3);
            let patches: Vec<_> =
                fs::read_dir(doc.join("patches")).unwrap().map(|file| file.unwrap().file_name()).collect();
            // It is of this source, and not one that was built before.
            assert_eq!(
                patches.len(),
                fs::read_dir(here("packaging/qemu/patches")).unwrap().count(),
                "{}",
                deb.display()
            );
            for name in &patches {
                let ours = fs::read(here("packaging/qemu/patches").join(name)).unwrap();
                assert!(fs::read(doc.join("patches").join(name)).unwrap() == ours, "{}: {name:?}", deb.display());
            }
            assert!(read("build.sh") == fs::read_to_string(here(SCRIPT)).unwrap(), "{}", deb.display());

            let listed = ran(Command::new("tar").arg("-tf").arg(deb.with_file_name(&tar)));
            let (_, upstream) = source.split_once(':').unwrap();
            let mut wanted = vec![
                format!("qemu_{upstream}.dsc"),
                format!("qemu_{upstream}.debian.tar.xz"),
                format!("qemu_{}.orig.tar.xz", upstream.rsplit_once('-').unwrap().0),
                "packaging/toolchain.sh".to_owned(),
                SCRIPT.to_owned(),
            ];
            wanted.extend(patches.iter().map(|name| format!("packaging/qemu/patches/{}", name.to_str().unwrap())));
            for name in wanted {
                assert!(listed.lines().any(|line| line.ends_with(&format!("/{name}"))), "{name}: {listed}");
            }
        }
    }
}

#[test]
fn lintian_finds_nothing() {
    for (arch, _) in BUILT {
        for deb in packages(arch) {
            let mut lintian = Command::new("lintian");
            let output = lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(&deb).output();
            let Ok(output) = output else { return eprintln!("skipped: lintian is not installed") };
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

#[test]
fn a_foreign_program_runs() {
    let native = native();
    let guest = if native == "arm64" { "amd64" } else { "arm64" };
    let platform = Platform::named(guest).unwrap();
    let busybox = here("tests/cache/busybox").join(guest).join("bin/busybox");
    for deb in packages(&native) {
        let folder = unpacked(&deb);
        let program = Root::image(folder.path()).unwrap().outside(&path_for(platform));
        assert!(ran(Command::new(&program).arg("--version")).contains(&field(&deb, "Version")));
        if !busybox.exists() {
            return eprintln!("skipped: tests/run.sh has not fetched {}", busybox.display());
        }
        let said = ran(Command::new(&program).arg(&busybox).args(["uname", "-m"]));
        assert_eq!(said, format!("{}\n", platform.uname));
        let said = ran(Command::new(&program).arg(&busybox).args(["ash", "-c", "echo $((6 * 7))"]));
        assert_eq!(said, "42\n");
    }
}

/// `stress.c`, compiled by `compiler`, in a folder.
fn stress(compiler: &str) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let mut gcc = Command::new(compiler);
    gcc.args(["-O2", "-static", "-pthread", "-o"]).arg(folder.path().join("stress"));
    let Ok(output) = gcc.arg(here("tests/emulator/stress.c")).output() else {
        eprintln!("skipped: {compiler} is not installed");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(folder)
}

#[test]
fn the_model_of_memory_is_linux() {
    if native() != "amd64" {
        return eprintln!("skipped: the model is of pages of 4 KiB, as amd64 has them");
    }
    let Some(folder) = stress("gcc") else { return };
    let said = ran(Command::new(folder.path().join("stress")).args([STRESS, "1", "strict"]));
    assert!(said.ends_with(" 0 refused as they may be: no difference\n"), "{said}");
}

#[test]
fn memory_is_as_in_the_model() {
    let Some(folder) = stress("aarch64-linux-gnu-gcc") else { return };
    if native() != "amd64" {
        return eprintln!("skipped: it runs natively here");
    }
    for deb in packages("amd64") {
        let unpacked = unpacked(&deb);
        let program = Root::image(unpacked.path()).unwrap().outside(&path_for(Platform::named("arm64").unwrap()));
        let said = ran(Command::new(program).arg(folder.path().join("stress")).args([STRESS, "1"]));
        assert!(said.ends_with(" 0 refused as they may be: no difference\n"), "{said}");
    }
}
