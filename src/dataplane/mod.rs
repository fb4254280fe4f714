//! The data plane: the part of the system that runs on every host that guards deployments.
//!
//! A module imports only modules further down in this table:
//!
//! | module | contents |
//! | --- | --- |
//! | [`daemon`] | the parts put together: start, stop, reload, watchdog, admin socket |
//! | [`peers`] | what nodes tell each other without the control plane |
//! | [`config`] | the configuration file, with the bounds of its numbers |
//! | [`faces`] | interfaces for proxies and clients |
//! | [`authorize`] | the one entry for requests: decides, records, counts |
//! | [`uplink`] | everything a node asks of its control plane or tells it |
//! | [`observe`], [`glass`] | metrics and spans; breaking and sealing glass |
//! | [`replica`], [`revocations`], [`audit`], [`environment`], [`code`] | what a node keeps on its disk: verified records, local revocations, the audit log, variables for systemd, code of deployments |
//! | [`node`] | identity, databases, alarms, the state that all parts share |
//! | [`decide`] | the decision, a pure function, and all it decides on |

pub mod audit;
pub mod authorize;
pub mod code;
pub mod config;
pub mod daemon;
pub mod decide;
pub mod environment;
pub mod faces;
pub mod glass;
pub mod node;
pub mod observe;
pub mod peers;
pub mod replica;
pub mod revocations;
pub mod uplink;
