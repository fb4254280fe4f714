//! Index of a verified replica: what decisions look up, without the bodies of the records, which stay on the disk.
//!
//! An index never changes. [`Index::with`] returns the next one, which shares everything that a delta does not touch; its
//! cost does not depend on the number of tokens. [`Indexer`] makes one from a whole replica.

mod access_loss;
mod directory;
mod grants;
mod profile;
mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use access_loss::AccessLoss;
pub(in crate::dataplane) use directory::{Deployment, Directory, Tags};
pub(in crate::dataplane) use grants::{Grant, Grants, Revoked};
pub use profile::Granted;
pub(in crate::dataplane) use profile::includes;

use self::directory::Listed;
use self::grants::Builder;
use self::profile::Pool;
use self::record::{Read, Unreadable};
use super::routes::RouteMaps;
use crate::protocol::bundle::Change;
use crate::protocol::id::{DeploymentId, NodeId};
use crate::protocol::permission::PermissionSet;
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::role::{RoleDigest, RoleRef, RoleScope};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

/// Roles by name and version.
type Roles = HashMap<RoleRef, (RoleDigest, RoleScope, PermissionSet)>;

/// Verified changes from one version of a replica to the next.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Records that were stored or removed, each at most once.
    pub changes: Vec<Change>,
    /// Losses of the tokens among them that this node knows beyond the records.
    pub losses: Vec<AccessLoss>,
    /// Retirements of the nodes among them that this node knows.
    pub retirements: Vec<Retirement>,
}

/// Retirement of a node that this node has proof of. It counts also if a later record does not state it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Node that was retired.
    pub node: NodeId,
    /// Time from which its signatures are rejected.
    pub at: Time,
}

/// Records of a verified replica, indexed for decisions.
#[derive(Clone, Default)]
pub struct Index {
    pub(in crate::dataplane) grants: Grants,
    roles: Arc<Roles>,
    signers: Arc<Signers>,
    listed: Arc<Listed>,
    unreadable: Arc<Unreadable>,
    /// Not part of the index's value: it only saves memory.
    pool: Arc<Mutex<Pool>>,
}

impl Index {
    /// Returns the index after `delta`. `at` is the time of the head that proves it.
    #[must_use]
    pub fn with(&self, delta: &Delta, at: Time) -> Self {
        let mut next = self.clone();
        let (tokens, others): (Vec<_>, Vec<_>) =
            delta.changes.iter().partition(|change| change.kind() == RecordKind::Token);
        next.change_others(others);
        for change in tokens {
            next.change(change);
        }
        for loss in &delta.losses {
            next.grants.apply_loss(loss, at);
        }
        for retirement in &delta.retirements {
            next.apply_retirement(retirement);
        }
        next
    }

    /// Applies a loss that the records do not state. `at` is the time of the head in force.
    pub(in crate::dataplane) fn apply_loss(&mut self, loss: &AccessLoss, at: Time) {
        self.grants.apply_loss(loss, at);
    }

    /// Applies a retirement that the records may not state.
    pub(in crate::dataplane) fn apply_retirement(&mut self, retirement: &Retirement) {
        Arc::make_mut(&mut self.signers).retire(&retirement.node, retirement.at);
    }

    /// Returns the nodes of the data plane.
    pub(in crate::dataplane) fn signers(&self) -> Arc<Signers> {
        Arc::clone(&self.signers)
    }

