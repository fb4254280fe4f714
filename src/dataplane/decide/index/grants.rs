//! Grants of all tokens, in a table that snapshots share: a change copies the leaf that it touches and the path to it, never
//! the other tokens.
//!
//! The table has two levels of [`FAN`] entries, then leaves. A leaf is a slice without free places, sorted by the hash of the
//! token's id. With a million tokens a leaf holds about 250 grants, so a change copies some 30 KB. A hash map in each leaf
//! would be as fast, and leave a third of its places empty; a deeper tree would copy less, and cost every decision one more
//! cache miss.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::RandomState;

use super::access_loss::AccessLoss;
use super::profile::Profile;
use crate::protocol::id::TokenId;
use crate::protocol::time::Time;
use crate::protocol::token::TokenRecord;

/// Number of entries in each level.
const FAN: usize = 64;

/// Revocation of a token, as far as its record and the ledger state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Revoked {
    /// Neither states one.
    No,
    /// The record states it.
    Above(Time),
    /// The record calls the token active, and this node has proof that it is revoked. The time is that of the head with
    /// which this became known.
    Contradicted(Time),
}

/// Facts of one token. Of fixed size: what tokens have in common is in [`Profile`].
#[derive(Clone, Debug)]
pub(in crate::dataplane) struct Grant {
    token: TokenId,
    /// Part of the hash by which leaves are sorted.
    order: u32,
    pub(in crate::dataplane) generation: u32,
    /// First generation that was not rotated away. It exceeds the record's generation after a control plane was restored
    /// from a backup, or when only the losses of a rejected bundle were kept. No token value is valid then.
    pub(in crate::dataplane) superseded: u32,
    pub(in crate::dataplane) profile: Arc<Profile>,
    pub(in crate::dataplane) not_before: Time,
    pub(in crate::dataplane) expires_at: Time,
    pub(in crate::dataplane) revoked: Revoked,
}

impl Grant {
    /// Returns the grant of a record whose profile is `profile`.
    pub(super) fn new(record: &TokenRecord, profile: Arc<Profile>) -> Self {
        Self {
            token: record.id.clone(),
            order: 0,
            // Generations begin at 1. A lower one was never issued.
            generation: record.generation.max(1),
            superseded: 0,
            profile,
            not_before: record.not_before,
            expires_at: record.expires_at,
            revoked: record.revoked_at.map_or(Revoked::No, Revoked::Above),
        }
    }

    /// Returns the identifier of the token.
    pub(in crate::dataplane) fn token(&self) -> &TokenId {
        &self.token
    }

    /// Returns the time of the revocation, if there is one.
    pub(in crate::dataplane) fn revoked_at(&self) -> Option<Time> {
        match self.revoked {
            Revoked::No => None,
            Revoked::Above(at) | Revoked::Contradicted(at) => Some(at),
        }
    }

    /// Applies a loss that the record does not state. `at` is the time of the head in force.
    pub(super) fn apply_loss(&mut self, loss: &AccessLoss, at: Time) {
        self.superseded = loss.generation;
        if loss.revoked && self.revoked == Revoked::No {
            self.revoked = Revoked::Contradicted(at);
        }
        if self.generation == loss.generation.max(1) {
            self.not_before = loss.not_before.map_or(self.not_before, |start| start.max(self.not_before));
            self.expires_at = loss.expires_at.map_or(self.expires_at, |end| end.min(self.expires_at));
        }
        if self.generation <= loss.expired {
            self.expires_at = Time::from_unix(i64::MIN);
        }
    }
}

type Leaf = Arc<[Grant]>;
type Branch = Arc<[Leaf; FAN]>;

/// Table of grants by token. A clone shares all leaves.
#[derive(Clone)]
pub(in crate::dataplane) struct Grants {
    // Seeded at random, so that nobody can choose token ids that share a leaf.
    hasher: RandomState,
    root: [Branch; FAN],
    len: usize,
}

impl Default for Grants {
    fn default() -> Self {
        let leaf: Leaf = Arc::new([]);
        let branch: Branch = Arc::new(std::array::from_fn(|_| Arc::clone(&leaf)));
        let root = std::array::from_fn(|_| Arc::clone(&branch));
        Self { hasher: RandomState::default(), root, len: 0 }
    }
}

/// Place of a token: its branch, its leaf in the branch, and its order in the leaf. These are different bits of its hash.
#[derive(Clone, Copy)]
struct Place {
    branch: usize,
    leaf: usize,
    order: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "different bits of a hash are taken")]
fn place(hasher: &RandomState, token: &str) -> Place {
    let hash = hasher.hash_one(token);
    Place { branch: (hash >> 38) as usize % FAN, leaf: (hash >> 32) as usize % FAN, order: hash as u32 }
}

/// Returns the index of a token in its leaf, or the index at which it belongs.
fn find(leaf: &[Grant], order: u32, token: &str) -> Result<usize, usize> {
    // Hashes are spread evenly, so a token is within a few places of its share of the leaf.
    let mut at = ((u64::from(order) * leaf.len() as u64) >> 32) as usize;
    while at > 0 && leaf[at - 1].order >= order {
        at -= 1;
    }
    while let Some(grant) = leaf.get(at).filter(|grant| grant.order <= order) {
        if grant.order == order && grant.token.as_str() == token {
            return Ok(at);
        }
        at += 1;
    }
    Err(at)
}

impl Grants {
    /// Returns the grant of a token.
    pub(in crate::dataplane) fn get(&self, token: &TokenId) -> Option<&Grant> {
        let place = place(&self.hasher, token.as_str());
        let leaf = &self.root[place.branch][place.leaf];
        find(leaf, place.order, token.as_str()).ok().map(|at| &leaf[at])
    }

