//! Every operation of the Airflow REST API v2 needs a permission.

#![allow(clippy::unwrap_used, clippy::panic)]

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
