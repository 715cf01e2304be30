// SPDX-License-Identifier: MIT OR Apache-2.0
//! How registries are asked: in whose name, by which way, how often.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::client::Client;
use crate::needs;
use crate::registries::{Certificates, Content, Flavour, Hostile, PROGRAM, Platform, Registry, Tokens};

const BOTH: [Platform<'static>; 2] = [("linux", "amd64", ""), ("linux", "arm64", "v8")];
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn content() -> Content {
    let content = Content::new();
    content.index("app", "1", Flavour::Oci, &BOTH);
    content.index("secret", "1", Flavour::Oci, &BOTH);
    content
}

fn said(row: &Value) -> &str {
    row["error"].as_str().unwrap_or_else(|| row["verdict"].as_str().unwrap())
}

/// An index of one native platform.
fn index() -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    let entry = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
        "platform": { "os": "linux", "architecture": "arm64" } });
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string()
}

#[test]
fn a_registry_with_tls_is_trusted_by_its_authority_alone() {
    needs!(PROGRAM);
    let registry = Registry::tls().serving(&content()).start();
    let reference = registry.reference("app:1");
    let client = Client::new();
    let row = client.check_one(&[&reference]);
    assert_eq!(said(&row), "registry-untrusted", "{row:#}");
    assert!(row["advice"].as_str().unwrap().contains("certs.d"), "{row:#}");
    client.trust(registry.address(), &registry.authority());
    assert_eq!(said(&client.check_one(&[&reference])), "native");
    for certificates in [Certificates::of_another_host(), Certificates::expired()] {
        let registry = Registry::tls_with(certificates).serving(&content()).start();
        client.trust(registry.address(), &registry.authority());
        assert_eq!(said(&client.check_one(&[&registry.reference("app:1")])), "registry-untrusted");
    }
}

