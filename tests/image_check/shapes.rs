// SPDX-License-Identifier: MIT OR Apache-2.0
//! What images are: every shape of manifest, told as skopeo and docker tell it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::client::Client;
use crate::needs;
use crate::registries::{Content, Flavour, PROGRAM, Platform, Registry, SKOPEO, newer_docker, run_client};

const MANY: [Platform<'static>; 9] = [
    ("linux", "amd64", ""),
    ("linux", "386", ""),
    ("linux", "arm", "v5"),
    ("linux", "arm", "v6"),
    ("linux", "arm", "v7"),
    ("linux", "arm64", "v8"),
    ("linux", "riscv64", ""),
    ("linux", "s390x", ""),
    ("windows", "amd64", ""),
];
const MANY_NAMES: &str =
    "linux/amd64 linux/386 linux/arm/v5 linux/arm/v6 linux/arm/v7 linux/arm64 linux/riscv64 linux/s390x windows/amd64";

/// Images of every shape, the platforms that they have, and what a Raspberry Pi 4 makes of them.
fn fill(content: &Content) -> Vec<(&'static str, &'static str, &'static str)> {
    content.index("oci", "1", Flavour::Oci, &MANY);
    content.index("attested", "1", Flavour::Attested, &MANY);
    content.index("docker", "1", Flavour::Docker, &MANY);
    content.index("levels", "1", Flavour::Oci, &[("linux", "amd64", "v2"), ("linux", "amd64", "v3")]);
    content.index("v9", "1", Flavour::Oci, &[("linux", "arm64", "v9")]);
    content.index("windows", "1", Flavour::Docker, &[("windows", "amd64", "")]);
    content.index("empty", "1", Flavour::Oci, &[]);
    content.image("single/oci", "1", Flavour::Oci, ("linux", "arm", "v6"));
    content.image("single/docker", "1", Flavour::Docker, ("linux", "amd64", ""));
    content.nested("nested", "1", &MANY[..1], &MANY[4..6]);
    content.bare_index("bare", "1", &MANY[..2]);
    vec![
        ("oci:1", MANY_NAMES, "native linux/arm64"),
        ("attested:1", MANY_NAMES, "native linux/arm64"),
        ("docker:1", MANY_NAMES, "native linux/arm64"),
        ("levels:1", "linux/amd64/v2 linux/amd64/v3", "emulated linux/amd64/v2"),
        ("v9:1", "linux/arm64/v9", "cannot_run linux/arm64/v9"),
        ("windows:1", "windows/amd64", "cannot_run -"),
        ("empty:1", "", "cannot_run -"),
        ("single/oci:1", "linux/arm/v6", "native linux/arm/v6"),
        ("single/docker:1", "linux/amd64", "emulated linux/amd64"),
        ("nested:1", "linux/arm/v7 linux/arm64 linux/amd64", "native linux/arm64"),
        ("bare:1", "linux/amd64 linux/386", "emulated linux/amd64"),
    ]
}

