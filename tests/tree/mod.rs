// SPDX-License-Identifier: MIT OR Apache-2.0
//! A system image in a temporary directory: Debian 12 for arm64, as far as this program looks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian's rule for amd64 in its arm64 package, with other flags or another interpreter.
pub(crate) fn rule(interpreter: &str, flags: &str) -> String {
    let magic = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00";
    let mask = r"\xff\xff\xff\xff\xff\xfe\xfe\xfc\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
    format!(":qemu-x86_64:M::{magic}:{mask}:{interpreter}:{flags}\n")
}

/// What stands in /etc/binfmt.d where the distribution has no good rule.
pub(crate) fn ours(interpreter: &str, flags: &str) -> String {
    let magic = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00";
    let mask = r"\xff\xff\xff\xff\xff\xfe\xfe\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
    format!(
        "# Written by qemu-persist. Changes are overwritten; `qemu-persist remove` takes it back.\n\
         # systemd-binfmt.service(8) registers this handler at every boot. To keep a file of your\n\
         # own here, write it without the first line: it is then left alone.\n\
         :qemu-x86_64:M::{magic}:{mask}:{interpreter}:{flags}\n"
    )
}

/// Debian's static QEMU for amd64.
pub(crate) const QEMU: &str = "/usr/bin/qemu-x86_64-static";
/// Debian's name for it in its rule.
pub(crate) const QEMU_P: &str = "/usr/libexec/qemu-binfmt/x86_64-binfmt-P";
/// Debian's fragment.
pub(crate) const VENDORS: &str = "/usr/lib/binfmt.d/qemu-x86_64.conf";
/// The fragment of that name that counts more.
pub(crate) const OURS: &str = "/etc/binfmt.d/qemu-x86_64.conf";

