// SPDX-License-Identifier: MIT OR Apache-2.0
//! Variables in values: `$NAME`, `${NAME}` and what may stand behind a name in the braces
//! (docs.docker.com/reference/compose-file/interpolation). Dockerfiles have nearly the same.

use std::collections::BTreeSet;

use super::yaml::{Budget, TooLarge};

/// How deep defaults may stand in defaults.
const DEEPEST: usize = 32;

/// Why a text cannot be interpolated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No variable stands behind a `$` that begins one.
    Form,
    /// `${NAME:?message}`, and it is not set.
    Required { name: String, message: String },
    /// It is nested too deeply, or the result too large.
    Large,
}

impl From<TooLarge> for Fault {
    fn from(_: TooLarge) -> Self {
        Self::Large
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Form => f.write_str("`$` stands for a variable, and none is named here; a `$` of its own is `$$`"),
            Self::Required { name, message } if message.is_empty() => {
                write!(f, "the variable {name} is required, and is not set")
            }
            Self::Required { name, message } => write!(f, "the variable {name} is required, and is not set: {message}"),
            Self::Large => f.write_str("its variables make it too large"),
        }
    }
}

/// Whose grammar it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `$$` is a `$`.
    Compose,
    /// `\$` is a `$`.
    Dockerfile,
}

/// What interpolation looks up, and what it finds out.
pub(super) struct Interpolation<'a> {
    pub(super) dialect: Dialect,
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Variables that were asked for and are not set, where nothing says what then.
    pub(super) unset: &'a mut BTreeSet<String>,
    pub(super) budget: &'a mut Budget,
}

impl Interpolation<'_> {
    /// `text` with all its variables replaced.
    pub(super) fn apply(&mut self, text: &str) -> Result<String, Fault> {
        self.at_depth(text, 0)
    }

    fn at_depth(&mut self, text: &str, depth: usize) -> Result<String, Fault> {
        if depth > DEEPEST {
            return Err(Fault::Large);
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['$', '\\']) {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if rest[at..].starts_with('\\') {
                let taken = after.chars().next().filter(|_| self.dialect == Dialect::Dockerfile);
                out.push(taken.unwrap_or('\\'));
                rest = &after[taken.map_or(0, char::len_utf8)..];
                continue;
            }
            let name = name_of(after);
            rest = if let Some(inner) = after.strip_prefix('{') {
                let end = closing(inner).ok_or(Fault::Form)?;
                let value = self.braced(&inner[..end], depth)?;
                self.budget.take_text(value.len())?;
                out.push_str(&value);
                &inner[end + 1..]
            } else if !name.is_empty() {
                let value = self.value(name);
                self.budget.take_text(value.len())?;
                out.push_str(&value);
                &after[name.len()..]
            } else {
                out.push('$');
                after.strip_prefix('$').filter(|_| self.dialect == Dialect::Compose).unwrap_or(after)
            };
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            self.unset.insert(name.to_owned());
            String::new()
        })
    }

    /// What stands in the braces: a name, and what to do where it is set, empty or not set.
    fn braced(&mut self, inner: &str, depth: usize) -> Result<String, Fault> {
        let name = name_of(inner);
        if name.is_empty() {
            return Err(Fault::Form);
        }
        let rest = &inner[name.len()..];
        if rest.is_empty() {
            return Ok(self.value(name));
        }
        let (counts_empty, operator) = rest.strip_prefix(':').map_or((false, rest), |operator| (true, operator));
        let mut chars = operator.chars();
        let operator = chars.next();
        let word = chars.as_str();
        let value = (self.lookup)(name);
        let is_there = value.as_ref().is_some_and(|value| !(counts_empty && value.is_empty()));
        match (operator, is_there) {
            (Some('-' | '?'), true) | (Some('+'), false) => Ok(value.unwrap_or_default()),
            (Some('-'), false) | (Some('+'), true) => self.at_depth(word, depth + 1),
            (Some('?'), false) => {
                let message = self.at_depth(word, depth + 1)?;
                Err(Fault::Required { name: name.to_owned(), message })
            }
            _ => Err(Fault::Form),
        }
    }
}

fn name_of(text: &str) -> &str {
    let is_part = |(at, c): &(usize, char)| *c == '_' || c.is_ascii_alphabetic() || (*at > 0 && c.is_ascii_digit());
    let end = text.char_indices().take_while(is_part).last().map_or(0, |(at, _)| at + 1);
    &text[..end]
}

/// Where the brace closes that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'}' => open -= 1,
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, dialect: Dialect) -> (Result<String, Fault>, Vec<String>) {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            "b_1" => Some("$A".to_owned()),
            _ => None,
        };
        let mut unset = BTreeSet::new();
        let mut budget = Budget::new();
        let out = Interpolation { dialect, lookup: &lookup, unset: &mut unset, budget: &mut budget }.apply(text);
        (out, unset.into_iter().collect())
    }

    /// The same rows are put to the real Compose in tests/compose.
    #[test]
    fn the_whole_grammar() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A-${A}", "a-a"),
            ("$b_1.x", "$A.x"),
            ("${A:-d}${A-d}", "aa"),
            ("${EMPTY:-d}|${EMPTY-d}", "d|"),
            ("${NO:-d}|${NO-d}|${NO:-}", "d|d|"),
            ("${A:+r}|${A+r}", "r|r"),
            ("${EMPTY:+r}|${EMPTY+r}", "|r"),
            ("${NO:+r}|${NO+r}", "|"),
            ("${A:?e}|${EMPTY?e}", "a|"),
            ("${NO:-${NO2:-${A}}}", "a"),
            ("${NO:-a:b-c+d?e}", "a:b-c+d?e"),
            ("${A:+${EMPTY:-x}}y", "xy"),
            ("$$A $${A} $$", "$A ${A} $"),
            ("5$ $1 $.", "5$ $1 $."),
            ("${NO:-{x}", "{x"),
            ("\\$A", "\\a"),
            ("ü$A", "üa"),
        ] {
            assert_eq!(apply(text, Dialect::Compose), (Ok(expected.to_owned()), vec![]), "{text}");
        }
        assert_eq!(apply("\\$A$A\\\\$$A", Dialect::Dockerfile).0, Ok("$Aa\\$a".to_owned()));
    }

    #[test]
    fn faults_and_what_is_not_set() {
        for text in ["${}", "${", "${A", "${1}", "${A/b}", "${A:}", "${ A}"] {
            assert_eq!(apply(text, Dialect::Compose).0, Err(Fault::Form), "{text}");
        }
        let required = |name: &str, message: &str| Fault::Required { name: name.into(), message: message.into() };
        assert_eq!(apply("${NO:?set ${A}}", Dialect::Compose).0, Err(required("NO", "set a")));
        assert_eq!(apply("${EMPTY:?}", Dialect::Compose).0, Err(required("EMPTY", "")));
        assert_eq!(apply("$NO ${NO2}", Dialect::Compose), (Ok(" ".into()), vec!["NO".into(), "NO2".into()]));
        assert_eq!(apply(&"${N:-".repeat(10_000), Dialect::Compose).0, Err(Fault::Form));
        let deep = format!("{}{}", "${N:-".repeat(100), "}".repeat(100));
        assert_eq!(apply(&deep, Dialect::Compose).0, Err(Fault::Large));
    }
}
