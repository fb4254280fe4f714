//! Common fixtures of the control plane's tests.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::params;

use super::ControlPlane;
use super::signing::Signing;
use super::store::Store;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::nodes::enrolment::Caller;
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::head::{Head, sign_head};
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::membership::{NodeStanding, NodeStatement};
use crate::protocol::time::Time;

const START: i64 = 1_800_000_000;

/// Control plane with a clock that the test sets, one data plane and one node.
pub(super) struct World {
    pub(super) control: ControlPlane,
    pub(super) owner: Actor,
    pub(super) clock: Arc<AtomicI64>,
    /// Signing key of the node.
    pub(super) key: SigningKey,
    directory: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| Store::in_memory().unwrap())
    }

    /// Returns one with a database file, as in operation, so that it has read-only connections.
    pub(super) fn on_disk() -> Self {
        Self::with(|directory| Store::open(&directory.join("control.db")).unwrap())
    }

    fn with(store: impl FnOnce(&Path) -> Store) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        Signing::create(directory.path(), Time::from_unix(START), &mut rng).unwrap();
        let signing = Signing::load(directory.path()).unwrap();
        let key = SigningKey::generate(&mut rng);
        let clock = Arc::new(AtomicI64::new(START));
        let read = Arc::clone(&clock);
        let control = ControlPlane::new(
            store(directory.path()),
            signing,
            "https://control.example".into(),
            Arc::new(move || Time::from_unix(read.load(Ordering::Relaxed))),
            Box::new(rng),
        );
        let token = control.bootstrap("Acme", "owner@acme.example").unwrap().token;
        let owner = control.authenticate(token.as_bytes()).unwrap();
        let jwk = serde_json::to_string(&key.public().jwk()).unwrap();
        let lanes = ReplicaDigest::empty().to_bytes();
        control
            .store
            .write(|transaction| {
                transaction.execute(
                    "INSERT INTO data_plane (id, organization, name, created_at, version, count, digest)
                     VALUES ('dpl_a', ?1, 'a', 0, 0, 0, ?2)",
                    params![owner.organization, lanes.as_slice()],
                )?;
                transaction.execute(
                    "INSERT INTO node (id, data_plane, name, key, created_at, kid)
                     VALUES ('nod_a', 'dpl_a', 'a', ?1, 0, ?2)",
                    [jwk.as_str(), key.public().kid().as_str()],
                )?;
                Ok(())
            })
            .unwrap();
        Self { control, owner, clock, key, directory }
    }

    /// Returns the control plane, the node's key, and the directory, which is deleted when it is dropped.
    pub(super) fn into_parts(self) -> (ControlPlane, SigningKey, tempfile::TempDir) {
        (self.control, self.key, self.directory)
    }

    /// Returns the node as an authenticated caller.
    pub(super) fn node() -> Caller {
        Caller { node: "nod_a".into(), data_plane: "dpl_a".into() }
    }

    /// Returns a proof of the node for its call `id`.
    pub(super) fn proof(&self, id: &str) -> String {
        let now = self.control.now();
        let claims = serde_json::json!({
            "iss": "nod_a", "sub": "nod_a", "aud": self.control.issuer(), "iat": now, "exp": now.plus(60), "jti": id,
        });
        sign(Typ::NodeAuth, claims.to_string().as_bytes(), &self.key)
    }

    pub(super) fn write(&self, batch: &str) {
        self.control.store.write(|transaction| Ok(transaction.execute_batch(batch)?)).unwrap();
    }

    pub(super) fn count(&self, query: &str) -> i64 {
        self.control.store.read(|connection| Ok(connection.query_row(query, [], |row| row.get(0))?)).unwrap()
    }

    pub(super) fn later(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Returns a head signed with this control plane's key.
    pub(super) fn head_of(&self, version: u64, digest: [u8; 32], count: u64) -> String {
        let (iss, aud) = (self.control.issuer().into(), "dpl_a".parse().unwrap());
        let (iat, exp) = (self.control.now(), self.control.now().plus(3600));
        let head = Head { iss, aud, version, digest, count, iat, exp, keyset: 1 };
        sign_head(&head, &self.control.signing().replica)
    }

    /// Sends a statement of the node.
    pub(super) fn state(&self, statement: &NodeStatement) -> NodeStanding {
        self.control.take_statement(&Self::node(), statement).unwrap()
    }

    /// Returns true if the metrics contain this line.
    pub(super) fn tells(&self, line: &str) -> bool {
        self.control.metrics_text().unwrap().lines().any(|told| told == line)
    }
}
