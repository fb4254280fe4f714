//! Tests of recovery: a node and its control plane recover from lost files, outages, wrong clocks and restored backups.

mod carry_in;
mod clock;
mod ends;
mod full_disk;
mod lost_databases;
mod lost_sessions;
mod membership;
#[path = "../world/nodes.rs"]
mod nodes;
mod outage;
mod reconcile;
#[path = "../rig/mod.rs"]
mod rig;
mod starting_over;
mod what_can_be_lost;
#[path = "../world/mod.rs"]
mod world;
