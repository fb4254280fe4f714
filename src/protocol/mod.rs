//! What both planes agree on: pure, with no I/O and no clock.
//!
//! Read it in the order a token's bytes take: [`jws`] proves who signed, [`token`] what was signed, [`role`] and
//! [`permission`] what it allows. Then how a data plane comes to know: [`record`], [`digest`], [`head`], [`keyset`],
//! [`bundle`]; what stands before a deployment: [`glass`]; and what it says back: [`event`], [`revocation`],
//! [`reconciliation`], [`outage`].

pub mod bundle;
pub mod digest;
pub mod ends;
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
pub mod outage;
pub mod permission;
pub mod proof;
pub mod reconciliation;
pub mod record;
pub mod revocation;
pub mod role;
pub mod signer;
pub mod time;
pub mod token;
pub mod version;
