//! Audit log of the control plane: each call that may change something, with its caller, its address and its result.
//!
//! An attempt is written before the call is carried out and its result afterwards, each durably. No change is made
//! without a line, and a call whose line cannot be written is rejected. A line without a result means that the control
//! plane stopped in between; the store shows whether the change was committed.
//!
//! A rejected call changed nothing: its line has no body, and the same rejection within an hour only raises a counter
//! on the first line. So a token without permissions cannot fill the disk.

use std::net::IpAddr;

use rusqlite::{OptionalExtension as _, Row, params};
use serde_json::value::RawValue;

use crate::api::audit_log::{Entry, EntryFilter, EntryPage, Outcome};
use crate::api::instant::Instant;
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::page::check;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Call that may change something, before it is carried out.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// IP address of the client.
    pub address: Option<IpAddr>,
    /// Method and route, such as `POST /tokens/{id}/rotate`.
    pub call: &'a str,
    /// Id of the object that the call is about, if it already exists. An id that no object can have is not stored.
    pub target: Option<&'a str>,
    /// Body as sent, or none if the call was rejected. The bodies of people's calls contain no secrets.
    pub request: Option<&'a str>,
}

impl Outcome {
    fn from_status(status: Option<u16>) -> Self {
        match status {
            None => Self::Unknown,
            Some(..400) => Self::Done,
            Some(400..500) => Self::Refused,
            Some(500..) => Self::Failed,
        }
    }

    /// Range of HTTP statuses of this result: the first, and the one after the last.
    fn statuses(self) -> (u16, u16) {
        match self {
            Self::Done => (1, 400),
            Self::Refused => (400, 500),
            Self::Failed => (500, 600),
            Self::Unknown => (0, 1),
        }
    }
}

/// Maximum length of a target, in bytes. No object has a longer id: a longer one is refused, and a log that kept it could be
/// filled by a token without permissions.
const MAX_TARGET: usize = 128;

const WHERE: &str = "FROM audit_log WHERE organization = ?1 AND (?2 IS NULL OR actor = ?2)
    AND (?3 IS NULL OR target = ?3) AND (?4 IS NULL OR call = ?4)
    AND (?5 IS NULL OR (coalesce(status, 0) >= ?5 AND coalesce(status, 0) < ?6))
    AND (?7 IS NULL OR at >= ?7) AND (?8 IS NULL OR at < ?8)";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let status = row.get(8)?;
    let request: Option<String> = row.get(7)?;
    Ok(Entry {
        id: row.get(0)?,
        at: Time::from_unix(row.get(1)?).into(),
        actor: row.get(2)?,
        actor_name: row.get(3)?,
        address: row.get(4)?,
        call: row.get(5)?,
        target: row.get(6)?,
        // A body that is not JSON was rejected; the status of the line shows it.
        request: request.and_then(|text| RawValue::from_string(text).ok()),
        outcome: Outcome::from_status(status),
        status,
        code: row.get(9)?,
        repeated: row.get(10)?,
        last_at: row.get::<_, Option<i64>>(11)?.map(|at| Time::from_unix(at).into()),
    })
}

/// Writes a line for an act of neither a user nor a token, in the transaction of that act.
pub(in crate::controlplane) fn record_done(
    transaction: &Transaction<'_>,
    organization: &str,
    who: (&str, &str),
    call: &str,
    target: &str,
    now: Time,
) -> Result<(), Error> {
    transaction.execute(
        "INSERT INTO audit_log (organization, at, actor, actor_name, call, target, status)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 200)",
        params![organization, now.unix(), who.0, who.1, call, target],
    )?;
    Ok(())
}

/// Time within which repeated rejections are counted on the line of the first one, in seconds.
const SAME_REFUSAL: i64 = 3600;
/// Number of preceding lines searched for the same rejection. The bound keeps the search cheap for a caller whose
/// rejections all differ.
const LOOKED_AT: i64 = 1000;

/// Counts the rejection on `line` at an earlier line that says the same, and deletes `line`. Returns false if there is
/// no such line.
fn count_again(
    transaction: &Transaction<'_>,
    line: i64,
    status: u16,
    code: Option<&str>,
    now: i64,
) -> Result<bool, Error> {
    let earlier: Option<i64> = transaction
        .prepare_cached(
            "SELECT earlier.id FROM audit_log AS this JOIN audit_log AS earlier
                 ON earlier.actor = this.actor AND earlier.id < this.id AND earlier.id >= this.id - ?6
                 AND earlier.status >= 400 AND earlier.status < 500
             WHERE this.id = ?1 AND this.status IS NULL
                 AND earlier.organization = this.organization AND earlier.call = this.call
                 AND earlier.target IS this.target AND earlier.address IS this.address
                 AND earlier.status = ?2 AND earlier.code IS ?3 AND earlier.at BETWEEN ?4 - ?5 AND ?4
             ORDER BY earlier.id DESC LIMIT 1",
        )?
        .query_row(params![line, status, code, now, SAME_REFUSAL, LOOKED_AT], |row| row.get(0))
        .optional()?;
    let Some(earlier) = earlier else { return Ok(false) };
    transaction
        .prepare_cached("UPDATE audit_log SET repeated = repeated + 1, last_at = ?2 WHERE id = ?1")?
        .execute([earlier, now])?;
    transaction.prepare_cached("DELETE FROM audit_log WHERE id = ?1")?.execute([line])?;
    Ok(true)
}

