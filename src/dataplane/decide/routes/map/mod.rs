//! Route maps: the permissions that a method on a path requires, parsed from TOML.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use thiserror::Error;

use super::path::CanonicalPath;
use crate::protocol::permission::{Permission, PermissionSet};

/// Source of the built-in map for Airflow 3: its REST API v2 and its web interface.
pub const AIRFLOW_V2: &str = include_str!("../airflow-v2.toml");

/// Source of the map of the daemon's own calls about a deployment.
const DAEMON: &str = "[routes.\"/v1/deploys/{deployment_id}\"]\nPUT = [\"deployment.deploys.create\"]\n";

/// Name of the path parameter that holds a Dag's identifier.
pub const DAG_PARAMETER: &str = "dag_id";
/// Value that Airflow accepts in place of a Dag's identifier for all Dags.
const EVERY_DAG: &str = "~";

/// Suffix of a last parameter in Airflow's notation. Such a parameter takes the rest of the path with its slashes,
/// including those sent as `%2F`.
const PATH: &str = ":path}";

/// Maximum number of parameters in a template. With more, the router panics instead of returning an error.
pub const MAX_PARAMETERS: usize = 25;

/// Returns true if a template has more than [`MAX_PARAMETERS`] parameters.
///
/// ```
/// use halligan::dataplane::decide::routes::has_too_many_parameters;
///
/// assert!(!has_too_many_parameters("/api/v2/dags/{dag_id}"));
/// assert!(has_too_many_parameters(&"/{a}".repeat(26)));
/// ```
#[must_use]
pub fn has_too_many_parameters(template: &str) -> bool {
    template.replace("{{", "").matches('{').count() > MAX_PARAMETERS
}

/// Methods that a map can name.
pub const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Reasons to reject a route map.
#[derive(Debug, Error)]
pub enum RouteError {
    /// The text is not TOML of this shape, or names an unknown permission.
    #[error("the route map can't be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// Two templates match the same paths, or a template is invalid.
    #[error("route {template:?} can't be taken: {reason}")]
    Template {
        /// Template of the route.
        template: String,
        /// Description of the fault.
        reason: String,
    },
    /// The method is not one of [`METHODS`].
    #[error(
        "route {template:?} has the unknown method {method:?}; use GET (for HEAD too), POST, PUT, PATCH or DELETE"
    )]
    Method {
        /// Template of the route.
        template: String,
        /// Name of the method.
        method: String,
    },
    /// The method requires no permission, so that anyone could call it.
    #[error("{method} {template} needs no permission; name at least one")]
    Open {
        /// Template of the route.
        template: String,
        /// Name of the method.
        method: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    routes: BTreeMap<String, BTreeMap<String, Vec<Permission>>>,
}

/// Operation of an upstream's API.
#[derive(Debug)]
pub struct Route {
    /// Method of the operation. `GET` includes `HEAD`.
    pub method: String,
    /// Path with parameters in braces.
    pub template: Arc<str>,
    /// Permissions that the operation requires, all of them.
    pub permissions: PermissionSet,
    /// First permission of the list, which the event names.
    pub permission: Permission,
    /// True if the operation may change something.
    pub mutating: bool,
}

/// Route that matches a request.
#[derive(Debug)]
pub struct Match<'m, 'p> {
    /// Operation of the request.
    pub route: &'m Route,
    /// Dag that the path names, or `None` if it names no Dag or all of them.
    pub dag: Option<&'p str>,
}

