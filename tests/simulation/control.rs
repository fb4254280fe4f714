//! The control plane of a story: the real one, on a database in memory-backed files, with a clock the story sets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use halligan::controlplane::ControlPlane;
use halligan::controlplane::authorization::Actor;
use halligan::controlplane::feed::Held;
use halligan::controlplane::precondition::IfMatch;
use halligan::controlplane::signing::Signing;
use halligan::controlplane::store::Store;
use halligan::dataplane::identity::Identity;
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::key::{PublicKey, SigningKey};
use halligan::protocol::keyset::RootSet;
use halligan::protocol::reconciliation::Outcome;
use halligan::protocol::time::Time;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rusqlite::Connection;
use serde_json::{Value, json};

pub const ISSUER: &str = "https://control.example";

/// A control plane, and who may tell it what to do.
pub struct Control {
    directory: PathBuf,
    clock: Arc<AtomicI64>,
    seed: u64,
    starts: u64,
    plane: Option<ControlPlane>,
    /// What the oracle looks at after every step.
    database: Connection,
    owner: Actor,
    pub organization: String,
    pub data_plane: String,
    pub deployments: Vec<String>,
}

impl Control {
    /// A control plane with an organization, a data plane and two deployments.
    pub fn new(directory: &Path, clock: &Arc<AtomicI64>, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let now = Time::from_unix(clock.load(Ordering::Relaxed));
        std::fs::create_dir(directory).unwrap();
        Signing::create(directory, now, &mut random).unwrap();
        let plane = open(directory, clock, seed);
        let made = plane.bootstrap("Acme", "owner@acme.example").unwrap();
        let owner = plane.authenticate(made.token.as_bytes()).unwrap();
        let organization = made.organization_id;
        let workspace = plane.create_workspace(&owner, &organization, "data").unwrap().id;
        let data_plane = plane.create_data_plane(&owner, &organization, "eu").unwrap().named.id;
        let deployments = ["prod", "stage"].map(|name| {
            let new = json!({ "name": name, "workspaceId": workspace, "dataPlaneId": data_plane });
            plane.create_deployment(&owner, &organization, serde_json::from_value(new).unwrap()).unwrap().id
        });
        Self {
            directory: directory.to_owned(),
            clock: Arc::clone(clock),
            seed,
            starts: 0,
            plane: Some(plane),
            database: Connection::open(directory.join("control.db")).unwrap(),
            owner,
            organization,
            data_plane,
            deployments: deployments.into(),
        }
    }

    pub fn up(&self) -> bool {
        self.plane.is_some()
    }

    pub fn kill(&mut self) {
        self.plane = None;
    }

    pub fn start(&mut self) {
        if self.plane.is_none() {
            self.starts += 1;
            self.plane = Some(open(&self.directory, &self.clock, self.seed ^ (self.starts << 32)));
        }
    }

    /// The pinned roots of a host that trusts it.
    pub fn pinned(&self) -> RootSet {
        let pem = std::fs::read_to_string(self.directory.join("root.pub.pem")).unwrap();
        RootSet::new(vec![PublicKey::from_pem(&pem).unwrap()], 1).unwrap()
    }

    /// The key it signs heads with: what an attacker inside it would have.
    pub fn replica_key(&self) -> SigningKey {
        SigningKey::from_pkcs8_pem(&std::fs::read_to_string(self.directory.join("replica.pem")).unwrap())
            .unwrap()
    }

    /// Enrols a host.
    pub fn enrol(&self, name: &str, key: &SigningKey) -> Identity {
        let plane = self.plane.as_ref().unwrap();
        let token =
            plane.create_enrolment_token(&self.owner, &self.organization, &self.data_plane, 3600).unwrap();
        let now = self.clock.load(Ordering::Relaxed);
        let proof =
            json!({ "aud": "halligan-control", "iat": now, "exp": now + 60, "jti": name }).to_string();
        let enrolment = json!({
            "enrolmentToken": *token.enrolment_token, "name": name, "key": key.public().jwk(),
            "proof": sign(Typ::NodeAuth, proof.as_bytes(), key),
        });
        let enrolled = plane.enrol(&serde_json::from_value(enrolment).unwrap()).unwrap();
        serde_json::from_value(serde_json::to_value(enrolled).unwrap()).unwrap()
    }

