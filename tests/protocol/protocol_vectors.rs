//! Sample vectors of docs/protocol.md (tests/vectors, described in tests/vectors/README.md), which other
//! implementations can run, too. Each module has a function that answers a case as the file states it, and makes the
//! cases of its files. With HALLIGAN_WRITE_VECTORS set the files are written again; a change in them is a change of the
//! protocol.
//!
//! The cases in tests/vectors/further are not written again. The same functions answer them, and cases that
//! `tests/interop/mutate.py` changes at random: HALLIGAN_CHANGES is their number for each file, and
//! HALLIGAN_CHANGES_SEED the seed of the changes.

// A file of samples is one table, so its function is as long as the table.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::too_many_lines
)]

mod bundles;
mod changed;
mod decisions;
mod deploys;
mod digests;
mod environments;
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
use halligan::protocol::key::{Jwk, PublicKey, SigningKey};
use halligan::protocol::keyset::{Keyset, RootSet};
use halligan::protocol::record::Record;
use halligan::protocol::time::Time;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::world::World;

/// Function that returns the answer of this implementation to a case, from the common members and those of the case.
type Answer = fn(common: &Value, case: &Value) -> String;

/// Samples of one file.
pub struct Vectors {
    file: &'static str,
    answer: Answer,
    /// Members that all cases have in common.
    common: Value,
    names: BTreeSet<String>,
    cases: Vec<Value>,
}

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))
}

impl Vectors {
    /// Creates the samples of `file`. `about` states their question, and `answer` answers it.
    pub fn new(file: &'static str, about: &str, answer: Answer) -> Self {
        let common = json!({ "about": about });
        Self { file, answer, common, names: BTreeSet::new(), cases: Vec::new() }
    }

    /// Adds a member that all cases have in common.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.common[member] = value;
        self
    }

    /// Adds a case. `expected` is the answer that an implementation must give, and `why` is the rule for it.
    pub fn case(&mut self, name: &str, input: Value, expected: &str, why: &str) {
        let mut case = input;
        case["name"] = json!(name);
        case["expected"] = json!(expected);
        if !why.is_empty() {
            case["why"] = json!(why);
        }
        if let Err(wrong) = self.check(&self.common.clone(), &case) {
            panic!("{wrong}");
        }
        self.cases.push(case);
    }

    /// Compares the answer of this implementation with the expected one.
    fn check(&mut self, common: &Value, case: &Value) -> Result<(), String> {
        let (name, expected) = (text(case, "name"), text(case, "expected"));
        let wrong = |what: &str| Err(format!("{}: {name:?} {what}", self.file));
        if self.names.contains(name) {
            return wrong("stands twice");
        }
        if expected != "ok" && case["why"].as_str().is_none_or(str::is_empty) {
            return wrong("has no reason");
        }
        let got = (self.answer)(common, case);
        if got != expected {
            return wrong(&format!("is answered {got:?}, not {expected:?}"));
        }
        self.names.insert(name.into());
        Ok(())
    }

    /// Compares the file with what this build would write, and answers the further cases.
    pub fn hold(mut self) {
        let mut file = self.common.clone();
        file["cases"] = Value::Array(std::mem::take(&mut self.cases));
        let text = format!("{file:#}\n");
        let path = directory().join(self.file);
        if std::env::var_os("HALLIGAN_WRITE_VECTORS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let held = std::fs::read_to_string(&path).unwrap();
        assert!(held == text, "{} is not what this build writes", self.file);
        self.answer_changed();
        self.answer_further();
    }

    /// Answers cases that were changed at random, and compares the answers with those of the second reader.
    fn answer_changed(&self) {
        let mut wrong = Vec::new();
        for case in changed::cases(self.file) {
            let (got, expected) = ((self.answer)(&self.common, &case), text(&case, "expected"));
            if !changed::agree(self.file, &got, expected) {
                wrong.push(format!("{got:?} is answered here, {expected:?} by the second reader: {case}"));
            }
        }
        assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// Answers the cases of the file of the same name in tests/vectors/further. Common members that it lacks are taken
    /// from this file.
    fn answer_further(mut self) {
        let Ok(further) = std::fs::read(directory().join("further").join(self.file)) else { return };
        let mut common: Map<String, Value> = serde_json::from_slice(&further).unwrap();
        let Some(Value::Array(cases)) = common.remove("cases") else { panic!("{} has no cases", self.file) };
        for (member, value) in self.common.as_object().unwrap() {
            common.entry(member).or_insert_with(|| value.clone());
        }
        let common = Value::Object(common);
        let wrong: Vec<_> = cases.iter().filter_map(|case| self.check(&common, case).err()).collect();
        assert!(wrong.is_empty(), "further/{}", wrong.join("\nfurther/"));
    }
}

#[test]
fn every_further_file_adds_to_a_file_of_samples() {
    for file in std::fs::read_dir(directory().join("further")).unwrap() {
        let name = file.unwrap().file_name();
        assert!(directory().join(&name).is_file(), "further/{} adds to no file", name.display());
    }
}

/// Returns the text of a member.
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} is no text in {value}"))
}

