//! States of sync and their transitions: a pure function of the state, the outcome of an attempt, and the time. It does no
//! I/O and reads no clock; the caller does.

use std::time::Duration;

use crate::platform::backoff::Backoff;
use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

/// State of a node's connection to its control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The node has just started, and had no answer yet.
    Connecting,
    /// The replica equals the control plane's.
    Live,
    /// The last attempt failed, but there is no outage: the control plane's answer was rejected, the disk could not store
    /// it, or a single attempt broke.
    Degraded,
    /// The control plane cannot be reached.
    Offline,
    /// The head of the replica has expired and could not be renewed, for any reason. Later revocations at the control plane
    /// are not known here.
    Stale,
}

impl State {
    /// All states, in the order of the declaration.
    pub const ALL: [Self; 5] = [Self::Connecting, Self::Live, Self::Degraded, Self::Offline, Self::Stale];

    /// Returns the state's value in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
            Self::Stale => "stale",
        }
    }
}

impl State {
    /// Returns the text that a ready node answers to a readiness check.
    #[must_use]
    pub const fn ready(self) -> &'static str {
        match self {
            Self::Connecting => "ready; connecting to the control plane\n",
            Self::Live => "ready\n",
            Self::Degraded => "ready; degraded: the replica could not be renewed\n",
            Self::Offline => "ready; offline: the control plane can't be reached\n",
            Self::Stale => "ready; stale: the replica's head is past its lifetime\n",
        }
    }
}

/// Outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is verified, in force, and on the disk.
    Renewed,
    /// The control plane answered. The answer was rejected, rejects this node, or could not be stored.
    Refused,
    /// The control plane did not answer, or something else answered in its place.
    Unreachable,
}

impl Outcome {
    /// Returns the outcome's value in spans.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Next action of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Maximum pause before the next attempt. The driver waits a random time between half of it and all of it.
    pub pause: Duration,
    /// True if the control plane may hold its answer until something changes.
    pub hold: bool,
}

/// State of sync with its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// State of the connection.
    pub state: State,
    /// Time at which this state began.
    pub since: Time,
    /// Connectivity, as events record it.
    pub connectivity: Connectivity,
    /// Time at which this connectivity began.
    pub connectivity_since: Time,
    /// Number of consecutive failures.
    pub failures: u32,
    /// Time at which the last answer arrived, valid or not, or `None` before the first.
    pub answered: Option<Time>,
}

/// Pauses while the control plane cannot be reached. They are short, because a revocation made in an outage must be known
/// here within a second of its end.
const UNREACHABLE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(400));
/// Pauses while the control plane's answers are rejected. Each attempt costs both sides work, and a retry alone rarely helps.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

