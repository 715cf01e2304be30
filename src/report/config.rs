// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration as it is in effect, in the form in which it can be written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use toml::{Table, Value};

use super::escape;
use crate::binfmt::rule::escape_bytes;
use crate::config::{Config, ConfigError, Loaded};
use crate::files::Root;
use crate::platform::Platform;

/// `config show --json`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Shown {
    /// The version of this form.
    schema: u32,
    /// The keys and values of the effective configuration, as a file would have them.
    #[cfg_attr(feature = "assets", schemars(schema_with = "super::schema::configuration"))]
    config: Table,
    /// The file that set each key; what no file sets is missing.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    origins: BTreeMap<String, PathBuf>,
    /// The files that were read, in their order.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    files: Vec<PathBuf>,
}

/// `config check --json`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Checked {
    /// The version of this form.
    schema: u32,
    /// Whether the configuration can be used.
    valid: bool,
    /// The files that were read, in their order.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    files: Vec<PathBuf>,
    /// Everything that is wrong with them.
    problems: Vec<ShownProblem>,
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct ShownProblem {
    /// The file that it is in.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    file: PathBuf,
    /// From 1; none where the file could not be read at all.
    line: Option<usize>,
    /// In characters, from 1.
    column: Option<usize>,
    /// What is wrong.
    message: String,
}

impl Shown {
    /// What there is to show of `loaded`, which was read from `root`.
    pub fn new(root: &Root, loaded: &Loaded) -> Self {
        let list: Vec<_> = handlers(&loaded.config).into_iter().map(|(_, table)| Value::Table(table)).collect();
        let mut config = Table::from_iter([
            ("interpreters".to_owned(), Table::new().into()),
            ("selftest".to_owned(), Table::new().into()),
            ("service".to_owned(), Table::new().into()),
            ("handler".to_owned(), list.into()),
        ]);
        for entry in entries(&loaded.config) {
            match config.get_mut(entry.table).and_then(Value::as_table_mut) {
                Some(table) => table.insert(entry.key, entry.value),
                None => config.insert(entry.key, entry.value),
            };
        }
        let origins = loaded.origins.iter().map(|(key, path)| (key.clone(), root.outside(path))).collect();
        Self { schema: 1, config, origins, files: loaded.files.iter().map(|f| root.outside(f)).collect() }
    }
}

impl Checked {
    /// What there is to say of `result`, which was read from `root`.
    pub fn new(root: &Root, result: &Result<Loaded, ConfigError>) -> Self {
        let (files, problems) = match result {
            Ok(loaded) => (loaded.files.iter().map(|f| root.outside(f)).collect(), Vec::new()),
            Err(e) => (e.files.clone(), e.problems.clone()),
        };
        let problems = problems.into_iter().map(|problem| ShownProblem {
            line: problem.place.spot.as_ref().map(|spot| spot.line),
            column: problem.place.spot.as_ref().map(|spot| spot.column),
            file: problem.place.file,
            message: problem.message,
        });
        Self { schema: 1, valid: result.is_ok(), files, problems: problems.collect() }
    }
}

/// One line of the configuration.
struct Entry {
    table: &'static str,
    key: String,
    value: Value,
    /// The keys in [`Loaded::origins`] that it comes from.
    origins: Vec<String>,
}

fn entries(config: &Config) -> Vec<Entry> {
    let list = |platforms: &[&'static Platform]| Value::from(platforms.iter().map(|p| p.oci).collect::<Vec<_>>());
    let duration = |duration: Duration| Value::from(humantime::format_duration(duration).to_string());
    let plain = |table: &'static str, key: &str, value: Value| {
        let origin = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        Entry { table, key: key.to_owned(), value, origins: vec![origin] }
    };
    let toggle = |key: &str, platforms: &[&'static Platform]| Entry {
        origins: platforms.iter().map(|p| format!("{key}.{}", p.oci)).collect(),
        ..plain("", key, list(platforms))
    };
    let path = |path: &PathBuf| Value::from(path.to_string_lossy().into_owned());
    let mut entries = vec![
        plain("", "platforms", config.platforms.as_ref().map_or_else(|| Value::from("auto"), |p| list(p))),
        toggle("enable", &config.enable),
        toggle("disable", &config.disable),
        plain("", "take_over", config.take_over.into()),
        plain("", "credentials", config.credentials.into()),
        plain("", "emulator", config.emulator.name().into()),
        plain("", "proof_max_age", duration(config.proof_max_age)),
    ];
    entries.extend(config.interpreters.iter().map(|(p, interpreter)| plain("interpreters", p.oci, path(interpreter))));
    entries.push(plain("selftest", "runtime", config.selftest_runtime.name().into()));
    entries.push(plain("selftest", "timeout", duration(config.selftest_timeout)));
    entries.push(plain("selftest", "large_pages_are_critical", config.large_pages_are_critical.into()));
    entries.push(plain("service", "back_off_after", i64::from(config.back_off_after).into()));
    entries
}

