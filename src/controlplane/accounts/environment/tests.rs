//! Unit tests of the environment variables of deployments.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::api::deployment::{DeploymentFilter, NewDeployment};
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::test_world::World;
use crate::protocol::permission::{Permission, PermissionSet};

/// Control plane with one deployment.
struct Estate {
    world: World,
    deployment: String,
    workspace: String,
}

impl Estate {
    fn new() -> Self {
        let world = World::new();
        let (owner, organization) = (&world.owner, world.owner.organization.clone());
        let new = serde_json::from_value(json!({ "name": "data" })).unwrap();
        let workspace = world.control.create_workspace(owner, &organization, &new).unwrap().id.to_string();
        let new: NewDeployment = serde_json::from_value(
            json!({ "name": "prod", "workspaceId": workspace, "dataPlaneId": "dpl_a" }),
        )
        .unwrap();
        let deployment = world.control.create_deployment(owner, &organization, new).unwrap().id.to_string();
        Self { world, deployment, workspace }
    }

    /// Returns a caller whose permissions on the deployment are these.
    fn with(&self, permissions: &[&str]) -> Actor {
        let held: PermissionSet = permissions
            .iter()
            .map(|name| format!("deployment.{name}").parse::<Permission>().unwrap())
            .collect();
        Actor {
            id: "tok_a".into(),
            organization: self.world.owner.organization.clone(),
            role: None,
            workspaces: BTreeMap::new(),
            deployments: [(self.deployment.clone(), held)].into(),
        }
    }

    fn set(&self, actor: &Actor, variables: &Value) -> Result<Value, Error> {
        let update = serde_json::from_value(json!({ "environmentVariables": variables })).unwrap();
        let organization = &actor.organization;
        let shown = self.world.control.update_deployment(
            actor,
            organization,
            &self.deployment,
            update,
            &IfMatch::default(),
        )?;
        Ok(serde_json::to_value(shown.environment_variables).unwrap())
    }

    fn shown(&self) -> Value {
        let (owner, organization) = (&self.world.owner, &self.world.owner.organization);
        let shown = self.world.control.show_deployment(owner, organization, &self.deployment).unwrap();
        serde_json::to_value(shown.environment_variables).unwrap()
    }

    fn version(&self) -> i64 {
        self.world.count("SELECT environment_version FROM deployment")
    }

    fn key_file(&self) -> std::path::PathBuf {
        self.world.control.signing().directory().join("environment.key")
    }
}

fn code(result: Result<Value, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::Forbidden { .. }) => "forbidden",
        Err(error) => {
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
            if matches!(error, Error::Invalid { .. }) { "invalid" } else { "other" }
        }
    }
}

#[test]
fn each_change_to_the_variables_needs_its_own_permission() {
    let estate = Estate::new();
    let owner = estate.world.owner.clone();
    let plain = |key: &str, value: &str| json!({ "key": key, "value": value });
    let secret = |key: &str, value: &str| json!({ "key": key, "value": value, "isSecret": true });
    estate.set(&owner, &json!([plain("A", "1"), secret("S", "s3cret")])).unwrap();
    let all = [
        "get",
        "environmentVariables.get",
        "environmentVariables.create",
        "environmentVariables.update",
        "environmentVariables.delete",
    ];
    let without = |missing: &str| -> Vec<&str> { all.into_iter().filter(|name| *name != missing).collect() };
    let kept = json!({ "key": "S", "isSecret": true });
    for (wanted, missing, outcome) in [
        (json!([plain("A", "1"), kept, plain("B", "2")]), "environmentVariables.create", "forbidden"),
        (json!([plain("A", "2"), kept]), "environmentVariables.update", "forbidden"),
        // A guess of a secret's value is a change, right or wrong.
        (json!([plain("A", "1"), secret("S", "s3cret")]), "environmentVariables.update", "forbidden"),
        (json!([{ "key": "A", "isSecret": true }, kept]), "environmentVariables.update", "forbidden"),
        (json!([kept]), "environmentVariables.delete", "forbidden"),
        // So is a guess of a plain value by one who may not see it.
        (json!([plain("A", "1"), kept]), "environmentVariables.get", "ok"),
        (json!([plain("A", "1"), kept]), "environmentVariables.update", "ok"),
        (json!([{ "key": "A" }, kept]), "environmentVariables.get", "forbidden"),
        (json!([plain("A", "1"), kept]), "get", "forbidden"),
    ] {
        let held = estate.with(&without(missing));
        assert_eq!(code(estate.set(&held, &wanted)), outcome, "{wanted} without {missing}");
    }
    let changed = estate.set(&estate.with(&all), &json!([plain("B", "2"), kept])).unwrap();
    assert_eq!((&changed[0]["key"], &changed[1]["key"]), (&json!("B"), &json!("S")));
    // The permission to change the deployment itself allows none of this, and is not needed for it.
    assert_eq!(code(estate.set(&estate.with(&["get", "update"]), &json!([]))), "forbidden");
    let hidden =
        estate.set(&estate.with(&without("environmentVariables.get")), &json!([plain("C", "3")])).unwrap();
    assert_eq!(hidden, Value::Null);
}

