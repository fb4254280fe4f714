//! Parts that every program needs. Nothing here depends on tokens or replicas.

#[cfg(any(feature = "daemon", feature = "control"))]
pub mod backoff;
pub mod cause;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod certificate;
pub mod clock;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod configuration;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod database;
pub mod exit;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod failing;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod logging;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod metric;
#[cfg(any(feature = "daemon", feature = "control", feature = "cli"))]
pub mod net;
#[cfg(any(feature = "daemon", feature = "control", feature = "cli"))]
pub mod private_file;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod state_directory;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod systemd;
pub mod text;
