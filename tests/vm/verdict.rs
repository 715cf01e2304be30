// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the verdict on a system agrees with what programs do there.

use std::collections::{BTreeMap, BTreeSet};

use qemu_persist::parts::FRAGMENT;
use qemu_persist::platform::Platform;
use qemu_persist::selftest::depth::{Asked, Depth, Found};
use qemu_persist::selftest::probes::parse_answer;
use serde_json::Value;

use crate::machine::NATIVE_PROBES;
use crate::system::{MINUTE, System, TABLE};

/// Exit codes by what ended with them, as lines tell them.
fn by_name(lines: &str) -> BTreeMap<&str, &str> {
    lines.lines().map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("{lines}"))).collect()
}

impl System {
    /// Whether the image has programs of the foreign platform, some of which large pages keep from starting.
    pub fn has_programs(&mut self) -> bool {
        self.machine.run("test -d /opt/programs").code == 0
    }

    /// The self-test, and `status` after it, say of the pages what programs show: libraries that differ in nothing but
    /// where their data begin, each libcrypto that Debian's release has now, and its openssl and curl. Which of Debian's
    /// cannot be mapped with large pages depends on their layout, and so changes with every update.
    /// With large pages the package qemu-persist-emulator has them all work.
    pub fn tells_what_programs_do(&mut self, size: &str) {
        let small = size == "4k";
        let good = small || self.has_emulator;
        let script = "cd /opt/programs; for file in layout/*.so; do
                code=0; chroot . /lib64/ld-linux-x86-64.so.2 --list /$file >/dev/null 2>&1 || code=$?; echo $file $code
            done";
        let told = self.machine.sh_within(script, MINUTE * 3);
        let codes = by_name(&told);
        let dead: Vec<_> = codes.iter().filter(|(_, code)| **code != "0").collect();
        eprintln!("              cannot be loaded: {dead:?}");
        assert_eq!(codes.len(), 16, "{codes:?}");
        // Were it all of them, something else would be wrong than the layout.
        let expected = if good { dead.is_empty() } else { (1..codes.len()).contains(&dead.len()) };
        assert!(expected, "{dead:#?}{}", self.describe());
        let versions = self.machine.sh("ls /opt/programs/libssl3");
        assert!(!versions.is_empty(), "no libssl3");
        for version in versions.lines() {
            self.tells_what_debians_programs_do(version, good);
        }
        let ran = self.machine.run_within("qemu-persist selftest --depth full --json", MINUTE * 5);
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        let mut told = BTreeSet::new();
        for result in
            said["platforms"].as_array().into_iter().flatten().filter_map(|p| p["results"].as_array()).flatten()
        {
            assert_eq!(result["verdict"], if good { "pass" } else { "limited" }, "{said:#}");
            for part in result["parts"].as_array().into_iter().flatten() {
                let (id, found) = (part["part"].as_str().unwrap_or_default(), &part["found"]);
                told.insert(format!("{id} {} {}", found.as_str().unwrap_or_default(), part["detail"]));
                if id.starts_with("pages.") {
                    let works = small || good && id == FRAGMENT;
                    assert_eq!(*found, if works { "works" } else { "broken" }, "{said:#}");
                } else {
                    // Debian's kernel has addresses of 48 bits and more.
                    assert!(*found != "broken" || id == "address-space", "{said:#}");
                }
            }
        }
        for line in told {
            eprintln!("              {line}");
        }
        assert_eq!(ran.code, i32::from(!good), "{said:#}");
        let status = self.machine.run("qemu-persist status");
        let advised = status.out.contains("[pages-fragment]") && status.out.contains("kernel=kernel8.img");
        assert_eq!((status.code, advised), (i32::from(!good), !good), "{}{}", status.out, status.err);
    }

