//! Access to the API: roles, the operations that they allow, and the audit log of calls.

pub mod audit_log;
pub mod authorization;
pub mod deployment_grants;
pub mod roles;
pub mod workspace_grants;
