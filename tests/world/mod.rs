//! Keys, records, tokens and bundles of a control plane, the same in every run.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::missing_panics_doc)]

use halligan::dataplane::decide::snapshot::{Replica, Snapshot, Staleness};
use halligan::protocol::bundle::{Change, write_bundle};
use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::glass::GlassMode;
use halligan::protocol::head::{Head, SignedHead, sign_head, sign_head_for};
use halligan::protocol::id::DataPlaneId;
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetKey, RootSet, sign_keyset};
use halligan::protocol::record::{DeploymentRecord, Record, RecordKind};
use halligan::protocol::role::{RoleDigest, built_in};
use halligan::protocol::time::Time;
use halligan::protocol::token::{Claims, RoleClaim, TokenKind, TokenRecord, mint};

pub const T0: Time = Time::from_unix(1_800_000_000);
pub const ISSUER: &str = "https://control.example";
pub const DEPLOYMENT: &str = "dep_a";
pub const DATA_PLANE: &str = "dpl_a";

/// Returns one zstd frame with a checksum, like a bundle.
pub fn frame(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, content).unwrap();
    encoder.finish().unwrap()
}

pub struct World {
    pub root: SigningKey,
    pub token: SigningKey,
    pub replica: SigningKey,
    pub keyset: String,
}

impl World {
    pub fn new() -> Self {
        let [root, token, replica] = [1, 2, 3].map(|seed| SigningKey::from_seed(&[seed; 32]));
        let listed = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
        let body = KeysetBody {
            iss: None,
            version: 1,
            iat: T0,
            exp: T0.plus(365 * 86_400),
            keys: vec![listed(KeyUse::Token, &token), listed(KeyUse::Replica, &replica)],
            roots: vec![root.public().jwk()],
            threshold: 1,
        };
        let keyset = sign_keyset(&body, &[&root]);
        Self { root, token, replica, keyset }
    }

    pub fn pinned(&self) -> RootSet {
        RootSet::new(vec![self.root.public().clone()], 1).unwrap()
    }

    pub fn keyset(&self) -> Keyset {
        Keyset::verify_first(&self.keyset, &self.pinned()).unwrap()
    }

    pub fn data_plane() -> DataPlaneId {
        DATA_PLANE.parse().unwrap()
    }

    pub fn role() -> (Record, RoleClaim) {
        let role = built_in().into_iter().find(|role| role.name == "DEPLOYMENT_ADMIN").unwrap();
        let claim = RoleClaim { id: role.reference().unwrap(), digest: RoleDigest::compute(&role.to_body()) };
        (Record::new(RecordKind::Role, claim.id.to_string(), role.to_body()), claim)
    }

    pub fn token_record(number: usize) -> TokenRecord {
        TokenRecord {
            id: format!("tok_{number:026}").parse().unwrap(),
            deployment: DEPLOYMENT.parse().unwrap(),
            generation: 1,
            role: Self::role().1,
            dag_roles: vec![],
            not_before: T0,
            expires_at: T0.plus(30 * 86_400),
            sources: vec![],
            rate_limit_per_minute: None,
            revoked_at: None,
        }
    }

    pub fn record(token: &TokenRecord) -> Record {
        Record::from_value(RecordKind::Token, token.id.as_str(), token)
    }

    /// Returns the value of a token whose record is [`World::token_record`].
    pub fn value(&self, number: usize) -> String {
        self.value_of(&Self::token_record(number))
    }

    /// Returns the value of the token with this record: its times and its generation are those of the record.
    pub fn value_of(&self, record: &TokenRecord) -> String {
        let record = record.clone();
        let claims = Claims {
            permissions: Vec::new(),
            iss: ISSUER.into(),
            sub: record.id,
            aud: DEPLOYMENT.into(),
            iat: T0,
            nbf: record.not_before,
            exp: Some(record.expires_at),
            generation: record.generation,
            role: Some(record.role),
        };
        mint(TokenKind::DirectAccess, &claims, &self.token).to_string()
    }

    /// Returns a role, a deployment, and this number of tokens.
    pub fn records(tokens: usize) -> Vec<Record> {
        let deployment = DeploymentRecord {
            id: DEPLOYMENT.parse().unwrap(),
            workspace: "wsp_a".into(),
            name: "a".into(),
            hosts: vec!["a.example".into()],
            routes: "airflow-v2".into(),
            glass: GlassMode::Always,
        };
        let fixed = [Self::role().0, Record::from_value(RecordKind::Deployment, DEPLOYMENT, &deployment)];
        let role = Self::token_record(0);
        let tokens = (0..tokens).map(|number| {
            let id = format!("tok_{number:026}").parse().unwrap();
            Self::record(&TokenRecord { id, ..role.clone() })
        });
        fixed.into_iter().chain(tokens).collect()
    }

    /// Returns the claims of the head for `records` at `at`.
    pub fn stated(version: u64, records: &[Record], at: Time) -> Head {
        Head {
            iss: ISSUER.into(),
            aud: Self::data_plane(),
            version,
            digest: records.iter().collect::<ReplicaDigest>().checksum(),
            count: records.len() as u64,
            iat: at,
            exp: at.plus(900),
            keyset: 1,
        }
    }

    /// Returns the head for `records`, signed at `at`.
    pub fn head(&self, version: u64, records: &[Record], at: Time) -> String {
        sign_head(&Self::stated(version, records, at), &self.replica)
    }

    /// Returns a snapshot as a bundle, whose head is signed for the request with this nonce.
    pub fn answer(&self, version: u64, records: &[Record], at: Time, nonce: &str) -> Vec<u8> {
        let head = sign_head_for(&Self::stated(version, records, at), nonce, &self.replica);
        write_bundle(&[&self.keyset], &head, 0, records.iter().cloned().map(Change::Put)).unwrap()
    }

    /// Returns a snapshot as a bundle.
    pub fn bundle(&self, version: u64, records: &[Record], at: Time) -> Vec<u8> {
        let changes = records.iter().cloned().map(Change::Put);
        write_bundle(&[&self.keyset], &self.head(version, records, at), 0, changes).unwrap()
    }

    /// Returns a bundle with the changes from version `base` to `version`, whose records are `records`.
    pub fn delta(
        &self,
        base: u64,
        version: u64,
        records: &[Record],
        changes: Vec<Change>,
        at: Time,
    ) -> Vec<u8> {
        write_bundle(&[&self.keyset], &self.head(version, records, at), base, changes).unwrap()
    }

    /// Returns a snapshot that can decide requests.
    pub fn snapshot(&self, records: Vec<Record>) -> Snapshot {
        let keyset = self.keyset();
        let head = SignedHead::verify(&self.head(1, &records, T0), &keyset, &Self::data_plane()).unwrap();
        let replica = Replica { keyset, head, records, losses: vec![], retirements: vec![] };
        Snapshot::build(replica, Staleness::default(), None)
    }
}
