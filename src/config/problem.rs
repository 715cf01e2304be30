// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a configuration, and where: file, line and column, shown as rustc does.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::report::escape;

/// The most characters of a line that are shown.
const SHOWN: usize = 100;
/// How many characters stay in view before the place, where a line is longer than that.
const BEFORE: usize = 40;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as the person can open it (an image's files with the image's own path).
    pub file: PathBuf,
    /// Where in it; none where it could not be read at all.
    pub spot: Option<Spot>,
}

/// A range of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The line, from 1.
    pub line: usize,
    /// The first character, from 1.
    pub column: usize,
    /// The line's text, in characters that can be shown; of a long line the part around the place.
    text: String,
    /// How far the marked part is from the start of that text, in characters.
    indent: usize,
    /// How many characters are marked.
    width: usize,
}

impl Place {
    /// The bytes `span` of `text`, which is the content of `file`. A span that goes on over the
    /// end of its first line is cut there, and one behind the text is its end.
    pub(super) fn new(file: &Path, text: &str, span: Range<usize>) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        // What is missing at the end of a file is missing behind its last line.
        if start == text.len() && span.start >= text.len() {
            start = text.trim_end_matches(['\n', '\r']).len();
        }
        let from = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let to = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line = memchr::memchr_iter(b'\n', &text.as_bytes()[..from]).count() + 1;
        let column = text[from..start].chars().count() + 1;
        let mut end = span.end.clamp(start, to);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let cut = text[from..start].char_indices().rev().nth(BEFORE).filter(|_| to - from > SHOWN);
        let first = cut.map_or(from, |(at, c)| from + at + c.len_utf8());
        let show = |part: &str| escape(&part.trim_end_matches('\r').replace('\t', "    "));
        let lead = if cut.is_some() { "…" } else { "" };
        let before = format!("{lead}{}", show(&text[first..start]));
        let marked = show(&text[start..end]);
        let mut shown = format!("{before}{marked}{}", show(&text[end..to]));
        if let Some((at, _)) = shown.char_indices().nth(SHOWN) {
            shown.truncate(at);
            shown.push('…');
        }
        let indent = before.chars().count();
        let room = shown.chars().count().saturating_sub(indent).max(1);
        let width = marked.chars().count().clamp(1, room);
        Self { file: file.to_owned(), spot: Some(Spot { line, column, text: shown, indent, width }) }
    }

    /// The file as a whole.
    pub(super) fn whole(file: &Path) -> Self {
        Self { file: file.to_owned(), spot: None }
    }
}

impl fmt::Display for Place {
    /// `file:line:column`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.file.to_string_lossy()))?;
        self.spot.as_ref().map_or(Ok(()), |spot| write!(f, ":{}:{}", spot.line, spot.column))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what was expected, in one line without control characters.
    pub message: String,
}

impl Problem {
    pub(super) fn new(place: Place, message: impl AsRef<str>) -> Self {
        Self { place, message: escape(message.as_ref()) }
    }
}

impl fmt::Display for Problem {
    /// The message, the place, the line and a caret below it; no newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Spot { line, text, indent, width, .. }) = &self.place.spot else {
            return write!(f, "{}\n --> {}", self.message, self.place);
        };
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{}\n{margin}--> {}\n{margin} |", self.message, self.place)?;
        writeln!(f, "{}", format!("{number} | {text}").trim_end())?;
        write!(f, "{margin} | {}{}", " ".repeat(*indent), "^".repeat(*width))
    }
}

/// Why a configuration cannot be used: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// What is wrong, in the order in which the files are read; never empty.
    pub problems: Vec<Problem>,
    /// The files that were read, as the person can open them.
    pub files: Vec<PathBuf>,
}

impl ConfigError {
    /// The first problem in one line, `file:line:column: message`, and how many more there are.
    pub fn summary(&self) -> String {
        let first = self.problems.first().map(|p| format!("{}: {}", p.place, p.message)).unwrap_or_default();
        match self.problems.len() {
            0 | 1 => first,
            n => format!("{first} (and {} more)", n - 1),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = self.problems.as_slice() {
            return write!(f, "{one}");
        }
        write!(f, "the configuration has {} problems", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n\n{problem}"))
    }
}