/// Each handler's name and table.
fn handlers(config: &Config) -> Vec<(&str, Table)> {
    let table = |rule: &crate::binfmt::rule::Rule| {
        Table::from_iter([
            ("name".to_owned(), Value::from(rule.name.as_str())),
            ("offset".to_owned(), Value::from(i64::try_from(rule.pattern.offset).unwrap_or_default())),
            ("magic".to_owned(), Value::from(escape_bytes(&rule.pattern.magic))),
            ("mask".to_owned(), Value::from(escape_bytes(&rule.pattern.mask))),
            ("interpreter".to_owned(), Value::from(rule.interpreter.to_string_lossy().into_owned())),
            ("flags".to_owned(), Value::from(rule.flags.to_string())),
        ])
    };
    config.handlers.iter().map(|handler| (handler.rule.name.as_str(), table(&handler.rule))).collect()
}

/// The configuration as one file that says the same, with a comment that says where each value
/// comes from.
pub fn toml(root: &Root, loaded: &Loaded) -> String {
    let origin = |keys: &[String]| {
        let mut files: Vec<_> = keys.iter().filter_map(|key| loaded.origins.get(key)).collect();
        files.dedup();
        match files.as_slice() {
            [] => "default".to_owned(),
            files => files.iter().map(|f| escape(&root.outside(f).to_string_lossy())).collect::<Vec<_>>().join(", "),
        }
    };
    let mut text = String::from("# The configuration in effect, and where each value comes from.\n");
    let mut table = "";
    for entry in entries(&loaded.config) {
        if entry.table != table {
            table = entry.table;
            let _ = writeln!(text, "\n[{table}]");
        }
        let line = format!("{} = {}", entry.key, entry.value);
        let _ = writeln!(text, "{line:<30}  # {}", origin(&entry.origins));
    }
    for (name, table) in handlers(&loaded.config) {
        let _ = writeln!(text, "\n[[handler]]  # {}", origin(&[format!("handler.{name}")]));
        for key in ["name", "offset", "magic", "mask", "interpreter", "flags"] {
            if let Some(value) = table.get(key) {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_in_effect_is_a_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        let write = |path: &str, text: &str| root.write_whole(std::path::Path::new(path), text.as_bytes()).unwrap();
        write("/usr/lib/qemu-persist/config.toml", "enable = ['arm']\n[selftest]\ntimeout = '2m'");
        write("/etc/qemu-persist/config.toml.d/10-x.toml", "enable = ['s390x']\n[interpreters]\narm = \"/q'\"");
        let handler = "[[handler]]\nname = 'mine'\nmagic = 'x\\x00'\ninterpreter = '/mine'";
        write("/etc/qemu-persist/config.toml.d/20-y.toml", handler);
        let loaded = Config::load(&root).unwrap();
        let top = root.outside(std::path::Path::new("/")).display().to_string();
        let text = toml(&root, &loaded);
        let expected = r#"# The configuration in effect, and where each value comes from.
platforms = "auto"              # default
enable = ["arm", "s390x"]       # TOP/usr/lib/qemu-persist/config.toml, TOP/etc/qemu-persist/config.toml.d/10-x.toml
disable = []                    # default
take_over = false               # default
credentials = false             # default
emulator = "auto"               # default
proof_max_age = "8days"         # default

[interpreters]
arm = "/q'"                     # TOP/etc/qemu-persist/config.toml.d/10-x.toml

[selftest]
runtime = "auto"                # default
timeout = "2m"                  # TOP/usr/lib/qemu-persist/config.toml
large_pages_are_critical = false  # default

[service]
back_off_after = 10             # default

[[handler]]  # TOP/etc/qemu-persist/config.toml.d/20-y.toml
name = "mine"
offset = 0
magic = '\x78\x00'
mask = '\xff\xff'
interpreter = "/mine"
flags = "F"
"#;
        assert_eq!(text, expected.replace("TOP/", &top));
        let again = Config::from_files([(std::path::Path::new("shown"), text.as_bytes())]).unwrap();
        assert_eq!(again.config, loaded.config);
        let json = serde_json::to_value(Shown::new(&root, &loaded)).unwrap();
        let table: Table = text.parse().unwrap();
        assert_eq!(json["config"], serde_json::to_value(table).unwrap());
        assert_eq!(json["schema"], 1);
        assert_eq!(json["files"].as_array().unwrap().len(), 3);
        assert_eq!(json["origins"]["handler.mine"], format!("{top}etc/qemu-persist/config.toml.d/20-y.toml"));
    }

    #[test]
    fn checking_tells_every_problem() {
        let root = Root::live();
        let json = |files: &[(&str, &str)]| {
            let files = files.iter().map(|(path, text)| (std::path::Path::new(*path), text.as_bytes()));
            serde_json::to_value(Checked::new(&root, &Config::from_files(files))).unwrap()
        };
        let valid = serde_json::json!({ "schema": 1, "valid": true, "files": ["/a"], "problems": [] });
        assert_eq!(json(&[("/a", "take_over = true")]), valid);
        let problem = serde_json::json!({
            "file": "/b",
            "line": 2,
            "column": 9,
            "message": "`enable` has to be a list of platforms such as [\"amd64\"], and this is true or false",
        });
        let broken = serde_json::json!({ "schema": 1, "valid": false, "files": ["/a", "/b"], "problems": [problem] });
        assert_eq!(json(&[("/a", ""), ("/b", "\nenable= true")]), broken);
    }
}
