// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registries that mean ill, or are none: a clear error, in bounded memory and time.

use std::io::{self, BufRead as _};
use std::time::Duration;

use serde_json::json;

use crate::client::Client;
use crate::registries::{Hostile, Reply, Request, digest};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What the program may need at most in any of these, in KiB.
const MEMORY: u64 = 60 << 10;

type Answer = fn(&Request, &mut Reply<'_>) -> io::Result<()>;

fn as_index() -> Vec<u8> {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string().into_bytes()
}

/// What follows the answer to `HEAD` would be taken for the beginning of the next one.
fn one_byte_a_second(_: &Request, reply: &mut Reply<'_>) -> io::Result<()> {
    if reply.is_head() { reply.manifest(INDEX, &as_index()) } else { reply.drip(INDEX) }
}

/// What a registry does, and what is told of it.
const ROWS: &[(&str, Answer, &str)] = &[
    ("a gigabyte", |_, reply| reply.huge(INDEX, 1 << 30), "answer-too-long"),
    ("a gigabyte in chunks", |_, reply| reply.huge_in_chunks(INDEX, 1 << 30), "answer-too-long"),
    ("deep nesting", |_, reply| reply.nested(INDEX, 1 << 20), "manifest-broken"),
    ("one byte a second", one_byte_a_second, "registry-timeout"),
    ("a head by one byte a second", |_, reply| reply.drip_head(), "registry-timeout"),
    ("a head without end", |_, reply| reply.endless_head(), "no-registry"),
    ("a head and nothing more", |_, reply| reply.stall(INDEX), "registry-timeout"),
    ("nothing at all", |_, reply| reply.silence(), "registry-timeout"),
    ("a half", |_, reply| reply.half(INDEX, &as_index()), "registry-unreachable"),
    ("the end of the connection", |_, reply| reply.hang_up(), "registry-unreachable"),
    ("no HTTP", |_, reply| reply.garbage(), "no-registry"),
    ("compressed without end", |_, reply| reply.bomb(INDEX, 1 << 30), "answer-too-long"),
    ("a portal", |_, reply| reply.portal(), "no-registry"),
    ("another digest", |_, reply| reply.manifest_called(INDEX, &digest(b""), &as_index()), "wrong-digest"),
    ("an error", |_, reply| reply.error(500, "UNKNOWN", "oops"), "registry-failing"),
    ("a refusal", |_, reply| reply.error(403, "DENIED", "no"), "image-denied"),
    ("nothing known", |_, reply| reply.error(404, "MANIFEST_UNKNOWN", "no"), "image-not-found"),
    ("a redirect to itself", |request, reply| reply.redirect(307, &request.target), "no-registry"),
    ("a redirect to a file", |_, reply| reply.redirect(307, "file:///etc/passwd"), "no-registry"),
    ("a redirect to nowhere", |_, reply| reply.redirect(307, ""), "no-registry"),
    ("a redirect without TLS", |_, reply| reply.redirect(307, "http://192.0.2.1/v2/"), "no-registry"),
    ("a login of no kind", |_, reply| reply.challenge(&["Negotiate"]), "no-registry"),
    ("a login without a word", |_, reply| reply.challenge(&[]), "no-registry"),
    ("tokens in a file", |_, reply| reply.challenge(&["Bearer realm=\"file:///etc/passwd\""]), "no-registry"),
    ("tokens without TLS", |_, reply| reply.challenge(&["Bearer realm=\"http://192.0.2.1/token\""]), "no-registry"),
    ("tokens from nowhere", |_, reply| reply.challenge(&["Bearer service=\"x\""]), "no-registry"),
];

#[test]
fn each_is_told_in_bounded_memory_and_time() {
    let client = Client::new();
    std::thread::scope(|scope| {
        let checks = ROWS.iter().map(|(what, answer, expected)| {
            let client = &client;
            scope.spawn(move || {
                let registry = Hostile::new(answer);
                let name = format!("{}/app:1", registry.address());
                let (row, memory) = client.check_bounded(&name, Duration::from_secs(60));
                assert_eq!(row["error"], *expected, "{what}: {row:#}");
                assert!(memory < MEMORY, "{what}: {memory} KiB");
            })
        });
        let checks: Vec<_> = checks.collect();
        for check in checks {
            check.join().unwrap();
        }
    });
}

#[test]
fn a_token_server_may_be_hostile_too() {
    for (answer, expected) in [
        ((|_, reply| reply.huge("application/json", 1 << 30)) as Answer, "answer-too-long"),
        (|_, reply| reply.token("a\u{7f}b"), "no-registry"),
        (|_, reply| reply.token(""), "no-registry"),
        (|_, reply| reply.portal(), "no-registry"),
        (|_, reply| reply.error(401, "UNAUTHORIZED", "no"), "image-denied"),
        (|_, reply| reply.silence(), "registry-timeout"),
    ] {
        let tokens = Hostile::new(answer);
        let realm = format!("{}/token", tokens.url());
        let registry = Hostile::new(move |_, reply| reply.challenge(&[&format!("Bearer realm=\"{realm}\"")]));
        let name = format!("{}/app:1", registry.address());
        let (row, memory) = Client::new().check_bounded(&name, Duration::from_secs(60));
        assert_eq!(row["error"], expected, "{row:#}");
        assert!(memory < MEMORY, "{memory} KiB");
    }
}

#[test]
fn content_that_has_another_digest_than_was_asked_for_is_refused() {
    let registry = Hostile::new(|_, reply| reply.manifest(INDEX, &as_index()));
    let asked = format!("{}/app@{}", registry.address(), digest(b"other"));
    assert_eq!(Client::new().check_one(&[&asked])["error"], "wrong-digest");
}

#[test]
fn tags_without_end_come_to_an_end() {
    let registry = Hostile::new(|request, reply| {
        if request.path().ends_with("/tags/list") {
            reply.endless_tags("app", request.query().len())
        } else {
            reply.manifest(INDEX, &as_index())
        }
    });
    let client = Client::new();
    client.lead(&[("docker.io", &registry.address())]);
    let (code, told) = client.check(&["--tags=5", "owner/app:1"]);
    assert_eq!((code, &told["images"][0]["verdict"]), (2, &json!("cannot_run")), "{told:#}");
    let pages = registry.lines().iter().filter(|line| line.contains("/tags/list")).count();
    assert!((2..=20).contains(&pages), "{pages}");
}

#[test]
fn what_a_registry_says_cannot_move_the_cursor() {
    let registry = Hostile::new(|_, reply| {
        let config = json!({ "mediaType": "application/\u{1b}[2Jx", "digest": "x", "size": 1 });
        let manifest = json!({ "schemaVersion": 2, "config": config }).to_string();
        reply.manifest("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes())
    });
    let ran = Client::new().run(&["image", "check", "--for", "pi4", &format!("{}/app:1", registry.address())]);
    assert!(ran.code == 3 && !ran.out.contains('\u{1b}'), "{ran:?}");
}

#[test]
fn ctrl_c_ends_it_and_leaves_nothing_behind() {
    let registry = Hostile::new(|_, reply| reply.challenge(&["Basic realm=\"x\""]));
    let client = Client::new();
    let script = "#!/bin/sh\necho $$ > \"$HOME/helper\"\nexec sleep 1000\n";
    client.write("bin/docker-credential-slow", script);
    let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(client.path("bin/docker-credential-slow"), mode).unwrap();
    client.write(".docker/config.json", &json!({ "credsStore": "slow" }).to_string());
    let name = format!("{}/app:1", registry.address());
    let mut child = client.command(&["image", "check", &name]).spawn().unwrap();
    let helper = loop {
        let text = std::fs::read_to_string(client.path("helper")).unwrap_or_default();
        if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse::<i32>().ok()) {
            break pid;
        }
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    };
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let gone = || match std::fs::File::open(format!("/proc/{helper}/status")) {
        Err(_) => true,
        Ok(status) => {
            io::BufReader::new(status).lines().map_while(Result::ok).any(|line| line.starts_with("State:\tZ"))
        }
    };
    while !gone() {
        std::thread::sleep(Duration::from_millis(20));
    }
}
