//! `halligan token request`: manages requests for tokens that need a second owner.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::with_value;
use crate::cli::control::Control;
use crate::cli::failure::Failure;
use crate::cli::id::{Id, Request};
use crate::cli::output::{Column, Output};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Verb {
    /// List requests, newest first.
    List {
        /// In this state.
        #[arg(long, value_parser = ["pending", "approved", "done", "rejected", "expired"])]
        state: Option<String>,
        /// How many to skip.
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Go on behind the page before.
        #[arg(long, value_name = "CURSOR", conflicts_with = "offset")]
        cursor: Option<String>,
        /// How many to show, up to 1000.
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// Show a request.
    Show {
        /// The request's id.
        id: Id<Request>,
    },
    /// Approve what another owner asked for.
    Approve {
        /// The request's id.
        id: Id<Request>,
    },
    /// Reject a request.
    Reject {
        /// The request's id.
        id: Id<Request>,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Make the token you asked for, once it is approved, and show its value, once.
    Collect {
        /// The request's id.
        id: Id<Request>,
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
            output.page(&control.organization_list("/token-requests", &query).await?, "requests", &LIST);
        }
        Verb::Show { id } => {
            output.one(&control.organization_call(Method::GET, &path(&id, ""), None).await?, &ONE);
        }
        Verb::Approve { id } => {
            output.one(&control.organization_call(Method::POST, &path(&id, "/approve"), None).await?, &ONE);
        }
        Verb::Reject { id, reason } => {
            let body = Some(json!({ "reason": reason }));
            output.one(&control.organization_call(Method::POST, &path(&id, "/reject"), body).await?, &ONE);
        }
        Verb::Collect { id, clean_output } => {
            let made = control.organization_call(Method::POST, &path(&id, "/collect"), None).await?;
            with_value(&made, clean_output, output);
        }
    }
    Ok(())
}
