// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fragments: the files in binfmt.d from which systemd registers handlers at boot.
//!
//! binfmt.d(5): a file in /etc replaces one of the same name in /run, /usr/local/lib or /usr/lib, a
//! link to /dev/null masks it, files are read in the order of their names, and lines that begin
//! with `#` or `;` are comments.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::rule::{Rule, RuleError};
use crate::files::{Root, text_of};
use crate::layers::{self, Layered};

/// The directories, the most important first (`CONF_PATHS_NULSTR`, systemd).
pub const DIRECTORIES: [&str; 4] = ["/etc/binfmt.d", "/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d"];

/// The first line of every fragment that this program writes, by which it knows them again.
pub const HEADER: &str = "# Written by qemu-persist.";

/// What a fragment says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Whether this program wrote it.
    pub ours: bool,
    /// Its rules by magic, in their order.
    pub rules: Vec<Rule>,
    /// Lines that are no such rule, with their number, counted from 1. Rules by extension are left
    /// out: they are nobody's mistake.
    pub broken: Vec<(usize, String)>,
}

/// Reads the text of a fragment.
pub fn parse(text: &str) -> Content {
    let mut content = Content { ours: text.starts_with(HEADER), ..Content::default() };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        match Rule::parse(line) {
            Ok(rule) => content.rules.push(rule),
            Err(RuleError::Type(kind)) if kind == "E" => {}
            Err(e) => content.broken.push((index + 1, e.to_string())),
        }
    }
    content.rules.shrink_to_fit();
    content
}

/// The text of a fragment of ours that restores `rule`.
pub fn render(rule: &Rule) -> String {
    format!(
        "{HEADER} Changes are overwritten; `qemu-persist remove` takes it back.\n\
         # systemd-binfmt.service(8) registers this handler at every boot. To keep a file of your\n\
         # own here, write it without the first line: it is then left alone.\n\
         {rule}\n"
    )
}

/// Where our fragment for the handler `name` is.
pub fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORIES[0]).join(format!("{name}.conf"))
}

/// One fragment that systemd reads, or a mask in the place of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fragment {
    /// The file's name.
    pub name: String,
    /// Where the file that counts is.
    pub path: PathBuf,
    /// Whether it is a link to /dev/null, or one that leads nowhere.
    pub masked: bool,
    /// Whether it is one that leads nowhere.
    pub dangling: bool,
    /// What it says.
    pub content: Content,
    /// Whether the layer below an /etc in memory has the same file, so that a reboot brings it back.
    pub below: bool,
    /// Why it could not be read, where it could not.
    pub unreadable: Option<String>,
    /// Files of the same name in less important directories, which do not count.
    pub overridden: Vec<Overridden>,
}

/// A fragment that does not count, since one of its name stands in a more important directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overridden {
    /// Where it is.
    pub path: PathBuf,
    /// What it would say.
    pub content: Content,
}

impl Fragment {
    /// Whether the file that counts belongs to the distribution or another package.
    pub fn is_vendors(&self) -> bool {
        self.path.starts_with("/usr/lib") || self.path.starts_with("/usr/local/lib")
    }

    /// Whether the file that counts is the administrator's: in /etc, and not written by us.
    pub fn is_administrators(&self) -> bool {
        self.path.starts_with("/etc") && !self.content.ours
    }
}

/// Every fragment of `root`, in the order in which systemd reads them. `etc_below` is where the
/// layers below an overlay on /etc have it.
///
/// Besides, what of the directories could not be looked at, and why.
pub fn read_all(root: &Root, etc_below: &[PathBuf]) -> (Vec<Fragment>, Vec<String>) {
    let scan = layers::scan(root, &DIRECTORIES, ".conf");
    // A link that leads nowhere is no more than a mask.
    let errors = scan.errors.iter().filter(|(_, error)| error.kind() != std::io::ErrorKind::NotFound);
    let errors = errors.map(|(path, error)| format!("{}: {error}", path.display()));
    (scan.files.into_iter().map(|file| read(root, etc_below, file)).collect(), errors.collect())
}

fn read(root: &Root, etc_below: &[PathBuf], file: Layered) -> Fragment {
    let content = if file.is_file { root.read_small(&file.path) } else { root.read(&file.path) };
    let in_etc = file.path.strip_prefix("/etc").ok();
    let under = in_etc.and_then(|path| etc_below.iter().find_map(|etc| root.read(&etc.join(path)).ok()));
    let content_of = |path: &Path| root.read(path).map(|bytes| parse(&text_of(bytes)));
    let mut fragment = Fragment {
        name: file.name,
        masked: file.masked || file.dangling,
        dangling: file.dangling,
        content: Content::default(),
        below: under.is_some_and(|under| content.as_ref().is_ok_and(|own| *own == under)),
        unreadable: None,
        overridden: Vec::new(),
        path: file.path,
    };
    if !fragment.masked {
        match content {
            Ok(content) => fragment.content = parse(&text_of(content)),
            Err(e) => fragment.unreadable = Some(e.to_string()),
        }
    }
    let overridden = file.overridden.into_iter();
    fragment.overridden =
        overridden.filter_map(|path| Some(Overridden { content: content_of(&path).ok()?, path })).collect();
    fragment
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r":qemu-arm:M::\x7f\x45:\xff\xff:/usr/bin/qemu-arm-static:OF";

    #[test]
    fn comments_and_rules_by_extension_are_passed_over() {
        let content = parse(&format!("# a\n; b\n\n  {RULE}  \n:jar:E::jar::/usr/bin/jexec:\nnonsense\n"));
        assert_eq!(content.rules, [Rule::parse(RULE).unwrap()]);
        assert_eq!(content.broken.len(), 1);
        assert_eq!(content.broken[0].0, 6);
        assert!(!content.ours);
    }

    #[test]
    fn ours_is_known_again() {
        let rule = Rule::parse(RULE).unwrap();
        let content = parse(&render(&rule));
        assert_eq!(content, Content { ours: true, rules: vec![rule], broken: Vec::new() });
    }
}
