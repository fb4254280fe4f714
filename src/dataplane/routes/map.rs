//! Route maps: which permissions a method on a path needs, read from TOML.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use thiserror::Error;

use super::path::CanonicalPath;
use crate::protocol::permission::{Permission, PermissionSet};

/// The map of the Airflow REST API v2, as it is written.
pub const AIRFLOW_V2: &str = include_str!("airflow-v2.toml");

/// The path parameter that names a Dag.
pub const DAG_PARAMETER: &str = "dag_id";
/// Where Airflow takes a Dag id, this means every Dag.
const EVERY_DAG: &str = "~";

/// Behind the name of a last parameter, as Airflow writes it: the parameter takes everything below, slashes included, also
/// those sent as `%2F`.
const PATH: &str = ":path}";

/// The most parameters a template can have: with more, the router panics rather than says so.
pub const MAX_PARAMETERS: usize = 25;

/// Whether a template has more parameters than [`MAX_PARAMETERS`].
#[must_use]
pub fn has_too_many_parameters(template: &str) -> bool {
    template.replace("{{", "").matches('{').count() > MAX_PARAMETERS
}

/// The methods a map can name.
pub const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Why a route map is not taken.
#[derive(Debug, Error)]
pub enum RouteError {
    /// Not TOML of this shape, or a permission that is not in the catalogue.
    #[error("the route map can't be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// Two templates that match the same paths, or a template that is none.
    #[error("route {template:?} can't be taken: {reason}")]
    Template {
        /// The template.
        template: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A method that is none of GET, POST, PUT, PATCH and DELETE.
    #[error(
        "route {template:?} has the unknown method {method:?}; use GET (for HEAD too), POST, PUT, PATCH or DELETE"
    )]
    Method {
        /// The template.
        template: String,
        /// The method.
        method: String,
    },
    /// A method that needs no permission: anyone could call it.
    #[error("{method} {template} needs no permission; name at least one")]
    Open {
        /// The template.
        template: String,
        /// The method.
        method: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    routes: BTreeMap<String, BTreeMap<String, Vec<Permission>>>,
}

/// One operation.
#[derive(Debug)]
pub struct Route {
    /// The method; `GET` stands for `HEAD` too.
    pub method: String,
    /// The path with its parameters in braces.
    pub template: Arc<str>,
    /// What it needs, all of it.
    pub permissions: PermissionSet,
    /// The first permission of its list: the one an event names.
    pub permission: Permission,
    /// Whether it may change something.
    pub mutating: bool,
}

/// The route of a request.
#[derive(Debug)]
pub struct Match<'m, 'p> {
    /// The operation.
    pub route: &'m Route,
    /// The one Dag the path names; none when it names none, or all of them.
    pub dag: Option<&'p str>,
}

/// All routes of one kind of upstream.
#[derive(Debug)]
pub struct RouteMap {
    router: matchit::Router<Entry>,
}

/// What stands at a template.
#[derive(Debug)]
struct Entry {
    /// The template as the map has it.
    written: String,
    routes: Vec<Route>,
    /// The last parameter may hold an encoded slash.
    holds_slash: bool,
}

impl Entry {
    /// Returns the entry of a path, and its parameters. An encoded slash that stands anywhere but in a parameter that may
    /// hold one leaves doubt about where an upstream sees the segments end: such a path has no entry.
    fn of<'m, 'p>(
        router: &'m matchit::Router<Self>,
        path: &'p CanonicalPath<'_>,
    ) -> Option<matchit::Match<'m, 'p, &'m Self>> {
        let found = router.at(path.as_str()).ok()?;
        if let Some(slash) = path.encoded_slash() {
            let (_, held) = found.params.iter().last().filter(|_| found.value.holds_slash)?;
            // The parameter is the last, so it ends where the path does.
            if slash < path.as_str().len() - held.len() {
                return None;
            }
        }
        Some(found)
    }
}

/// Takes a template apart: as the router reads it, as it is shown, and whether its last parameter takes everything below.
fn read_template(written: &str) -> Option<(String, String, bool)> {
    let Some(front) = written.strip_suffix(PATH) else {
        return (!written.contains(PATH)).then(|| (written.to_owned(), written.to_owned(), false));
    };
    let (front, name) = front.rsplit_once('{')?;
    let whole = front.ends_with('/') && !front.contains(PATH);
    whole.then(|| (format!("{front}{{*{name}}}"), format!("{front}{{{name}}}"), true))
}

