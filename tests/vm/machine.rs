// SPDX-License-Identifier: MIT OR Apache-2.0
//! A virtual machine: a test image with a disk of its own above it, booted by QEMU without
//! hardware virtualisation, so that it runs anywhere. It has no network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell::{Ran, Shell};

/// An image that `build-image.sh` knows.
#[derive(Clone, Copy)]
pub struct Image {
    /// Its name there.
    pub name: &'static str,
    /// Its architecture, as Debian calls it.
    pub arch: &'static str,
}

impl Image {
    /// The platform of the containers that are foreign to it.
    pub fn foreign(&self) -> &'static str {
        if self.arch == "arm64" { "amd64" } else { "arm64" }
    }

    /// What `uname -m` says there; QEMU's name of it too.
    pub fn foreign_machine(&self) -> &'static str {
        if self.arch == "arm64" { "x86_64" } else { "aarch64" }
    }
}

/// How long a boot may take until the agent answers, and until systemd has started everything.
const BOOT: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);

/// The machine.
pub struct Machine {
    image: Image,
    /// Where the image is.
    base: PathBuf,
    /// Where disk and logs are.
    folder: PathBuf,
    /// A third disk.
    attached: Option<PathBuf>,
    running: Option<(Child, Shell)>,
}

fn succeed(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The package of this source for `arch`; `tests/run.sh` has built it.
fn package(arch: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian");
    let name = format!("qemu-persist_{}_{arch}.deb", env!("CARGO_PKG_VERSION"));
    let file = folder.join(name);
    assert!(file.exists(), "{} is missing: packaging/build-deb.sh --arch {arch}", file.display());
    file
}

/// The package qemu-persist-emulator for `arch`, where it was built.
fn emulator_package(arch: &str) -> Option<PathBuf> {
    let mut found = crate::built::packages(arch);
    assert!(found.len() < 2, "several versions of one package, of which one is to be tested: {found:?}");
    found.pop()
}

/// The platforms whose programs run natively in a machine of arm64, while they do not where this runs.
pub const NATIVE_PROBES: [&str; 2] = ["arm64", "arm"];

impl Machine {
    /// Makes a machine of `image`, for the test called `test`, which is built where it is not there.
    /// It is not started yet. Its second disk is a tar archive with the packages, and the probes in `probes`.
    pub fn new(image: Image, test: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join(test);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let base = succeed(Command::new(source.join("tests/vm/build-image.sh")).arg(image.name));
        let base = PathBuf::from(base.trim());
        let disk = folder.join("disk");
        succeed(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .arg(base.join("root.img"))
                .arg(&disk),
        );
        let mut archive = tar::Builder::new(File::create(folder.join("package.tar")).expect("a file"));
        archive.append_path_with_name(package(image.arch), "qemu-persist.deb").expect("an archive");
        if let Some(file) = emulator_package(image.arch) {
            archive.append_path_with_name(file, "qemu-persist-emulator.deb").expect("an archive");
        }
        for (program, platform) in
            NATIVE_PROBES.iter().flat_map(|platform| [("identity", platform), ("depth", platform)])
        {
            let name = format!("{program}.{platform}.elf");
            let file = source.join("src/selftest/probes").join(&name);
            archive.append_path_with_name(file, format!("probes/{name}")).expect("an archive");
        }
        archive.finish().expect("an archive");
        Self { image, base, folder, attached: None, running: None }
    }

    /// Gives it a third disk, which it only reads.
    pub fn attach(&mut self, file: PathBuf) {
        self.attached = Some(file);
    }

    /// Whether the image has a kernel with pages of `size` (4k, 16k); starts the machine with it and
    /// waits until systemd has started everything. Gives the time that took.
    pub fn boot(&mut self, size: &str) -> Duration {
        assert!(self.running.is_none(), "it runs");
        let start = Instant::now();
        let mut qemu = self.start(size);
        let mut shell = Shell::new(qemu.stdin.take().expect("a pipe"), qemu.stdout.take().expect("a pipe"));
        let up = shell.wait(BOOT);
        self.running = Some((qemu, shell));
        if let Err(reason) = up {
            panic!("no boot: {reason}\n{}", self.console());
        }
        // The self-test, which takes a while, may have been started meanwhile, and is not waited for.
        let script =
            "while systemctl list-jobs --no-legend | grep -v qemu-persist-selftest; do sleep 0.5; done >/dev/null
            systemctl --failed --no-legend";
        let ran = self.run_within(script, BOOT);
        assert!(ran.code == 0 && ran.out.is_empty(), "{}{}\n{}", ran.out, ran.err, self.console());
        start.elapsed()
    }

    fn start(&self, size: &str) -> Child {
        let drive = |name: &str, rest: &str| format!("file={},if=virtio,{rest}", self.folder.join(name).display());
        let (program, machine, console) = match self.image.arch {
            "arm64" => ("qemu-system-aarch64", ["-machine", "virt", "-cpu", "cortex-a76"], "ttyAMA0"),
            _ => ("qemu-system-x86_64", ["-machine", "q35", "-cpu", "max"], "ttyS0"),
        };
        let log = self.folder.join(format!("console-{}.log", self.boots() + 1));
        // setpriv has QEMU killed when this thread ends, however it ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(machine);
        command.args(["-accel", "tcg,thread=multi", "-m", "2048", "-smp", "2"]);
        command.args(["-display", "none", "-no-reboot", "-nic", "none", "-monitor", "none", "-serial"]);
        command.arg(format!("file:{}", log.display()));
        command.arg("-kernel").arg(self.base.join(format!("vmlinuz-{size}")));
        command.arg("-initrd").arg(self.base.join(format!("initrd-{size}")));
        let options = fs::read_to_string(self.base.join("options")).expect("the image's options of the kernel");
        // Protection from programs that spy on the kernel is dear where every page table switch is emulated.
        let fast = "mitigations=off nokaslr init_on_alloc=0 audit=0";
        let options = format!("console={console} panic=-1 systemd.show_status=error {fast} {}", options.trim());
        command.args(["-append", &options]);
        // What the machine has flushed is on the disk when QEMU is killed, and no more than that is sure.
        command.args(["-drive", &drive("disk", "format=qcow2,cache=writeback")]);
        command.args(["-drive", &drive("package.tar", "format=raw,readonly=on")]);
        if let Some(file) = &self.attached {
            command.args(["-drive", &format!("file={},if=virtio,format=raw,readonly=on", file.display())]);
        }
        command.args(["-device", "virtio-serial-pci", "-chardev", "stdio,id=agent,signal=off"]);
        command.args(["-device", "virtserialport,chardev=agent,name=agent"]);
        let errors = File::create(self.folder.join("qemu.log")).expect("a file");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    fn boots(&self) -> usize {
        let is_log = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("console-");
        fs::read_dir(&self.folder).expect("a folder").flatten().filter(is_log).count()
    }

    /// The last that the newest boot has written to the console, and QEMU itself.
    fn console(&self) -> String {
        let read =
            |name: &str| String::from_utf8_lossy(&fs::read(self.folder.join(name)).unwrap_or_default()).into_owned();
        let name = format!("console-{}.log", self.boots());
        let text = read(&name);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("--- {} (its end)\n{tail}\n{}", self.folder.join(name).display(), read("qemu.log"))
    }

    fn shell(&mut self) -> &mut Shell {
        &mut self.running.as_mut().expect("a machine that runs").1
    }

    /// Runs a script as root (`sh -e`), for `limit` at most.
    pub fn run_within(&mut self, script: &str, limit: Duration) -> Ran {
        match self.shell().run(script, limit) {
            Ok(ran) => ran,
            Err(reason) => panic!("{script}: {reason}\n{}", self.console()),
        }
    }

    /// Runs a script as root (`sh -e`), for two minutes at most.
    pub fn run(&mut self, script: &str) -> Ran {
        self.run_within(script, MINUTE * 2)
    }

    /// Runs a script that has to succeed, and gives what it wrote.
    pub fn sh(&mut self, script: &str) -> String {
        self.sh_within(script, MINUTE * 2)
    }

    /// As [`Machine::sh`], with a limit.
    pub fn sh_within(&mut self, script: &str, limit: Duration) -> String {
        let ran = self.run_within(script, limit);
        assert_eq!(ran.code, 0, "{script}\n{}{}", ran.out, ran.err);
        ran.out
    }

    /// Starts a script and leaves it running.
    pub fn leave(&mut self, script: &str) {
        self.shell().start(script).expect("a machine that listens");
    }

    /// Shuts it down in order; `verb` is systemctl's, poweroff or reboot: QEMU ends after either.
    pub fn shut_down(&mut self, verb: &str) {
        self.leave(&format!("systemctl {verb}"));
        let (mut qemu, _shell) = self.running.take().expect("a machine that runs");
        let start = Instant::now();
        while qemu.try_wait().expect("a child").is_none() {
            if start.elapsed() > MINUTE * 3 {
                let _ = qemu.kill();
                let _ = qemu.wait();
                panic!("no end of {verb}\n{}", self.console());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Pulls the plug.
    pub fn cut_power(&mut self) {
        let (mut qemu, _shell) = self.running.take().expect("a machine that runs");
        let _ = qemu.kill();
        let _ = qemu.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some((mut qemu, _)) = self.running.take() {
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
        // The logs stay until the next run.
        let _ = fs::remove_file(self.folder.join("disk"));
    }
}
