//! The formats that both planes share, and the rules by which each side reads them. This module does no I/O and reads no
//! clock. docs/protocol.md specifies it for other implementations.
//!
//! | modules | subject |
//! | --- | --- |
//! | [`jws`], [`key`], [`keyset`], [`json`] | signatures, keys, and the chain of keysets from pinned roots |
//! | [`token`], [`role`], [`permission`] | tokens, and the permissions that their roles grant |
//! | [`record`], [`digest`], [`head`], [`bundle`], [`version`] | the replica and its way to a data plane |
//! | [`event`], [`revocation`], [`signer`], [`reconciliation`], [`outage`] | the reports of a data plane to its control plane |
//! | [`node_proof`], [`membership`] | the node's proof of its identity, and its state at the control plane |
//! | [`environment`] | the environment variables of deployments |
//! | [`deploy`] | the code of deployments |
//! | [`glass`], [`ends`] | the barrier before direct access, and warnings before an expiry |
//! | [`id`], [`host`], [`time`] | identifiers, host names and times |
//!
//! To follow a request, begin with [`token::verify`]. To follow a change, begin with [`bundle::BundleReader`].

pub mod bundle;
pub mod deploy;
pub mod digest;
pub mod ends;
pub mod environment;
pub mod event;
pub mod glass;
pub mod head;
pub mod host;
pub mod id;
pub mod json;
pub mod jws;
pub mod key;
pub mod keyset;
pub mod membership;
pub mod node_proof;
pub mod outage;
pub mod permission;
pub mod reconciliation;
pub mod record;
pub mod revocation;
pub mod role;
pub mod signer;
pub mod time;
pub mod token;
pub mod version;
