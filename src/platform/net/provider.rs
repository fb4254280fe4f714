//! Installs the cryptography of TLS clients that take it from their process: reqwest, and `object_store`, which uses it.

/// Makes ring the cryptography of this process. A later call has no effect, since every part of a program installs ring.
pub fn install() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
