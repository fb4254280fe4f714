//! Bounds of all numbers in the daemon's configuration. docs/configuration.md repeats this table, and a test compares both.

use crate::platform::configuration::{Bound, bound, bound_or_zero};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
const MEBIBYTE: i64 = 1 << 20;

/// Bounds of each number. `tests/node/configuration.rs` rejects a number that is in no table.
pub(in crate::dataplane) const BOUNDS: [Bound; 30] = [
    bound("trust.threshold", 1, 100),
    bound("listen.workers", 1, 1024),
    bound("listen.connections_per_client", 1, 1_000_000),
    // A replica is renewed every 50 seconds, and a limit above a year limits nothing.
    bound("staleness.default_seconds", 1, YEAR),
    bound("staleness.roles.*", 1, YEAR),
    bound("staleness.custom_roles.*", 1, YEAR),
    bound("glass.outage_after_seconds", 1, DAY),
    bound("glass.restored_after_seconds", 1, DAY),
    bound("glass.max_break_seconds", 1, 30 * DAY),
    // With 0, every request asks the deployment.
    bound("introspection.cache_seconds", 0, HOUR),
    bound("introspection.timeout_milliseconds", 10, 60_000),
    bound("peers.interval_seconds", 1, HOUR),
    bound("peers.connections_per_client", 1, 1_000_000),
    // A queue shorter than one write denies requests although the disk works.
    bound("audit.max_queue", 16, 10_000_000),
    bound_or_zero("audit.retain_days", 1, 36_500),
    bound_or_zero("audit.max_bytes", MEBIBYTE, 1 << 50),
    bound("code.keep", 1, 100),
    bound("admin.allow_uids", 0, 4_294_967_294),
    bound("gateway.limits.connections", 1, 1_000_000),
    bound("gateway.limits.connections_per_client", 1, 1_000_000),
    bound("gateway.limits.header_bytes", 512, MEBIBYTE),
    bound("gateway.limits.body_bytes", 1, 1 << 40),
    bound("gateway.limits.header_seconds", 1, HOUR),
    bound("gateway.limits.connect_seconds", 1, HOUR),
    bound("gateway.limits.idle_seconds", 1, DAY),
    bound("gateway.limits.websocket_seconds", 1, 30 * DAY),
    // A person signs in again after a day at the latest.
    bound("sessions.max_seconds", 60, DAY),
    bound("sessions.idle_seconds", 60, DAY),
    bound("tracing.sample", 0, 1),
    // At least the minute for which an identity is reused, and still short-lived.
    bound("upstream_identity.lifetime_seconds", 90, HOUR),
];
