//! Halligan: a way into Airflow deployments while their control plane is down.
//!
//! Arrows point down only: the planes know the protocol, the protocol knows neither of them,
//! and the planes never import each other.

#[cfg(any(feature = "daemon", feature = "control"))]
pub mod certificate;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod configuration;
#[cfg(feature = "control")]
pub mod controlplane;
#[cfg(feature = "daemon")]
pub mod dataplane;
pub mod exit;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod logging;
#[cfg(test)]
mod manual;
#[cfg(any(feature = "daemon", feature = "control", feature = "cli"))]
pub mod net;
pub mod platform;
pub mod protocol;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod state_directory;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod systemd;
