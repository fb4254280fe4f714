//! Replication: applies bundles of any origin, and puts the verified result in force.

mod clock;

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;

use super::recent_deltas::{Keeping, RecentDeltas};
use super::store::{Origin, ReplicaStore, Scrub, StoreError};
use crate::api::host::replica::{ForkedHead, VerifiedReplica};
use crate::dataplane::decide::index::Delta;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::decide::staleness::Staleness;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::state::Live;
use crate::protocol::head::{Head, SignedHead};
use crate::protocol::jws::BASE64URL;
use crate::protocol::keyset::RootSet;
use crate::protocol::time::Time;

/// Maximum number of heads of another node that are compared in one call.
const MAX_COMPARED: usize = 8;

/// Checks that a head was signed for the request that carried `nonce`. A head with another nonce was replayed. A control
/// plane up to 0.1 signs no nonce: its heads must rise from answer to answer, in version or in `iat`.
fn check_fresh(head: &SignedHead, nonce: &str, before: Option<(u64, Time)>) -> Result<(), StoreError> {
    let stated = head.head();
    let fresh = match head.nonce() {
        Some(_) => head.answers(nonce),
        None => before.is_none_or(|before| (stated.version, stated.iat) > before),
    };
    if fresh { Ok(()) } else { Err(StoreError::Replayed(stated.iat)) }
}

/// Replica database and the snapshot made from it, which change together.
pub struct Replication {
    store: Mutex<ReplicaStore>,
    live: Arc<Live>,
    staleness: Mutex<Staleness>,
    recent_deltas: Mutex<RecentDeltas>,
    /// True if the control plane's last changes did not follow the version held. The next request asks for a snapshot,
    /// which follows any version.
    another_history: AtomicBool,
}

impl Replication {
    /// Joins a store with the state that request handlers read.
    #[must_use]
    pub fn new(store: ReplicaStore, live: Arc<Live>, staleness: Staleness) -> Self {
        let mut recent_deltas = RecentDeltas::default();
        if let Some(head) = live.snapshot().head() {
            recent_deltas.keep_head(head);
        }
        let (store, staleness, recent_deltas) =
            (Mutex::new(store), Mutex::new(staleness), Mutex::new(recent_deltas));
        Self { store, live, staleness, recent_deltas, another_history: AtomicBool::new(false) }
    }

    /// Returns the state that request handlers read.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    pub(in crate::dataplane) fn store(&self) -> MutexGuard<'_, ReplicaStore> {
        // Every change is a SQLite transaction: after a panic the store is as it was before.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staleness(&self) -> Staleness {
        self.staleness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other limits of the replica's age in force.
    pub fn set_staleness(&self, staleness: Staleness, now: Time) -> Result<(), StoreError> {
        let store = self.store();
        *self.staleness.lock().unwrap_or_else(PoisonError::into_inner) = staleness;
        self.enforce(&store, None, now)
    }

    /// Returns the versions of the head and of the keyset held, where the next delta begins. The head's version is 0, which
    /// asks for a snapshot, if nothing on the disk can be verified, or if the control plane has another history.
    pub fn position(&self) -> Result<(u64, u64), StoreError> {
        let (version, keyset) = self.store().position()?;
        let follows = self.live.on_disk().is_some() && !self.another_history.load(Ordering::Relaxed);
        Ok((if follows { version } else { 0 }, keyset))
    }

    /// Applies a bundle and replaces the snapshot. A rejected bundle raises an alarm.
    pub fn apply_bundle(&self, bundle: impl Read, origin: Origin, now: Time) -> Result<(), StoreError> {
        self.apply_answer(bundle, origin, None, now)
    }