    /// Makes a direct-access token; gives its id, its value and when it expires.
    pub fn create_token(&self, name: &str, deployment: usize, days: i64) -> Option<(String, String, Time)> {
        let new = json!({
            "name": name, "type": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": self.deployments[deployment],
            "tokenExpiryPeriodInDays": days,
        });
        let new = serde_json::from_value(new).unwrap();
        let made = self.plane.as_ref()?.create_token(&self.owner, &self.organization, new, None).unwrap();
        Some((made.id, made.token.unwrap().to_string(), made.end_at.unwrap()))
    }

    /// Gives a token a new value.
    pub fn rotate_token(&self, id: &str) -> Option<String> {
        let made = self
            .plane
            .as_ref()?
            .rotate_token(&self.owner, &self.organization, id, None, &IfMatch::default())
            .unwrap();
        Some(made.token.unwrap().to_string())
    }

    /// Revokes a token.
    pub fn delete_token(&self, id: &str) -> Option<()> {
        self.plane.as_ref()?.delete_token(&self.owner, &self.organization, id, &IfMatch::default()).unwrap();
        Some(())
    }

    /// The version of the replica.
    pub fn version(&self) -> Option<u64> {
        self.plane.as_ref()?;
        let mut statement =
            self.database.prepare_cached("SELECT version FROM data_plane WHERE id = ?1").unwrap();
        Some(statement.query_row([&self.data_plane], |row| row.get(0)).unwrap())
    }

    /// What a host that holds these versions is answered.
    pub fn feed(&self, version: u64, keyset: u64) -> Option<Vec<u8>> {
        let answer = self.plane.as_ref()?.feed(&self.data_plane, Held { version, keyset }).unwrap();
        Some(answer.read(0, usize::try_from(answer.length()).unwrap()).unwrap())
    }
}

impl Control {
    /// Takes in what node `node` tells; what is answered, and the tokens that are revoked by it.
    pub fn told(&self, node: &str, path: &str, body: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
        let (plane, data_plane) = (self.plane.as_ref()?, &self.data_plane);
        let lines = || std::str::from_utf8(body).unwrap().lines();
        let what = path.rsplit('/').next().unwrap();
        if what == "revocations" {
            let answers = plane.take_revocations(data_plane, node, lines()).unwrap();
            let revoked = answers.iter().filter(|answer| answer.outcome == Outcome::Revoked);
            let revoked = revoked.map(|answer| answer.token.to_string()).collect();
            return Some((serde_json::to_vec(&answers).unwrap(), revoked));
        }
        if what == "outages" {
            plane.take_outage(data_plane, node, serde_json::from_slice(body).unwrap()).unwrap();
            return Some((Vec::new(), Vec::new()));
        }
        let oldest = what.strip_prefix("events?oldest=").unwrap().parse().unwrap();
        let position = plane.take_events(data_plane, node, oldest, lines()).unwrap();
        Some((serde_json::to_vec(&position).unwrap(), Vec::new()))
    }

    /// The uses it knows of at a node: their events' ids, as often as they stand there.
    pub fn uses(&self, node: &str) -> Vec<String> {
        let query = "SELECT line FROM event WHERE node = ?1 AND decision = 'allow'";
        let mut statement = self.database.prepare_cached(query).unwrap();
        let lines = statement.query_map([node], |row| row.get::<_, String>(0)).unwrap();
        lines
            .map(|line| {
                let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
                event["id"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}

fn open(directory: &Path, clock: &Arc<AtomicI64>, seed: u64) -> ControlPlane {
    let clock = Arc::clone(clock);
    ControlPlane::new(
        Store::open(&directory.join("control.db")).unwrap(),
        Signing::load(directory).unwrap(),
        ISSUER.into(),
        Arc::new(move || Time::from_unix(clock.load(Ordering::Relaxed))),
        Box::new(StdRng::seed_from_u64(seed)),
    )
}
