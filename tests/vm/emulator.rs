// SPDX-License-Identifier: MIT OR Apache-2.0
//! The package qemu-persist-emulator on the kernels that it is for: what it is taken up and given up for, and what runs
//! under Debian's QEMU and under the package's, with pages of 16 and of 4 KiB.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::machine::Image;
use crate::steps::Steps;
use crate::system::{MINUTE, System, TABLE};

/// Where the package's programs are.
const OURS: &str = "/usr/libexec/qemu-persist/";
/// The administrator's word on the package.
const PREFER_ALWAYS: &str = "mkdir -p /etc/qemu-persist/config.toml.d
    echo 'emulator = \"always\"' >/etc/qemu-persist/config.toml.d/50-emulator.toml";

/// The image with the programs.
const IMAGE: &str = "localhost/programs:1";
/// What loads libraries.
const LOAD: &str = include_str!("load.pl");

/// Programs, and something that each is used for.
const PROGRAMS: [(&str, &str); 7] = [
    (
        "openssl",
        "echo text >text
        openssl ecparam -name prime256v1 -genkey -noout -out key
        openssl pkey -in key -pubout -out public
        openssl dgst -sha256 -sign key -out signature text
        openssl dgst -sha256 -verify public -signature signature text
        openssl enc -aes-256-cbc -pbkdf2 -pass pass:word -in text -out secret
        openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:word -in secret -out again
        test \"$(cat again)\" = text",
    ),
    (
        "curl",
        "mkdir files; echo text >files/text
        python3 -m http.server --bind 127.0.0.1 --directory files 8000 &
        said=$(curl --silent --show-error --fail --retry 240 --retry-connrefused --retry-delay 1 http://127.0.0.1:8000/text)
        test \"$said\" = text",
    ),
    (
        "python3",
        r#"python3 -c '
import ctypes, decimal, hashlib, os, sqlite3, ssl
database = sqlite3.connect("database")
database.execute("create table numbers (number)")
database.executemany("insert into numbers values (?)", ((number,) for number in range(1000)))
assert database.execute("select sum(number) from numbers").fetchone() == (499500,)
assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
assert ctypes.CDLL("libc.so.6").getpid() == os.getpid()
assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf")
assert decimal.Decimal(2).sqrt() ** 2 - 2 < decimal.Decimal("1e-20")'"#,
    ),
    (
        "git",
        "git init --quiet repository; cd repository
        git config user.name Name; git config user.email name@example.org
        for number in 1 2 3; do echo $number >file; git add file; git commit --quiet --message $number; done
        test \"$(git log --format=%s | wc -l)\" = 3
        git gc --quiet; git fsck --strict; git clone --quiet . ../clone",
    ),
    (
        "perl",
        r#"perl -MDigest::SHA=sha256_hex -MEncode -MList::Util=sum -MPOSIX=floor -MStorable=dclone -MSocket -e '
            my %words; $words{$_}++ for "the one, the other and the third" =~ /\b(\w+)\b/g;
            die unless dclone(\%words)->{the} == 3 && sum(1 .. 100) == 5050 && floor(-0.5) == -1;
            die unless sha256_hex("abc") =~ /^ba7816bf/ && length encode("UTF-8", "\x{20ac}") == 3;'"#,
    ),
    (
        "node",
        r#"node -e '
            const assert = require("assert"), crypto = require("crypto"), zlib = require("zlib");
            assert.equal(zlib.gunzipSync(zlib.gzipSync("text")).toString(), "text");
            assert(crypto.createHash("sha256").update("abc").digest("hex").startsWith("ba7816bf"));
            let sum = 0; for (let number = 0; number < 1e6; number++) sum += number;
            Promise.resolve(sum).then(sum => assert.equal(sum, 499999500000));'"#,
    ),
    (
        "java",
        "java -version; sum=$(timeout --signal KILL 180 java -cp /opt Proof); test $sum = 333338333350000",
    ),
];

/// What was seen with one QEMU on one kernel.
struct Column {
    name: &'static str,
    /// By program: the exit code, and the seconds that it took.
    programs: BTreeMap<&'static str, (i32, f64)>,
    /// The libraries that cannot be loaded, and why.
    libraries: BTreeMap<String, String>,
    /// How many were tried.
    tried: usize,
    /// The seconds that those took.
    seconds: f64,
}

impl System {
    /// Installs the package, and waits until the service has taken it up by itself.
    pub fn takes_up_the_emulator(&mut self) {
        let present = self.machine.run("test -e /root/qemu-persist-emulator.deb").code == 0;
        assert!(present, "no package of it in target/debian: packaging/qemu/build.sh --arch arm64");
        self.news();
        self.changes_handlers("install /root/qemu-persist-emulator.deb", true);
        self.has_emulator = true;
        let fragment = self.machine.sh(&format!("cat /etc/binfmt.d/{}.conf", self.handler()));
        assert!(fragment.contains(&format!(":{OURS}")), "{fragment}");
        self.tells_of_emulator(true);
    }

    /// Removes the package, after which the service goes back to Debian's QEMU by itself, and says so.
    pub fn gives_up_the_emulator(&mut self) {
        self.news();
        self.changes_handlers("purge qemu-persist-emulator", false);
        self.has_emulator = false;
        self.told_of_handler("");
        self.tells_of_emulator(false);
        assert_eq!(self.machine.sh(&format!("find {OURS} -name 'qemu-x86_64' -o -name 'qemu-i386'")), "");
    }

    /// Puts Debian's own QEMU where the package's would be: it starts programs, and does not help. The service takes it
    /// up, has a self-test run, which shows that, and goes back; started anew, it does not try again.
    pub fn gives_up_one_that_does_not_help(&mut self) {
        let names = self.names();
        self.news();
        self.machine.sh(&format!(
            "cd {OURS}; for guest in x86_64 i386; do cp /usr/bin/qemu-$guest .new; mv .new qemu-$guest; done"
        ));
        self.waits_for_handlers(&names, true);
        self.waits_for_handlers(&names, false);
        // It is told when all is done.
        std::thread::sleep(Duration::from_secs(3));
        self.told_of_handler("a self-test with qemu-persist-emulator's QEMU failed on this kernel (pages.fragment: ");
        for _ in 0..2 {
            let ran = self.machine.run_within("qemu-persist status --wait --json", MINUTE * 6);
            let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
            let findings = said["findings"].as_array().into_iter().flatten();
            let rejected = findings.filter(|finding| finding["id"] == "emulator-rejected");
            let subjects: BTreeSet<_> = rejected.filter_map(|finding| finding["subject"].as_str()).collect();
            assert_eq!(subjects, BTreeSet::from(["linux/386", "linux/amd64"]), "{said:#}{}", self.describe());
            self.waits_for_handlers(&names, false);
            self.machine.sh("systemctl restart qemu-persist.service");
        }
    }

    /// The journal has news of a change of the handler, with `reason`.
    fn told_of_handler(&mut self, reason: &str) {
        let handler = self.handler();
        let news = self.tell_news();
        let told = news.iter().any(|record| {
            let says = record["MESSAGE"].as_str().is_some_and(|message| message.contains(reason));
            record["ACTION"].is_string() && record["HANDLER"] == handler.as_str() && says
        });
        assert!(told, "{reason}: {news:#?}{}", self.describe());
    }

    /// Has apt-get do something, and waits until the handlers of amd64 and 386 are with the package's QEMU, or not,
    /// and are the only ones again.
    fn changes_handlers(&mut self, what: &str, ours: bool) {
        let names = self.names();
        self.apt_get(what);
        self.waits_for_handlers(&names, ours);
    }

    /// What is in the kernel's table.
    fn names(&mut self) -> String {
        self.machine.sh(&format!("ls {TABLE}"))
    }

    /// Waits until the handlers are those with these `names`, of which none is with the other QEMU.
    fn waits_for_handlers(&mut self, names: &str, ours: bool) {
        let others = format!("grep -{} '^interpreter {OURS}' qemu-x86_64 qemu-i386", if ours { 'L' } else { 'l' });
        let script = format!(
            "cd {TABLE}; until [ \"$(ls)\" = '{}' ] && [ -z \"$({others})\" ]; do sleep 0.5; done",
            names.trim()
        );
        let ran = self.machine.run_within(&script, MINUTE * 2);
        assert_eq!(ran.code, 0, "{names}{ran:?}{}", self.describe());
    }

    /// `status` tells that the package's QEMU runs programs, or does not.
    fn tells_of_emulator(&mut self, used: bool) {
        let ran = self.machine.run("qemu-persist status --json");
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        let findings = said["findings"].as_array().into_iter().flatten();
        let ids: BTreeSet<_> = findings.filter_map(|finding| finding["id"].as_str()).collect();
        assert_eq!(ids.contains("emulator-used"), used, "{said:#}");
        assert!(!ids.contains("emulator-unused") && !ids.contains("emulator-rejected"), "{said:#}");
    }

    /// Makes the image with the programs.
    fn import_programs(&mut self) {
        let script = format!(
            "mount -o ro /dev/vdc /mnt
            docker import --platform linux/amd64 --change 'ENV PATH=/usr/bin:/usr/sbin' /mnt/programs.tar {IMAGE}"
        );
        self.machine.sh_within(&script, MINUTE * 15);
    }

    /// What is told of programs is not told by what starts them.
    fn starts_containers(&mut self) {
        let script =
            format!("docker run --rm --network none --platform linux/amd64 {IMAGE} sh -ec 'uname -m; ls /opt'");
        assert_eq!(self.machine.sh(&script), "x86_64\nProof.class\n", "{}", self.describe());
    }

    /// Runs all programs and loads all libraries.
    fn tries_everything(&mut self, name: &'static str) -> Column {
        let programs = PROGRAMS.map(|(program, script)| (program, self.uses(program, script))).into();
        let script = format!(
            "mountpoint -q /mnt || mount -o ro /dev/vdc /mnt
            cd /mnt/desktop; mountpoint -q proc || {{ mount -t proc proc proc; mount --bind /dev dev; }}
            cat >/run/load.pl <<'end of the program'\n{LOAD}\nend of the program
            from=$(cut -d' ' -f1 /proc/uptime)
            for part in 0 1; do
                awk \"NR % 2 == $part\" list | chroot . /usr/bin/perl -e \"$(cat /run/load.pl)\" >/run/loaded.$part &
            done
            wait; cat /run/loaded.0 /run/loaded.1; echo $from $(cut -d' ' -f1 /proc/uptime)"
        );
        let ran = self.machine.sh_within(&script, MINUTE * 40);
        let mut column = Column { name, programs, libraries: BTreeMap::new(), tried: 0, seconds: 0.0 };
        for line in ran.lines() {
            let words: Vec<_> = line.splitn(3, ' ').collect();
            match words[..] {
                [count] => column.tried += count.parse::<usize>().expect("a number"),
                [from, to] => column.seconds = elapsed(from, to),
                [status, file, reason] => {
                    column.libraries.insert(file.to_owned(), format!("{status}: {reason}"));
                }
                _ => panic!("{ran}"),
            }
        }
        let listed = self.machine.sh("wc -l </mnt/desktop/list");
        assert_eq!(listed.trim(), column.tried.to_string(), "{ran}");
        eprintln!("              cannot be loaded: {:#?}", column.libraries);
        column
    }

    /// Runs a program in a container; gives its exit code, and the seconds that it took by the machine's clock.
    fn uses(&mut self, program: &str, script: &str) -> (i32, f64) {
        let script = format!(
            "script=$(cat <<'end of the script'\n{script}\nend of the script\n)
            from=$(cut -d' ' -f1 /proc/uptime); code=0
            timeout 400 docker run --rm --name program --network none --platform linux/amd64 --workdir /tmp \
                --env HOME=/tmp {IMAGE} sh -ec \"$script\" >/run/program 2>&1 || code=$?
            echo $code $from $(cut -d' ' -f1 /proc/uptime)
            docker rm --force program >/dev/null 2>&1 || true
            tail -n 4 /run/program >&2"
        );
        let ran = self.machine.run_within(&script, MINUTE * 8);
        let words: Vec<_> = ran.out.split_whitespace().collect();
        let [code, from, to] = words[..] else { panic!("{program}: {ran:?}") };
        let said = if code == "0" { String::new() } else { ran.err.trim().replace('\n', "; ") };
        eprintln!("              {program}: {code}, {:.1} s {said}", elapsed(from, to));
        (code.parse().expect("a number"), elapsed(from, to))
    }
}

/// The seconds between two readings of a clock.
fn elapsed(from: &str, to: &str) -> f64 {
    let seconds = |text: &str| text.parse::<f64>().expect("seconds");
    seconds(to) - seconds(from)
}

/// The disk with the programs and libraries, which is built where it is not there.
fn programs() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/build-programs.sh");
    let output = Command::new(script).stderr(Stdio::inherit()).output().expect("the script");
    assert!(output.status.success(), "{}", output.status);
    PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim())
}

