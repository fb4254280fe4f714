//! The control plane: accounts, tokens, signing, publishing, its HTTP API and its database.
//!
//! Its methods are synchronous. Each is one SQLite transaction, which commits a change together with the replica's new
//! version and digest. The HTTP layer calls them on blocking threads.
//!
//! A module imports only modules further down in this table. The modules above [`ControlPlane`] add the methods of their
//! subjects to it; it holds types of those below it.
//!
//! | module | contents |
//! | --- | --- |
//! | [`server`], [`files`], [`open`] | the listeners: start and stop; the files that a start reads; the start on a database that exists |
//! | [`http`] | the HTTP API and its OpenAPI document |
//! | [`reconciliation`] | reports of nodes about an outage: events, uses of tokens, revocations |
//! | [`webhook`] | announcements of uses to an operator's endpoint |
//! | [`observe`], [`tokens`] | metrics, readiness, expiry dates; the life of a token |
//! | [`accounts`], [`nodes`] | organizations, workspaces, deployments, users, teams; data planes and their nodes |
//! | [`access`], [`config`] | roles, the operations that they allow, the audit log; the configuration file |
//! | [`retention`] | deletion of old rows |
//! | [`code`] | deploys of deployments' code: which one is in force, which archives are deleted |
//! | [`calls`], [`names`], [`feed`], [`claim`] | parts that calls share; names; the feed by which nodes follow their replica; the issuer and keys that it signs with |
//! | [`ControlPlane`] | the control plane itself: its database, keys, clock and state in memory |
//! | [`replica`], [`signing`] | versions of each replica, and the answers that the feed keeps; signing keys |
//! | [`memory`], [`archives`] | state in memory, which a restart loses; the object store of deployments' code |
//! | [`store`] | the database |
//! | [`error`] | errors of calls |

pub mod access;
pub mod accounts;
pub mod archives;
pub mod calls;
pub mod claim;
pub mod code;
pub mod config;
pub mod error;
pub mod feed;
pub mod files;
pub mod http;
pub mod memory;
pub mod names;
pub mod nodes;
pub mod observe;
pub mod open;
pub mod reconciliation;
pub mod replica;
pub mod retention;
pub mod server;
pub mod signing;
pub mod store;
#[cfg(test)]
mod test_world;
pub mod tokens;
pub mod webhook;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rand_core::CryptoRng;
use tokio::sync::Semaphore;

use self::archives::Archives;
use self::memory::ahead::Ahead;
use self::memory::bookkeeping::Bookkeeping;
use self::memory::complaints::Complaints;
use self::memory::holders::Holders;
use self::memory::instances::Instances;
use self::memory::metrics::Metrics;
use self::memory::probe::Probe;
use self::memory::renamings::Renamings;
use self::memory::uploads::Uploads;
use self::memory::used_proofs::UsedProofs;
use self::replica::delta::Deltas;
use self::replica::spool::Spool;
use self::signing::Signing;
use self::signing::environment_key::EnvironmentKey;
use self::store::Store;
use crate::platform::clock::Clock;
use crate::protocol::ends::End;
use crate::protocol::id::{random_id, random_plain_id};
use crate::protocol::time::Time;

/// Archives that are read at a time. Each keeps one processor busy.
const INSPECTED: usize = 2;

/// Control plane with its database, keys and clock.
pub struct ControlPlane {
    store: Store,
    signing: RwLock<Arc<Signing>>,
    environment_key: EnvironmentKey,
    archives: Archives,
    /// Limits the archives that are read at a time.
    inspecting: Semaphore,
    uploads: Uploads,
    spool: Spool,
    deltas: Deltas,
    issuer: String,
    clock: Clock,
    rng: Mutex<Box<dyn CryptoRng + Send>>,
    /// True if uses of direct-access tokens are queued for a webhook.
    announces: bool,
    metrics: Metrics,
    instances: Instances,
    renamings: Renamings,
    complaints: Complaints,
    ahead: Ahead,
    bookkeeping: Bookkeeping,
    probe: Probe,
    used_proofs: UsedProofs,
    holders: Holders,
    /// Expiry of the listener's certificate.
    certificate: Mutex<Option<End>>,
}

impl ControlPlane {
    /// Creates a control plane. `issuer` is its public URL, which is the claim `iss` of everything it signs.
    #[must_use]
    pub fn new(
        store: Store,
        signing: Signing,
        issuer: String,
        clock: Clock,
        rng: Box<dyn CryptoRng + Send>,
    ) -> Self {
        let environment_key = EnvironmentKey::beside(signing.directory());
        let archives = Archives::beside(signing.directory());
        let signing = RwLock::new(Arc::new(signing));
        let spool = Spool::default();
        let (bookkeeping, probe) = (Bookkeeping::default(), Probe::default());
        let (metrics, instances, ahead) =
            (Metrics::new(&bookkeeping), Instances::default(), Ahead::default());
        let rng = Mutex::new(rng);
        Self {
            store,
            signing,
            environment_key,
            archives,
            inspecting: Semaphore::new(INSPECTED),
            uploads: Uploads::default(),
            spool,
            deltas: Deltas::default(),
            issuer,
            clock,
            rng,
            announces: false,
            metrics,
            instances,
            renamings: Renamings::default(),
            complaints: Complaints::default(),
            ahead,
            bookkeeping,
            probe,
            used_proofs: UsedProofs::default(),
            holders: Holders::default(),
            certificate: Mutex::default(),
        }
    }

    /// Queues announcements from now on, for a webhook to deliver them.
    #[must_use]
    pub fn announcing(mut self) -> Self {
        self.announces = true;
        self
    }

    /// Returns the number of lines that were left out about a fault of the control plane itself, or `None` if a line about it
    /// is not due yet.
    fn complaint_due(&self, fault: &'static str) -> Option<u64> {
        self.complaints.due("", fault, self.now())
    }

    /// Keeps archives of deployments' code in another place than the directory `deploys` beside the signing keys.
    #[must_use]
    pub fn keeping_code_in(mut self, archives: Archives) -> Self {
        self.archives = archives;
        self
    }

    /// Returns its public URL.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the signing keys and the keysets that vouch for them.
    fn signing(&self) -> Arc<Signing> {
        Arc::clone(&self.signing.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> Time {
        (self.clock)()
    }

    /// Returns a new id in the form that the platform's clients expect.
    fn new_id(&self) -> String {
        random_plain_id(&mut **self.random())
    }

    /// Returns a new id with a prefix, for objects that the platform does not have.
    fn new_id_of(&self, prefix: &str) -> String {
        random_id(prefix, &mut **self.random())
    }

    /// Returns a random number.
    fn luck(&self) -> u32 {
        self.random().next_u32()
    }

    /// Returns the source of randomness.
    fn random(&self) -> MutexGuard<'_, Box<dyn CryptoRng + Send>> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
