// SPDX-License-Identifier: MIT OR Apache-2.0
//! What registries serve, written as docker-registry keeps it: images of every shape, and what is no image.
//!
//! The layout of the folder: `registry/storage/paths.go` of distribution 2.8. Written like this, it needs no
//! credentials, and may be what no registry would take.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{digest, run};

/// The type of a Helm chart's config (<https://github.com/helm/community/blob/main/hips/hip-0006.md>).
pub const CHART_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// The type of our artifact.
pub const ARTIFACT_TYPE: &str = "application/vnd.example.sbom.v1+json";

/// Operating system, architecture and variant, the last of which may be empty; `windows` has a version as well.
pub type Platform<'a> = (&'a str, &'a str, &'a str);

/// Whose types manifests have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// OCI's.
    Oci,
    /// OCI's, and the index has the attestations that BuildKit adds for every platform.
    Attested,
    /// Docker's.
    Docker,
}

impl Flavour {
    /// Of a list of manifests.
    pub fn index(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
            _ => "application/vnd.oci.image.index.v1+json",
        }
    }

    /// Of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
            _ => "application/vnd.oci.image.manifest.v1+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.container.image.v1+json",
            _ => "application/vnd.oci.image.config.v1+json",
        }
    }

    fn layer(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            _ => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }
}

/// A folder with repositories; the copies of this share it.
#[derive(Clone)]
pub struct Content {
    folder: Arc<TempDir>,
}

/// A layer, as it is inside and as it is kept.
fn layer() -> &'static (Vec<u8>, Vec<u8>) {
    static LAYER: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    LAYER.get_or_init(|| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(6);
        header.set_mode(0o644);
        archive.append_data(&mut header, "hello", &b"hello\n"[..]).expect("an entry");
        let inside = archive.into_inner().expect("an archive");
        let kept = run("gzip", &["-nc"], &inside);
        (inside, kept)
    })
}

