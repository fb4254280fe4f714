//! Deployments of a replica, by identifier and by host name, with the Dag tags and the route map of each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::dataplane::decide::routes::{RouteMap, RouteMaps};
use crate::protocol::glass::GlassMode;
use crate::protocol::host::host_name;
use crate::protocol::id::DeploymentId;
use crate::protocol::record::{DagTagsRecord, DeploymentRecord};

/// Tags of each Dag of a deployment, by the Dag's id.
pub(in crate::dataplane) type Tags = BTreeMap<String, Vec<String>>;

/// Readable records of deployments and of their tags.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    deployments: BTreeMap<DeploymentId, Arc<DeploymentRecord>>,
    tags: BTreeMap<DeploymentId, Arc<Tags>>,
}

impl Listed {
    pub(super) fn insert(&mut self, record: DeploymentRecord) {
        self.deployments.insert(record.id.clone(), Arc::new(record));
    }

    pub(super) fn insert_tags(&mut self, record: DagTagsRecord) {
        self.tags.insert(record.deployment, Arc::new(record.tags));
    }

    pub(super) fn remove(&mut self, deployment: &DeploymentId) {
        self.deployments.remove(deployment);
    }

    pub(super) fn remove_tags(&mut self, deployment: &DeploymentId) {
        self.tags.remove(deployment);
    }
}

pub(in crate::dataplane) struct Deployment {
    pub(in crate::dataplane) id: DeploymentId,
    pub(in crate::dataplane) name: String,
    pub(in crate::dataplane) glass: GlassMode,
    /// `None` if the record names a map that this host does not have. No route matches then.
    pub(in crate::dataplane) routes: Option<Arc<RouteMap>>,
    pub(in crate::dataplane) tags: Arc<Tags>,
}

/// Deployments of a replica, with the route maps of this host.
pub(in crate::dataplane) struct Directory {
    pub(in crate::dataplane) deployments: HashMap<DeploymentId, Deployment>,
    /// Deployment by host name. `None` if two deployments claim the name: it identifies neither then.
    pub(in crate::dataplane) hosts: HashMap<String, Option<DeploymentId>>,
    /// Records that the directory was made from.
    listed: Arc<Listed>,
    maps: RouteMaps,
}

impl Directory {
    pub(super) fn new(listed: &Arc<Listed>, maps: &RouteMaps) -> Self {
        let mut deployments = HashMap::new();
        let mut hosts: HashMap<String, Option<DeploymentId>> = HashMap::new();
        for found in listed.deployments.values() {
            for host in &found.hosts {
                // A name that two deployments claim identifies neither.
                hosts
                    .entry(host_name(host).into_owned())
                    .and_modify(|owner| *owner = owner.take().filter(|owner| *owner == found.id))
                    .or_insert_with(|| Some(found.id.clone()));
            }
            let deployment = Deployment {
                id: found.id.clone(),
                name: found.name.clone(),
                glass: found.glass,
                routes: maps.get(&found.routes),
                tags: listed.tags.get(&found.id).map(Arc::clone).unwrap_or_default(),
            };
            deployments.insert(found.id.clone(), deployment);
        }
        Self { deployments, hosts, listed: Arc::clone(listed), maps: maps.clone() }
    }

    /// Returns true if it was made from these records and route maps.
    pub(super) fn is_made_from(&self, listed: &Arc<Listed>, maps: &RouteMaps) -> bool {
        Arc::ptr_eq(&self.listed, listed) && self.maps.is_same(maps)
    }
}