#[test]
fn a_secret_is_shown_to_nobody_and_stays_until_it_is_replaced() {
    let estate = Estate::new();
    let owner = estate.world.owner.clone();
    let set = |variables: Value| estate.set(&owner, &variables);
    set(json!([{ "key": "S", "value": "s3cret", "isSecret": true }, { "key": "A", "value": "" }])).unwrap();
    let shown = estate.shown();
    assert_eq!((&shown[0]["value"], shown[1].get("value")), (&json!(""), None));
    let (version, at) = (estate.version(), shown[1]["updatedAt"].clone());
    estate.world.later(60);
    set(json!([{ "key": "S", "isSecret": true }, { "key": "A", "value": "" }])).unwrap();
    assert_eq!((estate.version(), &estate.shown()[1]["updatedAt"]), (version, &at), "nothing has changed");
    assert_eq!(code(set(json!([{ "key": "S" }, { "key": "A" }]))), "invalid", "it would be shown");
    assert_eq!(code(set(json!([{ "key": "N" }]))), "invalid", "it has no value yet");
    set(json!([{ "key": "S", "value": "open" }, { "key": "A", "isSecret": true }])).unwrap();
    let shown = estate.shown();
    assert_eq!((shown[0].get("value"), &shown[1]["value"]), (None, &json!("open")));
    assert!(estate.version() > version);
    let page = estate.world.control.list_deployments(
        &owner,
        &owner.organization,
        &DeploymentFilter::default(),
        serde_json::from_value(json!({})).unwrap(),
    );
    assert!(serde_json::to_string(&page.unwrap()).unwrap().contains(r#""key":"S","value":"open""#));
    assert!(!estate.workspace.is_empty());
}

#[test]
fn what_no_variable_can_be_changes_nothing() {
    let estate = Estate::new();
    let owner = estate.world.owner.clone();
    estate.set(&owner, &json!([{ "key": "A", "value": "1" }])).unwrap();
    let (before, version) = (estate.shown(), estate.version());
    let many: Vec<_> = (0..=MAX_VARIABLES).map(|n| json!({ "key": format!("V{n}"), "value": "" })).collect();
    let large: Vec<_> =
        (0..5).map(|n| json!({ "key": format!("V{n}"), "value": "x".repeat(60 << 10) })).collect();
    for bad in [
        json!([{ "key": "PATH=", "value": "s3cret" }]),
        json!([{ "key": "PATH", "value": "s3cret" }]),
        json!([{ "key": "B", "value": "x".repeat(1 << 20) }]),
        json!([{ "key": "B", "value": "s3cret\u{0}" }]),
        json!([{ "key": "B", "value": "s3cret" }, { "key": "B", "value": "2" }]),
        json!(many),
        json!(large),
    ] {
        assert_eq!(code(estate.set(&owner, &bad)), "invalid");
    }
    assert_eq!((estate.shown(), estate.version()), (before, version));
}

#[test]
fn values_are_stored_under_a_key_that_is_not_in_the_database() {
    use std::os::unix::fs::PermissionsExt as _;

    let estate = Estate::new();
    let (owner, path) = (estate.world.owner.clone(), estate.key_file());
    assert!(!path.exists(), "no variable was stored");
    estate.set(&owner, &json!([])).unwrap();
    assert!(!path.exists());
    let variables =
        json!([{ "key": "A", "value": "pl4in" }, { "key": "S", "value": "s3cret", "isSecret": true }]);
    estate.set(&owner, &variables).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let stored = "SELECT count(*) FROM environment_variable WHERE instr(sealed, CAST('s3cret' AS BLOB)) OR instr(sealed, CAST('pl4in' AS BLOB))";
    assert_eq!(
        (estate.world.count(stored), estate.world.count("SELECT count(*) FROM environment_variable")),
        (0, 2)
    );
    let right = std::fs::read_to_string(&path).unwrap();
    let refused = |what: &str| {
        estate.world.control.environment_key.forget();
        let error = estate.set(&owner, &json!([{ "key": "B", "value": "2" }])).unwrap_err();
        assert_eq!(error.status(), 503, "{what}");
        assert!(error.to_string().contains(&path.display().to_string()), "{what}: {error}");
        assert!(estate.world.control.environment_key_fault().unwrap().is_some(), "{what}");
        error.to_string()
    };
    std::fs::remove_file(&path).unwrap();
    assert!(refused("lost").contains("is missing"));
    assert!(!path.exists(), "no other key takes its place");
    let write = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 0o600);
    assert!(refused("another").contains("is not the key"));
    write("nothing\n", 0o600);
    refused("none");
    write(&right, 0o640);
    refused("exposed");
    write(&right, 0o600);
    assert_eq!(estate.shown()[0]["value"], "pl4in");
    // After a loss for good, one starts over, above the versions that hosts have.
    std::fs::remove_file(&path).unwrap();
    let version = estate.version();
    assert_eq!(estate.world.control.forget_variables().unwrap(), 2);
    assert_eq!((estate.shown(), estate.version()), (json!([]), 0), "nothing is given to hosts");
    estate.world.later(1);
    estate.set(&owner, &variables).unwrap();
    assert!(path.exists() && estate.version() > version);
}
