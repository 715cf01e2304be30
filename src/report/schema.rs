// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON Schemas of what `--json` writes, from the types that are written.
//!
//! They say what is there and leave open what else may come: the forms only grow, so that what
//! reads one has to ignore keys that it does not know.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{changes, compose, config, explain, fix, image, selftest, status};
use crate::assess::checks::{HOST_CHECKS, SERVICE_CHECKS, TARGET_CHECKS};
use crate::binfmt::rule::Flags;
use crate::config::{Emulator, Runtime};
use crate::finding::OTHERS;
use crate::host::survey::Survey;
use crate::platform::{PLATFORMS, Platform};

/// What some commands write with `--json`.
pub struct Form {
    /// Its name.
    pub name: &'static str,
    /// The commands, by what follows `qemu-persist`.
    pub commands: &'static [&'static str],
    /// Its schema.
    pub schema: Schema,
}

/// Every form.
pub fn forms() -> Vec<Form> {
    vec![
        form::<status::Report>("status", &["status"]),
        form::<changes::Report>("changes", &["apply", "remove", "enable", "disable"]),
        form::<selftest::Told<'static>>("selftest", &["selftest"]),
        form::<explain::Report>("explain", &["explain"]),
        form::<fix::Report>("fix", &["fix"]),
        form::<compose::Report>("compose-check", &["compose check"]),
        form::<image::Report>("image-check", &["image check"]),
        form::<Survey>("host", &["host"]),
        form::<config::Shown>("config-show", &["config show"]),
        form::<config::Checked>("config-check", &["config check"]),
    ]
}

fn form<T: JsonSchema>(name: &'static str, commands: &'static [&'static str]) -> Form {
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(RecursiveTransform(tidy));
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".into(), format!("qemu-persist {}: --json", commands.join(", ")).into());
    schema.insert("$comment".into(), "Keys and values are added, never changed: ignore those that are new.".into());
    Form { name, commands, schema }
}

/// Makes prose of what is documentation for Rust, and takes out Rust's names of number types.
fn tidy(schema: &mut Schema) {
    schema.remove("format");
    let Some(text) = schema.get("description").and_then(|text| text.as_str()) else { return };
    let text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ").replace(['<', '>'], "");
    schema.insert("description".into(), text.into());
}

/// What can run a container of the self-test.
pub(crate) fn runtime(_: &mut SchemaGenerator) -> Schema {
    let one = Runtime::ALL.into_iter().filter(|runtime| !matches!(runtime, Runtime::Auto | Runtime::All));
    json_schema!({ "type": "string", "enum": one.map(Runtime::name).collect::<Vec<_>>() })
}

/// Bytes as two digits each.
pub(crate) fn hexadecimal(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^([0-9a-f]{2})*$" })
}

/// The configuration in the form of its file, where every key is given.
pub(crate) fn configuration(generator: &mut SchemaGenerator) -> Schema {
    let short = json_schema!({ "type": "string", "enum": PLATFORMS.iter().map(|p| p.oci).collect::<Vec<_>>() });
    let list = json_schema!({ "type": "array", "items": short });
    let path = generator.subschema_for::<std::path::PathBuf>();
    let flags = generator.subschema_for::<Flags>();
    let text = json_schema!({ "type": "string" });
    let duration = json_schema!({ "type": "string", "description": "A time span, such as `30days` or `2m`." });
    let yes = json_schema!({ "type": "boolean" });
    let runtimes = Runtime::ALL.map(Runtime::name);
    let emulator = Emulator::ALL.map(Emulator::name);
    json_schema!({
        "type": "object",
        "required": ["platforms", "enable", "disable", "take_over", "credentials", "emulator", "proof_max_age",
            "interpreters", "selftest", "service", "handler"],
        "properties": {
            "platforms": { "anyOf": [{ "const": "auto" }, list] },
            "enable": list,
            "disable": list,
            "take_over": yes,
            "credentials": yes,
            "emulator": { "type": "string", "enum": emulator },
            "proof_max_age": duration,
            "interpreters": { "type": "object", "propertyNames": short, "additionalProperties": path },
            "selftest": {
                "type": "object",
                "required": ["runtime", "timeout", "large_pages_are_critical"],
                "properties": {
                    "runtime": { "type": "string", "enum": runtimes },
                    "timeout": duration,
                    "large_pages_are_critical": yes,
                },
            },
            "service": {
                "type": "object",
                "required": ["back_off_after"],
                "properties": { "back_off_after": { "type": "integer", "minimum": 1 } },
            },
            "handler": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "offset", "magic", "mask", "interpreter", "flags"],
                    "properties": {
                        "name": text,
                        "offset": { "type": "integer", "minimum": 0 },
                        "magic": text,
                        "mask": text,
                        "interpreter": path,
                        "flags": flags,
                    },
                },
            },
        },
    })
}

/// The id of a finding: one of those that are known.
pub(crate) struct FindingId;

impl JsonSchema for FindingId {
    fn schema_name() -> Cow<'static, str> {
        "FindingId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let whole = HOST_CHECKS.iter().chain(SERVICE_CHECKS).map(|c| c.id);
        let ids: Vec<_> =
            whole.chain(TARGET_CHECKS.iter().map(|c| c.id)).chain(OTHERS.iter().map(|(id, _)| *id)).collect();
        json_schema!({ "description": "Told in qemu-persist-findings(7).", "type": "string", "enum": ids })
    }
}

impl JsonSchema for Platform {
    fn schema_name() -> Cow<'static, str> {
        "Platform".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": PLATFORMS.iter().map(ToString::to_string).collect::<Vec<_>>() })
    }
}

impl JsonSchema for Flags {
    fn schema_name() -> Cow<'static, str> {
        "Flags".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The letters behind a rule that are set, of `P`, `O`, `C` and `F`.",
            "type": "string",
            "pattern": "^P?O?C?F?$",
        })
    }
}
