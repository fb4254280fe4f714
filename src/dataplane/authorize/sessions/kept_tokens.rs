//! Standard tokens of sessions. A cookie holds no token, and the control plane answers only about tokens. So the host that
//! a person signed in to keeps the token, in its memory only: a restart ends such a session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::dataplane::decide::session::Session;
use crate::protocol::id::SessionId;
use crate::protocol::time::Time;

/// Maximum number of tokens, at most 4 KiB each. Beyond it, the session that would end first is forgotten.
const MAX_KEPT: usize = 1000;

struct Kept {
    token: Arc<Zeroizing<Vec<u8>>>,
    ends: Time,
}

/// Tokens by the session that they signed in.
#[derive(Default)]
pub(super) struct KeptTokens(Mutex<BTreeMap<SessionId, Kept>>);

impl KeptTokens {
    /// Keeps the token of a session that begins, and forgets those of sessions that ended before.
    pub(super) fn put(&self, session: &Session, token: &[u8]) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, kept| kept.ends > session.begun());
        let token = Arc::new(Zeroizing::new(token.to_vec()));
        tokens.insert(session.id().clone(), Kept { token, ends: session.ends() });
        if tokens.len() > MAX_KEPT {
            let first = tokens.iter().min_by_key(|(_, kept)| kept.ends).map(|(id, _)| id.clone());
            first.and_then(|first| tokens.remove(&first));
        }
    }

    /// Returns the token of a session.
    pub(super) fn get(&self, id: &SessionId) -> Option<Arc<Zeroizing<Vec<u8>>>> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(id).map(|kept| Arc::clone(&kept.token))
    }

    /// Forgets the token of a session that was ended.
    pub(super) fn forget(&self, id: &SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
