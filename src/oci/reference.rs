// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of images: `nginx`, `ghcr.io/owner/app:1.2`, `localhost:5000/app@sha256:…`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The registry of images that name none.
pub const DOCKER_HUB: &str = "docker.io";
/// Where Docker Hub's official images are.
const OFFICIAL: &str = "library";
/// What is meant where there is neither tag nor digest.
const LATEST: &str = "latest";
/// The longest repository, in bytes, its registry counted (github.com/distribution/reference).
const LONGEST: usize = 255;
/// The longest tag.
const LONGEST_TAG: usize = 128;

/// The name of an image, in full, as engines understand it (github.com/distribution/reference, `ParseNormalizedNamed`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text names no image: what is wrong, and how it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReference(String);

impl Reference {
    /// The registry, with its port if one is named: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within it: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which counts more than the tag.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// By what a registry is asked for it: the digest, or else the tag.
    pub fn wanted(&self) -> &str {
        self.digest().or(self.tag()).unwrap_or(LATEST)
    }

    /// The image of the same repository that `tag` names.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// The last part of the repository, by which people know the application: `nginx`.
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// The name without what is understood of itself, as Docker shows it: `nginx:latest`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix(DOCKER_HUB).and_then(|rest| rest.strip_prefix('/'));
        let short = short.map(|rest| rest.strip_prefix(OFFICIAL).and_then(|it| it.strip_prefix('/')).unwrap_or(rest));
        short.map_or(full.clone(), str::to_owned)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl FromStr for Reference {
    type Err = NoReference;

    fn from_str(text: &str) -> Result<Self, NoReference> {
        let wrong = |what: &str| Err(NoReference(what.to_owned()));
        if text.is_empty() {
            return wrong("it is empty");
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return wrong(&format!("it begins with {scheme}://: write it as engines do, {rest}"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        // A colon before a slash is that of a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(parse_tag(tag)?)),
            _ => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
            Some(_) => (DOCKER_HUB, name.to_owned()),
            None => (DOCKER_HUB, format!("{OFFICIAL}/{name}")),
        };
        let registry = registry.to_ascii_lowercase();
        let registry = if registry == "index.docker.io" { DOCKER_HUB.to_owned() } else { registry };
        let repository = match repository.split_once('/') {
            None if registry == DOCKER_HUB => format!("{OFFICIAL}/{repository}"),
            _ => repository,
        };
        check_registry(&registry)?;
        if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return wrong(
                "it is the id of an image, of which no registry knows: give the image's name, or use --local",
            );
        }
        check_repository(
            repository.strip_prefix("library/").filter(|_| !name.contains("library/")).unwrap_or(&repository),
        )?;
        if registry.len() + 1 + repository.len() > LONGEST {
            return wrong(&format!("it is longer than {LONGEST} characters"));
        }
        let tag = if tag.is_none() && digest.is_none() { Some(LATEST.to_owned()) } else { tag };
        Ok(Self { registry, repository, tag, digest })
    }
}

/// Whether the part before the first slash is a registry, not a folder of Docker Hub.
fn is_registry(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), NoReference> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host =
        inside.map_or_else(|| host.split('.').all(is_label), |address| address.parse::<std::net::Ipv6Addr>().is_ok());
    if is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0)) {
        return Ok(());
    }
    Err(NoReference(format!("`{registry}` is no host of a registry")))
}

fn check_repository(repository: &str) -> Result<(), NoReference> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "._-/".contains(c));
    if let Some(c) = repository.chars().find(|&c| odd(c)) {
        return Err(NoReference(format!("the name of an image cannot have `{}`", c.escape_default())));
    }
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(NoReference(format!(
            "`{repository}` has to be in lower case: {}",
            repository.to_ascii_lowercase()
        )));
    }
    let is_part = |part: &str| {
        let separators: Vec<&str> = part.split(|c: char| c.is_ascii_alphanumeric()).filter(|s| !s.is_empty()).collect();
        let is_separator = |s: &&str| [".", "_", "__"].contains(s) || s.bytes().all(|byte| byte == b'-');
        let is_end = |c: char| c.is_ascii_alphanumeric();
        let has_ends = part.starts_with(is_end) && part.ends_with(is_end);
        has_ends && separators.iter().all(is_separator)
    };
    match repository.split('/').find(|part| !is_part(part)) {
        Some("") => Err(NoReference("a part of the name of an image is empty".to_owned())),
        Some(part) => Err(NoReference(format!("`{part}` is no part of the name of an image"))),
        None => Ok(()),
    }
}

