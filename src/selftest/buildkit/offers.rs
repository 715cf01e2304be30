// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the builder says that it builds for, and why a build can work where a container does not run.
//!
//! `buildx inspect` without `--bootstrap` starts nothing. A daemon's list only grows while it runs (moby/buildkit,
//! worker/base/worker.go): a handler that is gone is still in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::finding::{Finding, Severity};
use crate::host::command;
use crate::host::engines::{Kind, stands_for_podman};
use crate::platform::Platform;

/// The builder that `docker buildx build` uses now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Offers {
    /// Its name.
    pub name: String,
    /// What it runs by: `docker` for the daemon's own BuildKit, else `docker-container`, `kubernetes` or `remote`.
    pub driver: String,
    /// The platforms that it offers, as it writes them; none where it does not run.
    pub platforms: Vec<String>,
}

/// What was asked of Docker's client.
#[derive(Debug, Default)]
pub struct Asked {
    /// Whether it is here at all.
    pub has_docker: bool,
    /// What its plugin buildx says, where it is installed.
    pub offers: Option<Offers>,
}

/// Asks Docker's client, for `limit` at most.
///
/// # Errors
/// Where no program can be run at all.
pub fn ask(limit: Duration) -> std::io::Result<Asked> {
    let docker = command::find(Kind::Docker.program()).filter(|docker| !stands_for_podman(docker));
    let Some(docker) = docker else { return Ok(Asked::default()) };
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let output = reactor.block_on(command::run(&docker, &["buildx", "inspect"], limit));
    let offers = output.ok().and_then(|output| read(&String::from_utf8_lossy(&output.stdout)));
    Ok(Asked { has_docker: true, offers })
}

/// Reads what `buildx inspect` writes: of the builder, and behind an empty line of each of its nodes.
fn read(text: &str) -> Option<Offers> {
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned());
    let first = |key: &str| text.lines().find_map(|line| value(line, key)).filter(|value| !value.is_empty());
    let mut offers = Offers { name: first("Name")?, driver: first("Driver")?, platforms: Vec::new() };
    for list in text.lines().filter_map(|line| value(line, "Platforms")) {
        // The mark of those that were named when the node was added.
        for platform in list.split(',').map(|platform| platform.trim().trim_end_matches('*')) {
            if !platform.is_empty() && !offers.platforms.iter().any(|known| known == platform) {
                offers.platforms.push(platform.to_owned());
            }
        }
    }
    Some(offers)
}

/// The platforms that BuildKit's own image has a QEMU for (moby/buildkit, Dockerfile).
const IN_IMAGE: [&str; 7] = ["amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x"];

/// Why builds of `missing`, which no handler runs here, can work all the same: a finding for each for which there is a
/// reason. `find` finds a program.
pub fn findings(
    asked: &Asked,
    missing: impl Iterator<Item = &'static Platform>,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Vec<Finding> {
    let finding = |platform: &'static Platform| {
        let own = find(&format!("buildkit-qemu-{}", platform.qemu)).filter(|_| asked.has_docker);
        let reason = reason(platform, asked.offers.as_ref(), own.as_deref())?;
        Some(Finding {
            id: "build-without-handler",
            severity: Severity::Note,
            subject: Some(platform.to_string()),
            message: format!("`docker build` may work where `docker run` does not: {reason}"),
            advice: "See what a build runs by: `sudo qemu-persist selftest --runtime buildkit`.".into(),
        })
    };
    missing.filter_map(finding).collect()
}