impl Content {
    /// An empty one.
    pub fn new() -> Self {
        Self { folder: Arc::new(tempfile::tempdir().expect("a folder")) }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("sha256");
        self.path().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn link(&self, repository: &str, place: &str, digest: &str) {
        let place = self.path().join("docker/registry/v2/repositories").join(repository).join(place).join("link");
        write(&place, digest.as_bytes());
    }

    /// The content of this digest, as it was put there.
    pub fn get(&self, digest: &str) -> Vec<u8> {
        std::fs::read(self.blob(digest)).unwrap_or_else(|e| panic!("{digest}: {e}"))
    }

    /// Puts a blob into a repository; gives what refers to it.
    pub fn blob_of(&self, repository: &str, media_type: &str, content: &[u8]) -> Value {
        let digest = digest(content);
        write(&self.blob(&digest), content);
        self.link(repository, &format!("_layers/{}", digest.replace(':', "/")), &digest);
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    /// Puts a manifest into a repository, byte for byte; gives its digest.
    pub fn manifest(&self, repository: &str, tag: Option<&str>, content: &[u8]) -> String {
        let digest = digest(content);
        write(&self.blob(&digest), content);
        self.link(repository, &format!("_manifests/revisions/{}", digest.replace(':', "/")), &digest);
        if let Some(tag) = tag {
            self.tag(repository, tag, &digest);
        }
        digest
    }

    /// Gives a manifest a tag.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) {
        let hex = digest.replace(':', "/");
        self.link(repository, &format!("_manifests/tags/{tag}/index/{hex}"), digest);
        self.link(repository, &format!("_manifests/tags/{tag}/current"), digest);
    }

    /// Puts a list of `entries` there; gives its digest.
    pub fn list(&self, repository: &str, tag: Option<&str>, flavour: Flavour, entries: &[Value]) -> String {
        let list = json!({ "schemaVersion": 2, "mediaType": flavour.index(), "manifests": entries });
        self.manifest(repository, tag, pretty(&list).as_bytes())
    }

    /// Puts an image of one platform there; gives what refers to it, without the platform.
    pub fn entry(&self, repository: &str, tag: Option<&str>, flavour: Flavour, platform: Platform<'_>) -> Value {
        let (inside, kept) = layer();
        let mut config = json!({
            "created": "2025-01-01T00:00:00Z",
            "config": { "Cmd": ["/hello"] },
            "rootfs": { "type": "layers", "diff_ids": [digest(inside)] },
            "history": [{ "created": "2025-01-01T00:00:00Z", "created_by": "a test" }],
        });
        merge(&mut config, &described(platform));
        let layer = self.blob_of(repository, flavour.layer(), kept);
        let config = self.blob_of(repository, flavour.config(), config.to_string().as_bytes());
        self.put(repository, tag, flavour, &json!({ "config": config, "layers": [layer] }))
    }

    /// Puts a manifest with these fields there; gives what refers to it.
    fn put(&self, repository: &str, tag: Option<&str>, flavour: Flavour, fields: &Value) -> Value {
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": flavour.manifest() });
        merge(&mut manifest, fields);
        let content = pretty(&manifest);
        let digest = self.manifest(repository, tag, content.as_bytes());
        json!({ "mediaType": flavour.manifest(), "digest": digest, "size": content.len() })
    }

    /// An image of one platform, without a list; gives its digest.
    pub fn image(&self, repository: &str, tag: &str, flavour: Flavour, platform: Platform<'_>) -> String {
        digest_of(&self.entry(repository, Some(tag), flavour, platform))
    }

    /// An image of several platforms; gives the digest of its list.
    pub fn index(&self, repository: &str, tag: &str, flavour: Flavour, platforms: &[Platform<'_>]) -> String {
        self.list(repository, Some(tag), flavour, &self.entries(repository, flavour, platforms))
    }

    /// The entries of such a list.
    pub fn entries(&self, repository: &str, flavour: Flavour, platforms: &[Platform<'_>]) -> Vec<Value> {
        let mut entries: Vec<Value> = Vec::new();
        for platform in platforms {
            let mut entry = self.entry(repository, None, flavour, *platform);
            entry["platform"] = described(*platform);
            entries.push(entry);
        }
        if flavour == Flavour::Attested {
            let attestations: Vec<Value> = entries.iter().map(|entry| self.attestation(repository, entry)).collect();
            entries.extend(attestations);
        }
        entries
    }

    /// What BuildKit adds for an image (<https://docs.docker.com/build/metadata/attestations/attestation-storage/>).
    fn attestation(&self, repository: &str, image: &Value) -> Value {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{ "name": "a test", "digest": { "sha256": digest_of(image).trim_start_matches("sha256:") } }],
            "predicate": {},
        });
        let statement = statement.to_string();
        let mut layer = self.blob_of(repository, "application/vnd.in-toto+json", statement.as_bytes());
        layer["annotations"] = json!({ "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" });
        let config = json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [digest(statement.as_bytes())] },
        });
        let config = self.blob_of(repository, Flavour::Oci.config(), config.to_string().as_bytes());
        let mut entry = self.put(repository, None, Flavour::Oci, &json!({ "config": config, "layers": [layer] }));
        entry["annotations"] = json!({
            "vnd.docker.reference.digest": image["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        });
        entry["platform"] = described(("unknown", "unknown", ""));
        entry
    }

    /// An index whose first entry is an index of `inner`, and whose others are `outer`; gives its digest.
    pub fn nested(&self, repository: &str, tag: &str, outer: &[Platform<'_>], inner: &[Platform<'_>]) -> String {
        let inside = self.list(repository, None, Flavour::Oci, &self.entries(repository, Flavour::Oci, inner));
        let size = self.get(&inside).len();
        let mut entries = vec![json!({ "mediaType": Flavour::Oci.index(), "digest": inside, "size": size })];
        entries.extend(self.entries(repository, Flavour::Oci, outer));
        self.list(repository, Some(tag), Flavour::Oci, &entries)
    }

    /// An index whose entries do not say their platform, which only the config of each image tells; gives its digest.
    pub fn bare_index(&self, repository: &str, tag: &str, platforms: &[Platform<'_>]) -> String {
        let entry = |platform: &Platform<'_>| self.entry(repository, None, Flavour::Oci, *platform);
        let entries: Vec<Value> = platforms.iter().map(entry).collect();
        self.list(repository, Some(tag), Flavour::Oci, &entries)
    }

    /// A Helm chart; gives its digest.
    pub fn chart(&self, repository: &str, tag: &str) -> String {
        let config = json!({ "apiVersion": "v2", "name": repository, "version": tag }).to_string();
        let config = self.blob_of(repository, CHART_CONFIG, config.as_bytes());
        let layer = self.blob_of(repository, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", &layer().1);
        digest_of(&self.put(repository, Some(tag), Flavour::Oci, &json!({ "config": config, "layers": [layer] })))
    }

    /// An artifact as of OCI 1.1, of [`ARTIFACT_TYPE`]; gives its digest.
    pub fn artifact(&self, repository: &str, tag: &str) -> String {
        let config = self.blob_of(repository, "application/vnd.oci.empty.v1+json", b"{}");
        let layer = self.blob_of(repository, ARTIFACT_TYPE, b"{\"packages\":[]}");
        let fields = json!({ "artifactType": ARTIFACT_TYPE, "config": config, "layers": [layer] });
        digest_of(&self.put(repository, Some(tag), Flavour::Oci, &fields))
    }

    /// An image by schema 1, which docker-registry signs when it serves it; gives the digest, which is of the unsigned.
    pub fn schema1(&self, repository: &str, tag: &str, architecture: &str) -> String {
        let layer = self.blob_of(repository, Flavour::Docker.layer(), &layer().1);
        let history = json!({ "id": "0".repeat(64), "os": "linux", "architecture": architecture }).to_string();
        let manifest = json!({
            "schemaVersion": 1, "name": repository, "tag": tag, "architecture": architecture,
            "fsLayers": [{ "blobSum": layer["digest"] }], "history": [{ "v1Compatibility": history }],
        });
        self.manifest(repository, Some(tag), pretty(&manifest).as_bytes())
    }
}

/// As a config and an index have it.
fn described((os, architecture, variant): Platform<'_>) -> Value {
    let mut platform = json!({ "architecture": architecture, "os": os });
    if os == "windows" {
        platform["os.version"] = json!("10.0.20348.2700");
    }
    if !variant.is_empty() {
        platform["variant"] = json!(variant);
    }
    platform
}

fn digest_of(entry: &Value) -> String {
    entry["digest"].as_str().expect("a digest").to_owned()
}

fn merge(object: &mut Value, fields: &Value) {
    let fields = fields.as_object().expect("an object").clone();
    object.as_object_mut().expect("an object").extend(fields);
}

/// As Docker and others write manifests: who reads must not write it anew and take the digest of that.
fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

/// Writes a file whole, for a registry may be reading already.
fn write(path: &Path, content: &[u8]) {
    let folder = path.parent().expect("a folder");
    std::fs::create_dir_all(folder).expect("a folder");
    let mut file = tempfile::NamedTempFile::new_in(folder).expect("a file");
    std::io::Write::write_all(&mut file, content).expect("a file");
    file.persist(path).expect("a file");
}
