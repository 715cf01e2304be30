// SPDX-License-Identifier: MIT OR Apache-2.0
//! `.env` files, as Compose reads them (docs.docker.com/compose/how-tos/environment-variables/variable-interpolation).
//!
//! Not by the crate dotenvy: it refuses what Compose takes and people write (`TZ=Europe/Vienna # here`, values with
//! spaces and without quotes, `KEY: value`), and knows no `${NAME:-default}`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::interpolate::{Dialect, Interpolation};
use super::surroundings::Variables;
use super::yaml::Budget;
use super::{ComposeError, Place};

/// Puts the variables of a `.env` file into `found`, the later of two of one name. What `outer` has wins where one names
/// another. Names that were asked for and are not set go to `unset`.
pub(super) fn read(
    text: &str,
    file: &Arc<Path>,
    outer: &Variables,
    found: &mut Variables,
    unset: &mut BTreeSet<String>,
    budget: &mut Budget,
) -> Result<(), ComposeError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = text;
    let (mut line, mut counted) = (1, 0);
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(());
        }
        let at = text.len() - rest.len();
        line += text[counted..at].matches('\n').count();
        counted = at;
        let wrong = |what: String| ComposeError::wrong(&Place { file: Arc::clone(file), line }, what);
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        if let Some(exported) = rest.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])) {
            rest = exported.trim_start_matches([' ', '\t']);
        }
        let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        if !name.chars().all(|c| c.is_alphanumeric() || "_.-[]".contains(c)) || name.is_empty() {
            return Err(wrong(format!("`{name}` is no name of a variable: NAME=VALUE is wanted")));
        }
        if rest[end..].starts_with(['=', ':']) {
            let (value, is_literal, after) = value_of(rest[end + 1..].trim_start_matches([' ', '\t', '\r']))
                .ok_or_else(|| wrong(format!("the quotes of {name} are not closed")))?;
            rest = after;
            let value = if is_literal {
                value
            } else {
                let lookup = |name: &str| outer.get(name).or_else(|| found.get(name)).cloned();
                let mut interpolation = Interpolation { dialect: Dialect::Compose, lookup: &lookup, unset, budget };
                interpolation.apply(&value).map_err(|fault| wrong(fault.to_string()))?
            };
            found.insert(name.to_owned(), value);
        } else {
            // A name alone is that of the environment.
            if let Some(value) = outer.get(name) {
                found.insert(name.to_owned(), value.clone());
            }
            rest = rest.get(end + 1..).unwrap_or("");
        }
    }
}

/// The value at the beginning of `text`, whether variables in it are left as they are, and what stands behind it.
fn value_of(text: &str) -> Option<(String, bool, &str)> {
    let Some(quote) = text.chars().next().filter(|c| ['"', '\''].contains(c)) else {
        let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
        let value = line.split(" #").next().unwrap_or(line);
        return Some((value.trim_end().to_owned(), false, rest));
    };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                c if c == quote => value.push(c),
                c if quote == '\'' => value.extend(['\\', c]),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                '\\' => value.push('\\'),
                '$' => value.push_str("$$"),
                c => value.extend(['\\', c]),
            },
            c if c == quote => return Some((value, quote == '\'', &text[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
        let mut found = Variables::new();
        let outer = Variables::from([("OUTER".to_owned(), "outer".to_owned())]);
        let file = Arc::from(Path::new(".env"));
        read(text, &file, &outer, &mut found, &mut BTreeSet::new(), &mut Budget::new())
            .map_err(|error| error.to_string())?;
        Ok(found.into_iter().collect())
    }

    #[test]
    fn values_as_people_write_them() {
        let text = "# a comment\nA=1\nexport B = two words # comment\nC: yaml\nD=\"q ${A}\\n\\$A\"\nE='raw $A'\n\
                    F=${A}-${NO:-d}\nOUTER\nG=\nH=#a#b\nI=\"two\nlines\"\nJ=$OUTER\nOUTER2\n\nA=2\n";
        let expected = [
            ("A", "2"),
            ("B", "two words"),
            ("C", "yaml"),
            ("D", "q 1\n$A"),
            ("E", "raw $A"),
            ("F", "1-d"),
            ("G", ""),
            ("H", "#a#b"),
            ("I", "two\nlines"),
            ("J", "outer"),
            ("OUTER", "outer"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse(&text.replace('\n', "\r\n").replace("two\r\n", "two\n")).unwrap(), expected);
    }

    #[test]
    fn mistakes_have_their_lines() {
        assert!(parse("A=1\n\nB=\"x\n").unwrap_err().contains(".env:3: the quotes of B"));
        assert!(parse("A=1\nwhat is this\n").unwrap_err().contains(".env:2: `what is this` is no name"));
        assert!(parse("A=${}\n").unwrap_err().contains(".env:1: `$`"));
        assert!(parse("=x\n").is_err());
    }
}
