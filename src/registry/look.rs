// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at an image: its platforms, from wherever it may be asked for, or from what is kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::access::{Access, Quota, Wanted, is_page};
use super::cache::{Cache, digest};
use super::settings::{Endpoint, Places, Settings};
use super::trouble::Trouble;
use crate::oci::manifest::{ACCEPTED, MOST, Manifest, NoImage, Offer, platform_of_configuration};
use crate::oci::platform::ImagePlatform;
use crate::oci::reference::{Reference, is_digest};

/// How many further manifests and configurations are read of one image, where its index does not say what they are for.
const MOST_PARTS: u32 = 24;
/// How many pages of tags are read, and how many tags there may be.
const MOST_PAGES: usize = 20;
/// The same of tags.
const MOST_TAGS: usize = 5000;

/// The registries, as this host's engines know them.
pub struct Registries {
    access: Access,
    cache: Cache,
    /// What the engines are told.
    pub settings: Settings,
    offline: bool,
    patience: Duration,
}

/// What there is to know of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: String,
    /// Its platforms, as they are listed; attestations are none.
    pub platforms: Vec<ImagePlatform>,
    /// Where that is known from.
    pub source: Source,
}

/// Where something is known from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Source {
    /// The host that was asked, with its port; none with `--offline` and for local images.
    pub host: Option<String>,
    /// Whether it is a mirror of the registry.
    pub mirror: bool,
    /// How many manifests were fetched, which registries count as pulls.
    pub pulls: u32,
    /// How many questions were asked.
    pub requests: u32,
    /// How long ago it was seen, in seconds, where nobody was asked.
    pub seconds_ago: Option<u64>,
}

/// One image being looked at, at one place.
struct Visit<'a> {
    registries: &'a Registries,
    endpoint: &'a Endpoint,
    deadline: Instant,
    source: Source,
    parts: u32,
}

impl Registries {
    /// Those that the files of `places` tell of. One image takes `patience` at most; with `offline`, nobody is asked.
    pub fn new(places: &Places, offline: bool, patience: Duration) -> Self {
        Self {
            access: Access::new(places.clone()),
            cache: Cache::new(places.cache.as_deref()),
            settings: Settings::read(places),
            offline,
            patience,
        }
    }

    /// What was said of how often registries may still be asked, by host.
    pub fn quotas(&self) -> BTreeMap<String, Quota> {
        self.access.quotas()
    }

    /// Looks at the image that `reference` names.
    ///
    /// # Errors
    /// Why nothing is known of it.
    pub fn look(&self, reference: &Reference) -> Result<Image, Trouble> {
        if self.offline {
            return self.remember(reference);
        }
        let deadline = Instant::now() + self.patience;
        let mut last = Trouble::NotFound;
        for endpoint in self.settings.endpoints(reference)? {
            let source = Source { host: Some(endpoint.host.clone()), mirror: endpoint.is_mirror, ..Source::default() };
            let mut visit = Visit { registries: self, endpoint: &endpoint, deadline, source, parts: 0 };
            match visit.image(reference) {
                Ok(image) => {
                    self.cache.keep_seen(reference, &image.digest);
                    return Ok(image);
                }
                // What a mirror lacks, the registry may have.
                Err(trouble) if !endpoint.is_mirror => return Err(trouble),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    /// What is kept of `reference`.
    fn remember(&self, reference: &Reference) -> Result<Image, Trouble> {
        let seen = self.cache.seen(reference);
        let digest = reference.digest().map(str::to_owned).or(seen.as_ref().map(|seen| seen.digest.clone()));
        let digest = digest.ok_or(Trouble::NotKept)?;
        let endpoint = Endpoint { host: String::new(), repository: String::new(), insecure: false, is_mirror: false };
        let source = Source { seconds_ago: seen.map(|seen| seen.age()), ..Source::default() };
        let mut visit = Visit { registries: self, endpoint: &endpoint, deadline: Instant::now(), source, parts: 0 };
        let content = self.cache.content(&digest).ok_or(Trouble::NotKept)?;
        let platforms = visit.platforms(Manifest::read(&content, None)?, 0)?;
        Ok(Image { digest, platforms, source: visit.source })
    }

    /// The tags of the repository of `reference`, in the order of the registry; a long list is cut.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, Trouble> {
        #[derive(Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        if self.offline {
            return Err(Trouble::NotKept);
        }
        let deadline = Instant::now() + self.patience;
        let endpoint = self.settings.endpoints(reference)?.pop().ok_or(Trouble::NotFound)?;
        let mut tags: Vec<String> = Vec::new();
        let mut path = "tags/list?n=1000".to_owned();
        for _ in 0..MOST_PAGES {
            let wanted = Wanted { path: &path, head: false, accept: None, limit: MOST };
            let answer = self.access.ask(&endpoint, wanted, deadline)?;
            let broken = |e: serde_json::Error| NoImage::Broken(format!("its tags: {e}"));
            let list: List = serde_json::from_slice(&answer.body).map_err(broken)?;
            let page = list.tags.unwrap_or_default();
            let last = page.last().cloned();
            tags.extend(page.into_iter().filter(|tag| format!("a:{tag}").parse::<Reference>().is_ok()));
            // `Link` leads to the next page (distribution-spec, "Listing Tags"); only that there is one is taken from it.
            let has_more =
                answer.header("link").is_some_and(|link| link.contains("rel=\"next\"") || link.contains("rel=next"));
            match last {
                Some(last) if has_more && tags.len() < MOST_TAGS => {
                    path = format!("tags/list?n=1000&last={}", super::http::percent_encoded(&last));
                }
                _ => break,
            }
        }
        tags.truncate(MOST_TAGS);
        Ok(tags)
    }
}

impl Visit<'_> {
    fn ask(&mut self, path: &str, head: bool, accept: Option<&str>) -> Result<super::http::Answer, Trouble> {
        if self.registries.offline {
            return Err(Trouble::NotKept);
        }
        self.source.requests += 1;
        let wanted = Wanted { path, head, accept, limit: MOST };
        let answer = self.registries.access.ask(self.endpoint, wanted, self.deadline)?;
        if is_page(&answer) {
            let why = "it shows a page of the web".to_owned();
            return Err(Trouble::NoRegistry { host: self.endpoint.host.clone(), why });
        }
        Ok(answer)
    }

