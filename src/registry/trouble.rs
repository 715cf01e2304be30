// SPDX-License-Identifier: MIT OR Apache-2.0
//! What keeps an image from being looked at, and what to do about it.

use std::fmt;

use crate::oci::manifest::NoImage;
use crate::report::span;

/// Why nothing is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No host has the registry's name.
    UnknownHost(String),
    /// The registry, or a proxy before it, cannot be reached.
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system said.
        why: String,
    },
    /// It did not answer in time.
    TimedOut(String),
    /// There is no trust in who answers.
    Untrusted {
        /// Host and port.
        host: String,
        /// What is wrong with the certificate.
        why: String,
    },
    /// What answers is no registry.
    NoRegistry {
        /// Host and port.
        host: String,
        /// What it did.
        why: String,
    },
    /// There is more of an answer than is read.
    TooLong {
        /// Host and port.
        host: String,
        /// How many bytes are.
        limit: u64,
    },
    /// There is no such tag, digest or repository.
    NotFound,
    /// It may not be read, or does not exist: registries do not tell the difference.
    Denied {
        /// Host and port.
        host: String,
        /// Whether it was asked in somebody's name.
        logged_in: bool,
    },
    /// What is known of a login cannot be used.
    Login {
        /// Host and port.
        host: String,
        /// Why.
        why: String,
    },
    /// The registry refuses to be asked more often.
    TooMany {
        /// Host and port.
        host: String,
        /// After how many seconds it may be asked again, where it says so.
        wait: Option<u64>,
    },
    /// The registry fails.
    Failing {
        /// Host and port.
        host: String,
        /// The status of its answer.
        status: u16,
    },
    /// What came is not what its digest is of.
    WrongDigest {
        /// The digest that was wanted.
        wanted: String,
    },
    /// It is no image that can be run.
    NoImage(NoImage),
    /// `--offline`, and it was not looked at before.
    NotKept,
    /// The configuration of engines forbids the registry.
    Blocked(String),
    /// An engine was asked for its local image, and does not say.
    Engine(String),
}

impl Trouble {
    /// Its stable name, in kebab case.
    pub fn id(&self) -> &'static str {
        match self {
            Self::UnknownHost(_) => "unknown-registry",
            Self::Unreachable { .. } => "registry-unreachable",
            Self::TimedOut(_) => "registry-timeout",
            Self::Untrusted { .. } => "registry-untrusted",
            Self::NoRegistry { .. } => "no-registry",
            Self::TooLong { .. } => "answer-too-long",
            Self::NotFound => "image-not-found",
            Self::Denied { .. } => "image-denied",
            Self::Login { .. } => "login-unusable",
            Self::TooMany { .. } => "rate-limited",
            Self::Failing { .. } => "registry-failing",
            Self::WrongDigest { .. } => "wrong-digest",
            Self::NoImage(NoImage::TooOld) => "image-too-old",
            Self::NoImage(NoImage::Artifact(_)) => "no-image",
            Self::NoImage(NoImage::TooLong | NoImage::Broken(_)) => "manifest-broken",
            Self::NotKept => "not-kept",
            Self::Blocked(_) => "registry-blocked",
            Self::Engine(_) => "engine-silent",
        }
    }

    /// What to do: one sentence, or none.
    pub fn advice(&self) -> String {
        match self {
            Self::UnknownHost(_) => {
                "Check how the registry is spelled, and whether names are resolved here: `getent hosts docker.io`.".into()
            }
            Self::Unreachable { .. } => {
                "Check the network and the proxy (HTTPS_PROXY, NO_PROXY); with `--offline` what was seen before is told."
                    .into()
            }
            Self::TimedOut(_) | Self::Failing { .. } => "Try again later.".into(),
            Self::Untrusted { host, .. } => {
                format!("Put the certificate of its authority in /etc/docker/certs.d/{host}/ca.crt.")
            }
            Self::NoRegistry { .. } => "Check the name; a portal of this network may answer in its place.".into(),
            Self::NotFound => "Check the name and the tag.".into(),
            Self::Denied { host, logged_in: false } => {
                format!("Check the name; for a private image log in first: `docker login {host}`.")
            }
            Self::Denied { host, logged_in: true } => {
                format!("Check the name, and log in with an account that may read it: `docker login {host}`.")
            }
            Self::Login { host, .. } => format!("Log in anew: `docker login {host}`."),
            Self::TooMany { host, wait } => {
                let wait = wait.map_or("later".to_owned(), |seconds| format!("after {}", span(seconds)));
                format!("Try again {wait}; who logs in may ask more often: `docker login {host}`.")
            }
            Self::WrongDigest { .. } => "Do not use this registry or mirror before you know why.".into(),
            Self::NoImage(NoImage::TooOld) => "Look for a newer tag, or build it anew.".into(),
            Self::NoImage(_) | Self::TooLong { .. } => String::new(),
            Self::NotKept => "Ask once without `--offline`.".into(),
            Self::Blocked(_) => "See registries.conf (containers-registries.conf(5)).".into(),
            Self::Engine(_) => "Ask the registry, without `--local`.".into(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost(host) => write!(f, "no registry is known by the name {host}"),
            Self::Unreachable { host, why } => write!(f, "the registry {host} cannot be reached: {why}"),
            Self::TimedOut(host) => write!(f, "the registry {host} did not answer in time"),
            Self::Untrusted { host, why } => write!(f, "the registry {host} cannot be trusted: {why}"),
            Self::NoRegistry { host, why } => write!(f, "what answers at {host} is no registry: {why}"),
            Self::TooLong { host, limit } => write!(f, "what {host} answers is longer than {limit} bytes"),
            Self::NotFound => write!(f, "there is no such image: the registry knows neither this tag nor digest"),
            Self::Denied { host, logged_in: false } => {
                write!(f, "it does not exist, or {host} shows it only to those who are logged in")
            }
            Self::Denied { host, logged_in: true } => {
                write!(f, "it does not exist, or {host} does not show it to the account that is logged in")
            }
            Self::Login { host, why } => write!(f, "the login for {host} cannot be used: {why}"),
            Self::TooMany { host, .. } => write!(f, "{host} was asked too often"),
            Self::Failing { host, status } => write!(f, "the registry {host} fails (HTTP status {status})"),
            Self::WrongDigest { wanted } => write!(f, "what the registry gave is not what {wanted} is the digest of"),
            Self::NoImage(why) => write!(f, "{why}"),
            Self::NotKept => write!(f, "it was not looked at before, and no registry is asked"),
            Self::Blocked(host) => write!(f, "the configuration of this host's engines blocks {host}"),
            Self::Engine(why) => write!(f, "{why}"),
        }
    }
}

impl From<NoImage> for Trouble {
    fn from(why: NoImage) -> Self {
        Self::NoImage(why)
    }
}
