//! Every operation of the Airflow REST API v2 needs a permission.

#![allow(clippy::unwrap_used, clippy::panic)]

mod rig;

use std::collections::BTreeSet;

use halligan::dataplane::routes::{CanonicalPath, RouteMap};

/// `METHOD template`, one a line, sorted by template: the operations of Airflow's own OpenAPI document.
const OPERATIONS: &str = include_str!("airflow-v2-operations.txt");

#[test]
fn every_operation_of_airflow_has_a_permission() {
    let map = RouteMap::airflow_v2();
    let mut operations = 0;
    for line in OPERATIONS.lines() {
        let (method, template) = line.split_once(' ').unwrap();
        let concrete = template.replace("{dag_id}", "etl").replace(['{', '}'], "");
        let path = CanonicalPath::parse(&concrete).unwrap();
        let found = map.find(method, &path).unwrap_or_else(|| panic!("{line} has no permission"));
        assert_eq!(&*found.route.template, template, "{line} is taken for another route");
        assert_eq!(found.dag.is_some(), template.contains("{dag_id}"), "{line}");
        assert_eq!(found.route.mutating, method != "GET", "{line}");
        operations += 1;
    }
    assert_eq!(operations, 108);
}

/// The kept list is Airflow's own: that of the document in the package that is installed.
#[test]
fn the_list_is_that_of_the_installed_airflow() {
    let Some(document) = rig::airflow::document() else { return };
    let document: serde_json::Value =
        serde_saphyr::from_str(&std::fs::read_to_string(document).unwrap()).unwrap();
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            operations.insert(format!("{} {path}", method.to_ascii_uppercase()));
        }
    }
    let kept: BTreeSet<String> = OPERATIONS.lines().map(str::to_owned).collect();
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
