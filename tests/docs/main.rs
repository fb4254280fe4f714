//! Tests of the documents: their commands, links, alerts, the OpenAPI document, and the first hour.

mod dev;
mod docs;
mod figures;
mod observability;
mod openapi;
#[path = "../rig/mod.rs"]
mod rig;
mod runbook;
mod structure;
