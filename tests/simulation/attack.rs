//! Messages that an attacker on the network, or inside the control plane, can send.

use halligan::protocol::bundle::{BundleReader, Change, Limits, write_bundle};
use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::head::{Head, MAX_HEAD, sign_head, sign_head_for};
use halligan::protocol::jws::Unverified;
use halligan::protocol::key::SigningKey;
use halligan::protocol::record::{Record, RecordKind};
use halligan::protocol::time::Time;
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Value;

use crate::control::Control;

/// Attack that only a holder of the signing keys can make.
pub const ROLE_CHANGE: &str = "a role change, rightly signed";
/// A version that no story reaches.
const FAR: u64 = 1_000_000;

/// Returns one of several attacks, as a name and a bundle. `recorded` is a recorded answer, `snapshot` a bundle with
/// all records.
pub fn choose(
    recorded: &[u8],
    snapshot: Option<&[u8]>,
    control: &Control,
    data_plane: &str,
    now: Time,
    random: &mut StdRng,
) -> (&'static str, Vec<u8>) {
    match (random.random_range(0..6), snapshot) {
        (0, _) => ("an old answer", recorded.to_vec()),
        (1, _) => {
            let length = random.random_range(0..recorded.len());
            ("half an answer", recorded[..length].to_vec())
        }
        (2, _) => {
            let mut bytes = recorded.to_vec();
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            ("a damaged answer", bytes)
        }
        (3, Some(snapshot)) => {
            let key = control.replica_key();
            let wider = |record: Record| {
                if record.kind != RecordKind::Token {
                    return Some(record);
                }
                let mut body: Value = serde_json::from_str(&record.body).unwrap();
                body["role"]["id"] = "DAG_AUTHOR@1".into();
                Some(Record::new(record.kind, record.key.to_string(), body.to_string()))
            };
            (ROLE_CHANGE, signed_anew(snapshot, &key, data_plane, (control.keyset(), FAR), now, wider))
        }
        (4, _) => {
            let stranger = SigningKey::from_seed(&[99; 32]);
            let keyset = control.keyset();
            ("a stranger's answer", signed_anew(recorded, &stranger, data_plane, (keyset, FAR), now, Some))
        }
        _ => ("noise", (0..random.random_range(0..400)).map(|_| random.random_range(0..=255)).collect()),
    }
}

/// Returns the records of an answer after `change`, under a new head that is signed with `key`. `versions` are those of
/// the keyset and of the head.
pub fn signed_anew(
    answer: &[u8],
    key: &SigningKey,
    data_plane: &str,
    versions: (u64, u64),
    now: Time,
    change: impl Fn(Record) -> Option<Record>,
) -> Vec<u8> {
    let mut reader = BundleReader::new(answer, Limits::default()).unwrap();
    let keysets = reader.keysets().to_vec();
    let mut records: Vec<Record> = Vec::new();
    for put in &mut reader {
        if let Ok(Change::Put(record)) = put {
            records.extend(change(record));
        }
    }
    let head = Head {
        iss: crate::control::ISSUER.into(),
        aud: data_plane.parse().unwrap(),
        version: versions.1,
        digest: records.iter().collect::<ReplicaDigest>().checksum(),
        count: records.len() as u64,
        iat: now,
        exp: now.plus(900),
        keyset: versions.0,
    };
    write_bundle(&keysets, &sign_head(&head, key), 0, records.into_iter().map(Change::Put)).unwrap()
}

/// Returns the answer to a host that was shown `face` and polls again: the same head, signed for the call, without
/// changes.
pub fn shown_again(face: &[u8], key: &SigningKey, nonce: &str, now: Time) -> Vec<u8> {
    let reader = BundleReader::new(face, Limits::default()).unwrap();
    let head = head_of(&reader);
    let base = head.version;
    let head = sign_head_for(&Head { iat: now, exp: now.plus(900), ..head }, nonce, key);
    write_bundle(reader.keysets(), &head, base, std::iter::empty()).unwrap()
}

/// Returns the ids of the tokens in a bundle.
pub fn tokens_of(bundle: &[u8]) -> Vec<String> {
    let reader = BundleReader::new(bundle, Limits::default()).unwrap();
    let tokens = reader.filter_map(|change| match change {
        Ok(Change::Put(record)) if record.kind == RecordKind::Token => Some(record.key.to_string()),
        _ => None,
    });
    tokens.collect()
}

fn head_of(reader: &BundleReader<&[u8]>) -> Head {
    Unverified::parse(reader.head().as_bytes(), MAX_HEAD).unwrap().claimed().unwrap()
}

/// Returns true if the head of a bundle was signed for one call. A large answer to a host that is behind has a head for
/// all hosts.
pub fn is_for_one_call(bundle: &[u8]) -> bool {
    BundleReader::new(bundle, Limits::default()).is_ok_and(|reader| {
        let claims: Value = Unverified::parse(reader.head().as_bytes(), MAX_HEAD).unwrap().claimed().unwrap();
        !claims["nonce"].is_null()
    })
}

/// Returns the version that the head of a bundle states.
pub fn version_of(bundle: &[u8]) -> u64 {
    head_of(&BundleReader::new(bundle, Limits::default()).unwrap()).version
}

/// Returns the digest that the head of a bundle states.
pub fn digest_of(bundle: &[u8]) -> [u8; 32] {
    head_of(&BundleReader::new(bundle, Limits::default()).unwrap()).digest
}
