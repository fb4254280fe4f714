//! Metrics of the log. A monitoring system that remembers the sequence number can detect that a log was cut back to a checkpoint.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::{AuditLog, UploadLag};
use crate::platform::clock::Clock;
use crate::platform::metric::gauge;

/// Collector that reads the state of the log when metrics are requested.
pub struct AuditMetrics {
    /// Log that it observes.
    pub log: Arc<AuditLog>,
    /// Lag of the uploaded part behind the log.
    pub lag: Arc<UploadLag>,
    /// Clock against which the lag is measured.
    pub clock: Clock,
}

impl std::fmt::Debug for AuditMetrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AuditMetrics")
    }
}

impl Collector for AuditMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let sequence = self.log.sequence();
        gauge(
            &mut encoder,
            "audit_sequence",
            "The last event of the audit log that is on the disk",
            None,
            number(sequence),
        )?;
        gauge(
            &mut encoder,
            "audit_waiting",
            "Events that wait to be written",
            None,
            count(self.log.waiting()),
        )?;
        gauge(
            &mut encoder,
            "audit_capacity",
            "Events that may wait to be written",
            None,
            count(self.log.queue.capacity),
        )?;
        let failing = i64::from(self.log.failing());
        gauge(
            &mut encoder,
            "audit_failing",
            "Whether the last write of the audit log failed",
            None,
            failing,
        )?;
        // The lag is measured at intervals: if nothing waited at the last one, the lag is zero.
        let since = self.lag.since();
        let behind = since.map_or(0, |_| number(sequence.saturating_sub(self.lag.uploaded())));
        gauge(
            &mut encoder,
            "audit_not_uploaded",
            "Events that the control plane has not taken in",
            None,
            behind,
        )?;
        let age = since.map_or(0, |since| (self.clock)().since(since).max(0));
        let help = "Age of the oldest event that the control plane has not taken in; 0 where there is none";
        gauge(&mut encoder, "audit_not_uploaded_age", help, Some(&Unit::Seconds), age)
    }
}
