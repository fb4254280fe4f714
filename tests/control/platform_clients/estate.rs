//! Organizations, workspaces, deployments, users, teams and roles under every base path, decoded as the platform's
//! clients decode them.

use serde_json::{Value, json};

use super::expected::{
    Deployment, Deployments, Executor, Id, Organization, Organizations, PermissionGroup, Product, Role,
    Roles, Team, Teams, User, Users, Workspace, Workspaces,
};
use super::{BASES, call, decoded};
use crate::rig::control::Control;

#[test]
fn organizations_workspaces_and_deployments_decode_and_are_filtered() {
    let control = Control::start("");
    let estate = control.estate();
    let owner = &control.owner;
    for base in BASES {
        let organizations = format!("{base}/organizations");
        let get = |path: &str| call(&control, owner, "GET", path, None);
        let page: Organizations = decoded(&get(&organizations));
        assert_eq!((page.total_count, page.limit, page.offset), (1, 20, 0));
        assert_eq!(
            (&*page.organizations[0].name, &page.organizations[0].product),
            ("Acme", &Product::Hosted)
        );
        let organization = format!("{organizations}/{}", control.organization);
        let shown: Organization = decoded(&get(&organization));
        assert_eq!(shown.id, page.organizations[0].id);

        let names = |query: &str| -> Vec<String> {
            let page: Workspaces = decoded(&get(&format!("{organization}/workspaces?{query}")));
            page.workspaces.into_iter().map(|workspace| workspace.name).collect()
        };
        assert_eq!(names(""), ["data", "finance"]);
        assert_eq!(names("sorts=name:desc"), ["finance", "data"]);
        assert_eq!(names("limit=1&offset=1"), ["finance"]);
        assert_eq!(names(&format!("workspaceIds={}&workspaceIds=c0", estate.workspace)), ["data"]);
        assert_eq!(names("names=finance&names=nothing"), ["finance"]);
        let one = format!("{organization}/workspaces/{}", estate.workspace);
        let shown: Workspace = decoded(&get(&one));
        assert_eq!(shown.organization_name.as_deref(), Some("Acme"));
        assert_eq!(shown.created_by.unwrap().id, control.owner_id);
        let update = json!({ "description": "all data" });
        let updated: Workspace = decoded(&call(&control, owner, "POST", &one, Some(&update)));
        assert_eq!((&*updated.name, updated.description.as_deref()), ("data", Some("all data")));

        let names = |query: &str| -> Vec<String> {
            let page: Deployments = decoded(&get(&format!("{organization}/deployments?{query}")));
            page.deployments.into_iter().map(|deployment| deployment.name).collect()
        };
        assert_eq!(names(""), ["books", "prod"]);
        assert_eq!(names(&format!("workspaceIds={}", estate.workspace)), ["prod"]);
        assert_eq!(names(&format!("deploymentIds={}", estate.elsewhere)), ["books"]);
        assert_eq!(names("names=prod&sorts=updatedAt:desc&sorts=name:asc"), ["prod"]);
        let one = format!("{organization}/deployments/{}", estate.deployment);
        let update = json!({ "hosts": ["prod.example"], "description": "what runs" });
        let updated: Deployment = decoded(&call(&control, owner, "POST", &one, Some(&update)));
        assert_eq!(updated.workspace_name, "data");
        assert_eq!(
            (&*updated.web_server_url, &*updated.api_url),
            ("https://prod.example", "https://prod.example/api/v2")
        );
        assert_eq!(updated.description.as_deref(), Some("what runs"));
    }
}

