// SPDX-License-Identifier: MIT OR Apache-2.0
//! docker-registry with the content of [`Content`].

use std::net::TcpStream;

use crate::registries::{
    CURL, Content, DOCKER, Flavour, PROGRAM, Platform, Registry, SERVICE, SKOPEO, Tokens, docker_platforms,
    newer_docker, run_client, skopeo_raw,
};
use crate::{needs, succeed, text, wait_until};

const MANY: [Platform<'static>; 6] = [
    ("linux", "amd64", ""),
    ("linux", "arm", "v5"),
    ("linux", "arm", "v7"),
    ("linux", "arm64", "v8"),
    ("linux", "riscv64", ""),
    ("windows", "amd64", ""),
];

/// The same, as clients write them.
const NAMES: [&str; 6] =
    ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/riscv64", "windows/amd64"];

/// Every shape of content, with its digest.
fn fill(content: &Content) -> Vec<(&'static str, String)> {
    vec![
        ("oci:1", content.index("oci", "1", Flavour::Oci, &MANY)),
        ("attested:1", content.index("attested", "1", Flavour::Attested, &MANY)),
        ("docker:1", content.index("docker", "1", Flavour::Docker, &MANY)),
        ("library/single-oci:1", content.image("library/single-oci", "1", Flavour::Oci, ("linux", "arm64", "v8"))),
        ("single-docker:1", content.image("single-docker", "1", Flavour::Docker, ("linux", "amd64", ""))),
        ("nested:1", content.nested("nested", "1", &MANY[..1], &MANY[2..4])),
        ("bare:1", content.bare_index("bare", "1", &MANY[..2])),
        ("chart:1", content.chart("chart", "1")),
        ("artifact:1", content.artifact("artifact", "1")),
    ]
}

#[test]
fn skopeo_reads_byte_for_byte_what_was_put_there() {
    needs!(PROGRAM, SKOPEO);
    let registry = Registry::plain().start();
    for (reference, digest) in fill(&registry.content) {
        let (repository, _) = reference.split_once(':').unwrap();
        for name in [reference.to_owned(), format!("{repository}@{digest}")] {
            assert!(skopeo_raw(&registry, &name) == registry.content.get(&digest), "{name}: {}", registry.log());
        }
    }
}

