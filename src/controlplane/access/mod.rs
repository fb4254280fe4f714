//! Who may do what: roles, the operations that they allow, and the audit log of who did what.

pub mod audit_log;
pub mod authorization;
pub mod roles;
pub mod workspace_grants;
