//! Halligan gives operators access to Airflow deployments while the control plane of these deployments is down.
//!
//! The control plane signs direct-access tokens and publishes them to data planes. Each data-plane host keeps a signed
//! copy of them, its replica, and decides on requests from it alone. Every allowed request is recorded in a tamper-evident
//! log before the answer leaves; the host sends this log to the control plane when it is reachable again.
//!
//! # The two planes
//!
//! | plane | program | feature | task |
//! | --- | --- | --- | --- |
//! | [`controlplane`] | `halligan-control` | `control` | keeps accounts, roles and tokens; signs; publishes replicas; receives logs |
//! | [`dataplane`] | `halligand` | `daemon` | keeps the replica up to date; decides on requests; records; reconciles |
//!
//! The third program, `halligan` ([`cli`]), administers both over the API and a host's admin socket. The planes share only
//! [`protocol`], [`api`] and [`platform`], and never import each other: a `halligand` that is built alone contains no code
//! of the control plane.
//!
//! # The way of a request
//!
//! A proxy (nginx, Caddy, HAProxy, Traefik, Envoy) asks the daemon about each request, or the daemon is the proxy itself.
//!
//! 1. A face reads the question: [`dataplane::faces::http`] for `GET /v1/authorize`, `dataplane::faces::ext_authz` for
//!    Envoy over gRPC, [`dataplane::faces::gateway`] for requests that it forwards itself.
//! 2. [`dataplane::authorize`] is the one entry for all faces. It takes the current snapshot of the replica and the time.
//! 3. [`dataplane::decide`] is a pure function: token, signature, replica, times, deployment, source, age of the replica,
//!    glass, route, permission. The first check that fails denies the request with a
//!    [reason code](dataplane::decide::Reason).
//! 4. [`dataplane::audit`] writes the event before the answer leaves. For a request that may change something, it also
//!    waits until the event is on the disk.
//! 5. The face answers with a status that the proxy passes on or acts upon.
//!
//! # The way of a change
//!
//! [`controlplane::tokens`] stores a token and [`controlplane::replica::publish`] its record, in one transaction. The node's long
//! poll ([`dataplane::uplink::sync`]) receives a [bundle](protocol::bundle). [`dataplane::replica::store`] verifies its
//! keysets, its head and the digest of all records before it commits, and [`dataplane::replica::replication`] replaces
//! the snapshot.
//!
//! # Modules
//!
//! | module | contents |
//! | --- | --- |
//! | [`protocol`] | formats that both planes share; no I/O and no clock |
//! | [`api`] | types of the control plane's HTTP API and of the hosts' admin socket, for servers and clients |
//! | [`controlplane`], [`dataplane`], [`cli`] | the three programs, without their `main` functions |
//! | [`platform`] | configuration files, state directories, clock, logs, systemd, exit codes, text that is safe to print |
//! | [`platform::net`] | accept loop and limits of listeners, TLS, clients, bearers, client addresses |
//!
//! Arrows point down: a program imports [`platform`], [`api`] and [`protocol`], and none of these imports a program.
//! docs/code-structure.md names every folder, docs/protocol.md specifies the formats, docs/threat-model.md the invariants.

// Unit tests share their keys, records and bundles with the test programs, which name the library from outside.
#[cfg(all(test, feature = "daemon"))]
extern crate self as halligan;

pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "control")]
pub mod controlplane;
#[cfg(feature = "daemon")]
pub mod dataplane;
#[cfg(test)]
mod manual;
pub mod platform;
pub mod protocol;

#[cfg(all(test, feature = "daemon"))]
#[path = "../tests/world/nodes.rs"]
mod nodes;
#[cfg(all(test, feature = "daemon"))]
#[path = "../tests/world/mod.rs"]
mod world;
