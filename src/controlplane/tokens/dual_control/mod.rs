//! Dual control: while it is enabled, a direct-access token and each new value of one need two Organization Owners, one who
//! requests it and one who approves.
//!
//! It protects against a mistake and against one stolen owner token, but not against an owner who creates a second
//! user: the audit log shows that to the other owners. To disable it, a second owner must approve as well.

mod requests;

use rusqlite::{Connection, params};

use crate::api::dual_control::{DualControl, Request, RequestKind};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

/// Time limit of an approval if none is set, in hours.
const DEFAULT_HOURS: i64 = 24;

/// Result of changing the setting.
#[derive(Debug)]
pub enum Changed {
    /// The setting was changed.
    Now(DualControl),
    /// Another owner has to approve the change.
    Requested(Request),
}

/// Returns the time limit of an approval in seconds, or none if dual control is disabled.
fn period(connection: &Connection, organization: &str) -> Result<Option<i64>, Error> {
    let query = "SELECT approval_seconds FROM organization WHERE id = ?1";
    Ok(connection.query_row(query, [organization], |row| row.get(0))?)
}

fn set(transaction: &Transaction<'_>, organization: &str, seconds: Option<i64>) -> Result<(), Error> {
    let row = params![organization, seconds];
    transaction.execute("UPDATE organization SET approval_seconds = ?2 WHERE id = ?1", row)?;
    Ok(())
}

fn owners(connection: &Connection, organization: &str) -> Result<u64, Error> {
    let query = "SELECT count(*) FROM user WHERE organization = ?1 AND role = 'ORGANIZATION_OWNER' AND deleted_at IS NULL";
    Ok(connection.query_row(query, [organization], |row| row.get(0))?)
}

/// Fails if dual control is enabled, for calls that would bypass it.
pub(in crate::controlplane) fn not_needed(connection: &Connection, organization: &str) -> Result<(), Error> {
    match period(connection, organization)? {
        None => Ok(()),
        Some(_) => Err(Error::ApprovalNeeded),
    }
}

impl ControlPlane {
    /// Shows the setting.
    pub fn show_dual_control(&self, actor: &Actor, organization: &str) -> Result<DualControl, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        let seconds = self.store.read(|connection| period(connection, organization))?;
        let approval_period_in_hours = seconds.map_or(DEFAULT_HOURS, |seconds| seconds / 3600);
        Ok(DualControl { enabled: seconds.is_some(), approval_period_in_hours })
    }

    /// Changes the setting. To disable dual control, another owner has to approve.
    pub fn set_dual_control(
        &self,
        actor: &Actor,
        organization: &str,
        wanted: DualControl,
    ) -> Result<Changed, Error> {
        actor.may(Operation::ManageDirectAccess, organization)?;
        if !(1..=720).contains(&wanted.approval_period_in_hours) {
            return Err(Error::invalid("approvalPeriodInHours", "use 1 to 720 hours"));
        }
        self.store.note(|transaction| {
            if !wanted.enabled {
                return match period(transaction, organization)? {
                    None => Ok(Changed::Now(wanted)),
                    Some(_) => self
                        .ask_for(transaction, actor, organization, RequestKind::EndDualControl, "{}")
                        .map(Changed::Requested),
                };
            }
            if owners(transaction, organization)? < 2 {
                return Err(Error::Conflict {
                    code: "no_second_owner",
                    detail: "nobody else could approve; make another user an Organization Owner first".into(),
                });
            }
            set(transaction, organization, Some(wanted.approval_period_in_hours * 3600))?;
            Ok(Changed::Now(wanted))
        })
    }
}
