//! Retry policy of the webhook, as pure functions of the failures so far.
//!
//! The same pauses apply to a failed message and to the endpoint as a whole. Thus a message that the endpoint rejects
//! does not delay the others, and an endpoint that is down does not receive an attempt for each queued message.

use std::time::Duration;

use crate::platform::backoff::Backoff;

/// Maximum pause between attempts.
pub(super) const LONGEST: Duration = Duration::from_mins(10);
/// Pauses between attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), LONGEST);
/// Minimum time for which a message is retried, in seconds. A week covers a weekend and the repairs after it.
const TRIED_FOR: i64 = 7 * 86_400;
/// Minimum number of attempts. A message that waited long behind others, or while the control plane was down, still
/// gets them.
const TRIED_AT_LEAST: u32 = 10;

/// Returns the pause after `failures` failures in a row, with `luck` as in [`Backoff::pause`]. A longer pause that the
/// endpoint requested (`Retry-After`) is respected up to the same maximum.
pub(super) fn pause(failures: u32, luck: u32, asked: Option<Duration>) -> Duration {
    PAUSES.pause(failures, luck).max(asked.unwrap_or_default().min(LONGEST))
}

/// Returns true if a message is given up that has failed `attempts` times and was made `age` seconds ago.
pub(super) const fn gives_up(attempts: u32, age: i64) -> bool {
    attempts >= TRIED_AT_LEAST && age >= TRIED_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        // Rounded up: the randomness leaves the pause up to a thousandth below its maximum.
        let longest = |failures| pause(failures, u32::MAX, None).as_millis().div_ceil(1000);
        let pauses: Vec<_> = (1..=12).map(longest).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!((longest(u32::MAX), longest(0)), (600, 1));
    }

    #[test]
    fn luck_spreads_them_over_the_upper_half() {
        for failures in 1..15 {
            let pauses = [0, u32::MAX / 2, u32::MAX].map(|luck| pause(failures, luck, None).as_millis());
            assert!(pauses[0] < pauses[1] && pauses[1] < pauses[2], "{pauses:?}");
            assert!(pauses[0] * 2 >= pauses[2] && pauses[2] <= 600_000, "{pauses:?}");
        }
    }

    #[test]
    fn an_endpoint_may_ask_for_more_time_but_not_for_ever() {
        let seconds = |asked| pause(1, 0, Some(Duration::from_secs(asked))).as_secs();
        assert_eq!((seconds(30), seconds(86_400)), (30, 600));
        assert_eq!(pause(8, 0, Some(Duration::from_secs(1))).as_secs(), 64, "nor for less");
    }

    #[test]
    fn a_message_is_given_up_after_a_week_and_some_attempts() {
        assert!(!gives_up(1_000, 7 * 86_400 - 1));
        assert!(!gives_up(9, 30 * 86_400), "it waited, and was hardly tried");
        assert!(gives_up(10, 7 * 86_400));
    }
}
