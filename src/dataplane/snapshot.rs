//! Snapshots: a proved replica made ready for deciding. Immutable, and swapped whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use foldhash::quality::RandomState;
use ipnet::IpNet;

use super::glass::Broken;
use super::readable::explain_unreadable;
use super::routes::{RouteMap, RouteMaps};
use super::signatures::Signatures;
use super::staleness::{AtLimit, Freshness};
use super::store::HeadAge;
use crate::platform::net::forwarded;
use crate::protocol::glass::GlassMode;
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

/// Fewer records than this are not worth another thread.
const SHARE: usize = 1024;

/// A replica whose signatures and digest have been proved.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The newest keyset.
    pub keyset: Keyset,
    /// The head over the records.
    pub head: SignedHead,
    /// The records.
    pub records: Vec<Record>,
    /// What this node knows beyond them.
    pub takeaways: Vec<Takeaway>,
}

/// What a node knows to be taken away though its records do not say so. It can end a token, never revive one.
#[derive(Clone, Debug)]
pub struct Takeaway {
    /// The token.
    pub token: TokenId,
    /// Generations below this one are rotated away.
    pub generation: u32,
    /// Whether it is revoked.
    pub revoked: bool,
    /// Generations up to this one were seen as expired under a time floor that was taken back since.
    pub expired: u32,
}

/// A token's grant with its roles looked up.
pub(super) struct Grant {
    pub(super) record: TokenRecord,
    /// Generations below this one are rotated away. It is above the record's generation after a control plane was restored
    /// from a backup, or when this node kept of a refused bundle only what it takes away: then no value opens.
    pub(super) superseded: u32,
    /// None: a role is missing, unreadable, or not what its digest says. Then nothing is granted.
    pub(super) permissions: Option<Permissions>,
    /// None: a network in the record can't be read. Then no source is allowed.
    pub(super) sources: Option<Vec<IpNet>>,
}

pub(super) struct Permissions {
    pub(super) deployment: PermissionSet,
    pub(super) dags: Vec<(DagTarget, PermissionSet)>,
}

/// What a token may do in all, on whatever it is used for: more than one request needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// On its deployment as a whole.
    pub deployment: PermissionSet,
    /// On some of its Dags.
    pub dags: PermissionSet,
}

pub(super) struct Deployment {
    pub(super) id: DeploymentId,
    pub(super) name: String,
    pub(super) glass: GlassMode,
    /// None: the record names a map this host does not have. Then no route matches.
    pub(super) routes: Option<Arc<RouteMap>>,
    pub(super) tags: BTreeMap<String, Vec<String>>,
}

/// What holds on this node beyond what its control plane signed.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Tokens revoked on a host of this data plane, and when.
    pub revoked: BTreeMap<TokenId, Time>,
    /// This host's route maps. A change of them is in force from the next snapshot on that is built.
    pub routes: RouteMaps,
    /// Deployments whose glass an operator has broken.
    pub broken: BTreeMap<DeploymentId, Broken>,
    /// Whether the control plane is judged unreachable.
    pub outage: bool,
    /// The age of a head, where an administrator of this host has accepted a clock that its own instant contradicts.
    pub(super) accepted: Option<HeadAge>,
}

/// A replica made ready for deciding, and what this node adds to it. Each half is shared: changing one copies neither.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) proved: Option<Arc<Proved>>,
    pub(super) local: Arc<Local>,
}

pub(super) struct Proved {
    pub(super) keyset: Keyset,
    pub(super) head: SignedHead,
    pub(super) staleness: Staleness,
    pub(super) signatures: Arc<Signatures>,
    pub(super) grants: Grants,
    pub(super) deployments: HashMap<DeploymentId, Deployment>,
    /// Deployment by host name. None: two deployments claim it, so it names neither.
    pub(super) hosts: HashMap<String, Option<DeploymentId>>,
    pub(super) signers: Arc<Signers>,
    /// Which records can't be read, in a sentence.
    pub(super) unreadable: Option<String>,
    /// Tokens that the records call alive though this node has proof that they are revoked.
    pub(super) contradicted: BTreeSet<TokenId>,
}

impl Snapshot {
    /// The snapshot of a node that has no replica: it denies everything.
    #[must_use]
    pub fn absent() -> Self {
        Self { proved: None, local: Arc::default() }
    }

    /// Makes a replica ready. What `previous` holds of this node's own stays; so do its verified signatures, while the
    /// keyset is the same.
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
        // A renewal of the head brings the same records: the digest says so.
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

    /// The same replica with something else of this node's own.
    #[must_use]
    pub fn with_local(&self, local: Local) -> Self {
        Self { proved: self.proved.clone(), local: Arc::new(local) }
    }

