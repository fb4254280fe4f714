//! Names that people give to objects.

use serde::Serialize;

use super::error::Error;
pub use crate::api::name::Name;
use crate::platform::text::is_unseen;
use crate::protocol::time::Time;

/// Object with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// Id of the object.
    pub id: String,
    /// Name of the object.
    pub name: String,
    /// Time of creation.
    pub created_at: Time,
}

impl Named {
    /// Reads id, name and time of creation from a row that begins with these columns.
    pub(in crate::controlplane) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, name: row.get(1)?, created_at: Time::from_unix(row.get(2)?) })
    }
}

/// Checks a name: one line of 1 to 100 visible characters, without a space at either end. Invisible characters would
/// make two names look alike, and a character that reverses the direction of text would mislead readers.
pub(in crate::controlplane) fn check_name(field: &'static str, name: &str) -> Result<(), Error> {
    let spaced = name.starts_with(' ') || name.ends_with(' ');
    if !spaced && (1..=100).contains(&name.chars().count()) && !name.contains(is_unseen) {
        Ok(())
    } else {
        Err(Error::invalid(field, "use 1 to 100 visible characters without spaces around them"))
    }
}

/// Checks a description: at most 500 characters.
pub(in crate::controlplane) fn check_description(description: &str) -> Result<(), Error> {
    if description.chars().count() > 500 {
        return Err(Error::invalid("description", "use at most 500 characters"));
    }
    Ok(())
}

/// Turns a violated UNIQUE constraint into a conflict, because the caller chose a name that is in use.
pub(in crate::controlplane) fn taken(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Error::Conflict { code: "name_taken", detail: "something of this name is there already".into() }
        }
        _ => error.into(),
    }
}
