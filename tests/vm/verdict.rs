// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the verdict on a system agrees with what programs do there.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::system::{MINUTE, System, TABLE};

impl System {
    /// Whether the image has programs of the foreign platform, some of which large pages keep from starting.
    pub fn has_programs(&mut self) -> bool {
        self.machine.run("test -d /opt/programs").code == 0
    }

    /// The self-test, and `status` after it, say of the pages what programs show: libraries that differ in nothing but
    /// where their data begin, each libcrypto that Debian's release has now, and its openssl and curl. Which of Debian's
    /// cannot be mapped with large pages depends on their layout, and so changes with every update.
    pub fn tells_what_programs_do(&mut self, size: &str) {
        let good = size == "4k";
        let script = "cd /opt/programs; loader=/lib64/ld-linux-x86-64.so.2
            try() { name=$1; shift; code=0; chroot . \"$@\" >/dev/null 2>&1 || code=$?; echo $name $code; }
            for file in layout/*.so; do try $file $loader --list /$file; done
            for folder in libssl3/*; do try $folder $loader --library-path /$folder /usr/bin/openssl version; done
            try openssl /usr/bin/openssl version
            try curl /usr/bin/curl --version";
        let ran = self.machine.run_within(script, MINUTE * 3);
        let (mut layouts, mut failed) = (0, Vec::new());
        for line in ran.out.lines() {
            let (what, code) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{ran:?}"));
            layouts += usize::from(what.starts_with("layout/"));
            if code != "0" {
                failed.push(format!("{what}: {code}"));
            }
        }
        eprintln!("              cannot be loaded: {failed:?}");
        assert_eq!(layouts, 16, "{ran:?}");
        let dead = failed.iter().filter(|line| line.starts_with("layout/")).count();
        // Were it all of them, something else would be wrong than the layout.
        let expected = if good { failed.is_empty() } else { (1..layouts).contains(&dead) };
        assert!(expected, "{failed:#?}{}", self.describe());
        let ran = self.machine.run_within("qemu-persist selftest --programs /opt/programs --json", MINUTE * 3);
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        for program in ["openssl", "curl"] {
            let dead = failed.iter().any(|line| line.starts_with(&format!("{program}: ")));
            let mut results = said["platforms"][0]["results"][0]["programs"].as_array().into_iter().flatten();
            let told = results.find(|result| result["program"] == program).expect("the program");
            assert_eq!(told["found"], if dead { "broken" } else { "works" }, "{said:#}{failed:?}");
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
                    assert_eq!(*found, if good { "works" } else { "broken" }, "{said:#}");
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
