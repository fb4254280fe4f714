//! Two workspaces with a deployment each, and users with roles in them.

use serde_json::{Value, json};

use super::control::Control;
use super::{Answer, curl};

/// Ids of the objects that were created.
pub struct Estate {
    pub workspace: String,
    pub other_workspace: String,
    pub data_plane: String,
    /// Deployment in `workspace`.
    pub deployment: String,
    /// Deployment in `other_workspace`.
    pub elsewhere: String,
}

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

impl Control {
    pub fn estate(&self) -> Estate {
        let workspace = id(&self.make("/workspaces", &json!({ "name": "data" })));
        let other_workspace = id(&self.make("/workspaces", &json!({ "name": "finance" })));
        let data_plane = id(&self.make("/data-planes", &json!({ "name": "eu" })));
        let deployment = |name: &str, workspace: &str| {
            let body = json!({ "name": name, "workspaceId": workspace, "dataPlaneId": data_plane });
            id(&self.make("/deployments", &body))
        };
        let (deployment, elsewhere) = (deployment("prod", &workspace), deployment("books", &other_workspace));
        Estate { workspace, other_workspace, data_plane, deployment, elsewhere }
    }

    /// Creates a user with a role in a workspace. Returns the user's token.
    pub fn user(&self, role: &str, workspace: &str) -> String {
        let body = json!({
            "email": format!("{role}@{workspace}.example"),
            "organizationRole": "ORGANIZATION_MEMBER",
            "workspaceRoles": [{ "workspaceId": workspace, "role": role }],
        });
        self.make("/users", &body)["token"].as_str().unwrap().to_owned()
    }

    /// Calls a path outside the organization as the organization's owner.
    pub fn call_at(&self, method: &str, path: &str) -> Answer {
        let bearer = format!("Authorization: Bearer {}", self.owner);
        curl(&["-X", method, "-H", &bearer, &format!("{}{path}", self.url)])
    }
}
