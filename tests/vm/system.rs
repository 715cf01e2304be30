// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine with the product in it: what is done to it, and what has to hold then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::machine::{Image, Machine};

/// The kernel's table.
pub const TABLE: &str = "/proc/sys/fs/binfmt_misc";
pub const MINUTE: Duration = Duration::from_secs(60);
/// The container that Docker is to restart.
const LASTING: &str = "lasting";
/// The package with Debian's own rules, in images that have not installed it.
const SPARE_RULES: &str = "/opt/debs/qemu-user-binfmt";

/// What scripts need that ask for self-tests.
const SELF_TEST: &str = "due=/run/qemu-persist/selftest-due
            show() { systemctl show --value -p $1 qemu-persist-selftest.service; }
            idle() { until case $(show ActiveState) in inactive | failed) ;; *) false ;; esac; do sleep 0.2; done; }";

/// Something that takes handlers away.
pub struct Breakage {
    /// Its name.
    pub name: &'static str,
    /// The script; 3 where the image has nothing for it.
    script: &'static str,
    /// How long it may take, in minutes.
    minutes: u32,
    /// Whether it is quick enough for every day.
    pub quick: bool,
    /// Whose words in the journal say what happened.
    teller: Teller,
}

/// Who registers the handlers again.
enum Teller {
    /// Nobody but the service.
    Service,
    /// systemd-binfmt, from the fragment, and the service meanwhile where it comes to look.
    Systemd,
}

/// What others do to handlers, and after which containers run again without a hand being laid on.
pub const BREAKAGES: [Breakage; 4] = [
    Breakage {
        name: "flush",
        script: "echo -1 >/proc/sys/fs/binfmt_misc/status",
        minutes: 1,
        quick: true,
        teller: Teller::Service,
    },
    Breakage {
        name: "restart of systemd-binfmt",
        script: "systemctl restart systemd-binfmt",
        minutes: 2,
        quick: true,
        teller: Teller::Systemd,
    },
    Breakage {
        name: "reinstallation of Python",
        script: "python=$(cd /opt/debs && echo python3.*-minimal_*.deb); [ -e /opt/debs/$python ] || exit 3
                 DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall ${python%%_*}",
        minutes: 15,
        quick: false,
        teller: Teller::Systemd,
    },
    // As the register.sh of multiarch/qemu-user-static does with --reset.
    Breakage {
        name: "privileged container that resets",
        script: r#"docker run --rm --privileged --network none localhost/native:1 sh -c '
            if [ ! -f /proc/sys/fs/binfmt_misc/register ]; then
                mount binfmt_misc -t binfmt_misc /proc/sys/fs/binfmt_misc
            fi
            find /proc/sys/fs/binfmt_misc -type f -name "qemu-*" -exec sh -c "echo -1 >{}" \;'"#,
        minutes: 3,
        quick: true,
        teller: Teller::Service,
    },
];

/// Names of handlers, and what the kernel shows of each.
pub type Handlers = BTreeMap<String, String>;

/// The system.
pub struct System {
    /// The machine that it runs on.
    pub machine: Machine,
    image: Image,
    has_large_pages: bool,
    /// Whether it has the package qemu-persist-emulator.
    pub has_emulator: bool,
}

impl System {
    /// A machine of `image` for the test `test`, not yet started.
    pub fn new(image: Image, test: &str) -> Self {
        Self { machine: Machine::new(image, test), image, has_large_pages: false, has_emulator: false }
    }

    /// Starts the machine, with pages of `size`.
    pub fn boot(&mut self, size: &str) {
        let took = self.machine.boot(size);
        eprintln!("              systemd is done after {:.0} s", took.as_secs_f64());
        self.has_large_pages = size == "16k";
        if self.has_large_pages {
            assert_eq!(self.machine.sh("getconf PAGESIZE"), "16384\n");
        }
    }

    /// Reboots, into a kernel with pages of `size`.
    pub fn reboot(&mut self, size: &str) {
        self.machine.shut_down("reboot");
        self.boot(size);
    }

    /// Gives Docker the images that the tests run.
    pub fn load_images(&mut self) {
        self.machine.sh("for image in foreign native; do docker load -q -i /opt/$image.tar; done");
    }

    /// Installs the package as a user does; what it depends on is there.
    pub fn install(&mut self) {
        self.machine.sh("tar -C /root -xf /dev/vdb && apt-get -qq update");
        self.apt_get("install /root/qemu-persist.deb");
    }

