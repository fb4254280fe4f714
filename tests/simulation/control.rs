//! Control plane of a story: the real one, on a database in a directory in memory, with a clock that the story sets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use halligan::controlplane::ControlPlane;
use halligan::controlplane::access::authorization::Actor;
use halligan::controlplane::calls::precondition::IfMatch;
use halligan::controlplane::feed::Held;
use halligan::controlplane::open::OpenError;
use halligan::controlplane::signing::Signing;
use halligan::controlplane::store::Store;
use halligan::dataplane::node::identity::Identity;
use halligan::platform::clock::Clock;
use halligan::platform::private_file::write_private;
use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::glass::GlassMode;
use halligan::protocol::jws::{Typ, Unverified, sign};
use halligan::protocol::key::{PublicKey, SigningKey};
use halligan::protocol::keyset::{KeyUse, KeysetBody, KeysetKey, RootSet, sign_keyset};
use halligan::protocol::reconciliation::{OutageStatement, Outcome};
use halligan::protocol::time::Time;
use halligan::protocol::token::MAX_TOKEN;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::files;

pub const ISSUER: &str = "https://control.example";
const YEAR: i64 = 365 * 86_400;

/// Token that the control plane created.
pub struct Made {
    pub id: String,
    pub value: String,
    pub not_before: Time,
    pub expires_at: Time,
}

/// Result of an upload of a node.
pub struct TakenIn {
    pub answer: Vec<u8>,
    /// Ids of the tokens that the upload revoked.
    pub revoked: Vec<String>,
    /// Outage that the upload stated.
    pub outage: Option<OutageStatement>,
}

/// Control plane with its files, its owner and its root key.
pub struct Control {
    directory: PathBuf,
    clock: Arc<AtomicI64>,
    seed: u64,
    starts: u64,
    plane: Option<ControlPlane>,
    /// Connection of the oracle to the database.
    database: Option<Connection>,
    owner: Actor,
    pub organization: String,
    root: SigningKey,
    keyset: KeysetBody,
}

type Outcomes<T> = Result<T, String>;

impl Control {
    /// Creates a control plane with an organization.
    pub fn new(directory: &Path, clock: &Arc<AtomicI64>, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let now = Time::from_unix(clock.load(Ordering::Relaxed));
        std::fs::create_dir(directory).unwrap();
        Signing::create(directory, now, &mut random).unwrap();
        let store = Store::open(&directory.join("control.db")).unwrap();
        let (signing, rng) = (Signing::load(directory).unwrap(), Box::new(StdRng::seed_from_u64(seed)));
        let plane = ControlPlane::new(store, signing, ISSUER.into(), ticking(clock), rng);
        let made = plane.bootstrap("Acme", "owner@acme.example").unwrap();
        let owner = plane.authenticate(made.token.as_bytes()).unwrap();
        let read = |name: &str| {
            let pem = std::fs::read_to_string(directory.join(name)).unwrap();
            SigningKey::from_pkcs8_pem(&pem).unwrap()
        };
        let listed = |key_use, name: &str| KeysetKey { key_use, jwk: read(name).public().jwk() };
        let keyset = KeysetBody {
            iss: Some(ISSUER.into()),
            version: 1,
            iat: now,
            exp: now.plus(YEAR),
            keys: vec![listed(KeyUse::Token, "token.pem"), listed(KeyUse::Replica, "replica.pem")],
            roots: vec![read("root.pem").public().jwk()],
            threshold: 1,
        };
        Self {
            root: read("root.pem"),
            keyset,
            directory: directory.to_owned(),
            clock: Arc::clone(clock),
            seed,
            starts: 0,
            plane: Some(plane),
            database: Some(observe(directory)),
            owner,
            organization: made.organization_id,
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
            self.plane = Some(open(&self.directory, &self.clock, self.seed ^ (self.starts << 32)).unwrap());
        }
    }

