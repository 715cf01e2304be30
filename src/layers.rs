// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files in layered directories, as systemd reads binfmt.d, its configuration and drop-ins.
//!
//! systemd.unit(5), binfmt.d(5): of files with the same name the one in the most important
//! directory counts, a link to /dev/null masks all of them, and the rest is read in the order of
//! names, whatever directory each is in.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

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
    /// Whether it is a link that leads nowhere, which counts all the same (`conf_files_list()`,
    /// src/basic/conf-files.c of systemd), and says nothing.
    pub dangling: bool,
    /// Whether it is a regular file, as its directory says; no where that says nothing.
    pub is_file: bool,
    /// Those that do not count, the most important first.
    pub overridden: Vec<PathBuf>,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    /// One for each name, in the order of their names.
    pub files: Vec<Layered>,
    /// What could not be looked at, and why: a directory without permission, a dangling link.
    /// Other than a dangling link, what is in here replaces nothing.
    pub errors: Vec<(PathBuf, io::Error)>,
}

/// The files whose names end in `suffix`, in the order of their names. `directories` are given with
/// the most important first; those that are missing are no error.
pub fn scan(root: &Root, directories: &[&str], suffix: &str) -> Scan {
    let mut files: BTreeMap<String, Layered> = BTreeMap::new();
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    for directory in directories.iter().map(Path::new) {
        // On a merged /usr two of these may be one directory.
        let names = root.metadata(directory).and_then(|metadata| {
            let identity = (metadata.dev(), metadata.ino());
            if seen.contains(&identity) {
                return Ok(Vec::new());
            }
            seen.push(identity);
            root.list_with_kind(directory)
        });
        let names = match names {
            Ok(mut names) => {
                names.sort();
                names
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => {
                errors.push((directory.to_owned(), e));
                continue;
            }
        };
        for (name, is_file) in names {
            let Some(name) = name.to_str().filter(|name| name.ends_with(suffix) && !name.starts_with('.')) else {
                continue;
            };
            let path = directory.join(name);
            if let Some(file) = files.get_mut(name) {
                file.overridden.push(path);
                continue;
            }
            let looked = if is_file { Ok(Look::File) } else { look(root, &path) };
            match looked {
                Ok(Look::Directory) => {}
                Ok(look) => {
                    if look == Look::Dangling {
                        errors.push((path.clone(), Errno::ENOENT.into()));
                    }
                    let (masked, dangling) = (look == Look::Masked, look == Look::Dangling);
                    let (name, overridden) = (name.to_owned(), Vec::new());
                    let file = Layered { name: name.clone(), path, masked, dangling, is_file, overridden };
                    files.insert(name, file);
                }
                Err(e) => errors.push((path, e)),
            }
        }
    }
    Scan { files: files.into_values().collect(), errors }
}

/// The file `name` in the most important of `directories` that has it, as systemd finds its main
/// files.
///
/// # Errors
/// The path that could not be looked at, and why.
pub fn first(root: &Root, directories: &[&str], name: &str) -> Result<Option<PathBuf>, (PathBuf, io::Error)> {
    for directory in directories {
        let path = Path::new(directory).join(name);
        match root.link_metadata(&path) {
            Ok(_) => return Ok(Some(path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err((path, e)),
        }
    }
    Ok(None)
}

#[derive(PartialEq, Eq)]
enum Look {
    File,
    Masked,
    Dangling,
    Directory,
}

fn look(root: &Root, path: &Path) -> io::Result<Look> {
    let own = root.link_metadata(path)?;
    if !own.is_symlink() {
        return Ok(if own.is_dir() { Look::Directory } else { Look::File });
    }
    if is_dev_null(root, path) {
        return Ok(Look::Masked);
    }
    match root.metadata(path) {
        Ok(target) => Ok(if target.is_dir() { Look::Directory } else { Look::File }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Look::Dangling),
        Err(e) => Err(e),
    }
}

/// Whether the link `path` leads to /dev/null. The /dev of an image is empty, so there the text of
/// the link counts.
pub fn is_dev_null(root: &Root, path: &Path) -> bool {
    let null = |m: std::fs::Metadata| m.file_type().is_char_device() && m.rdev() == nix::sys::stat::makedev(1, 3);
    root.metadata(path).is_ok_and(null)
        || root.read_link(path).is_ok_and(|target| by_name(path, &target) == Path::new("/dev/null"))
}

/// Where the link `path` with the text `target` leads, going by the names alone.
fn by_name(path: &Path, target: &Path) -> PathBuf {
    let mut place = PathBuf::new();
    for part in path.parent().unwrap_or(path).join(target).components() {
        match part {
            Component::ParentDir => _ = place.pop(),
            other => place.push(other),
        }
    }
    place
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
        let Scan { files, errors } = scan(&root, &["/etc/x.d", "/run/x.d", "/usr/lib/x.d"], ".conf");
        assert!(errors.is_empty(), "{errors:?}");
        let seen: Vec<_> = files.iter().map(|f| (f.path.to_str().unwrap(), f.masked, f.overridden.len())).collect();
        let expected = [("/usr/lib/x.d/a.conf", false, 0), ("/etc/x.d/b.conf", false, 1), ("/etc/x.d/c.conf", true, 1)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_link_to_dev_null_masks_in_an_image_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        root.create_dir_all(Path::new("/etc/x.d/directory.conf")).unwrap();
        for (name, target) in [("a", "/dev/null"), ("b", "../../dev/null"), ("c", "../../dev/nul")] {
            root.write_whole(&Path::new("/usr/lib/x.d").join(format!("{name}.conf")), b"x").unwrap();
            std::os::unix::fs::symlink(target, dir.path().join(format!("etc/x.d/{name}.conf"))).unwrap();
        }
        std::os::unix::fs::symlink("/usr/lib/x.d/a.conf", dir.path().join("etc/x.d/d.conf")).unwrap();
        let Scan { files, errors } = scan(&root, &["/etc/x.d", "/usr/lib/x.d"], ".conf");
        let seen: Vec<_> = files.iter().map(|f| (f.path.to_str().unwrap(), f.masked, f.overridden.len())).collect();
        let expected = [
            ("/etc/x.d/a.conf", true, 1),
            ("/etc/x.d/b.conf", true, 1),
            ("/etc/x.d/c.conf", false, 1),
            ("/etc/x.d/d.conf", false, 0),
        ];
        assert_eq!(seen, expected);
        assert_eq!(files.iter().map(|f| f.dangling).collect::<Vec<_>>(), [false, false, true, false]);
        assert_eq!(errors.iter().map(|(path, _)| path.to_str().unwrap()).collect::<Vec<_>>(), ["/etc/x.d/c.conf"]);
    }

    #[test]
    fn the_first_main_file_is_found_even_where_it_is_a_mask() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        let directories = ["/etc/x", "/run/x", "/usr/lib/x"];
        let found = || first(&root, &directories, "main").unwrap();
        assert_eq!(found(), None);
        root.write_whole(Path::new("/usr/lib/x/main"), b"").unwrap();
        assert_eq!(found(), Some("/usr/lib/x/main".into()));
        root.create_dir_all(Path::new("/run/x")).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("run/x/main")).unwrap();
        assert_eq!(found(), Some("/run/x/main".into()));
        assert!(is_dev_null(&root, Path::new("/run/x/main")));
    }
}
