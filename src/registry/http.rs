// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking one host by HTTP: bounded, with TLS unless it may do without, and following no redirect by itself.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use ureq::http::HeaderMap;
use ureq::{Agent, Error};

use super::certificates;
use super::settings::{Places, is_loopback};
use super::trouble::Trouble;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// The most bytes of the head of an answer.
const LARGEST_HEAD: usize = 64 << 10;

/// What a host answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The content; empty for a question about the headers.
    pub body: Vec<u8>,
}

impl Answer {
    /// The header `name` as text, where it is one.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A question.
#[derive(Clone, Debug)]
pub(super) struct Question<'a> {
    /// Path and query.
    pub target: &'a str,
    /// Whether only the headers are wanted.
    pub head: bool,
    /// What forms are understood.
    pub accept: Option<&'a str>,
    /// In whose name.
    pub authorization: Option<&'a str>,
    /// A form to send, instead of only asking.
    pub form: Option<&'a [(&'a str, &'a str)]>,
    /// The most bytes that are read of the content; one more is an error.
    pub limit: usize,
    /// When an answer is no longer wanted.
    pub deadline: Instant,
}

/// A host, and what is known of how to speak with it.
pub(super) struct Peer {
    /// Host and port.
    pub host: String,
    may_be_plain: bool,
    agent: Agent,
    /// Whether it speaks TLS, once that is known.
    speaks_tls: Mutex<Option<bool>>,
}

/// The hosts that were spoken with.
pub(super) struct Hosts {
    places: Places,
    peers: Mutex<HashMap<(String, bool), Arc<Peer>>>,
}

impl Hosts {
    pub(super) fn new(places: Places) -> Self {
        Self { places, peers: Mutex::default() }
    }

    /// The host that `authority` names; with `insecure` it need not be trusted, and may do without TLS.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub(super) fn peer(&self, authority: &str, insecure: bool) -> Result<Arc<Peer>, Trouble> {
        let key = (authority.to_owned(), insecure);
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&key) {
            return Ok(Arc::clone(peer));
        }
        let untrusted = |why| Trouble::Untrusted { host: authority.to_owned(), why };
        let tls = certificates::tls(&self.places, authority, insecure).map_err(untrusted)?;
        let here = is_loopback(authority);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("qemu-persist/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(LARGEST_HEAD)
            .max_idle_connections_per_host(64)
            .max_idle_connections(64)
            .timeout_connect(Some(CONNECT))
            .tls_config(tls);
        if here {
            config = config.proxy(None);
        }
        let peer = Arc::new(Peer {
            host: authority.to_owned(),
            may_be_plain: insecure || here,
            agent: config.build().new_agent(),
            speaks_tls: Mutex::default(),
        });
        peers.insert(key, Arc::clone(&peer));
        Ok(peer)
    }
}

impl Peer {
    /// Asks it.
    ///
    /// # Errors
    /// Whatever keeps it from answering; every status is an answer.
    pub(super) fn ask(&self, question: &Question<'_>) -> Result<Answer, Trouble> {
        if !self.may_be_plain {
            return self.ask_by("https", question).map_err(|e| self.trouble(e));
        }
        // Whoever comes first finds out, and the others wait for that.
        let mut speaks_tls = self.speaks_tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tls) = *speaks_tls {
            drop(speaks_tls);
            return self.ask_by(if tls { "https" } else { "http" }, question).map_err(|e| self.trouble(e));
        }
        match self.ask_by("https", question) {
            Ok(answer) => {
                *speaks_tls = Some(true);
                Ok(answer)
            }
            Err(e)
                if is_about_trust(&e)
                    || alert(&e).is_some()
                    || matches!(e, Error::Timeout(_) | Error::HostNotFound) =>
            {
                Err(self.trouble(e))
            }
            Err(_) => {
                let answer = self.ask_by("http", question).map_err(|e| self.trouble(e))?;
                *speaks_tls = Some(false);
                Ok(answer)
            }
        }
    }

    /// Whether it is known to speak without TLS.
    pub(super) fn is_plain(&self) -> bool {
        *self.speaks_tls.lock().unwrap_or_else(PoisonError::into_inner) == Some(false)
    }

    fn ask_by(&self, scheme: &str, question: &Question<'_>) -> Result<Answer, Error> {
        let left = question.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout(ureq::Timeout::Global));
        }
        let form = question.form.map(|form| {
            let pairs = form.iter().map(|(key, value)| format!("{key}={}", percent_encoded(value)));
            pairs.collect::<Vec<_>>().join("&")
        });
        let mut request = ureq::http::Request::builder()
            .method(if form.is_some() {
                "POST"
            } else if question.head {
                "HEAD"
            } else {
                "GET"
            })
            .uri(format!("{scheme}://{}{}", self.host, question.target));
        if form.is_some() {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in [("accept", question.accept), ("authorization", question.authorization)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(form.unwrap_or_default())?;
        let mut response = if request.body().is_empty() {
            let request = self.agent.configure_request(request.map(|_| ())).timeout_global(Some(left)).build();
            self.agent.run(request)?
        } else {
            let request = self.agent.configure_request(request).timeout_global(Some(left)).build();
            self.agent.run(request)?
        };
        let limit = question.limit as u64;
        if response.body().content_length().is_some_and(|length| length > limit) && !question.head {
            return Err(Error::BodyExceedsLimit(limit));
        }
        let body =
            if question.head { Vec::new() } else { response.body_mut().with_config().limit(limit).read_to_vec()? };
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    fn trouble(&self, error: Error) -> Trouble {
        let host = self.host.clone();
        match error {
            Error::HostNotFound => Trouble::UnknownHost(host),
            Error::Timeout(_) => Trouble::TimedOut(host),
            Error::BodyExceedsLimit(limit) => Trouble::TooLong { host, limit },
            Error::LargeResponseHeader(..) => {
                Trouble::NoRegistry { host, why: "the head of its answer has no end".into() }
            }
            Error::Protocol(why) => Trouble::NoRegistry { host, why: why.to_string() },
            error if is_about_trust(&error) => Trouble::Untrusted { host, why: reason(&error) },
            // The text is that of gai_strerror(3) for EAI_NONAME; without a network it is another.
            Error::Io(e) if e.to_string().ends_with("Name or service not known") => Trouble::UnknownHost(host),
            Error::Io(e) if e.kind() == io::ErrorKind::TimedOut => Trouble::TimedOut(host),
            error => Trouble::Unreachable { host, why: reason(&error) },
        }
    }
}

/// What lies behind an error of TLS.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Rustls(e) => Some(e),
        Error::Io(e) => e.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn is_about_trust(error: &Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// What the other side says of what it was shown, which it can only say by TLS.
fn alert(error: &Error) -> Option<AlertDescription> {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

fn reason(error: &Error) -> String {
    // RFC 8446, 6.2; servers of TLS 1.2 say `bad_certificate` where none was shown.
    if let Some(
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired,
    ) = alert(error)
    {
        let places = "NAME.cert with NAME.key, in the folder of its name below /etc/containers/certs.d";
        return format!("it wants to be shown a certificate that it trusts ({places})");
    }
    match (tls_error(error), error) {
        (Some(e), _) => e.to_string(),
        (None, Error::Io(e)) => e.to_string(),
        (None, e) => e.to_string(),
    }
}

/// `text` as it stands in a query or a form (RFC 3986, unreserved characters as they are).
pub(super) fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