    /// Which records can't be read, in a sentence; none if all can.
    #[must_use]
    pub fn unreadable(&self) -> Option<String> {
        self.proved.as_ref().and_then(|proved| proved.unreadable.clone())
    }

    /// No replica at all, and what is this node's own.
    #[must_use]
    pub fn withdrawn(&self) -> Self {
        Self { proved: None, local: Arc::clone(&self.local) }
    }

    /// What holds on this node alone.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// The head it was built from.
    #[must_use]
    pub fn head(&self) -> Option<&SignedHead> {
        self.proved.as_ref().map(|proved| &proved.head)
    }

    /// The deployments whose records name a route map this host does not have: whatever is asked of them is denied.
    pub fn unmapped(&self) -> impl Iterator<Item = &DeploymentId> {
        let deployments = self.proved.iter().flat_map(|proved| proved.deployments.values());
        deployments.filter(|deployment| deployment.routes.is_none()).map(|deployment| &deployment.id)
    }

    /// The nodes of the data plane, whose signature counts for a revocation.
    #[must_use]
    pub fn signers(&self) -> Arc<Signers> {
        self.proved.as_ref().map_or_else(Arc::default, |proved| Arc::clone(&proved.signers))
    }

    /// When a token was revoked, as far as it is known here.
    #[must_use]
    pub fn ended(&self, token: &TokenId) -> Option<Time> {
        let above = self.proved.as_ref().and_then(|proved| proved.grants.get(token)?.record.revoked_at);
        above.into_iter().chain(self.local.revoked.get(token).copied()).min()
    }

    /// Returns the tokens revoked on hosts that the control plane's records call alive.
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

    /// Whether it knows a token, dead or alive.
    #[must_use]
    pub fn knows(&self, token: &TokenId) -> bool {
        self.proved.as_ref().is_some_and(|proved| proved.grants.contains_key(token))
    }

    /// The version of the keyset in force; 0 while there is none.
    #[must_use]
    pub fn keyset_version(&self) -> u64 {
        self.proved.as_ref().map_or(0, |proved| proved.keyset.version())
    }

    /// As of when its head counts as signed.
    #[must_use]
    pub fn signed_at(&self) -> Option<Time> {
        self.head().map(|head| self.local.signed_at(head.head()))
    }

    /// How old it is, against what each role may rest on; nothing while there is no replica.
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

    /// Whether a replica that is too old is no longer decided from.
    #[must_use]
    pub fn denies_when_stale(&self) -> bool {
        self.proved.as_ref().is_some_and(|proved| proved.staleness.at_limit == AtLimit::Deny)
    }

    /// Until when it may be rested on by the role that may rest on it longest.
    #[must_use]
    pub fn horizon(&self) -> Option<Time> {
        let proved = self.proved.as_ref()?;
        let longest = proved.staleness.limits().into_iter().map(|(_, limit)| limit).max()?;
        Some(self.local.signed_at(proved.head.head()).plus(longest))
    }

    /// How many deployments it knows.
    #[must_use]
    pub fn deployment_count(&self) -> usize {
        self.proved.as_ref().map_or(0, |proved| proved.deployments.len())
    }

    /// How many tokens it knows, dead ones included.
    #[must_use]
    pub fn token_count(&self) -> usize {
        self.proved.as_ref().map_or(0, |proved| proved.grants.len())
    }

    /// How often a token's signature was known already, and how often it had to be verified.
    #[must_use]
    pub(super) fn signature_lookups(&self) -> [(&'static str, u64); 2] {
        let lookups = self.proved.as_ref().map(|proved| proved.signatures.lookups());
        let (hits, misses) =
            lookups.map_or((0, 0), |lookups| (lookups.hits.load(Relaxed), lookups.misses.load(Relaxed)));
        [("hit", hits), ("miss", misses)]
    }
}

impl Local {
    /// As of when a head counts as signed: its own instant, unless a clock was accepted that makes it older.
    pub(super) fn signed_at(&self, head: &Head) -> Time {
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

/// What each token may do, each core reading a share of the records.
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
            // A name that two deployments have opens neither.
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
        // A role works on what it is held on: one for Dags gives nothing on the whole deployment.
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
        // Generations begin at 1: what claims to be older was never given out.
        let record = TokenRecord { generation: record.generation.max(1), ..record };
        Self { record, superseded: 0, permissions, sources }
    }
}

impl Permissions {
    /// All of it, wherever it holds.
    pub(super) fn granted(&self) -> Granted {
        let dags =
            self.dags.iter().fold(PermissionSet::empty(), |all, (_, permissions)| all.union(*permissions));
        Granted { deployment: self.deployment, dags }
    }

    /// What is allowed on `dag` (or, without one, on the deployment as a whole).
    pub(super) fn on(&self, dag: Option<&str>, tags: &BTreeMap<String, Vec<String>>) -> PermissionSet {
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
