// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single rules of the specification, one small project each.

use std::path::PathBuf;

use qemu_persist::compose::{Project, Question, Service, override_file};

use super::{Bench, both};

type Files<'a> = &'a [(&'a str, &'a str)];

fn read_with(files: Files<'_>, variables: &[(&str, &str)], question: &Question) -> Option<Project> {
    let bench = Bench::new()?;
    bench.write(files);
    let project = both(question, &bench.surroundings(&bench.project(), variables));
    Some(project.unwrap_or_else(|(theirs, ours)| panic!("Docker Compose: {theirs}\nour own: {ours}")))
}

fn read(files: Files<'_>) -> Option<Project> {
    read_with(files, &[], &Question::default())
}

/// Both refuse it; what our own reader and `read` say.
fn refused(files: Files<'_>) -> Option<[String; 2]> {
    let bench = Bench::new()?;
    bench.write(files);
    let result = both(&Question::default(), &bench.surroundings(&bench.project(), &[]));
    let (theirs, ours) = result.expect_err("it is wrong");
    let folder = format!("{}/", bench.project().display());
    Some([theirs, ours].map(|error| error.to_string().replace(&folder, "")))
}

fn service<'a>(project: &'a Project, name: &str) -> &'a Service {
    project.services.iter().find(|service| service.name == name).expect(name)
}

fn image<'a>(project: &'a Project, name: &str) -> &'a str {
    service(project, name).image.as_deref().unwrap_or("-")
}

#[test]
fn variables() {
    let rows = [
        ("$A-${A}", "a-a"),
        ("${A:-d}${A-d}", "aa"),
        ("${EMPTY:-d}x${EMPTY-d}", "dx"),
        ("${NO:-d}x${NO-d}x${NO:-}", "dxdx"),
        ("${A:+r}x${A+r}", "rxr"),
        ("x${EMPTY:+r}x${EMPTY+r}", "xxr"),
        ("x${NO:+r}x${NO+r}", "xx"),
        ("${A:?e}x${EMPTY?e}", "ax"),
        ("${NO:-${NO2:-${A}}}", "a"),
        ("${NO:-a:b-c+d?e}", "a:b-c+d?e"),
        ("${A:+${EMPTY:-x}}y", "xy"),
        ("$$A $${A} $$", "$A ${A} $"),
        ("5$ $1 $.", "5$ $1 $."),
        ("a${F}b", "a1.10b"),
        ("${NO:-}x${NO-}", "x"),
        ("${lower}", "low"),
        ("${FILE}", "from .env"),
        ("${BOTH}", "outer"),
        ("${CHAIN}", "from .env-a"),
        ("${QUOTED}", "with # and \"quotes\""),
        ("${RAW}", "$A stays"),
        ("${COMMENT}", "value"),
        ("${YAML}", "way"),
        ("${SPACED}", "two words"),
        ("${DEFAULTED}", "dflt"),
        ("${ESCAPED}", "a\tb$A"),
        ("${HASH}", "#x"),
        ("${EXPORTED}", "e"),
    ];
    let env = "FILE=from .env\nBOTH=inner\nCHAIN=${FILE}-${A}\nQUOTED=\"with # and \\\"quotes\\\"\"\nRAW='$A stays'\n\
               COMMENT=value # not this\nYAML: way\nSPACED = two words\nDEFAULTED=${NO:-dflt}\n\
               ESCAPED=\"a\\tb\\$A\"\nHASH=#x\nexport EXPORTED=e\n\n# the end\n";
    let compose = rows
        .iter()
        .enumerate()
        .fold("services:\n".to_owned(), |all, (at, (text, _))| all + &format!("  s{at}: {{image: 'i{text}'}}\n"));
    let variables = [("A", "a"), ("EMPTY", ""), ("F", "1.10"), ("lower", "low"), ("BOTH", "outer")];
    let files = [("compose.yaml", compose.as_str()), (".env", env)];
    let Some(project) = read_with(&files, &variables, &Question::default()) else { return };
    for (at, (text, expected)) in rows.iter().enumerate() {
        assert_eq!(image(&project, &format!("s{at}")), format!("i{expected}"), "{text}");
    }
}

