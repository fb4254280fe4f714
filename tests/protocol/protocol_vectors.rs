//! The sample vectors of docs/protocol.md (tests/vectors/*.json, described in tests/vectors/README.md): another implementation
//! can run them, and this one does. With HALLIGAN_WRITE_VECTORS set the files are written anew; a change in them is a change of
//! the protocol.

// A file of samples is one table, and as long as that.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::too_many_lines
)]

mod bundles;
mod decisions;
mod digests;
mod frame;
mod glass;
mod heads;
mod keysets;
mod log;
mod made;
mod nodes;
mod peers;
mod records;
mod statements;
mod tokens;
mod uploads;

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer as _;
use halligan::protocol::key::SigningKey;
use serde_json::{Map, Value, json};

/// The samples of one file.
pub struct Vectors {
    file: &'static str,
    members: Map<String, Value>,
    names: BTreeSet<String>,
    cases: Vec<Value>,
}

impl Vectors {
    /// The samples of `file`, which ask what `about` says.
    pub fn new(file: &'static str, about: &str) -> Self {
        let members = Map::from_iter([("about".to_owned(), json!(about))]);
        Self { file, members, names: BTreeSet::new(), cases: Vec::new() }
    }

    /// Adds what all cases have in common.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.members.insert(member.into(), value);
        self
    }

    /// Adds a case that is accepted.
    pub fn ok(&mut self, name: &str, input: Value, got: &str) {
        self.case(name, input, got, "ok", "");
    }

    /// Adds a case: `got` is what this implementation answers, `expected` what it must, `why` the rule it rests on.
    pub fn case(&mut self, name: &str, input: Value, got: &str, expected: &str, why: &str) {
        assert_eq!(got, expected, "{}: {name}", self.file);
        assert!(self.names.insert(name.into()), "{}: {name} stands twice", self.file);
        assert!(expected == "ok" || !why.is_empty(), "{}: {name} has no reason", self.file);
        let Value::Object(mut case) = input else { panic!("{name}: the input is no object") };
        case.insert("name".into(), json!(name));
        case.insert("expected".into(), json!(expected));
        if !why.is_empty() {
            case.insert("why".into(), json!(why));
        }
        self.cases.push(Value::Object(case));
    }

    /// Compares the file with what this build would write.
    pub fn hold(mut self) {
        self.members.insert("cases".into(), Value::Array(self.cases));
        let text = format!("{:#}\n", Value::Object(self.members));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(self.file);
        if std::env::var_os("HALLIGAN_WRITE_VECTORS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let held = std::fs::read_to_string(&path).unwrap();
        assert!(held == text, "{} is not what this build writes", self.file);
    }
}

/// base64url without padding.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A compact JWS over any header and any payload, whether they make sense or not.
pub fn raw_jws(header: &[u8], encoded_payload: &str, key: &SigningKey) -> String {
    let input = format!("{}.{encoded_payload}", base64(header));
    let pem = key.to_pkcs8_pem();
    let key: ed25519_dalek::SigningKey =
        ed25519_dalek::pkcs8::DecodePrivateKey::from_pkcs8_pem(&pem).unwrap();
    let signature = key.sign(input.as_bytes()).to_bytes();
    format!("{input}.{}", base64(signature))
}

/// The header that `key` signs with as `typ`.
pub fn header(typ: &str, key: &SigningKey) -> String {
    format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"{}"}}"#, key.public().kid())
}

/// The payload of a compact JWS, as text.
pub fn payload(jws: &str) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// `text` with `from` replaced, which must be in it.
pub fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{text} has no {from}");
    text.replacen(from, to, 1)
}

/// `text` with one character of base64url changed, `back` characters before its end.
pub fn changed(text: &str, back: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.len() - back;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}
