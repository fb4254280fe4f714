//! Decisions on requests about Dags: what Dag roles open, and what they do not.

use super::*;

#[test]
fn a_dag_role_opens_its_dags_and_no_other() {
    let mut world = World::new();
    let (record, accessor) = role("DEPLOYMENT_ACCESSOR");
    world.records.push(record);
    world.claims.role = Some(accessor.clone());
    world.record.role = accessor;
    let author = |target| DagRole { role: role("DAG_AUTHOR").1, target };
    world.record.dag_roles =
        vec![author(DagTarget::Dag("etl".into())), author(DagTarget::Tag("team".into()))];
    let tags = DagTagsRecord {
        deployment: "dep_a".parse().unwrap(),
        tags: [("report".to_owned(), vec!["team".to_owned()])].into(),
    };
    world.records.push(Record::from_value(RecordKind::DagTags, "dep_a", &tags));
    world.method = "POST";
    for (uri, reason) in [
        ("/api/v2/dags/etl/dagRuns", Reason::Ok),
        ("/api/v2/dags/report/dagRuns", Reason::Ok),
        ("/api/v2/dags/other/dagRuns", Reason::PermissionDenied),
        ("/api/v2/dags/team/dagRuns", Reason::PermissionDenied),
        ("/api/v2/dags/~/dagRuns", Reason::PermissionDenied),
        ("/api/v2/connections", Reason::PermissionDenied),
    ] {
        world.uri = uri;
        assert_eq!(world.reason(), reason, "{uri}");
    }
}

#[test]
fn a_role_works_on_what_it_is_held_on_and_on_nothing_else() {
    // A Dag role in the place of the deployment role would open every Dag.
    let mut world = World::new();
    let (record, claim) = role("DAG_AUTHOR");
    world.records.push(record);
    (world.claims.role, world.record.role) = (Some(claim.clone()), claim);
    world.uri = "/api/v2/dags/etl";
    assert_eq!(world.reason(), Reason::RoleMismatch);
    // And a deployment role on one Dag would allow more there than any Dag role can.
    let mut world = World::new();
    world.record.dag_roles =
        vec![DagRole { role: role("DEPLOYMENT_ADMIN").1, target: DagTarget::Dag("etl".into()) }];
    world.records.push(role("DEPLOYMENT_ADMIN").0);
    assert_eq!(world.reason(), Reason::RoleMismatch);
}

#[test]
fn dag_roles_alone_open_their_dags_and_nothing_beside_them() {
    let mut world = World::new();
    let (record, accessor) = role("DEPLOYMENT_ACCESSOR");
    world.records.push(record);
    world.claims.role = Some(accessor.clone());
    world.record.role = accessor;
    let custom = RoleBody {
        name: "runner".into(),
        version: 3,
        scope: RoleScope::Dag,
        permissions: ["deployment.airflow.dagRun.create".parse().unwrap()].into_iter().collect(),
    };
    let claim = RoleClaim { id: custom.reference().unwrap(), digest: RoleDigest::compute(&custom.to_body()) };
    world.records.push(Record::new(RecordKind::Role, claim.id.to_string(), custom.to_body()));
    world.record.dag_roles = vec![
        DagRole { role: role("DAG_VIEWER").1, target: DagTarget::Tag("team".into()) },
        DagRole { role: claim, target: DagTarget::Dag("etl".into()) },
    ];
    let tags = |deployment: &str, dag: &str| {
        let deployment_tags = DagTagsRecord {
            deployment: deployment.parse().unwrap(),
            tags: [(dag.to_owned(), vec!["team".to_owned()])].into(),
        };
        Record::from_value(RecordKind::DagTags, deployment, &deployment_tags)
    };
    // The tags of another deployment's Dags do not count here.
    world.records.extend([tags("dep_a", "etl"), tags("dep_b", "other")]);
    let rows = [
        ("POST", "/api/v2/dags/etl/dagRuns", Reason::Ok),
        ("GET", "/api/v2/dags/etl", Reason::Ok),
        ("PATCH", "/api/v2/dags/etl", Reason::PermissionDenied),
        ("GET", "/api/v2/dags/other", Reason::PermissionDenied),
        ("GET", "/api/v2/dags/Etl", Reason::PermissionDenied),
        ("GET", "/api/v2/dags", Reason::PermissionDenied),
        ("GET", "/api/v2/pools", Reason::PermissionDenied),
    ];
    for (method, uri, reason) in rows {
        (world.method, world.uri) = (method, uri);
        assert_eq!(world.reason(), reason, "{method} {uri}");
    }
    // Without the record of one of its roles, or with another under its name, nothing at all is granted.
    (world.method, world.uri) = ("GET", "/api/v2/dags/etl");
    let whole = world.records.clone();
    world.records.retain(|record| &*record.key != "runner@3");
    assert_eq!(world.reason(), Reason::RoleMismatch);
    world.records = whole;
    for record in world.records.iter_mut().filter(|record| &*record.key == "runner@3") {
        record.body = record.body.replace("dagRun.create", "dagRun.delete").into();
    }
    assert_eq!(world.reason(), Reason::RoleMismatch);
}
