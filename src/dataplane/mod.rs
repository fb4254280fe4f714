//! The data plane: the part of the system that runs on every host that guards deployments.
//!
//! A module imports only modules further down in this table:
//!
//! | module | contents |
//! | --- | --- |
//! | [`daemon`] | the parts put together: start, stop, reload, watchdog, admin socket |
//! | [`config`] | the configuration file, with the bounds of its numbers |
//! | [`faces`], [`peers`] | interfaces for proxies and clients; what nodes tell each other |
//! | [`authorize`] | the one entry for requests: decides, records, counts |
//! | [`uplink`] | everything a node asks of its control plane or tells it |
//! | [`observe`] | metrics and spans |
//! | [`replica`], [`revocations`], [`glass`] | what a node holds: verified records, local revocations, broken glass |
//! | [`audit`] | the audit log |
//! | [`node`] | identity, databases, alarms, the state that all parts share |
//! | [`decide`] | the decision, a pure function, and all it decides on |

pub mod audit;
pub mod authorize;
pub mod config;
pub mod daemon;
pub mod decide;
pub mod faces;
pub mod glass;
pub mod node;
pub mod observe;
pub mod peers;
pub mod replica;
pub mod revocations;
pub mod uplink;
