//! Objects that tokens and roles are about: organizations, workspaces, deployments, users, teams.

pub mod dag_tags;
pub mod deployments;
pub mod deploys;
pub mod environment;
pub mod organizations;
pub(in crate::controlplane) mod stored_deployments;
pub mod teams;
pub mod users;
pub mod workspaces;
