// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where engines of this host look for images: mirrors, other places, and registries without TLS, as Docker
//! (dockerd(8), daemon.json) and Podman (containers-registries.conf(5)) are told.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::trouble::Trouble;
use crate::oci::reference::{DOCKER_HUB, Reference};

/// The most bytes of one file of settings.
const LARGEST: u64 = 1 << 20;

/// Whose files are read: those of the user that runs this, and those of the system.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The home directory.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, or what it is without.
    pub config: Option<PathBuf>,
    /// The directory of Docker's client: `DOCKER_CONFIG`, or ~/.docker.
    pub docker: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// Files that stand for all others of their kind: `REGISTRY_AUTH_FILE`.
    pub auth_file: Option<PathBuf>,
    /// `CONTAINERS_REGISTRIES_CONF`.
    pub registries_conf: Option<PathBuf>,
    /// Where what was seen is kept: `XDG_CACHE_HOME`, or what it is without.
    pub cache: Option<PathBuf>,
}

impl Places {
    /// Those that the environment names.
    pub fn from_environment() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let below = |name: &str| home.as_ref().map(|home| home.join(name));
        Self {
            config: path("XDG_CONFIG_HOME").or_else(|| below(".config")),
            docker: path("DOCKER_CONFIG").or_else(|| below(".docker")),
            cache: path("XDG_CACHE_HOME").or_else(|| below(".cache")),
            runtime: path("XDG_RUNTIME_DIR"),
            auth_file: path("REGISTRY_AUTH_FILE"),
            registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
            home,
        }
    }
}

/// One place where an image may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port.
    pub host: String,
    /// The repository there.
    pub repository: String,
    /// Whether it need not be trusted, and may speak without TLS.
    pub insecure: bool,
    /// Whether it stands for the registry that the image names.
    pub is_mirror: bool,
}

/// What engines are told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    registries: Vec<Written>,
    mirrors: Vec<String>,
    insecure: Vec<String>,
    /// Files that could not be read, and why: path and reason.
    pub broken: Vec<(PathBuf, String)>,
}

#[derive(Deserialize)]
struct RegistriesConf {
    #[serde(default)]
    registry: Vec<Written>,
}

#[derive(Clone, Debug, Deserialize)]
struct Written {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default, rename = "mirror-by-digest-only")]
    by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pull: String,
}

#[derive(Deserialize, Default)]
struct DaemonJson {
    #[serde(default, rename = "registry-mirrors")]
    mirrors: Vec<String>,
    #[serde(default, rename = "insecure-registries")]
    insecure: Vec<String>,
}

impl Written {
    /// How much of the image's name it is for, in bytes; none where it is for others (containers-registries.conf(5),
    /// "Choosing a `[[registry]]` TOML table").
    fn fits(&self, name: &str) -> Option<usize> {
        let prefix = if self.prefix.is_empty() { &self.location } else { &self.prefix };
        if let Some(domain) = prefix.strip_prefix('*') {
            let host = name.split('/').next()?;
            return (domain.starts_with('.') && host.len() > domain.len() && host.ends_with(domain))
                .then_some(domain.len());
        }
        let rest = name.strip_prefix(prefix.as_str())?;
        (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(prefix.len())
    }

    /// `name` at `location`, which stands for what this is for.
    fn at(&self, location: &str, name: &str) -> String {
        let prefix = if self.prefix.is_empty() { &self.location } else { &self.prefix };
        match prefix.strip_prefix('*') {
            _ if location.is_empty() => name.to_owned(),
            Some(_) => format!("{location}{}", name.find('/').map_or("", |at| &name[at..])),
            None => format!("{location}{}", &name[prefix.len()..]),
        }
    }
}

impl Settings {
    /// Reads what the files of the system and of the user say; what is in the way of that is part of it.
    pub fn read(places: &Places) -> Self {
        let mut settings = Self::default();
        for path in registries_files(places) {
            settings.add(&path, |settings, text| {
                let conf: RegistriesConf = toml::from_str(text).map_err(|e| e.message().to_owned())?;
                for registry in conf.registry {
                    let same = |old: &Written| (&old.prefix, &old.location) == (&registry.prefix, &registry.location);
                    settings.registries.retain(|old| !same(old));
                    settings.registries.push(registry);
                }
                Ok(())
            });
        }
        let own = places.config.as_ref().map(|config| config.join("docker/daemon.json"));
        for path in std::iter::once(PathBuf::from("/etc/docker/daemon.json")).chain(own) {
            settings.add(&path, |settings, text| {
                let daemon: DaemonJson = serde_json::from_str(text).map_err(|e| e.to_string())?;
                settings.mirrors.extend(daemon.mirrors);
                settings.insecure.extend(daemon.insecure);
                Ok(())
            });
        }
        settings
    }

