//! `halligan node`: manages the nodes of a data plane.

use std::path::PathBuf;

use clap::Subcommand;

use super::control::Control;
use super::failure::Failure;
use super::output::{Column, Output, confirm, line};
use crate::api::id::{DataPlaneId, NodeId};
use crate::api::node::{Enrolled, NewNode, NodePage};
use crate::protocol::key::PublicKey;

const NODE: [Column; 5] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("ENROLLED", "createdAt"),
    ("RETIRED", "retiredAt"),
    ("REMARK", "remark"),
];

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// List the nodes of a data plane.
    List {
        /// The data plane's id.
        #[arg(long, value_name = "ID")]
        data_plane_id: DataPlaneId,
    },
    /// Create a node for a host that never reaches the control plane. Prints its identity, to be carried there.
    #[command(after_help = "Examples:
  halligand public-key > island.pem                              on the host, which makes its key
  halligan node create island --data-plane-id dpl_… --key island.pem > node.json
  install -m 600 node.json /var/lib/halligan/node.json           on the host again, before it starts
  halligan replica import replica.bundle                         and what `replica export` wrote elsewhere")]
    Create {
        /// The name of the node.
        name: String,
        /// The data plane's id.
        #[arg(long, value_name = "ID")]
        data_plane_id: DataPlaneId,
        /// The public key of the node (PEM).
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Retire a node: it receives nothing more, and its signatures no longer count.
    Retire {
        /// The node's id.
        id: NodeId,
        /// The data plane's id.
        #[arg(long, value_name = "ID")]
        data_plane_id: DataPlaneId,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
    },
}

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::List { data_plane_id } => {
            let nodes = |page: NodePage| (page.nodes, page.extent.next_cursor);
            output.list(&control.all(&format!("/data-planes/{data_plane_id}/nodes"), nodes).await?, &NODE);
        }
        Verb::Create { name, data_plane_id, key } => {
            let pem = std::fs::read_to_string(&key)
                .map_err(|source| Failure::File { path: key.clone(), source })?;
            let public = PublicKey::from_pem(&pem)
                .map_err(|error| Failure::Usage(format!("{}: {error}", key.display())))?;
            let path = format!("/data-planes/{data_plane_id}/nodes");
            let new = NewNode { name, key: public.jwk() };
            // The output is the content of a file that the host reads, so people get JSON as well.
            let enrolled: Enrolled = control.post(&path, &new).await?;
            line(&serde_json::to_string(&enrolled).map_err(|error| Failure::Data(error.to_string()))?);
        }
        Verb::Retire { id, data_plane_id, force } => {
            confirm(&format!("Retiring {id}"), force)?;
            let path = format!("/data-planes/{data_plane_id}/nodes/{id}");
            control.delete(&path).await?;
            output.say(&format!("retired {id}"));
        }
    }
    Ok(())
}