    /// Applies the answer to a request that carried `nonce`. A head with that nonce was signed just now: if it agrees with
    /// the clock, a time floor ahead of both is lowered.
    pub fn apply_answer(
        &self,
        bundle: impl Read,
        origin: Origin,
        nonce: Option<&str>,
        now: Time,
    ) -> Result<(), StoreError> {
        let mut store = self.store();
        let (before, _) = store.position()?;
        let known = self.live.snapshot().head().map(|head| (head.head().version, head.head().iat));
        // Read before the bundle is applied: a token that the bundle first proves had not expired on this node.
        let time = self.live.now(now);
        let ended =
            if nonce.is_some() && !time.trusted() { store.ended_by(time.floor, now)? } else { Vec::new() };
        let mut bundle = Keeping::new(bundle);
        let mut outcome = store.apply(&mut bundle, origin, now);
        let way = match origin {
            Origin::Feed => "",
            Origin::Peer => "a peer: ",
            Origin::File => "import: ",
        };
        let alarm = |refused: &StoreError| {
            if let Some(kind) = refused.alarm_by(origin) {
                self.live.alarms.raise(kind, &format!("{way}{refused}"), now);
            }
        };
        if outcome.is_ok()
            && store.position()?.0 > before
            && let Some(bundle) = bundle.kept()
        {
            self.recent_deltas().keep(before, bundle);
        }
        match &outcome {
            Ok(_) if origin == Origin::Feed => self.another_history.store(false, Ordering::Relaxed),
            Err(StoreError::History { .. }) if origin == Origin::Feed => {
                self.another_history.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
        match &outcome {
            Ok(taken) => {
                for token in &taken.overruled {
                    let what = format!(
                        "{way}the control plane calls token {token} alive, of an older generation, or valid for longer; this \
                         node has proof of the contrary, and keeps to it"
                    );
                    self.live.alarms.raise(AlarmKind::Invariant, &what, now);
                }
                for node in &taken.readmitted {
                    let what = format!(
                        "{way}the control plane calls node {node} a member; this node has proof that it was retired, and keeps to \
                         it; retire it again (halligan node retire)"
                    );
                    self.live.alarms.raise(AlarmKind::Invariant, &what, now);
                }
            }
            Err(refused) => alarm(refused),
        }
        // After a rejection too: it may have left losses or a keyset.
        match &mut outcome {
            Err(refused) if refused.may_be_of_the_disk() => self.read_again(&store, now)?,
            Err(_) => self.enforce(&store, None, now)?,
            Ok(taken) => self.enforce(&store, taken.delta.take().as_ref(), now)?,
        }
        let head = outcome?.head;
        let Some(nonce) = nonce else { return Ok(()) };
        check_fresh(&head, nonce, known).inspect_err(alarm)?;
        if head.answers(nonce) {
            self.settle_doubt(&mut store, &ended, head.head().iat, now)?;
        }
        Ok(())
    }

    /// Follows keysets from files on this host. They are verified like those of a bundle.
    pub fn follow(&self, keysets: &[String], now: Time) -> Result<u64, StoreError> {
        let mut store = self.store();
        let (_, before) = store.position()?;
        let version = store.follow(keysets, now)?.version();
        if version > before {
            tracing::info!(keyset = version, "a new keyset is in force");
            self.enforce(&store, None, now)?;
        }
        Ok(version)
    }

    /// Replaces the pinned roots, if the keysets held can be verified under the new ones.
    pub fn pin(&self, roots: RootSet) -> Result<(), StoreError> {
        self.store().pin(roots)
    }

    /// Removes the replica; see [`ReplicaStore::forget`]. Everything is denied until the next head.
    pub fn forget(&self, now: Time) -> Result<(), StoreError> {
        let mut store = self.store();
        store.forget()?;
        self.live.replace(Snapshot::withdrawn);
        self.enforce(&store, None, now)
    }

    /// Returns the stored heads and keysets that contradict each other.
    pub fn forks(&self) -> Result<Vec<ForkedHead>, StoreError> {
        self.store().forks()
    }

    /// Compares heads that another node received with those of this node. Two different heads of one version are stored and
    /// raise an alarm: a holder of the replica key gives hosts different replicas. Returns this node's head, and its heads
    /// of the compared versions.
    pub fn compare_heads(&self, shown: &[String], now: Time) -> Result<Vec<String>, StoreError> {
        let snapshot = Arc::clone(&self.live.snapshot());
        let Some(proved) = &snapshot.proved else { return Ok(Vec::new()) };
        let mut own = vec![proved.head.as_str().to_owned()];
        for text in shown.iter().take(MAX_COMPARED) {
            // A head that the keyset does not prove contradicts nothing.
            let Ok(theirs) = SignedHead::verify(text, &proved.keyset, &proved.head.head().aud) else {
                continue;
            };
            let Some(ours) = self.recent_deltas().head_of(theirs.head().version).cloned() else { continue };
            if !own.iter().any(|known| known == ours.as_str()) {
                own.push(ours.as_str().to_owned());
            }
            if ours.contradicts(&theirs) && self.store().keep_fork(&ours, &theirs, now)? {
                let what = format!(
                    "another node was shown another replica of version {}: both heads are kept (halligan replica forks)",
                    theirs.head().version
                );
                self.live.alarms.raise(AlarmKind::Fork, &what, now);
            }
        }
        Ok(own)
    }

    /// Puts the head and keyset of the store in force, with the records in memory and what `delta` changes of them. If these
    /// do not lead to the head, or the disk is in doubt, everything is read again.
    fn enforce(
        &self,
        store: &ReplicaStore,
        delta: Option<&(Head, Delta)>,
        now: Time,
    ) -> Result<(), StoreError> {
        let sound = self.live.on_disk().is_some();
        let Some((keyset, head)) = store.standing().ok().flatten().filter(|_| sound) else {
            return self.read_again(store, now);
        };
        let (before, staleness) = (self.live.snapshot().unreadable(), self.staleness());
        let mut followed = true;
        self.live.replace(|previous| {
            let next = match delta {
                Some(delta) => previous.after(delta, &keyset, &head, &staleness),
                None => previous.renewed(&keyset, &head, &staleness),
            };
            next.unwrap_or_else(|| {
                followed = false;
                previous.clone()
            })
        });
        if !followed {
            return self.read_again(store, now);
        }
        self.recent_deltas().keep_head(&head);
        self.live.written(head.head().version);
        self.live.alarm_unreadable(before.as_deref(), now);
        Ok(())
    }

    /// Verifies the whole disk and puts the result in force. Its cost grows with the records.
    fn read_again(&self, store: &ReplicaStore, now: Time) -> Result<(), StoreError> {
        match store.index() {
            Ok(Some(verified)) => {
                let version = verified.head.head().version;
                let before = self.live.snapshot().unreadable();
                self.recent_deltas().keep_head(&verified.head);
                self.live
                    .replace(|previous| Snapshot::from_verified(verified, self.staleness(), Some(previous)));
                self.live.persisted(version, now);
                self.live.alarm_unreadable(before.as_deref(), now);
                Ok(())
            }
            Ok(None) => {
                self.live.not_persisted();
                Ok(())
            }
            Err(dropped @ StoreError::Superseded(_)) => {
                // The key was removed, or the issuer replaced: the head no longer counts, and no other head grants access.
                self.live.not_persisted();
                self.live.replace(Snapshot::withdrawn);
                self.live.alarms.raise(AlarmKind::Refused, &dropped.to_string(), now);
                Ok(())
            }
            Err(damaged) => {
                // The replica in memory was verified and stays in force. The disk is filled again from a snapshot.
                self.live.not_persisted();
                let what = format!("{damaged}: what the disk holds is not what was written to it");
                self.live.alarms.raise(AlarmKind::ReplicaDamaged, &what, now);
                Err(damaged)
            }
        }
    }

    /// Begins to verify the records on the disk beside the work of the node, or returns `None` if there are none.
    pub fn begin_scrub(&self) -> Result<Option<Scrub>, StoreError> {
        self.store().scrub()
    }

    /// Ends a scrub. Returns false if the records are damaged: the replica in memory stays in force, and the next request asks
    /// for a snapshot.
    pub fn end_scrub(&self, holds: bool, now: Time) -> bool {
        if holds {
            self.live.proved_again(now);
            return true;
        }
        // Read once more under the lock: a snapshot may have replaced the records in the meantime.
        self.read_again(&self.store(), now).is_ok()
    }

    /// Verifies the content of the disk anew. Returns `None` if it holds no replica yet. Damage is alarmed, and repaired by
    /// the control plane's next answer.
    pub fn prove(&self, now: Time) -> Result<Option<VerifiedReplica>, StoreError> {
        let store = self.store();
        let found = match store.prove() {
            Err(damaged) if damaged.may_be_of_the_disk() => {
                self.read_again(&store, now)?;
                return Err(damaged);
            }
            found => found?,
        };
        Ok(found.map(|(keyset, head)| VerifiedReplica {
            version: head.head().version,
            signed_at: head.head().iat,
            keyset: keyset.version(),
            records: head.head().count,
            digest: BASE64URL.encode(head.head().digest),
        }))
    }

    /// Returns the records, verified anew.
    pub fn records(&self) -> Result<Vec<crate::protocol::record::Record>, StoreError> {
        Ok(self.store().load()?.map_or_else(Vec::new, |replica| replica.records))
    }

    fn recent_deltas(&self) -> MutexGuard<'_, RecentDeltas> {
        // It holds only copies, which a panic cannot damage.
        self.recent_deltas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the changes since version `since`, as the bundle in which they came, or `None` if they are no longer held.
    #[must_use]
    pub fn changes_since(&self, since: u64) -> Option<Arc<[u8]>> {
        self.recent_deltas().since(since)
    }

    /// Returns the replica as a bundle.
    pub fn export(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.store().export()
    }
}
