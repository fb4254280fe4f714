//! `halligan token request`: manages requests for tokens that need a second owner.

use clap::Subcommand;

use super::with_value;
use crate::api::dual_control::{Rejection, Request, RequestPage};
use crate::api::id::RequestId;
use crate::cli::control::Control;
use crate::cli::failure::Failure;
use crate::cli::output::{Column, Output};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Verb {
    /// List requests, newest first.
    List {
        /// Only requests in this state.
        #[arg(long, value_parser = ["pending", "approved", "done", "rejected", "expired"])]
        state: Option<String>,
        /// Number of requests to skip.
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// The cursor of the page before. The next page begins after it.
        #[arg(long, value_name = "CURSOR", conflicts_with = "offset")]
        cursor: Option<String>,
        /// Number of requests to show, up to 1000.
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// Show a request.
    Show {
        /// The request's id.
        id: RequestId,
    },
    /// Approve another owner's request.
    Approve {
        /// The request's id.
        id: RequestId,
    },
    /// Reject a request.
    Reject {
        /// The request's id.
        id: RequestId,
        /// The reason.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Create or rotate the token of your approved request. Its value is shown only once.
    Collect {
        /// The request's id.
        id: RequestId,
        /// Print the value alone, for scripts.
        #[arg(long, short)]
        clean_output: bool,
    },
}

const LIST: [Column; 6] = [
    ("ID", "id"),
    ("KIND", "kind"),
    ("STATE", "state"),
    ("ASKED BY", "requestedBy"),
    ("ASKED", "requestedAt"),
    ("UNTIL", "expiresAt"),
];

pub(super) const ONE: [Column; 10] = [
    ("id", "id"),
    ("kind", "kind"),
    ("state", "state"),
    ("asked for", "request"),
    ("asked by", "requestedBy"),
    ("until", "expiresAt"),
    ("decided by", "decidedBy"),
    ("decided", "decidedAt"),
    ("reason", "reason"),
    ("token", "tokenId"),
];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    let path = |id: &str, verb: &str| format!("/token-requests/{id}{verb}");
    match verb {
        Verb::List { state, offset, cursor, limit } => {
            let query = [
                ("state", state.map(|state| state.to_uppercase())),
                ("offset", Some(offset.to_string())),
                ("cursor", cursor),
                ("limit", Some(limit.to_string())),
            ];
            output.page(&control.list::<RequestPage>("/token-requests", &query).await?, "requests", &LIST);
        }
        Verb::Show { id } => output.one(&control.get::<Request>(&path(&id, "")).await?, &ONE),
        Verb::Approve { id } => {
            output.one(&control.order::<Request>(&path(&id, "/approve")).await?, &ONE);
        }
        Verb::Reject { id, reason } => {
            output.one(&control.post::<Request>(&path(&id, "/reject"), &Rejection { reason }).await?, &ONE);
        }
        Verb::Collect { id, clean_output } => {
            with_value(&control.order(&path(&id, "/collect")).await?, clean_output, output)?;
        }
    }
    Ok(())
}
