// SPDX-License-Identifier: MIT OR Apache-2.0
//! An authority of a test's own and the certificate that it gives to a server, made by openssl.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use super::run;

/// The authority, the server's certificate and its key, in a folder of their own.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Good ones, for `localhost` and the first addresses of the loopback device.
    pub fn new() -> Self {
        Self::of("DNS:localhost,IP:127.0.0.1,IP:127.0.0.2", "2")
    }

    /// A good authority; the server's certificate is for another name.
    pub fn of_another_host() -> Self {
        Self::of("DNS:other.example", "2")
    }

    /// A good authority; the server's certificate ended a day ago.
    pub fn expired() -> Self {
        Self::of("DNS:localhost,IP:127.0.0.1,IP:127.0.0.2", "-1")
    }

    fn of(names: &str, days: &str) -> Self {
        let made = Self { folder: tempfile::tempdir().expect("a folder") };
        let path = |name: &str| made.folder.path().join(name).display().to_string();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let (authority, authority_key) = (path("ca.crt"), path("ca.private"));
        let mut arguments = [&["req", "-x509", "-days", "2", "-subj", "/CN=Authority of a test"][..], &key].concat();
        arguments.extend(["-addext", "keyUsage=critical,keyCertSign", "-keyout", &authority_key, "-out", &authority]);
        run("openssl", &arguments, b"");
        made.give("server", "serverAuth", &format!("subjectAltName={names}\n"), days);
        made.give("client", "clientAuth", "", "2");
        made
    }

    /// Has the authority sign a certificate for `name`, which is `usage` (x509v3_config(5), "extendedKeyUsage").
    fn give(&self, name: &str, usage: &str, more: &str, days: &str) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (request, key, certificate) =
            (path("request"), path(&format!("{name}.private")), path(&format!("{name}.crt")));
        let subject = format!("/CN=The {name} of a test");
        let mut arguments = vec!["req", "-subj", &subject, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        arguments.extend(["-nodes", "-keyout", &key, "-out", &request]);
        run("openssl", &arguments, b"");
        let extensions = format!("basicConstraints=CA:FALSE\nextendedKeyUsage={usage}\n{more}");
        let (authority, authority_key) = (path("ca.crt"), path("ca.private"));
        let mut arguments = vec!["x509", "-req", "-days", days, "-in", &request, "-CA", &authority];
        arguments.extend(["-CAkey", &authority_key, "-CAcreateserial", "-extfile", "/dev/stdin", "-out", &certificate]);
        run("openssl", &arguments, extensions.as_bytes());
    }

    /// The certificate by which a client shows who it is, and its key.
    pub fn client(&self) -> [PathBuf; 2] {
        ["client.crt", "client.private"].map(|name| self.folder.path().join(name))
    }

    /// The authority's certificate: what a client has to trust.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The server's certificate.
    pub fn server(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    /// The server's key.
    pub fn server_key(&self) -> PathBuf {
        self.folder.path().join("server.private")
    }

    /// What rustls needs to be that server.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(self.server()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(self.server_key()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
        Arc::new(config.expect("a certificate and its key"))
    }
}
