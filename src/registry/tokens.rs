// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a registry wants to be asked: with a password, or with a token from somewhere else (distribution's
//! docs/spec/auth/token.md and oauth.md).

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::credentials::Login;
use super::http::{Answer, Hosts, Peer, Question, percent_encoded};
use super::settings::{may_lead_without_tls, split_port};
use super::trouble::Trouble;

/// The most bytes of a token and what comes with it.
const LARGEST: usize = 256 << 10;

/// What a registry asks for with a status of 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token.
    Bearer {
        /// Where to get it.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// To do what.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The same for any repository of the registry.
    pub(super) fn for_any(&self) -> Self {
        let mut challenge = self.clone();
        if let Self::Bearer { scope, .. } = &mut challenge {
            *scope = None;
        }
        challenge
    }

    /// What `answer` asks for; the token, where it leaves the choice.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let values = answer.headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        let challenges = values.filter_map(|value| http_auth::parse_challenges(value).ok()).flatten();
        let read = challenges.filter_map(|challenge| {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            match challenge.scheme.to_ascii_lowercase().as_str() {
                "basic" => Some(Self::Basic),
                "bearer" => parameter("realm").map(|realm| Self::Bearer {
                    realm,
                    service: parameter("service"),
                    scope: parameter("scope"),
                }),
                _ => None,
            }
        });
        read.max_by_key(|challenge| matches!(challenge, Self::Bearer { .. }))
    }
}

/// `Authorization` with a user and a password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// Whether a login for the registry `host` may be shown to `realm`: to the host itself, to one below it, or to one that
/// shares the domain above it, as `auth.docker.io` and `registry-1.docker.io` do. A registry that was broken into, or
/// that anybody can make, could name any host.
fn may_see_login(host: &str, realm: &str) -> bool {
    let ((host, _), (realm, _)) = (split_port(host), split_port(realm));
    let below = |domain: &str| realm.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let above = host.split_once('.').map(|(_, above)| above).filter(|above| above.contains('.'));
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    realm == host || (!is_address && (below(host) || above.is_some_and(|above| realm == above || below(above))))
}

/// Gets the token that `challenge` of `peer` asks for, to read `repository`.
///
/// # Errors
/// What keeps it from being had.
pub(super) fn fetch(
    hosts: &Hosts,
    peer: &Peer,
    challenge: &Challenge,
    repository: &str,
    login: Option<&Login>,
    deadline: Instant,
) -> Result<String, Trouble> {
    let Challenge::Bearer { realm, service, scope } = challenge else {
        return match login {
            Some(Login::Password(user, password)) => Ok(basic(user, password)),
            Some(Login::Refresh(_)) => {
                let why = "the registry wants a password, and only a token is kept".to_owned();
                Err(Trouble::Login { host: peer.host.clone(), why })
            }
            None => Err(Trouble::Denied { host: peer.host.clone(), logged_in: false }),
        };
    };
    let odd = |why: String| Trouble::NoRegistry { host: peer.host.clone(), why };
    let (scheme, rest) = realm.split_once("://").ok_or_else(|| odd("it names no address for tokens".into()))?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(at);
    if host.is_empty() || host.contains(['@', '\\', ' ']) || !["http", "https"].contains(&scheme) {
        return Err(odd("the address that it names for tokens is none".into()));
    }
    if scheme == "http" && !may_lead_without_tls(&peer.host, peer.is_plain(), host) {
        return Err(odd(format!("it sends for tokens to {host} without TLS")));
    }
    let login = login.filter(|_| may_see_login(&peer.host, host));
    let scope = scope.clone().unwrap_or_else(|| format!("repository:{repository}:pull"));
    let service = service.clone().unwrap_or_default();
    let at = hosts.peer(host, scheme == "http")?;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let question = Question {
        target: &target,
        head: false,
        accept: None,
        authorization: None,
        form: None,
        limit: LARGEST,
        deadline,
    };
    let answer = if let Some(Login::Refresh(token)) = login {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", service.as_str()),
            ("client_id", "qemu-persist"),
            ("scope", scope.as_str()),
            ("refresh_token", token.as_str()),
        ];
        at.ask(&Question { form: Some(&form), ..question })?
    } else {
        let join = if target.contains('?') { '&' } else { '?' };
        let mut query = format!("{target}{join}scope={}", percent_encoded(&scope));
        if !service.is_empty() {
            query = format!("{query}&service={}", percent_encoded(&service));
        }
        let authorization = match login {
            Some(Login::Password(user, password)) => Some(basic(user, password)),
            _ => None,
        };
        at.ask(&Question { target: &query, authorization: authorization.as_deref(), ..question })?
    };
    match answer.status {
        200 => {}
        401 | 403 => return Err(Trouble::Denied { host: peer.host.clone(), logged_in: login.is_some() }),
        429 => return Err(Trouble::TooMany { host: at.host.clone(), wait: None }),
        status => return Err(Trouble::Failing { host: at.host.clone(), status }),
    }
    let wrong = || Trouble::NoRegistry { host: at.host.clone(), why: "it was asked for a token and gives none".into() };
    let given: Given = serde_json::from_slice(&answer.body).map_err(|_| wrong())?;
    let token = if given.token.is_empty() { given.access_token } else { given.token };
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(format!("Bearer {token}")) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_shown_to_the_registry_and_its_own_alone() {
        for (host, realm, may) in [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("ghcr.io", "ghcr.io", true),
            ("quay.io", "quay.io:443", true),
            ("127.0.0.1:5000", "127.0.0.1:5001", true),
            ("ghcr.io", "evil.io", false),
            ("ghcr.io", "ghcr.io.evil.example", false),
            ("registry-1.docker.io", "evildocker.io", false),
            ("registry-1.docker.io", "docker.io.evil.example", false),
            ("127.0.0.1:5000", "127.0.0.2:5000", false),
            ("10.0.0.1", "11.0.0.1", false),
            ("lscr.io", "ghcr.io", false),
        ] {
            assert_eq!(may_see_login(host, realm), may, "{host} {realm}");
        }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let of = |values: &[&str]| {
            let mut answer = Answer { status: 401, headers: ureq::http::HeaderMap::new(), body: Vec::new() };
            for value in values {
                answer.headers.append("www-authenticate", value.parse().unwrap());
            }
            Challenge::of(&answer)
        };
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: None,
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
        let expected = Some(bearer("https://auth.docker.io/token", Some("registry.docker.io")));
        assert_eq!(of(&[hub]), expected);
        assert_eq!(of(&[r#"Basic realm="x""#, hub]), expected);
        assert_eq!(of(&[&format!(r#"Basic realm="x", {hub}"#)]), expected);
        assert_eq!(of(&[r#"BASIC realm="x""#]), Some(Challenge::Basic));
        assert_eq!(of(&[r#"bearer Realm="https://a/b?c=d\"""#]), Some(bearer("https://a/b?c=d\"", None)));
        assert_eq!(of(&["Bearer", "Negotiate", "nonsense, , ="]), None);
        assert_eq!(of(&[]), None);
    }
}
