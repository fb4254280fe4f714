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
    template: Arc<str>,
    routes: Vec<Route>,
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
            let name: Arc<str> = template.as_str().into();
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
            if let Err(error) = map.router.insert(template.as_str(), Entry { template: name, routes }) {
                return Err(RouteError::Template { template, reason: error.to_string() });
            }
        }
        Ok(map)
    }

    /// The route of a request; `None` when there is none, which denies it.
    #[must_use]
    pub fn find<'m, 'p>(&'m self, method: &str, path: &'p CanonicalPath<'_>) -> Option<Match<'m, 'p>> {
        let method = if method == "HEAD" { "GET" } else { method };
        let found = self.router.at(path.as_str()).ok()?;
        let route = found.value.routes.iter().find(|route| route.method == method)?;
        let dag = found.params.get(DAG_PARAMETER).filter(|&dag| dag != EVERY_DAG);
        Some(Match { route, dag })
    }

    /// The template that takes a path, whatever the method.
    #[must_use]
    pub fn template(&self, path: &CanonicalPath<'_>) -> Option<&str> {
        Some(&self.router.at(path.as_str()).ok()?.value.template)
    }

    /// The parameters of a path, by name.
    #[must_use]
    pub fn parameters<'p>(&self, path: &'p CanonicalPath<'_>) -> Vec<(String, &'p str)> {
        let found = self.router.at(path.as_str());
        found.map_or_else(
            |_| Vec::new(),
            |found| found.params.iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        )
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
    fn a_faulty_map_is_named() {
        let get = |template: &str| format!("[routes.\"{template}\"]\nGET = [\"deployment.get\"]\n");
        assert!(matches!(
            RouteMap::from_toml(&(get("/a/{x}") + &get("/a/{y}"))),
            Err(RouteError::Template { .. })
        ));
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