#[test]
fn a_password_is_given_and_never_shown() {
    needs!(PROGRAM);
    let registry = Registry::tls().serving(&content()).basic("somebody", "pass-word-1").start();
    let reference = registry.reference("app:1");
    let client = Client::new();
    client.trust(registry.address(), &registry.authority());
    let row = client.check_one(&[&reference]);
    assert_eq!(said(&row), "image-denied");
    assert!(row["advice"].as_str().unwrap().contains(&format!("docker login {}", registry.address())), "{row:#}");
    client.log_in(registry.address(), "somebody", "wrong-word-2");
    let wrong = client.check_one(&[&reference]);
    assert_eq!(said(&wrong), "image-denied");
    assert!(wrong["because"].as_str().unwrap().contains("the account that is logged in"), "{wrong:#}");
    client.log_in(registry.address(), "somebody", "pass-word-1");
    let ran = client.run(&["image", "check", "--for", "pi4", "-v", &reference]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(![&ran.out, &ran.err].iter().any(|text| text.contains("word-1")), "{ran:?}");
    assert!(!wrong.to_string().contains("wrong-word"), "{wrong:#}");
}

#[test]
fn podman_s_file_counts_and_so_does_a_part_of_a_registry() {
    needs!(PROGRAM);
    let registry = Registry::plain().serving(&content()).basic("somebody", "pass-word-1").start();
    let client = Client::new();
    client.log_in(registry.address(), "somebody", "pass-word-1");
    let text = std::fs::read_to_string(client.path(".docker/config.json")).unwrap();
    std::fs::remove_file(client.path(".docker/config.json")).unwrap();
    client.write(".config/containers/auth.json", &text.replace(registry.address(), &registry.reference("app")));
    assert_eq!(said(&client.check_one(&[&registry.reference("app:1")])), "native");
    assert_eq!(said(&client.check_one(&[&registry.reference("secret:1")])), "image-denied");
}

#[test]
fn helpers_are_asked_for_what_they_keep() {
    needs!(PROGRAM);
    let registry = Registry::plain().serving(&content()).basic("somebody", "pass-word-1").start();
    let reference = registry.reference("app:1");
    let client = Client::new();
    client.write(".docker/config.json", &json!({ "credHelpers": { registry.address(): "test" } }).to_string());
    assert_eq!(said(&client.check_one(&[&reference])), "login-unusable");
    client.helper(
        r#"read -r host; echo "$1 $host" >> "$HOME/asked"; echo '{"Username": "somebody", "Secret": "pass-word-1"}'"#,
    );
    assert_eq!(said(&client.check_one(&[&reference])), "native");
    let asked = format!("get {}\n", registry.address());
    assert_eq!(std::fs::read_to_string(client.path("asked")).unwrap(), asked);
    // Many images of one registry are one question.
    let names = ["app:1", "secret:1", "absent:1"].map(|name| registry.reference(name));
    client.check(&names.each_ref().map(String::as_str));
    assert_eq!(std::fs::read_to_string(client.path("asked")).unwrap(), asked.repeat(2));
    client.write(".docker/config.json", &json!({ "credsStore": "test" }).to_string());
    assert_eq!(said(&client.check_one(&[&reference])), "native");
    client.helper("echo credentials not found in native keychain; exit 1");
    assert_eq!(said(&client.check_one(&[&reference])), "image-denied");
    client.helper("echo pass-word-1; echo pass-word-1 >&2; exit 1");
    let row = client.check_one(&[&reference]);
    assert!(said(&row) == "login-unusable" && !row.to_string().contains("word-1"), "{row:#}");
}

#[test]
fn a_registry_asks_once_for_a_login_and_not_for_every_image() {
    let registry = Hostile::new(|request, reply| match request.basic() {
        None => reply.challenge(&["Basic realm=\"here\""]),
        Some(_) => reply.manifest(INDEX, index().as_bytes()),
    });
    let client = Client::new();
    client.log_in(&registry.address(), "somebody", "pass-word-1");
    let names: Vec<String> = (0..60).map(|number| format!("{}/app{number}:1", registry.address())).collect();
    let (code, told) = client.check(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{told:#}");
    // Those that are asked for before the first answer are asked without a login, too.
    let without = registry.requests().iter().filter(|request| request.basic().is_none()).count();
    assert!((1..=16).contains(&without), "{without}");
}

#[test]
fn tokens_are_fetched_from_the_server_that_the_registry_names() {
    needs!(PROGRAM);
    for tokens in [Tokens::anonymous(), Tokens::anonymous().in_access_token()] {
        let registry = Registry::plain().serving(&content()).token(tokens).start();
        let client = Client::new();
        assert_eq!(said(&client.check_one(&[&registry.reference("app:1")])), "native");
        let asked = registry.tokens().requests();
        assert_eq!(asked[0].parameters("scope"), ["repository:app:pull"]);
        assert!(asked.iter().all(|request| request.header("authorization").is_none()));
    }
    let registry =
        Registry::plain().serving(&content()).token(Tokens::of("somebody", "pass-word-1").hiding("secret")).start();
    let client = Client::new();
    assert_eq!(said(&client.check_one(&[&registry.reference("app:1")])), "native");
    assert_eq!(said(&client.check_one(&[&registry.reference("secret:1")])), "image-denied");
    client.log_in(registry.address(), "somebody", "pass-word-1");
    assert_eq!(said(&client.check_one(&[&registry.reference("secret:1")])), "native");
    let registry = Registry::plain().serving(&content()).token(Tokens::anonymous().expired()).start();
    assert_eq!(said(&Client::new().check_one(&[&registry.reference("app:1")])), "image-denied");
}

#[test]
fn a_login_goes_to_no_other_host() {
    let elsewhere = Hostile::at(Ipv4Addr::new(127, 0, 0, 2), |request, reply| match request.path() {
        "/token" => reply.token("x"),
        _ => reply.challenge(&["Basic realm=\"here\""]),
    });
    let realm = format!("{}/token", elsewhere.url());
    let target = format!("{}/taken", elsewhere.url());
    let registry = Hostile::new(move |request, reply| {
        if request.path().contains("/by-token/") {
            return match request.header("authorization") {
                Some("Bearer x") => reply.manifest(INDEX, index().as_bytes()),
                _ => reply.challenge(&[&format!("Bearer realm=\"{realm}\",service=\"s\"")]),
            };
        }
        match request.header("authorization") {
            None => reply.challenge(&["Basic realm=\"here\""]),
            Some(_) => reply.redirect(307, &target),
        }
    });
    let client = Client::new();
    client.log_in(&registry.address(), "somebody", "pass-word-1");
    assert_eq!(said(&client.check_one(&[&format!("{}/app:1", registry.address())])), "image-denied");
    assert_eq!(said(&client.check_one(&[&format!("{}/by-token/app:1", registry.address())])), "native");
    assert!(registry.requests().iter().any(|request| request.basic().is_some()));
    assert!(elsewhere.requests().len() >= 2);
    assert!(elsewhere.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn what_is_known_is_asked_for_by_its_headers_alone_and_told_offline() {
    needs!(PROGRAM);
    let registry = Registry::plain().serving(&content()).start();
    let content = registry.content.clone();
    let reference = registry.reference("app:1");
    let client = Client::new();
    let offline = client.check_one(&["--offline", &reference]);
    assert_eq!(said(&offline), "not-kept");
    let first = client.check_one(&[&reference]);
    assert_eq!((first["source"]["pulls"].as_u64(), first["source"]["requests"].as_u64()), (Some(1), Some(2)));
    let gets = || registry.log().matches("\"GET ").count();
    let before = gets();
    let again = client.check_one(&[&reference]);
    assert_eq!((again["source"]["pulls"].as_u64(), again["source"]["requests"].as_u64()), (Some(0), Some(1)));
    assert_eq!((gets(), &again["platforms"]), (before, &first["platforms"]));
    // The tag moves, and so does the answer.
    content.index("app", "1", Flavour::Oci, &BOTH[..1]);
    let moved = client.check_one(&[&reference]);
    assert_eq!((said(&moved), moved["source"]["pulls"].as_u64()), ("emulated", Some(1)));
    drop(registry);
    assert_eq!(said(&client.check_one(&[&reference])), "registry-unreachable");
    let offline = client.check_one(&["--offline", &reference]);
    assert_eq!((said(&offline), &offline["platforms"]), ("emulated", &moved["platforms"]));
    assert!(offline["source"]["seconds_ago"].is_u64(), "{offline:#}");
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_it_fails() {
    needs!(PROGRAM);
    let registry = Registry::plain().serving(&content()).start();
    let mirror = Hostile::new(|request, reply| {
        if request.path().contains("/app/") {
            reply.manifest(INDEX, index().as_bytes())
        } else {
            reply.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        }
    });
    let client = Client::new();
    let conf = format!(
        "[[registry]]\nprefix = \"reg.example\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        registry.address(),
        mirror.address()
    );
    client.write(".config/containers/registries.conf", &conf);
    let row = client.check_one(&["reg.example/app:1"]);
    assert_eq!((said(&row), row["source"]["mirror"].as_bool()), ("native", Some(true)));
    assert_eq!(row["source"]["host"].as_str(), Some(mirror.address().as_str()));
    let row = client.check_one(&["reg.example/secret:1"]);
    assert_eq!((said(&row), row["source"]["host"].as_str()), ("native", Some(registry.address())));
    drop(mirror);
    assert_eq!(said(&client.check_one(&["reg.example/app:1"])), "native");
}

#[test]
fn a_registry_that_asks_to_wait_is_asked_again_then() {
    let registry = Hostile::new(|request, reply| match (request.path().contains("/never/"), request.earlier) {
        (true, _) => reply.too_many(Some("3600")),
        (false, 0) => reply.too_many(Some("1")),
        (false, _) => reply.limited(INDEX, index().as_bytes(), 76),
    });
    let client = Client::new();
    let (code, told) = client.check(&[&format!("{}/app:1", registry.address())]);
    assert_eq!(code, 0, "{told:#}");
    let quota = &told["quotas"][registry.address()];
    assert_eq!(quota, &json!({ "limit": 100, "remaining": 76, "window": 21600 }));
    let row = client.check_one(&[&format!("{}/never/app:1", registry.address())]);
    assert_eq!(said(&row), "rate-limited", "{row:#}");
    assert!(
        row["advice"].as_str().unwrap().contains("after 1 hour")
            || row["advice"].as_str().unwrap().contains("60 minutes"),
        "{row:#}"
    );
    let shown = client.run(&["image", "check", "--for", "pi4", "-v", &format!("{}/app:1", registry.address())]);
    assert!(shown.out.contains("76 more pulls of 100 in 6 hours"), "{shown:?}");
}

#[test]
fn proxies_of_the_environment_are_used_and_not_for_this_machine() {
    let proxy = Hostile::new(|_, reply| reply.error(403, "DENIED", "no"));
    let client = Client::new();
    let mut command = client.command(&["image", "check", "--json", "--for", "pi4", "reg.example/app:1"]);
    command.env("HTTPS_PROXY", proxy.url()).output().unwrap();
    assert!(proxy.lines().iter().any(|line| line.starts_with("CONNECT reg.example:443")), "{:?}", proxy.lines());
    let asked = proxy.requests().len();
    let mut command = client.command(&["image", "check", "--json", "--for", "pi4", "127.0.0.1:1/app:1"]);
    command.env("HTTPS_PROXY", proxy.url()).env("HTTP_PROXY", proxy.url()).output().unwrap();
    assert_eq!(proxy.requests().len(), asked);
}
