//! Exchange of revocations: revocations from other nodes, revocations for other nodes and the control plane, and the control
//! plane's answers.

use rusqlite::params;
use serde::Serialize;

use super::{LedgerError, Revocations, insert};
use crate::dataplane::node::alarm::AlarmKind;
use crate::protocol::id::TokenId;
use crate::protocol::reconciliation::{Outcome, RevocationAnswer};
use crate::protocol::revocation::SignedRevocation;
use crate::protocol::time::Time;

/// Counts of the revocations that another node passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ReceivedCounts {
    /// Number of new revocations, now in force.
    pub new: u64,
    /// Number of revocations that were held already.
    pub known: u64,
    /// Number of revocations that could not be verified.
    pub refused: u64,
}

/// Revocation with its number in this node's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Number of the revocation. Numbers rise, with gaps.
    pub number: u64,
    /// Revocation as a compact JWS.
    pub text: String,
}

impl Revocations {
    /// Verifies and stores revocations that another node passed on. A revocation that cannot be verified is counted as refused.
    pub fn receive<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t str>,
        now: Time,
    ) -> Result<ReceivedCounts, LedgerError> {
        let signers = self.live.snapshot().signers();
        let mut taken = ReceivedCounts::default();
        let mut ledger = self.lock();
        let transaction = ledger.connection.transaction()?;
        let mut new = Vec::new();
        for text in texts {
            let known =
                transaction.prepare_cached("SELECT 1 FROM revocation WHERE text = ?1")?.exists([text])?;
            if known {
                taken.known += 1;
                continue;
            }
            let admitted = SignedRevocation::admit(text, &signers)
                .map_err(LedgerError::from)
                .and_then(|signed| Ok((insert(&transaction, &signed, &signers, now)?, signed)));
            match admitted {
                Ok((true, signed)) => {
                    taken.new += 1;
                    new.push(signed);
                }
                Ok((false, _)) => taken.known += 1,
                Err(LedgerError::Database(error)) => return Err(error.into()),
                Err(refused) => {
                    taken.refused += 1;
                    if taken.refused == 1 {
                        let what = format!("another node passed on a revocation that is refused: {refused}");
                        self.live.alarms.raise(AlarmKind::Refused, &what, now);
                    }
                }
            }
        }
        transaction.commit()?;
        if !new.is_empty() {
            self.enforce(&mut ledger, new.iter().map(SignedRevocation::revocation));
        }
        drop(ledger);
        for signed in &new {
            let revocation = signed.revocation();
            tracing::warn!(token = %revocation.sub, node = %revocation.iss, operator = revocation.operator, reason = revocation.reason, "another node revoked a token");
        }
        if taken.new > 0 {
            self.changed.send_replace(());
        }
        Ok(taken)
    }

    /// Returns at most `limit` revocations after `number`.
    pub fn after(&self, number: u64, limit: usize) -> Result<Vec<Numbered>, LedgerError> {
        self.select("number > ?1", number, limit)
    }

    /// Returns at most `limit` revocations after `number` that the control plane has not answered.
    pub fn unanswered(&self, number: u64, limit: usize) -> Result<Vec<Numbered>, LedgerError> {
        self.select("number > ?1 AND answer IS NULL", number, limit)
    }

    fn select(&self, which: &str, number: u64, limit: usize) -> Result<Vec<Numbered>, LedgerError> {
        let ledger = self.lock();
        // Damaged rows are left out, because no receiver could verify them.
        let damaged: Vec<String> = ledger.damaged.keys().map(u64::to_string).collect();
        let query = format!(
            "SELECT number, text FROM revocation WHERE {which} AND number NOT IN ({}) ORDER BY number LIMIT ?2",
            damaged.join(", ")
        );
        let mut statement = ledger.connection.prepare_cached(&query)?;
        let rows = statement.query_map(params![number, limit], |row| {
            Ok(Numbered { number: row.get(0)?, text: row.get(1)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Stores the control plane's answers.
    pub fn answered(&self, answers: &[RevocationAnswer]) -> Result<(), LedgerError> {
        let mut ledger = self.lock();
        let transaction = ledger.connection.transaction()?;
        for answer in answers {
            transaction
                .prepare_cached("UPDATE revocation SET answer = ?3 WHERE node = ?1 AND token = ?2")?
                .execute([answer.node.as_str(), answer.token.as_str(), answer.outcome.as_str()])?;
        }
        Ok(transaction.commit()?)
    }

    /// Deletes the control plane's answers about `tokens`, so that their revocations are sent again. Returns their number.
    pub fn forget_answers<'a>(
        &self,
        tokens: impl Iterator<Item = &'a TokenId>,
    ) -> Result<usize, LedgerError> {
        let mut ledger = self.lock();
        let transaction = ledger.connection.transaction()?;
        let mut forgotten = 0;
        for token in tokens {
            let taken = [Outcome::Revoked.as_str(), Outcome::Already.as_str()];
            forgotten += transaction
                .prepare_cached(
                    "UPDATE revocation SET answer = NULL WHERE token = ?1 AND answer IN (?2, ?3)",
                )?
                .execute([token.as_str(), taken[0], taken[1]])?;
        }
        transaction.commit()?;
        Ok(forgotten)
    }
}