    /// Has apt-get do something, which has to succeed; gives what it wrote.
    pub fn apt_get(&mut self, what: &str) -> String {
        self.machine.sh_within(&format!("DEBIAN_FRONTEND=noninteractive apt-get -y {what} 2>&1"), MINUTE * 5)
    }

    /// The command that runs a container of the foreign platform, as users do.
    pub fn docker_run(&self) -> String {
        format!("docker run --rm --network none --platform linux/{} localhost/foreign:1", self.image.foreign())
    }

    /// A container runs, and says what its platform must say.
    pub fn runs_container(&mut self) {
        let ran = self.machine.run(&self.docker_run());
        let good = (ran.code, ran.out.trim()) == (0, self.image.foreign_machine());
        assert!(good, "{ran:?}{}", self.describe());
    }

    /// No container runs, as on every system without a handler.
    pub fn refuses_container(&mut self) {
        let ran = self.machine.run(&self.docker_run());
        assert!(ran.code != 0 && ran.err.contains("exec format error"), "{ran:?}{}", self.describe());
    }

    /// Foreign programs start again within `seconds`; gives what was waited, by the machine's clock.
    pub fn recovers(&mut self, seconds: u64) -> Duration {
        let script = format!(
            "from=$(cut -d' ' -f1 /proc/uptime)
             until [ \"$(/opt/foreign/uname -m)\" = {} ]; do sleep 0.1; done 2>/dev/null
             echo $from $(cut -d' ' -f1 /proc/uptime)",
            self.image.foreign_machine()
        );
        let ran = self.machine.run_within(&script, Duration::from_secs(seconds));
        assert_eq!(ran.code, 0, "nothing foreign starts after {seconds} s{}", self.describe());
        let times: Vec<f64> = ran.out.split_whitespace().map(|time| time.parse().expect("a time")).collect();
        Duration::from_secs_f64(times[1] - times[0])
    }

    /// Starts a container that Docker is to start again whenever it ends.
    pub fn start_lasting(&mut self) {
        self.machine.sh(&format!(
            "docker run --detach --restart always --stop-timeout 1 --name {LASTING} --network none \
             --platform linux/{} localhost/foreign:1 sleep 1000000",
            self.image.foreign()
        ));
    }

    /// That container runs. Nobody can have started it by hand: there is no getty to log in at, and
    /// tests do not start it.
    pub fn lasting_runs(&mut self) {
        let state = self.machine.sh(&format!("docker inspect --format '{{{{json .State}}}}' {LASTING}"));
        assert!(state.contains("\"Running\":true"), "{state}{}", self.describe());
        let machine = self.machine.sh(&format!("docker exec {LASTING} uname -m"));
        assert_eq!(machine.trim(), self.image.foreign_machine());
    }

    /// `status` says that all is well, or that nothing but the size of the kernel's pages is not.
    pub fn is_healthy(&mut self) {
        let ran = self.machine.run_within("qemu-persist status --wait --json", MINUTE * 6);
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}{}", self.describe()));
        let findings = said["findings"].as_array().into_iter().flatten();
        let bad: BTreeSet<_> = findings.filter(|f| f["severity"] != "note").filter_map(|f| f["id"].as_str()).collect();
        let limited = self.has_large_pages && !self.has_emulator;
        let (code, expected) = if limited { (1, vec!["pages-fragment"]) } else { (0, vec![]) };
        let good = ran.code == code && bad.iter().copied().eq(expected);
        assert!(good, "{said:#}{}{}", ran.err, self.describe());
    }

