//! `halligan workspace`: creates, shows, changes and deletes workspaces.

use clap::Subcommand;

use super::control::Control;
use super::deletion::delete;
use super::failure::Failure;
use super::output::{Column, Output};
use super::token::scoped;
use crate::api::id::WorkspaceId;
use crate::api::workspace::{NewWorkspace, Workspace, WorkspacePage, WorkspaceUpdate};

const WORKSPACE: [Column; 4] =
    [("ID", "id"), ("NAME", "name"), ("DESCRIPTION", "description"), ("CREATED", "createdAt")];

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Create a workspace.
    Create {
        /// The name of the workspace.
        name: String,
        /// The description of the workspace.
        #[arg(long, short, default_value = "")]
        description: String,
    },
    /// List workspaces.
    List,
    /// Show a workspace.
    Show {
        /// The workspace's id.
        id: WorkspaceId,
    },
    /// Change a workspace's name or description.
    Update {
        /// The workspace's id.
        id: WorkspaceId,
        /// The new name.
        #[arg(long, short)]
        name: Option<String>,
        /// The new description.
        #[arg(long, short)]
        description: Option<String>,
    },
    /// Create, list, update, rotate and delete a workspace's own tokens.
    Token {
        /// The workspace's id.
        #[arg(long, value_name = "ID", global = true)]
        workspace_id: Option<WorkspaceId>,
        #[command(subcommand)]
        verb: scoped::Verb,
    },
    /// Delete an empty workspace.
    Delete {
        /// The workspace's id.
        id: WorkspaceId,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
    },
}

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Create { name, description } => {
            let new = NewWorkspace { name, description };
            output.one(&control.post::<Workspace>("/workspaces", &new).await?, &WORKSPACE);
        }
        Verb::List => {
            let all = control
                .all("/workspaces", |page: WorkspacePage| (page.workspaces, page.extent.next_cursor))
                .await?;
            output.list(&all, &WORKSPACE);
        }
        Verb::Show { id } => {
            output.one(&control.get::<Workspace>(&format!("/workspaces/{id}")).await?, &WORKSPACE);
        }
        Verb::Update { id, name, description } => {
            if name.is_none() && description.is_none() {
                return Err(Failure::Usage("say what to change: --name or --description".into()));
            }
            let update = WorkspaceUpdate { name, description };
            output.one(&control.post::<Workspace>(&format!("/workspaces/{id}"), &update).await?, &WORKSPACE);
        }
        Verb::Token { workspace_id, verb } => {
            let workspace = workspace_id
                .ok_or_else(|| Failure::Usage("name the workspace with --workspace-id".into()))?;
            scoped::run(verb, Some(workspace), control, output).await?;
        }
        Verb::Delete { id, force } => {
            delete(control, output, &format!("/workspaces/{id}"), &id, force).await?;
        }
    }
    Ok(())
}
