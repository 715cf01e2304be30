// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where events go: the journal, with their fields as fields of the journal, or standard error.
//!
//! Events are made with `tracing`. The journal's client implements `log`, so each event becomes one
//! record of `log` with its fields as key-values: systemd-journal-logger turns a key `platform`
//! into the journal's field `PLATFORM`.

use std::fmt;
use std::io::Write as _;

use log::kv::{Key, Source, Value, VisitSource};
use log::{Log, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::report::escape;

/// Sends every event of `least` and more important ones to the journal where this process is
/// connected to it (`JOURNAL_STREAM`), else to standard error. Later calls change nothing.
pub fn init(least: Level) {
    let journal = if connected_to_journal() { JournalLog::new().ok() } else { None };
    let _ = tracing::subscriber::set_global_default(Events { least, journal });
}

struct Events {
    least: Level,
    journal: Option<JournalLog>,
}

/// One event's message and fields, as text.
#[derive(Default)]
struct Fields {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }
}

impl Source for Fields {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), log::kv::Error> {
        for (key, value) in self.fields.iter().filter(|(_, value)| !value.is_empty()) {
            visitor.visit_pair(Key::from_str(key), Value::from(value.as_str()))?;
        }
        Ok(())
    }
}

/// Fields that tell people nothing that the message does not.
const FOR_PROGRAMS: [&str; 4] = ["message_id", "why", "before", "after"];

fn level_of(level: Level) -> log::Level {
    match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    }
}

impl Fields {
    /// One line for people: the message, and what belongs to it.
    fn line(&self, level: Level) -> String {
        let fields = self
            .fields
            .iter()
            .filter(|(key, value)| !FOR_PROGRAMS.contains(key) && !value.is_empty())
            .map(|(key, value)| format!(" {key}={}", escape(value)));
        format!("{}: {}{}", level.as_str().to_lowercase(), escape(&self.message), fields.collect::<String>())
    }
}

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.least
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let Some(journal) = &self.journal else {
            // Nothing can be done where standard error is gone.
            let _ = writeln!(std::io::stderr(), "{}", fields.line(level));
            return;
        };
        let target = event.metadata().target();
        journal.log(
            &Record::builder()
                .level(level_of(level))
                .target(target)
                .module_path(event.metadata().module_path())
                .file(event.metadata().file())
                .line(event.metadata().line())
                .key_values(&fields)
                .args(format_args!("{}", fields.message))
                .build(),
        );
    }

    // There are no spans: every event says by itself what it is about.
    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_message_first_and_nothing_that_moves_the_cursor() {
        let fields = Fields { message: "done".into(), fields: vec![("handler", "a\u{1b}[2J".into())] };
        assert_eq!(fields.line(Level::INFO), "info: done handler=a\\u{1b}[2J");
    }

    #[test]
    fn fields_become_key_values() {
        struct Pairs(Vec<(String, String)>);
        impl<'kvs> VisitSource<'kvs> for Pairs {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
                self.0.push((key.to_string(), value.to_string()));
                Ok(())
            }
        }
        let fields = Fields { message: "m".into(), fields: vec![("platform", "linux/amd64".into())] };
        let mut pairs = Pairs(Vec::new());
        fields.visit(&mut pairs).unwrap();
        assert_eq!(pairs.0, [("platform".to_owned(), "linux/amd64".to_owned())]);
    }
}
