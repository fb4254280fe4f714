//! Tests with external programs: proxies, Airflow, and a failing network.

mod airflow;
mod airflow_routes;
mod chaos;
mod deploys;
mod proxies;
#[path = "../rig/mod.rs"]
mod rig;
