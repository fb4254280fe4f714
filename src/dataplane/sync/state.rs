//! The states of sync, and how one follows from another: a pure function of the state, what came of an attempt, and the
//! time. It knows no socket and reads no clock; who drives it does.

use std::time::Duration;

use serde::Serialize;

use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

/// How a node stands with its control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has just started, and had no answer yet.
    Connecting,
    /// The replica is what the control plane says now.
    Live,
    /// The last attempt failed, and it is no outage: the control plane answers but is not believed, the disk does not
    /// keep what it says, or a single attempt broke.
    Degraded,
    /// The control plane can't be reached.
    Offline,
    /// The replica's head is past its lifetime and could not be renewed, for whatever reason: what was revoked above since
    /// then is not known here.
    Stale,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Connecting, Self::Live, Self::Degraded, Self::Offline, Self::Stale];

    /// The state as it stands in metrics.
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
    /// What a node that can decide says of itself when it is asked whether it is ready.
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

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What the control plane says now is proved, in force, and on the disk.
    Renewed,
    /// It answered; its answer was refused, or refuses this node, or could not be kept.
    Refused,
    /// It did not answer, or something else did in its place.
    Unreachable,
}

impl Outcome {
    /// The outcome as it stands in spans.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// How long to wait at most before the next attempt; the driver takes between half of it and all, at random.
    pub pause: Duration,
    /// Whether the control plane may hold its answer back until something changes.
    pub hold: bool,
}

/// Where sync stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// Whether there is an outage, as events tell it.
    pub connectivity: Connectivity,
    /// Since when.
    pub connectivity_since: Time,
    /// Failures in a row.
    pub failures: u32,
    /// When the control plane's last answer arrived, whatever it was worth; none before the first.
    pub answered: Option<Time>,
}

/// The pause after the first failure, and the longest one while the control plane can't be reached. Short, since what ends
/// an outage may be a revocation that is not known here: it has to be known within a second.
const UNREACHABLE: (u64, u64) = (50, 400);
/// The same while it answers and is not believed: each attempt costs both sides something, and none helps by itself.
const REFUSED: (u64, u64) = (250, 5_000);

impl Progress {
    /// How it begins.
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

    /// What follows from the outcome of an attempt. `expires` is when the head in force is past its lifetime; none when no
    /// replica is in force.
    #[must_use]
    pub fn after(self, outcome: Outcome, now: Time, expires: Option<Time>) -> (Self, Next) {
        let failures = if outcome == Outcome::Renewed { 0 } else { self.failures.saturating_add(1) };
        let state = match outcome {
            Outcome::Renewed => State::Live,
            _ if expires.is_some_and(|expires| now >= expires) => State::Stale,
            Outcome::Refused => State::Degraded,
            // A connection that breaks once is no outage.
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
            Outcome::Refused => backoff(REFUSED, failures),
            Outcome::Unreachable => backoff(UNREACHABLE, failures),
        };
        // A control plane that still counts as reachable has not answered for that.
        let answered = if outcome == Outcome::Unreachable { self.answered } else { Some(now) };
        let next = Next { pause, hold: outcome == Outcome::Renewed };
        (Self { state, since, connectivity, connectivity_since, failures, answered }, next)
    }
}

fn backoff((first, longest): (u64, u64), failures: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    Duration::from_millis(doubled.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::live::Live;
    use crate::dataplane::snapshot::Snapshot;

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
        // From, in which connectivity; outcome; the head's end; to, in which connectivity; pause; hold.
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
            // A head was carried in: no longer stale, and the control plane as far away as before.
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
            // Held back for a minute, and never given: the control plane counts as reachable still.
            (Unreachable, 70, Some(10)),
            (Unreachable, 71, Some(10)),
            (Refused, 80, Some(80)),
            (Refused, 81, Some(81)),
            (Unreachable, 140, Some(81)),
            (Renewed, 150, Some(150)),
        ] {
            let (after, next) = progress.after(outcome, Time::from_unix(at), FRESH);
            let error = (outcome != Renewed).then(String::new);
            live.stand(after, error, Time::from_unix(at), next.pause);
            assert_eq!(live.standing().last_contact, expected.map(Time::from_unix), "{outcome:?} at {at}");
            progress = after;
        }
    }
}