/// What was tried, beside each other.
fn show(columns: &[&Column]) {
    let row = |name: &str, cell: &dyn Fn(&Column) -> String| {
        let cells: Vec<_> = columns.iter().map(|column| format!("{:>14}", cell(column))).collect();
        eprintln!("              {name:<17}{}", cells.concat());
    };
    row("", &|column| column.name.to_owned());
    for (program, _) in PROGRAMS {
        row(program, &|column| {
            let (code, seconds) = column.programs[program];
            if code == 0 { format!("{seconds:.1} s") } else { format!("ends with {code}") }
        });
    }
    row("libraries failing", &|column| format!("{} of {}", column.libraries.len(), column.tried));
    row("  time", &|column| format!("{:.0} s", column.seconds));
    for column in columns {
        let mut reasons = BTreeMap::<_, usize>::new();
        for reason in column.libraries.values() {
            *reasons.entry(reason.rsplit(": ").next().unwrap_or_default()).or_default() += 1;
        }
        eprintln!("              {}: {reasons:?}", column.name);
    }
}

/// Every program works, and no library fails but those that fail for another reason.
fn all_work(column: &Column, failing_anyway: &Column) {
    let failed: Vec<_> = column.programs.iter().filter(|(_, (code, _))| *code != 0).collect();
    let libraries: Vec<_> =
        column.libraries.iter().filter(|(file, _)| !failing_anyway.libraries.contains_key(*file)).collect();
    assert!(failed.is_empty() && libraries.is_empty(), "{}: {failed:#?} {libraries:#?}", column.name);
}