    /// Tries to start the control plane with its database missing, or empty if `emptied`. Returns the reason if it does
    /// not start. Afterwards it is down, and the database is back.
    pub fn start_without_database(&mut self, emptied: bool) -> Outcomes<()> {
        (self.plane, self.database) = (None, None);
        let path = self.directory.join("control.db");
        files::settle(&path);
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        if emptied {
            std::fs::write(&path, b"").unwrap();
        }
        let started =
            open(&self.directory, &self.clock, self.seed).map(drop).map_err(|error| error.to_string());
        std::fs::rename(&aside, &path).unwrap();
        self.database = Some(observe(&self.directory));
        started
    }

    /// Tries to start the control plane after `deed` changed its key files. Returns the reason if it does not start.
    /// Afterwards it is down, and the files are as before.
    pub fn start_with(&mut self, deed: impl FnOnce(&Path)) -> Outcomes<()> {
        self.kill();
        let read = |name: &&str| (name.to_string(), std::fs::read(self.directory.join(name)).unwrap());
        let kept: Vec<_> = ["token.pem", "replica.pem", "keysets.ndjson"].iter().map(read).collect();
        deed(&self.directory);
        let started = Signing::load(&self.directory).map(drop).map_err(|error| error.to_string());
        for (name, content) in kept {
            let path = self.directory.join(name);
            let _ = std::fs::remove_file(&path);
            write_private(&path, &content).unwrap();
        }
        started
    }

    fn plane(&self) -> Outcomes<&ControlPlane> {
        self.plane.as_ref().ok_or_else(|| "the control plane is down".to_owned())
    }

    pub fn now(&self) -> Time {
        Time::from_unix(self.clock.load(Ordering::Relaxed))
    }

    /// Returns the pinned roots of a host that trusts this control plane.
    pub fn pinned(&self) -> RootSet {
        RootSet::new(vec![self.root.public().clone()], 1).unwrap()
    }

    /// Returns the key that signs heads, which an attacker inside the control plane would have.
    pub fn replica_key(&self) -> SigningKey {
        SigningKey::from_pkcs8_pem(&std::fs::read_to_string(self.directory.join("replica.pem")).unwrap())
            .unwrap()
    }

    /// Copies the database, as an operator's backup does.
    pub fn back_up(&self, name: &str) -> PathBuf {
        let copy = self.directory.join(name);
        let into = copy.to_str().unwrap();
        self.database.as_ref().unwrap().execute("VACUUM INTO ?1", [into]).unwrap();
        copy
    }

