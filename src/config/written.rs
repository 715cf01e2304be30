// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was written: one file's keys, all of them optional, and everything that is wrong with them.

use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::{Place, Problem};
use super::{Emulator, Runtime};
use crate::binfmt::rule::{Flags, Pattern, Rule};
use crate::platform::{PLATFORMS, Platform};

/// One file's content. A key that is missing or wrong is none.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) platforms: Option<Asked>,
    pub(super) enable: Vec<&'static Platform>,
    pub(super) disable: Vec<&'static Platform>,
    pub(super) take_over: Option<bool>,
    pub(super) credentials: Option<bool>,
    pub(super) emulator: Option<Emulator>,
    pub(super) proof_max_age: Option<Duration>,
    pub(super) interpreters: Vec<(&'static Platform, PathBuf)>,
    pub(super) selftest_runtime: Option<Runtime>,
    pub(super) selftest_timeout: Option<Duration>,
    pub(super) large_pages_are_critical: Option<bool>,
    pub(super) back_off_after: Option<u32>,
    /// Each with the place of its name.
    pub(super) handlers: Vec<(Rule, Place)>,
}

/// Which platforms are asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// `"auto"`: what the host is for.
    Auto,
    /// These.
    Listed(Vec<&'static Platform>),
}

impl Written {
    /// Whether nothing but `enable` and `disable` is set.
    pub(super) fn only_toggles(&self) -> bool {
        let Self { platforms, take_over, credentials, emulator, proof_max_age, interpreters, .. } = self;
        let Self { selftest_runtime, selftest_timeout, large_pages_are_critical, back_off_after, handlers, .. } = self;
        platforms.is_none()
            && (take_over, credentials, emulator, proof_max_age) == (&None, &None, &None, &None)
            && (selftest_runtime, selftest_timeout, large_pages_are_critical) == (&None, &None, &None)
            && back_off_after.is_none()
            && interpreters.is_empty()
            && handlers.is_empty()
    }
}

/// The keys outside of tables, and the tables.
const KEYS: [&str; 11] = [
    "platforms",
    "enable",
    "disable",
    "take_over",
    "credentials",
    "emulator",
    "proof_max_age",
    "interpreters",
    "selftest",
    "service",
    "handler",
];
const SELFTEST_KEYS: [&str; 3] = ["runtime", "timeout", "large_pages_are_critical"];
const SERVICE_KEYS: [&str; 1] = ["back_off_after"];

/// More repairs in a row than this are no limit.
const MOST_REPAIRS: i64 = 1_000_000;

/// Longer durations than this are mistakes, and would overflow clocks: a hundred years as humantime
/// counts them, of 365.25 days.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// Reads `content`, which is that of `file` (its name in messages), and adds what is wrong to
/// `problems`. Of a file that is no TOML only that is told, since the rest would be guesswork.
pub(super) fn parse(file: &Path, content: &[u8], problems: &mut Vec<Problem>) -> Written {
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(e) => {
            let shown = String::from_utf8_lossy(content);
            // Everything before the wrong byte is the same in the lossy text.
            let place = Place::new(file, &shown, e.valid_up_to()..e.valid_up_to() + 1);
            problems.push(Problem::new(place, "this byte is no text in UTF-8, as TOML has to be"));
            return Written::default();
        }
    };
    let mut reader = Reader { file, text, problems: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut written = Written::default();
    if errors.is_empty() {
        written = reader.document(table.get_ref());
    }
    for error in &errors {
        reader.add(error.span().unwrap_or(text.len()..text.len()), format!("this is no TOML: {}", error.message()));
    }
    reader.problems.sort_by_key(|(start, _)| *start);
    // After a mistake in the syntax, what follows on the line is mostly an echo of it.
    if !errors.is_empty() {
        reader.problems.dedup_by_key(|(_, problem)| problem.place.spot.as_ref().map(|spot| spot.line));
    }
    problems.extend(reader.problems.into_iter().map(|(_, problem)| problem));
    written
}

pub(super) struct Reader<'t> {
    file: &'t Path,
    text: &'t str,
    /// With the byte that each begins at.
    pub(super) problems: Vec<(usize, Problem)>,
}