    /// The handlers, name and text, those of the kernel itself left out.
    pub fn handlers(&mut self) -> Handlers {
        let script = format!("cd {TABLE}; for entry in *; do echo \"== $entry\"; cat $entry 2>/dev/null || true; done");
        let text = self.machine.sh(&script);
        let entries = text.split("== ").skip(1).filter_map(|part| part.split_once('\n'));
        let entries = entries.filter(|(name, _)| !["register", "status"].contains(name));
        entries.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    /// What the service and systemd-binfmt wrote to the journal since this was asked before, and systemd about
    /// them, oldest first.
    pub fn news(&mut self) -> Vec<Value> {
        let script = "journalctl --sync
            journalctl -u qemu-persist -u systemd-binfmt -o json --no-pager --cursor-file=/root/journal-cursor";
        let text = self.machine.sh(script);
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// As [`Self::news`], shown too.
    pub fn tell_news(&mut self) -> Vec<Value> {
        let news = self.news();
        for record in &news {
            eprintln!("              journal: {}", record["MESSAGE"].as_str().unwrap_or("(no text)"));
        }
        news
    }

    /// The foreign handler's usual name.
    pub fn handler(&self) -> String {
        format!("qemu-{}", self.image.foreign_machine())
    }

    /// Breaks it, and has a container run again, and the handler be what it was.
    pub fn survives(&mut self, breakage: &Breakage) {
        let handler = self.handler();
        let show = format!("cat {TABLE}/{handler}");
        let before = self.machine.sh(&show);
        self.news();
        let ran = self.machine.run_within(breakage.script, MINUTE * breakage.minutes);
        if ran.code == 3 {
            eprintln!("              skipped: the image has nothing for it");
            return;
        }
        assert_eq!(ran.code, 0, "{ran:?}");
        let waited = self.recovers(60);
        eprintln!("              foreign programs start after {:.2} s", waited.as_secs_f64());
        self.runs_container();
        // The usual name is taken when nobody has registered anything for a second.
        self.machine.sh_within(&format!("until [ -e {TABLE}/{handler} ]; do sleep 0.5; done"), MINUTE);
        assert_eq!(self.machine.sh(&show), before, "{}", self.describe());
        let news = self.tell_news();
        let told = news.iter().any(|record| match breakage.teller {
            Teller::Service => record["ACTION"].is_string() && record["HANDLER"] == handler.as_str(),
            Teller::Systemd => record["UNIT"] == "systemd-binfmt.service" && record["JOB_RESULT"] == "done",
        });
        assert!(told, "{news:#?}{}", self.describe());
    }

    /// Takes the file system away below the service, whose place systemd's automount then holds.
    pub fn survives_unmount(&mut self) {
        self.news();
        self.machine.sh(&format!("umount {TABLE}"));
        // Nobody else looks there, so it is the service that has it mounted again.
        self.machine.sh_within("until grep -q ' binfmt_misc ' /proc/self/mounts; do sleep 0.2; done", MINUTE);
        self.recovers(60);
        let handler = self.handler();
        self.machine.sh_within(&format!("until [ -e {TABLE}/{handler} ]; do sleep 0.5; done"), MINUTE);
        self.tell_news();
        self.is_healthy();
    }

    /// Asks for a self-test as the service does, and again while it runs.
    pub fn runs_self_test_again(&mut self) {
        let script = format!(
            "{SELF_TEST}
            idle; first=$(show InvocationID); touch $due
            until [ $(show InvocationID) != \"$first\" ] && [ ! -e $due ]; do sleep 0.1; done
            second=$(show InvocationID); [ $(show ActiveState) != inactive ]; touch $due
            until [ $(show InvocationID) != $second ] && [ ! -e $due ]; do sleep 0.1; done
            idle; show Result"
        );
        assert_eq!(self.machine.sh_within(&script, MINUTE * 5), "success\n", "{}", self.describe());
    }

    /// Asks for a self-test where nothing is wanted any more.
    pub fn proves_nothing_without_failing(&mut self) {
        let script = format!(
            "{SELF_TEST}
            qemu-persist remove >/dev/null
            idle; first=$(show InvocationID); touch $due
            until [ $(show InvocationID) != \"$first\" ] && [ ! -e $due ]; do sleep 0.1; done
            idle; show Result
            qemu-persist apply >/dev/null"
        );
        assert_eq!(self.machine.sh_within(&script, MINUTE * 5), "success\n", "{}", self.describe());
        self.is_healthy();
    }

    /// Applies again and again, with everything gone before, and pulls the plug meanwhile; then boots.
    pub fn cut_power_during_apply(&mut self, number: u32) {
        self.machine.leave(&format!(
            "while :; do rm -f /etc/binfmt.d/{0}.conf; sync; echo -1 >{TABLE}/status
                qemu-persist apply; touch /run/applied; done",
            self.handler()
        ));
        self.machine.sh("until [ -e /run/applied ]; do sleep 0.1; done");
        // Somewhere in an apply, and each time elsewhere.
        std::thread::sleep(Duration::from_millis(u64::from(number) * 317 % 1000));
        self.machine.cut_power();
        self.boot("4k");
    }

    /// The journal of this boot says what the service found and did before anything else ran, and that
    /// all handlers work.
    pub fn told_boot(&mut self) {
        let script = "journalctl --sync; journalctl -b -u qemu-persist -o json --no-pager";
        let text = self.machine.sh(script);
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let messages: Vec<_> = records.iter().filter_map(|record| record["MESSAGE"].as_str()).collect();
        let looked = messages.iter().position(|message| message.starts_with("watching: "));
        let looked = looked.unwrap_or_else(|| panic!("{text}{}", self.describe()));
        for message in &messages[..=looked] {
            eprintln!("              journal: {message}");
        }
        // watching: 2 of 2 handlers work
        let words: Vec<_> = messages[looked].split(' ').collect();
        assert!(words[1] == words[3] && words[1] != "0", "{text}{}", self.describe());
    }

    /// Whether Debian's own rules can be installed here, and are not.
    pub fn has_spare_rules(&mut self) -> bool {
        self.machine.run(&format!("ls {SPARE_RULES}_*.deb")).code == 0
    }

    /// The handlers that Debian's own rules give, which are gone again afterwards.
    pub fn try_spare_rules(&mut self) -> Handlers {
        let before = self.handlers();
        self.apt_get(&format!("install {SPARE_RULES}_*.deb"));
        let with_rules = self.handlers();
        assert!(with_rules.contains_key(&self.handler()), "{with_rules:#?}");
        self.apt_get("purge qemu-user-binfmt");
        self.has_exactly(&before);
        with_rules
    }

    /// Debian's own rules are installed beside the product, which gives them what it had registered.
    pub fn hands_over(&mut self) {
        self.news();
        self.apt_get(&format!("install {SPARE_RULES}_*.deb"));
        self.recovers(60);
        self.runs_container();
        let handler = self.handler();
        let fragment = format!("/etc/binfmt.d/{handler}.conf");
        self.machine.sh_within(&format!("while [ -e {fragment} ]; do sleep 0.5; done"), MINUTE);
        self.tell_news();
        let text = self.handlers().remove(&handler).unwrap_or_default();
        assert!(text.contains("interpreter /usr/libexec/qemu-binfmt/"), "{text}{}", self.describe());
        self.is_healthy();
    }

    /// Says what the boot has spent on handlers, and when.
    pub fn tell_boot(&mut self) {
        let script =
            "systemd-analyze --no-pager blame | grep -E ' (systemd-binfmt|qemu-persist|docker).service' || true
            systemd-analyze --no-pager time | head -n 1
            journalctl --no-pager -b -o short-monotonic --no-hostname -u qemu-persist -u systemd-binfmt | head -n 8";
        for line in self.machine.sh(script).lines() {
            eprintln!("              boot: {}", line.trim());
        }
    }

    /// Uninstalls, which leaves exactly the `handlers` that there would be without the product.
    pub fn uninstall(&mut self, handlers: &Handlers) {
        let said = self.apt_get("purge qemu-persist");
        self.has_exactly(handlers);
        // What Docker itself has lost track of when the power was cut, layers without an image, it alone can tell.
        let left = "find / -xdev -name '*qemu-persist*' -not -path '/root/*' -not -path '/var/log/*' \
                        -not -path '/var/lib/docker/overlay2/*'
                    ! command -v docker >/dev/null || { docker ps --all --format '{{.Names}}'
                        docker images --all --format '{{.Repository}}'; } | grep qemu-persist || true
                    find /etc/binfmt.d -type f";
        assert_eq!(self.machine.sh(left), "", "{said}");
        // binfmt-support registers otherwise after a restart than at boot: other flags.
        self.machine.sh("systemctl is-active -q binfmt-support || systemctl restart systemd-binfmt");
        self.has_exactly(handlers);
    }

    /// There are these handlers and no others.
    pub fn has_exactly(&mut self, handlers: &Handlers) {
        let found = self.handlers();
        let names: BTreeSet<_> = found.keys().chain(handlers.keys()).collect();
        let differ: Vec<_> = names
            .into_iter()
            .filter(|&name| found.get(name) != handlers.get(name))
            .map(|name| format!("{name}: {:?} instead of {:?}", found.get(name), handlers.get(name)))
            .collect();
        assert!(differ.is_empty(), "{}{}", differ.join("\n"), self.describe());
    }

    /// What helps to understand a failure.
    pub fn describe(&mut self) -> String {
        let handler = self.handler();
        let script = format!(
            "set +e; ls -x {TABLE}; cat {TABLE}/status {TABLE}/{handler}; ls -l /etc/binfmt.d; qemu-persist status
             systemctl status --no-pager -n 30 systemd-binfmt qemu-persist; journalctl -b -p warning --no-pager -n 30; true"
        );
        let ran = self.machine.run(&script);
        format!("\n--- the system\n{}{}", ran.out, ran.err)
    }
}
