//! Last steps of a decision: the route of the request, and the permissions that it needs.

use std::sync::Arc;

use super::Step;
use crate::dataplane::decide::index::{Deployment, Grant};
use crate::dataplane::decide::introspection::Introspection;
use crate::dataplane::decide::routes::{CanonicalPath, Match, RouteMap};
use crate::dataplane::decide::snapshot::Granted;
use crate::dataplane::decide::{Reason, Target};
use crate::protocol::permission::PermissionSet;

impl Step<'_> {
    /// Checks that the control plane's answer allows the route, and returns all that it grants.
    pub(super) fn permission_said(
        &mut self,
        said: &Introspection,
        deployment: &Deployment,
    ) -> Result<Granted, Reason> {
        let permissions = said.permissions.as_ref().ok_or(Reason::TokenRevoked)?;
        let path = CanonicalPath::parse(self.facts.uri).map_err(|_| Reason::PathInvalid)?;
        let found = self.route(deployment, &path)?;
        allow(permissions.on(found.dag, &deployment.tags), &found)?;
        Ok(permissions.granted())
    }

    /// Checks that the token's role allows the route, and returns all that it grants.
    pub(super) fn permission(&mut self, grant: &Grant, deployment: &Deployment) -> Result<Granted, Reason> {
        let path = CanonicalPath::parse(self.facts.uri).map_err(|_| Reason::PathInvalid)?;
        let found = self.route(deployment, &path)?;
        if self.claims.role.as_ref() != Some(grant.profile.role()) {
            return Err(Reason::RoleMismatch);
        }
        let granted = grant.profile.granted().ok_or(Reason::RoleMismatch)?;
        let permissions = grant.profile.permissions(found.dag, &deployment.tags);
        allow(permissions.ok_or(Reason::RoleMismatch)?, &found)?;
        Ok(granted)
    }

    fn route<'m, 'p>(
        &mut self,
        deployment: &'m Deployment,
        path: &'p CanonicalPath<'_>,
    ) -> Result<Match<'m, 'p>, Reason> {
        let routes = match self.facts.deployment {
            Target::Daemon(_) => Some(RouteMap::daemon()),
            _ => deployment.routes.as_deref(),
        };
        let found = routes.and_then(|routes| routes.find(self.facts.method, path));
        // Only a matching route can allow an encoded slash in the path.
        if found.is_none() && path.encoded_slash().is_some() {
            return Err(Reason::PathInvalid);
        }
        self.found.path = Some(path.as_str().to_owned());
        let found = found.ok_or(Reason::RouteUnknown)?;
        self.found.route = Some(Arc::clone(&found.route.template));
        self.found.permission = Some(found.route.permission);
        self.found.mutating = found.route.mutating;
        Ok(found)
    }
}

fn allow(permissions: PermissionSet, found: &Match<'_, '_>) -> Result<(), Reason> {
    if found.route.permissions.is_subset(permissions) { Ok(()) } else { Err(Reason::PermissionDenied) }
}
