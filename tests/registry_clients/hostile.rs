// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scripted server: that it misbehaves as it says.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};

use crate::registries::{CURL, Certificates, Flavour, Hostile, Reply, Request, SKOPEO, digest, run_client};
use crate::{needs, succeed, text, wait_until};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// curl's exit codes (curl(1)).
const SHORT_BODY: i32 = 18;
const TIMED_OUT: i32 = 28;
const UNTRUSTED: i32 = 60;

/// A server whose first part of the path names the behaviour.
fn misbehaving() -> Hostile {
    Hostile::new(|request, reply| match request.path() {
        "/huge" => reply.huge(INDEX, 30_000_000),
        "/chunks" => reply.huge_in_chunks(INDEX, 30_000_000),
        "/gigabyte" => reply.huge_in_chunks(INDEX, 1 << 30),
        "/nested" => reply.nested(INDEX, 100_000),
        "/drip" => reply.drip(INDEX),
        "/drip-head" => reply.drip_head(),
        "/endless-head" => reply.endless_head(),
        "/stall" => reply.stall(INDEX),
        "/silence" => reply.silence(),
        "/half" => reply.half(INDEX, &[b'x'; 1000]),
        "/hang-up" => reply.hang_up(),
        "/garbage" => reply.garbage(),
        "/bomb" => reply.bomb(INDEX, 50_000_000),
        "/portal" => reply.portal(),
        "/limited" => reply.limited(INDEX, b"{}", 76),
        "/unknown" => reply.error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        "/denied" => reply.error(403, "DENIED", "requested access to the resource is denied"),
        "/busy" if request.earlier == 0 => reply.too_many(Some("7")),
        "/busy" => reply.manifest(INDEX, b"{}"),
        "/wrong" => reply.manifest_called(INDEX, &digest(b"other"), b"{}"),
        "/without" => reply.manifest_without_digest(INDEX, b"{}"),
        "/challenges" => reply.challenge(&["Negotiate", "Basic realm=\"x\", Bearer realm=\"file:///etc/passwd\""]),
        "/loop" => reply.redirect(307, "/loop"),
        "/file" => reply.redirect(302, "file:///etc/passwd"),
        "/v2/app/tags/list" => {
            let page = request.parameters("last").first().map_or(Ok(0), |last| last.split('.').next().unwrap().parse());
            reply.endless_tags("app", page.unwrap() + 1)
        }
        path => panic!("{path}"),
    })
}

/// curl's exit code and what it wrote.
fn curl(server: &Hostile, path: &str, more: &[&str]) -> (i32, Vec<u8>) {
    let output = run_client(CURL, &[&["-s", "--max-time", "60", &format!("{}/{path}", server.url())], more].concat());
    (output.status.code().unwrap(), output.stdout)
}