#[test]
fn the_settings_of_a_deployment_are_kept_as_they_were_set() {
    let control = Control::start("");
    let estate = control.estate();
    let path = format!("/v1/organizations/{}/deployments/{}", control.organization, estate.deployment);
    let set = |body: &Value| call(&control, &control.owner, "POST", &path, Some(body));
    let shown = || -> Deployment { decoded(&call(&control, &control.owner, "GET", &path, None)) };
    assert_eq!((shown().executor, &*shown().scheduler_size), (Executor::Celery, "SMALL"));
    let body = json!({ "executor": "ASTRO", "schedulerSize": "LARGE", "schedulerReplicas": 2, "runtimeVersion": "13.1.0",
        "defaultTaskPodCpu": "250m", "defaultTaskPodMemory": "512Mi", "resourceQuotaCpu": "10", "resourceQuotaMemory": "20Gi",
        "isCicdEnforced": true, "isDagDeployEnabled": true, "contactEmails": ["ops@acme.example"] });
    let updated: Deployment = decoded(&set(&body));
    for found in [updated, shown()] {
        assert_eq!(
            (found.executor, &*found.scheduler_size, found.scheduler_replicas),
            (Executor::Astro, "LARGE", 2)
        );
        assert_eq!((&*found.runtime_version, &*found.astro_runtime_version), ("13.1.0", "13.1.0"));
        assert_eq!((&*found.default_task_pod_cpu, &*found.resource_quota_memory), ("250m", "20Gi"));
        assert!(found.is_cicd_enforced && found.is_dag_deploy_enabled);
    }
    let _: Deployment = decoded(&set(&json!({ "name": "renamed" })));
    assert_eq!((shown().executor, &*shown().name), (Executor::Astro, "renamed"), "what is not named stays");
    for (member, value) in [
        ("executor", json!("LOCAL")),
        ("executor", json!(7)),
        ("schedulerReplicas", json!(0)),
        ("schedulerReplicas", json!(-1)),
        ("defaultTaskPodCpu", json!("lots")),
        ("resourceQuotaMemory", json!("1 Gi")),
        ("schedulerSize", json!("")),
        ("imageTag", json!("a b")),
        ("contactEmails", json!(["nobody"])),
        ("isCicdEnforced", json!("yes")),
        ("status", json!("HEALTHY")),
    ] {
        let answer = set(&json!({ "name": "wrong", member: value }));
        assert_eq!(answer.status, 422, "{member}: {answer:?}");
        assert_eq!(answer.json()["fieldErrors"][0]["field"], member, "{answer:?}");
        assert_eq!(shown().name, "renamed", "nothing is written");
    }
    // Setting these members requires the permission `deployment.update`.
    let member = control.user("WORKSPACE_MEMBER", &estate.workspace);
    assert_eq!(call(&control, &member, "POST", &path, Some(&json!({ "executor": "CELERY" }))).status, 403);
}

