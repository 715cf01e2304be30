// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service that runs in a sandbox, with the test in systemd's place.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qemu_persist::service::State;

use crate::sandbox::{QEMU, Sandbox, TABLE};

/// Where it is inside.
const PROGRAM: &str = "/usr/libexec/qemu-persist/qemu-persistd";
/// How long anything may take that takes milliseconds, on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The name of the handler.
pub(crate) const NAME: &str = "qemu-aarch64";
/// The one that stands in for it.
pub(crate) const STAND_IN: &str = "persist-aarch64";
/// Our fragment.
pub(crate) const FRAGMENT: &str = "/etc/binfmt.d/qemu-aarch64.conf";

/// How the table shows the head of an arm64 program.
const MAGIC: &str = "\nmagic 7f454c460201010000000000000000000200b700\n";

static SOCKETS: AtomicU32 = AtomicU32::new(0);

/// Waits until something is so; `tell` says what is not.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(why) => assert!(start.elapsed() < limit, "{what}: not within {limit:?}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A socket on which datagrams are collected.
pub(crate) struct Mailbox {
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    /// Its place inside.
    pub(crate) path: String,
}

impl Mailbox {
    /// One in the tree of `host`, where everybody may send.
    pub(crate) fn new(host: &Sandbox) -> Self {
        let name = format!("mailbox-{}", SOCKETS.fetch_add(1, Ordering::Relaxed));
        let directory = File::open(host.directory().join("root/opt")).unwrap();
        // The path of a socket is short; that of the tree need not be.
        let place = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
        let socket = UnixDatagram::bind(&place).unwrap();
        std::fs::set_permissions(&place, Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (received, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, ended) = (Arc::clone(&received), Arc::clone(&over));
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while !ended.load(Ordering::Relaxed) {
                if let Ok(length) = socket.recv(&mut buffer) {
                    into.lock().unwrap().push(buffer[..length].to_vec());
                }
            }
        });
        Self { received, over, reader: Some(reader), path: format!("/opt/{name}") }
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.reader.take().unwrap().join();
    }
}

/// A running service; killed when it is dropped.
pub(crate) struct Daemon<'h> {
    host: &'h Sandbox,
    nsenter: Child,
    /// Its process number outside; none where it ended at once.
    pid: Option<Pid>,
    systemd: Mailbox,
    log: PathBuf,
}

impl<'h> Daemon<'h> {
    /// Has it in `host`.
    pub(crate) fn install(host: &Sandbox) {
        host.install_at(env!("CARGO_BIN_EXE_qemu-persistd"), PROGRAM);
    }

    /// Starts it, as systemd would, with more in its environment, and waits for nothing.
    pub(crate) fn spawn(host: &'h Sandbox, environment: &[(&str, &str)]) -> Self {
        Self::spawn_by(host, PROGRAM, &[], environment)
    }

    /// Starts it in mounts of its own as its unit asks for: all of them read-only but /etc/binfmt.d, where
    /// that is there. It takes /usr/bin/unshare inside.
    pub(crate) fn start_confined(host: &'h Sandbox) -> Self {
        let script = format!(
            "test ! -d /etc/binfmt.d || mount --bind /etc/binfmt.d /etc/binfmt.d
            mount -o remount,bind,ro /
            exec {PROGRAM}"
        );
        let mut daemon = Self::spawn_by(host, "/usr/bin/unshare", &["--mount", "/bin/sh", "-ec", &script], &[]);
        daemon.expect("READY=1");
        daemon
    }

    /// As [`Daemon::spawn`], by a program that becomes it.
    fn spawn_by(host: &'h Sandbox, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let systemd = Mailbox::new(host);
        let log = host.directory().join("log");
        let stderr = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = host.command(program, arguments);
        command.env("NOTIFY_SOCKET", &systemd.path).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let mut nsenter = command.spawn().expect("nsenter");
        // Its child is what enters the namespace of processes.
        let children = format!("/proc/{0}/task/{0}/children", nsenter.id());
        let pid = wait_for("a process", PATIENCE, || {
            let child = std::fs::read_to_string(&children).map_err(|e| e.to_string())?.trim().parse().ok();
            // None where it has ended already.
            let ended = nsenter.try_wait().unwrap().is_some();
            if child.is_some() || ended { Ok(child.map(Pid::from_raw)) } else { Err("none yet".to_owned()) }
        });
        Self { host, nsenter, pid, systemd, log }
    }

