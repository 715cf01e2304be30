// SPDX-License-Identifier: MIT OR Apache-2.0
//! Manifests, and what they say of platforms.
//!
//! There are the two forms of today, an index of manifests and a single one, each by the OCI's media types and by
//! Docker's older ones (OCI image-spec, media-types.md, "Compatibility Matrix"), and the first one of Docker.

use serde::Deserialize;

use super::platform::ImagePlatform;

/// The most bytes that a manifest may have: what registries take at least (OCI distribution-spec, "Pushing Manifests").
pub const MOST: usize = 4 << 20;

/// What is asked for, the forms that are understood and those that are told apart, as `Accept` has it.
pub const ACCEPTED: [&str; 6] = [INDEX, LIST, MANIFEST, DOCKER, SCHEMA_1_SIGNED, SCHEMA_1];

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const SCHEMA_1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// The media types of configurations that are an image's; others are of charts, signatures and the like.
const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// What a tag or digest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// An image for several platforms, in the order in which they are listed; none for what is no image.
    Index(Vec<Offer>),
    /// An image for one platform, which its configuration names.
    Single {
        /// The digest of the configuration.
        configuration: String,
    },
}

/// One platform of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The platform; none where the index does not say it, so that the manifest's configuration has to.
    pub platform: Option<ImagePlatform>,
    /// The digest of the manifest for it.
    pub digest: String,
}

/// Why something is no image that can be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoImage {
    /// Docker's first form of manifest, which engines no longer take.
    #[error("its manifest is of the first version, which today's engines do not run: it has to be built anew")]
    TooOld,
    /// Something else that registries keep; the text is its media type.
    #[error("it is no image but {0}")]
    Artifact(String),
    /// There is more of it than a manifest can have.
    #[error("its manifest is longer than {MOST} bytes")]
    TooLong,
    /// It is no manifest.
    #[error("its manifest cannot be read: {0}")]
    Broken(String),
}

/// A manifest of either form; of what it has, that which is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<ImagePlatform>,
}

impl Manifest {
    /// Reads the `content` that a registry gave for a tag or digest, and said to be of `media_type`, if it did. The
    /// content's own word for what it is counts more.
    ///
    /// # Errors
    /// [`NoImage`].
    pub fn read(content: &[u8], media_type: Option<&str>) -> Result<Self, NoImage> {
        if content.len() > MOST {
            return Err(NoImage::TooLong);
        }
        let written: Written = serde_json::from_slice(content).map_err(|e| NoImage::Broken(e.to_string()))?;
        let said = media_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        let media_type = written.media_type.as_deref().or(said);
        if written.schema_version == 1 || media_type.is_some_and(|is| [SCHEMA_1, SCHEMA_1_SIGNED].contains(&is)) {
            return Err(NoImage::TooOld);
        }
        match (written.manifests, written.config) {
            // Either could be meant, and whoever trusts one of them may be shown another (CVE-2021-41190).
            (Some(_), Some(_)) => Err(NoImage::Broken("it is an index and a single manifest at once".into())),
            (Some(manifests), None) if media_type.is_none_or(|is| [INDEX, LIST].contains(&is)) => {
                Ok(Self::Index(manifests.into_iter().filter_map(offer).collect()))
            }
            (None, Some(configuration)) if media_type.is_none_or(|is| [MANIFEST, DOCKER].contains(&is)) => {
                let other = written.artifact_type.unwrap_or(configuration.media_type);
                if CONFIGURATIONS.contains(&other.as_str()) {
                    Ok(Self::Single { configuration: configuration.digest })
                } else {
                    Err(NoImage::Artifact(other))
                }
            }
            (None, None) => match (written.artifact_type, media_type) {
                (Some(other), _) => Err(NoImage::Artifact(other)),
                (None, Some(other)) if !ACCEPTED.contains(&other) => Err(NoImage::Artifact(other.to_owned())),
                (None, _) => Err(NoImage::Broken("it names neither manifests nor a configuration".into())),
            },
            (Some(_), None) | (None, Some(_)) => {
                Err(NoImage::Broken(format!("it is not what it says to be: {}", media_type.unwrap_or_default())))
            }
        }
    }
}

/// What an entry of an index offers; nothing where it is no image, such as the attestation of one.
fn offer(descriptor: Descriptor) -> Option<Offer> {
    let is_image = [MANIFEST, DOCKER, INDEX, LIST, ""].contains(&descriptor.media_type.as_str());
    let is_attestation = descriptor.platform.as_ref().is_some_and(|platform| !platform.is_known());
    (is_image && !is_attestation).then_some(Offer { platform: descriptor.platform, digest: descriptor.digest })
}

