//! Lines of the nodes' audit logs, as this control plane reads them: which use of a token a line records, and whether
//! that token had ended.

use base64::Engine as _;
use rusqlite::OptionalExtension as _;
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

/// Parses the use of a token from the line of an allowed decision.
pub(super) fn use_of(line: &str) -> Option<Recorded> {
    let line: Line = object(line.as_bytes()).ok()?;
    let allowed = line.kind == "decision" && line.decision.as_deref() == Some("allow");
    let (token_id, true) = (line.token?, allowed) else { return None };
    let used = Use {
        time: line.time,
        event_id: line.id,
        token_id,
        generation: line.generation.unwrap_or(0),
        deployment_id: line.deployment,
        method: line.method,
        path: line.path,
        client: line.client,
    };
    Some(Recorded { used, online: line.connectivity == "online" })
}

/// Returns the end of the used generation of a token, as far as this control plane knows it.
pub(super) fn end_of(connection: &rusqlite::Connection, used: &Use) -> Result<Option<End>, Error> {
    let found = connection
        .prepare_cached("SELECT generation, deleted_at, last_rotated_at FROM token WHERE id = ?1")?
        .query_row([used.token_id.as_str()], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?))
        })
        .optional()?;
    let Some((generation, deleted_at, rotated_at)) = found else { return Ok(None) };
    let end = |how| move |at| End { at: Time::from_unix(at), how };
    let revoked = deleted_at.map(end(Ended::Revoked));
    // Only the time of the last rotation is stored. An older value ended then at the latest.
    let rotated = rotated_at.filter(|_| used.generation < generation).map(end(Ended::Rotated));
    Ok(revoked.into_iter().chain(rotated).min_by_key(|end| end.at))
}
