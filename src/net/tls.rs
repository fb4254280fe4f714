//! TLS of the listeners of both programs: a certificate and its key as two PEM files, and the protocols that are offered.

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

/// Why TLS can't be offered.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file that is not there, or is no PEM.
    #[error("{path} can't be used: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// They don't belong together, or are of a kind rustls does not know.
    #[error("{certificate} and {key} can't be used together: {source}")]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The cryptography of this build has no protocol version to offer.
    #[error("no version of TLS can be offered: {0}")]
    Versions(rustls::Error),
}

/// Reads a certificate chain and its private key, and proves that they belong together.
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

/// Makes an acceptor that shows what `resolver` has.
pub fn acceptor(resolver: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Makes an acceptor that shows the certificate in two files, as they are now.
pub fn acceptor_of(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    acceptor(Arc::new(SingleCertAndKey::from(read_pair(certificate, key)?)))
}
