// SPDX-License-Identifier: MIT OR Apache-2.0
//! The private image: one probe and nothing else, in the form that `docker save` writes and that
//! `docker load`, `podman load` and `nerdctl load` all take.
//!
//! An image that is loaded carries its architecture in its configuration; `docker import
//! --platform` of Docker 20.10 would make it one of the host's.

use std::io;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::probes;
use super::token::LABEL;
use crate::platform::Platform;

/// Where the probe is in the container.
pub const PROBE: &str = "/qemu-persist-probe";
/// Where the one is that looks at what programs rely on.
pub const DEPTH_PROBE: &str = "/qemu-persist-depth";

/// A file of the container. All of them can be executed.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Where it is.
    pub path: &'static str,
    /// What is in it.
    pub content: &'static [u8],
    /// Its mode; the owner is root.
    pub mode: u32,
}

impl Program {
    /// One that anybody may run.
    pub const fn new(path: &'static str, content: &'static [u8]) -> Self {
        Self { path, content, mode: 0o555 }
    }
}

/// The programs of a container of `platform`.
pub fn programs(platform: &Platform) -> Vec<Program> {
    let mut programs: Vec<Program> = vec![Program::new(PROBE, probes::identity(platform))];
    if let Some(depth) = probes::depth(platform) {
        programs.push(Program::new(DEPTH_PROBE, depth));
        // `SCRIPT`, `CHILD` and `SETUID` in probes/exec.h.
        programs.push(Program::new("/qemu-persist-depth.script", b"#!/qemu-persist-depth =child\n"));
        programs.push(Program { path: "/qemu-persist-depth.setuid", content: depth, mode: 0o4555 });
    }
    programs
}

/// The platform as engines are to be asked for it.
pub fn engine_platform(platform: &Platform) -> String {
    match variant(platform) {
        Some(variant) if platform.oci == "arm" => format!("{platform}/{variant}"),
        _ => platform.to_string(),
    }
}

/// The variant that an image of `platform` says, where the platform has any (OCI image
/// specification, "Platform Variants").
fn variant(platform: &Platform) -> Option<&'static str> {
    match platform.oci {
        "arm" => Some("v7"),
        "arm64" => Some("v8"),
        _ => None,
    }
}

/// Puts the file `path` into `archive`.
///
/// # Errors
/// Those of writing a tar archive to memory.
pub(super) fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, path, content)
}

/// The archive of an image of `platform` called `name` that holds `programs` and runs the first.
///
/// # Errors
/// Those of writing a tar archive to memory.
pub fn archive(platform: &Platform, name: &str, programs: &[Program]) -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for Program { path, content, mode } in programs {
        append(&mut layer, path.trim_start_matches('/'), *mode, content)?;
    }
    let entry = programs.first().map_or(PROBE, |program| program.path);
    let layer = layer.into_inner()?;
    let layer_digest = digest(&layer);
    let created = "1970-01-01T00:00:00Z";
    let mut config = json!({
        "architecture": platform.oci,
        "os": "linux",
        "created": created,
        "config": { "Entrypoint": [entry], "WorkingDir": "/", "Labels": { LABEL: "1" } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": created, "created_by": "qemu-persist selftest" }],
    });
    if let Some(variant) = variant(platform) {
        config["variant"] = json!(variant);
    }
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", digest(&config));
    let layer_name = format!("{layer_digest}.tar");
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": [layer_name] }]);
    let mut image = tar::Builder::new(Vec::new());
    append(&mut image, &layer_name, 0o444, &layer)?;
    append(&mut image, &config_name, 0o444, &config)?;
    append(&mut image, "manifest.json", 0o444, &serde_json::to_vec(&manifest)?)?;
    image.into_inner()
}

/// The SHA-256 digest of `bytes` in hexadecimal.
fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read as _;

    #[test]
    fn names_digests_and_platform_agree() {
        let platform = Platform::named("arm").unwrap();
        let image = archive(platform, "localhost/x:y", &[Program::new(PROBE, b"probe")]).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(&image[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["localhost/x:y"]));
        let config_name = manifest[0]["Config"].as_str().unwrap();
        assert_eq!(config_name, format!("{}.json", digest(&files[config_name])));
        let config: serde_json::Value = serde_json::from_slice(&files[config_name]).unwrap();
        assert_eq!((&config["architecture"], &config["variant"]), (&json!("arm"), &json!("v7")));
        let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"][0], json!(format!("sha256:{}", digest(layer))));
        let mut layer = tar::Archive::new(&layer[..]);
        let probe = layer.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(
            (probe.path().unwrap().to_str(), probe.header().mode().unwrap()),
            (Some("qemu-persist-probe"), 0o555)
        );
    }
}