    /// `selftest --programs` says of Debian's openssl and curl with `version` of libssl3 what they do, which is to
    /// work where `all_work`. With qemu-persist-emulator only the programs are run: the self-test takes its time.
    fn tells_what_debians_programs_do(&mut self, version: &str, all_work: bool) {
        let asked = !self.has_emulator;
        let ask = if asked { "qemu-persist selftest --programs /opt/programs --json || true" } else { "" };
        let script = format!(
            "cd /opt/programs; libraries=usr/lib/x86_64-linux-gnu
            trap 'umount $libraries/libcrypto.so.3 $libraries/libssl.so.3' EXIT
            for file in libcrypto.so.3 libssl.so.3; do mount --bind libssl3/{version}/$file $libraries/$file; done
            code=0; chroot . /usr/bin/openssl version >/dev/null 2>&1 || code=$?; echo openssl $code
            code=0; chroot . /usr/bin/curl --version >/dev/null 2>&1 || code=$?; echo curl $code
            {ask}"
        );
        let ran = self.machine.sh_within(&script, MINUTE * 4);
        let (codes, said) = ran.split_at(ran.find('{').unwrap_or(ran.len()));
        let codes = by_name(codes);
        eprintln!("              with libssl3 {version}: {codes:?}");
        assert!(!all_work || codes.values().all(|code| *code == "0"), "libssl3 {version}: {codes:?}");
        if !asked {
            return;
        }
        let said: Value = serde_json::from_str(said).unwrap_or_else(|e| panic!("{e}: {said}"));
        for (program, code) in codes {
            let mut results = said["platforms"][0]["results"][0]["programs"].as_array().into_iter().flatten();
            let told = results.find(|result| result["program"] == program).expect("the program");
            assert_eq!(told["found"], if code == "0" { "works" } else { "broken" }, "{version}: {code}: {said:#}");
        }
    }

    /// The probes of this system's own programs, which nothing translates, find that everything works.
    pub fn probes_pass_natively(&mut self, size: &str) {
        for oci in NATIVE_PROBES {
            let platform = Platform::named(oci).expect("a platform");
            // A program that gains rights has to lie where the file system lets it.
            let script = format!(
                "cd $(mktemp -d -p /var/tmp); chmod 755 .
                for probe in identity depth; do cp /root/probes/$probe.{oci}.elf $probe; done
                cp depth depth.setuid; echo \"#!$PWD/depth =child\" >depth.script
                chmod 755 identity depth depth.script; chmod 4755 depth.setuid
                as_nobody() {{ setpriv --reuid=65534 --regid=65534 --clear-groups $PWD/\"$@\"; }}
                as_nobody identity nonce; echo; as_nobody depth nonce {}",
                Depth::Full.groups().join(" ")
            );
            let ran = self.machine.run_within(&script, MINUTE * 2);
            let (answer, output) = ran.out.split_once("\n\n").unwrap_or_else(|| panic!("{oci}: {ran:?}"));
            let machine =
                parse_answer(format!("{answer}\n").as_bytes(), "nonce").unwrap_or_else(|e| panic!("{e}: {ran:?}"));
            assert!(machine == "aarch64" || oci == "arm" && machine == "armv8l", "{machine}");
            let parts = Asked::new(platform, Some(Depth::Full)).read(output.as_bytes(), "nonce");
            let told: Vec<_> = parts.iter().map(|part| (part.part, part.found, part.detail.as_str())).collect();
            eprintln!("              natively, {size}, {oci}, {machine}: {told:?}");
            assert_eq!(parts.len(), Depth::Full.parts(platform).count(), "{oci}");
            assert!(parts.iter().all(|part| part.found == Found::Works), "{oci}: {ran:?}");
        }
    }

    /// `host` says of 32-bit ARM what programs show that are laid out for pages of 4 and of 64 KiB.
    pub fn tells_of_32_bit_arm(&mut self, size: &str) {
        let good = size == "4k";
        let ran = self.machine.run("qemu-persist host --json");
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        let told = &said["arm32"];
        for (program, runs) in [("64", true), ("4", good)] {
            let ran = self.machine.run(&format!("/opt/arm/{program}"));
            eprintln!("              laid out for {program} KiB: {} {}", ran.code, ran.err.trim());
            assert_eq!(ran.code == 0, runs, "{ran:?} {told:#}");
        }
        let expected = serde_json::json!({"native": ["v7", "v6", "v5"], "refused": ["swp"], "large_pages": !good});
        assert_eq!(*told, expected, "{}", self.describe());
    }

    /// The same with the QEMU of the release before, which is given back its place afterwards.
    pub fn tells_what_programs_do_with_older(&mut self, size: &str) {
        let drop_in = "/etc/qemu-persist/config.toml.d/50-older.toml";
        self.machine.sh(&format!(
            "mkdir -p /etc/qemu-persist/config.toml.d
             echo 'interpreters.amd64 = \"/opt/older/x86_64-binfmt-P\"' >{drop_in}
             qemu-persist apply >/dev/null"
        ));
        // The service sees the change as well.
        let held = format!("until grep -q /opt/older/ {TABLE}/{}; do sleep 0.2; done", self.handler());
        self.machine.sh_within(&held, MINUTE);
        self.tells_what_programs_do(size);
        self.machine.sh(&format!("rm {drop_in}; qemu-persist apply >/dev/null"));
    }
}
