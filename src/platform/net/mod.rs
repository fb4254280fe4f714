//! Network code that listeners and clients of every program share, and the reading of what HTTP peers say about a request.

#[cfg(any(feature = "daemon", feature = "control"))]
pub mod activity;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod bearer;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod client;
#[cfg(feature = "daemon")]
pub mod connections;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod fields;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod forwarded;
#[cfg(any(feature = "daemon", feature = "control"))]
mod heads;
#[cfg(feature = "daemon")]
pub mod http_client;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod linger;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod listener;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod network;
pub mod origin;
#[cfg(any(feature = "control", feature = "cli"))]
pub mod provider;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod serve;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod share;
#[cfg(any(feature = "daemon", feature = "control"))]
pub mod tls;