/// The platform that the configuration of an image names (OCI image-spec, config.md).
///
/// # Errors
/// [`NoImage`], where there is none.
pub fn platform_of_configuration(content: &[u8]) -> Result<ImagePlatform, NoImage> {
    if content.len() > MOST {
        return Err(NoImage::TooLong);
    }
    let platform: ImagePlatform = serde_json::from_slice(content).map_err(|e| NoImage::Broken(e.to_string()))?;
    let unknown = || NoImage::Broken("its configuration does not say what platform it is for".into());
    platform.is_known().then_some(platform).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(content: &Value, media_type: Option<&str>) -> Result<Manifest, NoImage> {
        Manifest::read(content.to_string().as_bytes(), media_type)
    }

    fn platforms(manifest: Result<Manifest, NoImage>) -> Vec<String> {
        let Ok(Manifest::Index(offers)) = manifest else { panic!("{manifest:?}") };
        let name = |offer: Offer| offer.platform.map_or("?".to_owned(), |platform| platform.to_string());
        offers.into_iter().map(name).collect()
    }

    fn entry(media_type: &str, platform: &Value) -> Value {
        json!({"mediaType": media_type, "digest": "sha256:1", "size": 1, "platform": platform})
    }

    #[test]
    fn an_index_offers_what_is_an_image() {
        let attestation = json!({"architecture": "unknown", "os": "unknown"});
        let without_platform = json!({"mediaType": MANIFEST, "digest": "sha256:2", "size": 1});
        for (index, manifest) in [(INDEX, MANIFEST), (LIST, DOCKER)] {
            let entries = json!([
                entry(manifest, &json!({"architecture": "amd64", "os": "linux"})),
                entry(manifest, &json!({"architecture": "arm", "variant": "v6", "os": "linux"})),
                entry(manifest, &json!({"architecture": "arm64", "variant": "v8", "os": "linux"})),
                entry(manifest, &json!({"architecture": "amd64", "os": "windows", "os.version": "10.0"})),
                entry(manifest, &attestation),
                entry("application/vnd.in-toto+json", &json!({"architecture": "amd64", "os": "linux"})),
                without_platform,
            ]);
            let expected = ["linux/amd64", "linux/arm/v6", "linux/arm64", "windows/amd64", "?"];
            let content = json!({"schemaVersion": 2, "mediaType": index, "manifests": entries});
            assert_eq!(platforms(read(&content, None)), expected);
            // OCI's own need not say what they are.
            let content = json!({"schemaVersion": 2, "manifests": entries});
            assert_eq!(platforms(read(&content, Some(&format!("{index}; charset=utf-8")))), expected);
        }
        assert_eq!(platforms(read(&json!({"schemaVersion": 2, "manifests": []}), None)), [""; 0]);
    }

    #[test]
    fn what_is_no_index_is_told_apart() {
        let config = |kind: &str| json!({"mediaType": kind, "digest": "sha256:3", "size": 1});
        let chart = "application/vnd.cncf.helm.config.v1+json";
        let empty = "application/vnd.oci.empty.v1+json";
        let single = Ok(Manifest::Single { configuration: "sha256:3".to_owned() });
        let artifact = |kind: &str| Err(NoImage::Artifact(kind.to_owned()));
        let broken = |part: &str| Err(NoImage::Broken(part.to_owned()));
        let image = config(CONFIGURATIONS[0]);
        #[rustfmt::skip]
        let rows = [
            (json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": image}), None, single.clone()),
            (json!({"schemaVersion": 2, "config": image}), Some(MANIFEST), single.clone()),
            (json!({"schemaVersion": 2, "mediaType": DOCKER, "config": config(CONFIGURATIONS[1])}), Some(DOCKER), single),
            (json!({"schemaVersion": 2, "config": config(chart)}), Some(MANIFEST), artifact(chart)),
            (json!({"schemaVersion": 2, "artifactType": "application/x", "config": config(empty)}), None, artifact("application/x")),
            (json!({"schemaVersion": 2, "mediaType": "application/y"}), None, artifact("application/y")),
            (json!({"schemaVersion": 1, "name": "old", "architecture": "amd64"}), Some(SCHEMA_1_SIGNED), Err(NoImage::TooOld)),
            (json!({"schemaVersion": 1}), None, Err(NoImage::TooOld)),
            (json!({"schemaVersion": 2}), None, broken("it names neither manifests nor a configuration")),
            (json!({"schemaVersion": 2, "config": image, "manifests": []}), None, broken("it is an index and a single manifest at once")),
            (json!({"schemaVersion": 2, "mediaType": MANIFEST, "manifests": []}), None, broken(&format!("it is not what it says to be: {MANIFEST}"))),
        ];
        for (content, media_type, expected) in rows {
            assert_eq!(read(&content, media_type), expected, "{content}");
        }
    }

    #[test]
    fn what_is_hostile_is_refused() {
        let deep = format!("{{\"schemaVersion\": 2, \"manifests\": {}", "[".repeat(100_000));
        assert!(matches!(Manifest::read(deep.as_bytes(), None), Err(NoImage::Broken(_))));
        assert_eq!(Manifest::read(&vec![b' '; MOST + 1], None), Err(NoImage::TooLong));
        assert_eq!(platform_of_configuration(&vec![b' '; MOST + 1]), Err(NoImage::TooLong));
    }

    #[test]
    fn a_configuration_names_the_platform() {
        let of = |content: Value| platform_of_configuration(content.to_string().as_bytes());
        let arm = json!({"os": "linux", "architecture": "arm", "variant": "v6", "rootfs": {}, "config": {}});
        assert_eq!(of(arm).map(|platform| platform.to_string()), Ok("linux/arm/v6".to_owned()));
        assert!(matches!(of(json!({"architecture": "amd64"})), Err(NoImage::Broken(_))));
        assert!(matches!(of(json!([])), Err(NoImage::Broken(_))));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(content: Vec<u8>) {
            prop_assert!(Manifest::read(&content, None).is_err());
            prop_assert!(platform_of_configuration(&content).is_err());
        }
    }
}
