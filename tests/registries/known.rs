// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients of registries that everybody knows, to compare with.
//!
//! What `docker manifest inspect` was seen to do; no daemon runs, none is asked:
//! - Both versions give a Docker list, and a single Docker image, whose platform is in `-v`, from its config.
//! - Docker 20.10 knows no OCI: it takes the index, asks for its images without accepting OCI's, gets 404, and says
//!   `no such manifest`, as it does for a single OCI image, and for what is not there at all.
//! - Docker 26.1 reads OCI too. Entries without a platform stay without (`"architecture": "", "os": ""`), the attestations'
//!   `unknown/unknown` are listed as any other, and a Helm chart is an image without a platform.
//! - An index within an index ends with `unsupported manifest format: <nil>` (20.10) or `unsupported manifest type:
//!   *manifestlist.DeserializedManifestList` (26.1); schema 1 in both with `unsupported manifest media type and no
//!   default available: application/vnd.docker.distribution.manifest.v1+prettyjws`.
//!
//! skopeo 1.9 takes an entry of an index without a platform for any platform, so that it looks at the first, and copies
//! no index within an index (`Unexpectedly received a manifest list instead of a manifest for a single image`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::server::Registry;

/// Debian's skopeo.
pub const SKOPEO: &str = "/usr/bin/skopeo";
/// Debian's curl.
pub const CURL: &str = "/usr/bin/curl";
/// Docker's client of this release of Debian.
pub const DOCKER: &str = "/usr/bin/docker";

/// Docker's client of Debian 13; none where tests/docker.sh has not fetched it.
pub fn newer_docker() -> Option<PathBuf> {
    let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cache/docker");
    let folders = std::fs::read_dir(cache).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    folders.map(|folder| folder.join("docker")).filter(|program| program.exists()).max()
}

/// What a client does with these arguments, without the logins, the settings and the proxies of who runs the tests:
/// skopeo takes logins from `/run/containers` where there is no `XDG_RUNTIME_DIR`.
pub fn run_client(program: impl AsRef<Path>, arguments: &[&str]) -> Output {
    let (program, home) = (program.as_ref(), tempfile::tempdir().expect("a folder"));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    for name in ["HOME", "TMPDIR", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"] {
        command.env(name, home.path());
    }
    command.env("DOCKER_CLI_EXPERIMENTAL", "enabled");
    command.output().unwrap_or_else(|e| panic!("{}: {e}", program.display()))
}

/// The platforms that `docker manifest inspect` of the client `docker` gives for an image, `OS/ARCHITECTURE/VARIANT` with
/// what there is, or what it says instead.
pub fn docker_platforms(docker: impl AsRef<Path>, reference: &str) -> Result<Vec<String>, String> {
    let output = run_client(docker, &["manifest", "inspect", "--insecure", "--verbose", reference]);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let images = if let Value::Array(images) = read { images } else { vec![read] };
    Ok(images.iter().map(|image| platform(&image["Descriptor"]["platform"])).collect())
}

/// `OS/ARCHITECTURE/VARIANT` with what there is.
fn platform(platform: &Value) -> String {
    let parts = ["os", "architecture", "variant"].map(|key| platform[key].as_str().unwrap_or_default());
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/")
}

/// The bytes of a manifest in a registry without TLS, as skopeo gets them. `name` is `REPOSITORY:TAG` or with a digest.
pub fn skopeo_raw(registry: &Registry, name: &str) -> Vec<u8> {
    let address = format!("docker://{}", registry.reference(name));
    let output = run_client(SKOPEO, &["inspect", "--raw", "--tls-verify=false", &address]);
    assert!(output.status.success(), "{address}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
