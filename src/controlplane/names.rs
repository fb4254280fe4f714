//! Names that people give to objects.

use serde_json::Value;

use super::error::Error;
use crate::api::instant::Instant;
use crate::api::page::NamedField;
use crate::platform::text::{NAME_RULE, is_name, is_unseen};

/// Returns the value of a field that every list of objects with a name can be sorted by: of an object's name, its time of
/// creation and the time of its last change.
pub(in crate::controlplane) fn sort_key(
    field: NamedField,
    name: &str,
    created_at: Instant,
    updated_at: Instant,
) -> Value {
    match field {
        NamedField::Name => name.into(),
        NamedField::CreatedAt => created_at.time().unix().into(),
        NamedField::UpdatedAt => updated_at.time().unix().into(),
    }
}

/// Checks a name ([`is_name`]).
pub(in crate::controlplane) fn check_name(field: &'static str, name: &str) -> Result<(), Error> {
    if is_name(name) { Ok(()) } else { Err(Error::invalid(field, NAME_RULE)) }
}

/// Returns true if a Dag's id or tag can have this text: 1 to 250 visible characters.
pub(in crate::controlplane) fn is_dag_name(text: &str) -> bool {
    (1..=250).contains(&text.chars().count()) && !text.contains(is_unseen)
}

/// Checks a description: at most 500 characters.
pub(in crate::controlplane) fn check_description(description: &str) -> Result<(), Error> {
    if description.chars().count() > 500 {
        return Err(Error::invalid("description", "use at most 500 characters"));
    }
    Ok(())
}

/// Turns a violated UNIQUE constraint into a conflict, because the caller chose a name that is in use.
pub(in crate::controlplane) fn name_conflict(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => Error::Conflict {
            code: "name_taken",
            detail: "this name is in use already; choose another".into(),
        },
        _ => error.into(),
    }
}
