// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins, as `docker login` and `podman login` keep them: in Docker's config.json (docs.docker.com, "docker login",
//! "Credential stores") and in auth.json (containers-auth.json(5)), with helpers that keep the secret elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::gate;
use super::settings::{Places, read_file};
use crate::host::command;

/// How long a helper may take: it may have to open a keyring.
const PATIENCE: Duration = Duration::from_secs(15);

/// In whose name a registry is asked.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// A user and a password.
    Password(String, String),
    /// A token that is exchanged for others (OAuth 2, `refresh_token`).
    Refresh(String),
}

/// It is shown to nobody.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default)]
    creds_store: String,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default, rename = "auth")]
    encoded: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// What Docker keeps the login of Docker Hub under.
const HUB: &str = "https://index.docker.io/v1/";

/// The files that logins are kept in, the first one that has it counts.
fn files(places: &Places) -> Vec<PathBuf> {
    if let Some(only) = &places.auth_file {
        return vec![only.clone()];
    }
    let below = |folder: &Option<PathBuf>, name: &str| folder.as_ref().map(|folder| folder.join(name));
    let podman = [below(&places.runtime, "containers/auth.json"), below(&places.config, "containers/auth.json")];
    podman.into_iter().flatten().chain(below(&places.docker, "config.json")).collect()
}

/// Under what the login for `repository` of the registry `host` may be kept, the most telling first.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let registry = if host == "registry-1.docker.io" { "docker.io" } else { host };
    let mut name = format!("{registry}/{repository}");
    while let Some((shorter, _last)) = name.rsplit_once('/') {
        keys.push(name.clone());
        name = shorter.to_owned();
    }
    keys.push(registry.to_owned());
    if registry == "docker.io" {
        keys.extend([HUB.to_owned(), "index.docker.io".to_owned(), "registry-1.docker.io".to_owned()]);
    }
    keys
}

/// The registry that the key of an entry is about: Docker's old ones are whole addresses.
fn registry_of(key: &str) -> &str {
    let rest = key.trim_start_matches("https://").trim_start_matches("http://");
    let is_address = rest.len() != key.len();
    if is_address { rest.split('/').next().unwrap_or(rest) } else { rest }
}

impl Written {
    /// The login that is kept in the file itself under `key`.
    fn kept(&self, key: &str) -> Result<Option<Login>, String> {
        let auth = self.auths.get(key).or_else(|| {
            let same = |other: &&String| other.contains("://") && registry_of(other) == key;
            self.auths.keys().find(same).and_then(|other| self.auths.get(other))
        });
        let Some(auth) = auth else { return Ok(None) };
        if !auth.identity_token.is_empty() {
            return Ok(Some(Login::Refresh(auth.identity_token.clone())));
        }
        if auth.encoded.is_empty() {
            let has = !auth.username.is_empty();
            return Ok(has.then(|| Login::Password(auth.username.clone(), auth.password.clone())));
        }
        let wrong = || "what is kept of it is no user and password".to_owned();
        let bytes =
            STANDARD.decode(&auth.encoded).or_else(|_| STANDARD_NO_PAD.decode(&auth.encoded)).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Some(Login::Password(user.to_owned(), password.trim_end_matches('\0').to_owned())))
    }
}

/// A login, or why what is kept of one cannot be used.
type Kept = Result<Option<Login>, String>;

/// The logins that are kept.
pub(super) struct Logins {
    places: Places,
    /// The files, once they were read.
    files: OnceLock<Vec<Result<Written, String>>>,
    /// What helpers said, by helper and registry: they may ask the user, which they are to do once.
    helped: Mutex<HashMap<(String, String), Kept>>,
}

impl Logins {
    pub(super) fn new(places: Places) -> Self {
        Self { places, files: OnceLock::new(), helped: Mutex::default() }
    }

    /// The login for `repository` of the registry `host`, where there is one.
    ///
    /// # Errors
    /// Why what is kept cannot be used; nothing secret is in it.
    pub(super) fn find(&self, host: &str, repository: &str) -> Kept {
        let keys = keys(host, repository);
        let registry = if host == "registry-1.docker.io" { HUB } else { host };
        for written in self.files.get_or_init(|| files(&self.places).iter().filter_map(|path| read(path)).collect()) {
            let written = written.as_ref().map_err(String::clone)?;
            if let Some((key, helper)) = keys.iter().find_map(|key| Some((key, written.cred_helpers.get(key)?))) {
                return self.ask_helper(helper, key);
            }
            for key in &keys {
                if let Some(login) = written.kept(key)? {
                    return Ok(Some(login));
                }
            }
            if !written.creds_store.is_empty() {
                if let Some(login) = self.ask_helper(&written.creds_store, registry)? {
                    return Ok(Some(login));
                }
            }
        }
        Ok(None)
    }

    fn ask_helper(&self, name: &str, registry: &str) -> Kept {
        let mut helped = self.helped.lock().unwrap_or_else(PoisonError::into_inner);
        helped.entry((name.to_owned(), registry.to_owned())).or_insert_with(|| ask_helper(name, registry)).clone()
    }
}

