//! Network code that listeners and clients of every program share.

#[cfg(any(feature = "daemon", feature = "control"))]
pub mod activity;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod client;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod listener;
pub mod origin;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod serve;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod share;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod tls;
