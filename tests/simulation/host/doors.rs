//! Other ways into a deployment on a host: browser sessions, and glass that an operator broke.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use halligan::dataplane::authorize::sessions::Sessions;
use halligan::dataplane::decide::glass::Broken;
use halligan::dataplane::decide::session::seal::SealKeys;
use halligan::dataplane::decide::session::{Durations, Initiator, Session};
use halligan::dataplane::decide::{Credential, Decision, RequestFacts, Target, decide_introspected, sign_in};
use halligan::dataplane::glass::{Glass, GlassError};
use halligan::dataplane::node::identity::Absent;
use halligan::dataplane::node::schema::Unfit;
use halligan::dataplane::node::session_key::{make_session_key, read_session_keys};
use halligan::dataplane::node::state::Live;
use halligan::protocol::time::Time;
use rand::rngs::StdRng;

use super::{Host, begin_anew, text};
use crate::network::Millis;

const DURATIONS: Durations = Durations { max: 8 * 3600, idle: 3600 };
/// Maximum time for which glass may stay broken, in seconds.
pub const LONGEST_BREAK: i64 = 86_400;

fn facts<'f>(deployment: &'f str, uri: &'f str) -> RequestFacts<'f> {
    RequestFacts { deployment: Target::Id(deployment), method: "POST", uri, client: None }
}

/// Opens the sessions like `sessions` in `dataplane/daemon/mod.rs`.
pub(super) fn open_sessions(
    directory: &Path,
    live: &Arc<Live>,
    wall: Time,
    random: &mut StdRng,
) -> Result<Sessions, String> {
    let path = directory.join("session.key");
    let keys = match read_session_keys(&path, Absent::Make).map_err(text)? {
        Some(keys) => keys,
        None => vec![make_session_key(&path, random).map_err(text)?],
    };
    let keys = SealKeys::new(&keys).ok_or("no key")?;
    Ok(Sessions::new(keys, DURATIONS, live, (directory, wall), random))
}

/// Opens the glass database like `open_glass_task` in `dataplane/daemon/databases.rs`. A lost database is made anew,
/// without any break.
pub(super) fn open_glass(directory: &Path, live: &Arc<Live>, wall: Time) -> Result<Glass, String> {
    let path = directory.join("glass.db");
    let open = || Glass::open(&path, Arc::clone(live), LONGEST_BREAK, live.now(wall));
    open().or_else(|error| {
        if matches!(error, GlassError::Unfit(Unfit::Newer(_))) {
            return Err(error.to_string());
        }
        begin_anew(&path, wall)?;
        open().map_err(text)
    })
}

impl Host {
    /// Signs a browser in with a token. Returns the cookie, and the time at which it ends.
    pub fn sign_in(
        &mut self,
        token: &str,
        deployment: &str,
        now: Millis,
        wall: Time,
    ) -> Option<(String, Time)> {
        let process = self.process.as_mut()?;
        process.look(now, wall);
        let wanted = (process.sessions.next_id()?, process.sessions.durations());
        let facts = facts(deployment, "/.halligan/sign-in");
        let (snapshot, at) = (process.live.snapshot(), process.live.now(wall));
        let session = sign_in(token.as_bytes(), None, wanted, &facts, &snapshot, at).1?;
        Some((process.sessions.seal(&session)?, session.ends()))
    }

    fn session(&self, cookie: &str) -> Option<Arc<Session>> {
        self.process.as_ref()?.sessions.open(cookie.as_bytes())
    }

    /// Signs a cookie out. Returns false if the host cannot open the cookie.
    pub fn sign_out(&mut self, cookie: &str, wall: Time) -> bool {
        let (Some(session), Some(process)) = (self.session(cookie), &self.process) else { return false };
        // The sign-out is in force even if it cannot be written.
        let _ = process.sessions.end(session.id(), session.begun(), wall);
        true
    }

    /// Decides a request with a cookie.
    pub fn ask_by_cookie(
        &mut self,
        cookie: &str,
        deployment: &str,
        now: Millis,
        wall: Time,
    ) -> Option<Decision> {
        self.process.as_mut()?.look(now, wall);
        let (session, process) = (self.session(cookie), self.process.as_ref()?);
        let credential =
            session.as_deref().map(|session| Credential::Session(session, Initiator::SameOrigin));
        let (snapshot, at) = (process.live.snapshot(), process.live.now(wall));
        let facts = facts(deployment, "/api/v2/dags/etl/dagRuns");
        Some(decide_introspected(credential, None, &facts, &snapshot, at))
    }

    /// Breaks the glass of a deployment, as an operator. Returns the end of the break, or `None` if the glass stays sealed.
    pub fn break_glass(&mut self, deployment: &str, seconds: i64, now: Millis, wall: Time) -> Option<Time> {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let process = self.process.as_mut()?;
        process.look(now, wall);
        let now = process.live.now(wall);
        let deployment = process.glass.check(deployment, "a drill", seconds, now).ok()?;
        let (broken_at, until) = (now.effective(), now.effective().plus(seconds));
        let broken = Broken { operator: "uid 0".into(), reason: "a drill".into(), broken_at, until };
        process.glass.break_glass(&deployment, &broken).ok()?;
        Some(until)
    }

    /// Seals the glass of a deployment, as an operator. Returns true if it was broken.
    pub fn seal_glass(&mut self, deployment: &str) -> bool {
        let Some(process) = &self.process else { return false };
        deployment.parse().is_ok_and(|id| process.glass.seal(&id, "uid 0").is_ok())
    }
}
