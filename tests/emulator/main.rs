// SPDX-License-Identifier: MIT OR Apache-2.0
//! `packaging/qemu/build.sh` refuses what cannot be built and then changes nothing; the packages that it has built are
//! whole. QEMU is not compiled here: a package is looked at where there is one.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

mod built;
mod package;

const SCRIPT: &str = "packaging/qemu/build.sh";
/// Whom root becomes where a test is to have no rights.
const NOBODY: u32 = 48_123;
/// A patch for the source that [`Tree::source`] makes.
const PATCH: &str = "\
From 1111111111111111111111111111111111111111 Mon Sep 17 00:00:00 2001
From: Somebody <somebody@example.org>
Date: Mon, 23 Nov 2026 05:00:00 +0000
Subject: [PATCH] linux-user: change a line

---
 linux-user/mmap.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/linux-user/mmap.c b/linux-user/mmap.c
--- a/linux-user/mmap.c
+++ b/linux-user/mmap.c
@@ -1,3 +1,3 @@
 one
-two
+changed
 three
";

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program that has to succeed, and gives what it writes.
fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A copy of all that the script needs, with a package that was built before.
struct Tree {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
    user: Option<u32>,
}

impl Tree {
    /// None, said aloud, where the script would have to install something.
    fn new() -> Option<Self> {
        let mut dpkg = Command::new("dpkg-query");
        dpkg.args(["-Wf", "${db:Status-Status}\n", "dpkg-dev", "patch", "debian-archive-keyring", "ca-certificates"]);
        match dpkg.output() {
            Ok(output) if String::from_utf8_lossy(&output.stdout).matches("installed\n").count() == 4 => {}
            _ => {
                eprintln!("skipped: dpkg-dev, patch, debian-archive-keyring or ca-certificates is not installed");
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let qemu = folder.path().join("packaging/qemu");
        fs::create_dir_all(qemu.join("patches")).unwrap();
        fs::copy(here("packaging/toolchain.sh"), folder.path().join("packaging/toolchain.sh")).unwrap();
        for file in ["build.sh", "control", "README", "lintian-overrides"] {
            fs::copy(here("packaging/qemu").join(file), qemu.join(file)).unwrap();
        }
        fs::write(qemu.join("patches/0001-a-line.patch"), PATCH).unwrap();
        fs::create_dir_all(folder.path().join("target/debian")).unwrap();
        fs::write(folder.path().join("target/debian/former.deb"), "former").unwrap();
        Some(Self { folder, variables: Vec::new(), user: None })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Has the script run as somebody who may write in the tree and nowhere else.
    fn without_root(&mut self) {
        if is_root() {
            ran(Command::new("chown").arg("-R").arg(NOBODY.to_string()).arg(self.folder.path()));
            self.user = Some(NOBODY);
        }
    }

    /// Takes the project's own patches.
    fn own_patches(&self) {
        fs::remove_dir_all(self.path("packaging/qemu/patches")).unwrap();
        ran(Command::new("cp").arg("-r").arg(here("packaging/qemu/patches")).arg(self.path("packaging/qemu")));
    }

    /// Has apt know the mirrors of this list alone.
    fn sources_list(&mut self, list: &str) {
        fs::create_dir_all(self.path("apt/lists/partial")).unwrap();
        fs::write(self.path("apt/sources.list"), list).unwrap();
        let apt = self.path("apt").display().to_string();
        let text = format!(
            "Dir::Etc::SourceList \"{apt}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n\
             Dir::State::Lists \"{apt}/lists\";\nDir::Cache \"{apt}\";\nAPT::Sandbox::User \"root\";\n\
             #clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"
        );
        fs::write(self.path("apt/apt.conf"), text).unwrap();
        self.variables.push(("APT_CONFIG", format!("{apt}/apt.conf")));
    }

    /// A mirror of Debian in a folder, signed by nobody, that apt knows and has read.
    fn mirror(&mut self) -> PathBuf {
        let (mirror, arch) = (self.path("mirror"), native());
        let index = format!("main/binary-{arch}/Packages");
        let file = mirror.join("dists/trixie").join(&index);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "Package: none\nVersion: 1\nArchitecture: all\n").unwrap();
        let sum = ran(Command::new("sha256sum").arg(&file));
        let (sum, size) = (sum.split_once(' ').unwrap().0, fs::metadata(&file).unwrap().len());
        let release = format!(
            "Origin: Debian\nLabel: Debian\nCodename: trixie\nArchitectures: {arch}\nComponents: main\n\
             Date: Sat, 11 Jul 2026 09:00:00 UTC\nSHA256:\n {sum} {size} {index}\n"
        );
        fs::write(mirror.join("dists/trixie/Release"), &release).unwrap();
        // What is beside it in most lists, and has no source of QEMU for this release.
        let beside = self.path("beside");
        ran(Command::new("cp").arg("-r").arg(&mirror).arg(&beside));
        let other = release.replace("Label: Debian\n", "Label: Debian Backports\n");
        fs::write(beside.join("dists/trixie/Release"), other).unwrap();
        let line = |folder: &Path| format!("deb [arch={arch} trusted=yes] file:{} trixie main\n", folder.display());
        self.sources_list(&(line(&beside) + &line(&mirror)));
        let (name, value) = self.variables.last().unwrap();
        ran(Command::new("apt-get").args(["-qq", "update"]).env(name, value));
        mirror
    }

    /// A source package of this name whose only file of code has these lines.
    fn source(&self, name: &str, code: &str) -> PathBuf {
        let folder = self.path(&format!("made/{name}-99.0"));
        fs::create_dir_all(folder.join("debian/source")).unwrap();
        fs::create_dir_all(folder.join("linux-user")).unwrap();
        fs::write(folder.join("linux-user/mmap.c"), code).unwrap();
        fs::write(folder.join("debian/source/format"), "3.0 (native)\n").unwrap();
        let by = "Somebody <somebody@example.org>";
        let changelog =
            format!("{name} (1:99.0) unstable; urgency=low\n\n  * New.\n\n -- {by}  Mon, 23 Nov 2026 05:00:00 +0000\n");
        fs::write(folder.join("debian/changelog"), changelog).unwrap();
        let control =
            format!("Source: {name}\nMaintainer: {by}\n\nPackage: {name}\nArchitecture: any\nDescription: x\n");
        fs::write(folder.join("debian/control"), control).unwrap();
        ran(Command::new("dpkg-source").arg("-b").arg(&folder).current_dir(self.path("made")));
        self.path(&format!("made/{name}_99.0.dsc"))
    }

    /// Code and what the script says on standard error. Whatever it is: what was built before is as it was.
    fn build(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new("bash");
        command.arg(self.path(SCRIPT)).args(arguments).envs(self.variables.iter().cloned());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let built: Vec<_> =
            fs::read_dir(self.path("target/debian")).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(built, [self.path("target/debian/former.deb")], "{text}");
        assert_eq!(fs::read(&built[0]).unwrap(), b"former");
        let begun = self.path("target/qemu").join(format!("building-{}", native()));
        assert!(!begun.exists(), "{text}");
        (output.status.code().unwrap(), text)
    }
}

/// Debian's name of the architecture here.
fn native() -> String {
    ran(Command::new("dpkg").arg("--print-architecture")).trim().to_owned()
}

#[test]
fn wrong_arguments_are_refused() {
    let Some(tree) = Tree::new() else { return };
    let rows: [(&[&str], &str); 9] = [
        (&["--arch", "riscv64"], "cannot build for riscv64"),
        (&["--arch"], "unknown arguments: --arch"),
        (&["--arch", ""], "unknown arguments: --arch"),
        (&["--help"], "unknown arguments: --help"),
        (&["trixie"], "unknown arguments: trixie"),
        (&["--suite", "trixie main"], "not the name of a release: trixie main"),
        (&["--suite", "../trixie"], "not the name of a release: ../trixie"),
        (&["--dsc", "/no/such.dsc"], "no such file: /no/such.dsc"),
        (&["--dsc", "/etc/passwd", "--suite", "trixie"], "exclude each other"),
    ];
    for (arguments, reason) in rows {
        let (code, text) = tree.build(arguments);
        assert_eq!(code, 64, "{arguments:?}: {text}");
        assert!(text.contains(reason) && text.contains("next: ") && text.contains("[--check]"), "{text}");
    }
}

#[test]
fn without_a_mirror_it_says_what_to_enable() {
    let Some(mut tree) = Tree::new() else { return };
    tree.sources_list("");
    let (code, text) = tree.build(&["--suite", "trixie"]);
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("apt knows no mirror of Debian"), "{text}");
    assert!(text.contains("`deb-src URL-OF-A-MIRROR trixie main` to /etc/apt/sources.list.d/"), "{text}");
}

#[test]
fn a_mirror_that_nobody_signed_is_refused_and_so_is_one_that_is_gone() {
    let Some(mut tree) = Tree::new() else { return };
    let mirror = tree.mirror();
    let asked = format!("asked: `deb-src file:{}/ trixie main`", mirror.display());
    let (code, text) = tree.build(&["--suite", "trixie"]);
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("is not signed") && text.contains(&asked), "{text}");
    fs::rename(&mirror, tree.path("gone")).unwrap();
    let (code, text) = tree.build(&["--suite", "trixie"]);
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("does not have a Release file") && text.contains(&asked), "{text}");
}

