//! What the documents say, tried: commands, links, alerts, the OpenAPI document, the first hour.

mod dev;
mod docs;
mod figures;
mod observability;
mod openapi;
#[path = "../rig/mod.rs"]
mod rig;
mod runbook;
mod structure;
