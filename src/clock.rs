//! The wall clock. Only what puts a program together reads it; everything else is handed one.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::protocol::time::Time;

/// The time by this host's clock. A clock before 1970 reads as 1970.
#[must_use]
pub fn wall() -> Time {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
}
