// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this host keeps for its registries: certificates, identity tokens, and what Docker's daemon is told.

use serde_json::json;

use crate::client::Client;
use crate::needs;
use crate::registries::{Content, Flavour, PROGRAM, Platform, Registry, SERVICE, Tokens};

const NATIVE: [Platform<'static>; 1] = [("linux", "arm64", "v8")];

fn content() -> Content {
    let content = Content::new();
    content.index("app", "1", Flavour::Oci, &NATIVE);
    content.index("library/app", "1", Flavour::Oci, &NATIVE);
    content
}

fn said(row: &serde_json::Value) -> &str {
    row["error"].as_str().unwrap_or_else(|| row["verdict"].as_str().unwrap())
}

/// docs.docker.com, "Verify repository client with certificates": NAME.cert with NAME.key, beside ca.crt.
#[test]
fn a_client_certificate_is_shown_to_its_registry() {
    needs!(PROGRAM);
    let registry = Registry::tls().serving(&content()).with_client().start();
    let reference = registry.reference("app:1");
    let client = Client::new();
    client.trust(registry.address(), &registry.authority());
    let without = client.check_one(&[&reference]);
    assert_eq!(said(&without), "registry-unreachable", "{without:#}");
    assert!(without["because"].as_str().unwrap().contains("certificate"), "{without:#}");
    let [certificate, key] = registry.client().map(|file| std::fs::read_to_string(file).unwrap());
    let folder = format!(".config/containers/certs.d/{}", registry.address());
    client.write(&format!("{folder}/this.cert"), &certificate);
    let row = client.check_one(&[&reference]);
    let told = row["because"].as_str().unwrap();
    assert!(said(&row) != "native" && told.contains("this.key") && told.contains("there is no key"), "{row:#}");
    client.write(&format!("{folder}/this.key"), &key);
    assert_eq!(said(&client.check_one(&[&reference])), "native", "{}", registry.log());
}

/// What `docker login` keeps where the registry gives a token instead of taking a password each time.
#[test]
fn an_identity_token_is_exchanged_for_one_of_the_repository() {
    needs!(PROGRAM);
    let registry = Registry::plain().serving(&content()).token(Tokens::of_identity("pass-word-1")).start();
    let reference = registry.reference("app:1");
    let client = Client::new();
    assert_eq!(said(&client.check_one(&[&reference])), "image-denied");
    let asked_before = registry.tokens().requests().len();
    let keep = |token: &str| {
        let login = json!({ "auth": "PHRva2VuPjo=", "identitytoken": token });
        client.write(".docker/config.json", &json!({ "auths": { registry.address(): login } }).to_string());
    };
    keep("pass-word-1");
    let ran = client.run(&["image", "check", "--for", "pi4", "-v", &reference]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(![&ran.out, &ran.err].iter().any(|text| text.contains("word-1")), "{ran:?}");
    let asked = registry.tokens().requests();
    assert_eq!(asked.len(), asked_before + 1);
    let form = |name: &str| asked.last().unwrap().form(name).join(" ");
    assert_eq!((form("scope"), form("service")), ("repository:app:pull".to_owned(), SERVICE.to_owned()));
    assert_eq!(asked.last().unwrap().line(), "POST /token");
    keep("wrong-word-2");
    let row = client.check_one(&[&reference]);
    assert!(said(&row) == "image-denied" && !row.to_string().contains("word-2"), "{row:#}");
    // Helpers give it with the user `<token>`.
    client.write(".docker/config.json", &json!({ "credsStore": "test" }).to_string());
    client.helper(r#"echo '{"Username": "<token>", "Secret": "pass-word-1"}'"#);
    assert_eq!(said(&client.check_one(&[&reference])), "native");
}

/// dockerd(8): `registry-mirrors` are for Docker Hub, `insecure-registries` need not be trusted.
#[test]
fn what_docker_s_daemon_is_told_counts() {
    needs!(PROGRAM);
    let registry = Registry::tls().serving(&content()).start();
    let reference = registry.reference("app:1");
    let client = Client::new();
    assert_eq!(said(&client.check_one(&[&reference])), "registry-untrusted");
    let daemon = |what: serde_json::Value| client.write(".config/docker/daemon.json", &what.to_string());
    daemon(json!({ "insecure-registries": [registry.address()] }));
    assert_eq!(said(&client.check_one(&[&reference])), "native");
    daemon(json!({ "insecure-registries": ["127.0.0.0/8"] }));
    assert_eq!(said(&client.check_one(&[&reference])), "native");
    daemon(json!({ "insecure-registries": ["10.0.0.0/8", "other.example:5000"] }));
    assert_eq!(said(&client.check_one(&[&reference])), "registry-untrusted");
    let mirror = Registry::plain().serving(&content()).start();
    daemon(json!({ "registry-mirrors": [mirror.url() + "/"] }));
    let row = client.check_one(&["app:1"]);
    assert_eq!((said(&row), row["source"]["host"].as_str()), ("native", Some(mirror.address())), "{row:#}");
    assert_eq!(row["source"]["mirror"].as_bool(), Some(true));
    assert_eq!(said(&client.check_one(&[&reference])), "registry-untrusted", "a mirror is for Docker Hub alone");
}
