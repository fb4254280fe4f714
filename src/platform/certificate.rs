//! Expiry of TLS certificates: the first `notAfter` (RFC 5280 section 4.1.2.5) of a chain in a PEM file.
//!
//! rustls verifies certificates but does not return their expiry. Only the path to that one field is parsed here,
//! instead of a dependency on a complete X.509 parser.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;

use crate::protocol::ends::{End, EndKind};
use crate::protocol::time::Time;

/// Reasons for which the expiry of a certificate is unknown.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The file cannot be read or is not PEM.
    #[error("the certificate {path} can't be read: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: rustls::pki_types::pem::Error,
    },
    /// The file contains no certificate that can be parsed.
    #[error("{0} holds no X.509 certificate")]
    None(PathBuf),
}

/// Returns the expiry of the chain in the file at `path`, which is that of its first certificate to expire.
pub fn end(path: &Path) -> Result<End, CertificateError> {
    let at = ends(path)?.into_iter().min().ok_or_else(|| CertificateError::None(path.into()))?;
    Ok(End { kind: EndKind::Certificate, name: path.display().to_string(), at })
}

/// Returns the next expiry of the certificate authorities in the file at `path`, of which some may have expired long ago:
/// that of the first one to expire after `now`, or of the last one if all have expired.
pub fn end_of_authorities(path: &Path, now: Time) -> Result<End, CertificateError> {
    let ends = ends(path)?;
    let next = ends.iter().filter(|end| **end > now).min().or_else(|| ends.iter().max());
    let at = *next.ok_or_else(|| CertificateError::None(path.into()))?;
    Ok(End { kind: EndKind::Certificate, name: path.display().to_string(), at })
}

/// Returns the expiry of each certificate in the file at `path`.
fn ends(path: &Path) -> Result<Vec<Time>, CertificateError> {
    let failed = |source| CertificateError::File { path: path.into(), source };
    let chain: Vec<CertificateDer<'_>> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    let ends: Option<_> = chain.iter().map(|certificate| not_after(certificate)).collect();
    ends.ok_or_else(|| CertificateError::None(path.into()))
}

/// Expiry of a certificate that never expires: the last second of the year 9999.
const NEVER: Time = Time::from_unix(253_402_300_799);

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Parses `notAfter` of a certificate in DER.
fn not_after(certificate: &[u8]) -> Option<Time> {
    let (tag, certificate, _) = element(certificate)?;
    let (inner, mut rest, _) = element(certificate).filter(|_| tag == SEQUENCE)?;
    if inner != SEQUENCE {
        return None;
    }
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Skips serial number, algorithm and issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (tag, validity, _) = element(rest)?;
    let not_before = element(validity).filter(|_| tag == SEQUENCE)?;
    let (tag, text, _) = element(not_before.2)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        // RFC 5280 section 4.1.2.5.1: two-digit years are 1950 to 2049.
        UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    // RFC 5280 section 4.1.2.5: this value means that it never expires. The conversion below does not reach so far.
    if (year, rest) == (9999, "1231235959") {
        return Some(NEVER);
    }
    let digits = rest.len() == 10 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let part = |at: usize| rest.get(at..at + 2).filter(|_| digits);
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    Time::parse_rfc3339(&format!("{year:04}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// Splits the first DER element off: returns its tag, its content and the bytes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(first) {
        short @ ..=0x7f => (short, rest),
        long @ 0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut der = vec![tag];
        match length {
            ..0x80 => der.push(u8::try_from(length).unwrap()),
            _ => der.extend([0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()]),
        }
        der.extend_from_slice(content);
        der
    }

    fn certificate(version: bool, times: [(u8, &str); 2]) -> Vec<u8> {
        let mut inner = if version { wrap(VERSION, &wrap(2, &[2])) } else { vec![] };
        inner.extend(wrap(2, &[7; 20]));
        inner.extend(wrap(SEQUENCE, &wrap(6, &[42, 3, 4])));
        inner.extend(wrap(SEQUENCE, &[0x31; 150]));
        let validity: Vec<u8> = times.iter().flat_map(|(tag, text)| wrap(*tag, text.as_bytes())).collect();
        inner.extend(wrap(SEQUENCE, &validity));
        inner.extend(wrap(SEQUENCE, &[0; 300]));
        wrap(SEQUENCE, &wrap(SEQUENCE, &inner))
    }

    #[test]
    fn a_certificate_ends_when_its_not_after_says() {
        let before = (UTC_TIME, "260101000000Z");
        for (after, expected) in [
            ((UTC_TIME, "270203040506Z"), Some("2027-02-03T04:05:06Z")),
            ((UTC_TIME, "491231235959Z"), Some("2049-12-31T23:59:59Z")),
            ((UTC_TIME, "500101000000Z"), Some("1950-01-01T00:00:00Z")),
            ((GENERALIZED_TIME, "20500101000000Z"), Some("2050-01-01T00:00:00Z")),
            ((GENERALIZED_TIME, "99991231235959Z"), Some("253402300799")),
            ((UTC_TIME, "270203040506"), None),
            ((UTC_TIME, "271303040506Z"), None),
            ((GENERALIZED_TIME, "2050010100000+Z"), None),
            ((4, "270203040506Z"), None),
        ] {
            for version in [true, false] {
                let found = not_after(&certificate(version, [before, after]));
                assert_eq!(found.map(|time| time.to_string()).as_deref(), expected, "{after:?}");
            }
        }
    }

    #[test]
    fn the_next_authority_to_end_is_told_and_one_that_ended_long_ago_only_if_it_is_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let before = (UTC_TIME, "200101000000Z");
        let text: String = ["220101000000Z", "280101000000Z", "270101000000Z"]
            .map(|after| {
                let der = certificate(true, [before, (UTC_TIME, after)]);
                let text = base64::engine::general_purpose::STANDARD.encode(der);
                format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
            })
            .concat();
        std::fs::write(&path, text).unwrap();
        let told =
            |now: &str| end_of_authorities(&path, Time::parse_rfc3339(now).unwrap()).unwrap().at.to_string();
        assert_eq!(told("2021-01-01T00:00:00Z"), "2022-01-01T00:00:00Z");
        assert_eq!(told("2026-01-01T00:00:00Z"), "2027-01-01T00:00:00Z");
        assert_eq!(told("2030-01-01T00:00:00Z"), "2028-01-01T00:00:00Z");
        assert_eq!(end(&path).unwrap().at.to_string(), "2022-01-01T00:00:00Z");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(end_of_authorities(&path, Time::from_unix(0)), Err(CertificateError::None(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut: usize, at: usize, bit in 0_u8..8) {
            let _ = not_after(&bytes);
            let mut whole = certificate(true, [(UTC_TIME, "260101000000Z"), (UTC_TIME, "270203040506Z")]);
            let length = whole.len();
            let _ = not_after(&whole[..cut % length]);
            whole[at % length] ^= 1 << bit;
            let _ = not_after(&whole);
        }
    }
}
