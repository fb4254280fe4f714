//! The control plane and its CLI: tokens, roles, people, keys, route maps, webhooks.

mod assignments;
mod authorization;
mod backup;
mod bucket;
mod control_plane;
mod custom_roles;
mod dag_roles;
mod dual_control;
mod ids;
mod issuer;
mod key_ceremony;
mod other_plane;
mod pipelines;
mod platform_clients;
#[path = "../rig/mod.rs"]
mod rig;
mod route_maps;
mod routes_cli;
mod services;
mod subject_roles;
mod teams;
mod token_limits;
mod tokens;
mod webhook;
