//! Revocations made on hosts: verified, stored with their signed text, and applied to the tokens of their data plane.

use rusqlite::params;

use super::{outages, recorded};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::controlplane::webhook::announcements;
use crate::protocol::reconciliation::{Outcome, RevocationAnswer};
use crate::protocol::record::NodeRecord;
use crate::protocol::revocation::{RevocationError, SignedRevocation};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

impl ControlPlane {
    /// Processes revocations that a node sent: its own, and those of other nodes that it holds. A revocation that
    /// cannot be verified gets no result, so that it is sent again: this control plane may not know its node yet.
    pub fn take_revocations<'l>(
        &self,
        data_plane: &str,
        from: &str,
        lines: impl IntoIterator<Item = &'l str>,
    ) -> Result<Vec<RevocationAnswer>, Error> {
        let now = self.now();
        let (answers, rejected) = self.store.write(|transaction| {
            let signers = signers_of(transaction, data_plane)?;
            let mut answers = Vec::new();
            let mut rejected = Vec::new();
            for line in lines {
                let (signed, refused) = match SignedRevocation::admit(line, &signers) {
                    Ok(signed) => (signed, false),
                    Err(error @ RevocationError::Retired { .. }) => {
                        let signed = SignedRevocation::verify(line, &signers);
                        rejected.push(error);
                        (signed.map_err(|error| unproved(&error))?, true)
                    }
                    Err(error) => {
                        rejected.push(error);
                        continue;
                    }
                };
                let revocation = signed.revocation();
                let (node, token) = (revocation.iss.as_str(), revocation.sub.as_str());
                // A clock that runs ahead must not move the end of a token into the future.
                let at = revocation.iat.min(now);
                let known: Option<String> = transaction
                    .prepare_cached("SELECT outcome FROM local_revocation WHERE node = ?1 AND token = ?2")?
                    .query_map([node, token], |row| row.get(0))?
                    .next()
                    .transpose()?;
                let outcome = match known.as_deref().and_then(Outcome::parse) {
                    Some(outcome) => outcome,
                    None if refused => Outcome::Refused,
                    None => self.revoke_for_node(transaction, data_plane, token, at, node)?,
                };
                if known.is_none() {
                    let row = params![
                        node,
                        token,
                        data_plane,
                        at.unix(),
                        revocation.operator,
                        revocation.reason,
                        signed.as_str(),
                        outcome.as_str(),
                        from,
                        now.unix()
                    ];
                    let insert = "INSERT INTO local_revocation
                             (node, token, data_plane, revoked_at, operator, reason, text, outcome, received_from, received_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
                    transaction.execute(insert, row)?;
                    if outcome == Outcome::Revoked {
                        tracing::warn!(
                            token,
                            node,
                            operator = revocation.operator,
                            reason = revocation.reason,
                            "a token was revoked on a host"
                        );
                        self.note_uses_after(transaction, data_plane, token, at)?;
                    }
                }
                answers.push(RevocationAnswer {
                    node: revocation.iss.clone(),
                    token: revocation.sub.clone(),
                    outcome,
                });
            }
            Ok((answers, rejected))
        })?;
        // One line for all rejected revocations, because a node may send any number of them again and again.
        if let Some(error) = rejected.first() {
            tracing::warn!(from, %error, count = rejected.len(), "revocations from a node can't be verified, or are rejected");
        }
        Ok(answers)
    }

    /// Records late uses among the events that arrived before the revocation: those after the time it was made.
    fn note_uses_after(
        &self,
        transaction: &Transaction<'_>,
        data_plane: &str,
        token: &str,
        at: Time,
    ) -> Result<(), Error> {
        let late: Vec<(String, String)> = transaction
            .prepare_cached(
                "SELECT node, line FROM event WHERE token = ?1 AND time > ?2 AND decision = 'allow' ORDER BY time",
            )?
            .query_map(params![token, at.unix()], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (node, line) in &late {
            let Some(recorded) = recorded::use_of(line) else { continue };
            let outage = outages::id_at(transaction, node, recorded.used.time)?;
            let place = announcements::Place { data_plane, node, outage: outage.as_deref() };
            let end = recorded::end_of(transaction, &recorded.used)?;
            self.note_late_use(transaction, place, &recorded.used, end)?;
        }
        Ok(())
    }
}

fn unproved(error: &RevocationError) -> Error {
    Error::invalid("revocation", error.to_string())
}

/// Returns the nodes of a data plane, including retired ones.
fn signers_of(connection: &rusqlite::Connection, data_plane: &str) -> Result<Signers, Error> {
    let bodies: Vec<String> = connection
        .prepare_cached("SELECT body FROM record WHERE data_plane = ?1 AND kind = 'node'")?
        .query_map([data_plane], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let nodes: Vec<NodeRecord> = bodies.iter().filter_map(|body| serde_json::from_str(body).ok()).collect();
    Ok(nodes.iter().collect())
}
