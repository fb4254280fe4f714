//! The data plane: what runs on every host that guards deployments.
