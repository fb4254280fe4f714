//! Computes the state of a deployment's glass, which decides if direct access is open.

use crate::protocol::glass::{GlassMode, GlassState};
use crate::protocol::time::Time;

/// Broken glass of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Operator who broke it.
    pub operator: String,
    /// The operator's reason.
    pub reason: String,
    /// Time at which it was broken.
    pub broken_at: Time,
    /// Time at which it ends.
    pub until: Time,
}

/// Returns the state of a deployment's glass at `now`.
///
/// ```
/// use halligan::dataplane::decide::glass::state;
/// use halligan::protocol::glass::{GlassMode, GlassState};
/// use halligan::protocol::time::Time;
///
/// let now = Time::from_unix(1_800_000_000);
/// assert_eq!(state(GlassMode::Outage, None, false, now), GlassState::Sealed);
/// assert_eq!(state(GlassMode::Outage, None, true, now), GlassState::Outage);
/// ```
#[must_use]
pub fn state(mode: GlassMode, broken: Option<&Broken>, outage: bool, now: Time) -> GlassState {
    match mode {
        GlassMode::Always => GlassState::Always,
        _ if broken.is_some_and(|broken| now < broken.until) => GlassState::Broken,
        GlassMode::Outage if outage => GlassState::Outage,
        GlassMode::Outage | GlassMode::Sealed => GlassState::Sealed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Time = Time::from_unix(1_800_000_000);

    fn broken(until: i64) -> Broken {
        Broken { operator: "uid 0".into(), reason: "drill".into(), broken_at: T0, until: T0.plus(until) }
    }

    #[test]
    fn each_way_of_keeping_it_stands_as_it_should() {
        let (broken, past) = (broken(10), broken(0));
        for (mode, broken, outage, expected) in [
            (GlassMode::Always, None, false, GlassState::Always),
            (GlassMode::Always, Some(&broken), true, GlassState::Always),
            (GlassMode::Outage, None, false, GlassState::Sealed),
            (GlassMode::Outage, None, true, GlassState::Outage),
            (GlassMode::Outage, Some(&broken), false, GlassState::Broken),
            (GlassMode::Outage, Some(&past), false, GlassState::Sealed),
            (GlassMode::Sealed, None, true, GlassState::Sealed),
            (GlassMode::Sealed, Some(&broken), false, GlassState::Broken),
            (GlassMode::Sealed, Some(&past), true, GlassState::Sealed),
        ] {
            assert_eq!(state(mode, broken, outage, T0), expected, "{mode:?} {broken:?} {outage}");
        }
        assert_eq!(state(GlassMode::Sealed, Some(&broken), false, T0.plus(10)), GlassState::Sealed);
    }
}
