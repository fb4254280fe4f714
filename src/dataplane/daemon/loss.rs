//! Accepted loss: after the revocations of a host are lost, the daemon starts only if an operator accepts the loss, which
//! is recorded.
//!
//! The acceptance is a file in the state directory, written while the daemon does not run. A start that finds revocations lost uses
//! it: it records the operator and the reason, reads the rest of the revocations, and signs every revocation in the audit log anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::StartError;
use crate::dataplane::audit::{AuditLog, AuditUnavailable};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::inventory::{ACCEPTED_LOSS, AUDIT, REVOCATIONS};
use crate::dataplane::node::state::Live;
use crate::dataplane::revocations::{LedgerError, Order, Revocations};
use crate::dataplane::uplink::outage::OutageError;
use crate::dataplane::uplink::reconcile::revocations_told;
use crate::platform::clock::Clock;
use crate::platform::private_file::write_private;
use crate::platform::state_directory::{self, StateError, own_uid};
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::revocation::{RevocationError, check_reason};
use crate::protocol::time::Time;

/// Reasons why a loss cannot be accepted.
#[derive(Debug, Error)]
pub enum LossError {
    /// The loss of this database needs no acceptance.
    #[error(
        "only the loss of {REVOCATIONS} has to be accepted, not that of {0}; every other database is begun anew by itself"
    )]
    Database(String),
    /// A process holds the state directory: a daemon that runs has its revocations, and an acceptance would cover a later loss.
    #[error(
        "process {holder} works on {path}; a loss is accepted only after a start that refused because of it: stop the daemon \
         (systemctl stop halligand.socket halligand-admin.socket halligand)"
    )]
    Held {
        /// Path of the state directory.
        path: PathBuf,
        /// Process, as it described itself in the lock file.
        holder: String,
    },
    /// The lock of the state directory cannot be checked.
    #[error(transparent)]
    Directory(#[from] StateError),
    /// The reason breaks the rules of [`crate::protocol::revocation::check_reason`].
    #[error(transparent)]
    Reason(#[from] RevocationError),
    /// The file cannot be read or written.
    #[error("{path} can't be used: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// The audit log cannot take the event, so nothing is accepted.
    #[error("the loss that was accepted can't be recorded: {0}")]
    Unrecorded(#[from] AuditUnavailable),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    database: String,
    operator: String,
    reason: String,
    at: Time,
}

/// Writes an operator's acceptance of the loss of a database into the state directory. The next start uses it.
pub fn accept_loss(state: &Path, database: &str, reason: &str, now: Time) -> Result<(), LossError> {
    if database != REVOCATIONS {
        return Err(LossError::Database(database.to_owned()));
    }
    check_reason(reason)?;
    if let Some(holder) = state_directory::holder(state)? {
        return Err(LossError::Held { path: state.to_owned(), holder });
    }
    let path = state.join(ACCEPTED_LOSS);
    let failed = |source| LossError::File { path: path.clone(), source };
    let operator = format!("uid {}", own_uid().map_err(failed)?);
    let accepted = Accepted { database: database.to_owned(), operator, reason: reason.to_owned(), at: now };
    let text = serde_json::to_vec(&accepted).map_err(|error| failed(error.into()))?;
    write_private(&path, &text).map_err(failed)
}

/// Continues the start after `lost`, if an operator accepted the loss.
pub(super) async fn go_on_after(
    lost: LedgerError,
    state: &Path,
    audit: &AuditLog,
    (prover, live, clock): (&Arc<Prover>, &Arc<Live>, &Clock),
) -> Result<(), StartError> {
    let path = state.join(ACCEPTED_LOSS);
    let failed = |source| LossError::File { path: path.clone(), source };
    let accepted: Accepted = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.into()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(OutageError::from(lost).into());
        }
        Err(source) => return Err(failed(source).into()),
    };
    let (id, now, node) = (audit.next_id(), clock(), &prover.identity.node_id);
    let draft = Draft {
        operator: Some(&accepted.operator),
        because: Some(&accepted.reason),
        ..Draft::new(EventKind::LossAccepted, &id, now, node, live.connectivity())
    };
    audit.record_durably(&draft).await.map_err(LossError::from)?;
    let told = revocations_told(&state.join(AUDIT))?;
    let revocations = Revocations::open_after_loss(&state.join(REVOCATIONS), live, prover, now)
        .map_err(OutageError::from)?;
    let mut signed = 0;
    for event in told {
        let Some(token) = event.token.filter(|token| !live.snapshot().local().revoked.contains_key(token))
        else {
            continue;
        };
        let reason = event.because.unwrap_or_else(|| accepted.reason.clone());
        let operator = event.operator.unwrap_or_else(|| accepted.operator.clone());
        revocations.revoke(&Order { token, reason, operator }, now).map_err(OutageError::from)?;
        signed += 1;
    }
    let what = format!(
        "{lost}: {} accepted the loss at {} ({}); {signed} revocations that the audit log tells of were signed anew, and \
         others may be gone",
        accepted.operator,
        accepted.at.rfc3339(),
        accepted.reason
    );
    live.alarms.raise(AlarmKind::Damaged, &what, now);
    // Removed last: while the file exists, the next start reads the audit log again, whatever the inventory counts.
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(())
}

/// Removes an acceptance that was not needed: it must not cover a later loss.
pub(super) fn withdraw(state: &Path) {
    let path = state.join(ACCEPTED_LOSS);
    if path.exists() {
        tracing::warn!(path = %path.display(), "a loss was accepted, and nothing is lost; the file is removed");
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::error!(path = %path.display(), %error, "the file can't be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::nodes::{key, prover};
    use crate::world::{T0, World};

    #[tokio::test]
    async fn no_loss_is_accepted_if_the_event_cant_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        accept_loss(state, REVOCATIONS, "disk replaced", T0).unwrap();
        let live = Arc::new(Live::new(World::new().snapshot(World::records(1)), T0, T0));
        let (prover, clock): (_, Clock) = (prover("nod_a", 51), Arc::new(|| T0));
        let (node, key) = (prover.identity.node_id.clone(), Arc::new(key(51)));
        let audit = AuditLog::open(&state.join(AUDIT), node, key, Arc::clone(&clock), 100).unwrap();
        audit.close();
        let lost = LedgerError::Lost { held: 0, noted: 1 };
        let refused = go_on_after(lost, state, &audit, (&prover, &live, &clock)).await;
        assert!(matches!(refused, Err(StartError::Loss(LossError::Unrecorded(_)))), "{refused:?}");
        assert!(state.join(ACCEPTED_LOSS).exists(), "it holds for the next start");
        assert!(!state.join(REVOCATIONS).exists());
    }
}
