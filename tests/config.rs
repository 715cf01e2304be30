// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist config` as a script runs it.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;

fn image(main: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("etc/qemu-persist")).unwrap();
    std::fs::write(dir.path().join("etc/qemu-persist/config.toml"), main).unwrap();
    dir
}

fn run(verb: &[&str], root: &Path) -> (i32, String, String) {
    let mut command = Command::cargo_bin("qemu-persist").unwrap();
    let output = command.arg("config").args(verb).arg("--root").arg(root).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_good_configuration_is_0_and_a_broken_one_78() {
    let good = image("take_over = true");
    let top = good.path().canonicalize().unwrap().display().to_string();
    let expected = format!("{top}/etc/qemu-persist/config.toml: ok\n");
    assert_eq!(run(&["check"], good.path()), (0, expected, String::new()));
    let (code, shown, errors) = run(&["show"], good.path());
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(
        shown.contains(&format!("take_over = true                # {top}/etc/qemu-persist/config.toml\n")),
        "{shown}"
    );

    let broken = image("takeover = true");
    let top = broken.path().canonicalize().unwrap().display().to_string();
    let errors = format!(
        "error: there is no key `takeover`: did you mean `take_over`?\n --> {top}/etc/qemu-persist/config.toml:1:1\n  \
         |\n1 | takeover = true\n  | ^^^^^^^^\n"
    );
    assert_eq!(run(&["check"], broken.path()), (78, String::new(), errors.clone()));
    assert_eq!(run(&["show"], broken.path()), (78, String::new(), errors));
}

#[test]
fn json_is_alone_on_stdout() {
    let broken = image("takeover = true");
    let (code, shown, errors) = run(&["check", "--json"], broken.path());
    assert_eq!((code, errors.as_str()), (78, ""));
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&json["valid"], &json["problems"][0]["line"]), (&false.into(), &1.into()));

    let empty = tempfile::tempdir().unwrap();
    assert_eq!(run(&["check"], empty.path()).1, "no configuration files: the defaults are in effect\n");
    let (code, shown, _) = run(&["show", "--json"], empty.path());
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &json["config"]["platforms"], &json["origins"]), (0, &"auto".into(), &serde_json::json!({})));
}
