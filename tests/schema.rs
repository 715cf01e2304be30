// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `--json` writes is what the schemas in packaging/schema say, to the key.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod registries;
mod sandbox;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use jsonschema::Validator;
use qemu_persist::service::{BackedOff, Repair};
use sandbox::{QEMU, QEMU_P, TABLE, rule};
use serde_json::{Value, json};

/// Keys whose values are tables with keys of any name.
const TABLES: [&str; 3] = ["interpreters", "origins", "unknown"];
/// Keys that are there only when they were asked for.
const OPTIONAL: [&str; 2] = ["containers", "builder"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/schema")
}

/// A schema without what it leaves open: keys that it does not name are wrong.
struct Strict {
    name: &'static str,
    validator: Validator,
}

impl Strict {
    fn read(name: &'static str) -> Self {
        let file = folder().join(format!("{name}.schema.json"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut schema = serde_json::from_str(&text).unwrap();
        assert!(jsonschema::meta::is_valid(&schema), "{name}");
        close(&mut schema, true);
        Self { name, validator: jsonschema::validator_for(&schema).unwrap() }
    }

    /// Checks one object that was written, and that a key more or less would have been seen.
    fn check(&self, written: &Value) {
        let errors: Vec<_> =
            self.validator.iter_errors(written).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?} in {written:#}", self.name);
        for (change, changed) in changes(written) {
            assert!(!self.validator.is_valid(&changed), "{}: nobody would see {change}", self.name);
        }
    }

    fn check_text(&self, text: &str) -> Value {
        let written = serde_json::from_str(text).unwrap_or_else(|e| panic!("{}: {e}: {text}", self.name));
        self.check(&written);
        written
    }
}

/// Forbids further keys in every object. `whole` is for a schema that describes a value by itself,
/// and not together with others, as one of `oneOf` does.
fn close(schema: &mut Value, whole: bool) {
    let Some(schema) = schema.as_object_mut() else { return };
    for (keyword, value) in schema.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(all)) => all.values_mut().for_each(|one| close(one, true)),
            ("$defs", Value::Object(all)) => all.values_mut().for_each(|one| close(one, false)),
            ("oneOf" | "anyOf" | "allOf", Value::Array(all)) => all.iter_mut().for_each(|one| close(one, false)),
            ("items" | "additionalProperties", one) => close(one, true),
            _ => {}
        }
    }
    if whole {
        schema.insert("unevaluatedProperties".into(), false.into());
    }
}

