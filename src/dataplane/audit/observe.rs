//! What metrics tell of the log. Whoever remembers the sequence elsewhere can see that a log was cut back to a checkpoint.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;

use super::AuditLog;

/// Reads the log's standing when metrics are asked for.
#[derive(Debug)]
pub struct AuditMetrics(pub Arc<AuditLog>);

impl Collector for AuditMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: i64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let sequence = i64::try_from(self.0.sequence()).unwrap_or(i64::MAX);
        let waiting = i64::try_from(self.0.waiting()).unwrap_or(i64::MAX);
        gauge("audit_sequence", "The last event of the audit log that is on the disk", sequence)?;
        gauge("audit_waiting", "Events that wait to be written", waiting)?;
        gauge("audit_failing", "Whether the last write of the audit log failed", i64::from(self.0.failing()))
    }
}