/// Routes of one kind of upstream.
///
/// ```
/// use halligan::dataplane::decide::routes::{CanonicalPath, RouteMap};
///
/// let text = "[routes.\"/dags/{dag_id}\"]\nGET = [\"deployment.airflow.dag.get\"]\n";
/// let map = RouteMap::from_toml(text).unwrap();
/// let path = CanonicalPath::parse("/dags/sales").unwrap();
/// let found = map.find("GET", &path).unwrap();
/// assert_eq!((&*found.route.template, found.dag), ("/dags/{dag_id}", Some("sales")));
/// assert!(map.find("DELETE", &path).is_none());
/// ```
#[derive(Debug, Default)]
pub struct RouteMap {
    /// Routers by the first segment of their templates, the largest first. One router for all templates would compare the
    /// paths of an API with those of a web interface too, at every request.
    branches: Vec<(String, usize, matchit::Router<Entry>)>,
    /// Templates whose first segment has a parameter.
    rest: matchit::Router<Entry>,
}

/// Returns the first segment of a path or template.
fn first_segment(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default()
}

/// Routes of one template.
#[derive(Debug)]
struct Entry {
    /// Template as written in the map.
    written: String,
    routes: Vec<Route>,
    /// True if the last parameter may hold an encoded slash.
    holds_slash: bool,
}

impl Entry {
    /// Returns the entry of a path, and its parameters. An encoded slash outside a parameter that may hold one leaves the
    /// segments ambiguous: such a path has no entry.
    fn find<'m, 'p>(
        map: &'m RouteMap,
        path: &'p CanonicalPath<'_>,
    ) -> Option<matchit::Match<'m, 'p, &'m Self>> {
        let first = first_segment(path.as_str());
        let branch = map.branches.iter().find(|(segment, ..)| segment == first);
        // A literal goes before a parameter, as within a router.
        let found = branch.and_then(|(.., router)| router.at(path.as_str()).ok());
        let found = found.or_else(|| map.rest.at(path.as_str()).ok())?;
        if let Some(slash) = path.encoded_slash() {
            let (_, held) = found.params.iter().last().filter(|_| found.value.holds_slash)?;
            // The parameter is the last one, so it ends with the path.
            if slash < path.as_str().len() - held.len() {
                return None;
            }
        }
        Some(found)
    }
}

/// Returns a template in the router's notation, in the notation for events, and whether its last parameter takes the rest
/// of the path.
fn read_template(written: &str) -> Option<(String, String, bool)> {
    let Some(front) = written.strip_suffix(PATH) else {
        return (!written.contains(PATH)).then(|| (written.to_owned(), written.to_owned(), false));
    };
    let (front, name) = front.rsplit_once('{')?;
    let whole = front.ends_with('/') && !front.contains(PATH);
    whole.then(|| (format!("{front}{{*{name}}}"), format!("{front}{{{name}}}"), true))
}

impl RouteMap {
    /// Returns the built-in map for Airflow 3.
    #[must_use]
    pub fn airflow_v2() -> Arc<Self> {
        #[expect(clippy::expect_used, reason = "the text is part of this build, and a test reads it")]
        static MAP: LazyLock<Arc<RouteMap>> = LazyLock::new(|| {
            Arc::new(RouteMap::from_toml(AIRFLOW_V2).expect("the built-in route map is well formed"))
        });
        Arc::clone(&MAP)
    }

