//! Dag tags of deployments. Data planes match Dag roles by tag against them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::stored_deployments;
use crate::api::deployment::{DagTags, NewDagTags};
use crate::api::id::DeploymentId;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::subjects::subject;
use crate::controlplane::error::Error;
use crate::controlplane::names::is_dag_name;
use crate::controlplane::replica::publish;
use crate::protocol::record::{DagTagsRecord, Record, RecordKind};
use crate::protocol::time::Time;

/// Maximum size of a mapping in bytes. As a record, escaped into a line of a bundle, it must fit that line.
pub const MAX_BYTES: usize = 3 << 20;

fn find(connection: &Connection, deployment: &str) -> Result<DagTags, Error> {
    let query = "SELECT tags, updated_at, updated_by FROM dag_tags WHERE deployment = ?1";
    let found: Option<(String, i64, String)> = connection
        .query_row(query, [deployment], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((tags, updated_at, updated_by)) = found else {
        let (deployment_id, tags) = (DeploymentId::known(deployment.to_owned()), BTreeMap::new());
        return Ok(DagTags { deployment_id, tags, updated_at: None, updated_by: None });
    };
    Ok(DagTags {
        deployment_id: DeploymentId::known(deployment.to_owned()),
        tags: serde_json::from_str(&tags).map_err(std::io::Error::from)?,
        updated_at: Some(Time::from_unix(updated_at).into()),
        updated_by: Some(subject(connection, &updated_by)?),
    })
}

fn check(tags: &BTreeMap<String, Vec<String>>) -> Result<(), Error> {
    for name in tags.iter().flat_map(|(dag, tags)| std::iter::once(dag).chain(tags)) {
        if !is_dag_name(name) {
            let detail = format!("{name:?} is no Dag id or tag; use 1 to 250 visible characters");
            return Err(Error::invalid("tags", detail));
        }
    }
    Ok(())
}

impl ControlPlane {
    /// Shows the Dag tags of a deployment.
    pub fn show_dag_tags(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
    ) -> Result<DagTags, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.read(|connection| {
            let found = stored_deployments::find(connection, organization, deployment)?;
            actor.may(Operation::ReadDagTags, found.scope(organization))?;
            find(connection, deployment)
        })
    }

    /// Publishes the Dag tags of a deployment, in place of the earlier ones.
    pub fn publish_dag_tags(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        new: NewDagTags,
    ) -> Result<DagTags, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.write(|transaction| {
            let found = stored_deployments::find(transaction, organization, deployment)?;
            actor.may(Operation::PublishDagTags, found.scope(organization))?;
            check(&new.tags)?;
            let text = serde_json::to_string(&new.tags).map_err(std::io::Error::from)?;
            let record = DagTagsRecord {
                deployment: deployment.parse().map_err(|_| Error::NotFound("deployment"))?,
                tags: new.tags,
            };
            let record = Record::from_value(RecordKind::DagTags, deployment, &record);
            let escaped = serde_json::to_string(&*record.body).map_err(std::io::Error::from)?;
            if escaped.len() > MAX_BYTES {
                let detail =
                    format!("{} bytes are more than the {MAX_BYTES} a data plane takes", escaped.len());
                return Err(Error::invalid("tags", detail));
            }
            transaction.execute(
                "INSERT OR REPLACE INTO dag_tags (deployment, tags, updated_at, updated_by)
                 VALUES (?1, ?2, ?3, ?4)",
                params![deployment, text, self.now().unix(), actor.id],
            )?;
            publish::put(transaction, &found.data_plane_id, &[record])?;
            find(transaction, deployment)
        })
    }
}
