//! Snapshots: a verified replica, indexed for decisions. A snapshot is immutable, and replaced as a whole.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::index::{Delta, Directory, Index, Revoked, Tags, includes};
use super::signatures::Signatures;
use super::staleness::{AtLimit, Freshness};
use crate::protocol::head::{Head, SignedHead};
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::keyset::Keyset;
use crate::protocol::permission::PermissionSet;
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;
use crate::protocol::token::DagTarget;

pub use super::index::{AccessLoss, Granted, Retirement};
pub use super::local::Local;
pub use super::staleness::Staleness;
pub use super::verified::{Replica, Verified};

/// Permissions that a control plane states for a standard token.
pub(in crate::dataplane) struct Permissions {
    pub(in crate::dataplane) deployment: PermissionSet,
    pub(in crate::dataplane) dags: Vec<(DagTarget, PermissionSet)>,
}

/// Replica indexed for decisions, and the node's own state. Each is behind an `Arc`, so that a change of one does not copy the
/// other.
#[derive(Clone)]
pub struct Snapshot {
    pub(in crate::dataplane) proved: Option<Arc<Proved>>,
    pub(in crate::dataplane) local: Arc<Local>,
}

pub(in crate::dataplane) struct Proved {
    pub(in crate::dataplane) keyset: Keyset,
    pub(in crate::dataplane) head: SignedHead,
    pub(in crate::dataplane) staleness: Staleness,
    pub(in crate::dataplane) signatures: Arc<Signatures>,
    pub(in crate::dataplane) index: Index,
    pub(in crate::dataplane) directory: Arc<Directory>,
}

impl Snapshot {
    /// Returns the snapshot of a node without a replica. It denies everything.
    #[must_use]
    pub fn absent() -> Self {
        Self { proved: None, local: Arc::default() }
    }

    /// Indexes a replica. The local state of `previous` is kept, and its cache of verified signatures too if the keyset is the same.
    ///
    /// ```
    /// use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
    /// use halligan::dataplane::decide::{Now, Reason, decide};
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// # let replica = world::replica(1, world::records());
    /// let snapshot = Snapshot::build(replica, Staleness::default(), None);
    /// assert_eq!((snapshot.deployment_count(), snapshot.token_count()), (1, 1));
    ///
    /// let reason = |method, uri| {
    ///     let wall = world::NOW.plus(120);
    ///     let now = Now { wall, floor: wall };
    ///     let token = world::token();
    ///     decide(Some(token.as_bytes()), &world::request(method, uri), &snapshot, now).reason()
    /// };
    /// assert_eq!(reason("GET", "/api/v2/dags/sales"), Reason::Ok);
    /// assert_eq!(reason("GET", "/api/v2/dags/../connections"), Reason::PathInvalid);
    /// assert_eq!(reason("GET", "/no/such/route"), Reason::RouteUnknown);
    /// ```
    #[must_use]
    pub fn build(replica: Replica, staleness: Staleness, previous: Option<&Self>) -> Self {
        Self::from_verified(Verified::index(replica), staleness, previous)
    }

