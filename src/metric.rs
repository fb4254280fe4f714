//! Metrics that are made and registered in one step, so that nothing is counted that is not told.

use prometheus_client::registry::{Metric, Registry, Unit};

/// Makes a metric and registers it.
pub fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Makes a metric of a unit, which becomes part of its name, and registers it.
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
