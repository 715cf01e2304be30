// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading `[[handler]]`: a rule of the user's own, checked as every rule is.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Place;
use super::written::{Reader, Value};
use crate::binfmt::rule::{Flags, Pattern, Rule, RuleError, parse_bytes};

const KEYS: [&str; 6] = ["name", "magic", "mask", "offset", "interpreter", "flags"];

impl<'t> Reader<'t> {
    pub(super) fn handlers(&mut self, value: &Value<'t>) -> Vec<(Rule, Place)> {
        let DeValue::Array(list) = value.get_ref() else {
            return self.expected("handler", "written as [[handler]], in double brackets", value).unwrap_or_default();
        };
        let mut handlers: Vec<(Rule, Place)> = Vec::new();
        for item in list {
            let DeValue::Table(table) = item.get_ref() else {
                let _: Option<()> = self.expected("handler", "a table, [[handler]]", item);
                continue;
            };
            let Some((rule, span)) = self.handler(table, item.span()) else { continue };
            if handlers.iter().any(|(other, _)| other.name == rule.name) {
                self.add(span, format!("there are two handlers named \"{}\" in this file", rule.name));
            } else {
                let place = self.place(span);
                handlers.push((rule, place));
            }
        }
        handlers
    }

    /// One handler, and where its name is; none where any of it is wrong.
    fn handler(&mut self, table: &DeTable<'t>, whole: Range<usize>) -> Option<(Rule, Range<usize>)> {
        let before = self.problems.len();
        for (key, _) in table {
            if !KEYS.contains(&key.get_ref().as_ref()) {
                self.unknown_key(key, "[[handler]]", &KEYS, None);
            }
        }
        for required in ["name", "magic", "interpreter"] {
            if table.get(required).is_none() {
                self.add(whole.clone(), format!("this handler has no `{required}`"));
            }
        }
        let mut text = |key: &str| table.get(key).and_then(|value| self.string(key, value));
        let (name, interpreter, letters) = (text("name"), text("interpreter"), text("flags"));
        let magic = table.get("magic").and_then(|value| self.bytes("magic", value));
        let mask = table.get("mask").and_then(|value| self.bytes("mask", value));
        let offset = table.get("offset").and_then(|value| self.offset(value));
        let interpreter = PathBuf::from(interpreter.unwrap_or_default());
        let (flags, unknown) =
            letters.map_or_else(|| (default_flags(&interpreter), String::new()), Flags::parse_lenient);
        let span = |key: &str| table.get(key).map_or(whole.clone(), Spanned::span);
        if !unknown.is_empty() {
            self.add(span("flags"), RuleError::Flags(unknown).to_string());
        }
        if self.problems.len() > before {
            return None;
        }
        let magic = magic.unwrap_or_default();
        let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
        let pattern = Pattern { offset: offset.unwrap_or(0), magic, mask };
        let rule = Rule { name: name?.to_owned(), pattern, interpreter, flags };
        let Err(error) = rule.check() else { return Some((rule, span("name"))) };
        let key = match error {
            RuleError::Name(_) => "name",
            RuleError::Magic(_) => "magic",
            RuleError::Mask { .. } => "mask",
            RuleError::Offset(_) if table.get("offset").is_none() => "magic",
            RuleError::Offset(_) => "offset",
            RuleError::Interpreter(_) => "interpreter",
            _ => "",
        };
        self.add(span(key), error.to_string());
        None
    }

    /// Magic or mask, written as in binfmt.d.
    fn bytes(&mut self, key: &str, value: &Value<'t>) -> Option<Vec<u8>> {
        let text = self.string(key, value)?;
        // In double quotes TOML itself takes \x.., and makes characters of two bytes from \x80 on.
        let message = if text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            match parse_bytes(text) {
                Ok(bytes) => return Some(bytes),
                Err(text) => format!("`{key}` has a broken escape: \"{text}\" has to be characters and \\xNN"),
            }
        } else {
            format!("write `{key}` in single quotes, '\\x7fELF', so that TOML leaves its backslashes alone")
        };
        self.add(value.span(), message);
        None
    }

    fn offset(&mut self, value: &Value<'t>) -> Option<usize> {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.expected("offset", "a number of bytes", value);
        };
        let offset = usize::from_str_radix(number.as_str(), number.radix()).ok();
        if offset.is_none() {
            self.add(value.span(), RuleError::Offset(number.to_string()).to_string());
        }
        offset
    }
}

/// What a handler gets that states no flags: `F`, without which it does not work in containers, and
/// `P` for the interpreters that Debian names `*-binfmt-P`, since those refuse to run without it.
fn default_flags(interpreter: &Path) -> Flags {
    let name = interpreter.file_name().and_then(|name| name.to_str());
    let preserve_argv0 = name.is_some_and(|name| name.ends_with("-binfmt-P"));
    Flags { preserve_argv0, fix_binary: true, ..Flags::default() }
}
