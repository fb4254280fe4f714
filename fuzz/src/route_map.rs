//! Route maps. The first line is the method and target of a request, the rest is the map in TOML.

use halligan::dataplane::decide::routes::{CanonicalPath, DAG_PARAMETER, METHODS, RouteMap};

/// Checks that every route of an accepted map needs a permission, and that a path gets the route whose template it
/// matches.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (line, text) = text.split_once('\n').unwrap_or(("", text));
    let Ok(map) = RouteMap::from_toml(text) else { return false };
    let table: toml::Table = toml::from_str(text).unwrap();
    let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
    let Ok(path) = CanonicalPath::parse(target) else { return true };
    let parameters = map.parameters(&path);
    for (name, value) in &parameters {
        assert!(!name.is_empty() && path.as_str().contains(value), "{name}");
    }
    if let Some(found) = map.find(method, &path) {
        let template = &*found.route.template;
        let written = map.template(&path).unwrap();
        assert_eq!(written.replace(":path}", "}"), template);
        assert!(path.encoded_slash().is_none() || written.ends_with(":path}"));
        assert!(table["routes"][written].get(&found.route.method).is_some());
        assert!(METHODS.contains(&found.route.method.as_str()));
        assert!(found.route.method == method || (method, found.route.method.as_str()) == ("HEAD", "GET"));
        assert_eq!(found.route.mutating, found.route.method != "GET");
        assert!(found.route.permissions.iter().any(|permission| permission == found.route.permission));
        let dag = parameters.iter().find(|(name, _)| name == DAG_PARAMETER).map(|(_, value)| *value);
        assert_eq!(found.dag, dag.filter(|&dag| dag != "~"));
    }
    if !METHODS.contains(&method) && method != "HEAD" {
        assert!(map.find(method, &path).is_none(), "{method} is in no map");
    }
    true
}
