//! Tests of one daemon and its peers: authorization, revocation and invalid input.

mod bad_input;
mod check_config;
mod configuration;
mod connections;
mod deploys;
mod disk_damage;
mod environment;
mod glass;
mod hostile_feed;
mod listeners;
#[path = "../world/nodes.rs"]
mod nodes;
mod peers;
mod revocation;
#[path = "../rig/mod.rs"]
mod rig;
mod secrets;
mod sessions;
mod standard_tokens;
mod standing;
mod support_bundle;
mod tracing;
#[path = "../world/mod.rs"]
mod world;
