//! Types of the control plane's HTTP API and of the hosts' admin socket ([`host`]), as JSON carries them. The servers
//! serialize them and the command line deserializes them, so that neither reads untyped JSON. There is one file for each
//! noun.
//!
//! The shapes of the control plane are those that the platform's own clients decode: instants by RFC 3339, objects for users and tokens that did
//! something, lists with their counts, and errors with `message`. Members of our own stand beside them, since those clients
//! ignore members that they do not know.

pub mod audit_log;
pub mod caller;
pub mod data_plane;
pub mod deploy;
pub mod deployment;
pub mod dual_control;
pub mod environment;
pub mod host;
pub mod id;
pub mod instant;
pub mod logs;
pub mod name;
pub mod node;
pub mod number;
pub mod operation;
pub mod organization;
pub mod outage;
pub mod outage_report;
pub mod page;
pub mod problem;
pub mod role;
pub mod settings;
pub mod subject;
pub mod team;
pub mod token;
pub mod user;
pub mod workspace;
