//! Unit tests of route maps.

#![allow(clippy::unwrap_used)]

use super::*;

/// Route that takes one permission, as text of a map.
fn get(template: &str) -> String {
    format!("[routes.\"{template}\"]\nGET = [\"deployment.get\"]\n")
}

fn find(method: &str, path: &str) -> Option<(String, Option<String>)> {
    let (map, path) = (RouteMap::airflow_v2(), CanonicalPath::parse(path).unwrap());
    let found = map.find(method, &path)?;
    Some((found.route.permission.to_string(), found.dag.map(str::to_owned)))
}

#[test]
fn a_path_names_its_dag() {
    let run = || Some(("deployment.airflow.dagRun.create".to_owned(), Some("etl".to_owned())));
    assert_eq!(find("POST", "/api/v2/dags/etl/dagRuns"), run());
    assert_eq!(find("GET", "/api/v2/dags/~/dagRuns"), Some(("deployment.airflow.dagRun.get".into(), None)));
    assert_eq!(find("HEAD", "/api/v2/dags"), Some(("deployment.airflow.dag.get".into(), None)));
    let path = CanonicalPath::parse("/api/v2/dags/etl/dagRuns/one").unwrap();
    let named = RouteMap::airflow_v2().parameters(&path);
    assert_eq!(named, [("dag_id".to_owned(), "etl"), ("dag_run_id".to_owned(), "one")]);
}

#[test]
fn what_is_in_no_route_matches_nothing() {
    for (method, path) in [
        ("POST", "/"),
        ("GET", "/api/v2"),
        ("GET", "/ui"),
        ("GET", "/ui/anything"),
        ("GET", "/static"),
        ("GET", "/auth/token"),
        ("GET", "/auth/login"),
        ("GET", "/execution/health"),
        ("GET", "/.halligan/sign-in"),
        ("GET", "/api/v2/dags/"),
        ("GET", "/API/v2/dags"),
        ("get", "/api/v2/dags"),
        ("TRACE", "/api/v2/dags"),
        ("PUT", "/api/v2/dags"),
        ("GET", "/api/v1/dags"),
        ("POST", "/auth/token"),
    ] {
        assert_eq!(find(method, path), None, "{method} {path}");
    }
}

#[test]
fn a_slash_may_stand_in_a_parameter_that_takes_paths_and_nowhere_else() {
    let variable = Some(("deployment.airflow.variable.get".to_owned(), None));
    let xcom = "/api/v2/dags/etl/dagRuns/r/taskInstances/t/xcomEntries";
    for path in ["key", "team/key", "team%2Fkey", "a%2fb/c%2Fd", "team/", "caf%C3%A9%2Fb"] {
        assert_eq!(find("GET", &format!("/api/v2/variables/{path}")), variable, "{path}");
        assert!(find("GET", &format!("/api/v2/pools/{path}")).is_some(), "{path}");
        let found = find("GET", &format!("{xcom}/{path}")).unwrap();
        assert_eq!(found.1.as_deref(), Some("etl"), "{path}");
    }
    for path in [
        "/api/v2/variables",
        "/api/v2/dags/a",
        "/api/v2/connections/a",
        "/api/v2/dags/etl/dagRuns/r",
        "/api/v2/assets/1",
    ] {
        assert!(find("GET", path).is_some(), "{path}");
        let encoded = path.rsplit_once('/').map(|(front, last)| format!("{front}%2F{last}")).unwrap();
        assert_eq!(find("GET", &encoded), None, "{encoded}");
        assert_eq!(
            find("GET", &format!("{path}%2Fb")).filter(|_| path != "/api/v2/variables"),
            None,
            "{path}"
        );
    }
    assert_eq!(find("GET", "/api/v2%2Fvariables/key"), None);
    assert_eq!(find("GET", "/api/v2/variables%2Fkey"), None);
    assert_eq!(find("GET", "/api/v2/variables%2Fteam%2Fkey"), None);
    assert_eq!(find("GET", "/api/v2/dags/e%2Ftl/dagRuns/r/taskInstances/t/xcomEntries/k"), None);
    assert_eq!(find("GET", "/api/v2/connections/a/b"), None, "its template takes one segment");
    assert_eq!(find("GET", "/api/v2/variables/"), None);
}

/// A literal goes before a parameter wherever they stand, and a parameter takes what no literal does.
#[test]
fn the_routers_of_a_map_answer_as_one_would() {
    let templates = ["/", "/a", "/a/b", "/a/{x}/c", "/{x}/b", "/{x}/z", "/ab/c", "/p/{x:path}", "/{{a}}/b"];
    let map = RouteMap::from_toml(&templates.map(get).concat()).unwrap();
    let mut one = matchit::Router::new();
    for template in templates {
        one.insert(read_template(template).unwrap().0, template.to_owned()).unwrap();
    }
    let segments = ["", "a", "ab", "b", "c", "p", "z", "x"];
    let mut paths: Vec<String> = vec!["/".into()];
    for first in segments {
        for second in segments {
            for third in segments {
                let path = format!("/{first}/{second}/{third}");
                paths.extend([path.trim_end_matches('/').to_owned(), path]);
            }
        }
    }
    let mut found = 0;
    for path in &paths {
        let Ok(canonical) = CanonicalPath::parse(path) else { continue };
        let expected = one.at(canonical.as_str()).ok().map(|found| found.value.as_str());
        assert_eq!(map.template(&canonical), expected, "{path}");
        found += usize::from(expected.is_some());
    }
    assert!(found > 20, "{found}");
}

#[test]
fn a_path_is_compared_first_with_the_segment_that_most_templates_begin_with() {
    let map =
        RouteMap::from_toml(&["/a/x", "/b/x", "/b/y", "/b/z", "/c/x", "/c/y", "/{d}/x"].map(get).concat());
    let branches = map.unwrap().branches;
    let branches: Vec<_> =
        branches.iter().map(|(first, templates, _)| (first.as_str(), *templates)).collect();
    assert_eq!(branches, [("b", 3), ("c", 2), ("a", 1)]);
}

#[test]
fn a_faulty_map_is_named() {
    assert!(matches!(
        RouteMap::from_toml(&(get("/a/{x}") + &get("/a/{y}"))),
        Err(RouteError::Template { .. })
    ));
    for faulty in ["/{x:path}/a", "/a{x:path}", "/{x:path}/{y:path}", "/{x:path}.csv"] {
        assert!(matches!(RouteMap::from_toml(&get(faulty)), Err(RouteError::Template { .. })), "{faulty}");
    }
    let many = |parameters: usize| get(&"/{x}".repeat(parameters));
    assert!(RouteMap::from_toml(&many(MAX_PARAMETERS)).is_ok());
    assert!(matches!(RouteMap::from_toml(&many(MAX_PARAMETERS + 1)), Err(RouteError::Template { .. })));
    assert!(matches!(
        RouteMap::from_toml("[routes.\"/a\"]\nget = [\"deployment.get\"]"),
        Err(RouteError::Method { .. })
    ));
    assert!(matches!(RouteMap::from_toml("[routes.\"/a\"]\nGET = []"), Err(RouteError::Open { .. })));
    assert!(matches!(RouteMap::from_toml("[routes.\"/a\"]\nGET = [\"all\"]"), Err(RouteError::Toml(_))));
    assert!(matches!(RouteMap::from_toml("route = 1"), Err(RouteError::Toml(_))));
}