impl Progress {
    /// Returns the state at the start.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            state: State::Connecting,
            since: now,
            connectivity: Connectivity::Connecting,
            connectivity_since: now,
            failures: 0,
            answered: None,
        }
    }

    /// Returns the state after an attempt, and the next action. `expires` is the time at which the head in force expires,
    /// or `None` without a replica.
    #[must_use]
    pub fn after(self, outcome: Outcome, now: Time, expires: Option<Time>) -> (Self, Next) {
        let failures = if outcome == Outcome::Renewed { 0 } else { self.failures.saturating_add(1) };
        let state = match outcome {
            Outcome::Renewed => State::Live,
            _ if expires.is_some_and(|expires| now >= expires) => State::Stale,
            Outcome::Refused => State::Degraded,
            // A single broken connection is no outage.
            Outcome::Unreachable if self.state == State::Live => State::Degraded,
            Outcome::Unreachable => State::Offline,
        };
        let connectivity = match outcome {
            Outcome::Renewed | Outcome::Refused => Connectivity::Online,
            Outcome::Unreachable if self.state == State::Live => self.connectivity,
            Outcome::Unreachable => Connectivity::Offline,
        };
        let since = if state == self.state { self.since } else { now };
        let connectivity_since =
            if connectivity == self.connectivity { self.connectivity_since } else { now };
        let pause = match outcome {
            Outcome::Renewed => Duration::ZERO,
            Outcome::Refused => REFUSED.bound(failures),
            Outcome::Unreachable => UNREACHABLE.bound(failures),
        };
        // A control plane that still counts as reachable has not necessarily answered.
        let answered = if outcome == Outcome::Unreachable { self.answered } else { Some(now) };
        let next = Next { pause, hold: outcome == Outcome::Renewed };
        (Self { state, since, connectivity, connectivity_since, failures, answered }, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::decide::snapshot::Snapshot;
    use crate::dataplane::node::state::Live;

    const NOW: Time = Time::from_unix(1_000);
    const FRESH: Option<Time> = Some(Time::from_unix(1_001));
    const EXPIRED: Option<Time> = Some(Time::from_unix(1_000));

    fn in_state(state: State, connectivity: Connectivity) -> Progress {
        let since = Time::from_unix(500);
        let answered = Some(Time::from_unix(400));
        Progress { state, since, connectivity, connectivity_since: since, failures: 3, answered }
    }

    #[test]
    fn every_state_follows_from_state_outcome_and_time() {
        use Connectivity::{Connecting as Unknown, Offline as Gone, Online as There};
        use Outcome::{Refused, Renewed, Unreachable};
        use State::{Connecting, Degraded, Live, Offline, Stale};
        // From, in which connectivity; outcome; end of the head; to, in which connectivity; pause; hold.
        let table = [
            (Connecting, Unknown, Renewed, FRESH, Live, There, 0, true),
            (Connecting, Unknown, Refused, None, Degraded, There, 2_000, false),
            (Connecting, Unknown, Refused, EXPIRED, Stale, There, 2_000, false),
            (Connecting, Unknown, Unreachable, None, Offline, Gone, 400, false),
            (Connecting, Unknown, Unreachable, FRESH, Offline, Gone, 400, false),
            (Connecting, Unknown, Unreachable, EXPIRED, Stale, Gone, 400, false),
            (Live, There, Renewed, FRESH, Live, There, 0, true),
            (Live, There, Refused, FRESH, Degraded, There, 2_000, false),
            (Live, There, Unreachable, FRESH, Degraded, There, 400, false),
            (Live, There, Unreachable, EXPIRED, Stale, There, 400, false),
            (Degraded, There, Renewed, FRESH, Live, There, 0, true),
            (Degraded, There, Refused, FRESH, Degraded, There, 2_000, false),
            (Degraded, There, Refused, EXPIRED, Stale, There, 2_000, false),
            (Degraded, There, Unreachable, FRESH, Offline, Gone, 400, false),
            (Offline, Gone, Renewed, FRESH, Live, There, 0, true),
            (Offline, Gone, Refused, FRESH, Degraded, There, 2_000, false),
            (Offline, Gone, Unreachable, FRESH, Offline, Gone, 400, false),
            (Offline, Gone, Unreachable, EXPIRED, Stale, Gone, 400, false),
            (Stale, Gone, Renewed, FRESH, Live, There, 0, true),
            (Stale, Gone, Refused, EXPIRED, Stale, There, 2_000, false),
            (Stale, There, Unreachable, EXPIRED, Stale, Gone, 400, false),
            // A head was imported from a file: the state is no longer stale, and the control plane is as unreachable as before.
            (Stale, Gone, Unreachable, FRESH, Offline, Gone, 400, false),
        ];
        for (from, before, outcome, expires, to, after, pause, hold) in table {
            let (progress, next) = in_state(from, before).after(outcome, NOW, expires);
            let row = format!("{from:?} {before:?} {outcome:?} {expires:?}");
            assert_eq!((progress.state, progress.connectivity), (to, after), "{row}");
            assert_eq!(next, Next { pause: Duration::from_millis(pause), hold }, "{row}");
            assert_eq!(progress.since, if from == to { Time::from_unix(500) } else { NOW }, "{row}");
            let answered = if outcome == Unreachable { Time::from_unix(400) } else { NOW };
            assert_eq!(progress.answered, Some(answered), "{row}: when the last answer arrived");
            let same = before == after;
            assert_eq!(progress.connectivity_since, if same { Time::from_unix(500) } else { NOW }, "{row}");
        }
    }

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_an_answer() {
        let mut progress = Progress::new(NOW);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let (after, next) = progress.after(Outcome::Unreachable, NOW, FRESH);
            pauses.push(next.pause.as_millis());
            progress = after;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 400, 400]);
        let (mut progress, _) = progress.after(Outcome::Renewed, NOW, FRESH);
        assert_eq!(progress.failures, 0);
        pauses.clear();
        for _ in 0..7 {
            let (after, next) = progress.after(Outcome::Refused, NOW, FRESH);
            pauses.push(next.pause.as_millis());
            progress = after;
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        let weary = Progress { failures: u32::MAX, ..progress };
        assert_eq!(weary.after(Outcome::Unreachable, NOW, FRESH).1.pause.as_millis(), 400);
    }

    #[test]
    fn the_last_contact_is_when_the_last_answer_arrived() {
        use Outcome::{Refused, Renewed, Unreachable};
        let live = Live::new(Snapshot::absent(), Time::default(), NOW);
        let mut progress = Progress::new(NOW);
        for (outcome, at, expected) in [
            (Unreachable, 1, None),
            (Renewed, 10, Some(10)),
            // An answer was held for a minute and never arrived: the control plane still counts as reachable.
            (Unreachable, 70, Some(10)),
            (Unreachable, 71, Some(10)),
            (Refused, 80, Some(80)),
            (Refused, 81, Some(81)),
            (Unreachable, 140, Some(81)),
            (Renewed, 150, Some(150)),
        ] {
            let (after, next) = progress.after(outcome, Time::from_unix(at), FRESH);
            let error = (outcome != Renewed).then(String::new);
            live.record_attempt(after, error, Time::from_unix(at), next.pause);
            assert_eq!(
                live.standing().progress.answered,
                expected.map(Time::from_unix),
                "{outcome:?} at {at}"
            );
            progress = after;
        }
    }
}