/// A registry takes a manifest only if it is well-formed and all that it refers to is there.
#[test]
fn what_was_put_there_is_whole() {
    needs!(PROGRAM, SKOPEO);
    let (registry, other) = (Registry::plain().start(), Registry::plain().start());
    for (reference, digest) in fill(&registry.content) {
        let address = |registry: &Registry| format!("docker://{}", registry.reference(reference));
        let (from, to) = (address(&registry), address(&other));
        // skopeo copies no index within an index.
        if reference != "nested:1" {
            succeed(SKOPEO, &["copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
            assert!(other.content.get(&digest) == registry.content.get(&digest), "{reference}");
        }
    }
}

/// docker-registry 2.8 gives all tags at once, in no order, whatever `n` says.
#[test]
fn a_repository_with_many_tags() {
    needs!(PROGRAM, SKOPEO);
    let registry = Registry::plain().start();
    let digest = registry.content.image("app", "0", Flavour::Oci, MANY[0]);
    (1..120).for_each(|tag| registry.content.tag("app", &tag.to_string(), &digest));
    let address = format!("docker://{}", registry.reference("app"));
    let listed = succeed(SKOPEO, &["list-tags", "--tls-verify=false", &address]);
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed["Tags"].as_array().unwrap().len(), 120);
}

#[test]
fn a_registry_with_tls_and_a_password() {
    needs!(PROGRAM, SKOPEO, CURL);
    let registry = Registry::tls().basic("user", "secret").start();
    let digest = registry.content.image("app", "1", Flavour::Oci, MANY[0]);
    let (url, authority) =
        (format!("{}/v2/app/manifests/1", registry.url()), registry.authority().display().to_string());
    let ask = |more: &[&str]| {
        let all = [
            &[
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-H",
                "Accept: */*, application/vnd.oci.image.manifest.v1+json",
            ],
            more,
            &[&url],
        ]
        .concat();
        text(&run_client(CURL, &all).stdout)
    };
    assert_eq!(ask(&[]), "000", "an unknown authority");
    assert_eq!(ask(&["--cacert", &authority]), "401");
    assert_eq!(ask(&["--cacert", &authority, "-u", "user:wrong"]), "401");
    assert_eq!(ask(&["--cacert", &authority, "-u", "user:secret"]), "200");
    // skopeo trusts every *.crt of this folder.
    let folder = registry.authority().parent().unwrap().display().to_string();
    let address = format!("docker://{}", registry.reference("app:1"));
    let read = succeed(SKOPEO, &["inspect", "--raw", "--cert-dir", &folder, "--creds", "user:secret", &address]);
    assert!(read == registry.content.get(&digest));
}

#[test]
fn a_registry_with_tokens() {
    needs!(PROGRAM, SKOPEO);
    let registry = Registry::plain().token(Tokens::of("user", "secret").hiding("private")).start();
    for repository in ["public", "private"] {
        registry.content.image(repository, "1", Flavour::Oci, MANY[0]);
    }
    let ask = |repository: &str, more: &[&str]| {
        let address = format!("docker://{}:1", registry.reference(repository));
        run_client(SKOPEO, &[&["inspect", "--raw", "--tls-verify=false"], more, &[&address]].concat())
    };
    let anonymous = ask("public", &["--no-creds"]);
    assert!(anonymous.status.success(), "{anonymous:?}\n{}", registry.log());
    assert!(!ask("private", &["--no-creds"]).status.success());
    assert!(!ask("private", &["--creds", "user:wrong"]).status.success());
    assert!(ask("private", &["--creds", "user:secret"]).status.success());
    let asked = registry.tokens().requests();
    let first = asked.first().unwrap();
    assert_eq!(first.parameters("scope"), ["repository:public:pull"]);
    assert_eq!(first.parameters("service"), [SERVICE]);
    assert_eq!(first.header("Authorization"), None);
    assert_eq!(asked.last().unwrap().basic(), Some(("user".into(), "secret".into())));
}

#[test]
fn odd_tokens() {
    needs!(PROGRAM, SKOPEO);
    for (tokens, is_good) in [(Tokens::anonymous().in_access_token(), true), (Tokens::anonymous().expired(), false)] {
        let registry = Registry::plain().token(tokens).start();
        registry.content.image("app", "1", Flavour::Oci, MANY[0]);
        let address = format!("docker://{}", registry.reference("app:1"));
        let read = run_client(SKOPEO, &["inspect", "--raw", "--tls-verify=false", "--no-creds", &address]);
        assert_eq!(read.status.success(), is_good, "{read:?}");
        assert!(!registry.tokens().requests().is_empty());
    }
}

/// A registry of Docker's that speaks schema 1 signs what has no signature yet.
#[test]
fn schema_1_is_served() {
    needs!(PROGRAM, CURL);
    let registry = Registry::plain().start();
    registry.content.schema1("old", "1", "amd64");
    let answer = text(&succeed(CURL, &["-si", &format!("{}/v2/old/manifests/1", registry.url())]));
    assert!(answer.contains("application/vnd.docker.distribution.manifest.v1+prettyjws"), "{answer}");
    assert!(answer.contains("\"signatures\""), "{answer}");
}

#[test]
fn docker_of_this_release_reads_what_is_of_docker() {
    needs!(PROGRAM, DOCKER);
    let registry = Registry::plain().start();
    fill(&registry.content);
    let ask = |name: &str| docker_platforms(DOCKER, &registry.reference(name));
    assert_eq!(ask("docker:1").as_deref(), Ok(&NAMES.map(str::to_owned)[..]));
    assert_eq!(ask("single-docker:1"), Ok(vec!["linux/amd64".to_owned()]));
    assert_eq!(ask("none:1"), Err(format!("no such manifest: {}/none:1", registry.address())));
}

#[test]
fn docker_of_debian_13_reads_every_image() {
    needs!(PROGRAM);
    let Some(docker) = newer_docker() else {
        eprintln!("skipped: tests/run.sh has not fetched Debian 13's Docker");
        return;
    };
    let registry = Registry::plain().start();
    fill(&registry.content);
    registry.content.schema1("old", "1", "amd64");
    let ask = |name: &str| docker_platforms(&docker, &registry.reference(name));
    assert_eq!(ask("docker:1").as_deref(), Ok(&NAMES.map(str::to_owned)[..]));
    assert_eq!(ask("oci:1"), ask("docker:1"));
    assert_eq!(ask("attested:1").unwrap()[..NAMES.len()], NAMES);
    assert_eq!(ask("attested:1").unwrap()[NAMES.len()..], ["unknown/unknown"; NAMES.len()]);
    assert_eq!(ask("library/single-oci:1"), Ok(vec!["linux/arm64/v8".to_owned()]));
    assert_eq!(ask("bare:1"), Ok(vec![String::new(), String::new()]));
    assert_eq!(ask("chart:1"), Ok(vec![String::new()]));
    let not_read = |name: &str| ask(name).is_err_and(|error| error.starts_with("unsupported manifest"));
    assert!(not_read("nested:1") && not_read("old:1"));
    assert!(ask("none:1").is_err_and(|error| error.starts_with("no such manifest")));
}

/// However the test ends.
#[test]
fn a_registry_ends_with_the_thread_that_started_it() {
    needs!(PROGRAM);
    let registry = std::thread::spawn(|| Registry::plain().start()).join().unwrap();
    wait_until("nobody listens", || TcpStream::connect(registry.address()).is_err());
}
