//! Defines time as JSON carries it: whole seconds since the Unix epoch (NumericDate of RFC 7519).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Time in whole seconds since the Unix epoch, UTC. This module reads no clock; callers pass the time in.
///
/// ```
/// use halligan::protocol::time::Time;
///
/// let time = Time::from_unix(1_795_527_055);
/// assert_eq!(time.to_string(), "2026-11-24T13:30:55Z");
/// assert_eq!(time.plus(60).since(time), 60);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// Returns the time `seconds` after the epoch; before it if negative.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Returns the seconds since the epoch.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// Adds `seconds`. The result saturates at the ends of the range.
    #[must_use]
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Returns the seconds from `earlier` to this time; negative if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Formats the time by RFC 3339: `2026-11-24T13:30:55Z`. A time outside the calendar's range is formatted as seconds.
    ///
    /// ```
    /// use halligan::protocol::time::Time;
    ///
    /// assert_eq!(Time::from_unix(1_800_000_000).rfc3339(), "2027-01-15T08:00:00Z");
    /// // No calendar reaches this time.
    /// assert_eq!(Time::from_unix(i64::MAX).rfc3339(), "9223372036854775807");
    /// ```
    #[must_use]
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.0)
            .map_or_else(|_| self.0.to_string(), |timestamp| timestamp.to_string())
    }

    /// Parses an RFC 3339 time and drops fractions of a second. Returns `None` for any other text.
    ///
    /// ```
    /// use halligan::protocol::time::Time;
    ///
    /// let time = Some(Time::from_unix(1_800_000_000));
    /// assert_eq!(Time::parse_rfc3339("2027-01-15T08:00:00.75Z"), time);
    /// assert_eq!(Time::parse_rfc3339("2027-01-15T10:00:00+02:00"), time);
    /// // Without an offset the text names no point in time.
    /// assert_eq!(Time::parse_rfc3339("2027-01-15T08:00:00"), None);
    /// ```
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|timestamp| Self(timestamp.as_second()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_and_read_as_rfc3339() {
        let time = Time::from_unix(1_795_527_055);
        assert_eq!(time.rfc3339(), "2026-11-24T13:30:55Z");
        assert_eq!(Time::parse_rfc3339("2026-11-24T13:30:55Z"), Some(time));
        assert_eq!(Time::parse_rfc3339("2026-11-24T14:30:55.9+01:00"), Some(time));
        assert_eq!(Time::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn arithmetic_holds_at_the_ends() {
        assert_eq!(Time::from_unix(i64::MAX).plus(1), Time::from_unix(i64::MAX));
        assert_eq!(Time::from_unix(i64::MIN).since(Time::from_unix(1)), i64::MIN);
        assert_eq!(Time::from_unix(i64::MAX).rfc3339(), i64::MAX.to_string());
    }
}
