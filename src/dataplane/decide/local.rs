//! State of a node beyond what its control plane signed.

use std::collections::BTreeMap;

use super::HeadAge;
use super::glass::{self, Broken};
use super::index::Deployment;
use super::routes::RouteMaps;
use super::session::ended::Ended;
use crate::protocol::glass::{GlassMode, GlassState};
use crate::protocol::head::Head;
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::time::Time;

/// State of this node beyond what its control plane signed.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Tokens revoked on hosts of this data plane, and the times.
    pub revoked: BTreeMap<TokenId, Time>,
    /// Route maps of this host. A change takes effect with the next snapshot that is built.
    pub routes: RouteMaps,
    /// Deployments whose glass an operator broke.
    pub broken: BTreeMap<DeploymentId, Broken>,
    /// Sessions that were ended on this host.
    pub ended_sessions: Ended,
    /// True if the control plane is judged unreachable.
    pub outage: bool,
    /// Age of a head, if an administrator of this host accepted a clock that contradicts the head's `iat`.
    pub(in crate::dataplane) accepted: Option<HeadAge>,
}

impl Local {
    /// Returns the state of the glass of `deployment` at `now`.
    pub(in crate::dataplane) fn glass(&self, deployment: &Deployment, now: Time) -> GlassState {
        match deployment.glass {
            GlassMode::Always => GlassState::Always,
            mode => glass::state(mode, self.broken.get(&deployment.id), self.outage, now),
        }
    }

    /// Returns the time from which the age of a head is computed: its `iat`, or earlier after a clock was accepted.
    pub(in crate::dataplane) fn signed_at(&self, head: &Head) -> Time {
        self.accepted.filter(|age| age.belongs_to(head)).map_or(head.iat, |age| age.signed)
    }
}
