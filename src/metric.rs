//! Metrics that are created and registered in one step, so that none is counted without being exported.

use prometheus_client::registry::{Metric, Registry, Unit};

/// Creates and registers a metric.
pub fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Creates and registers a metric with a unit, which becomes part of its name.
pub fn registered_in<M: Metric + Clone + Default>(
    registry: &mut Registry,
    unit: Unit,
    name: &str,
    help: &str,
) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}
