// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which Docker Compose reads the files, and what happens where it cannot.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use qemu_persist::compose::{ComposeError, ReadBy, Surroundings, read_own};

use super::{Bench, Question, compose, real, version};

/// In the bench's `bin`, a program that does as the shell says.
fn pretend(bench: &Bench, name: &str, script: &str) {
    let program = bench.folder.path().join("bin").join(name);
    let _ = std::fs::remove_file(&program);
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn read(bench: &Bench) -> Result<qemu_persist::compose::Project, ComposeError> {
    real(&Question::default(), &bench.surroundings(&bench.project(), &[]))
}

#[test]
fn the_plugin_of_docker_comes_first() {
    let Some(bench) = Bench::new() else { return };
    if !Path::new("/usr/bin/docker").exists() && !Path::new("/usr/local/bin/docker").exists() {
        eprintln!("skipped: no docker is installed, of which Compose would be a plugin");
        return;
    }
    let plugins = bench.folder.path().join("cli-plugins");
    std::fs::create_dir(&plugins).unwrap();
    symlink(compose().unwrap(), plugins.join("docker-compose")).unwrap();
    bench.write(&[("compose.yaml", "services: {a: {image: 'x:${V}'}}\n")]);
    let project = read(&bench).unwrap();
    assert_eq!(project.read_by, ReadBy::DockerCompose { version: version(&project) });
    assert!(project.services[0].image.as_deref() == Some("x:") && version(&project).starts_with(['2', '3', '4', '5']));
    assert_eq!(project.remarks[0].variable.as_deref(), Some("V"));
}

#[test]
fn what_is_too_old_or_broken_is_not_used_and_named() {
    let Some(bench) = Bench::new() else { return };
    bench.write(&[("compose.yaml", "services: {a: {image: x}}\n")]);
    // No plugin of a Docker that may be installed here.
    pretend(&bench, "docker", "exit 1");
    for (script, remark) in [
        ("echo 1.29.2", Some("is of version 1.29.2")),
        ("exit 127", None),
        ("echo what", None),
        ("[ $1 = version ] && echo 2.99.0 || echo '{}, but no JSON'", Some("what it prints is not understood")),
        ("[ $1 = version ] && echo 2.99.0 || kill -9 $$", Some("SIGKILL")),
        (
            "case $*/ in version*) echo v2.99.0;; *--help*) ;; *) echo 'time=\"now\" level=warning msg=\"w\"'; echo 'env file e \
             not found: no' >&2; exit 14;; esac",
            Some("env file e not found"),
        ),
    ] {
        pretend(&bench, "docker-compose", script);
        let project = read(&bench).unwrap();
        assert_eq!((project.read_by, project.services.len()), (ReadBy::Own, 1), "{script}");
        match remark {
            Some(remark) => assert!(project.remarks[0].what.contains(remark), "{script}: {:?}", project.remarks),
            None => assert!(project.remarks.is_empty(), "{script}: {:?}", project.remarks),
        }
    }
    pretend(
        &bench,
        "docker-compose",
        "[ $1 = version ] && echo 2.99.0 || { echo 'services.a.image is odd' >&2; exit 15; }",
    );
    let error = read(&bench).unwrap_err().to_string();
    assert!(error.ends_with("compose.yaml:1: services.a.image is odd"), "{error}");
}

#[test]
fn hostile_projects_end_soon() {
    let folder = tempfile::tempdir().unwrap();
    let read = |files: &[(&str, String)]| {
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let surroundings = Surroundings { directory: folder.path().to_owned(), variables: [].into(), ..own() };
        read_own(&Question::default(), &surroundings).map_err(|error| error.to_string())
    };
    let rows = |count: usize, row: &dyn Fn(usize) -> String| (0..count).map(row).collect::<String>();
    let chain = rows(9000, &|n| format!("  s{n}: {{extends: s{}}}\n", n + 1));
    let error = read(&[("compose.yaml", format!("services:\n{chain}  s9000: {{image: x}}\n"))]).unwrap_err();
    assert!(error.contains("extend each other in a row"), "{error}");
    let labels = rows(3000, &|n| format!("l{n}: x, "));
    let many = rows(5000, &|n| format!("  s{n}: {{extends: big}}\n"));
    let error = read(&[("compose.yaml", format!("services:\n  big: {{labels: {{{labels}}}}}\n{many}"))]).unwrap_err();
    assert!(error.contains("too large"), "{error}");
    let twice = |other: &str| format!("include: [{other}, {other}, {other}]\n");
    let files: Vec<(String, String)> =
        (0..12).map(|n| (format!("i{n}.yaml"), twice(&format!("i{}.yaml", n + 1)))).collect();
    let files: Vec<(&str, String)> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    std::fs::write(folder.path().join("compose.yaml"), twice("i0.yaml")).unwrap();
    std::fs::write(folder.path().join("i12.yaml"), "").unwrap();
    assert!(read(&files).unwrap_err().contains("more than 200 files"));
    let lines = read(&[("compose.yaml", "services: {a: {image: '${A}'}}".into()), (".env", "A=1\n".repeat(250_000))]);
    assert_eq!(lines.unwrap().services[0].image.as_deref(), Some("1"));
    std::fs::remove_file(folder.path().join(".env")).unwrap();
    let lines = format!("A={}\n", "x".repeat(900_000));
    let again = format!("include:\n  - path: b.yaml\n    env_file: [{}]\n", vec!["e"; 9000].join(", "));
    let files = [("compose.yaml", again), ("b.yaml", String::new()), ("e", lines)];
    assert!(read(&files).unwrap_err().contains("too large"));
    let error = read(&[("compose.yaml", "include: [b.yaml]\n".into()), ("b.yaml", "include: [compose.yaml]\n".into())]);
    assert!(error.as_ref().unwrap_err().contains("includes itself"), "{error:?}");
    let names = rows(90_000, &|n| format!("p{n},"));
    assert!(read(&[("compose.yaml", format!("services: {{a: {{image: x, profiles: [{names}]}}}}"))]).is_ok());
    let builds = rows(4000, &|n| format!("  s{n}: {{build: {{dockerfile: D}}}}\n"));
    let big = format!("FROM a\n{}", "RUN true\n".repeat(100_000));
    let project = read(&[("compose.yaml", format!("services:\n{builds}")), ("D", big)]).unwrap();
    let last = project.services.last().unwrap().build.as_ref().unwrap().bases.as_ref().unwrap_err();
    assert!(last.contains("too large together"), "{last}");
    let variables = rows(4000, &|n| format!("  s{n}: {{image: '{}'}}\n", "${A}".repeat(50)));
    let files = [("compose.yaml", format!("services:\n{variables}")), (".env", format!("A={}\n", "x".repeat(900_000)))];
    assert!(read(&files).unwrap_err().contains("too large"));
    assert!(read(&[("compose.yaml", " ".repeat(2 << 20))]).unwrap_err().contains("larger than 1 MiB"));
    std::fs::remove_file(folder.path().join("compose.yaml")).unwrap();
    nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let question = Question { files: vec!["pipe".into()], ..Question::default() };
    let surroundings = Surroundings { directory: folder.path().to_owned(), variables: [].into(), ..own() };
    assert!(read_own(&question, &surroundings).unwrap_err().to_string().contains("not a regular file"));
}

fn own() -> Surroundings {
    Surroundings::own().unwrap()
}

#[test]
fn what_is_elsewhere_is_told_not_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let text = "include:\n  - oci://example.org/x:1\n  - https://example.org/y.git\nservices:\n  a: {build: 'https://example.org/a.git#main'}\n  \
                b:\n    extends: {file: 'https://example.org/z.git', service: z}\n    image: b\n  c: {build: {context: ., dockerfile_inline: 'FROM $${X}'}}\n  \
                d: {image: d, lables: {a: b}}\n  e: {build: missing}\n";
    std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
    let surroundings = Surroundings { directory: folder.path().to_owned(), variables: [].into(), ..own() };
    let project = read_own(&Question::default(), &surroundings).unwrap();
    let remarks = project.remarks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for expected in [
        "compose.yaml:2: `include` of oci://example.org/x:1 is not followed",
        "compose.yaml:3: `include` of https://example.org/y.git is not followed",
        "compose.yaml:7: service `b`: what it extends is not read: https://example.org/z.git",
        "compose.yaml:9: service `c`: dockerfile_inline:1: `${X}` is not known",
        "compose.yaml:10: service `d`: Compose knows no `lables`; is `labels` meant?",
    ] {
        assert!(remarks.contains(expected), "{expected}:\n{remarks}");
    }
    let bases = |at: usize| project.services[at].build.as_ref().unwrap().bases.clone();
    assert!(bases(0).unwrap_err().contains("not on this host: https://example.org/a.git#main, Dockerfile"));
    assert!(bases(4).unwrap_err().contains("missing/Dockerfile: No such file"));
    assert_eq!(bases(2).unwrap(), []);
}