    /// Returns the map of the daemon's own calls about a deployment.
    #[must_use]
    pub fn daemon() -> &'static Self {
        #[expect(clippy::expect_used, reason = "the text is part of this build, and a test reads it")]
        static MAP: LazyLock<RouteMap> =
            LazyLock::new(|| RouteMap::from_toml(DAEMON).expect("the daemon's route map is well formed"));
        &MAP
    }

    /// Parses a route map.
    ///
    /// ```
    /// use halligan::dataplane::decide::routes::{RouteError, RouteMap};
    ///
    /// let text = r#"
    ///     [routes."/pools"]
    ///     GET = ["deployment.airflow.pool.get"]
    ///     POST = ["deployment.airflow.pool.create"]
    /// "#;
    /// assert!(RouteMap::from_toml(text).is_ok());
    /// // A route without a permission would be open to every token.
    /// let open = text.replace("[\"deployment.airflow.pool.create\"]", "[]");
    /// assert!(matches!(RouteMap::from_toml(&open), Err(RouteError::Open { .. })));
    /// let misspelt = text.replace("POST", "post");
    /// assert!(matches!(RouteMap::from_toml(&misspelt), Err(RouteError::Method { .. })));
    /// ```
    pub fn from_toml(text: &str) -> Result<Self, RouteError> {
        let file: File = toml::from_str(text)?;
        let mut map = Self::default();
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
            if let Err(error) = map.router(&read).insert(read, entry) {
                return Err(RouteError::Template { template, reason: error.to_string() });
            }
        }
        map.branches.sort_by_key(|(_, routes, _)| std::cmp::Reverse(*routes));
        Ok(map)
    }

    /// Returns the router that a template belongs to.
    fn router(&mut self, template: &str) -> &mut matchit::Router<Entry> {
        let first = first_segment(template);
        if first.contains(['{', '}']) {
            return &mut self.rest;
        }
        let place = self.branches.iter().position(|(segment, ..)| segment == first);
        let place = place.unwrap_or_else(|| {
            self.branches.push((first.to_owned(), 0, matchit::Router::new()));
            self.branches.len() - 1
        });
        let (_, templates, router) = &mut self.branches[place];
        *templates += 1;
        router
    }

    /// Returns the route of a request, or `None` if there is none, which denies the request.
    ///
    /// ```
    /// use halligan::dataplane::decide::routes::{CanonicalPath, RouteMap};
    ///
    /// let map = RouteMap::airflow_v2();
    /// let path = CanonicalPath::parse("/api/v2/dags/sales/dagRuns")?;
    /// let found = map.find("POST", &path).unwrap();
    /// assert_eq!(found.route.permission.as_str(), "deployment.airflow.dagRun.create");
    /// assert_eq!((found.dag, found.route.mutating), (Some("sales"), true));
    ///
    /// // `~` stands for all Dags, so it names none.
    /// let path = CanonicalPath::parse("/api/v2/dags/~/dagRuns")?;
    /// assert_eq!(map.find("GET", &path).unwrap().dag, None);
    /// // An encoded slash could make one segment of two.
    /// let path = CanonicalPath::parse("/api/v2/dags%2Fsales")?;
    /// assert!(map.find("GET", &path).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn find<'m, 'p>(&'m self, method: &str, path: &'p CanonicalPath<'_>) -> Option<Match<'m, 'p>> {
        let method = if method == "HEAD" { "GET" } else { method };
        let found = Entry::find(self, path)?;
        let route = found.value.routes.iter().find(|route| route.method == method)?;
        let dag = found.params.get(DAG_PARAMETER).filter(|&dag| dag != EVERY_DAG);
        Some(Match { route, dag })
    }

    /// Returns the template that matches a path with any method, as written in the map.
    ///
    /// ```
    /// use halligan::dataplane::decide::routes::{CanonicalPath, RouteMap};
    ///
    /// let map = RouteMap::airflow_v2();
    /// let path = CanonicalPath::parse("/api/v2/dags/sales")?;
    /// assert_eq!(map.template(&path), Some("/api/v2/dags/{dag_id}"));
    /// assert_eq!(map.parameters(&path), [("dag_id".to_owned(), "sales")]);
    /// assert_eq!(map.template(&CanonicalPath::parse("/api/v9/dags/sales")?), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn template(&self, path: &CanonicalPath<'_>) -> Option<&str> {
        Some(&Entry::find(self, path)?.value.written)
    }

    /// Returns the parameters of a path, by name.
    #[must_use]
    pub fn parameters<'p>(&self, path: &'p CanonicalPath<'_>) -> Vec<(String, &'p str)> {
        let found = Entry::find(self, path);
        found.map_or_else(Vec::new, |found| {
            found.params.iter().map(|(name, value)| (name.to_owned(), value)).collect()
        })
    }
}

#[cfg(test)]
mod tests;