    /// Returns the deployments with the route maps of this host. Returns `before` if nothing about them has changed.
    pub(in crate::dataplane) fn directory(
        &self,
        maps: &RouteMaps,
        before: Option<&Arc<Directory>>,
    ) -> Arc<Directory> {
        match before.filter(|before| before.is_made_from(&self.listed, maps)) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Directory::new(&self.listed, maps)),
        }
    }

    /// Returns a sentence that names the unreadable records and the cause, or `None` if all can be read.
    pub(in crate::dataplane) fn explain_unreadable(&self) -> Option<String> {
        self.unreadable.explain()
    }

    /// Applies changes of all records but tokens, before those of tokens: grants are made with the permissions of roles.
    fn change_others<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change>) {
        let mut roles = Vec::new();
        for change in changes {
            self.change(change);
            if change.kind() == RecordKind::Role {
                roles.extend(change.key().parse::<RoleRef>());
            }
        }
        let pool = Arc::clone(&self.pool);
        let mut pool = lock(&pool);
        // A role that no token names yet, as the first token of a new role brings it, changes no grant.
        if roles.iter().any(|role| pool.names(role)) {
            let roles = Arc::clone(&self.roles);
            self.grants.change_profiles(|profile| pool.renewed(profile, &roles));
        }
    }

    fn change(&mut self, change: &Change) {
        let (kind, key) = (change.kind(), change.key());
        if self.unreadable.names(kind, key) {
            Arc::make_mut(&mut self.unreadable).remove(kind, key);
        }
        let Change::Put(record) = change else { return self.remove(kind, key) };
        match record::read(record) {
            Ok(Read::Token(token)) => {
                let profile = lock(&self.pool).profile(&token, &self.roles);
                self.grants.insert(Grant::new(&token, profile));
            }
            Ok(Read::Role(reference, role)) => drop(Arc::make_mut(&mut self.roles).insert(reference, role)),
            Ok(Read::Deployment(deployment)) => Arc::make_mut(&mut self.listed).insert(deployment),
            Ok(Read::DagTags(tags)) => Arc::make_mut(&mut self.listed).insert_tags(tags),
            Ok(Read::Node(node)) => {
                let signers = Arc::make_mut(&mut self.signers);
                signers.remove(&node.id);
                signers.insert(&node);
            }
            Ok(Read::StandardTokens) => {}
            Err(why) => {
                self.remove(kind, key);
                Arc::make_mut(&mut self.unreadable).insert(kind, key, why);
            }
        }
    }

    /// Removes the entries that a readable record of this kind and key has added.
    fn remove(&mut self, kind: RecordKind, key: &str) {
        match kind {
            RecordKind::Token => self.grants.remove(key),
            RecordKind::Role => {
                if let Ok(role) = key.parse() {
                    Arc::make_mut(&mut self.roles).remove(&role);
                }
            }
            RecordKind::Deployment => {
                if let Ok(deployment) = DeploymentId::new(key) {
                    Arc::make_mut(&mut self.listed).remove(&deployment);
                }
            }
            RecordKind::DagTags => {
                if let Ok(deployment) = DeploymentId::new(key) {
                    Arc::make_mut(&mut self.listed).remove_tags(&deployment);
                }
            }
            RecordKind::Node => {
                if let Ok(node) = NodeId::new(key) {
                    Arc::make_mut(&mut self.signers).remove(&node);
                }
            }
            RecordKind::StandardTokens => {}
        }
    }
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    // It holds shared copies only. One that a panic left out is made again.
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the index of a whole replica. Several threads can add tokens to it.
///
/// ```
/// use halligan::dataplane::decide::index::Indexer;
/// use halligan::dataplane::decide::snapshot::{Snapshot, Staleness, Verified};
/// use halligan::protocol::record::RecordKind;
///
/// # mod world {
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
/// # }
/// # let (keyset, head) = (world::keyset(), world::head(1, &world::records()));
/// let (tokens, others): (Vec<_>, Vec<_>) =
///     world::records().into_iter().partition(|record| record.kind == RecordKind::Token);
/// let indexer = Indexer::new(others);
/// std::thread::scope(|scope| {
///     for token in &tokens {
///         scope.spawn(|| indexer.add(token));
///     }
/// });
/// let verified = Verified { keyset, head, index: indexer.finish() };
/// let snapshot = Snapshot::from_verified(verified, Staleness::default(), None);
/// assert!(snapshot.knows(&"tok_etl".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Indexer {
    index: Index,
    grants: Builder,
    unreadable: Mutex<Unreadable>,
}

impl Indexer {
    /// Begins with all records but the tokens: grants are made with the permissions of roles.
    #[must_use]
    pub fn new(others: Vec<Record>) -> Self {
        let mut index = Index::default();
        let changes: Vec<_> = others.into_iter().map(Change::Put).collect();
        index.change_others(&changes);
        let unreadable = Mutex::new((*index.unreadable).clone());
        Self { index, grants: Builder::new(), unreadable }
    }

    /// Adds the record of a token.
    pub fn add(&self, record: &Record) {
        match record::read(record) {
            Ok(Read::Token(token)) => {
                let profile = lock(&self.index.pool).profile(&token, &self.index.roles);
                self.grants.add(Grant::new(&token, profile));
            }
            Ok(_) => {}
            Err(why) => {
                // A panic while a map grows leaves it as it was.
                let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
                unreadable.insert(record.kind, &record.key, why);
            }
        }
    }

    /// Returns the index.
    #[must_use]
    pub fn finish(self) -> Index {
        let unreadable = self.unreadable.into_inner().unwrap_or_else(PoisonError::into_inner);
        Index { grants: self.grants.finish(), unreadable: Arc::new(unreadable), ..self.index }
    }
}

#[cfg(test)]
mod tests;
