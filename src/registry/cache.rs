// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was read of registries, kept on disk: content by its digest, and by each tag the digest that it last had.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::oci::manifest::MOST;
use crate::oci::reference::Reference;

/// The most files of content that are kept: some 50 MB, as images are.
const MOST_FILES: usize = 8192;
/// How old the word for a tag becomes before it is written again although it has not changed, in seconds.
const WORTH_WRITING: u64 = 86_400;

/// The kept content; or none, where there is no place for it.
#[derive(Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

/// What a tag was when it was last asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The digest of its manifest.
    pub digest: String,
    /// When, in seconds since the epoch by this host's clock.
    pub at: u64,
}

/// The digest of `content`, by the algorithm of `like`.
pub fn digest(content: &[u8], like: &str) -> String {
    if like.starts_with("sha512:") {
        format!("sha512:{:x}", Sha512::digest(content))
    } else {
        format!("sha256:{:x}", Sha256::digest(content))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Cache {
    /// The cache below `folder`, which is made when something is to be kept.
    pub fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(|folder| folder.join("qemu-persist/registry")) }
    }

    fn content_path(&self, digest: &str) -> Option<PathBuf> {
        let (algorithm, hex) = digest.split_once(':')?;
        Some(self.folder.as_ref()?.join("content").join(format!("{algorithm}-{hex}")))
    }

    fn tag_path(&self, reference: &Reference) -> Option<PathBuf> {
        // No part of a repository has a comma.
        let repository = reference.repository().replace('/', ",");
        let folder = self.folder.as_ref()?.join("tags").join(reference.registry()).join(repository);
        Some(folder.join(reference.tag()?))
    }

    /// The content that `digest` is of, where it is kept and has not been changed.
    pub fn content(&self, wanted: &str) -> Option<Vec<u8>> {
        use std::io::Read as _;
        let mut content = Vec::new();
        let file = std::fs::File::open(self.content_path(wanted)?).ok()?;
        file.take(MOST as u64 + 1).read_to_end(&mut content).ok()?;
        (digest(&content, wanted) == wanted).then_some(content)
    }

    /// Keeps `content`, whose digest was checked. That it cannot be kept is no error: it is asked for again then.
    pub fn keep_content(&self, digest: &str, content: &[u8]) {
        if let Some(path) = self.content_path(digest) {
            if write(&path, content).is_some() {
                thin_out(path.parent());
            }
        }
    }

    /// What was last seen behind the tag of `reference`.
    pub fn seen(&self, reference: &Reference) -> Option<Seen> {
        let text = super::settings::read_file(&self.tag_path(reference)?).ok()??;
        serde_json::from_str(&text).ok()
    }

    /// Keeps that the tag of `reference` has `digest` now.
    pub fn keep_seen(&self, reference: &Reference, digest: &str) {
        let at = now();
        let known = self.seen(reference);
        if known.is_some_and(|seen| seen.digest == digest && at.saturating_sub(seen.at) < WORTH_WRITING) {
            return;
        }
        let seen = Seen { digest: digest.to_owned(), at };
        if let (Some(path), Ok(text)) = (self.tag_path(reference), serde_json::to_vec(&seen)) {
            write(&path, &text);
        }
    }
}

impl Seen {
    /// How long ago that was, in seconds.
    pub fn age(&self) -> u64 {
        now().saturating_sub(self.at)
    }
}

/// Writes a file whole: others see the old content or the new. What a crash leaves of it has another digest.
fn write(path: &Path, content: &[u8]) -> Option<()> {
    let folder = path.parent()?;
    let _inside = super::gate::enter()?;
    std::fs::create_dir_all(folder).ok()?;
    let mut file = tempfile::NamedTempFile::new_in(folder).ok()?;
    file.write_all(content).ok()?;
    file.persist(path).ok().map(drop)
}

/// Removes the older half of the files in `folder` where there are too many.
fn thin_out(folder: Option<&Path>) {
    let Some(entries) = folder.and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if paths.len() <= MOST_FILES {
        return;
    }
    let time = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
    let mut by_age: Vec<_> = paths.into_iter().map(|path| (time(&path), path)).collect();
    by_age.sort();
    for (_, path) in by_age.iter().take(MOST_FILES / 2) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_found_by_its_digest_unless_it_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path()));
        for like in ["sha256:", "sha512:"] {
            let digest = digest(b"{}", like);
            assert_eq!(cache.content(&digest), None);
            cache.keep_content(&digest, b"{}");
            assert_eq!(cache.content(&digest).as_deref(), Some(&b"{}"[..]));
            std::fs::write(cache.content_path(&digest).unwrap(), b"{ }").unwrap();
            assert_eq!(cache.content(&digest), None);
        }
    }

    #[test]
    fn a_tag_is_known_by_registry_repository_and_name() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path()));
        let of = |text: &str| text.parse::<Reference>().unwrap();
        cache.keep_seen(&of("a/b:1"), "sha256:1");
        cache.keep_seen(&of("reg.example/a/b:1"), "sha256:2");
        let digest = |text: &str| cache.seen(&of(text)).map(|seen| seen.digest);
        assert_eq!(digest("a/b:1").as_deref(), Some("sha256:1"));
        assert_eq!(digest("reg.example/a/b:1").as_deref(), Some("sha256:2"));
        assert_eq!(digest("a/b:2"), None);
        assert_eq!(digest("a/b/c:1"), None);
        cache.keep_seen(&of("a/b:1"), "sha256:3");
        assert_eq!(digest("a/b:1").as_deref(), Some("sha256:3"));
    }

    #[test]
    fn without_a_place_nothing_is_kept() {
        let cache = Cache::new(None);
        let digest = digest(b"", "sha256:");
        cache.keep_content(&digest, b"");
        assert_eq!(cache.content(&digest), None);
    }
}
