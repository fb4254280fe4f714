//! The proxies in front of deployments, each as its example under `docs/examples` configures it, and all of them held to
//! the same promises (contract.rs) while the control plane is gone.

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
