//! Handler of the audit log.

use axum::extract::{Path, State};
use axum::response::Response;

use super::query::Query;
use super::{Control, answer};
use crate::api::audit_log::{EntryFilter, EntryPage};
use crate::api::page::Page;
use crate::controlplane::access::authorization::Actor;

/// Lists the calls that changed, or tried to change, something in the organization; newest first.
#[utoipa::path(get, path = "/audit-logs", params(EntryFilter, Page), responses((status = 200, body = EntryPage)))]
pub(super) async fn list_audit_logs(
    control: Control,
    actor: Actor,
    organization: Path<String>,
    filter: Query<EntryFilter>,
    page: Query<Page>,
) -> Response {
    list_audit_log(control, actor, organization, filter, page).await
}

/// Lists the same as `/audit-logs`, under the path of earlier versions.
#[utoipa::path(get, path = "/audit-log", params(EntryFilter, Page), responses((status = 200, body = EntryPage)))]
pub(super) async fn list_audit_log(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(filter): Query<EntryFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_audit_log(&actor, &organization, &filter, page)).await
}
