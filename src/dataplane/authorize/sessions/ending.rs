//! Ends sessions before their time: for an operator of this host, or for the person who signs out.

use std::net::IpAddr;
use std::sync::Arc;

use super::Sessions;
use crate::api::host::session::SeenSession;
use crate::dataplane::authorize::Authorizer;
use crate::protocol::event::{Draft, EventId, EventKind};
use crate::protocol::id::SessionId;

/// Party that ends a session.
#[derive(Clone, Copy, Debug)]
pub enum Ender<'e> {
    /// Operator of this host, by the kernel's credentials.
    Operator(&'e str),
    /// Person who signs out, by the address of the client.
    Person(Option<IpAddr>),
}

/// End of a session, which is in force.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// True if the end is on the disk. Otherwise a restart ends every session.
    pub written: bool,
    /// Identifier of the event, or `None` if it could not be recorded.
    pub event: Option<EventId>,
}

impl Authorizer {
    /// Ends a session on this host, and records it with what is `seen` of it. Access ends before the event is recorded, so
    /// that a full log cannot delay it. A session that this host has not seen is ended too: its cookie may still arrive.
    pub async fn end_session(
        &self,
        sessions: &Arc<Sessions>,
        id: &SessionId,
        seen: Option<&SeenSession>,
        by: Ender<'_>,
    ) -> Ending {
        let now = (self.clock)();
        let begun = seen.map_or(self.live.now(now).effective(), |seen| seen.begun_at);
        let (held, ended) = (Arc::clone(sessions), id.clone());
        let written = match tokio::task::spawn_blocking(move || held.end(&ended, begun, now)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, session = %id, "an ended session could not be written down; a restart ends every session");
                false
            }
            Err(error) => {
                tracing::warn!(%error, session = %id, "a session could not be ended");
                false
            }
        };
        let event = self.audit.next_id();
        let (operator, client, because) = match by {
            Ender::Operator(operator) => (Some(operator), None, "ended by an operator"),
            Ender::Person(client) => (None, client, "signed out"),
        };
        let draft = Draft {
            token: seen.map(|seen| &seen.token_id),
            generation: seen.map(|seen| seen.generation),
            session: Some(id),
            deployment: seen.and_then(|seen| seen.deployment_id.as_ref()),
            client,
            operator,
            because: Some(because),
            ..Draft::new(EventKind::SessionEnded, &event, now, &self.node, self.live.connectivity())
        };
        let recorded = self.audit.record_durably(&draft).await.is_ok();
        Ending { written, event: recorded.then_some(event) }
    }
}
