//! `halligan session`: shows and ends the sessions of browsers on a host.

use clap::Subcommand;
use reqwest::Method;

use super::failure::Failure;
use super::host::Host;
use super::output::{Column, Output, note};
use crate::api::host::session::{EndedSession, SeenSession};
use crate::protocol::id::SessionId;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// List the browsers' sessions that this host has seen since its start.
    List,
    /// End a session on this host at its next click. Its token can sign in again: revoke the token to prevent that.
    #[command(after_help = "Example:
  halligan session end ses_…")]
    End {
        /// The session's id, as the list and events have it.
        session: SessionId,
    },
}

const SESSION: [Column; 6] = [
    ("SESSION", "id"),
    ("TOKEN", "tokenId"),
    ("DEPLOYMENT", "deploymentId"),
    ("BEGUN", "begunAt"),
    ("UNLESS USED UNTIL", "until"),
    ("ENDS", "endsAt"),
];

pub(super) async fn run(verb: Verb, host: &Host, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            output.list(&host.call::<Vec<SeenSession>>(Method::GET, "/v1/sessions").await?, &SESSION);
        }
        Verb::End { session } => {
            let done: EndedSession = host.call(Method::DELETE, &format!("/v1/sessions/{session}")).await?;
            if !done.written {
                note("it could not be written down: a restart of the daemon would forget that it ended");
            }
            if output.json {
                output.one(&done, &[]);
            } else if done.session.is_none() {
                output.say(&format!(
                    "ended session {session} on this host, which has not seen it since its start: compare the id"
                ));
            } else {
                output.say(&format!("ended session {session} on this host"));
            }
        }
    }
    Ok(())
}
