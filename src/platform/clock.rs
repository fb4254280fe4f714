//! The wall clock. Only the code that assembles a program reads it; all other code receives a clock.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::protocol::time::Time;

/// Function that reads the wall clock.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Returns the time of this host's clock. A clock before 1970 reads as 1970.
#[must_use]
pub fn wall() -> Time {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
}
