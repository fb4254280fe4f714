//! Ends that are known beforehand: of keysets, tokens and certificates. Each is told from [`NOTICE`] on, by both planes in the
//! same words.

use serde::Serialize;

use super::time::Time;

const DAY: i64 = 86_400;

/// How long before an end it is told, in seconds.
pub const NOTICE: i64 = 30 * DAY;

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndKind {
    /// The newest keyset.
    Keyset,
    /// A TLS certificate.
    Certificate,
    /// The token a user calls the control plane with.
    UserToken,
    /// A direct-access token.
    DirectAccessToken,
    /// A standard token.
    StandardToken,
    /// A token with which a host may enrol.
    EnrolmentToken,
}

impl EndKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Keyset,
        Self::Certificate,
        Self::UserToken,
        Self::DirectAccessToken,
        Self::StandardToken,
        Self::EnrolmentToken,
    ];

    /// The kind as it stands in metrics.
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

/// An end that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// What ends.
    pub kind: EndKind,
    /// Which one: a version, an id, a file.
    pub name: String,
    /// When.
    pub at: Time,
}

impl End {
    /// Seconds until then; negative once it is past.
    #[must_use]
    pub fn left(&self, now: Time) -> i64 {
        self.at.since(now)
    }

    /// Whether it is time to tell of it.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.left(now) <= NOTICE
    }

    /// What ends and when, in a sentence that names no more of an estate than a version or a file.
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

/// Those of which it is time to tell, the first one first.
#[must_use]
pub fn due(mut ends: Vec<End>, now: Time) -> Vec<End> {
    ends.retain(|end| end.is_due(now));
    ends.sort_by(|a, b| (a.at, a.kind, &a.name).cmp(&(b.at, b.kind, &b.name)));
    ends
}

/// Who was told of which end: each is told when it becomes due, and once a day from then on.
#[derive(Debug, Default)]
pub struct Told(Vec<(End, Time)>);

impl Told {
    /// Those of `due` that are to be told now.
    pub fn tell(&mut self, due: &[End], now: Time) -> Vec<End> {
        self.0.retain(|(end, _)| due.contains(end));
        let mut tell = Vec::new();
        for end in due {
            match self.0.iter_mut().find(|(told, _)| told == end) {
                // A clock that was set back tells again, too.
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
        let mut told = Told::default();
        assert_eq!(told.tell(&ends, T), ends);
        assert_eq!(told.tell(&ends, T.plus(DAY - 1)), []);
        assert_eq!(told.tell(&ends, T.plus(DAY)), ends);
        assert_eq!(told.tell(&[end(9), end(12)], T.plus(DAY + 1)), [end(12)]);
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
