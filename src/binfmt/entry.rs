// SPDX-License-Identifier: MIT OR Apache-2.0
//! An entry: one handler as the kernel shows it in /proc/sys/fs/binfmt_misc.
//!
//! The text is made by `entry_status()` (fs/binfmt_misc.c). Newer kernels add letters and lines, so
//! what is not known is kept out of the way and never an error.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

use super::rule::{Flags, Pattern, Rule, bytes_from_hex, hex};

/// By what an entry recognises programs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recognises {
    /// Bytes of the program.
    Magic(Pattern),
    /// The end of the file's name, without the dot.
    Extension(String),
}

/// One handler in the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Entry {
    /// The name of its file.
    pub name: String,
    /// Whether it is enabled by itself; the whole table can be off besides.
    pub enabled: bool,
    /// The path that was registered. With `F` the kernel may hold another file than is there now.
    pub interpreter: PathBuf,
    /// The flags that are known.
    pub flags: Flags,
    /// Further letters, of newer kernels.
    pub other_flags: String,
    /// What it takes.
    pub recognises: Recognises,
    /// The number of its inode, which is another one after every registration; 0 where it is not
    /// known. It tells whether somebody registered the same rule again.
    pub inode: u64,
}

/// Why a text is none of an entry.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the kernel's text of this entry has no {0} that can be read")]
pub struct EntryError(&'static str);

impl Entry {
    /// Reads the kernel's text of the entry `name`.
    ///
    /// # Errors
    /// What of it is missing or cannot be read.
    pub fn parse(name: &str, text: &str) -> Result<Self, EntryError> {
        // Not `lines()`: a path may end in a carriage return, and is then another path.
        let mut lines = text.split('\n');
        let enabled = match lines.next() {
            Some("enabled") => true,
            Some("disabled") => false,
            _ => return Err(EntryError("state")),
        };
        let (mut interpreter, mut flags) = (None, (Flags::default(), String::new()));
        let (mut offset, mut magic, mut mask, mut extension) = (0, None, None, None);
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "interpreter" => interpreter = Some(PathBuf::from(value)),
                "flags:" => flags = Flags::parse_lenient(&value.split_whitespace().collect::<String>()),
                "offset" => offset = value.parse().map_err(|_| EntryError("offset"))?,
                "magic" => magic = Some(bytes_from_hex(value).ok_or(EntryError("magic"))?),
                "mask" => mask = Some(bytes_from_hex(value).ok_or(EntryError("mask"))?),
                "extension" => extension = Some(value.trim_start_matches('.').to_owned()),
                _ => {}
            }
        }
        let recognises = match (extension, magic) {
            (Some(extension), _) => Recognises::Extension(extension),
            (None, Some(magic)) if !magic.is_empty() => {
                let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
                if mask.len() != magic.len() {
                    return Err(EntryError("mask"));
                }
                Recognises::Magic(Pattern { offset, magic, mask })
            }
            _ => return Err(EntryError("magic")),
        };
        let interpreter = interpreter.ok_or(EntryError("interpreter"))?;
        let (flags, other_flags) = flags;
        Ok(Self { name: name.to_owned(), enabled, interpreter, flags, other_flags, recognises, inode: 0 })
    }

    /// The entry that the kernel would make of `rule`.
    pub fn of_rule(rule: &Rule) -> Self {
        Self {
            name: rule.name.clone(),
            enabled: true,
            interpreter: rule.interpreter.clone(),
            flags: rule.flags,
            other_flags: String::new(),
            recognises: Recognises::Magic(rule.pattern.clone()),
            inode: 0,
        }
    }

    /// The rule that would register it again; none for one by extension.
    pub fn rule(&self) -> Option<Rule> {
        let Recognises::Magic(pattern) = &self.recognises else { return None };
        Some(Rule {
            name: self.name.clone(),
            pattern: pattern.clone(),
            interpreter: self.interpreter.clone(),
            flags: self.flags,
        })
    }

    /// Whether it recognises a program that starts with `head`, be it enabled or not.
    pub fn matches(&self, head: &[u8]) -> bool {
        matches!(&self.recognises, Recognises::Magic(pattern) if pattern.matches(head))
    }

    /// Whether this is `rule` as the kernel shows it, under whatever name.
    pub fn does_what(&self, rule: &Rule) -> bool {
        let same_pattern = matches!(&self.recognises, Recognises::Magic(pattern) if *pattern == rule.pattern);
        same_pattern && self.interpreter.as_os_str() == rule.interpreter.as_os_str() && self.flags == rule.flags
    }
}

impl fmt::Display for Entry {
    /// The kernel's own text of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.enabled { "enabled" } else { "disabled" })?;
        writeln!(f, "interpreter {}", self.interpreter.display())?;
        writeln!(f, "flags: {}{}", self.flags, self.other_flags)?;
        match &self.recognises {
            Recognises::Extension(extension) => writeln!(f, "extension .{extension}"),
            Recognises::Magic(Pattern { offset, magic, mask }) => {
                writeln!(f, "offset {offset}\nmagic {}", hex(magic))?;
                if mask.iter().all(|byte| *byte == 0xff) { Ok(()) } else { writeln!(f, "mask {}", hex(mask)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn the_kernels_text_is_read_and_made_again() {
        let entry = Entry::parse("qemu-aarch64", AARCH64).unwrap();
        assert_eq!(entry.to_string(), AARCH64);
        assert!(entry.enabled && entry.flags.fix_binary && !entry.flags.credentials);
        assert_eq!(entry.rule().map(|rule| Entry::of_rule(&rule)), Some(entry));
    }

    #[test]
    fn newer_kernels_lines_and_letters_are_no_error() {
        let text = AARCH64.replace("flags: POF", "flags: POFZ").replace("offset 0", "future x\noffset 0");
        let entry = Entry::parse("x", &text).unwrap();
        assert_eq!(entry.other_flags, "Z");
        assert!(entry.flags.open_binary);
    }

    #[test]
    fn a_path_keeps_what_looks_like_the_end_of_a_line() {
        let text = AARCH64.replace("aarch64-binfmt-P", "aarch64-binfmt-P\r").replace("POF", "PO F Z ");
        let entry = Entry::parse("x", &text).unwrap();
        assert!(entry.interpreter.to_str().unwrap().ends_with("-P\r"));
        assert_eq!(Entry::parse("x", &entry.to_string()), Ok(entry));
    }

    #[test]
    fn extensions_and_missing_masks_are_understood() {
        let jar = Entry::parse("jar", "disabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n").unwrap();
        assert_eq!(jar.recognises, Recognises::Extension("jar".into()));
        assert!(!jar.enabled && !jar.matches(b"PK"));
        let python = Entry::parse("p", "enabled\ninterpreter /p\nflags: \noffset 0\nmagic a70d\n").unwrap();
        assert!(python.matches(&[0xa7, 0x0d]) && !python.matches(&[0xa7]));
    }

    #[test]
    fn what_is_none_is_refused() {
        let base = "enabled\ninterpreter /p\nflags: \noffset 0\n";
        for wrong in
            ["", "maybe\n", "enabled\n", base, &format!("{base}magic zz\n"), &format!("{base}magic a7\nmask a7a7\n")]
        {
            assert!(Entry::parse("x", wrong).is_err(), "{wrong:?}");
        }
    }
}
