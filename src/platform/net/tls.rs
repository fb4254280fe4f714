//! TLS of the listeners and clients in both programs: reads certificates, keys and authorities from PEM files, and sets the
//! protocols.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// Path of the trusted certificate authorities on Debian.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Reasons why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is missing, or is not PEM.
    #[error("{path} can't be used: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate and the key do not match, or rustls does not support them.
    #[error("{certificate} and {key} can't be used together: {source}")]
    Pair {
        /// Path of the certificate.
        certificate: PathBuf,
        /// Path of the key.
        key: PathBuf,
        /// Error of rustls.
        source: rustls::Error,
    },
    /// The certificate authorities cannot be read.
    #[error("the certificate authorities in {0} can't be read")]
    Authorities(PathBuf),
    /// The cryptography of this build supports no protocol version.
    #[error("no version of TLS can be used: {0}")]
    Versions(rustls::Error),
}

/// Reads a certificate chain and its private key, and checks that they match.
pub fn read_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let file = |path: &Path, source| TlsError::File { path: path.into(), source };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| file(certificate, source))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| file(key, source))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|source| TlsError::Pair {
        certificate: certificate.into(),
        key: key.into(),
        source,
    })
}

/// Returns an acceptor with the certificates of `resolver`.
pub fn acceptor(resolver: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Returns an acceptor with the certificate in two files, as they are now.
pub fn acceptor_of(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    acceptor(Arc::new(SingleCertAndKey::from(read_pair(certificate, key)?)))
}

/// Returns a TLS client configuration that trusts the authorities in `ca_file`, or the system's.
pub fn client(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, TlsError> {
    let path = ca_file.unwrap_or(Path::new(SYSTEM_CA));
    let unreadable = || TlsError::Authorities(path.into());
    let mut roots = rustls::RootCertStore::empty();
    if ca_file.is_some() || path.exists() {
        for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
            // A certificate that rustls cannot use cannot vouch for a server either.
            let _ = roots.add(certificate.map_err(|_| unreadable())?);
        }
    }
    let provider = Arc::new(ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
