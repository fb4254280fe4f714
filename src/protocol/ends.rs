//! Warns before a keyset, a token or a certificate expires. Both planes use the same period ([`NOTICE`]) and the same
//! sentences.

use serde::{Deserialize, Serialize};

use super::time::Time;

const DAY: i64 = 86_400;

/// Period before an expiry during which warnings are given, in seconds.
pub const NOTICE: i64 = 30 * DAY;

/// Kind of object that expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndKind {
    /// The newest keyset of the control plane.
    Keyset,
    /// The TLS certificate of a listener.
    Certificate,
    /// A user's token for the control plane's API.
    UserToken,
    /// A direct-access token of a deployment.
    DirectAccessToken,
    /// A standard token of the control plane.
    StandardToken,
    /// A token with which a host enrols as a node.
    EnrolmentToken,
}

impl EndKind {
    /// Lists every kind.
    pub const ALL: [Self; 6] = [
        Self::Keyset,
        Self::Certificate,
        Self::UserToken,
        Self::DirectAccessToken,
        Self::StandardToken,
        Self::EnrolmentToken,
    ];

    /// Returns the kind as the label value of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keyset => "keyset",
            Self::Certificate => "certificate",
            Self::UserToken => "user_token",
            Self::DirectAccessToken => "direct_access_token",
            Self::StandardToken => "standard_token",
            Self::EnrolmentToken => "enrolment_token",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Keyset => "the keyset",
            Self::Certificate => "the TLS certificate",
            Self::UserToken => "the token of user",
            Self::DirectAccessToken => "the direct-access token",
            Self::StandardToken => "the standard token",
            Self::EnrolmentToken => "the enrolment token for data plane",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Keyset => {
                "sign the next one with the root keys (halligan key), or no replica is taken any more"
            }
            Self::Certificate => "renew it, or no connection to it is trusted any more",
            Self::UserToken => "rotate it (halligan user rotate-token, or halligan-control user-token)",
            Self::DirectAccessToken | Self::StandardToken => {
                "rotate it (halligan token rotate), or let it end"
            }
            Self::EnrolmentToken => "make another one if a host has yet to enrol",
        }
    }
}

/// One object and the time at which it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Kind of the object.
    pub kind: EndKind,
    /// Version, identifier or file name that tells it from others of its kind.
    pub name: String,
    /// Time of the expiry.
    pub at: Time,
}

impl End {
    /// Returns the seconds from `now` to the expiry; negative after it.
    #[must_use]
    pub fn left(&self, now: Time) -> i64 {
        self.at.since(now)
    }

    /// Returns true from [`NOTICE`] seconds before the expiry on.
    ///
    /// ```
    /// use halligan::protocol::ends::{End, EndKind, NOTICE};
    /// use halligan::protocol::time::Time;
    ///
    /// let at = Time::from_unix(1_800_000_000);
    /// let end = End { kind: EndKind::Certificate, name: "gateway.pem".into(), at };
    /// assert!(!end.is_due(at.plus(-NOTICE - 1)));
    /// assert!(end.is_due(at.plus(-NOTICE)));
    /// ```
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.left(now) <= NOTICE
    }

    /// Returns true for a keyset that has ended: no node believes anything that is signed under it.
    #[must_use]
    pub fn voids_all(&self, now: Time) -> bool {
        self.kind == EndKind::Keyset && self.left(now) <= 0
    }

    /// Returns the warning: object, time and remedy in one sentence. It names nothing else of the organization than
    /// [`Self::name`].
    ///
    /// ```
    /// use halligan::protocol::ends::{End, EndKind};
    /// use halligan::protocol::time::Time;
    ///
    /// let at = Time::from_unix(1_800_000_000);
    /// let end = End { kind: EndKind::Certificate, name: "gateway.pem".into(), at };
    /// assert_eq!(
    ///     end.sentence(at.plus(-7200)),
    ///     "the TLS certificate gateway.pem ends in 2 h, at 2027-01-15T08:00:00Z; \
    ///      renew it, or no connection to it is trusted any more"
    /// );
    /// assert!(end.sentence(at).contains("gateway.pem ended at"));
    /// ```
    #[must_use]
    pub fn sentence(&self, now: Time) -> String {
        let (words, name, remedy) = (self.kind.words(), &self.name, self.kind.remedy());
        let when = match self.left(now) {
            ..=0 => format!("ended at {}", self.at),
            left @ ..DAY => format!("ends in {} h, at {}", left / 3600, self.at),
            left => format!("ends in {} days, at {}", left / DAY, self.at),
        };
        format!("{words} {name} {when}; {remedy}")
    }
}

