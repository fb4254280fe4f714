//! Parts that any program needs, whatever it decides: nothing here knows tokens or replicas.

pub mod cause;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod net;
pub mod text;