fn reason(platform: &Platform, offers: Option<&Offers>, own: Option<&Path>) -> Option<String> {
    let driver = offers.map_or("docker", |offers| offers.driver.as_str());
    let name = offers.map_or("", |offers| offers.name.as_str());
    let is_own = |listed: &String| *listed == platform.to_string() || listed.starts_with(&format!("{platform}/"));
    let is_listed = offers.is_some_and(|offers| offers.platforms.iter().any(is_own));
    match (driver, own) {
        ("docker", Some(own)) => Some(format!("BuildKit has a QEMU of its own for it, {}", own.display())),
        ("docker-container" | "kubernetes", _) if IN_IMAGE.contains(&platform.oci) => {
            Some(format!("the builder {name} (driver {driver}) runs BuildKit's own image, which has a QEMU for it"))
        }
        ("docker", None) if is_listed => {
            Some(format!("the builder {name} still offers it, from when there was a handler"))
        }
        _ if is_listed => Some(format!("the builder {name} (driver {driver}) offers it, maybe on another machine")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As buildx 0.13 writes it.
    const TEXT: &str = "Name:          many\nDriver:        docker-container\nLast Activity: 2026-11-23 18:21:46 +0000 UTC\n\n\
        Nodes:\nName:             many0\nEndpoint:         unix:///var/run/docker.sock\nStatus:           running\n\
        BuildKit version: v0.12.5\nPlatforms:        linux/amd64, linux/amd64/v2, linux/386\nLabels:\n Name: x\n\n\
        Name:             many1\nEndpoint:         ssh://pi\nPlatforms:        linux/arm64*, linux/386, linux/arm/v7\n";

    fn offers(driver: &str, platforms: &[&str]) -> Offers {
        let platforms = platforms.iter().map(|&name| name.to_owned()).collect();
        Offers { name: "b".into(), driver: driver.into(), platforms }
    }

    #[test]
    fn what_buildx_says_is_read() {
        let read_ = read(TEXT).unwrap();
        assert_eq!((read_.name.as_str(), read_.driver.as_str()), ("many", "docker-container"));
        assert_eq!(read_.platforms, ["linux/amd64", "linux/amd64/v2", "linux/386", "linux/arm64", "linux/arm/v7"]);
        let down = "Name:   x\nDriver: docker-container\n\nNodes:\nName:     x0\nEndpoint: y\nStatus:   inactive\n";
        assert_eq!(read(down).map(|offers| offers.platforms), Some(Vec::new()));
        for other in ["", "docker: 'buildx' is not a docker command.", "Name:\nDriver: docker\n", "Name: x\n"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_reason_is_given_only_where_there_is_one() {
        let platform = |name| Platform::named(name).unwrap();
        let own = PathBuf::from("/usr/bin/buildkit-qemu-aarch64");
        #[rustfmt::skip]
        let rows = [
            ("arm64", None, true, "a QEMU of its own for it, /usr/bin/buildkit-qemu-aarch64"),
            ("arm64", None, false, ""),
            ("arm64", Some(offers("docker", &["linux/amd64"])), false, ""),
            ("arm64", Some(offers("docker", &["linux/amd64", "linux/arm64"])), false, "still offers it"),
            ("arm64", Some(offers("docker", &["linux/arm64"])), true, "a QEMU of its own"),
            ("arm", Some(offers("docker", &["linux/arm64", "linux/arm/v7"])), false, "still offers it"),
            ("arm", Some(offers("docker", &["linux/arm64"])), false, ""),
            ("arm64", Some(offers("docker-container", &[])), false, "BuildKit's own image"),
            ("mips64", Some(offers("docker-container", &[])), false, ""),
            ("arm64", Some(offers("remote", &["linux/arm64"])), true, "another machine"),
            ("arm64", Some(offers("remote", &["linux/amd64"])), false, ""),
        ];
        for (name, offers, has_own, reason) in rows {
            let asked = Asked { has_docker: true, offers };
            let found = findings(&asked, std::iter::once(platform(name)), |_| has_own.then(|| own.clone()));
            assert_eq!(found.len(), usize::from(!reason.is_empty()), "{asked:?}: {found:?}");
            assert!(found.iter().all(|finding| finding.message.contains(reason)), "{reason}: {found:?}");
        }
        let nowhere = findings(&Asked::default(), std::iter::once(platform("arm64")), |_| Some(own.clone()));
        assert_eq!(nowhere, []);
    }
}
