// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host of its own for every test: a user namespace with a real binfmt_misc that nobody else
//! sees, and a small Debian-like file tree that is its root.
//!
//! It needs no root: run by root, it drops to an unprivileged user first. When the sandbox is
//! dropped, its first process is killed, and with it everything in it, mounts included.

#![allow(dead_code, unreachable_pub, reason = "a module of several test programs, each of which uses a part of it")]
#![allow(clippy::print_stderr, clippy::must_use_candidate, reason = "tests say aloud why they are skipped")]

mod service;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Who runs the sandbox when the tests run as root: anybody but root and the overflow user.
const UNPRIVILEGED: u32 = 48_123;

/// The table inside.
pub const TABLE: &str = "/proc/sys/fs/binfmt_misc";
/// Debian's interpreter for arm64, as the sandbox has it.
pub const QEMU: &str = "/usr/bin/qemu-aarch64-static";
/// Debian's name for it in its rule.
pub const QEMU_P: &str = "/usr/libexec/qemu-binfmt/aarch64-binfmt-P";

/// What a command in the sandbox did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; 128 and more for a signal.
    pub code: i32,
    /// What it wrote.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

/// A running sandbox.
pub struct Sandbox {
    holder: Child,
    /// The process number, outside, of the first process inside.
    init: u32,
    directory: tempfile::TempDir,
}

/// Why there is no sandbox here; the test is then skipped, aloud.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// A sandbox, or the end of the test with the reason on standard error.
#[macro_export]
macro_rules! sandbox {
    () => {
        match $crate::sandbox::Sandbox::new() {
            Ok(sandbox) => sandbox,
            Err(reason) => return $crate::sandbox::skip(&reason),
        }
    };
}

