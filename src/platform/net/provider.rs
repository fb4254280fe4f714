//! Cryptography of TLS clients that take it from their process: reqwest, and `object_store` with it.

/// Makes ring the cryptography of this process. Later calls change nothing, since every part of a program installs the same.
pub fn install() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