/// Installs and removes the package on the kernel that it is for, and has all programs and libraries tried with Debian's
/// QEMU and with the package's there and on the usual kernel.
pub fn proves_the_emulator(image: Image) {
    let mut system = System::new(image, "emulator");
    system.machine.attach(programs());
    let system = &mut system;
    let mut steps = Steps::default();
    let mut columns = Vec::new();
    steps.require("boot, with pages of 16k", || system.boot("16k"));
    steps.require("installation", || {
        system.load_images();
        system.import_programs();
        system.install();
        system.starts_containers();
    });
    let before = system.handlers();
    steps.require("Debian's QEMU, 16k", || columns.push(system.tries_everything("16K Debian")));
    steps.require("the package is installed", || system.takes_up_the_emulator());
    steps.step("the verdict agrees with what programs do", || system.tells_what_programs_do("16k"));
    steps.step("status", || system.is_healthy());
    steps.require("the package's QEMU, 16k", || columns.push(system.tries_everything("16K ours")));
    steps.step("the package is removed", || {
        system.gives_up_the_emulator();
        system.has_exactly(&before);
        system.is_healthy();
    });
    steps.require("the package is installed again", || system.takes_up_the_emulator());
    let names = system.names();
    steps.require("reboot, with pages of 4k", || system.reboot("4k"));
    steps.step("there it is left alone", || {
        system.waits_for_handlers(&names, false);
        system.tells_of_emulator(false);
        system.is_healthy();
    });
    steps.require("Debian's QEMU, 4k", || columns.push(system.tries_everything("4K Debian")));
    steps.require("it is preferred always", || {
        system.machine.sh(PREFER_ALWAYS);
        system.waits_for_handlers(&names, true);
        system.tells_of_emulator(true);
        system.is_healthy();
    });
    steps.require("the package's QEMU, 4k", || columns.push(system.tries_everything("4K ours")));
    let [large, large_ours, small, small_ours] = &columns[..] else { panic!("{}", columns.len()) };
    show(&[small, large, large_ours, small_ours]);
    steps.step("Debian's QEMU fails on large pages only", || {
        all_work(small, small);
        // Were it none, nothing would be shown.
        assert!(large.libraries.keys().any(|file| !small.libraries.contains_key(file)), "{:#?}", large.libraries);
    });
    for ours in [large_ours, small_ours] {
        steps.step(&format!("{}: all works", ours.name), || all_work(ours, small));
    }
    steps.step("power off", || system.machine.shut_down("poweroff"));
    steps.finish();
}