fn words(value: &Value) -> String {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

fn json_of(program: impl AsRef<Path>, arguments: &[&str]) -> Value {
    let output = run_client(program, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The platforms that an index names, as the tool that showed it has them; attestations left away.
fn named(manifest: &Value) -> Option<BTreeSet<String>> {
    let part = |entry: &Value, key: &str| entry["platform"][key].as_str().unwrap_or_default().to_owned();
    let name = |entry: &Value| {
        let names = [part(entry, "os"), part(entry, "architecture"), part(entry, "variant")];
        let name = names.join("/").trim_end_matches('/').to_owned();
        if name == "linux/arm64/v8" { "linux/arm64".to_owned() } else { name }
    };
    let entries = manifest["manifests"].as_array()?.iter();
    Some(entries.map(name).filter(|name| name != "unknown/unknown" && !name.is_empty()).collect())
}

#[test]
fn every_shape_is_told_as_skopeo_and_docker_tell_it() {
    needs!(PROGRAM, SKOPEO);
    let Some(docker) = newer_docker() else {
        return eprintln!("skipped: tests/docker.sh has not fetched a newer docker");
    };
    let registry = Registry::plain().start();
    let rows = fill(&registry.content);
    let client = Client::new();
    for (name, platforms, outcome) in rows {
        let reference = registry.reference(name);
        let row = client.check_one(&[&reference]);
        assert_eq!(words(&row["platforms"]), platforms, "{name}: {row:#}");
        let told = format!("{} {}", row["verdict"].as_str().unwrap(), row["platform"].as_str().unwrap_or("-"));
        assert_eq!(told, outcome, "{name}: {row:#}");

        let address = format!("docker://{reference}");
        let raw = json_of(SKOPEO, &["inspect", "--raw", "--tls-verify=false", &address]);
        let ours: BTreeSet<String> = platforms.split_whitespace().map(str::to_owned).collect();
        match named(&raw) {
            // Neither an index in an index nor an entry without a platform is told by others; ours are more then.
            Some(theirs) if ["nested:1", "bare:1"].contains(&name) => {
                assert!(theirs.is_subset(&ours), "{name}: {theirs:?}");
            }
            Some(theirs) => assert_eq!(theirs, ours, "{name}"),
            None => {
                let config = json_of(SKOPEO, &["inspect", "--config", "--raw", "--tls-verify=false", &address]);
                let name = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
                let whole = [name("os"), name("architecture"), name("variant")].join("/");
                assert_eq!(BTreeSet::from([whole.trim_end_matches('/').to_owned()]), ours);
            }
        }
        // Docker's client knows no index in an index, no entry without a platform, and no empty index.
        if !["nested:1", "bare:1", "empty:1"].contains(&name) {
            let shown = json_of(&docker, &["manifest", "inspect", "--insecure", &reference]);
            assert_eq!(named(&shown), named(&raw), "{name}");
        }
        let digest = row["digest"].as_str().unwrap();
        let (repository, _) = reference.rsplit_once(':').unwrap();
        let by_digest = client.check_one(&[&format!("{repository}@{digest}")]);
        assert_eq!(by_digest["platforms"], row["platforms"], "{name}");
    }
}

#[test]
fn what_is_no_image_is_told_apart_and_the_others_are_answered() {
    needs!(PROGRAM);
    let registry = Registry::plain().start();
    let content = &registry.content;
    content.index("good", "1", Flavour::Oci, &MANY);
    content.chart("chart", "1");
    content.artifact("artifact", "1");
    content.schema1("old", "1", "amd64");
    content.manifest(
        "broken",
        Some("1"),
        b"{\"schemaVersion\": 2, \"mediaType\": \"application/vnd.oci.image.index.v1+json\"",
    );
    let client = Client::new();
    let names = ["chart:1", "artifact:1", "old:1", "good:2", "absent:1", "good:1"].map(|name| registry.reference(name));
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("Not A Name");
    let (code, told) = client.check(&all);
    let errors: Vec<&str> =
        told["images"].as_array().unwrap().iter().map(|row| row["error"].as_str().unwrap_or("-")).collect();
    assert_eq!(
        errors,
        ["no-image", "no-image", "image-too-old", "image-not-found", "image-not-found", "-", "no-reference"],
        "{told:#}"
    );
    assert_eq!(code, 3, "{told:#}");
    let chart = told["images"][0]["because"].as_str().unwrap();
    assert!(chart.contains("application/vnd.cncf.helm.config.v1+json"), "{chart}");
}

#[test]
fn exit_codes_are_those_of_the_worst() {
    needs!(PROGRAM);
    let registry = Registry::plain().start();
    let content = &registry.content;
    content.index("native", "1", Flavour::Oci, &MANY);
    content.image("emulated", "1", Flavour::Oci, ("linux", "amd64", ""));
    content.image("cannot", "1", Flavour::Oci, ("windows", "amd64", ""));
    let client = Client::new();
    for (names, expected) in [
        (&["native"][..], 0),
        (&["native", "emulated"], 1),
        (&["native", "emulated", "cannot", "absent"], 2),
        (&["native", "absent"], 3),
        (&["emulated", "absent"], 1),
    ] {
        let names: Vec<String> = names.iter().map(|name| registry.reference(&format!("{name}:1"))).collect();
        let (code, told) = client.check(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((code, told["exit_code"].as_i64()), (expected, Some(expected.into())), "{names:?}");
    }
}

#[test]
fn names_are_read_from_a_file_and_from_standard_input() {
    needs!(PROGRAM);
    let registry = Registry::plain().start();
    registry.content.index("a", "1", Flavour::Oci, &MANY);
    let reference = registry.reference("a:1");
    let client = Client::new();
    client.write("list", &format!("# mine\n{reference}\n\n{reference} # again\n"));
    let pods = serde_json::json!({ "items": [{ "spec": { "containers": [{ "image": reference }] } }] });
    client.write("pods.json", &pods.to_string());
    for file in ["list", "pods.json"] {
        let (code, told) = client.check(&["--from", client.path(file).to_str().unwrap()]);
        assert_eq!((code, told["images"].as_array().unwrap().len()), (0, 1), "{told:#}");
        let mut piped = client.command(&["image", "check", "--for", "pi4", "--from", "-"]);
        let output = piped.stdin(std::fs::File::open(client.path(file)).unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let nothing = client.run(&["image", "check", "--from", client.path("absent").to_str().unwrap()]);
    assert!(nothing.code == 64 && nothing.err.contains("No such file"), "{nothing:?}");
}

#[test]
fn native_images_are_found_in_place_of_others() {
    needs!(PROGRAM);
    let registry = Registry::plain().start();
    let content = &registry.content;
    let amd64 = ("linux", "amd64", "");
    for (tag, platforms) in
        [("1.9", &MANY[..]), ("1.10", &[amd64]), ("1.11", &MANY[..]), ("latest", &[amd64]), ("1.8", &MANY[..])]
    {
        content.index("hub/owner/app", tag, Flavour::Oci, platforms);
    }
    content.index("hub/library/other", "1", Flavour::Oci, &[amd64]);
    content.index("hub/library/other", "latest", Flavour::Oci, &MANY);
    content.index("lscr/linuxserver/app", "latest", Flavour::Attested, &MANY);
    content.index("private/app", "1", Flavour::Oci, &[amd64]);
    let client = Client::new();
    let address = registry.address();
    client.lead(&[("docker.io", &format!("{address}/hub")), ("lscr.io", &format!("{address}/lscr"))]);
    let found = |arguments: &[&str]| {
        let row = client.check_one(arguments);
        let one = |it: &Value| format!("{} {}", it["image"].as_str().unwrap(), it["sureness"].as_str().unwrap());
        row["alternatives"].as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(found(&["owner/app:1.10"]), ["lscr.io/linuxserver/app:latest same_name"]);
    let tags =
        ["owner/app:1.11 same_repository", "owner/app:1.9 same_repository", "lscr.io/linuxserver/app:latest same_name"];
    assert_eq!(found(&["owner/app:1.10", "--tags=3"]), tags);
    assert_eq!(found(&["other:1"]), ["other:latest same_repository"]);
    assert!(found(&["other"]).is_empty());
    // Nobody else is told what a private registry has.
    let before = registry.log().matches("lscr").count();
    assert!(found(&[&format!("{address}/private/app:1")]).is_empty());
    assert_eq!(registry.log().matches("lscr").count(), before);
}
