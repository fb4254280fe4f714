//! `halligan glass`: opens a deployment to direct access in an emergency, and closes it again.

use clap::Subcommand;
use jiff::SignedDuration;
use reqwest::Method;

use super::failure::Failure;
use super::host::Host;
use super::output::{Column, Output};
use crate::api::host::glass::{Break, Changed, Pane};
use crate::protocol::id::DeploymentId;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Break the glass of a deployment on this host: direct-access tokens are accepted here until the time is over. The
    /// act is recorded, with your user id and the reason.
    #[command(after_help = "Example:
  halligan glass break dep_… --reason 'control plane gone, INC-1234' --for 2h")]
    Break {
        /// The deployment's id.
        deployment: DeploymentId,
        /// The reason, in one line, for people who read the audit log later.
        #[arg(long, short, value_name = "TEXT")]
        reason: String,
        /// The duration, such as 30m or 2h. After it the glass is sealed again.
        #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
        seconds: i64,
    },
    /// Seal the glass of a deployment on this host before its time is over.
    Seal {
        /// The deployment's id.
        deployment: DeploymentId,
    },
    /// Show the state of the glass of every deployment on this host.
    Status,
}

fn seconds(text: &str) -> Result<i64, String> {
    let duration: SignedDuration =
        text.parse().map_err(|_| "use a duration such as 30m, 2h or 1h30m".to_owned())?;
    Ok(duration.as_secs())
}

const STATUS: [Column; 7] = [
    ("DEPLOYMENT", "deploymentId"),
    ("NAME", "name"),
    ("MODE", "mode"),
    ("STATE", "state"),
    ("UNTIL", "until"),
    ("BY", "operator"),
    ("REASON", "reason"),
];

pub(super) async fn run(verb: Verb, host: &Host, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Break { deployment, reason, seconds } => {
            let asked = Break { reason, seconds };
            let done: Changed = host.send(Method::PUT, &format!("/v1/glass/{deployment}"), &asked).await?;
            if output.json {
                output.one(&done, &[]);
            } else {
                let until = done.breaking.until;
                output.say(&format!("broke the glass of {deployment} on this host until {until}"));
            }
        }
        Verb::Seal { deployment } => {
            let done: Changed = host.call(Method::DELETE, &format!("/v1/glass/{deployment}")).await?;
            if output.json {
                output.one(&done, &[]);
            } else {
                output.say(&format!("sealed the glass of {deployment} on this host"));
            }
        }
        Verb::Status => output.list(&host.call::<Vec<Pane>>(Method::GET, "/v1/glass").await?, &STATUS),
    }
    Ok(())
}
