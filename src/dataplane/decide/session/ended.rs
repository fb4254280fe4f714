//! Sessions that were ended on this host before their time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::id::SessionId;
use crate::protocol::time::Time;

/// Maximum number of sessions that are listed one by one.
const MAX_LISTED: usize = 10_000;
/// Seconds after which every session is over: the upper bound of `sessions.max_seconds`.
const LONGEST: i64 = 86_400;

/// Set of ended sessions: a list, and a time at or before which every session began that may be missing from the list.
///
/// ```
/// use halligan::dataplane::decide::session::ended::Ended;
/// use halligan::protocol::time::Time;
///
/// let (id, begun) = ("ses_a".parse().unwrap(), Time::from_unix(1_800_000_000));
/// let mut ended = Ended::default();
/// ended.add(&id, begun, begun);
/// assert!(ended.holds(&id, begun));
/// assert!(!ended.holds(&"ses_b".parse().unwrap(), begun));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Every session that began at or before this time has ended.
    before: Option<Time>,
    /// Ended sessions that began later, and when they began.
    listed: BTreeMap<SessionId, Time>,
}

impl Ended {
    /// Returns true if a session that began at `begun` was ended, or may have been.
    #[must_use]
    pub fn holds(&self, id: &SessionId, begun: Time) -> bool {
        self.before.is_some_and(|before| begun <= before) || self.listed.contains_key(id)
    }

    /// Adds a session, and shortens the list: sessions that are over by the time floor leave it, and those that began first if
    /// it is too long.
    ///
    /// All sessions that began no later than one that leaves count as ended. Otherwise a floor that is lowered would revive it.
    ///
    /// ```
    /// use halligan::dataplane::decide::session::ended::Ended;
    /// # use halligan::protocol::time::Time;
    ///
    /// let begun = Time::from_unix(1_800_000_000);
    /// let mut ended = Ended::default();
    /// ended.add(&"ses_a".parse()?, begun, begun);
    /// // Two days later, the first session is over and leaves the list. The set still counts it as ended.
    /// let later = begun.plus(2 * 86_400);
    /// ended.add(&"ses_b".parse()?, later, later);
    /// assert!(ended.holds(&"ses_a".parse()?, begun));
    /// // A session that began after it, and is not in the list, goes on.
    /// assert!(!ended.holds(&"ses_c".parse()?, begun.plus(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add(&mut self, id: &SessionId, begun: Time, floor: Time) {
        self.listed.insert(id.clone(), begun);
        let mut begun: Vec<Time> = self.listed.values().copied().collect();
        begun.sort_unstable();
        let over = begun.partition_point(|begun| begun.plus(LONGEST) <= floor);
        let leaving = over.max(begun.len().saturating_sub(MAX_LISTED));
        if let Some(last) = leaving.checked_sub(1).and_then(|last| begun.get(last)) {
            self.add_all_until(*last);
        }
    }

    /// Counts every session that began at or before `time` as ended. The host does not know which of them were.
    ///
    /// ```
    /// use halligan::dataplane::decide::session::ended::Ended;
    /// use halligan::protocol::time::Time;
    ///
    /// let time = Time::from_unix(1_800_000_000);
    /// let mut ended = Ended::default();
    /// ended.add_all_until(time);
    /// // The set does not know this session, and counts it as ended.
    /// assert!(ended.holds(&"ses_a".parse()?, time.plus(-60)));
    /// assert!(!ended.holds(&"ses_b".parse()?, time.plus(60)));
    /// assert_eq!(ended.latest(), Some(time));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_all_until(&mut self, time: Time) {
        self.before = self.before.max(Some(time));
        self.listed.retain(|_, begun| Some(*begun) > self.before);
    }

    /// Returns the latest time at which a session began that has ended.
    #[must_use]
    pub fn latest(&self) -> Option<Time> {
        self.listed.values().copied().max().max(self.before)
    }

    /// Returns the beginning of a session that begins at `now`: later than every time until which all have ended.
    pub(in crate::dataplane::decide) fn beginning(&self, now: Time) -> Time {
        self.before.map_or(now, |before| now.max(before.plus(1)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const T: Time = Time::from_unix(1_800_000_000);

    fn id(number: usize) -> SessionId {
        format!("ses_{number}").parse().unwrap()
    }

    #[test]
    fn a_session_that_was_ended_stays_so_however_the_list_is_shortened() {
        let (mut ended, mut all) = (Ended::default(), Vec::new());
        for number in 0..MAX_LISTED + 5 {
            let (id, begun) = (id(number), T.plus(i64::try_from(number).unwrap()));
            if number < MAX_LISTED {
                ended.listed.insert(id.clone(), begun);
            } else {
                ended.add(&id, begun, T);
            }
            all.push((id, begun));
        }
        assert_eq!(ended.listed.len(), MAX_LISTED);
        assert!(all.iter().all(|(id, begun)| ended.holds(id, *begun)));
        // A floor that ran ahead, and is lowered later.
        let later = T.plus(10 * LONGEST);
        ended.add(&id(0), later, later);
        assert_eq!(ended.listed.len(), 1);
        assert!(all.iter().all(|(id, begun)| ended.holds(id, *begun)));
        assert!(!ended.holds(&id(1), ended.beginning(T)), "people can sign in again");
    }

    #[test]
    fn the_latest_beginning_of_an_ended_session_is_told() {
        let mut ended = Ended::default();
        assert_eq!(ended.latest(), None);
        for (number, begun) in [(1, 10), (2, 5)] {
            ended.add(&id(number), T.plus(begun), T);
            assert_eq!(ended.latest(), Some(T.plus(10)));
        }
        for (until, latest) in [(7, 10), (20, 20)] {
            ended.add_all_until(T.plus(until));
            assert_eq!(ended.latest(), Some(T.plus(latest)));
        }
    }

    #[test]
    fn a_session_that_outlasts_one_that_was_ended_goes_on() {
        let mut ended = Ended::default();
        ended.add(&id(1), T.plus(10), T.plus(LONGEST - 1));
        assert!(ended.holds(&id(1), T.plus(10)) && !ended.holds(&id(2), T));
    }
}