/// Returns the time of a member.
pub fn time(value: &Value, member: &str) -> Time {
    Time::from_unix(read(value, member))
}

/// Returns the bytes of a member in base64url.
pub fn bytes(value: &Value, member: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text(value, member)).unwrap()
}

/// Returns a member of any type.
pub fn read<T: DeserializeOwned>(value: &Value, member: &str) -> T {
    serde_json::from_value(value[member].clone())
        .unwrap_or_else(|error| panic!("{member}: {error} in {value}"))
}

/// Returns the public key of a member.
pub fn public_key(value: &Value, member: &str) -> PublicKey {
    PublicKey::from_jwk(&read::<Jwk>(value, member)).unwrap()
}

/// Returns the roots `pinned`, of which `threshold` must sign.
pub fn pinned(common: &Value) -> RootSet {
    let roots: Vec<Jwk> = read(common, "pinned");
    let roots = roots.iter().map(|root| PublicKey::from_jwk(root).unwrap()).collect();
    RootSet::new(roots, read(common, "threshold")).unwrap()
}

/// Returns the verified keyset of the member `keyset`.
pub fn keyset(common: &Value) -> Keyset {
    Keyset::verify_first(text(common, "keyset"), &World::new().pinned()).unwrap()
}

/// Returns the record of a case.
pub fn record(value: &Value) -> Record {
    Record::new(text(value, "kind").parse().unwrap(), text(value, "key"), text(value, "body"))
}

/// Returns the records of a member.
pub fn records(value: &Value, member: &str) -> Vec<Record> {
    value[member].as_array().unwrap().iter().map(record).collect()
}

/// Returns bytes as base64url without padding.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns a compact JWS with any header and any payload, valid or not.
pub fn raw_jws(header: &[u8], encoded_payload: &str, key: &SigningKey) -> String {
    let input = format!("{}.{encoded_payload}", base64(header));
    let pem = key.to_pkcs8_pem();
    let key: ed25519_dalek::SigningKey =
        ed25519_dalek::pkcs8::DecodePrivateKey::from_pkcs8_pem(&pem).unwrap();
    let signature = key.sign(input.as_bytes()).to_bytes();
    format!("{input}.{}", base64(signature))
}

/// Returns the header of a JWS of type `typ` that `key` signs.
pub fn header(typ: &str, key: &SigningKey) -> String {
    format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"{}"}}"#, key.public().kid())
}

/// Returns the payload of a compact JWS as text.
pub fn payload(jws: &str) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// Returns `text` with `from` replaced. It must contain `from`.
pub fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{text} has no {from}");
    text.replacen(from, to, 1)
}

/// Returns `text` with one character of base64url changed, `back` characters before its end.
pub fn changed(text: &str, back: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.len() - back;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}