#[test]
fn without_root_nothing_is_installed() {
    let Some(mut tree) = Tree::new() else { return };
    // Here no package is installed.
    let dpkg_query = tree.path("bin/dpkg-query");
    fs::create_dir(dpkg_query.parent().unwrap()).unwrap();
    fs::write(&dpkg_query, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&dpkg_query, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dpkg_query.parent().unwrap().display(), std::env::var("PATH").unwrap());
    tree.variables.push(("PATH", path));
    tree.without_root();
    let (code, text) = tree.build(&["--check"]);
    assert_eq!(code, 77, "{text}");
    assert!(text.contains("next: sudo apt-get update && sudo apt-get install dpkg-dev patch"), "{text}");
}

#[test]
fn a_patch_that_does_not_apply_ends_it_with_the_reason() {
    let Some(mut tree) = Tree::new() else { return };
    let fits = tree.source("qemu", "one\ntwo\nthree\n");
    // What a killed run has left is not gone on with, and none of this takes root.
    fs::create_dir_all(tree.path("target/qemu").join(format!("building-{}/source/debian", native()))).unwrap();
    tree.without_root();
    let (code, text) = tree.build(&["--check", "--dsc", fits.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    for code in ["one\n2\nthree\n", "one\nchanged\nthree\n"] {
        let Some(mut tree) = Tree::new() else { return };
        let other = tree.source("qemu", code);
        tree.without_root();
        let (code, text) = tree.build(&["--dsc", other.to_str().unwrap()]);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("QEMU 1:99.0: 0001-a-line.patch does not apply"), "{text}");
        assert!(text.contains("linux-user/mmap.c") && text.contains("1 out of 1 hunk"), "{text}");
        assert!(text.contains("a package built or installed before goes on working"), "{text}");
    }
}

#[test]
fn what_is_no_source_of_qemu_is_refused() {
    let Some(tree) = Tree::new() else { return };
    let other = tree.source("other", "");
    for (file, reason) in [(other.as_path(), "is not a source package of QEMU"), (Path::new("/etc/passwd"), "is not a")]
    {
        let (code, text) = tree.build(&["--dsc", file.to_str().unwrap()]);
        assert_eq!(code, 65, "{text}");
        assert!(text.contains(reason), "{text}");
    }
    // A source package of which a file is not what its list says.
    let broken = tree.source("qemu", "one\ntwo\nthree\n");
    fs::write(broken.with_file_name("qemu_99.0.tar.xz"), "").unwrap();
    let (code, text) = tree.build(&["--dsc", broken.to_str().unwrap()]);
    assert_eq!(code, 65, "{text}");
    assert!(text.contains("cannot be unpacked: "), "{text}");
}

/// What becomes of the project's patches on Debian's source of `suite`: whether they apply. None, said aloud, where the
/// source is not to be had.
fn applies_to(suite: &str) -> Option<(bool, String)> {
    let tree = Tree::new()?;
    tree.own_patches();
    let (code, text) = tree.build(&["--check", "--suite", suite]);
    match code {
        0 => Some((true, text)),
        1 => Some((false, text)),
        69 => {
            assert!(!text.contains("Malformed"), "{text}");
            eprintln!("skipped: {suite}: {}", text.lines().next().unwrap_or_default());
            assert!(text.contains("nothing was built or changed\n  next: ") || text.contains("apt knows no"), "{text}");
            None
        }
        _ => panic!("{suite}: exit code {code}: {text}"),
    }
}

#[test]
fn the_patches_apply_to_the_source_of_trixie() {
    if let Some((applies, text)) = applies_to("trixie") {
        assert!(applies, "{text}");
    }
}

#[test]
fn on_other_sources_they_apply_or_are_refused_with_the_reason() {
    for suite in ["bookworm", "trixie-backports", "sid"] {
        let Some((applies, text)) = applies_to(suite) else { continue };
        eprintln!("{suite}: the patches {}", if applies { "apply" } else { "do not apply" });
        assert!(applies || text.contains(".patch does not apply\n  next: "), "{suite}: {text}");
    }
}
