//! Route map of Airflow: every operation of the Airflow REST API v2, and of the web interface, requires a permission.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use halligan::dataplane::decide::routes::{CanonicalPath, RouteMap};

/// Operations of Airflow's own OpenAPI document, one `METHOD template` in a line, sorted by template.
const OPERATIONS: &str = include_str!("airflow-v2-operations.txt");
/// Operations of the document that Airflow's web interface uses.
const OF_THE_INTERFACE: &str = include_str!("airflow-ui-operations.txt");

#[test]
fn every_operation_of_airflow_has_a_permission() {
    let map = RouteMap::airflow_v2();
    let mut operations = 0;
    for line in OPERATIONS.lines().chain(OF_THE_INTERFACE.lines()) {
        let (method, template) = line.split_once(' ').unwrap();
        let concrete = template.replace("{dag_id}", "etl").replace(['{', '}'], "");
        let path = CanonicalPath::parse(&concrete).unwrap();
        let found = map.find(method, &path).unwrap_or_else(|| panic!("{line} has no permission"));
        assert_eq!(&*found.route.template, template, "{line} is taken for another route");
        assert_eq!(found.dag.is_some(), template.contains("{dag_id}"), "{line}");
        assert_eq!(found.route.mutating, method != "GET", "{line}");
        operations += 1;
    }
    assert_eq!(operations, 108 + 15);
}

/// The lists in this folder equal the operations of the documents in the installed package.
#[test]
fn the_list_is_that_of_the_installed_airflow() {
    let Some(document) = crate::rig::airflow::document() else { return };
    compare(&document, OPERATIONS);
    compare(&document.with_file_name("_private_ui.yaml"), OF_THE_INTERFACE);
}

fn compare(document: &std::path::Path, kept: &str) {
    let document: serde_json::Value =
        serde_saphyr::from_str(&std::fs::read_to_string(document).unwrap()).unwrap();
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            operations.insert(format!("{} {path}", method.to_ascii_uppercase()));
        }
    }
    let kept: BTreeSet<String> = kept.lines().map(str::to_owned).collect();
    assert_eq!(
        operations.difference(&kept).collect::<Vec<_>>(),
        [""; 0],
        "Airflow has what the list has not"
    );
    assert_eq!(
        kept.difference(&operations).collect::<Vec<_>>(),
        [""; 0],
        "the list has what Airflow has not"
    );
}

/// The script of the installed package names the addresses of the web interface. Each of them opens the shell, and so
/// does each file beside the script.
#[test]
fn every_address_of_the_installed_web_interface_opens_its_shell() {
    let Some(document) = crate::rig::airflow::document() else { return };
    let files = document.ancestors().nth(4).unwrap().join("ui/dist");
    let names = std::fs::read_dir(files.join("assets")).unwrap().map(|entry| entry.unwrap().path());
    let scripts: Vec<_> = names.filter(|path| path.extension().is_some_and(|kind| kind == "js")).collect();
    let shell = |path: &str| {
        let canonical = CanonicalPath::parse(path).unwrap();
        let map = RouteMap::airflow_v2();
        let found = map.find("GET", &canonical).unwrap_or_else(|| panic!("{path} has no permission"));
        assert_eq!(found.route.permission.as_str(), "deployment.airflow.website.get", "{path}");
    };
    let mut addresses = BTreeSet::new();
    for script in &scripts {
        shell(&format!("/static/assets/{}", script.file_name().unwrap().to_str().unwrap()));
        let text = std::fs::read_to_string(script).unwrap();
        for rest in text.split("path:\"").skip(1) {
            addresses.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    assert!(addresses.contains("dags/:dagId"), "{addresses:?}");
    // These are nested routes of the script, so each is only a part of a page's address.
    let nested = [
        "*",
        "/",
        "asset_events",
        "calendar",
        "code",
        "details",
        "rendered_templates",
        "runs",
        "tasks",
        "xcom",
    ];
    for address in addresses.iter().filter(|address| !nested.contains(&address.as_str())) {
        let concrete = address.replace('*', "x").replace(':', "");
        shell(&format!("/{concrete}"));
    }
    shell("/");
    shell("/static/i18n/locales/en/common.json");
}

/// Compares the map's parameters that take slashes with the source of the installed package, because only the source
/// declares them, not the OpenAPI document.
#[test]
fn every_path_parameter_of_the_installed_airflow_takes_a_slash_and_no_other_does() {
    let Some(document) = crate::rig::airflow::document() else { return };
    let sources = document.ancestors().nth(2).unwrap().join("routes/public");
    let mut declared = BTreeSet::new();
    for entry in std::fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "py") {
            let text = std::fs::read_to_string(path).unwrap();
            let ends = text.match_indices(":path}").map(|(end, _)| &text[..end]);
            declared.extend(ends.map(|front| front[front.rfind('{').unwrap() + 1..].to_owned()));
        }
    }
    assert!(declared.contains("variable_key"), "{declared:?}");
    let map = RouteMap::airflow_v2();
    for line in OPERATIONS.lines() {
        let (method, template) = line.split_once(' ').unwrap();
        for (open, _) in template.match_indices('{') {
            let close = open + template[open..].find('}').unwrap();
            let takes_paths = declared.contains(&template[open + 1..close]);
            assert!(
                !takes_paths || close + 1 == template.len(),
                "{line}: the map knows paths at the end only"
            );
            for value in ["team%2Fkey", "team%2fa%2Fb", "caf%C3%A9%2F1"] {
                let filled = format!("{}{value}{}", &template[..open], &template[close + 1..]);
                let concrete = filled.replace("{dag_id}", "etl").replace(['{', '}'], "");
                let path = CanonicalPath::parse(&concrete).unwrap();
                let found = map.find(method, &path).map(|found| found.route.template.to_string());
                assert_eq!(found.as_deref(), takes_paths.then_some(template), "{method} {concrete}");
                let plain = concrete.replace("%2F", "/").replace("%2f", "/");
                let plain = CanonicalPath::parse(&plain).unwrap();
                let plain = map.find(method, &plain).map(|found| found.route.template.to_string());
                assert!(!takes_paths || plain.as_deref() == Some(template), "{method} {concrete}");
            }
        }
    }
}