    fn add(&mut self, path: &Path, take: impl FnOnce(&mut Self, &str) -> Result<(), String>) {
        match read_file(path) {
            Ok(Some(text)) => {
                if let Err(why) = take(self, &text) {
                    self.broken.push((path.to_owned(), why));
                }
            }
            Ok(None) => {}
            Err(why) => self.broken.push((path.to_owned(), why)),
        }
    }

    /// Where to ask for `reference`, in this order.
    ///
    /// # Errors
    /// [`Trouble::Blocked`].
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Trouble> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let fitting = self.registries.iter().filter_map(|written| Some((written.fits(&name)?, written)));
        let written = fitting.max_by_key(|(length, _)| *length).map(|(_, written)| written);
        let mut endpoints = Vec::new();
        if let Some(written) = written {
            if written.blocked {
                return Err(Trouble::Blocked(reference.registry().to_owned()));
            }
            let by_digest = reference.digest().is_some();
            let asked = written.mirror.iter().filter(|mirror| match mirror.pull.as_str() {
                "digest-only" => by_digest,
                "tag-only" => !by_digest,
                _ => by_digest || !written.by_digest_only,
            });
            for mirror in asked {
                endpoints.extend(self.endpoint(&written.at(&mirror.location, &name), mirror.insecure, true));
            }
        }
        if reference.registry() == DOCKER_HUB {
            for mirror in &self.mirrors {
                let plain = mirror.starts_with("http://");
                let host = mirror.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
                endpoints.extend(self.endpoint(&format!("{host}/{}", reference.repository()), plain, true));
            }
        }
        let own = written.map_or(name.clone(), |written| written.at(&written.location, &name));
        endpoints.extend(self.endpoint(&own, written.is_some_and(|written| written.insecure), own != name));
        Ok(endpoints)
    }

    fn endpoint(&self, name: &str, insecure: bool, is_mirror: bool) -> Option<Endpoint> {
        let (host, repository) = name.split_once('/')?;
        let host = if host == DOCKER_HUB { "registry-1.docker.io" } else { host };
        let insecure = insecure || self.is_insecure(host);
        Some(Endpoint { host: host.to_owned(), repository: repository.to_owned(), insecure, is_mirror })
    }

    /// Whether Docker is told not to insist on trust in `host`, by its name or its network.
    fn is_insecure(&self, host: &str) -> bool {
        let (name, _port) = split_port(host);
        let address: Option<IpAddr> = name.parse().ok();
        self.insecure.iter().any(|listed| match (listed.split_once('/'), address) {
            (Some((network, bits)), Some(address)) => is_in_network(address, network, bits),
            _ => listed == host,
        })
    }
}

/// Host and port of `authority`; the host without the brackets of an address.
pub fn split_port(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// Whether `authority` is this very machine, to which nobody listens in.
pub fn is_loopback(authority: &str) -> bool {
    let (host, _port) = split_port(authority);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `from`, a host that was asked, may send a question on to `to` without TLS: within this machine, or to itself
/// where it speaks without TLS anyway. Others could make this program ask what only this machine can reach.
pub(super) fn may_lead_without_tls(from: &str, is_plain: bool, to: &str) -> bool {
    (is_loopback(from) && is_loopback(to)) || (is_plain && split_port(from).0 == split_port(to).0)
}

fn is_in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(four) => (u128::from(four.to_bits()) << 96, 32),
        IpAddr::V6(six) => (six.to_bits(), 128),
    };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let ((address, width), (network, other)) = (number(address), number(network));
    width == other && bits <= width && (bits == 0 || (address ^ network) >> (128 - bits) == 0)
}

