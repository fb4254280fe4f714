//! `halligan organization`: shows organizations, their audit log and dual control.

use clap::Subcommand;

use super::audit_log;
use super::control::{Control, Done};
use super::failure::Failure;
use super::output::{Column, Output};
use super::token::scoped;
use crate::api::dual_control::DualControl;
use crate::api::id::OrganizationId;
use crate::api::organization::{Organization, OrganizationPage};

const NAMED: [Column; 3] = [("ID", "id"), ("NAME", "name"), ("CREATED", "createdAt")];

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// List the organizations you belong to.
    List,
    /// Show an organization.
    Show {
        /// The organization's id.
        id: OrganizationId,
    },
    /// List the calls that changed, or tried to change, something in the organization; newest first.
    AuditLog(audit_log::Arguments),
    /// Create, list, update, rotate and delete the organization's own tokens.
    #[command(subcommand)]
    Token(scoped::Verb),
    /// Show or set whether a direct-access token needs two owners. Disabling it needs another owner's approval.
    DualControl {
        /// The new setting. Without it, the present one is shown.
        #[arg(value_parser = ["on", "off"])]
        wanted: Option<String>,
        /// Hours within which a request must be approved.
        #[arg(long, default_value_t = 24)]
        approval_hours: i64,
    },
}

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            let page: OrganizationPage = control.get_at("/v1/organizations").await?;
            output.list(&page.organizations, &NAMED);
        }
        Verb::Show { id } => {
            let found: Organization = control.get_at(&format!("/v1/organizations/{id}")).await?;
            output.one(&found, &NAMED);
        }
        Verb::Token(verb) => scoped::run(verb, None, control, output).await?,
        Verb::AuditLog(arguments) => audit_log::run(arguments, control, output).await?,
        Verb::DualControl { wanted, approval_hours } => {
            dual_control(wanted.as_deref(), approval_hours, control, output).await?;
        }
    }
    Ok(())
}

async fn dual_control(
    wanted: Option<&str>,
    hours: i64,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    const SETTING: [Column; 2] =
        [("enabled", "enabled"), ("approval within (hours)", "approvalPeriodInHours")];
    let path = "/dual-control";
    let Some(wanted) = wanted else {
        output.one(&control.get::<DualControl>(path).await?, &SETTING);
        return Ok(());
    };
    let wanted = DualControl { enabled: wanted == "on", approval_period_in_hours: hours };
    match control.post_or_request::<DualControl>(path, &wanted).await? {
        Done::Now(setting) => output.one(&setting, &SETTING),
        Done::Requested(request) => {
            output.one(&request, &[("request", "id"), ("state", "state"), ("until", "expiresAt")]);
            output.say(&format!(
                "another Organization Owner has to approve this: halligan token request approve {}",
                request.id
            ));
        }
    }
    Ok(())
}