    /// Returns the number of tokens.
    pub(in crate::dataplane) fn len(&self) -> usize {
        self.len
    }

    /// Returns all grants, in no order.
    pub(in crate::dataplane) fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.root.iter().flat_map(|branch| branch.iter()).flat_map(|leaf| leaf.iter())
    }

    /// Inserts a grant, in place of the one that the token had.
    pub(super) fn insert(&mut self, mut grant: Grant) {
        let place = place(&self.hasher, grant.token.as_str());
        grant.order = place.order;
        let leaf = self.leaf(place);
        let (before, after) = match find(leaf, place.order, grant.token.as_str()) {
            Ok(at) => (at, at + 1),
            Err(at) => (at, at),
        };
        let added = usize::from(before == after);
        let (before, after) = (&leaf[..before], &leaf[after..]);
        *leaf = before.iter().cloned().chain([grant]).chain(after.iter().cloned()).collect();
        self.len += added;
    }

    /// Removes the grant of a token, if there is one.
    pub(super) fn remove(&mut self, token: &str) {
        let place = place(&self.hasher, token);
        // Looked up first: a branch is copied only for a change.
        if let Ok(at) = find(&self.root[place.branch][place.leaf], place.order, token) {
            let leaf = self.leaf(place);
            *leaf = leaf[..at].iter().chain(&leaf[at + 1..]).cloned().collect();
            self.len -= 1;
        }
    }

    /// Applies a loss to the grant of its token, if there is one.
    pub(super) fn apply_loss(&mut self, loss: &AccessLoss, at: Time) {
        if let Some(mut grant) = self.get(&loss.token).cloned() {
            grant.apply_loss(loss, at);
            self.insert(grant);
        }
    }

    /// Replaces the profile of every grant. This visits all tokens.
    pub(super) fn change_profiles(&mut self, mut change: impl FnMut(&Profile) -> Arc<Profile>) {
        for branch in &mut self.root {
            for leaf in Arc::make_mut(branch) {
                *leaf = leaf
                    .iter()
                    .map(|grant| Grant { profile: change(&grant.profile), ..grant.clone() })
                    .collect();
            }
        }
    }

    fn leaf(&mut self, place: Place) -> &mut Leaf {
        &mut Arc::make_mut(&mut self.root[place.branch])[place.leaf]
    }
}

/// Collects the grants of a whole replica. Several threads can add to it.
pub(super) struct Builder {
    hasher: RandomState,
    leaves: Box<[Mutex<Vec<Grant>>]>,
}

impl Builder {
    pub(super) fn new() -> Self {
        let leaves = (0..FAN * FAN).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::default(), leaves }
    }

    /// Adds the grant of a token that was not added before.
    pub(super) fn add(&self, mut grant: Grant) {
        let place = place(&self.hasher, grant.token.as_str());
        grant.order = place.order;
        let leaf = &self.leaves[place.branch * FAN + place.leaf];
        // A panic while a vector grows leaves it as it was.
        leaf.lock().unwrap_or_else(PoisonError::into_inner).push(grant);
    }

    pub(super) fn finish(self) -> Grants {
        let mut grants = Grants { hasher: self.hasher, ..Grants::default() };
        for (number, leaf) in self.leaves.into_iter().enumerate() {
            let mut leaf = leaf.into_inner().unwrap_or_else(PoisonError::into_inner);
            if leaf.is_empty() {
                continue;
            }
            leaf.sort_by_key(|grant| grant.order);
            // The later of two records of a token wins. A verified replica holds one record for each token.
            leaf.dedup_by(|later, earlier| {
                let same = later.token == earlier.token;
                if same {
                    std::mem::swap(later, earlier);
                }
                same
            });
            grants.len += leaf.len();
            Arc::make_mut(&mut grants.root[number / FAN])[number % FAN] = leaf.into();
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::decide::index::Roles;
    use crate::dataplane::decide::index::profile::Pool;
    use crate::world::World;

    /// Hash of a token. In a leaf some are often equal, lowest or highest.
    fn order() -> impl Strategy<Value = u32> {
        prop_oneof![any::<u32>(), 0_u32..3, u32::MAX - 2..=u32::MAX]
    }

    proptest! {
        #[test]
        fn a_leaf_holds_a_token_where_its_hash_is_and_has_one_place_for_another(
            mut orders in prop::collection::vec(order(), 0..40), other in order(),
        ) {
            orders.sort_unstable();
            let profile = Pool::default().profile(&World::token_record(0), &Roles::new());
            let grant = |(number, order)| {
                Grant { order, ..Grant::new(&World::token_record(number), Arc::clone(&profile)) }
            };
            let leaf: Vec<Grant> = orders.iter().copied().enumerate().map(grant).collect();
            for (at, grant) in leaf.iter().enumerate() {
                prop_assert_eq!(find(&leaf, grant.order, grant.token.as_str()), Ok(at));
            }
            for order in orders.iter().copied().chain([other]) {
                let behind = orders.partition_point(|before| *before <= order);
                prop_assert_eq!(find(&leaf, order, "tok_other"), Err(behind));
            }
        }
    }

    /// A decision looks at few grants, and a change copies few, only as long as no leaf is much larger than the others.
    #[test]
    fn tokens_are_spread_evenly_over_the_leaves() {
        let hasher = RandomState::default();
        let mut leaves = [0; FAN * FAN];
        for number in 0..4 * leaves.len() {
            let place = place(&hasher, &format!("tok_{number}"));
            leaves[place.branch * FAN + place.leaf] += 1;
        }
        assert!(leaves.iter().all(|tokens| *tokens < 32), "{:?}", leaves.iter().max());
    }
}
