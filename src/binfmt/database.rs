// SPDX-License-Identifier: MIT OR Apache-2.0
//! binfmt-support's database: the handlers that update-binfmts(8) registers at boot, after systemd
//! has read binfmt.d, and only under names that are then still free.

use std::path::{Path, PathBuf};

use super::rule::{Flags, Pattern, Rule, parse_bytes};
use crate::files::Root;

/// Where it is kept.
pub const DIRECTORY: &str = "/var/lib/binfmts";

/// Where its program is; without it nobody reads the database.
pub const PROGRAM: &str = "/usr/sbin/update-binfmts";

/// Every rule by magic in the database, in the order of names. Empty where binfmt-support is not
/// installed.
pub fn read(root: &Root) -> Vec<Rule> {
    if !root.exists(Path::new(PROGRAM)) {
        return Vec::new();
    }
    let directory = Path::new(DIRECTORY);
    let names = root.list(directory).unwrap_or_default();
    let read = |name: std::ffi::OsString| {
        let text = root.read_text(&directory.join(&name)).ok()?;
        parse(name.to_str()?, &text)
    };
    names.into_iter().filter_map(read).collect()
}

/// Reads the text of one of its files: ten lines, of which each has its meaning by its place
/// (`binfmt_load()`, src/format.c of binfmt-support). None for a rule by extension, one with a
/// detector program, and what is no rule.
pub fn parse(name: &str, text: &str) -> Option<Rule> {
    let mut lines = text.lines();
    let mut next = || lines.next();
    let (_package, kind, offset, magic, mask, interpreter) = (next()?, next()?, next()?, next()?, next()?, next()?);
    let (detector, credentials, preserve, fix) = (next()?, next()?, next()?, next()?);
    if kind != "magic" || !detector.is_empty() {
        return None;
    }
    let magic = parse_bytes(magic).ok()?;
    let mask = parse_bytes(mask).ok().filter(|mask| !mask.is_empty()).unwrap_or_else(|| vec![0xff; magic.len()]);
    let rule = Rule {
        name: name.to_owned(),
        pattern: Pattern { offset: offset.parse().unwrap_or(0), magic, mask },
        interpreter: PathBuf::from(interpreter),
        flags: Flags {
            credentials: credentials == "yes",
            open_binary: credentials == "yes",
            preserve_argv0: preserve == "yes",
            fix_binary: fix == "yes",
        },
    };
    rule.check().is_ok().then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_database_is_a_rule() {
        let text = "qemu-user-static\nmagic\n0\n\\x7f\\x45\n\\xff\\xff\n/usr/libexec/qemu-binfmt/arm-binfmt-P\n\nno\nyes\nyes\n";
        let rule = parse("qemu-arm", text).unwrap();
        assert_eq!(rule.to_string(), r":qemu-arm:M::\x7f\x45:\xff\xff:/usr/libexec/qemu-binfmt/arm-binfmt-P:PF");
        assert_eq!(parse("jar", &text.replace("magic", "extension")), None);
        assert_eq!(parse("cut", "a\nmagic\n"), None);
        assert_eq!(parse("detected", &text.replace("-P\n\n", "-P\n/bin/detector\n")), None);
    }
}