    /// Stops the control plane, replaces its database with a backup, and starts it.
    pub fn restore(&mut self, copy: &Path) {
        (self.plane, self.database) = (None, None);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.directory.join(format!("control.db{suffix}")));
        }
        std::fs::copy(copy, self.directory.join("control.db")).unwrap();
        self.start();
        self.database = Some(observe(&self.directory));
    }

    /// Runs `recover`, as an operator does after a restore.
    pub fn recover(&self, above: u64) -> Outcomes<()> {
        self.plane()?.recover(above, None).map(drop).map_err(text)
    }

    /// Enrols a host.
    pub fn enrol(&self, name: &str, key: &SigningKey, data_plane: &str) -> Outcomes<Identity> {
        let plane = self.plane()?;
        let token =
            plane.create_enrolment_token(&self.owner, &self.organization, data_plane, 3600).map_err(text)?;
        // The proof is dated by the control plane's clock, so that a wrong clock of the host does not prevent its
        // enrolment.
        let now = self.now().unix();
        let proof =
            json!({ "aud": "halligan-control", "iat": now, "exp": now + 60, "jti": name }).to_string();
        let enrolment = json!({
            "enrolmentToken": *token.enrolment_token, "name": name, "key": key.public().jwk(),
            "proof": sign(Typ::NodeAuth, proof.as_bytes(), key),
        });
        let enrolled = plane.enrol(&serde_json::from_value(enrolment).unwrap()).map_err(text)?;
        Ok(serde_json::from_value(serde_json::to_value(enrolled).unwrap()).unwrap())
    }

    /// Retires a node.
    pub fn retire(&self, data_plane: &str, node: &str) -> Outcomes<()> {
        self.plane()?.retire_node(&self.owner, &self.organization, data_plane, node).map_err(text)
    }

    /// Returns the ids of the nodes that are enrolled and not retired.
    pub fn living_nodes(&self) -> Vec<String> {
        let database = self.database.as_ref().unwrap();
        let mut rows = database.prepare_cached("SELECT id FROM node WHERE retired_at IS NULL").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Creates a data plane.
    pub fn create_data_plane(&self, name: &str) -> Outcomes<String> {
        let made = self.plane()?.create_data_plane(&self.owner, &self.organization, name);
        made.map(|made| made.id.into()).map_err(text)
    }

    /// Creates a workspace.
    pub fn create_workspace(&self, name: &str) -> Outcomes<String> {
        let new = serde_json::from_value(json!({ "name": name })).unwrap();
        let made = self.plane()?.create_workspace(&self.owner, &self.organization, &new);
        made.map(|made| made.id.into()).map_err(text)
    }

    /// Deletes a workspace.
    pub fn delete_workspace(&self, id: &str) -> Outcomes<()> {
        self.plane()?.delete_workspace(&self.owner, &self.organization, id).map_err(text)
    }

    /// Creates a deployment.
    pub fn create_deployment(
        &self,
        name: &str,
        workspace: &str,
        data_plane: &str,
        glass: GlassMode,
    ) -> Outcomes<String> {
        let new =
            json!({ "name": name, "workspaceId": workspace, "dataPlaneId": data_plane, "glass": glass });
        let new = serde_json::from_value(new).unwrap();
        let made = self.plane()?.create_deployment(&self.owner, &self.organization, new);
        made.map(|made| made.id.into()).map_err(text)
    }

    /// Sets the mode of a deployment's glass.
    pub fn keep_glass(&self, id: &str, glass: GlassMode) -> Outcomes<()> {
        let update = serde_json::from_value(json!({ "glass": glass })).unwrap();
        self.plane()?
            .update_deployment(&self.owner, &self.organization, id, update, &IfMatch::default())
            .map(drop)
            .map_err(text)
    }

    /// Deletes a deployment with its tokens.
    pub fn delete_deployment(&self, id: &str) -> Outcomes<()> {
        self.plane()?
            .delete_deployment(&self.owner, &self.organization, id, &IfMatch::default())
            .map_err(text)
    }

    /// Creates a team.
    pub fn create_team(&self, name: &str) -> Outcomes<String> {
        let new = serde_json::from_value(json!({ "name": name })).unwrap();
        let made = self.plane()?.create_team(&self.owner, &self.organization, &new);
        made.map(|made| made.id.into()).map_err(text)
    }

    /// Deletes a team.
    pub fn delete_team(&self, id: &str) -> Outcomes<()> {
        self.plane()?.delete_team(&self.owner, &self.organization, id).map_err(text)
    }

    /// Creates a role.
    pub fn create_role(&self, name: &str, permissions: &[&str]) -> Outcomes<String> {
        let new = json!({ "name": name, "permissions": permissions, "scopeType": "DEPLOYMENT" });
        let new = serde_json::from_value(new).map_err(|error| error.to_string())?;
        let made = self.plane()?.create_role(&self.owner, &self.organization, new);
        made.map(|made| made.id.into()).map_err(text)
    }

    /// Creates the next version of a role.
    pub fn update_role(&self, id: &str, permissions: &[&str]) -> Outcomes<()> {
        let update = serde_json::from_value(json!({ "permissions": permissions })).unwrap();
        self.plane()?.update_role(&self.owner, &self.organization, id, update).map(drop).map_err(text)
    }

    /// Deletes a role.
    pub fn delete_role(&self, id: &str) -> Outcomes<()> {
        self.plane()?.delete_role(&self.owner, &self.organization, id).map_err(text)
    }

    /// Creates a direct-access token.
    pub fn create_token(
        &self,
        name: &str,
        deployment: &str,
        role: Option<&str>,
        days: i64,
    ) -> Outcomes<Made> {
        let mut new = json!({
            "name": name, "type": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": deployment,
            "tokenExpiryPeriodInDays": days,
        });
        if let Some(role) = role {
            new["role"] = role.into();
        }
        let new = serde_json::from_value(new).unwrap();
        let made = self.plane()?.create_token(&self.owner, &self.organization, new, None).map_err(text)?;
        Ok(Made {
            id: made.id.into(),
            value: made.token.unwrap().to_string(),
            not_before: made.start_at.time(),
            expires_at: made.end_at.unwrap().time(),
        })
    }

    /// Rotates a token. Returns the new value and the time at which it expires.
    pub fn rotate_token(&self, id: &str) -> Outcomes<(String, Time)> {
        let made = self
            .plane()?
            .rotate_token(&self.owner, &self.organization, id, None, &IfMatch::default())
            .map_err(text)?;
        Ok((made.token.unwrap().to_string(), made.end_at.unwrap().time()))
    }

    /// Revokes a token.
    pub fn delete_token(&self, id: &str) -> Outcomes<()> {
        self.plane()?.delete_token(&self.owner, &self.organization, id, &IfMatch::default()).map_err(text)
    }

    /// Returns the version of the keyset in force.
    pub fn keyset(&self) -> u64 {
        self.keyset.version
    }

    /// Returns the ids of the keys in the keyset.
    pub fn key_ids(&self) -> BTreeSet<String> {
        let keys = self.keyset.keys.iter();
        keys.map(|key| PublicKey::from_jwk(&key.jwk).unwrap().kid().to_string()).collect()
    }

    /// Returns the time at which the keyset expires.
    pub fn keyset_ends(&self) -> Time {
        self.keyset.exp
    }

    /// Signs the next keyset after `change`, and loads it. Roots sign offline, so the date comes from a right clock.
    pub fn next_keyset(&mut self, now: Time, change: impl FnOnce(&mut KeysetBody)) -> Outcomes<()> {
        self.plane()?;
        let mut body = self.keyset.clone();
        (body.version, body.iat, body.exp) = (body.version + 1, now, now.plus(YEAR));
        change(&mut body);
        let path = self.directory.join("keysets.ndjson");
        let mut chain = std::fs::read_to_string(&path).unwrap();
        chain.push_str(&sign_keyset(&body, &[&self.root]));
        chain.push('\n');
        std::fs::write(&path, chain).unwrap();
        self.keyset = body;
        self.reload()
    }

    fn reload(&self) -> Outcomes<()> {
        let signing = Signing::load(&self.directory).map_err(|error| error.to_string())?;
        self.plane()?.sign_with(signing).map_err(|error| error.to_string())
    }

    /// Adds new keys to the keyset and signs with them from now on. The old keys stay in the keyset.
    pub fn rotate_keys(&mut self, now: Time, random: &mut StdRng) -> Outcomes<()> {
        let [token, replica] = std::array::from_fn(|_| SigningKey::generate(random));
        let added = [(KeyUse::Token, &token), (KeyUse::Replica, &replica)];
        let added = added.map(|(key_use, key)| KeysetKey { key_use, jwk: key.public().jwk() });
        self.next_keyset(now, |body| body.keys.extend(added))?;
        for (name, key) in [("token.pem", &token), ("replica.pem", &replica)] {
            std::fs::write(self.directory.join(name), key.to_pkcs8_pem().as_bytes()).unwrap();
        }
        self.reload()
    }

    /// Drops all keys but those that it signs with. Everything that the dropped keys signed is invalid from then on.
    pub fn drop_old_keys(&mut self, now: Time) -> Outcomes<()> {
        let kept = ["token.pem", "replica.pem"].map(|name| {
            let pem = std::fs::read_to_string(self.directory.join(name)).unwrap();
            SigningKey::from_pkcs8_pem(&pem).unwrap().public().kid().to_string()
        });
        let kid = |key: &KeysetKey| PublicKey::from_jwk(&key.jwk).unwrap().kid().to_string();
        self.next_keyset(now, |body| body.keys.retain(|key| kept.contains(&kid(key))))
    }

    /// Returns true if the keyset contains the key that signed a token's value.
    pub fn signed_with_a_kept_key(&self, value: &str) -> bool {
        let unverified = Unverified::parse(value.as_bytes(), MAX_TOKEN).unwrap();
        let kept = self.keyset.keys.iter().map(|key| PublicKey::from_jwk(&key.jwk).unwrap());
        kept.into_iter().any(|key| key.kid().as_str() == unverified.kid())
    }

    /// Returns the version and digest of each data plane's replica.
    pub fn replicas(&self) -> BTreeMap<String, (u64, [u8; 32])> {
        let database = self.database.as_ref().unwrap();
        let mut rows = database.prepare_cached("SELECT id, version, digest FROM data_plane").unwrap();
        let rows =
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?))).unwrap();
        rows.map(|row| {
            let (id, version, lanes) = row.unwrap();
            (id, (version, ReplicaDigest::from_bytes(&lanes).unwrap().checksum()))
        })
        .collect()
    }

    /// Returns the version of a data plane's replica, or `None` while the control plane is down.
    pub fn version(&self, data_plane: &str) -> Option<u64> {
        self.plane.as_ref()?;
        let database = self.database.as_ref().unwrap();
        let mut statement = database.prepare_cached("SELECT version FROM data_plane WHERE id = ?1").unwrap();
        statement.query_row([data_plane], |row| row.get(0)).ok()
    }

    /// Authenticates a node of this data plane by its bearer. Returns the node's id.
    pub fn admits(&self, bearer: &str, data_plane: &str) -> Outcomes<String> {
        self.plane()?.authenticate_node(bearer.as_bytes(), data_plane).map_err(text)
    }

    /// Returns the bundle for a host that holds these versions, or `None` if the control plane does not answer.
    pub fn feed(&self, data_plane: &str, version: u64, keyset: u64, nonce: Option<&str>) -> Option<Vec<u8>> {
        let answer = self.plane.as_ref()?.feed_for(data_plane, Held { version, keyset }, nonce).ok()?;
        Some(answer.read(0, usize::try_from(answer.length()).unwrap()).unwrap())
    }

    /// Processes an upload of a node.
    pub fn told(&self, data_plane: &str, node: &str, path: &str, body: &[u8]) -> Outcomes<TakenIn> {
        let plane = self.plane()?;
        let lines = || std::str::from_utf8(body).unwrap().lines();
        let what = path.rsplit('/').next().unwrap();
        if what == "revocations" {
            let answers = plane.take_revocations(data_plane, node, lines()).map_err(text)?;
            let revoked = answers.iter().filter(|answer| answer.outcome == Outcome::Revoked);
            let revoked = revoked.map(|answer| answer.token.to_string()).collect();
            return Ok(TakenIn { answer: serde_json::to_vec(&answers).unwrap(), revoked, outage: None });
        }
        if what == "outages" {
            let statement: OutageStatement = serde_json::from_slice(body).unwrap();
            plane.take_outage(data_plane, node, statement.clone()).map_err(text)?;
            return Ok(TakenIn { answer: Vec::new(), revoked: Vec::new(), outage: Some(statement) });
        }
        let oldest = what.strip_prefix("events?oldest=").unwrap().parse().unwrap();
        let position = plane.take_events(data_plane, node, oldest, lines()).map_err(text)?;
        Ok(TakenIn { answer: serde_json::to_vec(&position).unwrap(), revoked: Vec::new(), outage: None })
    }

    /// Returns the ids of the allowed requests that a node has uploaded, as often as the database lists them.
    pub fn uses(&self, node: &str) -> Vec<String> {
        let query = "SELECT line FROM event WHERE node = ?1 AND decision = 'allow'";
        let mut statement = self.database.as_ref().unwrap().prepare_cached(query).unwrap();
        let lines = statement.query_map([node], |row| row.get::<_, String>(0)).unwrap();
        lines
            .map(|line| {
                let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
                event["id"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn text(error: halligan::controlplane::error::Error) -> String {
    error.to_string()
}

fn observe(directory: &Path) -> Connection {
    Connection::open_with_flags(directory.join("control.db"), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap()
}

fn ticking(clock: &Arc<AtomicI64>) -> Clock {
    let clock = Arc::clone(clock);
    Arc::new(move || Time::from_unix(clock.load(Ordering::Relaxed)))
}

fn open(directory: &Path, clock: &Arc<AtomicI64>, seed: u64) -> Result<ControlPlane, OpenError> {
    let (signing, rng) = (Signing::load(directory).unwrap(), Box::new(StdRng::seed_from_u64(seed)));
    ControlPlane::open_existing(&directory.join("control.db"), signing, ISSUER.into(), ticking(clock), rng)
}
