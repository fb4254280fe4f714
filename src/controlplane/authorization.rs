//! What a caller may do: one table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::Error;

/// A role in an organization. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrganizationRole {
    /// Reads what belongs to the organization as a whole.
    OrganizationMember,
    /// Reads, and pays.
    OrganizationBillingAdmin,
    /// Everything, and Workspace Owner everywhere.
    OrganizationOwner,
}

impl OrganizationRole {
    /// Every role, least first.
    pub const ALL: [Self; 3] =
        [Self::OrganizationMember, Self::OrganizationBillingAdmin, Self::OrganizationOwner];

    /// The role as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrganizationMember => "ORGANIZATION_MEMBER",
            Self::OrganizationBillingAdmin => "ORGANIZATION_BILLING_ADMIN",
            Self::OrganizationOwner => "ORGANIZATION_OWNER",
        }
    }

    /// Reads a role.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// A role in a workspace. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkspaceRole {
    /// Sees that the workspace exists.
    WorkspaceAccessor,
    /// Reads what is in it.
    WorkspaceMember,
    /// Also runs Dags.
    WorkspaceAuthor,
    /// Also makes and changes deployments and the workspace's tokens.
    WorkspaceOperator,
    /// Also manages deployments' tokens and who has which role.
    WorkspaceOwner,
}

impl WorkspaceRole {
    /// Every role, least first.
    pub const ALL: [Self; 5] = [
        Self::WorkspaceAccessor,
        Self::WorkspaceMember,
        Self::WorkspaceAuthor,
        Self::WorkspaceOperator,
        Self::WorkspaceOwner,
    ];

    /// The role as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkspaceAccessor => "WORKSPACE_ACCESSOR",
            Self::WorkspaceMember => "WORKSPACE_MEMBER",
            Self::WorkspaceAuthor => "WORKSPACE_AUTHOR",
            Self::WorkspaceOperator => "WORKSPACE_OPERATOR",
            Self::WorkspaceOwner => "WORKSPACE_OWNER",
        }
    }

    /// Reads a role.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// What can be asked of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// See the organization: its name, its roles, its data planes and their nodes.
    ReadOrganization,
    /// See that a workspace exists.
    SeeWorkspace,
    /// List and show what is in a workspace.
    ReadWorkspace,
    /// Make or change workspaces, data planes and users.
    Administer,
    /// Let a node enrol, and retire it.
    Enrol,
    /// Make, change and delete deployments.
    ManageDeployments,
    /// Say who has which role in a workspace.
    ManageWorkspaceRoles,
    /// List, create, update, rotate and delete the organization's own tokens.
    ManageOrganizationTokens,
    /// The same for a workspace's tokens.
    ManageWorkspaceTokens,
    /// The same for a deployment's standard tokens.
    ManageDeploymentTokens,
    /// The same for direct-access tokens.
    ManageDirectAccess,
}

/// The least role an operation needs: one of the organization, or (where there is one) one of the workspace.
type Row = (Operation, OrganizationRole, Option<WorkspaceRole>);

/// The table.
const TABLE: [Row; 11] = {
    use Operation as Op;
    use OrganizationRole::{OrganizationMember as Member, OrganizationOwner as Owner};
    use WorkspaceRole as Ws;
    [
        (Op::ReadOrganization, Member, None),
        (Op::SeeWorkspace, Owner, Some(Ws::WorkspaceAccessor)),
        (Op::ReadWorkspace, Owner, Some(Ws::WorkspaceMember)),
        (Op::Administer, Owner, None),
        (Op::Enrol, Owner, None),
        (Op::ManageDeployments, Owner, Some(Ws::WorkspaceOperator)),
        (Op::ManageWorkspaceRoles, Owner, Some(Ws::WorkspaceOwner)),
        (Op::ManageOrganizationTokens, Owner, None),
        (Op::ManageWorkspaceTokens, Owner, Some(Ws::WorkspaceOperator)),
        (Op::ManageDeploymentTokens, Owner, Some(Ws::WorkspaceOwner)),
        (Op::ManageDirectAccess, Owner, None),
    ]
};

/// Where something is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The organization.
    pub organization: &'a str,
    /// The workspace, for what is in one.
    pub workspace: Option<&'a str>,
}

impl<'a> From<&'a str> for Scope<'a> {
    fn from(organization: &'a str) -> Self {
        Self { organization, workspace: None }
    }
}

/// Who calls: a user, or an API token.
#[derive(Clone, Debug)]
pub struct Actor {
    /// User or token id.
    pub id: String,
    /// The organization it belongs to.
    pub organization: String,
    /// Its role there.
    pub role: OrganizationRole,
    /// Its roles in workspaces.
    pub workspaces: BTreeMap<String, WorkspaceRole>,
}

impl Actor {
    /// Refuses what the caller's role does not allow, and does not tell other organizations' ids from none.
    pub fn may<'s>(&self, operation: Operation, scope: impl Into<Scope<'s>>) -> Result<(), Error> {
        let scope = scope.into();
        if self.organization != scope.organization {
            return Err(Error::NotFound("organization"));
        }
        let here = scope.workspace.and_then(|workspace| self.workspaces.get(workspace));
        let allowed = TABLE.iter().any(|&(row, organization, workspace)| {
            row == operation
                && (self.role >= organization || workspace.is_some_and(|least| here >= Some(&least)))
        });
        if allowed {
            return Ok(());
        }
        if operation == Operation::ManageDirectAccess {
            return Err(Error::Forbidden {
                code: "owner_required",
                detail: "only an Organization Owner may create or manage a direct-access token".into(),
            });
        }
        let role = here.map_or(self.role.as_str(), |role| role.as_str());
        Err(Error::Forbidden {
            code: "role_insufficient",
            detail: format!("your role here, {role}, does not allow this"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(role: OrganizationRole, workspace: Option<WorkspaceRole>) -> Actor {
        let workspaces = workspace.map(|role| ("wsp_a".to_owned(), role)).into_iter().collect();
        Actor { id: "usr_a".into(), organization: "org_a".into(), role, workspaces }
    }

    fn scope<'a>(organization: &'a str, workspace: &'a str) -> Scope<'a> {
        Scope { organization, workspace: Some(workspace) }
    }

    #[test]
    fn the_whole_table_holds() {
        for (operation, least, least_here) in TABLE {
            for role in OrganizationRole::ALL {
                for here in WorkspaceRole::ALL.into_iter().map(Some).chain([None]) {
                    let expected = role >= least || least_here.is_some_and(|least| here >= Some(least));
                    let actor = actor(role, here);
                    assert_eq!(actor.may(operation, scope("org_a", "wsp_a")).is_ok(), expected);
                    // A role in one workspace says nothing about another, and none about another organization.
                    assert_eq!(actor.may(operation, scope("org_a", "wsp_b")).is_ok(), role >= least);
                    assert!(actor.may(operation, scope("org_b", "wsp_a")).is_err());
                }
            }
        }
    }

    #[test]
    fn only_an_organization_owner_may_create_a_direct_access_token() {
        for role in OrganizationRole::ALL {
            let refused = actor(role, Some(WorkspaceRole::WorkspaceOwner))
                .may(Operation::ManageDirectAccess, scope("org_a", "wsp_a"));
            assert_eq!(refused.is_ok(), role == OrganizationRole::OrganizationOwner);
            if let Err(error) = refused {
                assert_eq!(error.code(), "owner_required");
            }
        }
    }
}
