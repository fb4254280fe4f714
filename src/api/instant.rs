//! Points in time as the API carries them.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::time::Time;

/// Earliest time that RFC 3339 can write, the beginning of the year 0, in seconds since 1970.
const EARLIEST: i64 = -62_167_219_200;
/// Latest time that is written: 26 hours before the end of the year 9999, so that it lies in that year in every time zone.
const LATEST: i64 = 253_402_207_200;

/// Point in time, in whole seconds. In JSON it is a string by RFC 3339 in UTC. A time outside the years 0 to 9999, which a
/// node may state, is written as the nearest one within them.
///
/// ```
/// use halligan::api::instant::Instant;
/// use halligan::protocol::time::Time;
///
/// let instant = Instant::from(Time::from_unix(1_795_527_055));
/// assert_eq!(serde_json::to_string(&instant).unwrap(), "\"2026-11-24T13:30:55Z\"");
/// assert_eq!(serde_json::from_str::<Instant>("\"2026-11-24T14:30:55+01:00\"").unwrap(), instant);
/// assert!(serde_json::from_str::<Instant>("1795527055").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "control", schema(value_type = String, format = DateTime))]
pub struct Instant(Time);

impl Instant {
    /// Returns the time.
    #[must_use]
    pub const fn time(self) -> Time {
        self.0
    }
}

impl From<Time> for Instant {
    fn from(time: Time) -> Self {
        Self(time)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Time::from_unix(self.0.unix().clamp(EARLIEST, LATEST)).fmt(formatter)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse_rfc3339(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom("expected a time such as 2026-11-24T13:30:55Z"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_instant_that_is_written_can_be_read() {
        for (seconds, text) in [
            (i64::MIN, "0000-01-01T00:00:00Z"),
            (EARLIEST - 1, "0000-01-01T00:00:00Z"),
            (0, "1970-01-01T00:00:00Z"),
            (LATEST, "9999-12-30T22:00:00Z"),
            (i64::MAX, "9999-12-30T22:00:00Z"),
        ] {
            let written = serde_json::to_string(&Instant::from(Time::from_unix(seconds))).unwrap();
            assert_eq!(written, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Instant>(&written).unwrap().to_string(), text);
        }
    }
}