/// `written` with a key more in each object, and with each key less.
fn changes(written: &Value) -> Vec<(String, Value)> {
    let mut changes = Vec::new();
    let mut places = vec![String::new()];
    while let Some(place) = places.pop() {
        match written.pointer(&place).unwrap() {
            Value::Object(object) => {
                let change = |what: &dyn Fn(&mut serde_json::Map<String, Value>)| {
                    let mut changed = written.clone();
                    what(changed.pointer_mut(&place).unwrap().as_object_mut().unwrap());
                    changed
                };
                let is_table = place.rsplit('/').next().is_some_and(|key| TABLES.contains(&key));
                if !is_table {
                    changes
                        .push((format!("{place}/new"), change(&|object| drop(object.insert("new".into(), 1.into())))));
                }
                for key in object.keys() {
                    places.push(format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")));
                    if !is_table && !OPTIONAL.contains(&key.as_str()) {
                        changes.push((format!("{place}/{key} gone"), change(&|object| drop(object.remove(key)))));
                    }
                }
            }
            Value::Array(list) => places.extend((0..list.len()).map(|index| format!("{place}/{index}"))),
            _ => {}
        }
    }
    changes
}

/// Runs a verb outside of any sandbox.
fn run(arguments: &[&str], root: Option<&Path>) -> String {
    let mut command = Command::cargo_bin("qemu-persist").unwrap();
    command.args(arguments);
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

#[cfg(feature = "assets")]
#[test]
fn the_schemas_are_of_this_program() {
    let written = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_qemu-persist-assets");
    Command::new(program).arg(written.path()).arg("2026-11-23").assert().success();
    let list = |folder: &Path| -> BTreeSet<_> {
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let new = written.path().join("schema");
    assert_eq!(list(&new), list(&folder()));
    for name in list(&new) {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(&name)).unwrap();
        assert!(
            read(&new) == read(&folder()),
            "packaging/schema/{name} is of an older program; to write it:\ncargo run --features assets --bin \
             qemu-persist-assets -- target/package 2026-01-01 && cp target/package/schema/* packaging/schema/"
        );
    }
}

#[test]
fn status() {
    let schema = Strict::read("status");
    let host = sandbox!();
    let mut found = BTreeSet::new();
    let mut look = || {
        let status = host.status();
        schema.check(&status.json);
        let ids: Vec<_> = status.json["findings"].as_array().unwrap().iter().map(|f| f["id"].to_string()).collect();
        found.extend(ids);
    };
    look();
    host.register(&rule("qemu-aarch64", QEMU_P, "OPF"));
    look();
    host.register(&rule("newer", QEMU, "O"));
    look();
    host.apply(&[], 0);
    host.qemu_persist(&["selftest", "--runtime", "builtin"]);
    look();
    host.sh(&format!("echo 0 > {TABLE}/status"));
    look();
    host.qemu_persist(&["selftest", "--runtime", "builtin"]);
    look();
    let _held = host.serve();
    look();
    host.tell_state(|state| {
        let (subject, action) = (Some("linux/arm64".to_owned()), "register".to_owned());
        let (handler, why) = ("qemu-aarch64".to_owned(), "no handler is registered".to_owned());
        state.recent.push(Repair { boot_seconds: 1, unix_time: 1, subject, action, handler, why });
        state.backed_off.push(BackedOff {
            subject: "linux/arm64".into(),
            file: None,
            repairs: 6,
            failing: false,
            until: 1,
        });
        (state.config_error, state.selftest_due) = (Some("no".into()), Some(1));
    });
    look();
    host.write("/etc/qemu-persist/config.toml", "platform = 1");
    look();
    assert!(found.len() >= 10, "{found:?}");
    let image = tempfile::tempdir().unwrap();
    schema.check_text(&run(&["status", "--json"], Some(image.path())));
    schema.check_text(&host.qemu_persist(&["status", "--json", "--containers"]).out);
    let container = json!({
        "engine": "podman", "id": "0", "name": "n", "image": "i", "platform": "linux/arm64", "interpreter": "/q", "pid": 1
    });
    let mut with = host.status().json;
    with["containers"] = json!([container]);
    with["builder"] = json!({ "name": "default", "driver": "docker", "platforms": ["linux/amd64"] });
    schema.check(&with);
}

#[test]
fn apply_remove_enable_disable() {
    let schema = Strict::read("changes");
    let host = sandbox!();
    let mut actions = BTreeSet::new();
    let mut check = |arguments: &[&str]| {
        let ran = host.qemu_persist(&[arguments, &["--json"]].concat());
        let written = schema.check_text(&ran.out);
        for list in ["changes", "failed"] {
            actions.extend(written[list].as_array().unwrap().iter().map(|step| step["action"].to_string()));
        }
        written
    };
    check(&["apply", "--check"]);
    check(&["apply"]);
    check(&["enable", "linux/arm"]);
    check(&["disable", "linux/arm"]);
    host.sh(&format!("echo 0 > {TABLE}/qemu-aarch64; echo 0 > {TABLE}/status"));
    check(&["apply"]);
    check(&["remove"]);
    host.sh(&format!("echo -1 > {TABLE}/status"));
    host.register(&rule("qemu-aarch64", QEMU_P, "OCPF"));
    check(&["apply", "--take-over"]);
    check(&["remove"]);
    host.sh(&format!("umount {TABLE}"));
    check(&["apply", "--check"]);
    check(&["apply"]);
    // Nothing can be written, and then there is no QEMU.
    host.sh(&format!("echo -1 > {TABLE}/status; rm -rf /etc/binfmt.d; touch /etc/binfmt.d; rm /usr/lib/binfmt.d/*"));
    assert_ne!(check(&["apply"])["failed"], json!([]));
    host.sh(&format!("rm {QEMU}"));
    assert_ne!(check(&["apply"])["unmet"], json!([]));
    // An image of which nothing is known.
    host.sh("mkdir /opt/image");
    assert!(check(&["apply", "--root", "/opt/image"])["refused"].is_string());
    let all = ["mount", "enable_all", "register", "enable", "retire", "write_fragment", "remove_fragment"];
    let missing: Vec<_> = all.iter().filter(|action| !actions.contains(&format!("{action:?}"))).collect();
    assert!(missing.is_empty(), "{missing:?} not seen, {actions:?}");
}

#[test]
fn selftest() {
    let schema = Strict::read("selftest");
    let host = sandbox!();
    let check = |verdict: &str| {
        let written = schema.check_text(&host.qemu_persist(&["selftest", "--json", "--runtime", "builtin"]).out);
        assert_eq!(written["verdict"], verdict);
    };
    check("critical");
    host.apply(&[], 0);
    check("ok");
    host.write("/etc/qemu-persist/config.toml", "platforms = []");
    check("unknown");
}

#[test]
fn what_explain_writes_is_described() {
    let schema = Strict::read("explain");
    for text in ["exec format error, exited with code 139", "hello"] {
        schema.check_text(&run(&["explain", text, "--json"], None));
    }
    let written = schema.check_text(&sandbox!().qemu_persist(&["explain", "--last", "--json"]).out);
    assert_eq!(written["containers"], serde_json::json!([]));
}

#[test]
fn what_image_check_writes_is_described() {
    let schema = Strict::read("image-check");
    let registry = registries::Registry::plain().start();
    let content = &registry.content;
    content.index("app", "1", registries::Flavour::Attested, &[("linux", "amd64", ""), ("linux", "arm", "v7")]);
    content.image("single", "1", registries::Flavour::Docker, ("linux", "amd64", ""));
    content.chart("chart", "1");
    let names = ["app:1", "single:1", "chart:1", "absent:1"].map(|name| registry.reference(name));
    for host in ["--for=pi5", "--for=pi4", "--platform=amd64/v3", "--timeout=9"] {
        let mut arguments = vec!["image", "check", "--json", host, "no name"];
        arguments.extend(names.iter().map(String::as_str));
        let written = schema.check_text(&run(&arguments, None));
        assert_eq!(written["images"].as_array().unwrap().len(), 5);
    }
    schema.check_text(&sandbox!().qemu_persist(&["image", "check", "--json", &names[1]]).out);
}

#[test]
fn what_compose_check_writes_is_described() {
    let schema = Strict::read("compose-check");
    let registry = registries::Registry::plain().start();
    registry.content.index("mysql", "1", registries::Flavour::Attested, &[("linux", "amd64", "")]);
    registry.content.index("both", "1", registries::Flavour::Oci, &[("linux", "amd64", ""), ("linux", "arm64", "v8")]);
    let folder = tempfile::tempdir().unwrap();
    let [mysql, both] = ["mysql:1", "both:1"].map(|name| registry.reference(name));
    let file = format!(
        "services:\n  a: {{image: '{mysql}'}}\n  b: {{image: '{mysql}', platform: linux/amd64}}\n  c: {{image: '{both}', \
         platform: amd64}}\n  d: {{image: '{both}', platform: s390x}}\n  e: {{build: .}}\n  f: {{image: 'x y $UNSET'}}\n"
    );
    write(folder.path(), "compose.yaml", &file);
    let path = folder.path().join("compose.yaml");
    let written = schema.check_text(&run(&["compose", "check", "--json", "--for=pi5", path.to_str().unwrap()], None));
    let ids: Vec<_> =
        written["images"].as_array().unwrap().iter().map(|image| image["remarks"][0]["id"].as_str()).collect();
    let expected = ["platform-needed", "unfit-workload", "platform-needless", "platform-wrong"].map(Some);
    assert_eq!(ids, [&expected[..], &[None, None]].concat(), "{written:#}");
}

#[test]
fn host() {
    let schema = Strict::read("host");
    schema.check_text(&run(&["host", "--json"], None));
    let image = tempfile::tempdir().unwrap();
    schema.check_text(&run(&["host", "--json"], Some(image.path())));
    let host = sandbox!();
    schema.check_text(&host.qemu_persist(&["host", "--json"]).out);
}

#[test]
fn config() {
    let (show, check) = (Strict::read("config-show"), Strict::read("config-check"));
    let image = tempfile::tempdir().unwrap();
    let root = Some(image.path());
    show.check_text(&run(&["config", "show", "--json"], root));
    check.check_text(&run(&["config", "check", "--json"], root));
    let all = "platforms = ['linux/arm64']\nenable = ['riscv64']\ndisable = ['s390x']\ntake_over = true\n\
               credentials = true\nemulator = 'never'\nproof_max_age = '2days'\n[interpreters]\narm64 = '/q'\n\
               [selftest]\nruntime = 'all'\ntimeout = '2m'\n\
               [[handler]]\nname = 'mine'\nmagic = 'x\\x00'\ninterpreter = '/mine'\n";
    write(image.path(), "etc/qemu-persist/config.toml", all);
    let shown = show.check_text(&run(&["config", "show", "--json"], root));
    assert_eq!(shown["config"]["handler"][0]["name"], "mine");
    assert_eq!(check.check_text(&run(&["config", "check", "--json"], root))["valid"], true);
    write(image.path(), "etc/qemu-persist/config.toml", "platform = 1");
    assert_eq!(check.check_text(&run(&["config", "check", "--json"], root))["problems"][0]["line"], 1);
    std::fs::remove_file(image.path().join("etc/qemu-persist/config.toml")).unwrap();
    write(image.path(), "etc/qemu-persist/config.toml/file", "");
    assert!(check.check_text(&run(&["config", "check", "--json"], root))["problems"][0]["line"].is_null());
}