/// What one run said.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Ran {
    /// The JSON object that it wrote.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The ids of its findings.
    pub(crate) fn ids(&self) -> Vec<String> {
        let json = self.json();
        let findings = json["findings"].as_array().expect("findings");
        findings.iter().map(|finding| finding["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// What the finding `id` advises.
    pub(crate) fn advice(&self, id: &str) -> String {
        let json = self.json();
        let findings = json["findings"].as_array().expect("findings");
        let found = findings.iter().find(|finding| finding["id"] == id);
        found.unwrap_or_else(|| panic!("no {id}: {json:#}"))["advice"].as_str().expect("advice").to_owned()
    }
}

/// One thing in a tree: what it is, its mode, and its content or where it leads.
pub(crate) type Thing = (char, u32, Vec<u8>);

/// An image.
pub(crate) struct Image {
    directory: tempfile::TempDir,
}

impl Image {
    /// Debian 12 for arm64 with `qemu-user-static` and systemd, and amd64 wanted.
    pub(crate) fn new() -> Self {
        let image = Self { directory: tempfile::tempdir().expect("a directory") };
        image.mode("/", 0o755);
        image
            .write("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        image.write("/etc/qemu-persist/config.toml", "platforms = [\"linux/amd64\"]\n");
        image.program("/usr/bin/dpkg", "arm64");
        image.program("/usr/lib/systemd/systemd", "arm64");
        image.program(QEMU, "arm64");
        image.link("../../bin/qemu-x86_64-static", QEMU_P);
        image.write(VENDORS, rule(QEMU_P, "OPF"));
        image
    }

    /// The same without Debian's fragment, as Debian 13 without `qemu-user-binfmt`.
    pub(crate) fn without_fragment() -> Self {
        let image = Self::new();
        image.remove(VENDORS);
        image.remove(QEMU_P);
        image
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where `path` of it is.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    fn make_room(&self, path: &str) -> PathBuf {
        let at = self.at(path);
        let mut missing: Vec<_> = at.ancestors().skip(1).take_while(|above| !above.exists()).collect();
        missing.reverse();
        for directory in missing {
            std::fs::create_dir(directory).expect("a directory");
            std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("chmod");
        }
        at
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.make_room(path), content).expect("a file");
        self.mode(path, 0o644);
    }

    /// Makes a small static program for `platform` of it.
    pub(crate) fn program(&self, path: &str, platform: &str) {
        let carried = format!("src/selftest/probes/identity.{platform}.elf");
        let content = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(carried)).expect("a carried probe");
        self.write(path, content);
        self.mode(path, 0o755);
    }

    /// Makes a link.
    pub(crate) fn link(&self, to: &str, path: &str) {
        symlink(to, self.make_room(path)).expect("a link");
    }

    /// Removes a file or link.
    pub(crate) fn remove(&self, path: &str) {
        std::fs::remove_file(self.at(path)).expect("a file");
    }

    /// Changes permissions.
    pub(crate) fn mode(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.at(path), PermissionsExt::from_mode(mode)).expect("chmod");
    }

    /// The text of a file.
    pub(crate) fn read(&self, path: &str) -> String {
        let at = self.at(path);
        std::fs::read_to_string(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()))
    }

    /// Everything in it, by path.
    pub(crate) fn listing(&self) -> BTreeMap<String, Thing> {
        let mut things = BTreeMap::new();
        let mut pending = vec![self.path().to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(&directory).expect("to be read") {
                let path = entry.expect("an entry").path();
                let metadata = path.symlink_metadata().expect("metadata");
                let (kind, content) = match metadata.file_type() {
                    kind if kind.is_dir() => ('d', Vec::new()),
                    kind if kind.is_symlink() => {
                        ('l', std::fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes())
                    }
                    _ => ('f', std::fs::read(&path).unwrap_or_default()),
                };
                let inside = format!("/{}", path.strip_prefix(self.path()).expect("inside").display());
                things.insert(inside, (kind, metadata.mode() & 0o7777, content));
                if metadata.is_dir() {
                    pending.push(path);
                }
            }
        }
        things
    }

    /// A command of this program for the image: a verb, and what it is given.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qemu-persist"));
        command.args(arguments).arg("--root").arg(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs this program on it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// `status --json`.
    pub(crate) fn status(&self) -> Ran {
        self.run(&["status", "--json"])
    }

    /// `apply --json`.
    pub(crate) fn apply(&self) -> Ran {
        self.run(&["apply", "--json"])
    }

    /// Judges a state: the findings of `status` and its exit code, that of `apply --check`, which
    /// with `status` leaves everything as it is, and that of `apply`. Gives what status said.
    #[track_caller]
    pub(crate) fn expect(&self, ids: &[&str], status: i32, check: i32, apply: i32) -> Ran {
        let before = self.listing();
        let said = self.status();
        assert_eq!((said.ids(), said.code), (ids.iter().map(ToString::to_string).collect(), status), "{}", said.out);
        assert_eq!(said.json()["exit_code"], status);
        let checked = self.run(&["apply", "--check", "--json"]);
        assert_eq!(checked.code, check, "apply --check: {}{}", checked.out, checked.err);
        assert_eq!(checked.json()["changed"], checked.json()["changes"].as_array().is_some_and(|c| !c.is_empty()));
        assert!(self.listing() == before, "looking changes nothing: {:#?}", self.changes_since(&before));
        let applied = self.apply();
        assert_eq!(applied.code, apply, "apply: {}{}", applied.out, applied.err);
        let after = self.listing();
        assert_eq!(applied.json()["changed"], after != before, "{:#?} {}", self.changes_since(&before), applied.out);
        let again = self.apply();
        assert_eq!((again.json()["changed"].clone(), again.code), (false.into(), apply), "{}", again.out);
        assert!(self.listing() == after, "a second time changes nothing: {:#?}", self.changes_since(&after));
        said
    }

    /// Judges that nothing is wrong any more.
    #[track_caller]
    pub(crate) fn expect_good(&self) {
        self.expect(&[], 0, 0, 0);
    }

    /// What is other than in `before`: `+`, `-` or `*`, and the path.
    pub(crate) fn changes_since(&self, before: &BTreeMap<String, Thing>) -> Vec<String> {
        let now = self.listing();
        let paths: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
        let change = |path: &&String| match (before.get(*path), now.get(*path)) {
            (None, Some(_)) => Some(format!("+{path}")),
            (Some(_), None) => Some(format!("-{path}")),
            (old, new) => (old != new).then(|| format!("*{path}")),
        };
        paths.iter().filter_map(change).collect()
    }

    /// Follows an advice: runs the commands in its backquotes. They have to be about this image.
    #[track_caller]
    pub(crate) fn follow(&self, advice: &str) {
        let commands: Vec<_> = advice.split('`').skip(1).step_by(2).collect();
        assert!(!commands.is_empty(), "no command in {advice:?}");
        for command in commands {
            assert!(command.contains(&*self.path().to_string_lossy()), "{command:?} is about this very host");
            let words: Vec<_> = command.split(' ').filter(|word| *word != "sudo").collect();
            let program = if words[0] == "qemu-persist" { env!("CARGO_BIN_EXE_qemu-persist") } else { words[0] };
            let ran = run(Command::new(program).args(&words[1..]));
            assert_eq!(ran.code, 0, "{command}: {}{}", ran.out, ran.err);
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Whether these tests run as root, without which owners cannot be changed; says so where not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Runs a shell script in a user and mount namespace, as its root, with `arguments`.
pub(crate) fn in_namespace(script: &str, arguments: &[&OsStr]) -> Ran {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]).args(arguments);
    run(command.stdin(Stdio::null()))
}