    /// Returns a snapshot of an indexed replica; see [`Self::build`].
    #[must_use]
    pub fn from_verified(verified: Verified, staleness: Staleness, previous: Option<&Self>) -> Self {
        let Verified { keyset, head, index } = verified;
        let before = previous.and_then(|snapshot| snapshot.proved.as_ref());
        let signatures = before.map_or_else(Arc::default, |proved| {
            let same = proved.keyset.text() == keyset.text();
            if same { Arc::clone(&proved.signatures) } else { Arc::new(proved.signatures.renewed()) }
        });
        let local = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.local));
        let directory = index.directory(&local.routes, before.map(|proved| &proved.directory));
        let proved = Proved { keyset, head, staleness, signatures, index, directory };
        Self { proved: Some(Arc::new(proved)), local }
    }

    /// Returns a snapshot of the same records under another head and keyset, or `None` if the head covers other records.
    ///
    /// ```
    /// use halligan::dataplane::decide::snapshot::Staleness;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let (snapshot, keyset, policy) = (world::snapshot(), world::keyset(), Staleness::default());
    /// // A later head over the same records makes the replica younger.
    /// let head = world::head(2, &world::records());
    /// let renewed = snapshot.renewed(&keyset, &head, &policy).unwrap();
    /// assert_eq!(renewed.signed_at(), snapshot.signed_at().map(|time| time.plus(60)));
    ///
    /// // A head over other records needs their changes.
    /// let other = world::head(2, &world::records()[..2]);
    /// assert!(snapshot.renewed(&keyset, &other, &policy).is_none());
    /// ```
    #[must_use]
    pub fn renewed(&self, keyset: &Keyset, head: &SignedHead, staleness: &Staleness) -> Option<Self> {
        self.followed(keyset, head, staleness, None)
    }

    /// Returns the snapshot after a verified delta, or `None` if the delta does not begin at this one's head.
    ///
    /// The cost does not depend on the number of tokens: the snapshots share what the delta leaves as it is.
    ///
    /// ```
    /// use halligan::dataplane::decide::index::Delta;
    /// use halligan::dataplane::decide::snapshot::Staleness;
    /// use halligan::protocol::bundle::Change;
    /// use halligan::protocol::record::{Record, RecordKind};
    /// use halligan::protocol::token::TokenRecord;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let (snapshot, keyset, policy) = (world::snapshot(), world::keyset(), Staleness::default());
    /// // Version 2 revokes the token.
    /// let revoked_at = Some(world::NOW.plus(90));
    /// let token = TokenRecord { revoked_at, ..world::token_record() };
    /// let record = Record::from_value(RecordKind::Token, "tok_etl", &token);
    /// let mut records = world::records();
    /// records[2] = record.clone();
    ///
    /// let base = snapshot.head().unwrap().head().clone();
    /// let delta = Delta { changes: vec![Change::Put(record)], ..Delta::default() };
    /// let change = (base, delta);
    /// let next = snapshot.after(&change, &keyset, &world::head(2, &records), &policy).unwrap();
    /// assert_eq!(next.ended(&token.id), revoked_at);
    /// // The delta does not lead on from the snapshot that it made.
    /// assert!(next.after(&change, &keyset, &world::head(3, &records), &policy).is_none());
    /// ```
    #[must_use]
    pub fn after(
        &self,
        (base, delta): &(Head, Delta),
        keyset: &Keyset,
        head: &SignedHead,
        staleness: &Staleness,
    ) -> Option<Self> {
        self.followed(keyset, head, staleness, Some((base, delta)))
    }

    fn followed(
        &self,
        keyset: &Keyset,
        head: &SignedHead,
        staleness: &Staleness,
        change: Option<(&Head, &Delta)>,
    ) -> Option<Self> {
        let proved = self.proved.as_ref()?;
        let (current, base) = (proved.head.head(), change.map_or(head.head(), |(base, _)| base));
        if (current.digest, current.count) != (base.digest, base.count) {
            return None;
        }
        let index = match change {
            Some((_, delta)) => proved.index.with(delta, head.head().iat),
            None => proved.index.clone(),
        };
        let verified = Verified { keyset: keyset.clone(), head: head.clone(), index };
        Some(Self::from_verified(verified, staleness.clone(), Some(self)))
    }

    /// Returns a snapshot of the same replica with another local state.
    ///
    /// ```
    /// use halligan::dataplane::decide::snapshot::Local;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let snapshot = world::snapshot();
    /// let token = "tok_etl".parse()?;
    /// assert_eq!(snapshot.ended(&token), None);
    ///
    /// // An operator revokes the token on a host of the data plane. The control plane does not know it yet.
    /// let mut local = Local::default();
    /// local.revoked.insert("tok_etl".parse()?, world::NOW.plus(60));
    /// let snapshot = snapshot.with_local(local);
    /// assert_eq!(snapshot.ended(&token), Some(world::NOW.plus(60)));
    /// assert_eq!(snapshot.alive_above().collect::<Vec<_>>(), [&token]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_local(&self, local: Local) -> Self {
        Self { proved: self.proved.clone(), local: Arc::new(local) }
    }

    /// Returns a sentence that names the unreadable records, or `None` if all can be read.
    ///
    /// ```
    /// use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
    /// use halligan::protocol::record::{Record, RecordKind};
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let mut records = world::records();
    /// records.push(Record::new(RecordKind::Token, "tok_new", r#"{"shape":"of a newer version"}"#));
    /// let snapshot = Snapshot::build(world::replica(1, records), Staleness::default(), None);
    /// // Decisions on other tokens go on.
    /// assert!(snapshot.knows(&"tok_etl".parse()?) && !snapshot.knows(&"tok_new".parse()?));
    /// assert!(snapshot.unreadable().is_some_and(|sentence| sentence.contains("tok_new")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn unreadable(&self) -> Option<String> {
        self.proved.as_ref().and_then(|proved| proved.index.explain_unreadable())
    }

    /// Returns a snapshot without a replica and with the same local state.
    #[must_use]
    pub fn withdrawn(&self) -> Self {
        Self { proved: None, local: Arc::clone(&self.local) }
    }

    /// Returns the local state of this node.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Returns the newest keyset, or `None` without a verified replica.
    pub(in crate::dataplane) fn keyset(&self) -> Option<&Keyset> {
        self.proved.as_ref().map(|proved| &proved.keyset)
    }

    /// Returns true if the verified replica has this deployment.
    pub(in crate::dataplane) fn has_deployment(&self, deployment: &DeploymentId) -> bool {
        self.proved.as_ref().is_some_and(|proved| proved.directory.deployments.contains_key(deployment))
    }

    /// Returns the head of the replica.
    #[must_use]
    pub fn head(&self) -> Option<&SignedHead> {
        self.proved.as_ref().map(|proved| &proved.head)
    }

    /// Returns the deployments whose records name a route map that this host does not have. All requests to them are denied.
    ///
    /// ```
    /// use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
    /// use halligan::protocol::record::{DeploymentRecord, Record, RecordKind};
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let mut records = world::records();
    /// let mut deployment: DeploymentRecord = records[1].read().unwrap();
    /// deployment.routes = "reports".into();
    /// records[1] = Record::from_value(RecordKind::Deployment, "dep_sales", &deployment);
    /// // No file `reports.toml` is in the directory of route maps.
    /// let snapshot = Snapshot::build(world::replica(1, records), Staleness::default(), None);
    /// assert_eq!(snapshot.unmapped().collect::<Vec<_>>(), [&deployment.id]);
    /// ```
    pub fn unmapped(&self) -> impl Iterator<Item = &DeploymentId> {
        let deployments = self.proved.iter().flat_map(|proved| proved.directory.deployments.values());
        deployments.filter(|deployment| deployment.routes.is_none()).map(|deployment| &deployment.id)
    }

    /// Returns the nodes of the data plane, whose signatures are valid for revocations.
    #[must_use]
    pub fn signers(&self) -> Arc<Signers> {
        self.proved.as_ref().map_or_else(Arc::default, |proved| proved.index.signers())
    }

    /// Returns the time at which a token was revoked, if this node knows of a revocation.
    #[must_use]
    pub fn ended(&self, token: &TokenId) -> Option<Time> {
        let above = self.proved.as_ref().and_then(|proved| proved.index.grants.get(token)?.revoked_at());
        above.into_iter().chain(self.local.revoked.get(token).copied()).min()
    }

    /// Returns the tokens revoked on hosts that the control plane's records call active.
    pub fn alive_above(&self) -> impl Iterator<Item = &TokenId> {
        let alive = |token: &TokenId| {
            let grant = self.proved.as_ref().and_then(|proved| proved.index.grants.get(token));
            grant.is_some_and(|grant| !matches!(grant.revoked, Revoked::Above(_)))
        };
        self.local.revoked.keys().filter(move |token| alive(token))
    }

    /// Returns true if the replica holds a record of the token, active or not.
    #[must_use]
    pub fn knows(&self, token: &TokenId) -> bool {
        self.proved.as_ref().is_some_and(|proved| proved.index.grants.get(token).is_some())
    }

    /// Returns the version of the keyset in force, or 0 if there is none.
    #[must_use]
    pub fn keyset_version(&self) -> u64 {
        self.proved.as_ref().map_or(0, |proved| proved.keyset.version())
    }

    /// Returns the time from which the age of the head is computed.
    #[must_use]
    pub fn signed_at(&self) -> Option<Time> {
        self.head().map(|head| self.local.signed_at(head.head()))
    }

    /// Returns the age of the replica and the limit, by role. Empty without a replica.
    ///
    /// ```
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let snapshot = world::snapshot();
    /// let signed_at = snapshot.signed_at().unwrap();
    /// let roles = snapshot.freshness(signed_at.plus(2 * 86_400));
    /// let over: Vec<_> = roles.iter().map(|(role, freshness)| (role.as_str(), freshness.over())).collect();
    /// assert_eq!(over, [("DEPLOYMENT_ADMIN", true), ("other roles", false)]);
    /// assert_eq!(snapshot.horizon(), Some(signed_at.plus(7 * 86_400)));
    /// ```
    #[must_use]
    pub fn freshness(&self, now: Time) -> Vec<(String, Freshness)> {
        let Some(proved) = &self.proved else { return Vec::new() };
        let age = now.since(self.local.signed_at(proved.head.head()));
        let judged = |(role, _): (String, i64)| {
            let freshness = proved.staleness.judge(&role, age);
            (role, freshness)
        };
        proved.staleness.limits().into_iter().map(judged).collect()
    }

    /// Returns true if requests are denied once the replica is too old.
    #[must_use]
    pub fn denies_when_stale(&self) -> bool {
        self.proved.as_ref().is_some_and(|proved| proved.staleness.at_limit == AtLimit::Deny)
    }

    /// Returns the time at which the replica is too old for the role with the longest limit.
    #[must_use]
    pub fn horizon(&self) -> Option<Time> {
        let proved = self.proved.as_ref()?;
        let longest = proved.staleness.limits().into_iter().map(|(_, limit)| limit).max()?;
        Some(self.local.signed_at(proved.head.head()).plus(longest))
    }

    /// Returns the number of deployments.
    #[must_use]
    pub fn deployment_count(&self) -> usize {
        self.proved.as_ref().map_or(0, |proved| proved.directory.deployments.len())
    }

    /// Returns the number of tokens, dead ones included.
    #[must_use]
    pub fn token_count(&self) -> usize {
        self.proved.as_ref().map_or(0, |proved| proved.index.grants.len())
    }

    /// Returns the hits and misses of the cache of verified signatures.
    #[must_use]
    pub(in crate::dataplane) fn signature_lookups(&self) -> [(&'static str, u64); 2] {
        let lookups = self.proved.as_ref().map(|proved| proved.signatures.lookups());
        let (hits, misses) =
            lookups.map_or((0, 0), |lookups| (lookups.hits.load(Relaxed), lookups.misses.load(Relaxed)));
        [("hit", hits), ("miss", misses)]
    }
}

impl Permissions {
    /// Returns all permissions, on any resource.
    pub(in crate::dataplane) fn granted(&self) -> Granted {
        let dags =
            self.dags.iter().fold(PermissionSet::empty(), |all, (_, permissions)| all.union(*permissions));
        Granted { deployment: self.deployment, dags }
    }

    /// Returns the permissions on `dag`, or on the deployment if it is `None`.
    pub(in crate::dataplane) fn on(&self, dag: Option<&str>, tags: &Tags) -> PermissionSet {
        let Some(dag) = dag else { return self.deployment };
        self.dags.iter().fold(self.deployment, |allowed, (target, permissions)| {
            if includes(target, dag, tags) { allowed.union(*permissions) } else { allowed }
        })
    }
}
