//! Sessions on this host: seals and opens cookies, ends sessions, and counts failed sign-ins.
//!
//! Decisions read no list of sessions: the cookie and the replica suffice. Sessions that were ended before their time are
//! kept, in memory and in a file (`ended_file.rs` beside this). The register of those that this host has seen is for
//! operators only, and in memory only.

mod ended_file;
mod ending;
mod kept_tokens;
mod register;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use self::ended_file::EndedFile;
pub use self::ending::{Ender, Ending};
use self::kept_tokens::KeptTokens;
use self::register::Register;
pub use self::register::seen;
use super::rate::RateLimits;
use crate::api::host::session::SeenSession;
use crate::dataplane::decide::session::seal::{KEY_LENGTH, SealKeys, SealNonce};
use crate::dataplane::decide::session::{Durations, Session};
use crate::dataplane::decide::slots::Slots;
use crate::dataplane::node::state::Live;
use crate::platform::net::client::counted;
use crate::protocol::id::{SessionId, id_of_bits};
use crate::protocol::time::Time;

/// Number of opened cookies that are remembered, 2 KiB each. As in the cache of signatures, tests have fewer.
const SLOTS: usize = if cfg!(debug_assertions) { 64 } else { 1024 };
/// Failed sign-ins of one client in a minute. A minute's worth may come at once.
const FAILURES_PER_MINUTE: u32 = 10;

/// Opens and seals the cookies of sessions.
pub struct Sessions {
    keys: SealKeys,
    durations: Durations,
    opened: Slots<Session>,
    register: Register,
    kept_tokens: KeptTokens,
    /// Source of identifiers and nonces: random bits of this start, and a counter. It needs no randomness later.
    seed: Zeroizing<[u8; KEY_LENGTH]>,
    count: AtomicU64,
    failures: RateLimits<IpAddr>,
    live: Arc<Live>,
    ended_file: EndedFile,
    /// Held while the file is written, so that the last writer writes the newest state.
    ending: Mutex<()>,
}

impl Sessions {
    /// Returns the sessions of a host. Those that were ended before are read from a file in the state directory; if it is lost
    /// or damaged, every session that began until now has ended.
    pub fn new(
        keys: SealKeys,
        durations: Durations,
        live: &Arc<Live>,
        (state_dir, wall): (&Path, Time),
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let mut seed = Zeroizing::new([0; KEY_LENGTH]);
        rng.fill_bytes(&mut seed[..]);
        let ended_file = EndedFile::new(state_dir);
        let ended = ended_file.read(live, live.now(wall));
        live.change_local(|local| local.ended_sessions = ended);
        Self {
            keys,
            durations,
            opened: Slots::new(SLOTS),
            register: Register::default(),
            kept_tokens: KeptTokens::default(),
            seed,
            count: AtomicU64::new(0),
            failures: RateLimits::default(),
            live: Arc::clone(live),
            ended_file,
            ending: Mutex::default(),
        }
    }

    /// Returns how long sessions last.
    #[must_use]
    pub fn durations(&self) -> Durations {
        self.durations
    }

    /// Returns bytes that no other call returns, on this host or another.
    fn unique(&self, purpose: &[u8]) -> blake3::OutputReader {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        hasher.update(purpose);
        hasher.finalize_xof()
    }

    /// Returns the identifier of a new session.
    #[must_use]
    pub fn next_id(&self) -> Option<SessionId> {
        let mut bytes = [0; 16];
        self.unique(b"id").fill(&mut bytes);
        SessionId::new(id_of_bits("ses_", bytes)).ok()
    }

    /// Seals a session for a cookie.
    #[must_use]
    pub fn seal(&self, session: &Session) -> Option<String> {
        let mut nonce = SealNonce::default();
        self.unique(b"nonce").fill(&mut nonce);
        self.register.note(session);
        self.keys.seal(session, nonce)
    }

    /// Opens a cookie. The session may have ended: the decision checks that.
    #[must_use]
    pub fn open(&self, sealed: &[u8]) -> Option<Arc<Session>> {
        let slot = self.opened.slot_for(sealed);
        if let Some(session) = slot.get(sealed) {
            return Some(session);
        }
        let session = Arc::new(self.keys.open(sealed)?);
        slot.put(sealed, &session);
        self.register.note(&session);
        Some(session)
    }

    /// Seals a session anew whose idle time is to be counted from `now`.
    #[must_use]
    pub fn renew(&self, session: &Session, now: Time) -> Option<(Session, String)> {
        let renewed = session.renewed(now, self.durations)?;
        let sealed = self.seal(&renewed)?;
        Some((renewed, sealed))
    }

    /// Returns the sessions that this host has seen since its start and that have not ended at `now`.
    #[must_use]
    pub fn list(&self, now: Time) -> Vec<SeenSession> {
        let mut seen = self.register.unended(now);
        seen.retain(|session| !self.has_been_ended(&session.id, session.begun_at));
        seen
    }

    /// Returns true if a session has ended at `now`, or was ended on this host.
    #[must_use]
    pub fn is_over(&self, session: &Session, now: Time) -> bool {
        session.until() <= now || self.has_been_ended(session.id(), session.begun())
    }

    fn has_been_ended(&self, id: &SessionId, begun: Time) -> bool {
        self.live.snapshot().local().ended_sessions.holds(id, begun)
    }

    /// Returns a session, if this host has seen it since its start.
    #[must_use]
    pub fn seen(&self, id: &SessionId) -> Option<SeenSession> {
        self.register.get(id)
    }

    /// Keeps the token of a session for which the control plane has to be asked at each request. A direct-access token is not
    /// kept.
    pub fn keep_token(&self, session: &Session, token: &[u8]) {
        if session.standard_on().is_some() {
            self.kept_tokens.put(session, token);
        }
    }

    /// Returns the standard token of a session, if it signed in on this host since its start.
    #[must_use]
    pub fn kept_token(&self, id: &SessionId) -> Option<Arc<Zeroizing<Vec<u8>>>> {
        self.kept_tokens.get(id)
    }

    /// Ends a session on this host. It is in force at once, and after a restart if the file could be written.
    pub fn end(&self, id: &SessionId, begun: Time, wall: Time) -> std::io::Result<()> {
        self.kept_tokens.forget(id);
        let _ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = self.live.snapshot().local().ended_sessions.clone();
        ended.add(id, begun, self.live.now(wall).floor);
        self.live.change_local(|local| local.ended_sessions = ended.clone());
        self.ended_file.write(&ended)
    }

    /// Returns the time to wait if a client has failed to sign in too often. Clients that cannot be told apart count as one.
    pub fn may_try(&self, client: Option<IpAddr>) -> Result<(), Duration> {
        self.failures.check(&by(client), FAILURES_PER_MINUTE, Instant::now())
    }

    /// Counts a failed sign-in.
    pub fn failed(&self, client: Option<IpAddr>) {
        // A client that is over the limit fails no more: it may not try.
        let _ = self.failures.take_use(&by(client), FAILURES_PER_MINUTE, Instant::now());
    }
}

/// Returns the address by which failures are counted.
fn by(client: Option<IpAddr>) -> IpAddr {
    client.map_or(Ipv4Addr::UNSPECIFIED.into(), counted)
}
