// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server that gives a registry's clients their tokens.
//!
//! The protocol: <https://distribution.github.io/distribution/spec/auth/token/>. docker-registry 2.8
//! trusts a JWT whose header has a certificate of its `rootcertbundle` (`x5c`, RFC 7515 4.1.6).

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::hostile::{Hostile, Reply};
use super::request::Request;
use super::run;

/// Who the registry is to the token server.
pub const SERVICE: &str = "registry of a test";
pub(super) const ISSUER: &str = "token server of a test";

/// Who gets a token, and for what.
#[derive(Clone, Default)]
pub struct Tokens {
    user: Option<(String, String)>,
    identity: Option<String>,
    anonymous: bool,
    hidden: Vec<String>,
    expired: bool,
    access_token: bool,
}

impl Tokens {
    /// Everybody gets one, as for public images of Docker Hub; credentials are refused.
    pub fn anonymous() -> Self {
        Self { anonymous: true, ..Self::default() }
    }

    /// Only this user gets one.
    pub fn of(user: &str, password: &str) -> Self {
        Self { user: Some((user.into(), password.into())), ..Self::default() }
    }

    /// Only who has this identity token gets one, as after `docker login` where the registry gives such.
    pub fn of_identity(token: &str) -> Self {
        Self { identity: Some(token.into()), ..Self::default() }
    }

    /// Others get one too, but it is good for nothing in the repository `hidden`, as for private images of Docker Hub.
    #[must_use]
    pub fn hiding(mut self, hidden: &str) -> Self {
        self.anonymous = true;
        self.hidden.push(hidden.into());
        self
    }

    /// Tokens that the registry refuses, because they ended an hour ago.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// The token is in `access_token` alone, as OAuth 2.0 has it, and not in `token`.
    #[must_use]
    pub fn in_access_token(mut self) -> Self {
        self.access_token = true;
        self
    }

    /// Starts the server, whose realm is `/token`; gives also the file that the registry has to trust.
    pub(super) fn start(self) -> (Hostile, TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
        let (key_text, certificate_text) = (key.display().to_string(), certificate.display().to_string());
        let mut arguments = vec!["req", "-x509", "-days", "2", "-subj", "/CN=Tokens of a test", "-newkey", "rsa:2048"];
        arguments.extend(["-nodes", "-keyout", &key_text, "-out", &certificate_text]);
        run("openssl", &arguments, b"");
        let pem = std::fs::read_to_string(&certificate).expect("a certificate");
        let chain: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let server = Hostile::new(move |request, reply| self.answer(request, reply, &key, &chain));
        (server, folder, certificate)
    }

    fn answer(&self, request: &Request, reply: &mut Reply<'_>, key: &Path, chain: &str) -> io::Result<()> {
        // OAuth 2.0 asks by a form (docs/spec/auth/oauth.md of distribution).
        let (form, identity) = (request.form("refresh_token"), self.identity.iter().cloned().collect::<Vec<_>>());
        let is_refreshed = !identity.is_empty() && form == identity && request.form("grant_type") == ["refresh_token"];
        let known = match (request.header("Authorization"), &self.user) {
            (None, _) if is_refreshed => true,
            (None, _) if self.anonymous => false,
            (Some(_), Some(user)) if request.basic().as_ref() == Some(user) => true,
            _ => return reply.send(401, &[], br#"{"details":"incorrect username or password"}"#),
        };
        let grant = |scope: &str| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let granted = actions.split(',').filter(|action| *action == "pull");
            let visible = known || !self.hidden.iter().any(|hidden| hidden == name);
            visible.then(|| json!({ "type": kind, "name": name, "actions": granted.collect::<Vec<_>>() }))
        };
        let scopes = if is_refreshed { request.form("scope") } else { request.parameters("scope") };
        // One parameter for every scope (Docker), or one with all of them (OAuth 2.0).
        let access: Vec<Value> = scopes.iter().flat_map(|scope| scope.split(' ')).filter_map(grant).collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
        let start = if self.expired { now - 3660 } else { now - 5 };
        let end = if self.expired { now - 3600 } else { now + 300 };
        let claims = json!({
            "iss": ISSUER, "aud": SERVICE, "sub": if known { "user" } else { "" }, "jti": "1",
            "iat": start, "nbf": start, "exp": end, "access": access,
        });
        let token = sign(&claims, key, chain);
        let name = if self.access_token { "access_token" } else { "token" };
        let body = json!({ name: token, "expires_in": 300 }).to_string();
        reply.send(200, &[("Content-Type", "application/json")], body.as_bytes())
    }
}

/// A JWT (RFC 7519), signed by RS256.
fn sign(claims: &Value, key: &Path, chain: &str) -> String {
    debug_assert!(STANDARD.decode(chain).is_ok());
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [chain] });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(claims));
    let signature = run("openssl", &["dgst", "-sha256", "-sign", &key.display().to_string()], text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
