//! Data planes: each has one replica, and the nodes that hold it.

use rusqlite::{OptionalExtension, params};

use super::membership;
use crate::api::data_plane::{DataPlane, DataPlanePage};
use crate::api::id::{DataPlaneId, NodeId};
use crate::api::node::{Node, NodePage};
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::page::unsorted;
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_name, name_conflict};
use crate::controlplane::replica::publish;
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::record::{NodeRecord, Record, RecordKind};
use crate::protocol::role::{RoleScope, built_in};
use crate::protocol::time::Time;

impl ControlPlane {
    /// Creates a data plane. Its replica starts with the built-in roles.
    pub fn create_data_plane(
        &self,
        actor: &Actor,
        organization: &str,
        name: &str,
    ) -> Result<DataPlane, Error> {
        actor.may(Operation::Administer, organization)?;
        check_name("name", name)?;
        let (id, now) = (self.new_id_of("dpl_"), self.now());
        let lanes = ReplicaDigest::empty().to_bytes();
        let roles = built_in()
            .into_iter()
            .filter(|role| matches!(role.scope, RoleScope::Deployment | RoleScope::Dag))
            .map(|role| {
                let key = format!("{}@{}", role.name, role.version);
                Record::new(RecordKind::Role, key, role.to_body())
            });
        let roles: Vec<Record> = roles.collect();
        self.store.write(|transaction| {
            let row = params![id, organization, name, now.unix(), lanes.as_slice()];
            transaction
                .execute(
                    "INSERT INTO data_plane (id, organization, name, created_at, version, count, digest)
                     VALUES (?1, ?2, ?3, ?4, 0, 0, ?5)",
                    row,
                )
                .map_err(name_conflict)?;
            publish::put(transaction, &id, &roles)
        })?;
        self.show_data_plane(actor, organization, &id)
    }

    /// Lists data planes, by name.
    pub fn list_data_planes(
        &self,
        actor: &Actor,
        organization: &str,
        page: Page,
    ) -> Result<DataPlanePage, Error> {
        let found = self.data_planes(actor, organization)?;
        let (data_planes, extent) = unsorted(page, "data-planes", found, |plane| plane.name.clone())?;
        Ok(DataPlanePage { data_planes, extent })
    }

    fn data_planes(&self, actor: &Actor, organization: &str) -> Result<Vec<DataPlane>, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT id, name, created_at, version, count,
                     (SELECT count(*) FROM node WHERE data_plane = data_plane.id AND retired_at IS NULL)
                 FROM data_plane WHERE organization = ?1",
            )?;
            let rows = rows.query_map([organization], |row| {
                Ok(DataPlane {
                    id: DataPlaneId::known(row.get(0)?),
                    name: row.get(1)?,
                    created_at: Time::from_unix(row.get(2)?).into(),
                    version: row.get(3)?,
                    records: row.get(4)?,
                    nodes: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Shows a data plane.
    pub fn show_data_plane(&self, actor: &Actor, organization: &str, id: &str) -> Result<DataPlane, Error> {
        let found = self.data_planes(actor, organization)?;
        found.into_iter().find(|found| *found.id == *id).ok_or(Error::NotFound("data plane"))
    }

    /// Lists the nodes of a data plane, including retired ones; the oldest first.
    pub fn list_nodes(
        &self,
        actor: &Actor,
        organization: &str,
        data_plane: &str,
        page: Page,
    ) -> Result<NodePage, Error> {
        self.show_data_plane(actor, organization, data_plane)?;
        let found: Vec<Node> = self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT id, name, created_at, retired_at, shared_at,
                     (SELECT max(coalesce(last_at, noted_at)) FROM log_fault WHERE node = node.id AND kind = 'fork'),
                     (SELECT max(version) FROM replica_fork WHERE node = node.id)
                 FROM node WHERE data_plane = ?1",
            )?;
            let rows = rows.query_map([data_plane], |row| {
                let time =
                    |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(Time::from_unix));
                let remark = membership::remark(time(4)?, row.get(6)?, time(5)?, self.now());
                Ok(Node {
                    id: NodeId::known(row.get(0)?),
                    name: row.get(1)?,
                    created_at: Time::from_unix(row.get(2)?).into(),
                    retired_at: time(3)?.map(Into::into),
                    remark,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let place = |node: &Node| format!("{:020} {}", node.created_at.time().unix(), node.id);
        let (nodes, extent) = unsorted(page, "nodes", found, place)?;
        Ok(NodePage { nodes, extent })
    }

    /// Retires a node: it receives nothing more, and a record tells the other nodes that its signatures no longer
    /// count.
    pub fn retire_node(
        &self,
        actor: &Actor,
        organization: &str,
        data_plane: &str,
        id: &str,
    ) -> Result<(), Error> {
        self.show_data_plane(actor, organization, data_plane)?;
        actor.may(Operation::Enrol, organization)?;
        let now = self.now();
        self.store.write(|transaction| {
            let found: Option<(String, String)> = transaction
                .query_row(
                    "SELECT name, key FROM node WHERE id = ?1 AND data_plane = ?2 AND retired_at IS NULL",
                    [id, data_plane],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let (name, key) = found.ok_or(Error::NotFound("node"))?;
            let row = params![id, now.unix()];
            transaction.execute("UPDATE node SET retired_at = ?2 WHERE id = ?1", row)?;
            let node = NodeRecord {
                id: id.parse().map_err(|_| Error::NotFound("node"))?,
                name,
                key: serde_json::from_str(&key).map_err(std::io::Error::from)?,
                retired_at: Some(now),
            };
            publish::put(transaction, data_plane, &[Record::from_value(RecordKind::Node, id, &node)])
        })?;
        // A retired node no longer polls, so nothing else would remove it from the nodes that are ahead.
        self.ahead.forget(data_plane, id);
        Ok(())
    }
}