    fn image(&mut self, reference: &Reference) -> Result<Image, Trouble> {
        let accept = ACCEPTED.join(", ");
        let path = format!("manifests/{}", reference.wanted());
        // What a tag is now costs nothing to ask; only fetching it is a pull.
        let known = match reference.digest() {
            Some(digest) => Some(digest.to_owned()),
            None => match self.ask(&path, true, Some(&accept)) {
                Ok(answer) => answer.header("docker-content-digest").map(str::to_owned),
                // Some proxies refuse the method.
                Err(Trouble::NoRegistry { .. } | Trouble::Failing { .. }) => None,
                Err(trouble) => return Err(trouble),
            },
        };
        let known = known.filter(|digest| is_digest(digest));
        let kept = known.as_ref().and_then(|digest| Some((digest.clone(), self.registries.cache.content(digest)?)));
        let (digest, manifest) = match kept {
            Some((digest, content)) => (digest, Manifest::read(&content, None)?),
            None => self.fetch_manifest(reference, &path, &accept)?,
        };
        let platforms = self.platforms(manifest, 0)?;
        Ok(Image { digest, platforms, source: self.source.clone() })
    }

    fn fetch_manifest(
        &mut self,
        reference: &Reference,
        path: &str,
        accept: &str,
    ) -> Result<(String, Manifest), Trouble> {
        self.source.pulls += 1;
        let answer = self.ask(path, false, Some(accept))?;
        let said = answer.header("docker-content-digest").filter(|digest| is_digest(digest));
        let wanted = reference.digest().or(said);
        let is = digest(&answer.body, wanted.unwrap_or_default());
        // A manifest of the first version has the digest of a part of it.
        let manifest = Manifest::read(&answer.body, answer.header("content-type"))?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != is) {
            return Err(Trouble::WrongDigest { wanted: wanted.to_owned() });
        }
        self.registries.cache.keep_content(&is, &answer.body);
        Ok((is, manifest))
    }

    /// The platforms of `manifest`, which lies `depth` indexes deep.
    fn platforms(&mut self, manifest: Manifest, depth: u32) -> Result<Vec<ImagePlatform>, Trouble> {
        match manifest {
            Manifest::Single { configuration } => {
                let content = self.part(&format!("blobs/{configuration}"), &configuration)?;
                Ok(vec![platform_of_configuration(&content)?])
            }
            Manifest::Index(offers) => {
                let mut platforms = Vec::new();
                for Offer { platform, digest } in offers {
                    match platform {
                        Some(platform) => platforms.push(platform),
                        None if depth < 2 => {
                            let content = self.part(&format!("manifests/{digest}"), &digest)?;
                            match Manifest::read(&content, None) {
                                Ok(manifest) => platforms.extend(self.platforms(manifest, depth + 1)?),
                                // What goes with an image is in its index as well: signatures, lists of its parts.
                                Err(NoImage::Artifact(_)) => {}
                                Err(why) => return Err(why.into()),
                            }
                        }
                        None => return Err(NoImage::Broken("indexes lie in it too deep".into()).into()),
                    }
                }
                Ok(platforms)
            }
        }
    }

    /// What `wanted` is the digest of, from what is kept or from `path`.
    fn part(&mut self, path: &str, wanted: &str) -> Result<Vec<u8>, Trouble> {
        if !is_digest(wanted) {
            return Err(NoImage::Broken("a digest in it is none".into()).into());
        }
        if let Some(content) = self.registries.cache.content(wanted) {
            return Ok(content);
        }
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(
                NoImage::Broken(format!("more than {MOST_PARTS} parts of it do not say what they are for")).into()
            );
        }
        let is_manifest = path.starts_with("manifests/");
        self.source.pulls += u32::from(is_manifest);
        let accept = ACCEPTED.join(", ");
        let answer = self.ask(path, false, is_manifest.then_some(accept.as_str()))?;
        if digest(&answer.body, wanted) != wanted {
            return Err(Trouble::WrongDigest { wanted: wanted.to_owned() });
        }
        self.registries.cache.keep_content(wanted, &answer.body);
        Ok(answer.body)
    }
}