#[test]
fn users_and_teams_decode_with_their_roles() {
    let control = Control::start("");
    let estate = control.estate();
    let owner = &control.owner;
    let member = control.user("WORKSPACE_AUTHOR", &estate.workspace);
    for (number, base) in BASES.into_iter().enumerate() {
        let organization = format!("{base}/organizations/{}", control.organization);
        let get = |path: &str| call(&control, owner, "GET", &format!("{organization}{path}"), None);
        let page: Users = decoded(&get("/users"));
        assert_eq!((page.total_count, page.limit, page.offset), (2, 20, 0));
        let found: Users = decoded(&get(&format!("/users?workspaceId={}", estate.workspace)));
        let user = &found.users[0];
        assert_eq!((found.users.len(), &*user.status, &user.full_name), (1, "ACTIVE", &user.username));
        let roles = user.roles.workspace_roles.as_ref().unwrap();
        assert_eq!((&roles[0].workspace_id, &*roles[0].role), (&estate.workspace, "WORKSPACE_AUTHOR"));
        let shown: User = decoded(&get(&format!("/users/{}", user.id.0)));
        assert_eq!(shown.id, user.id);
        // Users may read themselves and no other user.
        let own = format!("{organization}/users/{}", user.id.0);
        let _: User = decoded(&call(&control, &member, "GET", &own, None));
        let other = format!("{organization}/users/{}", control.owner_id);
        assert_eq!(call(&control, &member, "GET", &other, None).status, 403);
        let roles = json!({ "organizationRole": "ORGANIZATION_MEMBER" });
        let changed: super::expected::SubjectRoles =
            decoded(&call(&control, owner, "POST", &format!("{own}/roles"), Some(&roles)));
        assert_eq!(changed.organization_role.as_deref(), Some("ORGANIZATION_MEMBER"));

        let new = json!({ "name": format!("team {number}"), "memberIds": [user.id.0], "organizationRole": "ORGANIZATION_OWNER" });
        let teams = format!("{organization}/teams");
        let made: Team = decoded(&call(&control, owner, "POST", &teams, Some(&new)));
        assert_eq!(made.created_by.as_ref().unwrap().id, control.owner_id);
        assert_eq!(made.roles.organization_role.as_deref(), Some("ORGANIZATION_OWNER"));
        let one = format!("/teams/{}", made.id.0);
        let roles = json!({ "organizationRole": "ORGANIZATION_MEMBER",
            "workspaceRoles": [{ "workspaceId": estate.workspace, "role": "WORKSPACE_MEMBER" }] });
        let path = format!("{organization}{one}/roles");
        let _: super::expected::SubjectRoles = decoded(&call(&control, owner, "POST", &path, Some(&roles)));
        let shown: Team = decoded(&get(&one));
        assert_eq!((shown.roles_count, shown.is_idp_managed), (Some(2), false));
        let members: Value = decoded(&get(&format!("{one}/members")));
        assert_eq!(
            (&members["totalCount"], &members["teamMembers"][0]["userId"]),
            (&json!(1), &json!(user.id.0))
        );
        let page: Teams = decoded(&get(&format!(
            "/teams?workspaceId={}&sorts=createdAt:desc&sorts=name:desc",
            estate.workspace
        )));
        assert_eq!((page.total_count, page.limit), (number as u64 + 1, 20));
        let page: Teams = decoded(&get(&format!("/teams?names=team%20{number}&names=none")));
        assert_eq!(page.teams.len(), 1);
    }
}

#[test]
fn roles_and_the_permissions_they_are_made_of_decode() {
    let control = Control::start("");
    let owner = &control.owner;
    for (number, base) in BASES.into_iter().enumerate() {
        let organization = format!("{base}/organizations/{}", control.organization);
        let get = |path: &str| call(&control, owner, "GET", path, None);
        let new = json!({ "name": format!("runner-{number}"), "scopeType": "DAG", "permissions": ["deployment.airflow.dag.get"] });
        let made: Role =
            decoded(&call(&control, owner, "POST", &format!("{organization}/roles"), Some(&new)));
        assert_eq!((made.created_by.id, made.permissions.len()), (control.owner_id.clone(), 1));
        let Id(id) = made.id;
        let _: Role = decoded(&get(&format!("{organization}/roles/{id}")));
        let page: Roles = decoded(&get(&format!("{organization}/roles")));
        assert_eq!(
            (page.total_count, page.limit, page.default_roles.is_none()),
            (number as u64 + 1, 20, true)
        );
        let page: Roles = decoded(&get(&format!(
            "{organization}/roles?includeDefaultRoles=true&scopeTypes=DEPLOYMENT&scopeTypes=DAG"
        )));
        let built_in = page.default_roles.unwrap();
        assert!(built_in.iter().all(|role| ["DEPLOYMENT", "DAG"].contains(&&*role.scope_type)));
        assert!(built_in.iter().any(|role| role.name == "DEPLOYMENT_ADMIN" && role.permissions.len() > 50));
        let groups: Vec<PermissionGroup> =
            decoded(&get(&format!("{base}/authorization/permission-groups?scopeType=DAG")));
        assert!(groups.iter().all(|group| group.scope == "DAG" && !group.permissions.is_empty()));
    }
}
