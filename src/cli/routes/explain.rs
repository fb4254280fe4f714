//! `halligan routes explain`: shows how a route map evaluates one request, step by step.

use serde_json::{Value, json};

use super::pattern::Pattern;
use super::review::Draft;
use crate::cli::output::{Output, line};
use crate::dataplane::decide::routes::{CanonicalPath, RouteMap};
use crate::protocol::role::built_in;

/// Explains a request. Returns true if the map has a route for it.
pub(super) fn explain(draft: &Draft, map: &RouteMap, method: &str, target: &str, output: Output) -> bool {
    let answer = answer(draft, map, method, target);
    if output.json {
        output.one(&answer, &[]);
    } else {
        print(&answer);
    }
    answer["reason"].is_null()
}

fn answer(draft: &Draft, map: &RouteMap, method: &str, target: &str) -> Value {
    let path = match CanonicalPath::parse(target) {
        Ok(path) => path,
        Err(error) => return json!({ "reason": "path_invalid", "why": error.to_string() }),
    };
    let taken = map.template(&path);
    let also: Vec<_> = draft
        .routes
        .keys()
        .filter(|template| Some(template.as_str()) != taken && Pattern::read(template).matches(path.as_str()))
        .collect();
    if path.encoded_slash().is_some() && taken.is_none() {
        let why = "no route takes a path with an encoded slash there";
        return json!({ "reason": "path_invalid", "why": why });
    }
    let Some(found) = map.find(method, &path) else {
        let why = match taken {
            Some(template) => {
                let methods: Vec<_> =
                    draft.routes.get(template).into_iter().flat_map(|methods| methods.keys()).collect();
                json!({ "template": template, "methods": methods })
            }
            None => Value::Null,
        };
        return json!({ "reason": "route_unknown", "path": path.as_str(), "taken": why, "alsoMatches": also });
    };
    let parameters: serde_json::Map<String, Value> =
        map.parameters(&path).into_iter().map(|(name, value)| (name, value.into())).collect();
    let roles: Vec<_> = built_in()
        .into_iter()
        .filter(|role| found.route.permissions.is_subset(role.permissions))
        .map(|role| role.name)
        .collect();
    json!({
        "path": path.as_str(), "route": &*found.route.template, "parameters": parameters,
        "permissions": found.route.permissions, "dag": found.dag, "mutating": found.route.mutating,
        "alsoMatches": also, "builtInRoles": roles,
    })
}

fn print(answer: &Value) {
    let list = |value: &Value| {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let row = |name: &str, text: &str| line(&format!("{name:<12}{text}"));
    if let Some(path) = answer["path"].as_str() {
        row("path", path);
    }
    if answer["reason"] == "path_invalid" {
        return row("denied", &format!("path_invalid: {}", answer["why"].as_str().unwrap_or_default()));
    }
    if !list(&answer["alsoMatches"]).is_empty() {
        row("also match", &list(&answer["alsoMatches"]));
    }
    if answer["reason"] == "route_unknown" {
        let taken = &answer["taken"];
        let why = match taken["template"].as_str() {
            Some(template) => format!("route_unknown: {template} has {} only", list(&taken["methods"])),
            None => "route_unknown: no template matches".into(),
        };
        return row("denied", &why);
    }
    row("route", answer["route"].as_str().unwrap_or_default());
    for (name, value) in answer["parameters"].as_object().into_iter().flatten() {
        row("", &format!("{name} = {}", value.as_str().unwrap_or_default()));
    }
    row("needs", &list(&answer["permissions"]));
    match answer["dag"].as_str() {
        Some(dag) => row("Dag", &format!("{dag}: a role on it, or on a tag of it, counts")),
        None => row("Dag", "none, or every one: only the role on the deployment counts"),
    }
    row("mutating", if answer["mutating"] == true { "yes: answered once it is on record" } else { "no" });
    let roles = list(&answer["builtInRoles"]);
    row("built-in", if roles.is_empty() { "no built-in role may" } else { &roles });
}