fn parse_tag(tag: &str) -> Result<String, NoReference> {
    let is_first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_further = |byte: u8| is_first(byte) || b".-".contains(&byte);
    match tag.as_bytes() {
        [first, rest @ ..]
            if is_first(*first) && rest.iter().all(|&byte| is_further(byte)) && tag.len() <= LONGEST_TAG =>
        {
            Ok(tag.to_owned())
        }
        _ => Err(NoReference(format!("`{}` is no tag", tag.escape_default()))),
    }
}

/// Reads a digest that can be checked: SHA-256 or SHA-512 (OCI image-spec, descriptor.md).
fn parse_digest(digest: &str) -> Result<String, NoReference> {
    let length = match digest.split_once(':') {
        Some(("sha256", hex)) if is_hex(hex) => Some((hex.len(), 64)),
        Some(("sha512", hex)) if is_hex(hex) => Some((hex.len(), 128)),
        _ => None,
    };
    match length {
        Some((is, wanted)) if is == wanted => Ok(digest.to_owned()),
        Some((is, wanted)) => Err(NoReference(format!("its digest has {is} digits, not {wanted}"))),
        None => Err(NoReference(format!("`{}` is no digest such as sha256:0123…", digest.escape_default()))),
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` is a digest of a form that can be checked.
pub fn is_digest(text: &str) -> bool {
    parse_digest(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_what_engines_take_them_for() {
        let hex = "0123456789abcdef".repeat(4);
        #[rustfmt::skip]
        let rows = [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
            ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("vaultwarden/server:1.33.2", "docker.io/vaultwarden/server:1.33.2", "vaultwarden/server:1.33.2"),
            ("lscr.io/linuxserver/plex", "lscr.io/linuxserver/plex:latest", "lscr.io/linuxserver/plex:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("GHCR.io/a/b__c.d-e", "ghcr.io/a/b__c.d-e:latest", "ghcr.io/a/b__c.d-e:latest"),
        ];
        for (text, full, familiar) in rows {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar), "{text}");
        }
        let both: Reference = format!("reg.example:5000/a/b:1@sha256:{hex}").parse().unwrap();
        assert_eq!((both.tag(), both.wanted()), (Some("1"), format!("sha256:{hex}").as_str()));
        let pinned: Reference = format!("nginx@sha256:{hex}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.name()), (None, "nginx"));
    }

    #[test]
    fn what_names_no_image_is_told_why() {
        let hex = "0123456789abcdef".repeat(4);
        #[rustfmt::skip]
        let rows = [
            ("", "it is empty"),
            ("docker://nginx", "it begins with docker://: write it as engines do, nginx"),
            ("vaultwarden/Server", "`vaultwarden/Server` has to be in lower case: vaultwarden/server"),
            ("nginx:", "`` is no tag"),
            ("nginx:-1", "`-1` is no tag"),
            ("nginx@sha256:12", "its digest has 2 digits, not 64"),
            ("nginx@md5:12", "`md5:12` is no digest such as sha256:0123…"),
            ("a//b", "a part of the name of an image is empty"),
            ("a/../b", "`..` is no part of the name of an image"),
            ("a/b_", "`b_` is no part of the name of an image"),
            ("my image", "the name of an image cannot have ` `"),
            ("reg..example/a", "`reg..example` is no host of a registry"),
            ("reg.example:99999/a", "`reg.example:99999` is no host of a registry"),
            (hex.as_str(), "it is the id of an image, of which no registry knows: give the image's name, or use --local"),
        ];
        for (text, why) in rows {
            assert_eq!(text.parse::<Reference>().map_err(|e| e.to_string()), Err(why.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_full_name_is_read_back(text in "[a-z0-9.:/@_-]{1,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
                prop_assert!(reference.repository().split('/').all(|part| !part.starts_with('.')));
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<Reference>();
        }
    }
}