impl<'t> Reader<'t> {
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.file, self.text, span)
    }

    pub(super) fn add(&mut self, span: Range<usize>, message: impl AsRef<str>) {
        self.problems.push((span.start, Problem::new(self.place(span), message)));
    }

    pub(super) fn expected<T>(&mut self, key: &str, what: impl Display, value: &Value<'_>) -> Option<T> {
        self.add(value.span(), format!("`{key}` has to be {what}, and this is {}", kind(value.get_ref())));
        None
    }

    fn document(&mut self, table: &DeTable<'t>) -> Written {
        let mut written = Written::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "platforms" => written.platforms = self.platforms_or_auto(value),
                "enable" => written.enable = self.platforms("enable", value).unwrap_or_default(),
                "disable" => written.disable = self.platforms("disable", value).unwrap_or_default(),
                "take_over" => written.take_over = self.boolean("take_over", value),
                "credentials" => written.credentials = self.boolean("credentials", value),
                "emulator" => written.emulator = self.emulator(value),
                "proof_max_age" => written.proof_max_age = self.duration("proof_max_age", value),
                "interpreters" => written.interpreters = self.interpreters(value),
                "selftest" => self.selftest(value, &mut written),
                "service" => self.service(value, &mut written),
                "handler" => written.handlers = self.handlers(value),
                other => {
                    let tables = [("selftest", &SELFTEST_KEYS[..]), ("service", &SERVICE_KEYS)];
                    let table = tables.into_iter().find(|(_, keys)| keys.contains(&other));
                    let inside = table.map(|(table, _)| format!("`{table}.{other}`"));
                    self.unknown_key(key, "", &KEYS, inside);
                }
            }
        }
        self.contradictions(table, &written);
        written
    }

    /// Says that there is no such key in `table`, and which was meant; `instead` where that is known.
    pub(super) fn unknown_key(
        &mut self,
        key: &Spanned<toml::de::DeString<'_>>,
        table: &str,
        known: &[&str],
        instead: Option<String>,
    ) {
        let name = key.get_ref();
        let within = if table.is_empty() { String::new() } else { format!(" in {table}") };
        let help = match instead.or_else(|| nearest(name, known).map(|near| format!("`{near}`"))) {
            Some(near) => format!("did you mean {near}?"),
            // TOML's trap: what stands below a table's header belongs to the table.
            None if !table.is_empty() && KEYS.contains(&name.as_ref()) => {
                "move it above the file's first [table], since it belongs to none".to_owned()
            }
            None => format!("the keys there are {}", known.join(", ")),
        };
        self.add(key.span(), format!("there is no key `{name}`{within}: {help}"));
    }

    /// A platform that one file both enables and disables.
    fn contradictions(&mut self, table: &DeTable<'t>, written: &Written) {
        let both = written.enable.iter().find(|p| written.disable.contains(p));
        if let (Some(platform), Some(value)) = (both, table.get("disable")) {
            let message = format!("{platform} is in both `enable` and `disable` of this file: take it out of one");
            self.add(value.span(), message);
        }
    }

    fn boolean(&mut self, key: &str, value: &Value<'t>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(set) => Some(*set),
            _ => self.expected(key, "true or false", value),
        }
    }

    pub(super) fn string<'v>(&mut self, key: &str, value: &'v Value<'t>) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => self.expected(key, "a text in quotes", value),
        }
    }

    fn table<'v>(&mut self, key: &str, value: &'v Value<'t>) -> Option<&'v DeTable<'t>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => self.expected(key, format!("a table, [{key}]"), value),
        }
    }

    fn duration(&mut self, key: &str, value: &Value<'t>) -> Option<Duration> {
        let what = "a duration such as \"90s\", \"2h 30m\" or \"8d\"";
        let DeValue::String(text) = value.get_ref() else { return self.expected(key, what, value) };
        let message = match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => format!("`{key}` has to be longer than nothing"),
            Ok(duration) if duration > LONGEST => format!("`{key}` has to be a hundred years at most"),
            Ok(duration) => return Some(duration),
            Err(e) => format!("`{key}` has to be {what}: {e}"),
        };
        self.add(value.span(), message);
        None
    }

    fn platform(&mut self, name: &str, span: Range<usize>) -> Option<&'static Platform> {
        let platform = Platform::named(name);
        if platform.is_none() {
            let names: Vec<_> = PLATFORMS.iter().flat_map(|p| [p.oci, p.qemu, p.debian]).collect();
            let help = match nearest(name.strip_prefix("linux/").unwrap_or(name), &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known are {}", PLATFORMS.each_ref().map(|p| p.oci).join(", ")),
            };
            self.add(span, format!("\"{name}\" is no platform that QEMU is known to run: {help}"));
        }
        platform
    }

    /// A list of platforms; none where any of it is wrong.
    fn platforms(&mut self, key: &str, value: &Value<'t>) -> Option<Vec<&'static Platform>> {
        let what = "a list of platforms such as [\"amd64\"]";
        match value.get_ref() {
            DeValue::Array(list) => self.platform_list(key, list),
            _ => self.expected(key, what, value),
        }
    }

    fn platform_list(&mut self, key: &str, list: &DeArray<'t>) -> Option<Vec<&'static Platform>> {
        let mut platforms = Vec::new();
        let mut whole = true;
        for item in list {
            let platform = match item.get_ref() {
                DeValue::String(name) => self.platform(name, item.span()),
                other => {
                    let message = format!("`{key}` is a list of texts such as \"amd64\", and this is {}", kind(other));
                    self.add(item.span(), message);
                    None
                }
            };
            match platform {
                Some(platform) if platforms.contains(&platform) => {}
                Some(platform) => platforms.push(platform),
                None => whole = false,
            }
        }
        whole.then_some(platforms)
    }

    fn platforms_or_auto(&mut self, value: &Value<'t>) -> Option<Asked> {
        match value.get_ref() {
            DeValue::String(text) if text == "auto" => Some(Asked::Auto),
            DeValue::Array(list) => self.platform_list("platforms", list).map(Asked::Listed),
            _ => self.expected("platforms", "\"auto\" or a list of platforms such as [\"amd64\"]", value),
        }
    }

    fn interpreters(&mut self, value: &Value<'t>) -> Vec<(&'static Platform, PathBuf)> {
        let mut interpreters: Vec<(&'static Platform, PathBuf)> = Vec::new();
        let Some(table) = self.table("interpreters", value) else { return interpreters };
        for (key, value) in table {
            let name = key.get_ref();
            if Platform::named(name).is_none() && KEYS.contains(&name.as_ref()) {
                self.unknown_key(key, "[interpreters]", &[], None);
                continue;
            }
            let platform = self.platform(name, key.span());
            let path = self.string(&format!("interpreters.{name}"), value);
            let (Some(platform), Some(path)) = (platform, path) else { continue };
            if interpreters.iter().any(|(other, _)| *other == platform) {
                self.add(key.span(), format!("the interpreter of {platform} is given twice in this file"));
                continue;
            }
            // The path has to fit into a rule for that platform, whatever its flags will be.
            let rule = Rule {
                name: platform.handler_name(),
                pattern: Pattern { offset: 0, magic: platform.magic.to_vec(), mask: platform.mask.to_vec() },
                interpreter: PathBuf::from(path),
                flags: Flags { preserve_argv0: true, open_binary: true, credentials: true, fix_binary: true },
            };
            match rule.check() {
                Ok(()) => interpreters.push((platform, rule.interpreter)),
                Err(e) => self.add(value.span(), e.to_string()),
            }
        }
        interpreters
    }

    fn selftest(&mut self, value: &Value<'t>, written: &mut Written) {
        let Some(table) = self.table("selftest", value) else { return };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "runtime" => written.selftest_runtime = self.runtime(value),
                "timeout" => written.selftest_timeout = self.duration("selftest.timeout", value),
                "large_pages_are_critical" => {
                    written.large_pages_are_critical = self.boolean("selftest.large_pages_are_critical", value);
                }
                _ => self.unknown_key(key, "[selftest]", &SELFTEST_KEYS, None),
            }
        }
    }

    fn service(&mut self, value: &Value<'t>, written: &mut Written) {
        let Some(table) = self.table("service", value) else { return };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "back_off_after" => written.back_off_after = self.repairs("service.back_off_after", value),
                _ => self.unknown_key(key, "[service]", &SERVICE_KEYS, None),
            }
        }
    }

    fn repairs(&mut self, key: &str, value: &Value<'t>) -> Option<u32> {
        let what = format!("a number of repairs from 1 to {MOST_REPAIRS}");
        let DeValue::Integer(number) = value.get_ref() else { return self.expected(key, what, value) };
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let number = number.filter(|number| (1..=MOST_REPAIRS).contains(number));
        if number.is_none() {
            self.add(value.span(), format!("`{key}` has to be {what}"));
        }
        number.and_then(|number| u32::try_from(number).ok())
    }

    fn runtime(&mut self, value: &Value<'t>) -> Option<Runtime> {
        let text = self.string("selftest.runtime", value)?;
        let runtime = Runtime::named(text);
        if runtime.is_none() {
            let help = which(text, &Runtime::ALL.map(Runtime::name));
            self.add(value.span(), format!("\"{text}\" is no runtime of the self-test: {help}"));
        }
        runtime
    }

    fn emulator(&mut self, value: &Value<'t>) -> Option<Emulator> {
        let text = self.string("emulator", value)?;
        let emulator = Emulator::named(text);
        if emulator.is_none() {
            let help = which(text, &Emulator::ALL.map(Emulator::name));
            self.add(value.span(), format!("\"{text}\" does not say when `emulator` is preferred: {help}"));
        }
        emulator
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Which of `known` may have been meant by `name`.
fn which(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("known are {}", known.join(", ")),
    }
}

/// The one of `known` that was probably meant by `name`.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if name.len() > 32 {
        return None;
    }
    let distance = |known: &&str| strsim::osa_distance(name, known);
    let best = known.iter().copied().min_by_key(distance)?;
    (distance(&best) <= (name.chars().count() / 3).max(1)).then_some(best)
}
