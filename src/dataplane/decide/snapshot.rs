//! Snapshots: a verified replica, indexed for decisions. A snapshot is immutable, and replaced as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use foldhash::quality::RandomState;
use ipnet::IpNet;

use super::HeadAge;
use super::glass::{self, Broken};
use super::readable::explain_unreadable;
use super::routes::{RouteMap, RouteMaps};
use super::signatures::Signatures;
use super::staleness::{AtLimit, Freshness};
use crate::platform::net::forwarded;
use crate::protocol::glass::{GlassMode, GlassState};
use crate::protocol::head::{Head, SignedHead};
use crate::protocol::host::host_name;
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::keyset::Keyset;
use crate::protocol::permission::PermissionSet;
use crate::protocol::record::{DagTagsRecord, DeploymentRecord, NodeRecord, Record, RecordKind};
use crate::protocol::role::{RoleBody, RoleDigest, RoleRef, RoleScope};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;
use crate::protocol::token::{DagTarget, RoleClaim, TokenRecord};

pub use super::staleness::Staleness;

/// Minimum number of records for which another thread is worth its cost.
const SHARE: usize = 1024;

/// Replica whose signatures and digest are verified.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Newest keyset of the chain.
    pub keyset: Keyset,
    /// Head over the records.
    pub head: SignedHead,
    /// Records of the replica.
    pub records: Vec<Record>,
    /// Losses that this node knows beyond the records.
    pub takeaways: Vec<Takeaway>,
}

/// Loss of access that a node knows of, though its records do not state it. It can end a token, never revive one.
#[derive(Clone, Debug)]
pub struct Takeaway {
    /// Token that loses access.
    pub token: TokenId,
    /// First generation that was not rotated away. Earlier ones are dead.
    pub generation: u32,
    /// True if the token is revoked.
    pub revoked: bool,
    /// Last generation that had expired under a time floor that was lowered since.
    pub expired: u32,
}

/// Grant of a token, with the permissions of its roles.
pub(in crate::dataplane) struct Grant {
    pub(in crate::dataplane) record: TokenRecord,
    /// First generation that was not rotated away. It exceeds the record's generation after a control plane was restored
    /// from a backup, or when only the losses of a rejected bundle were kept. No token value is valid then.
    pub(in crate::dataplane) superseded: u32,
    /// `None` if a role is missing, unreadable, or does not match its digest. The token has no permissions then.
    pub(in crate::dataplane) permissions: Option<Permissions>,
    /// `None` if a network in the record cannot be parsed. No source address is allowed then.
    pub(in crate::dataplane) sources: Option<Vec<IpNet>>,
}

pub(in crate::dataplane) struct Permissions {
    pub(in crate::dataplane) deployment: PermissionSet,
    pub(in crate::dataplane) dags: Vec<(DagTarget, PermissionSet)>,
}

/// All permissions of a token, on any resource, not only those that one request needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Permissions on the deployment.
    pub deployment: PermissionSet,
    /// Permissions on some of its Dags.
    pub dags: PermissionSet,
}

pub(in crate::dataplane) struct Deployment {
    pub(in crate::dataplane) id: DeploymentId,
    pub(in crate::dataplane) name: String,
    pub(in crate::dataplane) glass: GlassMode,
    /// `None` if the record names a map that this host does not have. No route matches then.
    pub(in crate::dataplane) routes: Option<Arc<RouteMap>>,
    pub(in crate::dataplane) tags: BTreeMap<String, Vec<String>>,
}

/// State of this node beyond what its control plane signed.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Tokens revoked on hosts of this data plane, and the times.
    pub revoked: BTreeMap<TokenId, Time>,
    /// Route maps of this host. A change takes effect with the next snapshot that is built.
    pub routes: RouteMaps,
    /// Deployments whose glass an operator broke.
    pub broken: BTreeMap<DeploymentId, Broken>,
    /// True if the control plane is judged unreachable.
    pub outage: bool,
    /// Age of a head, if an administrator of this host accepted a clock that contradicts the head's `iat`.
    pub(in crate::dataplane) accepted: Option<HeadAge>,
}

impl Local {
    /// Returns the state of the glass of `deployment` at `now`.
    pub(in crate::dataplane) fn glass(&self, deployment: &Deployment, now: Time) -> GlassState {
        match deployment.glass {
            GlassMode::Always => GlassState::Always,
            mode => glass::state(mode, self.broken.get(&deployment.id), self.outage, now),
        }
    }
}

/// Replica indexed for decisions, and the node's own state. Both are shared, so that changing one copies neither.
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
    pub(in crate::dataplane) grants: Grants,
    pub(in crate::dataplane) deployments: HashMap<DeploymentId, Deployment>,
    /// Deployment by host name. `None` if two deployments claim the name: it identifies neither then.
    pub(in crate::dataplane) hosts: HashMap<String, Option<DeploymentId>>,
    pub(in crate::dataplane) signers: Arc<Signers>,
    /// Sentence that names the unreadable records.
    pub(in crate::dataplane) unreadable: Option<String>,
    /// Tokens that the records call active although this node has proof that they are revoked.
    pub(in crate::dataplane) contradicted: BTreeSet<TokenId>,
}

