// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images on this very host: what its handlers, its proofs and its engines make of them.

use std::path::Path;

use serde_json::Value;

use crate::client::Client;
use crate::needs;
use crate::registries::{Flavour, PROGRAM, Registry};
use crate::sandbox;
use crate::sandbox::Sandbox;

/// The sandbox has no network: it has what was seen outside.
fn check(host: &Sandbox, image: &str) -> (i32, Value) {
    let script = format!("HOME=/root exec qemu-persist image check --offline --json {image}");
    let ran = host.run("/bin/sh", &["-c", &script]);
    let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    (ran.code, told["images"][0].clone())
}

fn copy(folder: &Path, to: &str, host: &Sandbox) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let to = format!("{to}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            copy(&entry.path(), &to, host);
        } else {
            host.write(&to, &std::fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn emulation_is_told_as_it_is_proven_here() {
    needs!(PROGRAM);
    let registry = Registry::plain().start();
    let content = &registry.content;
    content.image("foreign", "1", Flavour::Oci, ("linux", "arm64", "v8"));
    content.index("both", "1", Flavour::Oci, &[("linux", "amd64", ""), ("linux", "arm64", "v8")]);
    content.image("odd", "1", Flavour::Oci, ("linux", "s390x", ""));
    let [foreign, both, odd] = ["foreign:1", "both:1", "odd:1"].map(|name| registry.reference(name));
    let client = Client::new();
    assert_eq!(client.check(&[&foreign, &both, &odd]).0, 1);
    let host = sandbox!();
    copy(&client.path(".cache"), "/root/.cache", &host);

    let (code, row) = check(&host, &both);
    assert_eq!((code, row["platform"].as_str()), (0, Some("linux/amd64")), "{row:#}");
    let (code, row) = check(&host, &foreign);
    assert_eq!((code, row["emulation"]["state"].as_str()), (2, Some("none")), "{row:#}");
    assert!(row["advice"].as_str().unwrap().contains("sudo qemu-persist apply"), "{row:#}");
    let (_, row) = check(&host, &odd);
    assert!(row["advice"].as_str().unwrap().contains("sudo qemu-persist enable s390x"), "{row:#}");

    host.apply(&[], 0);
    let (code, row) = check(&host, &foreign);
    assert_eq!((code, row["emulation"]["state"].as_str()), (1, Some("unproven")), "{row:#}");
    assert_eq!(row["needs_platform"].as_bool(), Some(true));
    assert!(row["advice"].as_str().unwrap().contains("--platform linux/arm64"), "{row:#}");

    assert_eq!(host.qemu_persist(&["selftest", "--runtime", "builtin"]).code, 0);
    let (code, row) = check(&host, &foreign);
    assert_eq!((code, row["emulation"]["state"].as_str()), (1, Some("proven")), "{row:#}");
    let shown = host.sh(&format!("HOME=/root qemu-persist image check --offline {foreign} || [ $? = 1 ]"));
    assert!(shown.contains("linux/arm64: a container of linux/arm64 ran here"), "{shown}");
}
