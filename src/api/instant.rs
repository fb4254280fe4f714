//! Points in time as the API carries them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::time::Time;

/// Point in time, in whole seconds. In JSON it is a string by RFC 3339 in UTC.
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

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.rfc3339())
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