impl Snapshot {
    /// Returns the snapshot of a node without a replica. It denies everything.
    #[must_use]
    pub fn absent() -> Self {
        Self { proved: None, local: Arc::default() }
    }

    /// Indexes a replica. The local state of `previous` is kept, and its cache of verified signatures too if the keyset is the same.
    #[must_use]
    pub fn build(replica: Replica, staleness: Staleness, previous: Option<&Self>) -> Self {
        let Replica { keyset, head, records, takeaways } = replica;
        let before = previous.and_then(|snapshot| snapshot.proved.as_ref());
        let signatures = before.map_or_else(Arc::default, |proved| {
            let same = proved.keyset.text() == keyset.text();
            if same { Arc::clone(&proved.signatures) } else { Arc::new(proved.signatures.renewed()) }
        });
        let roles = roles(&records);
        let mut grants = grants(&records, &roles);
        let mut contradicted = BTreeSet::new();
        for takeaway in takeaways {
            if let Some(grant) = grants.get_mut(&takeaway.token) {
                grant.superseded = takeaway.generation;
                if takeaway.revoked && grant.record.revoked_at.is_none() {
                    grant.record.revoked_at = Some(head.head().iat);
                    contradicted.insert(takeaway.token);
                }
                if grant.record.generation <= takeaway.expired {
                    grant.record.expires_at = Time::from_unix(i64::MIN);
                }
            }
        }
        let signers = Arc::new(signers(&records));
        let local = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.local));
        let (deployments, hosts) = deployments(&records, &local.routes);
        // A renewed head with an equal digest covers the same records, so they need no new check.
        let same = before.filter(|proved| proved.head.head().digest == head.head().digest);
        let unreadable = match same {
            Some(proved) => proved.unreadable.clone(),
            None => explain_unreadable(&records, grants.len(), roles.len()),
        };
        let proved = Proved {
            keyset,
            head,
            staleness,
            signatures,
            grants,
            deployments,
            hosts,
            signers,
            unreadable,
            contradicted,
        };
        Self { proved: Some(Arc::new(proved)), local }
    }

    /// Returns a snapshot of the same replica with another local state.
    #[must_use]
    pub fn with_local(&self, local: Local) -> Self {
        Self { proved: self.proved.clone(), local: Arc::new(local) }
    }

    /// Returns a sentence that names the unreadable records, or `None` if all can be read.
    #[must_use]
    pub fn unreadable(&self) -> Option<String> {
        self.proved.as_ref().and_then(|proved| proved.unreadable.clone())
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

    /// Returns the head of the replica.
    #[must_use]
    pub fn head(&self) -> Option<&SignedHead> {
        self.proved.as_ref().map(|proved| &proved.head)
    }

    /// Returns the deployments whose records name a route map that this host does not have. All requests to them are denied.
    pub fn unmapped(&self) -> impl Iterator<Item = &DeploymentId> {
        let deployments = self.proved.iter().flat_map(|proved| proved.deployments.values());
        deployments.filter(|deployment| deployment.routes.is_none()).map(|deployment| &deployment.id)
    }

    /// Returns the nodes of the data plane, whose signatures are valid for revocations.
    #[must_use]
    pub fn signers(&self) -> Arc<Signers> {
        self.proved.as_ref().map_or_else(Arc::default, |proved| Arc::clone(&proved.signers))
    }

    /// Returns the time at which a token was revoked, if this node knows of a revocation.
    #[must_use]
    pub fn ended(&self, token: &TokenId) -> Option<Time> {
        let above = self.proved.as_ref().and_then(|proved| proved.grants.get(token)?.record.revoked_at);
        above.into_iter().chain(self.local.revoked.get(token).copied()).min()
    }

    /// Returns the tokens revoked on hosts that the control plane's records call active.
    pub fn alive_above(&self) -> impl Iterator<Item = &TokenId> {
        let alive = |token: &TokenId| {
            self.proved.as_ref().is_some_and(|proved| {
                let record = proved.grants.get(token).map(|grant| &grant.record);
                record.is_some_and(|record| record.revoked_at.is_none())
                    || proved.contradicted.contains(token)
            })
        };
        self.local.revoked.keys().filter(move |token| alive(token))
    }

    /// Returns true if the replica holds a record of the token, active or not.
    #[must_use]
    pub fn knows(&self, token: &TokenId) -> bool {
        self.proved.as_ref().is_some_and(|proved| proved.grants.contains_key(token))
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
        self.proved.as_ref().map_or(0, |proved| proved.deployments.len())
    }

    /// Returns the number of tokens, dead ones included.
    #[must_use]
    pub fn token_count(&self) -> usize {
        self.proved.as_ref().map_or(0, |proved| proved.grants.len())
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

impl Local {
    /// Returns the time from which the age of a head is computed: its `iat`, or earlier after a clock was accepted.
    pub(in crate::dataplane) fn signed_at(&self, head: &Head) -> Time {
        self.accepted.filter(|age| age.is_of(head)).map_or(head.iat, |age| age.signed)
    }
}

fn signers(records: &[Record]) -> Signers {
    let mut signers = Signers::default();
    for record in records.iter().filter(|record| record.kind == RecordKind::Node) {
        let Some(node) = record.read::<NodeRecord>() else { continue };
        if node.id.as_str() == &*record.key {
            signers.insert(&node);
        }
    }
    signers
}

type Roles = HashMap<RoleRef, (RoleDigest, RoleScope, PermissionSet)>;
type Grants = HashMap<TokenId, Grant, RandomState>;

/// Computes the grants of all tokens. Each core takes a share of the records.
fn grants(records: &[Record], roles: &Roles) -> Grants {
    let read = |record: &Record| {
        let token: TokenRecord = record.read()?;
        (token.id.as_str() == &*record.key).then(|| (token.id.clone(), Grant::new(token, roles)))
    };
    let read = |share: &[Record]| -> Vec<_> {
        share.iter().filter(|record| record.kind == RecordKind::Token).filter_map(read).collect()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut grants = Grants::with_capacity_and_hasher(records.len(), RandomState::default());
    let mut shares = records.chunks(records.len().div_ceil(cores).max(SHARE));
    let own = shares.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let others: Vec<_> = shares.map(|share| scope.spawn(move || read(share))).collect();
        grants.extend(read(own));
        for share in others {
            match share.join() {
                Ok(share) => grants.extend(share),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    grants
}

fn roles(records: &[Record]) -> Roles {
    let mut roles = Roles::new();
    for record in records.iter().filter(|record| record.kind == RecordKind::Role) {
        let Ok(role) = RoleBody::parse(&record.body) else { continue };
        match role.reference() {
            Ok(reference) if reference.to_string() == *record.key => {
                roles.insert(reference, (RoleDigest::of(&record.body), role.scope, role.permissions));
            }
            _ => {}
        }
    }
    roles
}

fn deployments(
    records: &[Record],
    maps: &RouteMaps,
) -> (HashMap<DeploymentId, Deployment>, HashMap<String, Option<DeploymentId>>) {
    let mut deployments = HashMap::new();
    let mut hosts: HashMap<String, Option<DeploymentId>> = HashMap::new();
    for record in records.iter().filter(|record| record.kind == RecordKind::Deployment) {
        let Some(found) = record.read::<DeploymentRecord>() else { continue };
        if found.id.as_str() != &*record.key {
            continue;
        }
        for host in found.hosts {
            // A name that two deployments claim identifies neither.
            hosts
                .entry(host_name(&host).into_owned())
                .and_modify(|owner| *owner = owner.take().filter(|owner| *owner == found.id))
                .or_insert_with(|| Some(found.id.clone()));
        }
        let routes = maps.get(&found.routes);
        let deployment = Deployment {
            id: found.id.clone(),
            name: found.name,
            glass: found.glass,
            routes,
            tags: BTreeMap::new(),
        };
        deployments.insert(found.id, deployment);
    }
    for record in records.iter().filter(|record| record.kind == RecordKind::DagTags) {
        let Some(found) = record.read::<DagTagsRecord>() else { continue };
        if let Some(deployment) = deployments.get_mut(&found.deployment)
            && found.deployment.as_str() == &*record.key
        {
            deployment.tags = found.tags;
        }
    }
    (deployments, hosts)
}

impl Grant {
    fn new(record: TokenRecord, roles: &Roles) -> Self {
        // A role applies only to its own scope: a role for Dags grants nothing on the deployment.
        let look_up = |claim: &RoleClaim, on: RoleScope| {
            let (digest, scope, permissions) = roles.get(&claim.id)?;
            (*digest == claim.digest && *scope == on).then_some(*permissions)
        };
        let permissions = look_up(&record.role, RoleScope::Deployment).and_then(|deployment| {
            let dags = record
                .dag_roles
                .iter()
                .map(|dag| Some((dag.target.clone(), look_up(&dag.role, RoleScope::Dag)?)));
            Some(Permissions { deployment, dags: dags.collect::<Option<_>>()? })
        });
        let network = |source: &String| source.parse().ok().map(forwarded::canonical);
        let sources = record.sources.iter().map(network).collect();
        // Generations begin at 1. A lower one was never issued.
        let record = TokenRecord { generation: record.generation.max(1), ..record };
        Self { record, superseded: 0, permissions, sources }
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
    pub(in crate::dataplane) fn on(
        &self,
        dag: Option<&str>,
        tags: &BTreeMap<String, Vec<String>>,
    ) -> PermissionSet {
        let Some(dag) = dag else { return self.deployment };
        self.dags.iter().fold(self.deployment, |allowed, (target, permissions)| {
            let bound = match target {
                DagTarget::Dag(id) => id == dag,
                DagTarget::Tag(tag) => tags.get(dag).is_some_and(|of_dag| of_dag.contains(tag)),
            };
            if bound { allowed.union(*permissions) } else { allowed }
        })
    }
}
