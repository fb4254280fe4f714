//! Other people's programs around a deployment: proxies, Airflow, and a network that fails.

mod airflow;
mod airflow_routes;
mod chaos;
mod deploys;
mod proxies;
#[path = "../rig/mod.rs"]
mod rig;
