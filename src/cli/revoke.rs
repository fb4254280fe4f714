//! `halligan revoke`: revokes a token on this host, and lists the tokens revoked on hosts.

use clap::Args;
use reqwest::Method;

use super::failure::Failure;
use super::host::Host;
use super::output::{Column, Output, note};
use crate::api::host::revocation::{Held, Revoke, Revoked};

/// Revokes a token on this host. This host rejects it as soon as the command returns, the other nodes of the data plane as
/// soon as they can be reached, and every host once the control plane has received the revocation. It can't be undone.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  halligan revoke tok_… --reason 'laptop lost, INC-1234'
  halligan revoke --list")]
pub(super) struct Arguments {
    /// The token's id.
    #[arg(required_unless_present = "list", requires = "reason")]
    id: Option<String>,
    /// The reason, in one line, for people who read the audit log later.
    #[arg(long, short, value_name = "TEXT")]
    reason: Option<String>,
    /// List the tokens that were revoked on hosts of this data plane, as far as this host knows.
    #[arg(long, conflicts_with_all = ["id", "reason"])]
    list: bool,
}

const LIST: [Column; 6] = [
    ("TOKEN", "tokenId"),
    ("REVOKED", "revokedAt"),
    ("ON", "nodeId"),
    ("BY", "operator"),
    ("REASON", "reason"),
    ("CONTROL PLANE", "answer"),
];

pub(super) async fn run(arguments: Arguments, host: &Host, output: Output) -> Result<(), Failure> {
    let (Some(id), Some(reason)) = (arguments.id, arguments.reason) else {
        output.list(&host.call::<Vec<Held>>(Method::GET, "/v1/revocations").await?, &LIST);
        return Ok(());
    };
    let asked = Revoke { token_id: id, reason };
    let done: Revoked = host.send(Method::POST, "/v1/revocations", &asked).await?;
    let id = asked.token_id;
    if output.json {
        output.one(&done, &[]);
    } else if done.new {
        output.say(&format!("revoked {id} on this host; the control plane is told when it can be reached"));
    } else {
        output.say(&format!("{id} was revoked on this host before"));
    }
    if !done.known {
        note(&format!(
            "warning: this node's replica holds no token {id}; should it ever come, it is revoked"
        ));
    }
    if done.new && done.event.is_none() {
        note("warning: the audit log could not take the event; the revocation stands all the same");
    }
    Ok(())
}
