// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's docker-registry, started on a port and a folder of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificates::Certificates;
use super::content::Content;
use super::hostile::Hostile;
use super::run;
use super::tokens::{ISSUER, SERVICE, Tokens};

/// Debian's program.
pub const PROGRAM: &str = "/usr/bin/docker-registry";

/// A running registry.
pub struct Registry {
    /// What it serves; more may be added while it runs.
    pub content: Content,
    child: Child,
    address: String,
    log: PathBuf,
    certificates: Option<Certificates>,
    tokens: Option<(Hostile, TempDir)>,
    _folder: TempDir,
}

/// A registry that is to be started.
#[must_use]
pub struct Setup {
    content: Content,
    certificates: Option<Certificates>,
    wants_client: bool,
    access: Access,
}

enum Access {
    Open,
    Basic(String, String),
    Token(Tokens),
}

impl Registry {
    /// One without TLS.
    pub fn plain() -> Setup {
        Setup { content: Content::new(), certificates: None, wants_client: false, access: Access::Open }
    }

    /// One with TLS by an authority of its own.
    pub fn tls() -> Setup {
        Self::tls_with(Certificates::new())
    }

    /// One with TLS.
    pub fn tls_with(certificates: Certificates) -> Setup {
        Setup { certificates: Some(certificates), ..Self::plain() }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its address with a scheme.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A reference to an image: `repository` with its tag or digest.
    pub fn reference(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// The file of the authority that a client has to trust.
    pub fn authority(&self) -> PathBuf {
        self.certificates.as_ref().expect("a registry with TLS").authority()
    }

    /// The certificate that a client may show, and its key.
    pub fn client(&self) -> [PathBuf; 2] {
        self.certificates.as_ref().expect("a registry with TLS").client()
    }

    /// The token server, for what it was asked.
    pub fn tokens(&self) -> &Hostile {
        &self.tokens.as_ref().expect("a registry with tokens").0
    }

    /// What it wrote; a line of the Combined Log Format for every request (after its answer).
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }
}

impl Setup {
    /// Has it serve what is there already; several may.
    pub fn serving(self, content: &Content) -> Self {
        Self { content: content.clone(), ..self }
    }

    /// Lets only this user in.
    pub fn basic(self, user: &str, password: &str) -> Self {
        Self { access: Access::Basic(user.into(), password.into()), ..self }
    }

    /// Lets those in who have a token of a server that is started beside it.
    pub fn token(self, tokens: Tokens) -> Self {
        Self { access: Access::Token(tokens), ..self }
    }

    /// Lets only those in who show a certificate of its own authority.
    pub fn with_client(self) -> Self {
        Self { wants_client: true, ..self }
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Registry {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let mut tokens = None;
        let access = match self.access {
            Access::Open => Value::Null,
            Access::Basic(user, password) => {
                std::fs::write(file("htpasswd"), format!("{user}:{}\n", bcrypt(&password))).expect("a file");
                json!({ "htpasswd": { "realm": "a test", "path": file("htpasswd") } })
            }
            Access::Token(policy) => {
                let (server, folder, trusted) = policy.start();
                let realm = format!("{}/token", server.url());
                tokens = Some((server, folder));
                json!({ "token": { "realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": trusted } })
            }
        };
        // The port is the kernel's choice, and the log names it: no other program can be mistaken for this one.
        let mut http = json!({ "addr": "127.0.0.1:0", "secret": "of a test" });
        if let Some(certificates) = &self.certificates {
            http["tls"] = json!({ "certificate": certificates.server(), "key": certificates.server_key() });
            if self.wants_client {
                http["tls"]["clientcas"] = json!([certificates.authority()]);
            }
        }
        let mut config = json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": self.content.path() } },
            "http": http,
            "compatibility": { "schema1": { "enabled": true } },
        });
        if !access.is_null() {
            config["auth"] = access;
        }
        // JSON is YAML.
        std::fs::write(file("config.yml"), config.to_string()).expect("a file");
        let log = std::fs::File::create(file("log")).expect("a file");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", PROGRAM, "serve"])
            .arg(file("config.yml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("setpriv of util-linux");
        let (content, certificates, log) = (self.content, self.certificates, file("log"));
        let address = String::new();
        let mut registry = Registry { content, child, address, log, certificates, tokens, _folder: folder };
        registry.address = registry.wait();
        registry
    }
}

impl Registry {
    /// Where it listens, by its own word.
    fn wait(&mut self) -> String {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            let log = self.log();
            if let Some((_, after)) = log.split_once("listening on ") {
                let end = after.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
                if let Some(end) = end {
                    return after[..end].to_owned();
                }
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{PROGRAM}: {ended:?}\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{PROGRAM} does not listen: {}", self.log());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What htpasswd keeps of a password; docker-registry takes bcrypt only, and Debian's libcrypt has it.
fn bcrypt(password: &str) -> String {
    let script = "print crypt($ARGV[0], '$2y$05$' . 'QemuPersistTestsSaltO.')";
    let hash = String::from_utf8(run("perl", &["-e", script, password], b"")).expect("text");
    assert!(hash.starts_with("$2y$05$") && hash.len() == 60, "{hash:?}");
    hash
}
