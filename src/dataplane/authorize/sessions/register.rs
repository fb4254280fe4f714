//! Sessions that this host has seen since its start, for operators who look for one to end. No decision reads them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::api::host::session::SeenSession;
use crate::dataplane::decide::session::Session;
use crate::protocol::id::{DeploymentId, SessionId};
use crate::protocol::time::Time;

/// Maximum number of sessions in the register, about 300 bytes each. Beyond it, the one that would end first is forgotten.
const MAX_SEEN: usize = 10_000;

/// Returns what an operator is shown of a session.
#[must_use]
pub fn seen(session: &Session) -> SeenSession {
    let claims = session.claims();
    SeenSession {
        id: session.id().clone(),
        token_id: claims.sub.clone(),
        generation: claims.generation,
        deployment_id: session.standard_on().cloned().or_else(|| DeploymentId::new(&claims.aud).ok()),
        begun_at: session.begun(),
        until: session.until(),
        ends_at: session.ends(),
    }
}

/// Sessions that this host has sealed or opened.
#[derive(Debug, Default)]
pub(super) struct Register(Mutex<BTreeMap<SessionId, SeenSession>>);

impl Register {
    /// Notes a session that was sealed or opened. An older cookie of a session that is noted already changes nothing.
    pub(super) fn note(&self, session: &Session) {
        let seen = seen(session);
        let mut register = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if register.get(&seen.id).is_some_and(|known| known.until >= seen.until) {
            return;
        }
        register.insert(seen.id.clone(), seen);
        if register.len() > MAX_SEEN {
            let first = register.values().min_by_key(|seen| seen.until).map(|seen| seen.id.clone());
            first.and_then(|first| register.remove(&first));
        }
    }

    /// Returns a session.
    pub(super) fn get(&self, id: &SessionId) -> Option<SeenSession> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Returns the sessions that have not ended by `now`, and forgets the others.
    pub(super) fn unended(&self, now: Time) -> Vec<SeenSession> {
        let mut register = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        register.retain(|_, seen| seen.until > now);
        register.values().cloned().collect()
    }
}
