//! Teams: a member has the team's roles in addition to their own while they belong to it.

#![allow(clippy::unwrap_used)]

use crate::rig::Rig;
use crate::rig::control::Control;
use serde_json::{Value, json};

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

#[test]
fn members_have_the_teams_roles_and_the_higher_of_two_wins() {
    let control = Control::start("");
    let estate = control.estate();
    let user = control.make(
        "/users",
        &json!({ "email": "u@acme.example", "organizationRole": "ORGANIZATION_MEMBER",
            "workspaceRoles": [{ "workspaceId": estate.workspace, "role": "WORKSPACE_AUTHOR" }] }),
    );
    let token = user["token"].as_str().unwrap();
    let team = |role: &str, workspaces: Value| {
        let body = json!({ "name": role, "organizationRole": role, "workspaceRoles": workspaces });
        id(&control.make("/teams", &body))
    };
    let join = |team: &str| {
        let body = json!({ "memberIds": [user["id"]] });
        let answer = control.call("POST", &format!("/teams/{team}/members"), Some(&body));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    // 422 counts as allowed: authorization passed and the body was refused.
    let may = |method: &str, path: &str| {
        let body = json!({ "name": "" });
        let body = (method == "POST").then_some(&body);
        control.call_as(token, method, path, body, &[]).status != 403
    };
    let (here, there) =
        (format!("/deployments/{}", estate.deployment), format!("/deployments/{}", estate.elsewhere));
    assert!(may("GET", &here) && !may("POST", &here) && !may("GET", &there) && !may("POST", "/workspaces"));
    let operators = team(
        "ORGANIZATION_MEMBER",
        json!([
            { "workspaceId": estate.workspace, "role": "WORKSPACE_OPERATOR" },
            { "workspaceId": estate.other_workspace, "role": "WORKSPACE_MEMBER" },
        ]),
    );
    join(&operators);
    assert!(may("POST", &here) && may("GET", &there) && !may("POST", &there) && !may("POST", "/workspaces"));
    // A lower role of the team does not reduce the member's own role.
    let lower =
        json!({ "workspaceRoles": [{ "workspaceId": estate.workspace, "role": "WORKSPACE_ACCESSOR" }] });
    assert_eq!(control.call("POST", &format!("/teams/{operators}/roles"), Some(&lower)).status, 200);
    assert!(may("GET", &here) && !may("POST", &here) && !may("GET", &there));
    let owners = team("ORGANIZATION_OWNER", json!([]));
    join(&owners);
    assert!(may("POST", "/workspaces") && may("POST", &there));
    let member = format!("/teams/{owners}/members/{}", id(&user));
    assert_eq!(control.call("DELETE", &member, None).status, 204);
    assert!(!may("POST", "/workspaces"));
    join(&owners);
    assert_eq!(control.call("DELETE", &format!("/teams/{owners}"), None).status, 204);
    assert!(!may("POST", "/workspaces"));
    // Deleting a user removes them from the team and keeps the team.
    assert_eq!(control.get(&format!("/teams/{operators}"))["membersCount"], 1);
    assert_eq!(control.call("DELETE", &format!("/users/{}", id(&user)), None).status, 204);
    assert_eq!(control.get(&format!("/teams/{operators}"))["membersCount"], 0);
    assert_eq!(control.get("/teams")["totalCount"], 1);
}

#[test]
fn a_workspace_owner_says_what_a_team_may_do_there_and_nothing_else() {
    let control = Control::start("");
    let estate = control.estate();
    let owner = control.user("WORKSPACE_OWNER", &estate.workspace);
    let team = id(&control.make("/teams", &json!({ "name": "night" })));
    let call = |method: &str, path: String, body: Value| {
        control.call_as(&owner, method, &path, Some(&body), &[]).status
    };
    let roles = |workspace: &str| json!({ "workspaceRoles": [{ "workspaceId": workspace, "role": "WORKSPACE_AUTHOR" }] });
    assert_eq!(call("POST", format!("/teams/{team}/roles"), roles(&estate.workspace)), 200);
    assert_eq!(call("POST", format!("/teams/{team}/roles"), roles(&estate.other_workspace)), 403);
    assert_eq!(
        call("POST", format!("/teams/{team}/roles"), json!({ "organizationRole": "ORGANIZATION_OWNER" })),
        403
    );
    assert_eq!(call("POST", format!("/teams/{team}/members"), json!({ "memberIds": [] })), 403);
    assert_eq!(call("POST", "/teams".into(), json!({ "name": "mine" })), 403);
    assert_eq!(call("POST", format!("/teams/{team}"), json!({ "name": "mine" })), 403);
    assert_eq!(call("DELETE", format!("/teams/{team}"), Value::Null), 403);
    for (body, status) in [
        (json!({ "name": "" }), 422),
        (json!({ "name": "night" }), 409),
        (json!({ "name": "x", "organizationRole": "KING" }), 422),
        (
            json!({ "name": "x", "workspaceRoles": [{ "workspaceId": "wsp_none", "role": "WORKSPACE_OWNER" }] }),
            404,
        ),
    ] {
        assert_eq!(control.call("POST", "/teams", Some(&body)).status, status, "{body}");
    }
    let none =
        control.call("POST", &format!("/teams/{team}/members"), Some(&json!({ "memberIds": ["usr_none"] })));
    assert_eq!(none.status, 404);
}

#[test]
fn the_command_line_makes_teams() {
    let rig = Rig::start();
    let user = rig.made(&["user", "create", "u@acme.example"]);
    let users = String::from_utf8(rig.cli(&["user", "list"]).stdout).unwrap();
    assert!(users.contains("TOKEN ENDS"), "{users}");
    let role = format!("{}=WORKSPACE_OWNER", rig.workspace);
    let team = rig.made(&["team", "create", "night", "-d", "who is on call", "--workspace-role", &role]);
    assert_eq!(rig.json(&["team", "add", &team, &user])[0]["email"], "u@acme.example");
    assert_eq!(rig.json(&["team", "members", &team])[0]["userId"], user);
    assert_eq!(rig.json(&["team", "update", &team, "-n", "day"])["name"], "day");
    let changed =
        rig.json(&["team", "set-roles", &team, "--organization-role", "ORGANIZATION_BILLING_ADMIN"]);
    assert_eq!(
        (&changed["organizationRole"], &changed["membersCount"]),
        (&json!("ORGANIZATION_BILLING_ADMIN"), &json!(1))
    );
    assert_eq!(changed["workspaceRoles"][0]["role"], "WORKSPACE_OWNER");
    rig.cli(&["team", "remove", &team, &user]);
    assert_eq!(rig.json(&["team", "list"])["teams"][0]["membersCount"], 0);
    let behind = rig.cli_command().args(["team", "list", "--cursor", "AAAA"]).output().unwrap();
    let said = String::from_utf8(behind.stderr).unwrap();
    assert!(
        said.contains("take nextCursor of the page before"),
        "the control plane reads the cursor: {said}"
    );
    rig.cli(&["team", "delete", &team, "--yes"]);
    assert_eq!(rig.json(&["team", "list"])["totalCount"], 0);
}