impl RouteMap {
    /// The map of the Airflow REST API v2.
    #[must_use]
    pub fn airflow_v2() -> Arc<Self> {
        #[expect(clippy::expect_used, reason = "the text is part of this build, and a test reads it")]
        static MAP: LazyLock<Arc<RouteMap>> = LazyLock::new(|| {
            Arc::new(RouteMap::from_toml(AIRFLOW_V2).expect("the built-in route map is well formed"))
        });
        Arc::clone(&MAP)
    }

    /// Reads a route map.
    pub fn from_toml(text: &str) -> Result<Self, RouteError> {
        let file: File = toml::from_str(text)?;
        let mut map = Self { router: matchit::Router::new() };
        for (template, methods) in file.routes {
            if has_too_many_parameters(&template) {
                let reason = format!("it has more than {MAX_PARAMETERS} parameters");
                return Err(RouteError::Template { template, reason });
            }
            let Some((read, shown, holds_slash)) = read_template(&template) else {
                let reason = "a parameter with :path is a last segment, alone".to_owned();
                return Err(RouteError::Template { template, reason });
            };
            let name: Arc<str> = shown.into();
            let mut routes = Vec::with_capacity(methods.len());
            for (method, permissions) in methods {
                if !METHODS.contains(&method.as_str()) {
                    return Err(RouteError::Method { template, method });
                }
                let Some(&permission) = permissions.first() else {
                    return Err(RouteError::Open { template, method });
                };
                let mutating = method != "GET";
                let permissions = permissions.into_iter().collect();
                routes.push(Route { method, template: Arc::clone(&name), permissions, permission, mutating });
            }
            let entry = Entry { written: template.clone(), routes, holds_slash };
            if let Err(error) = map.router.insert(read, entry) {
                return Err(RouteError::Template { template, reason: error.to_string() });
            }
        }
        Ok(map)
    }

    /// The route of a request; `None` when there is none, which denies it.
    #[must_use]
    pub fn find<'m, 'p>(&'m self, method: &str, path: &'p CanonicalPath<'_>) -> Option<Match<'m, 'p>> {
        let method = if method == "HEAD" { "GET" } else { method };
        let found = Entry::of(&self.router, path)?;
        let route = found.value.routes.iter().find(|route| route.method == method)?;
        let dag = found.params.get(DAG_PARAMETER).filter(|&dag| dag != EVERY_DAG);
        Some(Match { route, dag })
    }

    /// The template that takes a path, whatever the method, as the map has it.
    #[must_use]
    pub fn template(&self, path: &CanonicalPath<'_>) -> Option<&str> {
        Some(&Entry::of(&self.router, path)?.value.written)
    }

    /// The parameters of a path, by name.
    #[must_use]
    pub fn parameters<'p>(&self, path: &'p CanonicalPath<'_>) -> Vec<(String, &'p str)> {
        let found = Entry::of(&self.router, path);
        found.map_or_else(Vec::new, |found| {
            found.params.iter().map(|(name, value)| (name.to_owned(), value)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn find(method: &str, path: &str) -> Option<(String, Option<String>)> {
        let (map, path) = (RouteMap::airflow_v2(), CanonicalPath::parse(path).unwrap());
        let found = map.find(method, &path)?;
        Some((found.route.permission.to_string(), found.dag.map(str::to_owned)))
    }

    #[test]
    fn a_path_names_its_dag() {
        let run = || Some(("deployment.airflow.dagRun.create".to_owned(), Some("etl".to_owned())));
        assert_eq!(find("POST", "/api/v2/dags/etl/dagRuns"), run());
        assert_eq!(
            find("GET", "/api/v2/dags/~/dagRuns"),
            Some(("deployment.airflow.dagRun.get".into(), None))
        );
        assert_eq!(find("HEAD", "/api/v2/dags"), Some(("deployment.airflow.dag.get".into(), None)));
    }

    #[test]
    fn what_is_in_no_route_matches_nothing() {
        for (method, path) in [
            ("GET", "/"),
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

    #[test]
    fn a_faulty_map_is_named() {
        let get = |template: &str| format!("[routes.\"{template}\"]\nGET = [\"deployment.get\"]\n");
        assert!(matches!(
            RouteMap::from_toml(&(get("/a/{x}") + &get("/a/{y}"))),
            Err(RouteError::Template { .. })
        ));
        for faulty in ["/{x:path}/a", "/a{x:path}", "/{x:path}/{y:path}", "/{x:path}.csv"] {
            assert!(
                matches!(RouteMap::from_toml(&get(faulty)), Err(RouteError::Template { .. })),
                "{faulty}"
            );
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
}