    /// Starts it, and waits until it says that it is ready.
    pub(crate) fn start(host: &'h Sandbox) -> Self {
        let mut daemon = Self::spawn(host, &[]);
        daemon.expect("READY=1");
        daemon
    }

    /// What it told systemd: one text for each datagram.
    pub(crate) fn told(&self) -> Vec<String> {
        self.systemd.received().into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
    }

    /// Waits until it has told systemd `line` one time more than `before`, and gives the message.
    pub(crate) fn expect_more(&mut self, line: &str, before: usize) -> String {
        let has = |message: &String| {
            message.lines().any(|l| l == line || l.strip_prefix(line).is_some_and(|_| line.ends_with('=')))
        };
        let limit = PATIENCE;
        wait_for(line, limit, || {
            let messages: Vec<_> = self.told().into_iter().filter(has).collect();
            if let Some(message) = messages.get(before) {
                return Ok(message.clone());
            }
            let ended = self.nsenter.try_wait().unwrap();
            assert!(ended.is_none(), "it ended instead of telling {line}: {ended:?}\n{}", self.log());
            Err(format!("{:?}\n{}", self.told(), self.log()))
        })
    }

    /// Waits until it has told systemd `line`.
    pub(crate) fn expect(&mut self, line: &str) -> String {
        self.expect_more(line, 0)
    }

    /// How often it told systemd `line`.
    pub(crate) fn count_told(&self, line: &str) -> usize {
        self.told().iter().filter(|message| message.lines().any(|l| l == line)).count()
    }

