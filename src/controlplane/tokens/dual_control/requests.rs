//! Requests of dual control: what an owner requested, and the decision of another owner.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde_json::value::RawValue;

use super::set;
use crate::api::dual_control::{Request, RequestFilter, RequestKind, RequestPage, RequestState, Rotation};
use crate::api::id::{RequestId, TokenId};
use crate::api::page::Page;
use crate::api::token::{NewToken, Token};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::page::check;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::controlplane::store::columns::word;
use crate::protocol::time::Time;

const COLUMNS: &str = "id, kind, body, requested_by, requested_at, expires_at, decided_by, decided_at, reason, token,
    CASE WHEN carried_out_at IS NOT NULL THEN 'DONE' WHEN approved = 0 THEN 'REJECTED' WHEN expires_at <= :now THEN 'EXPIRED'
         WHEN approved = 1 THEN 'APPROVED' ELSE 'PENDING' END AS state";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Request> {
    let body: String = row.get(2)?;
    Ok(Request {
        id: RequestId::known(row.get(0)?),
        kind: word(row, 1)?,
        state: word(row, 10)?,
        request: RawValue::from_string(body).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error.into())
        })?,
        requested_by: row.get(3)?,
        requested_at: Time::from_unix(row.get(4)?).into(),
        expires_at: Time::from_unix(row.get(5)?).into(),
        decided_by: row.get(6)?,
        decided_at: row.get::<_, Option<i64>>(7)?.map(|at| Time::from_unix(at).into()),
        reason: row.get(8)?,
        token_id: row.get::<_, Option<String>>(9)?.map(TokenId::known),
        message: None,
    })
}

fn find(connection: &Connection, organization: &str, id: &str, now: Time) -> Result<Request, Error> {
    let query = format!("SELECT {COLUMNS} FROM request WHERE organization = :organization AND id = :id");
    let of = named_params! { ":organization": organization, ":id": id, ":now": now.unix() };
    connection.query_row(&query, of, read_row).optional()?.ok_or(Error::NotFound("request"))
}

/// Checks that the caller is a user. Dual control separates people, and a token acts for anyone who holds it.
fn person(connection: &Connection, actor: &Actor) -> Result<(), Error> {
    let query = "SELECT EXISTS (SELECT 1 FROM user WHERE id = ?1 AND deleted_at IS NULL)";
    if connection.query_row(query, [&actor.id], |row| row.get(0))? {
        return Ok(());
    }
    let detail = "under dual control only users can request and approve, not API tokens".into();
    Err(Error::Forbidden { code: "people_only", detail })
}

/// Fails if a request is in another state than `wanted`.
fn check_state(request: &Request, wanted: RequestState) -> Result<(), Error> {
    if request.state == wanted {
        return Ok(());
    }
    let is = match request.state {
        RequestState::Pending => "has not been approved yet",
        RequestState::Approved => "has been approved already",
        RequestState::Done => "has been carried out already",
        RequestState::Rejected => "was rejected",
        RequestState::Expired => "has expired; ask again",
    };
    Err(Error::Conflict { code: "request_state", detail: format!("the request {is}") })
}

impl ControlPlane {
    /// Requests a direct-access token under dual control.
    pub fn request_token(&self, actor: &Actor, organization: &str, new: &NewToken) -> Result<Request, Error> {
        self.store.note(|transaction| {
            // A token that could not be created is rejected before anybody is asked to approve it.
            self.draft(transaction, actor, organization, new.clone())?;
            let body = serde_json::to_string(new).map_err(std::io::Error::from)?;
            self.ask_for(transaction, actor, organization, RequestKind::DirectAccessToken, &body)
        })
    }

    /// Requests a new value of a direct-access token under dual control.
    pub fn request_rotation(&self, actor: &Actor, organization: &str, id: &str) -> Result<Request, Error> {
        self.store.note(|transaction| {
            let token = self.rotatable(transaction, actor, organization, id)?;
            let (token_id, name) = (TokenId::known(token.id), token.name);
            let rotation = Rotation { token_id, name, generation: token.generation };
            let body = serde_json::to_string(&rotation).map_err(std::io::Error::from)?;
            self.ask_for(transaction, actor, organization, RequestKind::DirectAccessRotation, &body)
        })
    }

    pub(super) fn ask_for(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        organization: &str,
        kind: RequestKind,
        body: &str,
    ) -> Result<Request, Error> {
        person(transaction, actor)?;
        let (id, now) = (self.new_id_of("req_"), self.now());
        let period = super::period(transaction, organization)?.unwrap_or(86_400);
        let kind = match kind {
            RequestKind::DirectAccessToken => "DIRECT_ACCESS_TOKEN",
            RequestKind::DirectAccessRotation => "DIRECT_ACCESS_ROTATION",
            RequestKind::EndDualControl => "END_DUAL_CONTROL",
        };
        transaction.execute(
            "INSERT INTO request (id, organization, kind, body, requested_by, requested_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![id, organization, kind, body, actor.id, now.unix(), now.plus(period).unix()],
        )?;
        let message =
            Some(format!("another Organization Owner has to approve request {id}; then it can be collected"));
        Ok(Request { message, ..find(transaction, organization, &id, now)? })
    }