#[test]
fn too_much() {
    needs!(CURL);
    let server = misbehaving();
    for path in ["huge", "chunks"] {
        let (code, body) = curl(&server, path, &[]);
        assert_eq!((code, body.len()), (0, 30_000_000), "{path}");
        assert!(body.starts_with(br#"{"schemaVersion":2,"manifests":[],"annotations":{"a":"aaa"#), "{path}");
    }
    let (code, body) = curl(&server, "nested", &[]);
    assert_eq!((code, body.len(), body[99_999], body[100_000]), (0, 200_000, b'[', b']'));
    let before = server.sent();
    let (_, body) = curl(&server, "bomb", &["--compressed"]);
    assert!(body.len() >= 50_000_000 && body.iter().all(|byte| *byte == 0), "{}", body.len());
    assert!(server.sent() - before < 400_000, "{}", server.sent() - before);
    let (code, body) = curl(&server, "huge", &["--head"]);
    assert_eq!(code, 0);
    assert!(text(&body).contains("Content-Length: 30000000"), "{}", text(&body));
}

#[test]
fn who_stops_reading_gets_no_more() {
    let server = misbehaving();
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.write_all(b"GET /gigabyte HTTP/1.1\r\n\r\n").unwrap();
    client.read_exact(&mut vec![0; 1 << 20]).unwrap();
    drop(client);
    wait_until("the server gives up", || server.open() == 0);
    assert!((1 << 20..1 << 30).contains(&server.sent()), "{}", server.sent());
}

#[test]
fn too_slow() {
    needs!(CURL);
    let server = misbehaving();
    std::thread::scope(|scope| {
        for path in ["drip", "drip-head", "stall", "silence"] {
            let server = &server;
            scope.spawn(move || {
                let (code, body) = curl(server, path, &["--max-time", "3"]);
                assert_eq!((code, body.is_empty()), (TIMED_OUT, path != "drip"), "{path}");
            });
        }
    });
}

#[test]
fn a_server_ends_whatever_it_is_doing() {
    needs!(CURL);
    for path in ["drip", "drip-head", "stall", "silence"] {
        let server = misbehaving();
        let url = format!("{}/{path}", server.url());
        let mut client = Command::new(CURL)
            .env_clear()
            .args(["-s", "--max-time", "60", &url])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("curl asks", || !server.requests().is_empty());
        drop(server);
        assert_ne!(client.wait().unwrap().code(), Some(TIMED_OUT), "{path}");
    }
}

#[test]
fn no_http() {
    needs!(CURL);
    let server = misbehaving();
    assert_eq!(curl(&server, "garbage", &[]).0, 1, "an unsupported protocol");
    assert_eq!(curl(&server, "hang-up", &[]).0, 52, "an empty reply");
    let (code, body) = curl(&server, "half", &[]);
    assert_eq!((code, body.len()), (SHORT_BODY, 500));
    assert_ne!(curl(&server, "endless-head", &[]).0, 0);
}

#[test]
fn errors_and_limits() {
    needs!(CURL);
    let server = misbehaving();
    let ask = |path: &str| {
        let (code, answer) = curl(&server, path, &["-i"]);
        assert_eq!(code, 0, "{path}");
        text(&answer)
    };
    let has = |path: &str, parts: &[&str]| {
        let answer = ask(path);
        assert!(parts.iter().all(|part| answer.contains(part)), "{path}: {answer}");
    };
    has("unknown", &["HTTP/1.1 404 Not Found", r#"{"errors":[{"code":"MANIFEST_UNKNOWN""#]);
    has("denied", &["HTTP/1.1 403 Forbidden", r#""code":"DENIED""#]);
    has("portal", &["HTTP/1.1 200 OK", "Content-Type: text/html", "<h1>"]);
    has("limited", &["ratelimit-limit: 100;w=21600", "ratelimit-remaining: 76;w=21600"]);
    has("wrong", &[&format!("Docker-Content-Digest: {}", digest(b"other"))]);
    assert!(!ask("without").contains("Digest"));
    has("challenges", &["HTTP/1.1 401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", "Bearer realm=\"file:///"]);
    has("busy", &["HTTP/1.1 429 Too Many Requests", "Retry-After: 7"]);
    has("busy", &["HTTP/1.1 200 OK"]);
    has("v2/app/tags/list", &[r#"</v2/app/tags/list?n=100&last=1.99>; rel="next""#, r#""1.0","1.1""#]);
    has("v2/app/tags/list?n=100&last=1.99", &["last=2.99>; rel", r#""2.0","2.1""#]);
}

#[test]
fn redirects() {
    needs!(CURL);
    let other = Hostile::at(Ipv4Addr::new(127, 0, 0, 2), |_, reply| reply.welcome());
    let to = other.url();
    let server = Hostile::new(move |request, reply| reply.redirect(307, &format!("{to}{}", request.path())));
    let ask = |how: &str| assert_eq!(curl(&server, "v2/", &["-u", "user:secret", how]), (0, b"{}".to_vec()));
    ask("--location");
    ask("--location-trusted");
    let arrived: Vec<_> = other.requests().iter().map(Request::basic).collect();
    assert_eq!(arrived, [None, Some(("user".into(), "secret".into()))]);
    assert_eq!(other.lines(), ["GET /v2/", "GET /v2/"]);
    let odd = misbehaving();
    assert_eq!(curl(&odd, "loop", &["--location", "--max-redirs", "5"]).0, 47, "too many");
    assert_eq!(odd.lines().len(), 6);
    assert_eq!(curl(&odd, "file", &["--location"]).0, 1, "an unsupported protocol");
}

#[test]
fn connections_are_used_again() {
    needs!(CURL);
    let ask = |server: &Hostile| succeed(CURL, &["-s", &server.url(), &server.url(), &server.url()]);
    let server = Hostile::new(|_, reply| reply.welcome());
    assert_eq!(ask(&server), b"{}{}{}");
    assert_eq!((server.requests().len(), server.connections(), server.busiest()), (3, 1, 1));
    let server = Hostile::new(|_, reply| {
        reply.welcome()?;
        reply.vanish();
        Ok(())
    });
    assert_eq!(ask(&server), b"{}{}{}");
    assert_eq!((server.requests().len(), server.connections()), (3, 3));
}

#[test]
fn tls_and_certificates_that_are_not_right() {
    needs!(CURL);
    for (certificates, code) in
        [(Certificates::new(), 0), (Certificates::expired(), UNTRUSTED), (Certificates::of_another_host(), UNTRUSTED)]
    {
        let server = Hostile::tls(&certificates, |_, reply| reply.welcome());
        let authority = certificates.authority().display().to_string();
        assert_eq!(curl(&server, "v2/", &["--cacert", &authority]).0, code);
        assert_eq!(server.requests().len(), usize::from(code == 0));
    }
}

/// Answers as a registry does that has one image, by tag and by digest.
fn answer(request: &Request, reply: &mut Reply<'_>, content: &[u8]) -> io::Result<()> {
    match request.path() {
        "/v2/" => reply.welcome(),
        path if path.starts_with("/v2/app/manifests/") => reply.manifest(Flavour::Oci.index(), content),
        _ => reply.error(404, "NAME_UNKNOWN", "repository name not known to registry"),
    }
}

/// What is called good here is good to skopeo, and what is called wrong is not.
#[test]
fn skopeo_reads_from_it() {
    needs!(SKOPEO);
    let content = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let server = Hostile::new(|request, reply| answer(request, reply, content));
    let address = |name: &str| format!("docker://{}/{name}", server.address());
    let ask = |name: &str| run_client(SKOPEO, &["inspect", "--raw", "--tls-verify=false", &address(name)]);
    assert_eq!(ask("app:1").stdout, content);
    assert_eq!(ask(&format!("app@{}", digest(content))).stdout, content);
    let none = text(&ask("none:1").stderr);
    assert!(none.contains("name unknown"), "{none}");
    // `inspect --raw` prints it unlooked at.
    let folder = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", folder.path().display());
    let copy = |digest: &str| {
        let from = address(&format!("app@{digest}"));
        run_client(SKOPEO, &["copy", "--multi-arch", "index-only", "--src-tls-verify=false", &from, &to])
    };
    let right = copy(&digest(content));
    assert!(right.status.success(), "{right:?}");
    let wrong = copy(&digest(b"other"));
    assert!(text(&wrong.stderr).contains("does not match"), "{wrong:?}");
}

#[test]
fn skopeo_follows_pages_of_tags() {
    needs!(SKOPEO);
    let server = Hostile::new(|request, reply| match request.path() {
        "/v2/app/tags/list" if request.query().is_empty() => reply.redirect(307, "/v2/app/tags/list?n=2"),
        "/v2/app/tags/list" => reply.tags(request, "app", &["1", "2", "3", "4", "5"]),
        _ => reply.welcome(),
    });
    let listed = succeed(SKOPEO, &["list-tags", "--tls-verify=false", &format!("docker://{}/app", server.address())]);
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed["Tags"], serde_json::json!(["1", "2", "3", "4", "5"]));
    assert_eq!(server.lines().last().unwrap(), "GET /v2/app/tags/list?n=2&last=4");
}
