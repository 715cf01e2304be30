// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole stacks, as people run them at home.

use std::path::{Path, PathBuf};

use super::{Bench, Question, both};

fn stack(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose/stacks").join(name)
}

#[test]
fn every_stack_is_read_as_docker_compose_reads_it() {
    let Some(bench) = Bench::new() else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(stack("")).unwrap() {
        let folder = entry.unwrap().path();
        let project = both(&Question::default(), &bench.surroundings(&folder, &[]));
        let project = project.unwrap_or_else(|error| panic!("{}: {error:#?}", folder.display()));
        assert!(project.remarks.is_empty(), "{}: {:#?}", folder.display(), project.remarks);
        for service in &project.services {
            let place = service.places.service.as_ref().expect("every service has a place");
            let text = std::fs::read_to_string(&place.file).unwrap();
            let line = text.lines().nth(place.line - 1).unwrap();
            assert!(line.trim_start().starts_with(&format!("{}:", service.name)), "{place}: {line}");
        }
        count += 1;
    }
    assert!(count >= 9, "{count}");
}

#[test]
fn what_stacks_say_is_found() {
    let Some(bench) = Bench::new() else { return };
    let read = |name: &str| both(&Question::default(), &bench.surroundings(&stack(name), &[])).unwrap();
    let images = |name: &str| -> Vec<String> {
        let services = read(name).services;
        services.iter().map(|s| format!("{}={}", s.name, s.image.as_deref().unwrap_or("-"))).collect()
    };
    assert_eq!(images("article-vaultwarden"), ["vaultwarden=vaultwarden/server:1.33.2"]);
    assert_eq!(
        images("paperless-ngx"),
        [
            "broker=docker.io/library/redis:7",
            "db=docker.io/library/postgres:16",
            "gotenberg=docker.io/gotenberg/gotenberg:8.7",
            "tika=docker.io/apache/tika:latest",
            "webserver=ghcr.io/paperless-ngx/paperless-ngx:2.14",
        ]
    );
    let legacy = read("article-x86-only").services.remove(0);
    assert_eq!(legacy.platform.as_deref(), Some("linux/amd64"));
    assert_eq!(legacy.places.platform.unwrap().line, 4);
    let pihole = read("pihole");
    let unbound = &pihole.services[1];
    assert_eq!(unbound.image.as_deref(), Some("mvance/unbound:1.21.1"));
    assert!(unbound.is_meant_to_be_emulated() && !pihole.services[0].is_meant_to_be_emulated());
    let place = unbound.places.platform.as_ref().unwrap();
    assert!(place.file.ends_with("docker-compose.override.yml") && place.line == 4, "{place}");
    let nextcloud = read("nextcloud");
    let cron = nextcloud.services.iter().find(|service| service.name == "cron").unwrap();
    assert_eq!(cron.profiles, ["cron", "all"]);
    let bases = cron.build.as_ref().unwrap().bases.as_ref().unwrap();
    let found: Vec<_> = bases.iter().map(|base| (base.image.as_str(), base.line, base.is_final)).collect();
    assert_eq!(found, [("nextcloud:31-apache", 2, true), ("mlocati/php-extension-installer:2", 4, false)]);
    let cross = read("article-cross-build").services.remove(0).build.unwrap();
    let bases = cross.bases.unwrap();
    assert_eq!((cross.built_for.as_str(), bases.len()), ("linux/arm64", 2));
    assert_eq!((bases[0].platform.as_deref(), bases[0].is_final), (Some("linux/arm64"), false));
    assert_eq!((bases[1].platform.as_deref(), bases[1].is_final, bases[1].line), (None, true, 6));
}