/// Reads the file at `path`; none where there is none.
fn read(path: &Path) -> Option<Result<Written, String>> {
    let told = |why: String| format!("{}: {why}", path.display());
    // The position of an error is told, and nothing of the text.
    let parse = |text: String| {
        serde_json::from_str(&text).map_err(|e| told(format!("line {}: it is no JSON of this form", e.line())))
    };
    read_file(path).map_err(told).transpose().map(|text| text.and_then(parse))
}

/// Asks the helper `name` for the login of `registry` (github.com/docker/docker-credential-helpers, "Development").
fn ask_helper(name: &str, registry: &str) -> Kept {
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_name {
        return Err("the name of its helper has other characters than letters, digits and `-`".to_owned());
    }
    let program = format!("docker-credential-{name}");
    let Some(path) = command::find(&program) else { return Err(format!("the program {program} is not installed")) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let stopped = || format!("{program} was stopped");
    let _inside = gate::enter().ok_or_else(stopped)?;
    let output = runtime.block_on(async {
        let closed = async {
            while !gate::is_closed() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            output = command::run_with_input(&path, &["get"], registry.as_bytes(), PATIENCE) => Some(output),
            () = closed => None,
        }
    });
    let output = output.ok_or_else(stopped)?.map_err(|e| format!("{program}: {e}"))?;
    if !output.succeeded() {
        // Helpers say on standard output that they have nothing.
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        let nothing = ["credentials not found", "not found in native keychain"].iter().any(|text| said.contains(text));
        return if nothing { Ok(None) } else { Err(format!("{program} failed")) };
    }
    let helped: Helped =
        serde_json::from_slice(&output.stdout).map_err(|_| format!("what {program} says is not of the right form"))?;
    Ok(Some(match helped.username.as_str() {
        "<token>" => Login::Refresh(helped.secret),
        _ => Login::Password(helped.username, helped.secret),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &str, host: &str, repository: &str) -> Result<Option<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), content).unwrap();
        let places = Places { docker: Some(folder.path().to_owned()), ..Places::default() };
        Logins::new(places).find(host, repository).map(|login| {
            login.map(|login| match login {
                Login::Password(user, password) => format!("{user}/{password}"),
                Login::Refresh(token) => token,
            })
        })
    }

    #[test]
    fn a_login_is_found_under_every_key_that_is_in_use() {
        let auth = |user: &str| STANDARD.encode(format!("{user}:pass:word"));
        let kept = |key: &str| format!(r#"{{"auths": {{"{key}": {{"auth": "{}"}}}}}}"#, auth("me"));
        let hub = "registry-1.docker.io";
        #[rustfmt::skip]
        let rows = [
            (kept(HUB), hub, "library/nginx", Some("me/pass:word")),
            (kept("docker.io"), hub, "library/nginx", Some("me/pass:word")),
            (kept("ghcr.io"), "ghcr.io", "a/b", Some("me/pass:word")),
            (kept("https://ghcr.io"), "ghcr.io", "a/b", Some("me/pass:word")),
            (kept("https://ghcr.io/v2/"), "ghcr.io", "a/b", Some("me/pass:word")),
            (kept("ghcr.io/a"), "ghcr.io", "a/b", Some("me/pass:word")),
            (kept("ghcr.io/a/b"), "ghcr.io", "a/b", Some("me/pass:word")),
            (kept("ghcr.io/a/b"), "ghcr.io", "a/bc", None),
            (kept("ghcr.io"), "ghcr.io.evil.example", "a/b", None),
            (kept("ghcr.io"), "evil.example", "ghcr.io/a", None),
            (kept("ghcr.io"), "ghcr.io:444", "a/b", None),
            (kept("localhost:5000"), "localhost:5000", "a", Some("me/pass:word")),
            (r#"{"auths": {"r.example": {"identitytoken": "t"}}}"#.to_owned(), "r.example", "a", Some("t")),
            (r#"{"auths": {"r.example": {"username": "u", "password": "p"}}}"#.to_owned(), "r.example", "a", Some("u/p")),
            (r#"{"auths": {"r.example": {}}}"#.to_owned(), "r.example", "a", None),
            ("{}".to_owned(), "r.example", "a", None),
        ];
        for (content, host, repository, expected) in rows {
            assert_eq!(found(&content, host, repository), Ok(expected.map(str::to_owned)), "{content} {host}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_secret() {
        let secret = "c2VjcmV0";
        for content in [
            format!(r#"{{"auths": {{"r.example": {{"auth": "{secret}"}}}}}}"#),
            format!(r#"{{"auths": {{"r.example": {{"auth": "{secret}!"}}}}}}"#),
            format!(r#"{{"auths": {{"r.example": "{secret}"}}}}"#),
            r#"{"credsStore": "../secret"}"#.to_owned(),
            r#"{"credsStore": "is-not-here-secret"}"#.to_owned(),
        ] {
            let why = found(&content, "r.example", "a").unwrap_err();
            assert!(!why.contains(secret) && !why.contains("secret:"), "{why}");
        }
    }
}