/// The rule that Debian's package has for arm64.
pub fn rule(name: &str, interpreter: &str, flags: &str) -> String {
    let magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
    let mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
    format!(":{name}:M::{magic}:{mask}:{interpreter}:{flags}")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether another user gets there.
fn is_reachable(directory: &Path) -> bool {
    let open = |path: &Path| std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    directory.ancestors().all(open)
}

/// The loader and libraries that a program of this machine asks for.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn copy(from: &Path, tree: &Path, to: &str) {
    let to = tree.join(to.trim_start_matches('/'));
    std::fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
    std::fs::copy(from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
}

impl Sandbox {
    /// Makes one: Debian 12 for this machine's architecture, systemd running, QEMU for arm64 as
    /// Debian's package has it, its rule in /usr/lib/binfmt.d, an empty table, and arm64 wanted.
    pub fn new() -> Result<Self, String> {
        for program in ["/bin/busybox", "/usr/bin/qemu-aarch64-static"] {
            if !Path::new(program).exists() {
                return Err(format!("{program} is not installed"));
            }
        }
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| e.to_string())?;
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        let drop_root = is_root() && is_reachable(directory.path());
        let root = directory.path().join("root");
        fill(&root, drop_root);
        let script = format!(
            "set -e
            cd {root}
            mount --bind . .
            cd {root}
            touch dev/null && mount --bind /dev/null dev/null
            mount --bind /usr/bin/qemu-aarch64-static opt/outside
            mount -t proc proc proc
            mount -t binfmt_misc binfmt_misc proc/sys/fs/binfmt_misc
            mount -t tmpfs -o mode=755 run run
            mkdir -p run/systemd/system
            pivot_root . old
            cd /
            umount -l old
            echo ready
            exec cat",
            root = root.display(),
        );
        let mut command = if drop_root {
            let mut command = Command::new("setpriv");
            let id = UNPRIVILEGED.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "unshare"]);
            command
        } else {
            Command::new("unshare")
        };
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts"]);
        command.args(["--fork", "--kill-child", "/bin/busybox", "sh", "-c", &script]);
        // The first process inside ends when this process does, however that ends.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|e| format!("unshare: {e}"))?;
        let mut line = String::new();
        let mut lines = BufReader::new(holder.stdout.take().expect("a pipe"));
        lines.read_line(&mut line).expect("to be read");
        if !line.starts_with("ready") {
            let output = holder.wait_with_output().expect("an end");
            return Err(format!("no sandbox on this kernel: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let init = std::fs::read_to_string(children).expect("children").trim().parse().expect("one child");
        Ok(Self { holder, init, directory })
    }

    fn enter(&self, program: &str, arguments: &[&str]) -> Command {
        // The namespace's root is an unprivileged user outside.
        self.enter_as(&["--setuid", "0", "--setgid", "0"], program, arguments)
    }

    fn enter_as(&self, who: &[&str], program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--user", "--mount", "--pid", "--net", "--ipc", "--uts"]);
        command.args(["--root", "--wd"]).args(who);
        command.arg("--").arg(program).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C");
        command
    }

    /// Runs a program inside, as the sandbox's root.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        Self::finish(self.enter(program, arguments))
    }

    /// Runs qemu-persist inside as somebody who is not root there. None where the tests are not
    /// run by root: nobody else is in the sandbox then.
    pub fn qemu_persist_as_user(&self, arguments: &[&str]) -> Option<Ran> {
        let enter = || self.enter_as(&["--preserve-credentials"], "/usr/bin/qemu-persist", arguments);
        is_root().then(|| Self::finish(enter()))
    }

    fn finish(mut command: Command) -> Ran {
        let output = command.stdin(Stdio::null()).output().expect("nsenter");
        let code = output.status.code().unwrap_or(-1);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Starts a program inside and leaves it running.
    pub fn start(&self, program: &str, arguments: &[&str]) -> Child {
        let mut command = self.enter(program, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nsenter")
    }

    /// A program that is to be started inside.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        self.enter(program, arguments)
    }

    /// Where a path of the inside is outside, mounts of the inside included.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// A folder outside that lives as long as this does, with the tree in its `root`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a shell script inside that has to succeed, and gives what it wrote.
    pub fn sh(&self, script: &str) -> String {
        let ran = self.run("/bin/sh", &["-ec", script]);
        assert_eq!(ran.code, 0, "{script}\n{}{}", ran.out, ran.err);
        ran.out
    }

    /// Runs qemu-persist inside.
    pub fn qemu_persist(&self, arguments: &[&str]) -> Ran {
        self.run("/usr/bin/qemu-persist", arguments)
    }

    /// Has a program of this machine inside, with what it loads, at the same place.
    pub fn install(&self, program: &str) {
        self.install_at(program, program);
    }

    /// Has a program of this machine inside at `place`, with what it loads.
    pub fn install_at(&self, program: &str, place: &str) {
        let tree = self.directory.path().join("root");
        let program = Path::new(program);
        for library in libraries(program) {
            copy(&library, &tree, &library.display().to_string());
        }
        copy(program, &tree, place);
    }

    /// What `status --json` says inside.
    pub fn status(&self) -> Status {
        let ran = self.qemu_persist(&["status", "--json"]);
        let json = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        Status { code: ran.code, json }
    }

    /// Applies, which has to end with `code`; gives what `--json` says.
    pub fn apply(&self, more: &[&str], code: i32) -> serde_json::Value {
        let ran = self.qemu_persist(&[&["apply", "--json"], more].concat());
        assert_eq!(ran.code, code, "{ran:?}");
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
    }

    /// Registers a rule, as any other tool would.
    pub fn register(&self, rule: &str) {
        self.write(&format!("{TABLE}/register"), rule);
    }

    /// Writes a file inside.
    pub fn write(&self, path: &str, content: &str) {
        let parent = Path::new(path).parent().expect("a parent").display().to_string();
        let mut command = self.enter("/bin/sh", &["-ec", "mkdir -p \"$1\"; cat > \"$2\"", "sh", &parent, path]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nsenter");
        child.stdin.take().expect("a pipe").write_all(content.as_bytes()).expect("to be written");
        let output = child.wait_with_output().expect("an end");
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The kernel's text of an entry inside; none for none.
    pub fn entry(&self, name: &str) -> Option<String> {
        let ran = self.run("/bin/cat", &[&format!("{TABLE}/{name}")]);
        (ran.code == 0).then_some(ran.out)
    }

    /// The names in the table, sorted.
    pub fn entries(&self) -> Vec<String> {
        let listed = self.sh(&format!("ls {TABLE}"));
        listed.lines().filter(|name| !["register", "status"].contains(name)).map(str::to_owned).collect()
    }

    /// Runs the arm64 program inside: what the kernel makes of it.
    pub fn run_foreign(&self) -> Ran {
        self.run("/opt/foreign", &["nonce"])
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // unshare passes its own death on to the first process inside (--kill-child).
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Lays out the file tree.
fn fill(tree: &Path, drop_root: bool) {
    let program = Path::new(env!("CARGO_BIN_EXE_qemu-persist"));
    copy(program, tree, "/usr/bin/qemu-persist");
    for library in libraries(program) {
        copy(&library, tree, &library.display().to_string());
    }
    copy(Path::new("/bin/busybox"), tree, "/bin/busybox");
    copy(Path::new(QEMU), tree, QEMU);
    copy(Path::new("/usr/bin/qemu-arm-static"), tree, "/usr/bin/qemu-arm-static");
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/selftest/probes/identity.arm64.elf");
    copy(&probe, tree, "/opt/foreign");
    std::fs::set_permissions(tree.join("opt/foreign"), PermissionsExt::from_mode(0o755)).expect("chmod");
    for name in [
        "sh", "cat", "ls", "cp", "mv", "rm", "mkdir", "ln", "mount", "umount", "chmod", "chown", "sleep", "echo",
        "touch", "dd", "kill", "true", "sed", "test", "stat", "seq", "tee", "env", "su", "find", "wc", "sync", "head",
    ] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).expect("a link");
    }
    let libexec = tree.join("usr/libexec/qemu-binfmt");
    std::fs::create_dir_all(&libexec).expect("a directory");
    std::os::unix::fs::symlink("../../bin/qemu-aarch64-static", libexec.join("aarch64-binfmt-P")).expect("a link");
    let write = |path: &str, content: &str| {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, content).expect("a file");
    };
    write("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
    write("etc/qemu-persist/config.toml", "platforms = [\"linux/arm64\"]\n");
    write("usr/lib/binfmt.d/qemu-aarch64.conf", &format!("{}\n", rule("qemu-aarch64", QEMU_P, "OPF")));
    for directory in ["proc", "dev", "tmp", "run", "var/lib", "old", "mnt"] {
        std::fs::create_dir_all(tree.join(directory)).expect("a directory");
    }
    write("opt/outside", "");
    if drop_root {
        let owner = format!("{UNPRIVILEGED}:{UNPRIVILEGED}");
        let status = Command::new("chown").args(["-hR", &owner]).arg(tree).status().expect("chown");
        assert!(status.success());
    }
}

/// What `status --json` said.
pub struct Status {
    /// The exit code.
    pub code: i32,
    /// The object.
    pub json: serde_json::Value,
}

impl Status {
    /// The ids of the findings that are more than notes.
    pub fn ids(&self) -> Vec<&str> {
        let findings = self.json["findings"].as_array().expect("findings");
        let worse = findings.iter().filter(|finding| finding["severity"] != "note");
        worse.filter_map(|finding| finding["id"].as_str()).collect()
    }

    /// The finding of that id.
    pub fn finding(&self, id: &str) -> &serde_json::Value {
        let findings = self.json["findings"].as_array().expect("findings");
        findings.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no {id} in {findings:#?}"))
    }

    /// The commands in backquotes that the advice of a finding gives.
    pub fn commands(&self, id: &str) -> Vec<String> {
        // Of several ways to mend it, the first that is a command.
        let advice = self.finding(id)["advice"].as_str().expect("advice").to_owned();
        let advice = advice.split(", or ").find(|way| way.contains('`')).unwrap_or_default();
        advice.split('`').skip(1).step_by(2).map(|command| command.replace("sudo ", "")).collect()
    }

    /// Everything, for a message.
    pub fn describe(&self) -> String {
        let mut text = format!("exit {}", self.code);
        let _ = write!(text, " {:#}", self.json);
        text
    }
}
