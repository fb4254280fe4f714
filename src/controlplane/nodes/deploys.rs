//! Code for nodes: the deploy in force of each deployment, signed, and its archive.

use rusqlite::OptionalExtension as _;

use super::enrolment::Caller;
use crate::controlplane::ControlPlane;
use crate::controlplane::code::deploys::{self, Archive};
use crate::controlplane::error::Error;
use crate::protocol::deploy::exchange::DeployAnswer;
use crate::protocol::deploy::signed::{Deploy, sign_deploy};
use crate::protocol::version::HeldVersions;

/// Maximum number of deploys in an answer. It stays far below the 1 MiB that a node takes.
const MAX_DEPLOYS: usize = 200;

/// Columns of a deployment with code: its id, its version and its archive.
type Row = (String, u64, String, [u8; 32], u64);

impl ControlPlane {
    /// Returns the number of changes to the code of a data plane's deployments, or none before the first one.
    pub(super) fn deploy_changes(&self, data_plane: &str) -> Result<Option<u64>, Error> {
        self.store.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT deploy_changes FROM data_plane WHERE id = ?1")?;
            let changes: u64 = query.query_row([data_plane], |row| row.get(0))?;
            Ok((changes > 0).then_some(changes))
        })
    }

    /// Returns the deploys in force of which a node holds another version than the present one, or none.
    pub(in crate::controlplane) fn deploys_for(
        &self,
        caller: &Caller,
        question: &HeldVersions,
    ) -> Result<DeployAnswer, Error> {
        let (now, signing) = (self.now(), self.signing());
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT deployment.id, code_version, deploy.id, digest, size
                 FROM deployment JOIN deploy ON deploy.id = deployment.deploy
                 WHERE data_plane = ?1 AND code_version > 0 AND deployment.id > ?2 ORDER BY deployment.id",
            )?;
            let after = question.after.as_deref().unwrap_or_default();
            let all =
                rows.query_map([caller.data_plane.as_str(), after], |row| -> rusqlite::Result<Row> {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })?;
            let mut answer = DeployAnswer::default();
            let mut last = None;
            for row in all {
                let (deployment, version, deploy, digest, size) = row?;
                if question.held.get(&deployment) == Some(&version) {
                    continue;
                }
                if answer.deploys.len() == MAX_DEPLOYS {
                    answer.next = last;
                    break;
                }
                let claims = Deploy {
                    iss: self.issuer.clone(),
                    aud: caller.data_plane.parse().map_err(|_| Error::NotFound("data plane"))?,
                    sub: deployment.parse().map_err(|_| Error::NotFound("deployment"))?,
                    deploy: deploy.parse().map_err(|_| Error::NotFound("deploy"))?,
                    version,
                    iat: now,
                    digest,
                    size,
                };
                answer.deploys.push(sign_deploy(&claims, &signing.replica));
                last = Some(deployment);
            }
            Ok(answer)
        })
    }

    /// Returns the archive of a deploy of a deployment on the caller's data plane.
    pub(in crate::controlplane) fn archive_for(
        &self,
        caller: &Caller,
        deployment: &str,
        deploy: &str,
    ) -> Result<(String, Archive), Error> {
        self.store.read(|connection| {
            let query = "SELECT 1 FROM deployment WHERE id = ?1 AND data_plane = ?2";
            let here =
                connection.query_row(query, [deployment, &caller.data_plane], |_| Ok(())).optional()?;
            here.ok_or(Error::NotFound("deployment"))?;
            let found = deploys::find(connection, deployment, deploy)?;
            let deployed = found.version.is_some();
            let archive = found.archive.filter(|_| deployed);
            let kept = archive.and_then(|archive| Some((archive.name.clone()?, archive)));
            kept.ok_or(Error::NotFound("archive"))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::api::deploy::{Deploy as Shown, DeployStatus, DeployUpdate, NewDeploy};
    use crate::api::page::Page;
    use crate::controlplane::archives::Received;
    use crate::controlplane::test_world::World;
    use crate::protocol::deploy::exchange::{HostDeployAnswer, HostDeployState};
    use crate::protocol::deploy::host::{HostDeploy, sign_host_deploy};
    use crate::protocol::deploy::signed::SignedDeploy;
    use crate::protocol::membership::NodeStatement;
    use crate::protocol::record::{NodeRecord, Record, RecordKind};

    impl World {
        /// Makes a deployment, and the record of the node, by which what it signs is verified.
        pub(in crate::controlplane) fn with_deployment(&self) -> String {
            let (owner, organization) = (&self.owner, &self.owner.organization);
            let new = serde_json::from_value(json!({ "name": "data" })).unwrap();
            let workspace = self.control.create_workspace(owner, organization, &new).unwrap().id;
            let new = json!({ "name": "prod", "workspaceId": workspace, "dataPlaneId": "dpl_a" });
            let new = serde_json::from_value(new).unwrap();
            let node = NodeRecord {
                id: "nod_a".parse().unwrap(),
                name: "a".into(),
                key: self.key.public().jwk(),
                retired_at: None,
            };
            let record = Record::from_value(RecordKind::Node, "nod_a", &node);
            let publish = crate::controlplane::replica::publish::put;
            self.control
                .store
                .write(|transaction| publish(transaction, "dpl_a", &[record]).map(drop))
                .unwrap();
            self.control.create_deployment(owner, organization, new).unwrap().id.to_string()
        }

        /// Deploys an archive with a digest of this byte, as if it had been read to its end.
        fn deploy(&self, deployment: &str, digest: u8) -> Shown {
            let (owner, organization, control) = (&self.owner, &self.owner.organization, &self.control);
            let new: NewDeploy = serde_json::from_value(json!({ "type": "DAG_ONLY" })).unwrap();
            let made = control.create_deploy(owner, organization, deployment, &new).unwrap();
            let url = made.dags_upload_url.unwrap();
            let upload = control.begin_upload(&made.id, url.split_once("?key=").unwrap().1).unwrap();
            control.finish_upload(&upload, Received { digest: [digest; 32], size: 9 }).unwrap();
            let archive = &upload.archive;
            control.finish_finalize(owner, organization, deployment, &made.id, archive).unwrap()
        }

        fn question(&self, held: &[(&str, u64)]) -> Vec<SignedDeploy> {
            let held = held.iter().map(|(id, version)| ((*id).to_owned(), *version)).collect();
            let question = HeldVersions { held, after: None };
            let answer = self.control.deploys_for(&World::node(), &question).unwrap();
            let keyset = self.control.signing().keyset.clone();
            let verify =
                |text: &String| SignedDeploy::verify(text, &keyset, &"dpl_a".parse().unwrap()).unwrap();
            answer.deploys.iter().map(verify).collect()
        }

        /// Reports a deploy that the node's host took.
        fn report(&self, deploy: &HostDeploy) -> Result<HostDeployAnswer, Error> {
            self.control.take_host_deploy(&World::node(), &sign_host_deploy(deploy, &self.key))
        }

        /// Sends the archive of a host's deploy.
        fn send(&self, deploy: &HostDeploy) -> HostDeployAnswer {
            let (control, caller) = (&self.control, World::node());
            let wanted = control.wanted_host_deploy(&caller, deploy.sub.as_str(), deploy.deploy.as_str());
            let wanted = wanted.unwrap().unwrap();
            let archive = control.expect_archive(deploy.sub.as_str()).unwrap();
            control.finish_host_deploy(&caller, &wanted, &archive).unwrap()
        }

        fn host_deploy(&self, deployment: &str, id: &str, base: u64, seq: u64) -> HostDeploy {
            HostDeploy {
                iss: "nod_a".parse().unwrap(),
                aud: "dpl_a".parse().unwrap(),
                sub: deployment.parse().unwrap(),
                deploy: id.parse().unwrap(),
                base,
                seq,
                iat: self.control.now(),
                digest: [id.as_bytes()[id.len() - 1]; 32],
                size: 9,
                token: "tok_a".parse().unwrap(),
                event: "evt_1-1".into(),
            }
        }

        fn listed(&self, deployment: &str) -> Vec<Shown> {
            let page = Page { offset: 0, limit: 1000, cursor: None };
            let (owner, organization) = (&self.owner, &self.owner.organization);
            self.control.list_deploys(owner, organization, deployment, page).unwrap().deploys
        }
    }

    #[test]
    fn a_node_is_given_the_deploy_in_force_of_which_it_holds_another_version() {
        let world = World::new();
        let changes = || world.state(&NodeStatement::default()).deploy_changes;
        let deployment = world.with_deployment();
        assert_eq!((changes(), world.question(&[]).len()), (None, 0));
        let first = world.deploy(&deployment, 1);
        let signed = world.question(&[]);
        let claims = signed[0].deploy();
        assert_eq!((claims.sub.as_str(), claims.deploy.as_str()), (&*deployment, &*first.id));
        assert_eq!((Some(claims.version), claims.digest, claims.size), (first.version, [1; 32], 9));
        assert_eq!(changes(), Some(1));
        assert!(world.question(&[(&deployment, claims.version)]).is_empty());
        for other in [claims.version - 1, claims.version + 1] {
            assert!(!world.question(&[(&deployment, other)])[0].contradicts(&signed[0]));
        }
        let second = world.deploy(&deployment, 2);
        let (owner, organization) = (&world.owner, &world.owner.organization);
        let update = DeployUpdate::default();
        let back = world.control.roll_back(owner, organization, &deployment, &first.id, &update).unwrap();
        let signed = world.question(&[(&deployment, second.version.unwrap())]);
        let claims = signed[0].deploy();
        assert_eq!((claims.deploy.as_str(), claims.digest), (&*back.id, [1; 32]));
        assert_eq!(changes(), Some(3));
        // After a restore the versions go on above those that hosts may hold.
        world.later(1000);
        world.control.recover(7, None).unwrap();
        let raised = world.question(&[(&deployment, claims.version)]);
        assert_eq!(raised[0].deploy().version, world.control.now().unix().unsigned_abs());
        assert_eq!(raised[0].deploy().deploy, claims.deploy);
        let archive = |deploy: &str| world.control.archive_for(&World::node(), &deployment, deploy);
        assert_eq!(archive(&second.id).unwrap().1.digest, [2; 32]);
        assert!(archive("c0").is_err());
        let stranger = Caller { node: "nod_b".into(), data_plane: "dpl_b".into() };
        assert!(world.control.archive_for(&stranger, &deployment, &second.id).is_err());
    }

    #[test]
    fn a_host_deploy_on_top_of_the_present_version_becomes_the_deployments() {
        let world = World::new();
        let deployment = world.with_deployment();
        let base = world.deploy(&deployment, 1).version.unwrap();
        let deploy = world.host_deploy(&deployment, "h1", base, 1);
        for _ in 0..2 {
            let answer = world.report(&deploy).unwrap();
            assert_eq!((answer.state, answer.by), (HostDeployState::Wanted, None));
        }
        assert_eq!(world.send(&deploy).state, HostDeployState::Stored);
        assert_eq!(world.report(&deploy).unwrap().state, HostDeployState::Stored);
        let signed = world.question(&[]);
        let claims = signed[0].deploy();
        assert_eq!((claims.deploy.as_str(), claims.digest), ("h1", deploy.digest));
        assert!(claims.version > base);
        let shown = world.listed(&deployment).into_iter().find(|shown| &*shown.id == "h1").unwrap();
        assert_eq!((shown.status, shown.is_in_force), (DeployStatus::Deployed, true));
        assert_eq!((shown.node_id.as_deref(), &*shown.created_by.id), (Some("nod_a"), "tok_a"));
        // The next one of the same outage follows, though the version has risen; one before it does not.
        let next = world.host_deploy(&deployment, "h3", base, 3);
        assert_eq!(world.report(&next).unwrap().state, HostDeployState::Wanted);
        assert_eq!(world.send(&next).state, HostDeployState::Stored);
        let before = world.report(&world.host_deploy(&deployment, "h2", base, 2)).unwrap();
        assert_eq!((before.state, before.by.unwrap().deploy.as_str()), (HostDeployState::Superseded, "h3"));
        // A host that rolled back to bytes that are here needs to send none.
        let version = world.question(&[])[0].deploy().version;
        let again = HostDeploy { digest: [1; 32], ..world.host_deploy(&deployment, "h4", version, 1) };
        assert_eq!(world.report(&again).unwrap().state, HostDeployState::Stored);
        assert_eq!(world.question(&[])[0].deploy().digest, [1; 32]);
        let log = "SELECT count(*) FROM audit_log WHERE call LIKE '%host-deploys' AND actor = 'nod_a'";
        assert_eq!(world.count(log), 4);
    }

    #[test]
    fn the_later_deploy_of_the_control_plane_stands_and_the_host_deploy_is_kept_in_the_list() {
        let world = World::new();
        let deployment = world.with_deployment();
        let base = world.deploy(&deployment, 1).version.unwrap();
        let late = world.host_deploy(&deployment, "h1", base, 1);
        let racing = world.host_deploy(&deployment, "h2", base, 2);
        assert_eq!(world.report(&racing).unwrap().state, HostDeployState::Wanted);
        let standing = world.deploy(&deployment, 2);
        for _ in 0..2 {
            let answer = world.report(&late).unwrap();
            let by = answer.by.unwrap();
            assert_eq!((answer.state, by.deploy.as_str()), (HostDeployState::Superseded, &*standing.id));
            assert_eq!(Some(by.version), standing.version);
        }
        // The one whose archive was on its way when the other came.
        assert_eq!(world.send(&racing).state, HostDeployState::Superseded);
        for id in ["h1", "h2"] {
            let shown = world.listed(&deployment).into_iter().find(|shown| &*shown.id == id).unwrap();
            assert_eq!(
                (shown.status, shown.superseded_by_id),
                (DeployStatus::Failed, Some(standing.id.clone()))
            );
        }
        assert_eq!(world.question(&[])[0].deploy().digest, [2; 32]);
        let now = world.control.now();
        let statement = json!({ "id": "out_a", "beganAt": now, "endedAt": now, "cause": "", "firstSequence": 1,
            "lastSequence": 0, "alarms": [] });
        let statement = serde_json::from_value(statement).unwrap();
        world.control.take_outage("dpl_a", "nod_a", statement).unwrap();
        let owner = &world.owner;
        let report = world.control.show_outage(owner, &owner.organization, "out_a").unwrap();
        assert_eq!((&*report.deploys[1].deploy_id, report.deploys.len()), ("h2", 2));
        let told = format!(
            "tok_a deployed h1 to {deployment} on this host; deploy {} stands in its place",
            standing.id
        );
        assert!(report.timeline.iter().any(|moment| moment.what == told), "{:?}", report.timeline);
    }

    #[test]
    fn a_report_that_does_not_hold_changes_nothing() {
        let world = World::new();
        let deployment = world.with_deployment();
        let made = world.deploy(&deployment, 1);
        let good = world.host_deploy(&deployment, "h1", 0, 1);
        let code = |result: Result<HostDeployAnswer, Error>| result.unwrap_err().code();
        let stranger = crate::protocol::key::SigningKey::from_seed(&[9; 32]);
        let forged = sign_host_deploy(&good, &stranger);
        assert_eq!(code(world.control.take_host_deploy(&World::node(), &forged)), "invalid");
        let elsewhere = HostDeploy { aud: "dpl_b".parse().unwrap(), ..good.clone() };
        assert_eq!(code(world.report(&elsewhere)), "invalid");
        let unknown = HostDeploy { sub: "dep_x".parse().unwrap(), ..good.clone() };
        assert_eq!(code(world.report(&unknown)), "not_found");
        let taken = HostDeploy { deploy: made.id.parse().unwrap(), ..good.clone() };
        assert_eq!(code(world.report(&taken)), "deploy_taken");
        world.report(&good).unwrap();
        let other = HostDeploy { digest: [7; 32], ..good.clone() };
        assert_eq!(code(world.report(&other)), "deploy_taken");
        let received = Received { digest: [7; 32], size: good.size };
        assert!(ControlPlane::check_received(&good, received).is_err());
        assert_eq!(world.listed(&deployment).len(), 2);
        assert_eq!(world.question(&[])[0].deploy().digest, [1; 32]);
    }

    #[test]
    fn the_ten_newest_archives_are_kept_and_that_in_force() {
        let world = World::new();
        let deployment = world.with_deployment();
        let first = world.deploy(&deployment, 1);
        for digest in 2..=12 {
            world.deploy(&deployment, digest);
        }
        let (owner, organization, update) =
            (&world.owner, &world.owner.organization, DeployUpdate::default());
        let back = |id: &str| {
            world.control.roll_back(owner, organization, &deployment, id, &update).map(|made| made.version)
        };
        back(&first.id).unwrap();
        let new: NewDeploy = serde_json::from_value(json!({ "type": "DAG_ONLY" })).unwrap();
        let awaited = world.control.create_deploy(owner, organization, &deployment, &new).unwrap();
        world.control.prune_deploys(world.control.now()).unwrap();
        let kept = |world: &World| -> Vec<u8> {
            let mut kept: Vec<u8> = world
                .listed(&deployment)
                .iter()
                .filter(|shown| shown.is_archive_kept)
                .map(|shown| {
                    world.control.archive_for(&World::node(), &deployment, &shown.id).unwrap().1.digest[0]
                })
                .collect();
            kept.sort_unstable();
            kept
        };
        // The first one's archive is in force again.
        assert_eq!(kept(&world), [1, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(world.count("SELECT count(*) FROM archive_garbage"), 2);
        let gone = world
            .listed(&deployment)
            .into_iter()
            .find(|shown| !shown.is_archive_kept && shown.version.is_some());
        assert_eq!(back(&gone.unwrap().id).unwrap_err().code(), "archive_gone");
        // A deploy that nobody finalized fails after a day.
        world.later(25 * 3600);
        world.control.prune_deploys(world.control.now()).unwrap();
        let shown = world.control.show_deploy(owner, organization, &deployment, &awaited.id).unwrap();
        assert_eq!(shown.status, DeployStatus::Failed);
        for _ in 0..12 {
            world.control.create_deploy(owner, organization, &deployment, &new).unwrap();
        }
        assert_eq!(world.count("SELECT count(*) FROM deploy WHERE status = 'INITIALIZED'"), 10);
    }
}
