// SPDX-License-Identifier: MIT OR Apache-2.0
//! Showing what was found: one file per form, and the screen they are written to.

pub mod changes;
#[cfg(feature = "client")]
pub mod compose;
#[cfg(feature = "client")]
pub mod config;
#[cfg(feature = "client")]
pub mod explain;
#[cfg(feature = "client")]
pub mod fix;
#[cfg(feature = "client")]
pub mod host;
#[cfg(feature = "client")]
pub mod image;
pub mod paths;
#[cfg(feature = "client")]
mod progress;
#[cfg(feature = "assets")]
pub mod schema;
#[cfg(feature = "client")]
pub mod selftest;
#[cfg(feature = "client")]
mod service;
#[cfg(feature = "client")]
pub mod status;

#[cfg(feature = "client")]
pub use progress::Progress;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::finding::{Finding, Health, Severity};

/// Where output for people and for scripts goes.
pub struct Screen {
    out: Box<dyn Write>,
    colour: bool,
    has_written: bool,
}

/// Somebody who may stop reading, as `head` does: what is written after that goes nowhere, and the
/// exit code stays that of what was found.
struct Reader<W>(W);

impl<W: Write> Reader<W> {
    fn unless_gone<T>(result: io::Result<T>, gone: T) -> io::Result<T> {
        match result {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(gone),
            other => other.map_err(|e| io::Error::new(e.kind(), format!("standard output: {e}"))),
        }
    }
}

impl<W: Write> Write for Reader<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::unless_gone(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::unless_gone(self.0.flush(), ())
    }
}

/// What a piece of text says, which a terminal shows by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Works, but look at it.
    Warning,
    /// Does not work.
    Bad,
    /// Not known.
    Unknown,
    /// Stands out.
    Strong,
    /// Steps back.
    Faint,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "1;31",
            Self::Unknown => "35",
            Self::Strong => "1",
            Self::Faint => "2",
        }
    }
}

impl From<Severity> for Tone {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Note => Self::Faint,
            Severity::Unknown => Self::Unknown,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Bad,
        }
    }
}

impl From<Health> for Tone {
    fn from(health: Health) -> Self {
        match health {
            Health::Ok => Self::Good,
            Health::Warning => Self::Warning,
            Health::Critical => Self::Bad,
            Health::Unknown => Self::Unknown,
        }
    }
}

/// `text` with every control character written as an escape, so that names and output of others
/// can neither move the cursor nor change the terminal.
pub fn escape(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        let direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || direction {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// `text` as one word of a shell's command line, for commands that people are told to run.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A time span in its largest unit.
pub fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..=89 => (seconds, "second"),
        90..=5399 => (seconds / 60, "minute"),
        5400..=129_599 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

impl Screen {
    /// Standard output: coloured on a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    pub fn stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|v: std::ffi::OsString| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let colour = io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        Self { out: Box::new(io::BufWriter::new(Reader(io::stdout()))), colour, has_written: false }
    }

    /// A screen that writes plain text to `out`, for tests.
    pub fn plain(out: impl Write + 'static) -> Self {
        Self { out: Box::new(out), colour: false, has_written: false }
    }

    /// `text`, which is to be escaped already, in the colour of `tone` where colours are shown.
    pub fn tint(&self, tone: Tone, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_owned() }
    }

    /// Writes one line.
    ///
    /// # Errors
    /// Those of writing.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.has_written = true;
        writeln!(self.out, "{}", text.as_ref().trim_end())
    }

    /// Writes a paragraph wrapped to 80 columns, its first line behind `first` and the others
    /// behind as many blanks. `first` is `width` columns wide, colours not counted.
    ///
    /// # Errors
    /// Those of writing.
    pub fn paragraph(&mut self, first: &str, width: usize, text: &str) -> io::Result<()> {
        let room = 80_usize.saturating_sub(width).max(20);
        let mut line = String::new();
        let mut lead = first.to_owned();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                self.line(format!("{lead}{line}"))?;
                lead = " ".repeat(width);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(format!("{lead}{line}"))
    }

    /// Writes one JSON object, alone on standard output.
    ///
    /// # Errors
    /// Those of writing.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.has_written = true;
        serde_json::to_writer_pretty(&mut self.out, value)?;
        writeln!(self.out)?;
        self.out.flush()
    }

    /// Whether anything was written.
    pub fn has_written(&self) -> bool {
        self.has_written
    }

    /// Flushes what was written.
    ///
    /// # Errors
    /// Those of writing.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Shows an error on standard error: what, and what lies behind it.
    #[cfg(feature = "client")]
    pub fn error(&mut self, error: &anyhow::Error) {
        let _ = self.out.flush();
        let mut text = String::from("error: ");
        for (depth, cause) in error.chain().enumerate() {
            let lead = if depth == 0 { "" } else { ": " };
            // A message may have lines of its own (a place in a file); each is escaped by itself.
            let shown: Vec<_> = cause.to_string().lines().map(escape).collect();
            let _ = write!(text, "{lead}{}", shown.join("\n"));
        }
        let _ = writeln!(io::stderr(), "{text}");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.out.flush();
    }
}

/// Shows one finding: what is wrong, and what to do.
///
/// # Errors
/// Those of writing.
pub fn finding(finding: &Finding, screen: &mut Screen) -> io::Result<()> {
    let (word, width) = match finding.severity {
        Severity::Note => ("note", 10),
        Severity::Unknown => ("unknown", 10),
        Severity::Warning => ("warning", 10),
        Severity::Critical => ("critical", 10),
    };
    let first = format!("{}{}", screen.tint(finding.severity.into(), word), " ".repeat(width - word.len()));
    let about = finding.subject.as_ref().map_or(String::new(), |subject| format!("{}: ", escape(subject)));
    // The configuration's own error comes in lines that show a place in a file.
    if finding.message.contains('\n') {
        screen.line(format!("{first}{about}"))?;
        for line in finding.message.lines() {
            screen.line(format!("{}{}", " ".repeat(width), escape(line)))?;
        }
        screen.line(format!("{}[{}]", " ".repeat(width), finding.id))?;
    } else {
        screen.paragraph(&first, width, &format!("{about}{} [{}]", escape(&finding.message), finding.id))?;
    }
    if finding.advice.is_empty() {
        return Ok(());
    }
    screen.paragraph(&" ".repeat(width), width, &escape(&finding.advice))
}

/// How far a block's text stands to the right of its beginning.
#[cfg(feature = "client")]
const INDENT: usize = 15;

/// Shows one row of a block: its label, and what there is to tell.
#[cfg(feature = "client")]
fn row(label: &str, text: &str, screen: &mut Screen) -> io::Result<()> {
    screen.paragraph(&format!("  {label:<w$}", w = INDENT - 2), INDENT, &escape(text))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What a test writes to and reads again.
    #[derive(Clone, Default)]
    pub(super) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(escape("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(escape("héllo – ok"), "héllo – ok");
    }

    #[test]
    fn what_a_shell_would_split_or_run_is_quoted() {
        for (text, word) in [
            ("/usr/bin/qemu-arm_1.2", "/usr/bin/qemu-arm_1.2"),
            ("", "''"),
            ("/my images/pi", "'/my images/pi'"),
            ("a'; rm b", r"'a'\''; rm b'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        for (seconds, text) in
            [(0, "0 seconds"), (1, "1 second"), (90, "1 minute"), (7200, "2 hours"), (200_000, "2 days")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
