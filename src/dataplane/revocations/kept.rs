//! Reads the stored revocations. Each was verified before it was written, so none is rejected when it is read: a revocation that
//! no longer verifies stays in force, with an alarm. A row whose token cannot be read stops the start.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use crate::protocol::id::{NodeId, TokenId};
use crate::protocol::key::{Jwk, PublicKey};
use crate::protocol::record::NodeRecord;
use crate::protocol::revocation::{Revocation, SignedRevocation};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

/// Revocations as the database holds them.
#[derive(Default)]
pub(super) struct Kept {
    /// Revoked tokens, each with the earliest time.
    pub(super) ended: BTreeMap<TokenId, Time>,
    /// Rows whose content was changed, by number.
    pub(super) damaged: BTreeMap<u64, Damage>,
    /// Numbers of the rows whose token cannot be read.
    pub(super) unreadable: Vec<u64>,
    /// Rows that an older build wrote without the verifying key, and that key.
    unkeyed: Vec<(u64, String)>,
}

/// Row whose content was changed, and the tokens that it denies for that reason.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    pub(super) tokens: Vec<TokenId>,
}

/// Row as stored. A column that cannot be read is `None`.
struct Found {
    number: u64,
    node: Option<NodeId>,
    token: Option<TokenId>,
    text: Option<String>,
    key: Option<String>,
    taken_at: Time,
}

/// Result of checking a row's text.
enum Worth {
    /// The signature holds; or no key is known, and the claims agree with the other columns.
    Sound(Revocation),
    Damaged(Option<Revocation>),
}

impl Kept {
    /// Reads all rows. `own` and `signers` verify rows that were stored without a key.
    pub(super) fn read(connection: &Connection, own: &Signers, signers: &Signers) -> rusqlite::Result<Self> {
        let mut kept = Self::default();
        let mut statement = connection
            .prepare("SELECT number, node, token, text, key, taken_at FROM revocation ORDER BY number")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            kept.add(&Found::read(row)?, own, signers);
        }
        Ok(kept)
    }

    fn add(&mut self, found: &Found, own: &Signers, signers: &Signers) {
        let number = found.number;
        match found.worth(own, signers) {
            Worth::Sound(revocation) => {
                if found.key.is_none()
                    && let Some(key) = [own, signers].iter().find_map(|known| known.get(&revocation.iss))
                {
                    self.unkeyed.push((number, written(&key.key)));
                }
                self.end(revocation.sub, revocation.iat);
            }
            Worth::Damaged(claimed) => {
                let (at, claimed) = claimed.map_or((found.taken_at, None), |claimed| {
                    (claimed.iat.min(found.taken_at), Some(claimed.sub))
                });
                let mut tokens: Vec<TokenId> = found.token.iter().cloned().chain(claimed).collect();
                tokens.dedup();
                if tokens.is_empty() {
                    self.unreadable.push(number);
                    return;
                }
                for token in &tokens {
                    self.end(token.clone(), at);
                }
                self.damaged.insert(number, Damage { tokens });
            }
        }
    }

    fn end(&mut self, token: TokenId, at: Time) {
        let end = self.ended.entry(token).or_insert(at);
        *end = (*end).min(at);
    }

    /// Stores the verifying keys of rows that an older build wrote, so that later checks do not depend on the replica.
    pub(super) fn write_keys(&self, connection: &Connection) -> rusqlite::Result<()> {
        for (number, key) in &self.unkeyed {
            connection
                .prepare_cached("UPDATE revocation SET key = ?2 WHERE number = ?1")?
                .execute(params![number, key])?;
        }
        Ok(())
    }
}

impl Found {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let text = |index| -> rusqlite::Result<Option<String>> {
            Ok(row.get_ref(index)?.as_str().ok().map(str::to_owned))
        };
        Ok(Self {
            number: row.get(0)?,
            node: text(1)?.and_then(|node| NodeId::new(node).ok()),
            token: text(2)?.and_then(|token| TokenId::new(token).ok()),
            text: text(3)?,
            key: text(4)?,
            taken_at: Time::from_unix(row.get_ref(5)?.as_i64().unwrap_or(0)),
        })
    }

    fn worth(&self, own: &Signers, signers: &Signers) -> Worth {
        let Some(text) = &self.text else { return Worth::Damaged(None) };
        let claimed = Revocation::claimed(text);
        let agrees = |revocation: &Revocation| {
            self.node.as_ref() == Some(&revocation.iss) && self.token.as_ref() == Some(&revocation.sub)
        };
        let proved = match (&self.key, &self.node) {
            (Some(key), Some(node)) => {
                prover(node, key).and_then(|by| SignedRevocation::verify(text, &by).ok())
            }
            _ => [own, signers].iter().find_map(|by| SignedRevocation::verify(text, by).ok()),
        };
        match (proved, claimed) {
            (Some(proved), _) if agrees(proved.revocation()) => Worth::Sound(proved.revocation().clone()),
            // An older build verified the revocation and stored no key. The replica may lack the node by now.
            (None, Some(claimed))
                if self.key.is_none() && agrees(&claimed) && unknown(&claimed, own, signers) =>
            {
                Worth::Sound(claimed)
            }
            (_, claimed) => Worth::Damaged(claimed),
        }
    }
}

fn unknown(claimed: &Revocation, own: &Signers, signers: &Signers) -> bool {
    [own, signers].iter().all(|known| known.get(&claimed.iss).is_none())
}

/// Returns a key as a row stores it.
pub(super) fn written(key: &PublicKey) -> String {
    serde_json::to_string(&key.jwk()).unwrap_or_default()
}

/// Returns the signers that verify a row with a stored key.
fn prover(node: &NodeId, key: &str) -> Option<Signers> {
    let key: Jwk = serde_json::from_str(key).ok()?;
    let record = NodeRecord { id: node.clone(), name: String::new(), key, retired_at: None };
    Some([&record].into_iter().collect())
}
