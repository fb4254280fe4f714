//! Sizes of the tables that grow with use (`0017_retention.sql`). Triggers count all changes but the insertion of events: counting
//! each row of an upload would cost more than inserting it.

use super::Transaction;

/// Bytes of an event besides its line, for the rest of its row and its place in indexes: a round number, as in the triggers.
pub(in crate::controlplane) const EVENT_OVERHEAD: usize = 500;

/// Adds inserted events to the size of their table. `bytes` is the total size of their lines.
pub(in crate::controlplane) fn count_events(
    transaction: &Transaction<'_>,
    rows: usize,
    bytes: usize,
) -> Result<(), rusqlite::Error> {
    let count = "UPDATE table_size SET rows = rows + ?1, bytes = bytes + ?2 WHERE name = 'event'";
    transaction.prepare_cached(count)?.execute([rows, bytes + rows * EVENT_OVERHEAD])?;
    Ok(())
}
