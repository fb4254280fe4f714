//! Users and tokens as the API shows them where they created or changed something.

use rusqlite::{Connection, OptionalExtension as _};

use crate::api::subject::Subject;
use crate::controlplane::error::Error;

/// Id of the control plane itself as the creator of an object. Objects that are older than this member have it too.
pub(in crate::controlplane) const PROGRAM: &str = "halligan-control";

/// Returns a subject without the names that can change.
pub(in crate::controlplane) fn unnamed(by: &Subject) -> Subject {
    Subject { full_name: None, username: None, api_token_name: None, ..by.clone() }
}

/// Returns the user or token with this id, also after its deletion. Any other id is that of a program, such as
/// `halligan-control` or a node.
pub(in crate::controlplane) fn subject(connection: &Connection, id: &str) -> Result<Subject, Error> {
    let name = |query: &str| -> Result<Option<String>, Error> {
        Ok(connection.prepare_cached(query)?.query_row([id], |row| row.get(0)).optional()?)
    };
    if let Some(email) = name("SELECT email FROM user WHERE id = ?1")? {
        return Ok(Subject::user(id.to_owned(), email));
    }
    let token = name("SELECT name FROM token WHERE id = ?1")?;
    Ok(Subject::service_key(id.to_owned(), token.unwrap_or_else(|| id.to_owned())))
}
