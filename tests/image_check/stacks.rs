// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole Compose projects: what `compose check` and `compose fix` make of the stacks of tests/compose.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::client::{Client, Ran};
use crate::needs;
use crate::registries::{Flavour, PROGRAM, Platform, Registry};

const AMD64: Platform<'static> = ("linux", "amd64", "");
const ARM64: Platform<'static> = ("linux", "arm64", "v8");
const V6: Platform<'static> = ("linux", "arm", "v6");
const V7: Platform<'static> = ("linux", "arm", "v7");
const BOTH: &[Platform<'static>] = &[AMD64, ARM64];
const ALL: &[Platform<'static>] = &[AMD64, V6, V7, ARM64];
const ONLY: &[Platform<'static>] = &[AMD64];

/// The images of the stacks, by registry, and the platforms that they have here: as the real ones, or so that there is
/// something to see.
const IMAGES: &[(&str, &str, &[Platform<'static>])] = &[
    ("docker.io/vaultwarden/server", "1.33.2", ALL),
    ("docker.io/library/caddy", "2", ALL),
    ("docker.io/offen/docker-volume-backup", "v2", ALL),
    ("docker.io/pihole/pihole", "2024.07.0", ALL),
    ("docker.io/pihole/pihole", "2025.03.0", ALL),
    ("docker.io/mvance/unbound", "1.21.1", ONLY),
    ("docker.io/library/some-x86-only-app", "1.0.0", ONLY),
    ("docker.io/library/golang", "1.23-alpine", ALL),
    ("docker.io/library/alpine", "3.21", ALL),
    ("docker.io/library/redis", "7", ALL),
    ("docker.io/library/redis", "alpine", ALL),
    ("docker.io/library/postgres", "16", BOTH),
    ("docker.io/library/mariadb", "11.4", ONLY),
    ("docker.io/library/nextcloud", "31-apache", BOTH),
    ("docker.io/mlocati/php-extension-installer", "2", ALL),
    ("docker.io/gotenberg/gotenberg", "8.7", BOTH),
    ("docker.io/apache/tika", "latest", ONLY),
    ("docker.io/tensorchord/pgvecto-rs", "pg14-v0.2.0", BOTH),
    ("docker.io/grafana/grafana", "11.5.2", ALL),
    ("docker.io/library/debian", "bookworm-slim", ALL),
    ("docker.io/library/redis", "6.2-alpine", ALL),
    ("docker.io/prom/node-exporter", "v1.9.0", ALL),
    ("docker.io/prom/prometheus", "v3.2.1", ALL),
    ("docker.io/grafana/loki", "3.4.2", BOTH),
    ("docker.io/grafana/promtail", "3.4", BOTH),
    ("ghcr.io/immich-app/immich-server", "v1.131.3", BOTH),
    ("ghcr.io/immich-app/immich-machine-learning", "v1.131.3", ONLY),
    ("ghcr.io/paperless-ngx/paperless-ngx", "2.14", BOTH),
    ("lscr.io/linuxserver/mariadb", "latest", BOTH),
];

/// A registry with all of them, to which `client` is led.
fn fill(client: &Client) -> Registry {
    let registry = Registry::plain().start();
    for (name, tag, platforms) in IMAGES {
        registry.content.index(name, tag, Flavour::Attested, platforms);
    }
    let places = ["docker.io", "ghcr.io", "lscr.io"].map(|name| (name, registry.reference(name)));
    client.lead(&places.each_ref().map(|(name, place)| (*name, place.as_str())));
    registry
}

fn stacks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose/stacks")
}

#[test]
fn every_stack_has_the_table_that_is_expected() {
    needs!(PROGRAM);
    let client = Client::new();
    let _registry = fill(&client);
    let mut wrong = String::new();
    let mut count = 0;
    for entry in std::fs::read_dir(stacks()).unwrap() {
        let folder = entry.unwrap().path();
        let ran = client.run_in(&folder, &["compose", "check", "--for", "pi5"]);
        let shown = format!("{}exit code {}\n{}", ran.out, ran.code, ran.err).replace(folder.to_str().unwrap(), ".");
        let expected = std::fs::read_to_string(folder.join("expected.txt")).unwrap_or_default();
        if shown != expected {
            wrong.extend(["== ", folder.to_str().unwrap(), "\n", &shown]);
        }
        count += 1;
    }
    assert!(wrong.is_empty() && count >= 9, "{count} stacks\n{wrong}");
}

#[test]
fn what_fix_prints_mends_the_project() {
    needs!(PROGRAM);
    let client = Client::new();
    let _registry = fill(&client);
    let folder = client.path("project");
    let file = "services:\n  slow:\n    image: vaultwarden/server:1.33.2\n    platform: linux/amd64\n  \
                \"on\":\n    image: some-x86-only-app:1.0.0\n  wrong:\n    image: caddy:2\n    platform: linux/s390x\n  \
                good:\n    image: redis:7\n";
    client.write("project/compose.yaml", file);
    let before = client.run_in(&folder, &["compose", "check", "--json", "--for", "pi4"]);
    let verdicts = |ran: &Ran| {
        let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        let images = told["images"].as_array().unwrap().iter();
        images
            .map(|it| format!("{} {}", it["service"].as_str().unwrap(), it["verdict"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(verdicts(&before), ["good native", "on cannot_run", "slow emulated", "wrong cannot_run"]);
    let fixed = client.run_in(&folder, &["compose", "fix", "--for", "pi4"]);
    assert_eq!(fixed.code, 0, "{fixed:?}");
    client.write("project/compose.override.yaml", &fixed.out);
    let after = client.run_in(&folder, &["compose", "check", "--json", "--for", "pi4"]);
    assert_eq!(
        (after.code, verdicts(&after)),
        (1, ["good native", "on emulated", "slow native", "wrong native"].map(String::from).into())
    );
    let again = client.run_in(&folder, &["compose", "fix", "--for", "pi4"]);
    assert!(again.code == 0 && again.out.starts_with("# No service"), "{again:?}");
}

#[test]
fn what_is_wrong_with_a_project_is_told_with_its_place() {
    let client = Client::new();
    let folder = client.path("project");
    for (file, said) in [
        ("services:\n  a:\n    image: [x]\n", "compose.yaml:3"),
        ("services:\n  a:\n  - image: x\n", "compose.yaml:2"),
        ("services:\n  a: {image: \"x\n", "compose.yaml:"),
        ("services:\n  a:\n    image: x:${TAG:?which one}\n", "TAG"),
    ] {
        client.write("project/compose.yaml", file);
        let ran = client.run_in(&folder, &["compose", "check", "--for", "pi4"]);
        assert!(ran.code == 3 && ran.err.contains(said) && ran.out.is_empty(), "{file}: {ran:?}");
    }
    std::fs::remove_file(client.path("project/compose.yaml")).unwrap();
    let ran = client.run_in(&folder, &["compose", "check", "--for", "pi4", "other.yaml"]);
    assert!(ran.code == 3 && ran.err.contains("other.yaml: No such file"), "{ran:?}");
    client.write("project/compose.yaml", "services: {a: {image: \"x:$TAG\"}}\n");
    let ran = client.run_in(&folder, &["compose", "check", "--offline", "--for", "pi4"]);
    let words: Vec<&str> = ran.out.split_whitespace().collect();
    assert!(ran.code == 3 && words.join(" ").contains("the variable TAG is not set"), "{ran:?}");
}

/// Where Docker Compose is installed, it reads the files.
#[test]
fn docker_compose_reads_where_it_is_installed() {
    needs!(PROGRAM);
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cache/compose");
    let folders = std::fs::read_dir(&cache).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let Some(program) = folders.map(|folder| folder.join("docker-compose")).find(|program| program.is_file()) else {
        return eprintln!("skipped: tests/compose.sh has not fetched Docker Compose into {}", cache.display());
    };
    let client = Client::new();
    let _registry = fill(&client);
    std::fs::create_dir_all(client.path("bin")).unwrap();
    std::os::unix::fs::symlink(program, client.path("bin/docker-compose")).unwrap();
    let folder = stacks().join("nextcloud");
    let mut command: Command = client.command(&["compose", "check", "--json", "--for", "pi5"]);
    // No plugin of this machine's docker counts.
    let output = command.env("PATH", client.path("bin")).current_dir(&folder).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert!(told["read_by"].as_str().unwrap().starts_with("docker-compose 2."), "{told:#}");
    let own = client.run_in(&folder, &["compose", "check", "--json", "--for", "pi5"]);
    let own: Value = serde_json::from_str(&own.out).unwrap();
    assert_eq!(told["images"], own["images"]);
}