impl ControlPlane {
    /// Writes the line of an attempt, in the caller's organization. Returns its number.
    pub fn begin(&self, actor: &Actor, attempt: &Attempt<'_>) -> Result<i64, Error> {
        let request = attempt.request.filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
        let target = attempt.target.filter(|id| id.len() <= MAX_TARGET);
        self.store.note(|transaction| {
            transaction.execute(
                "INSERT INTO audit_log (organization, at, actor, actor_name, address, call, target, request)
                 VALUES (?1, ?2, ?3, coalesce((SELECT email FROM user WHERE id = ?3),
                                              (SELECT name FROM token WHERE id = ?3), ''), ?4, ?5, ?6, ?7)",
                params![
                    actor.organization,
                    self.now().unix(),
                    actor.id,
                    attempt.address.map(|address| address.to_string()),
                    attempt.call,
                    target,
                    request,
                ],
            )?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Writes the result of an attempt. `made` is the id of the object that the call created.
    pub fn finish(
        &self,
        line: i64,
        status: u16,
        code: Option<&str>,
        made: Option<&str>,
    ) -> Result<(), Error> {
        self.store.note(|transaction| {
            let refused = (400..500).contains(&status);
            let now = self.now().unix();
            if refused && made.is_none() && count_again(transaction, line, status, code, now)? {
                return Ok(());
            }
            transaction.execute(
                "UPDATE audit_log SET status = ?2, code = ?3, target = coalesce(?4, target), request = iif(?5, NULL, request)
                 WHERE id = ?1 AND status IS NULL",
                params![line, status, code, made, refused],
            )?;
            Ok(())
        })
    }

    /// Lists the audit log, newest first.
    pub fn list_audit_log(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &EntryFilter,
        page: Page,
    ) -> Result<EntryPage, Error> {
        actor.may(Operation::ReadAuditLog, organization)?;
        let range = check(page, "audit-log")?;
        let (from, to) = filter.outcome.map(Outcome::statuses).unzip();
        let EntryFilter { actor, target, call, since, until, .. } = filter;
        let [since, until] = [since, until].map(|at| at.map(|at: Instant| at.time().unix()));
        self.store.read(|connection| {
            let of = params![organization, actor, target, call, from, to, since, until];
            let total_count = connection
                .prepare_cached(&format!("SELECT count(*) {WHERE}"))?
                .query_row(of, |row| row.get(0))?;
            let mut rows = connection.prepare_cached(&format!(
                "SELECT id, at, actor, actor_name, address, call, target, request, status, code, repeated, last_at {WHERE}
                     AND (?11 IS NULL OR id < json_extract(?11, '$[0]'))
                 ORDER BY id DESC LIMIT ?9 OFFSET ?10"
            ))?;
            let (rows_wanted, offset, after) = (range.rows(), range.offset, range.after());
            let of =
                params![organization, actor, target, call, from, to, since, until, rows_wanted, offset, after];
            let mut entries = rows.query_map(of, read_row)?.collect::<Result<Vec<Entry>, _>>()?;
            let extent =
                range.extent(total_count, &mut entries, |entry| (entry.id.into(), String::new()));
            Ok(EntryPage { entries, extent })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::test_world::World;

    #[test]
    fn an_outcome_stands_once_and_so_does_what_was_asked_for() {
        let world = World::new();
        let kept = "SELECT count(*) FROM audit_log WHERE call = 'POST /tokens' AND request IS NOT NULL";
        let attempt = Attempt { address: None, call: "POST /tokens", target: None, request: Some("{}") };
        let line = world.control.begin(&world.owner, &attempt).unwrap();
        world.control.finish(line, 201, None, Some("tok_a")).unwrap();
        world.control.finish(line, 403, Some("forbidden"), None).unwrap();
        assert_eq!(world.count(kept), 1, "it was done");
        let line = world.control.begin(&world.owner, &attempt).unwrap();
        world.control.finish(line, 403, Some("forbidden"), None).unwrap();
        assert_eq!(world.count(kept), 1, "a refused call keeps no body");
    }

    #[test]
    fn a_refused_call_takes_the_same_room_however_long_its_path_is() {
        let world = World::new();
        for length in [128, 129, 60_000] {
            let id = "x".repeat(length);
            let attempt =
                Attempt { address: None, call: "DELETE /tokens/{id}", target: Some(&id), request: None };
            let line = world.control.begin(&world.owner, &attempt).unwrap();
            world.control.finish(line, 404, Some("not_found"), None).unwrap();
        }
        assert_eq!(world.count("SELECT max(length(target)) FROM audit_log"), 128);
        assert_eq!(
            world.count("SELECT max(repeated) FROM audit_log WHERE target IS NULL"),
            1,
            "counted as one"
        );
    }
}
