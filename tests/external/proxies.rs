//! Proxies in front of deployments. Each is configured as its example in `docs/examples`, and all keep the same
//! promises (contract.rs) while the control plane is down.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;
mod caddy;
mod clients;
mod connections;
mod contract;
mod deployments;
mod edges;
mod envoy;
mod gateway;
mod haproxy;
mod nginx;
mod traefik;
mod upstream;
mod wire;