    /// What it, and those before it in this sandbox, wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid.expect("a process"), signal).unwrap();
    }

    /// Waits for its end and gives its exit code, 128 and the number for a signal.
    pub(crate) fn ended(&mut self) -> i32 {
        wait_for("its end", PATIENCE, || {
            let status = self.nsenter.try_wait().unwrap().ok_or_else(|| self.log())?;
            Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
        })
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.nsenter.try_wait().unwrap().is_none()
    }

    /// What it writes of itself.
    pub(crate) fn state(&self) -> State {
        let path = self.host.path(qemu_persist::service::STATE);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.pid.expect("a process"))
    }

    /// A number of /proc/PID/status, such as `VmRSS`.
    pub(crate) fn number(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// The processor time that it used, in hundredths of a second.
    pub(crate) fn processor_time(&self) -> u64 {
        let text = std::fs::read_to_string(self.proc("stat")).unwrap();
        let fields: Vec<_> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.nsenter.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.pid.map(|pid| kill(pid, Signal::SIGKILL));
            // Until it has let go of its lock: nsenter ends after it.
            let start = Instant::now();
            while self.nsenter.try_wait().is_ok_and(|status| status.is_none()) && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.nsenter.kill();
        let _ = self.nsenter.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// A shell that runs inside from the beginning, so that it works where nothing can be started.
pub(crate) struct Shell {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    /// Starts one.
    pub(crate) fn new(host: &Sandbox) -> Self {
        let mut command = host.command("/bin/busybox", &["sh"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("nsenter");
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut shell = Self { child, stdin, stdout };
        shell.run("true");
        shell
    }

    /// Runs a script that has to succeed, and gives what it wrote.
    pub(crate) fn run(&mut self, script: &str) -> String {
        let (code, text) = self.try_run(script);
        assert_eq!(code, "0", "{script}\n{text}");
        text
    }

    /// Runs a script, and gives its exit code and what it wrote.
    pub(crate) fn try_run(&mut self, script: &str) -> (String, String) {
        // The end stands behind a line of its own whatever the script writes.
        writeln!(self.stdin, "{{ {script}\n}} 2>&1; code=$?; echo; echo over $code").unwrap();
        let mut text = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the shell ended: {script}\n{text}");
            if let Some(code) = line.strip_prefix("over ") {
                text.pop();
                return (code.trim().to_owned(), text);
            }
            text += &line;
        }
    }

    /// Registers a rule, without starting anything.
    pub(crate) fn register(&mut self, rule: &str) {
        self.run(&format!("printf %s '{rule}' > {TABLE}/register"));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An entry as the table shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Its name.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// Its inode.
    pub(crate) inode: u64,
}

/// The table, the newest entry first, without starting anything.
pub(crate) fn table(host: &Sandbox) -> Result<Vec<Shown>, String> {
    let directory = host.path(TABLE);
    let mut entries = Vec::new();
    for file in std::fs::read_dir(&directory).map_err(|e| e.to_string())? {
        let file = file.map_err(|e| e.to_string())?;
        let name = file.file_name().to_string_lossy().into_owned();
        if name == "register" || name == "status" {
            continue;
        }
        // It may be gone by now.
        let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
        let Ok(inode) = file.metadata().map(|file| file.ino()) else { continue };
        entries.push(Shown { name, text, inode });
    }
    Ok(entries)
}

/// The state that the service is to keep: the handler that wins, and our fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intended {
    entry: String,
    fragment: Option<String>,
}

impl Intended {
    /// What is so now.
    pub(crate) fn now(host: &Sandbox) -> Result<Self, String> {
        let status = std::fs::read_to_string(host.path(&format!("{TABLE}/status"))).map_err(|e| e.to_string())?;
        if status.trim() != "enabled" {
            return Err("globally off".into());
        }
        let table = table(host)?;
        let mut said = String::new();
        for Shown { name, text, .. } in &table {
            let _ = write!(said, "{name}: {text}");
        }
        if table.iter().any(|entry| entry.name.contains("persist") || entry.name.ends_with("-next")) {
            return Err(format!("a stand-in is there: {said}"));
        }
        let wins = |entry: &&Shown| entry.text.starts_with("enabled") && entry.text.contains(MAGIC);
        let winner = table.iter().find(wins).ok_or_else(|| format!("none wins: {said}"))?;
        if winner.name != NAME {
            return Err(format!("{} wins: {said}", winner.name));
        }
        let fragment = std::fs::read_to_string(host.path(FRAGMENT)).ok();
        Ok(Self { entry: winner.text.clone(), fragment })
    }

    /// Whether it is so now, the file on disk is the one that is held, and programs run.
    pub(crate) fn is_so(&self, host: &Sandbox) -> Result<(), String> {
        let now = Self::now(host)?;
        if now != *self {
            return Err(format!("{now:?} instead of {self:?}"));
        }
        let entry = table(host)?.into_iter().find(|entry| entry.name == NAME).ok_or("it is gone")?;
        let known = std::fs::read_to_string(host.path("/run/qemu-persist/registrations.json")).unwrap_or_default();
        let known: serde_json::Value = serde_json::from_str(&known).unwrap_or_default();
        let known = &known["entries"][NAME];
        let on_disk = std::fs::metadata(host.path(QEMU)).map_err(|e| e.to_string())?.ino();
        if known["inode"] == entry.inode && known["interpreter"]["ino"] != on_disk {
            return Err(format!("{known} holds another file than {on_disk}"));
        }
        Ok(())
    }

    /// Waits until it is so, and sees a foreign program run.
    pub(crate) fn wait(&self, what: &str, host: &Sandbox) {
        wait_for(what, PATIENCE, || self.is_so(host));
        let ran = host.run_foreign();
        assert_eq!((ran.code, ran.out.as_str()), (0, "qemu-persist-probe 1 aarch64 nonce\n"), "{what}: {}", ran.err);
    }
}