/// Returns the ends for which a warning is due, sorted by time.
///
/// ```
/// use halligan::protocol::ends::{End, EndKind, NOTICE, due};
/// use halligan::protocol::time::Time;
///
/// let now = Time::from_unix(1_800_000_000);
/// let end = |left| End { kind: EndKind::Keyset, name: "3".into(), at: now.plus(left) };
/// assert_eq!(due(vec![end(NOTICE + 1), end(9), end(5)], now), [end(5), end(9)]);
/// ```
#[must_use]
pub fn due(mut ends: Vec<End>, now: Time) -> Vec<End> {
    ends.retain(|end| end.is_due(now));
    ends.sort_by(|a, b| (a.at, a.kind, &a.name).cmp(&(b.at, b.kind, &b.name)));
    ends
}

/// Remembers which warnings were given, so that each is repeated once a day and not at every check.
#[derive(Debug, Default)]
pub struct GivenWarnings(Vec<(End, Time)>);

impl GivenWarnings {
    /// Returns the ends of `due` for which no warning was given within the last day, and notes them as given at `now`.
    ///
    /// ```
    /// use halligan::protocol::ends::{End, EndKind, GivenWarnings};
    /// use halligan::protocol::time::Time;
    ///
    /// let now = Time::from_unix(1_800_000_000);
    /// let due = [End { kind: EndKind::Keyset, name: "3".into(), at: now.plus(600_000) }];
    /// let mut given = GivenWarnings::default();
    /// assert_eq!(given.not_yet_given(&due, now), due);
    /// assert_eq!(given.not_yet_given(&due, now.plus(60)), []);
    /// assert_eq!(given.not_yet_given(&due, now.plus(86_400)), due);
    /// ```
    pub fn not_yet_given(&mut self, due: &[End], now: Time) -> Vec<End> {
        self.0.retain(|(end, _)| due.contains(end));
        let mut tell = Vec::new();
        for end in due {
            match self.0.iter_mut().find(|(told, _)| told == end) {
                // The range excludes negative ages: after the clock is set back, the warning is given anew.
                Some((_, last)) if (0..DAY).contains(&now.since(*last)) => {}
                Some((_, last)) => {
                    *last = now;
                    tell.push(end.clone());
                }
                None => {
                    self.0.push((end.clone(), now));
                    tell.push(end.clone());
                }
            }
        }
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_unix(1_800_000_000);

    fn end(left: i64) -> End {
        End { kind: EndKind::Keyset, name: "3".into(), at: T.plus(left) }
    }

    #[test]
    fn an_end_is_told_from_thirty_days_before_and_once_a_day() {
        assert!(!end(NOTICE + 1).is_due(T) && end(NOTICE).is_due(T) && end(-1).is_due(T));
        let ends = due(vec![end(NOTICE + 1), end(9), end(5)], T);
        assert_eq!(ends, [end(5), end(9)]);
        let mut given = GivenWarnings::default();
        assert_eq!(given.not_yet_given(&ends, T), ends);
        assert_eq!(given.not_yet_given(&ends, T.plus(DAY - 1)), []);
        assert_eq!(given.not_yet_given(&ends, T.plus(DAY)), ends);
        assert_eq!(given.not_yet_given(&[end(9), end(12)], T.plus(DAY + 1)), [end(12)]);
    }

    #[test]
    fn only_a_keyset_that_has_ended_voids_all() {
        assert!(end(0).voids_all(T) && end(-1).voids_all(T) && !end(1).voids_all(T));
        for kind in EndKind::ALL {
            assert_eq!(End { kind, ..end(-1) }.voids_all(T), kind == EndKind::Keyset, "{kind:?}");
        }
    }

    #[test]
    fn a_sentence_says_what_ends_when_and_what_to_do() {
        for (left, words) in [(20 * DAY + 5, "ends in 20 days"), (7200, "ends in 2 h"), (0, "ended at")] {
            let sentence = end(left).sentence(T);
            assert!(sentence.starts_with(&format!("the keyset 3 {words}")), "{sentence}");
            assert!(sentence.contains("sign the next one"), "{sentence}");
        }
    }
}