    /// Lists requests, newest first.
    pub fn list_requests(
        &self,
        actor: &Actor,
        organization: &str,
        filter: RequestFilter,
        page: Page,
    ) -> Result<RequestPage, Error> {
        actor.may(Operation::ManageDirectAccess, organization)?;
        let range = check(page, "requests")?;
        let state = filter.state.and_then(|state| serde_json::to_value(state).ok());
        let state = state.as_ref().and_then(serde_json::Value::as_str);
        let of = named_params! { ":organization": organization, ":now": self.now().unix(), ":state": state, ":after": range.after() };
        self.store.read(|connection| {
            let matching = format!(
                "FROM (SELECT {COLUMNS}, rowid AS number FROM request WHERE organization = :organization)
                 WHERE (:state IS NULL OR state = :state)"
            );
            let count = format!("SELECT count(*) {matching} AND (:after IS NULL OR TRUE)");
            let total_count = connection.prepare_cached(&count)?.query_row(of, |row| row.get(0))?;
            let (rows, offset) = (range.rows(), range.offset);
            let sorted = range.sorted("number", "id", true);
            let query = format!("SELECT * {matching} {sorted} LIMIT {rows} OFFSET {offset}");
            let mut rows = connection.prepare(&query)?;
            let numbered = rows.query_map(of, |row| Ok((read_row(row)?, row.get::<_, i64>("number")?)))?;
            let mut numbered: Vec<(Request, i64)> = numbered.collect::<Result<_, _>>()?;
            let extent = range.extent(total_count, &mut numbered, |(request, number)| {
                ((*number).into(), request.id.to_string())
            });
            let requests = numbered.into_iter().map(|(request, _)| request).collect();
            Ok(RequestPage { requests, extent })
        })
    }

    /// Shows a request of dual control.
    pub fn show_request(&self, actor: &Actor, organization: &str, id: &str) -> Result<Request, Error> {
        actor.may(Operation::ManageDirectAccess, organization)?;
        self.store.read(|connection| find(connection, organization, id, self.now()))
    }

    /// Approves or rejects a request of another owner.
    pub fn decide_request(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        approved: bool,
        reason: Option<&str>,
    ) -> Result<Request, Error> {
        actor.may(Operation::ManageDirectAccess, organization)?;
        if reason.is_some_and(|reason| reason.chars().count() > 500) {
            return Err(Error::invalid("reason", "use at most 500 characters"));
        }
        let now = self.now();
        self.store.note(|transaction| {
            person(transaction, actor)?;
            let request = find(transaction, organization, id, now)?;
            // Requesters may withdraw their own request by rejecting it, but not approve it.
            if approved && request.requested_by == actor.id {
                let detail = "this is your own request; another Organization Owner has to approve it".into();
                return Err(Error::Forbidden { code: "own_request", detail });
            }
            check_state(&request, RequestState::Pending)?;
            let period = super::period(transaction, organization)?.unwrap_or(86_400);
            transaction.execute(
                "UPDATE request SET decided_by = ?2, decided_at = ?3, approved = ?4, reason = ?5,
                     expires_at = CASE WHEN ?4 THEN ?6 ELSE expires_at END WHERE id = ?1",
                params![id, actor.id, now.unix(), approved, reason, now.plus(period).unix()],
            )?;
            if approved && request.kind == RequestKind::EndDualControl {
                set(transaction, organization, None)?;
                let row = params![id, now.unix()];
                transaction.execute("UPDATE request SET carried_out_at = ?2 WHERE id = ?1", row)?;
            }
            find(transaction, organization, id, now)
        })
    }

    /// Creates or rotates the token of an approved request, and shows its value once, to the requester.
    pub fn collect_request(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        actor.may(Operation::ManageDirectAccess, organization)?;
        let now = self.now();
        self.store.write(|transaction| {
            let request = find(transaction, organization, id, now)?;
            if request.requested_by != actor.id {
                let detail = "only the owner who requested this token can collect it".into();
                return Err(Error::Forbidden { code: "not_your_request", detail });
            }
            check_state(&request, RequestState::Approved)?;
            let body = request.request.get();
            let token = if request.kind == RequestKind::DirectAccessRotation {
                let rotation: Rotation = serde_json::from_str(body).map_err(std::io::Error::from)?;
                let token = self.rotatable(transaction, actor, organization, &rotation.token_id)?;
                if token.generation != rotation.generation {
                    let detail = "the token has been rotated since; request it again".into();
                    return Err(Error::Conflict { code: "request_state", detail });
                }
                self.renew(transaction, actor, organization, token, None)?
            } else {
                let new = serde_json::from_str(body).map_err(std::io::Error::from)?;
                let draft = self.draft(transaction, actor, organization, new)?;
                self.establish(transaction, actor, organization, draft, None)?
            };
            let row = params![id, now.unix(), &*token.id];
            transaction.execute("UPDATE request SET carried_out_at = ?2, token = ?3 WHERE id = ?1", row)?;
            Ok(token)
        })
    }
}
