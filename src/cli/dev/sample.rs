//! Sample organization, and the tokens that a newcomer starts with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::failed;
use crate::api::deployment::NewDeployment;
use crate::api::token::{NewToken, Token, TokenScope};
use crate::api::workspace::NewWorkspace;
use crate::cli::failure::Failure;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, OrganizationRole};
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;
use crate::dataplane::daemon::Daemon;
use crate::platform::private_file::write_private;
use crate::protocol::glass::GlassMode;
use crate::protocol::token::TokenKind;

/// File in the state directory that describes the sample. It contains no secret.
const FILE: &str = "dev.json";

/// Objects created at the first start.
#[derive(Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) control_address: SocketAddr,
    pub(super) organization_id: String,
    pub(super) data_plane_id: String,
    pub(super) deployment_id: String,
    owner_id: String,
    direct_access_id: String,
    standard_id: String,
}

/// Values of the sample's tokens, shown at each start and never stored.
pub(super) struct Tokens {
    pub(super) owner: Zeroizing<String>,
    pub(super) direct_access: Zeroizing<String>,
    pub(super) standard: Zeroizing<String>,
}

fn refused(error: Error) -> Failure {
    failed("the sample can't be made", error)
}

fn value(token: Token) -> Result<Zeroizing<String>, Failure> {
    token.token.ok_or_else(|| failed("the sample can't be made", "a token came without its value"))
}

impl Sample {
    pub(super) fn read(state: &Path) -> Result<Option<Self>, Failure> {
        let path = state.join(FILE);
        match std::fs::read(&path) {
            Ok(text) => {
                let sample = serde_json::from_slice(&text)
                    .map_err(|error| failed(&format!("{} is not understood", path.display()), error))?;
                Ok(Some(sample))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Failure::File { path, source }),
        }
    }

    pub(super) fn write(&self, state: &Path) -> Result<(), Failure> {
        let path = state.join(FILE);
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| failed("the sample can't be kept", error))?;
        write_private(&path, &text).map_err(|source| Failure::File { path, source })
    }

    /// Creates organization, workspace, data plane, deployment, a token of each kind, and an enrolment token for the
    /// node.
    pub(super) fn make(
        control: &ControlPlane,
        control_address: SocketAddr,
        node: &Path,
    ) -> Result<(Self, Tokens), Failure> {
        let owner = control.bootstrap("Sample", "owner@sample.example").map_err(refused)?;
        let actor = control.authenticate(owner.token.as_bytes()).map_err(refused)?;
        let organization = owner.organization_id;
        let new = NewWorkspace { name: "sample".into(), description: String::new() };
        let workspace = control.create_workspace(&actor, &organization, &new).map_err(refused)?;
        let data_plane = control.create_data_plane(&actor, &organization, "sample").map_err(refused)?;
        let data_plane_id = String::from(data_plane.id);
        let deployment = NewDeployment {
            name: "sample".into(),
            description: String::new(),
            workspace_id: workspace.id.into(),
            data_plane_id: data_plane_id.clone(),
            hosts: vec!["sample.localhost".into()],
            routes: None,
            glass: GlassMode::default(),
        };
        let deployment = control.create_deployment(&actor, &organization, deployment).map_err(refused)?;
        let create = |name: &str, kind| {
            let token = NewToken {
                name: name.into(),
                description: String::new(),
                scope: TokenScope::Deployment,
                kind,
                entity_id: Some(deployment.id.to_string()),
                role: None,
                roles: Vec::new(),
                token_expiry_period_in_days: Some(30),
                sources: Vec::new(),
                rate_limit_per_minute: None,
            };
            control.create_token(&actor, &organization, token, None).map_err(refused)
        };
        let direct_access = create("direct-access", TokenKind::DirectAccess)?;
        let standard = create("standard", TokenKind::Standard)?;
        let enrolment =
            control.create_enrolment_token(&actor, &organization, &data_plane_id, 3600).map_err(refused)?;
        let path = node.join("enrolment-token");
        write_private(&path, enrolment.enrolment_token.as_bytes())
            .map_err(|source| Failure::File { path, source })?;
        let sample = Self {
            control_address,
            organization_id: organization,
            data_plane_id,
            deployment_id: deployment.id.to_string(),
            owner_id: owner.user_id,
            direct_access_id: direct_access.id.to_string(),
            standard_id: standard.id.to_string(),
        };
        let tokens =
            Tokens { owner: owner.token, direct_access: value(direct_access)?, standard: value(standard)? };
        Ok((sample, tokens))
    }

    /// Rotates the sample's tokens, because their values were shown at an earlier start and not stored.
    pub(super) fn renew(&self, control: &ControlPlane) -> Result<Tokens, Failure> {
        let organization = &self.organization_id;
        let actor = Actor {
            id: self.owner_id.clone(),
            organization: organization.clone(),
            role: Some(OrganizationRole::OrganizationOwner),
            workspaces: BTreeMap::new(),
            deployments: BTreeMap::new(),
        };
        let rotate = |id| {
            control
                .rotate_token(&actor, organization, id, None, &IfMatch::default())
                .map_err(refused)
                .and_then(value)
        };
        let owner = control.rotate_user_token(&actor, organization, &self.owner_id).map_err(refused)?.token;
        Ok(Tokens {
            owner,
            direct_access: rotate(&self.direct_access_id)?,
            standard: rotate(&self.standard_id)?,
        })
    }
}

/// Waits until the daemon has synchronized its replica since this start, so that the announced values work.
pub(super) async fn until_synced(daemon: &Daemon) -> Result<(), Failure> {
    let synced = async {
        while daemon.live().standing().progress.answered.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let error = || daemon.live().standing().last_error.unwrap_or_else(|| "no answer".into());
    tokio::time::timeout(Duration::from_secs(10), synced)
        .await
        .map_err(|_| failed("the daemon does not reach the control plane", error()))
}
