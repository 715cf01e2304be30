// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom to trust: the authorities of this system, and those that engines are given for one registry
//! (docs.docker.com, "Verify repository client with certificates"; containers-certs.d(5)).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::settings::{Places, read_file};

/// The authorities of this system (/etc/ssl/certs, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name), read once.
fn of_system() -> &'static [Certificate<'static>] {
    static ROOTS: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let loaded = rustls_native_certs::load_native_certs();
        loaded.certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect()
    })
}

/// Where the certificates for the registry `host` are.
fn folders(places: &Places, host: &str) -> Vec<PathBuf> {
    let own =
        places.config.iter().flat_map(|config| ["containers/certs.d", "docker/certs.d"].map(|name| config.join(name)));
    let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    own.chain(system).map(|folder| folder.join(host)).collect()
}

/// What a folder of certificates says.
#[derive(Default)]
struct Given {
    roots: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>, String> {
    let text = read_file(path).map_err(|why| format!("{}: {why}", path.display()))?.unwrap_or_default();
    let items: Result<Vec<_>, _> = parse_pem(text.as_bytes()).collect();
    items.map_err(|e| format!("{}: {e}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let found = items(path)?.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    Ok(found.collect())
}

/// `*.crt` are authorities; `NAME.cert` with `NAME.key` is how this host shows who it is.
fn read_folder(folder: &Path, given: &mut Given) -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => given.roots.extend(certificates(&path)?),
            Some("cert") if given.client.is_none() => {
                let chain = certificates(&path)?;
                let key_path = path.with_extension("key");
                let key = items(&key_path)?.into_iter().find_map(|item| match item {
                    PemItem::PrivateKey(key) => Some(key),
                    _ => None,
                });
                let key: PrivateKey<'static> =
                    key.ok_or_else(|| format!("{}: there is no key in it", key_path.display()))?;
                given.client = Some(ClientCert::new_with_certs(&chain, key));
            }
            _ => {}
        }
    }
    Ok(())
}

/// How to speak TLS with the registry `host`, which with `insecure` may be anybody.
///
/// # Errors
/// Which file cannot be used, and why.
pub(super) fn tls(places: &Places, host: &str, insecure: bool) -> Result<TlsConfig, String> {
    let mut given = Given::default();
    for folder in folders(places, host) {
        read_folder(&folder, &mut given)?;
    }
    given.roots.extend_from_slice(of_system());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(given.roots)))
        .client_cert(given.client)
        .disable_verification(insecure)
        .unversioned_rustls_crypto_provider(provider)
        .build())
}
