//! Organizations.

use serde::{Deserialize, Serialize};

use super::id::OrganizationId;
use super::instant::Instant;
#[cfg(feature = "control")]
use super::page::NamedSort;
use super::page::{Extent, NamedField, Sort};
use super::subject::Subject;

/// Organization, which owns workspaces, deployments, users and tokens.
#[expect(clippy::struct_excessive_bools, reason = "they are members of the platform's object")]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Organization {
    /// Id of the organization.
    pub id: OrganizationId,
    /// Name of the organization.
    pub name: String,
    /// Always `HOSTED`. The platform's command line needs the member.
    pub product: String,
    /// Plans of the product; empty, since there are none.
    pub product_plans: Vec<String>,
    /// Always `ACTIVE`.
    pub status: String,
    /// Time of creation.
    pub created_at: Instant,
    /// User or program that created it.
    pub created_by: Subject,
    /// Time of the last change.
    pub updated_at: Instant,
    /// User or program that changed it last.
    pub updated_by: Subject,
    /// Always false: users are not provisioned by SCIM.
    pub is_scim_enabled: bool,
    /// Always false: nobody outside the organization has access for support.
    pub allow_enhanced_support_access: bool,
    /// Always false: a network is a property of a token.
    pub has_allowed_ip_address_ranges: bool,
    /// Always false: there are no such features.
    pub is_blocked_enable_ai_features: bool,
    /// Always false: there are no clusters.
    pub should_enforce_dedicated_clusters: bool,
}

/// Page of organizations.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct OrganizationPage {
    /// Organizations of the page.
    pub organizations: Vec<Organization>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Order of a list of organizations.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct OrganizationFilter {
    /// Order of the list, the first key first: `FIELD:asc` or `FIELD:desc` with one of `createdAt`, `name`, `updatedAt`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(inline, value_type = Vec<NamedSort>))]
    pub sorts: Vec<Sort<NamedField>>,
}