/// The files of Podman's settings, the later ones counting more (containers-registries.conf.d(5)).
fn registries_files(places: &Places) -> Vec<PathBuf> {
    if let Some(only) = &places.registries_conf {
        return vec![only.clone()];
    }
    let own = places.config.as_ref().map(|config| config.join("containers/registries.conf"));
    let system = ["/etc/containers/registries.conf", "/usr/share/containers/registries.conf"].map(PathBuf::from);
    let first = own.iter().cloned().chain(system).find(|path| path.exists());
    let folders = std::iter::once(PathBuf::from("/etc/containers/registries.conf.d"))
        .chain(own.map(|own| own.with_file_name("registries.conf.d")));
    let drop_ins = folders.flat_map(|folder| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|is| is == "conf")).collect();
        files.sort();
        files
    });
    first.into_iter().chain(drop_ins).collect()
}

/// The text of the file at `path`; none where there is none.
pub(super) fn read_file(path: &Path) -> Result<Option<String>, String> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > LARGEST { Err(format!("it is longer than {LARGEST} bytes")) } else { Ok(Some(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(conf: &str, daemon: &str) -> Settings {
        let conf: RegistriesConf = toml::from_str(conf).unwrap();
        let daemon: DaemonJson = serde_json::from_str(daemon).unwrap();
        Settings { registries: conf.registry, mirrors: daemon.mirrors, insecure: daemon.insecure, broken: Vec::new() }
    }

    fn endpoints(settings: &Settings, reference: &str) -> Vec<String> {
        let show = |e: Endpoint| {
            let marks = [(e.is_mirror, " mirror"), (e.insecure, " insecure")];
            let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
            format!("{}/{}{marks}", e.host, e.repository)
        };
        settings.endpoints(&reference.parse().unwrap()).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn without_settings_the_registry_is_asked() {
        let none = Settings::default();
        assert_eq!(endpoints(&none, "nginx"), ["registry-1.docker.io/library/nginx"]);
        assert_eq!(endpoints(&none, "reg.example:5000/a/b"), ["reg.example:5000/a/b"]);
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_counts() {
        let conf = r#"
            [[registry]]
            prefix = "docker.io"
            location = "docker.io"
            [[registry.mirror]]
            location = "one.example/hub"
            [[registry.mirror]]
            location = "two.example"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "docker.io/library"
            location = "127.0.0.1:5000/official"
            insecure = true
            [[registry]]
            prefix = "*.corp.example"
            location = "harbor.example/proxy"
            [[registry]]
            location = "bad.example"
            blocked = true
        "#;
        let settings = settings(
            conf,
            r#"{"registry-mirrors": ["https://mirror.example/", "http://10.1.2.3:80"], "insecure-registries": ["10.0.0.0/8", "old.example:5000"]}"#,
        );
        #[rustfmt::skip]
        let rows: [(&str, &[&str]); 6] = [
            ("a/b", &["one.example/hub/a/b mirror", "mirror.example/a/b mirror", "10.1.2.3:80/a/b mirror insecure", "registry-1.docker.io/a/b"]),
            ("nginx", &["mirror.example/library/nginx mirror", "10.1.2.3:80/library/nginx mirror insecure", "127.0.0.1:5000/official/nginx mirror insecure"]),
            ("x.corp.example/app", &["harbor.example/proxy/app mirror"]),
            ("corp.example/app", &["corp.example/app"]),
            ("10.9.9.9:5000/app", &["10.9.9.9:5000/app insecure"]),
            ("old.example:5000/app", &["old.example:5000/app insecure"]),
        ];
        for (reference, expected) in rows {
            assert_eq!(endpoints(&settings, reference), expected, "{reference}");
        }
        let digest = format!("a/b@sha256:{}", "0".repeat(64));
        assert_eq!(endpoints(&settings, &digest)[1], "two.example/a/b mirror");
        let blocked = settings.endpoints(&"bad.example/app".parse().unwrap());
        assert_eq!(blocked, Err(Trouble::Blocked("bad.example".to_owned())));
    }

    #[test]
    fn only_this_machine_leads_to_this_machine() {
        for (from, is_plain, to, may) in [
            ("127.0.0.1:5000", false, "127.0.0.2:80", true),
            ("localhost:5000", true, "127.0.0.1", true),
            ("ghcr.io", false, "127.0.0.1", false),
            ("ghcr.io", false, "ghcr.io", false),
            ("old.example:5000", true, "old.example", true),
            ("old.example:5000", true, "other.example", false),
        ] {
            assert_eq!(may_lead_without_tls(from, is_plain, to), may, "{from} {to}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (authority, is) in [
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("127.3.2.1:1", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(authority), is, "{authority}");
        }
    }
}
