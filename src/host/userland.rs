// SPDX-License-Identifier: MIT OR Apache-2.0
//! The userland: what its programs are built for, and which distribution it is.

use std::io::Read as _;
use std::path::Path;

use super::Distribution;
use crate::files::Root;
use crate::platform::Platform;

/// The first bytes of the file `path`, as many as the kernel's own ELF header has.
pub(super) fn read_head(root: &Root, path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(64);
    root.open(path)?.take(64).read_to_end(&mut head)?;
    Ok(head)
}

/// The platform of the first of the tree's own basic programs that is an ELF file.
pub(super) fn platform(root: &Root) -> Option<&'static Platform> {
    let program = |path| Platform::of_program(&read_head(root, Path::new(path)).ok()?);
    ["/usr/bin/dpkg", "/bin/sh", "/sbin/init", "/usr/bin/env"].into_iter().find_map(program)
}

/// The distribution that the tree's os-release(5) names; empty where it has none.
pub(super) fn distribution(root: &Root) -> Distribution {
    let content = ["/etc/os-release", "/usr/lib/os-release"].into_iter().find_map(|p| root.read(Path::new(p)).ok());
    parse_os_release(&String::from_utf8_lossy(&content.unwrap_or_default()))
}

/// Takes shell quotes and backslashes off the value of an assignment.
fn unquote(value: &str) -> String {
    let value = value.trim();
    let (inner, escapes) = match value.as_bytes() {
        [b'"', .., b'"'] => (&value[1..value.len() - 1], true),
        [b'\'', .., b'\''] => (&value[1..value.len() - 1], false),
        _ => (value, true),
    };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        text.extend(if c == '\\' && escapes { characters.next() } else { Some(c) });
    }
    text
}

fn parse_os_release(content: &str) -> Distribution {
    let mut distribution = Distribution::default();
    for (key, value) in content.lines().filter_map(|line| line.trim_start().split_once('=')) {
        match key {
            "ID" => distribution.id = unquote(value),
            "ID_LIKE" => distribution.id_like = unquote(value).split_whitespace().map(str::to_owned).collect(),
            "VERSION_ID" => distribution.version_id = unquote(value),
            "PRETTY_NAME" => distribution.pretty_name = unquote(value),
            _ => {}
        }
    }
    distribution
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn os_release_is_read_as_a_shell_reads_it() {
        let text = "# comment\nPRETTY_NAME=\"Raspbian \\\"GNU\\\"/Linux 12\"\nID=raspbian\nID_LIKE='debian  other'\n\
                    VERSION_ID=\"12\"\nHOME_URL=http://x/?a=b\nBROKEN=\"\nID\n";
        let d = parse_os_release(text);
        assert_eq!(d.pretty_name, "Raspbian \"GNU\"/Linux 12");
        assert_eq!((d.id.as_str(), d.version_id.as_str()), ("raspbian", "12"));
        assert_eq!(d.id_like, ["debian", "other"]);
        assert_eq!(parse_os_release("ID=\"\nID='"), Distribution { id: "'".into(), ..Distribution::default() });
    }

    #[test]
    fn the_userland_is_that_of_the_images_own_programs() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::image(dir.path()).unwrap();
        assert_eq!(platform(&root), None);
        let arm = Platform::named("arm").unwrap();
        root.write_whole(Path::new("/usr/bin/dpkg"), b"#!/bin/sh\n").unwrap();
        root.write_whole(Path::new("/usr/bin/dash"), &arm.sample_headers()[1]).unwrap();
        symlink("usr/bin", dir.path().join("bin")).unwrap();
        symlink("/bin/dash", dir.path().join("usr/bin/sh")).unwrap();
        assert_eq!(platform(&root), Some(arm));
        root.write_whole(Path::new("/usr/lib/os-release"), b"ID=fallback\n").unwrap();
        assert_eq!(distribution(&root).id, "fallback");
    }
}