#[test]
fn what_is_not_set_is_named_with_its_place() {
    let compose = "services:\n  a:\n    image: x:$TAG\n  b:\n    image: y:${TAG}\n    labels: [\"c=${OTHER}\"]\n";
    let Some(project) = read(&[("compose.yaml", compose)]) else { return };
    let mut found: Vec<_> = project.remarks.iter().map(ToString::to_string).collect();
    found.sort();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].contains("compose.yaml:3: service `a`: the variable TAG is not set"), "{found:#?}");
    assert!(found[1].contains("compose.yaml:5: service `b`: the variable TAG is not set"), "{found:#?}");
    assert!(found[2].contains("compose.yaml:6: service `b`: the variable OTHER is not set"), "{found:#?}");
    assert_eq!(image(&project, "a"), "x:");
}

#[test]
fn files_are_laid_over_each_other() {
    let base = "services:\n  a:\n    image: one\n    platform: linux/amd64\n    labels: {x: 1, y: '2', z: }\n    \
                build: ./ctx\n    profiles: [p]\n    command: [a]\n  b:\n    image: b1\n    build:\n      context: .\n      \
                args: [K=1, L=2]\n      platforms: [linux/amd64]\n      target: t\n";
    let over = "services:\n  a:\n    image: two\n    labels: [y=3, w]\n    build: {dockerfile: Other}\n    profiles: [q, p]\n\
                \x20 b:\n    image:\n    build: {args: {L: 3, M: 4}, platforms: [linux/arm64], target: !reset null}\n  \
                c: {image: new}\n";
    let third =
        "services:\n  a:\n    platform: !reset\n    labels: !override {only: this}\n    profiles: !override [r]\n";
    let question =
        |names: &[&str]| Question { files: names.iter().map(PathBuf::from).collect(), ..Question::default() };
    let files = [("1.yaml", base), ("2.yaml", over), ("3.yaml", third)];
    let Some(project) = read_with(&files, &[], &question(&["1.yaml", "2.yaml"])) else { return };
    let a = service(&project, "a");
    assert_eq!((a.image.as_deref(), a.platform.as_deref()), (Some("two"), Some("linux/amd64")));
    assert_eq!(format!("{:?}", a.labels), r#"{"w": "", "x": "1", "y": "3", "z": ""}"#);
    assert_eq!(a.profiles, ["p", "q"]);
    let b = service(&project, "b").build.as_ref().unwrap();
    assert_eq!(b.platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!((b.target.as_deref(), b.args["L"].as_str(), b.args.len()), (None, "3", 3));
    assert_eq!(project.services.len(), 3);
    let Some(project) = read_with(&files, &[], &question(&["1.yaml", "2.yaml", "3.yaml"])) else { return };
    let a = service(&project, "a");
    assert_eq!((a.platform.as_deref(), format!("{:?}", a.labels)), (None, r#"{"only": "this"}"#.to_owned()));
    assert_eq!(a.profiles, ["r"]);
}

#[test]
fn extends_include_and_fragments() {
    let compose = "x-base: &base\n  platform: linux/amd64\n  labels: &labels {l: '1'}\ninclude: [inc/compose.yaml]\n\
                   services:\n  a:\n    <<: *base\n    image: a\n  b:\n    extends: a\n    image: b\n    labels: {m: '2'}\n  \
                   c:\n    extends: {service: deep, file: other/base.yaml}\n  d:\n    <<: [*base, {image: fromlist}]\n    \
                   labels:\n      <<: *labels\n      n: '3'\n";
    let other = "services:\n  deep:\n    extends: {service: deeper, file: ../deepest.yaml}\n    build: {context: ctx}\n  x: {image: x}\n";
    let deepest = "services:\n  deeper:\n    image: deep:${T:-1}\n    build: {context: lost, args: {A: 1.10, B: 010, C: true}}\n    \
                   profiles: [far]\n";
    let inc =
        "services:\n  inc:\n    image: inc:${V}\n    build: .\n  inc2:\n    extends: {service: inc}\n    image: inc2\n";
    let files = [
        ("compose.yaml", compose),
        ("other/base.yaml", other),
        ("deepest.yaml", deepest),
        ("inc/compose.yaml", inc),
        ("inc/.env", "V=7\n"),
    ];
    let Some(project) = read(&files) else { return };
    assert_eq!(image(&project, "b"), "b");
    assert_eq!(service(&project, "b").platform.as_deref(), Some("linux/amd64"));
    assert_eq!(image(&project, "c"), "deep:1");
    assert_eq!(service(&project, "c").profiles, ["far"]);
    let build = service(&project, "c").build.as_ref().unwrap();
    assert!(format!("{:?}", build.context).contains("/other/ctx"), "{build:?}");
    assert_eq!(build.args["A"], "1.1");
    assert_eq!((image(&project, "d"), image(&project, "inc")), ("fromlist", "inc:7"));
    assert_eq!(project.files.len(), 4, "{:?}", project.files);
}

/// Docker Compose leaves it out, so that the Dockerfile's own default counts.
#[test]
fn a_build_argument_without_a_value_is_of_the_environment_or_none() {
    let compose = "services:\n  a:\n    build: {context: ., args: [A, B, 'C=']}\n  \
                   b:\n    build: {context: ., args: {A: , B: ~, C: ''}}\n";
    let files = [("compose.yaml", compose), ("Dockerfile", "ARG A=1\nARG B=2\nFROM x:$A$B\n")];
    let Some(project) = read_with(&files, &[("A", "7")], &Question::default()) else { return };
    for name in ["a", "b"] {
        let build = service(&project, name).build.as_ref().unwrap();
        assert_eq!(format!("{:?}", build.args), r#"{"A": "7", "C": ""}"#);
        assert_eq!(build.bases.as_ref().unwrap()[0].image, "x:72");
    }
}

/// A tag speaks of its own service: what extends that one, or includes it, keeps what earlier files say.
#[test]
fn tags_of_what_is_extended_end_there() {
    let first = "services:\n  a: {image: one, platform: linux/amd64, labels: {x: '1'}}\n  \
                 c: {image: three, platform: linux/amd64}\n  d: {image: four, platform: linux/386}\n";
    let second = "include: [inc.yaml]\nservices:\n  a: {extends: b}\n  \
                  b: {image: two, platform: !reset , labels: !override {y: '2'}}\n  \
                  c: {extends: {service: far, file: far.yaml}}\n  d: {extends: b, platform: !reset null}\n";
    let far = "services:\n  far: {platform: !reset , profiles: [p]}\n";
    let inc = "services:\n  e: {image: five, platform: !reset , labels: !override {z: '3'}}\n";
    let files = [("1.yaml", first), ("2.yaml", second), ("far.yaml", far), ("inc.yaml", inc)];
    let question = Question { files: vec!["1.yaml".into(), "2.yaml".into()], ..Question::default() };
    let Some(project) = read_with(&files, &[], &question) else { return };
    let platform = |name: &str| service(&project, name).platform.clone();
    assert_eq!([platform("a"), platform("c")], [(); 2].map(|()| Some("linux/amd64".to_owned())));
    assert_eq!([platform("b"), platform("d"), platform("e")], [None, None, None]);
    assert_eq!(format!("{:?}", service(&project, "a").labels), r#"{"x": "1", "y": "2"}"#);
}

#[test]
fn profiles_and_the_environment_of_compose_itself() {
    let compose = "services:\n  a: {image: a}\n  b: {image: b, profiles: [x]}\n  c: {image: c, profiles: [y, z]}\n";
    let over = "services:\n  a: {platform: linux/arm64}\n";
    let env = "COMPOSE_FILE=main.yaml;over.yaml\nCOMPOSE_PATH_SEPARATOR=;\nCOMPOSE_PROFILES=x, z\nDOCKER_DEFAULT_PLATFORM=linux/amd64\n";
    let files = [("main.yaml", compose), ("over.yaml", over), (".env", env)];
    let Some(project) = read(&files) else { return };
    assert_eq!((project.profiles.join("+"), project.files.len()), ("x+z".to_owned(), 2));
    let active: Vec<bool> = project.services.iter().map(|service| service.is_active(&project.profiles)).collect();
    assert_eq!(active, [true, true, true]);
    assert!(
        !service(&project, "c").is_active(&["x".to_owned()]) && service(&project, "c").is_active(&["*".to_owned()])
    );
    assert_eq!(service(&project, "a").platform.as_deref(), Some("linux/arm64"));
    assert_eq!(project.default_platform.as_deref(), Some("linux/amd64"));
    let other = [("COMPOSE_ENV_FILES", "a.env,b.env"), ("COMPOSE_FILE", "main.yaml")];
    let files = [
        ("main.yaml", "services: {a: {image: 'i:${X}${Y}'}}"),
        ("a.env", "X=1\nY=1\n"),
        ("b.env", "Y=2\n"),
        (".env", "X=0\n"),
    ];
    let Some(project) = read_with(&files, &other, &Question::default()) else { return };
    assert_eq!(image(&project, "a"), "i:12");
    let question =
        Question { env_file: vec!["b.env".into()], project_directory: Some("sub".into()), ..Question::default() };
    let files =
        [("sub/compose.yml", "services: {a: {image: 'i:${Y}', build: .}}"), ("b.env", "Y=2\n"), ("sub/.env", "Y=0\n")];
    let Some(project) = read_with(&files, &[], &question) else { return };
    assert_eq!(image(&project, "a"), "i:2");
}

#[test]
fn the_nearest_folder_above_counts_with_its_override() {
    let Some(bench) = Bench::new() else { return };
    bench.write(&[
        ("compose.yml", "services: {a: {image: 'one:${V}'}}"),
        ("docker-compose.yml", "services: {a: {image: other}}"),
        ("compose.override.yaml", "services: {a: {platform: linux/386}}"),
        (".env", "V=3\n"),
        ("deep/er/file", ""),
    ]);
    let project = both(&Question::default(), &bench.surroundings(&bench.project().join("deep/er"), &[])).unwrap();
    assert_eq!(image(&project, "a"), "one:3");
    assert_eq!(service(&project, "a").platform.as_deref(), Some("linux/386"));
    let empty = tempfile::tempdir().unwrap();
    let error = both(&Question::default(), &bench.surroundings(empty.path(), &[])).unwrap_err().0.to_string();
    assert!(error.starts_with("no Compose file: "), "{error}");
}

#[test]
fn mistakes_are_told_with_file_and_line() {
    let rows: &[(&str, &str)] = &[
        ("services:\n  a:\n    image: x\n   b: 1\n", "compose.yaml:4: "),
        ("services:\n  a:\n    image: x\n    image: y\n", "compose.yaml:4: the key `image` is here twice"),
        ("services:\n  a:\n    image: [x]\n", "compose.yaml:3: `image` must be a text, not a list"),
        ("services:\n  a: text\n", "compose.yaml:2: the service `a` must be a mapping"),
        ("services: [a]\n", "compose.yaml:1: services must be a mapping"),
        (
            "services:\n  a:\n    image: ${X:?say it}\n",
            "compose.yaml:3: `services.a.image`: the variable X is required",
        ),
        ("services:\n  a:\n    image: ${}\n", "compose.yaml:3: `services.a.image`: `$`"),
        ("services:\n  a: {extends: b, image: x}\n  b: {extends: a}\n", "services extend each other in a circle"),
        ("services:\n  a:\n    extends: nobody\n", "compose.yaml:3: the service `a` extends `nobody`"),
        ("include: [compose.yaml]\nservices: {a: {image: x}}\n", "compose.yaml:1: "),
        ("services:\n  a:\n    extends: {service: b, file: nofile.yaml}\n", "compose.yaml:3: "),
        ("- a\n", "compose.yaml:1: a Compose file is a mapping"),
        ("services:\n  a:\n    image: 5\n", "compose.yaml:3: `image` must be a text, not the number"),
        ("services:\n  a: {image: x, labels: text}\n", "compose.yaml:2: "),
    ];
    for (text, expected) in rows {
        let Some([read, own]) = refused(&[("compose.yaml", text)]) else { return };
        assert!(own.contains(expected), "{text}: {own}");
        assert!(read.contains(expected), "{text}: {read}");
        assert!(read.contains("(Docker Compose: "), "{text}: {read}");
    }
}

#[test]
fn what_only_docker_compose_finds_wrong_has_its_line_too() {
    let Some(bench) = Bench::new() else { return };
    let rows: &[(&str, &str)] = &[
        ("services:\n  a:\n    image: x\n    nonsense: 5\n", "compose.yaml:4: "),
        ("services:\n  a: {image: x}\n  web.1:\n    image: x\n    ports: what\n", "compose.yaml:5: "),
    ];
    for (text, expected) in rows {
        bench.write(&[("compose.yaml", text)]);
        let error =
            super::real(&Question::default(), &bench.surroundings(&bench.project(), &[])).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("validating"), "{text}: {error}");
    }
}

#[test]
fn files_of_containers_that_are_missing_do_not_matter() {
    let Some(bench) = Bench::new() else { return };
    bench.write(&[(
        "compose.yaml",
        "services:\n  a: {image: x, secrets: [s], networks: [n], depends_on: [b]}\n  b: {image: y, profiles: [p]}\n",
    )]);
    let at = bench.surroundings(&bench.project(), &[]);
    assert_eq!(both(&Question::default(), &at).unwrap().services.len(), 2);
    bench.write(&[("compose.yaml", "services:\n  a: {image: x, env_file: none.env}\n")]);
    let project = super::real(&Question::default(), &at).unwrap();
    assert_eq!(image(&project, "a"), "x");
    let is_own = project.read_by == qemu_persist::compose::ReadBy::Own;
    assert!(!is_own || project.remarks[0].to_string().contains("none.env"), "{project:#?}");
}

#[test]
fn an_override_file_is_one() {
    let lines = [
        ("a", "linux/amd64"),
        ("no", "linux/arm/v7"),
        ("1.2", "linux/386"),
        ("b_c-d", "linux/arm64"),
        ("a", "linux/s390x"),
    ];
    let lines = lines.map(|(service, platform)| (service.to_owned(), platform.to_owned()));
    let text = override_file(&lines);
    let services = lines[..4]
        .iter()
        .fold(String::new(), |all, (name, _)| all + &format!("  \"{name}\": {{image: i, platform: linux/riscv64}}\n"));
    let compose = format!("services:\n{services}  other: {{image: i}}\n");
    let Some(project) = read(&[("compose.yaml", &compose), ("compose.override.yaml", &text)]) else { return };
    for (name, platform) in
        [("a", "linux/s390x"), ("no", "linux/arm/v7"), ("1.2", "linux/386"), ("b_c-d", "linux/arm64")]
    {
        assert_eq!(service(&project, name).platform.as_deref(), Some(platform), "{text}");
    }
    assert_eq!(service(&project, "other").platform, None);
    let Some(project) = read(&[("compose.yaml", &compose), ("compose.override.yaml", &override_file(&[]))]) else {
        return;
    };
    assert_eq!(service(&project, "a").platform.as_deref(), Some("linux/riscv64"));
}
