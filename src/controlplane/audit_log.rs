//! The audit log of the control plane: every call that may change something, by whom, from where, and what came of it.
//!
//! An attempt is written before it is carried out, and its outcome after, each durably. So nothing is changed without a
//! line about it; a line without an outcome says that the control plane ended in between, and that its store tells
//! whether the change stands. What can't be written down is not done.

use std::net::IpAddr;

use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::ControlPlane;
use super::authorization::{Actor, Operation};
use super::error::Error;
use super::page::Page;
use crate::protocol::time::Time;

/// A call that may change something, about to be carried out.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// Method and route, such as `POST /tokens/{id}/rotate`.
    pub call: &'a str,
    /// The id of what it is about, where it exists already.
    pub target: Option<&'a str>,
    /// The body, as sent. Calls of people carry no secrets in it.
    pub request: Option<&'a str>,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, and nothing changed.
    Refused,
    /// It failed inside.
    Failed,
    /// It is under way, or the control plane ended before it answered.
    Unknown,
}

impl Outcome {
    fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::Unknown,
            Some(..400) => Self::Done,
            Some(400..500) => Self::Refused,
            Some(500..) => Self::Failed,
        }
    }

    /// The statuses it stands for: from, and up to but not including.
    fn statuses(self) -> (u16, u16) {
        match self {
            Self::Done => (1, 400),
            Self::Refused => (400, 500),
            Self::Failed => (500, 600),
            Self::Unknown => (0, 1),
        }
    }
}

/// A line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number: later ones are higher.
    pub id: i64,
    /// When the call came.
    pub at: Time,
    /// The user or token that called.
    pub actor: String,
    /// Its address or name at that time.
    pub actor_name: String,
    /// Where it called from.
    pub address: Option<String>,
    /// Method and route.
    pub call: String,
    /// The id of what it was about.
    pub target: Option<String>,
    /// What was asked for.
    #[schema(value_type = Option<Value>)]
    pub request: Option<Box<RawValue>>,
    /// What came of it.
    pub outcome: Outcome,
    /// The HTTP status that was answered.
    pub status: Option<u16>,
    /// The code of the refusal.
    pub code: Option<String>,
}

/// A page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryPage {
    /// The lines, newest first.
    pub entries: Vec<Entry>,
    /// How many there are in all.
    pub total_count: u64,
    /// How many were skipped.
    pub offset: u64,
    /// How many fit on the page.
    pub limit: u64,
}

/// Which lines are asked for; what is left out does not matter.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Of this user or token.
    pub actor: Option<String>,
    /// About this thing.
    pub target: Option<String>,
    /// Of this method and route, such as `POST /tokens`.
    pub call: Option<String>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// From this time on, in seconds since 1970.
    pub since: Option<i64>,
    /// Before this time, in seconds since 1970.
    pub until: Option<i64>,
}

const WHERE: &str = "FROM audit_log WHERE organization = ?1 AND (?2 IS NULL OR actor = ?2)
    AND (?3 IS NULL OR target = ?3) AND (?4 IS NULL OR call = ?4)
    AND (?5 IS NULL OR (coalesce(status, 0) >= ?5 AND coalesce(status, 0) < ?6))
    AND (?7 IS NULL OR at >= ?7) AND (?8 IS NULL OR at < ?8)";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let status = row.get(8)?;
    let request: Option<String> = row.get(7)?;
    Ok(Entry {
        id: row.get(0)?,
        at: Time::from_unix(row.get(1)?),
        actor: row.get(2)?,
        actor_name: row.get(3)?,
        address: row.get(4)?,
        call: row.get(5)?,
        target: row.get(6)?,
        // What was no JSON was refused; the line says so.
        request: request.and_then(|text| RawValue::from_string(text).ok()),
        outcome: Outcome::of(status),
        status,
        code: row.get(9)?,
    })
}

/// Writes down what was done by somebody who is no user and no token, in the transaction that does it.
pub(super) fn done(
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

impl ControlPlane {
    /// Writes down what is about to be tried, in the caller's organization; gives the line's number.
    pub fn begin(&self, actor: &Actor, attempt: &Attempt<'_>) -> Result<i64, Error> {
        let request = attempt.request.filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
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
                    attempt.target,
                    request,
                ],
            )?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Writes down what came of it. `made` is the id of what the call made.
    pub fn finish(
        &self,
        line: i64,
        status: u16,
        code: Option<&str>,
        made: Option<&str>,
    ) -> Result<(), Error> {
        self.store.note(|transaction| {
            transaction.execute(
                "UPDATE audit_log SET status = ?2, code = ?3, target = coalesce(?4, target) WHERE id = ?1 AND status IS NULL",
                params![line, status, code, made],
            )?;
            Ok(())
        })
    }

    /// Lists the audit log, newest first.
    pub fn list_audit_log(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &Filter,
        page: Page,
    ) -> Result<EntryPage, Error> {
        actor.may(Operation::ReadAuditLog, organization)?;
        let Page { offset, limit } = page.check()?;
        let (from, to) = filter.outcome.map(Outcome::statuses).unzip();
        let Filter { actor, target, call, since, until, .. } = filter;
        self.store.read(|connection| {
            let of = params![organization, actor, target, call, from, to, since, until];
            let total_count = connection
                .prepare_cached(&format!("SELECT count(*) {WHERE}"))?
                .query_row(of, |row| row.get(0))?;
            let mut rows = connection.prepare_cached(&format!(
                "SELECT id, at, actor, actor_name, address, call, target, request, status, code {WHERE}
                 ORDER BY id DESC LIMIT ?9 OFFSET ?10"
            ))?;
            let of = params![organization, actor, target, call, from, to, since, until, limit, offset];
            let entries = rows.query_map(of, read_row)?.collect::<Result<_, _>>()?;
            Ok(EntryPage { entries, total_count, offset, limit })
        })
    }
}
