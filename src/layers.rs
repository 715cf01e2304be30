// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files in layered directories, as systemd reads binfmt.d, its configuration and drop-ins.
//!
//! systemd.unit(5), binfmt.d(5): of files with the same name the one in the most important
//! directory counts, a link to /dev/null masks all of them, and the rest is read in the order of
//! names, whatever directory each is in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::files::Root;

/// The file that counts among those of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layered {
    /// The file's name.
    pub name: String,
    /// Where the one that counts is.
    pub path: PathBuf,
    /// Whether that is a link to /dev/null.
    pub masked: bool,
    /// Those that do not count, the most important first.
    pub overridden: Vec<PathBuf>,
}

/// The files whose names end in `suffix`, in the order of their names. `directories` are given with
/// the most important first; those that are missing are no error.
pub fn scan(root: &Root, directories: &[&str], suffix: &str) -> Vec<Layered> {
    let mut files: BTreeMap<String, Layered> = BTreeMap::new();
    let mut seen = Vec::new();
    for directory in directories.iter().map(Path::new) {
        // On a merged /usr two of these may be one directory.
        let Ok(metadata) = root.metadata(directory) else { continue };
        let identity = (std::os::unix::fs::MetadataExt::dev(&metadata), std::os::unix::fs::MetadataExt::ino(&metadata));
        if seen.contains(&identity) {
            continue;
        }
        seen.push(identity);
        for name in root.list_unsorted(directory).unwrap_or_default() {
            let Some(name) = name.to_str().filter(|name| name.ends_with(suffix) && !name.starts_with('.')) else {
                continue;
            };
            let path = directory.join(name);
            if let Some(file) = files.get_mut(name) {
                file.overridden.push(path);
            } else {
                let masked = root.read_link(&path).is_ok_and(|target| target == Path::new("/dev/null"));
                files.insert(name.to_owned(), Layered { name: name.to_owned(), path, masked, overridden: Vec::new() });
            }
        }
    }
    files.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_important_counts_and_names_give_the_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        for file in [
            "/etc/x.d/b.conf",
            "/usr/lib/x.d/a.conf",
            "/usr/lib/x.d/b.conf",
            "/usr/lib/x.d/c.conf",
            "/usr/lib/x.d/n.txt",
        ] {
            root.write_whole(Path::new(file), b"").unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", dir.path().join("etc/x.d/c.conf")).unwrap();
        let files = scan(&root, &["/etc/x.d", "/run/x.d", "/usr/lib/x.d"], ".conf");
        let seen: Vec<_> = files.iter().map(|f| (f.path.to_str().unwrap(), f.masked, f.overridden.len())).collect();
        let expected = [("/usr/lib/x.d/a.conf", false, 0), ("/etc/x.d/b.conf", false, 1), ("/etc/x.d/c.conf", true, 1)];
        assert_eq!(seen, expected);
    }
}
