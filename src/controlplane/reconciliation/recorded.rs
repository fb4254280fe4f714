//! Lines of the nodes' audit logs, as this control plane reads them: the use of a token that a line records, and the end
//! of that token.

use base64::Engine as _;
use rusqlite::{Connection, OptionalExtension as _};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::controlplane::error::Error;
use crate::protocol::id::{NodeId, TokenId};
use crate::protocol::json::object;
use crate::protocol::jws::BASE64URL;
use crate::protocol::outage::{End, Ended, Use};
use crate::protocol::time::Time;

/// Members of an event that are read here. The line may have more: the log of a newer node is stored unchanged.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) sequence: u64,
    #[serde(deserialize_with = "hash")]
    pub(super) prev: String,
    pub(super) id: String,
    pub(super) time: Time,
    pub(super) node: NodeId,
    pub(super) kind: String,
    pub(super) decision: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) token: Option<TokenId>,
    pub(super) generation: Option<u32>,
    pub(super) deployment: Option<String>,
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) client: Option<String>,
    pub(super) connectivity: String,
}

/// Reads the hash of a line: 32 bytes in base64url.
fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match BASE64URL.decode(&text) {
        Ok(bytes) if bytes.len() == 32 => Ok(text),
        _ => Err(D::Error::custom("not the hash of a line")),
    }
}

/// Use of a token, with the connection state of the node at that time.
pub(super) struct Recorded {
    pub(super) used: Use,
    pub(super) online: bool,
}

impl Line {
    /// Returns the token if the line records an allowed decision about one.
    pub(super) fn used_token(&self) -> Option<&TokenId> {
        let allowed = self.kind == "decision" && self.decision.as_deref() == Some("allow");
        self.token.as_ref().filter(|_| allowed)
    }

    /// Returns true if the node was in contact with a control plane.
    pub(super) fn online(&self) -> bool {
        self.connectivity == "online"
    }

    /// Returns the use of a token that the line records.
    pub(super) fn recorded_use(&self) -> Option<Use> {
        Some(Use {
            time: self.time,
            event_id: self.id.clone(),
            token_id: self.used_token()?.clone(),
            generation: self.generation.unwrap_or(0),
            deployment_id: self.deployment.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            client: self.client.clone(),
        })
    }
}

/// Parses the use of a token from the line of an allowed decision.
pub(super) fn use_of(line: &str) -> Option<Recorded> {
    let line: Line = object(line.as_bytes()).ok()?;
    Some(Recorded { used: line.recorded_use()?, online: line.online() })
}

/// Ends of a token's generations, as far as this control plane knows them.
pub(super) struct Ends {
    generation: u32,
    revoked: Option<End>,
    /// End of every generation before the current one. Only the time of the last rotation is stored: an older value ended
    /// then at the latest.
    rotated: Option<End>,
}

impl Ends {
    pub(super) fn read(connection: &Connection, token: &TokenId) -> Result<Option<Self>, Error> {
        let end = |how| move |at| End { at: Time::from_unix(at), how };
        let found = connection
            .prepare_cached("SELECT generation, deleted_at, last_rotated_at FROM token WHERE id = ?1")?
            .query_row([token.as_str()], |row| {
                Ok(Self {
                    generation: row.get(0)?,
                    revoked: row.get::<_, Option<i64>>(1)?.map(end(Ended::Revoked)),
                    rotated: row.get::<_, Option<i64>>(2)?.map(end(Ended::Rotated)),
                })
            })
            .optional()?;
        Ok(found)
    }

    /// Returns the end of a generation.
    pub(super) fn of_generation(&self, generation: u32) -> Option<End> {
        let rotated = self.rotated.filter(|_| generation < self.generation);
        self.revoked.into_iter().chain(rotated).min_by_key(|end| end.at)
    }
}

/// Returns the end of the used generation of a token, as far as this control plane knows it.
pub(super) fn end_of(connection: &Connection, used: &Use) -> Result<Option<End>, Error> {
    Ok(Ends::read(connection, &used.token_id)?.and_then(|ends| ends.of_generation(used.generation)))
}
