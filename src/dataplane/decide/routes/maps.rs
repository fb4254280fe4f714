//! Route maps of a host: the built-in ones, and those in its directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::map::{RouteError, RouteMap};
use crate::protocol::record::{DEFAULT_ROUTES, is_routes_name};

/// Reasons why a host's route maps cannot be used.
#[derive(Debug, Error)]
pub enum MapsError {
    /// The directory, or a file in it, cannot be read.
    #[error("the route maps in {path} can't be read: {source}")]
    Read {
        /// Path of the directory or the file.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// The name of the file cannot be the name of a map.
    #[error("the route map {0} has no usable name; use small letters, digits, '-' and '_' before .toml")]
    Name(PathBuf),
    /// The file has the name of a built-in map.
    #[error(
        "the route map {0} has the name of one that is built in; give it another, and its deployments that"
    )]
    BuiltIn(PathBuf),
    /// The file is no valid map.
    #[error("{path}: {source}")]
    Map {
        /// Path of the file.
        path: PathBuf,
        /// Error of the map.
        source: RouteError,
    },
}

/// Route maps by name. A deployment's record names its map; an unknown name has no routes.
#[derive(Clone, Debug)]
pub struct RouteMaps(Arc<BTreeMap<String, Arc<RouteMap>>>);

impl Default for RouteMaps {
    /// Returns the built-in maps.
    fn default() -> Self {
        Self(Arc::new(BTreeMap::from([(DEFAULT_ROUTES.to_owned(), RouteMap::airflow_v2())])))
    }
}

impl RouteMaps {
    /// Returns the built-in maps, and each `NAME.toml` of a directory under `NAME`. One invalid file is an error for all: a
    /// host with some of its maps would deny requests without an obvious cause.
    ///
    /// ```
    /// use halligan::dataplane::decide::routes::{MapsError, RouteMaps};
    ///
    /// # let directory = std::env::temp_dir().join(format!("halligan-route-maps-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// std::fs::write(directory.join("reports.toml"), "[routes.\"/r\"]\nGET = [\"deployment.get\"]\n")?;
    /// let read = RouteMaps::read(&directory);
    /// std::fs::write(directory.join("broken.toml"), "[routes.\"/r\"]\nGET = []\n")?;
    /// let broken = RouteMaps::read(&directory);
    /// # std::fs::remove_dir_all(&directory)?;
    /// assert_eq!(read?.names().collect::<Vec<_>>(), ["airflow-v2", "reports"]);
    /// // One broken file makes all of them unusable.
    /// assert!(matches!(broken, Err(MapsError::Map { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(directory: &Path) -> Result<Self, MapsError> {
        let failed = |path: &Path, source| MapsError::Read { path: path.into(), source };
        let Self(built_in) = Self::default();
        let mut maps = (*built_in).clone();
        for entry in std::fs::read_dir(directory).map_err(|source| failed(directory, source))? {
            let path = entry.map_err(|source| failed(directory, source))?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|name| is_routes_name(name));
            let Some(name) = name else { return Err(MapsError::Name(path)) };
            if built_in.contains_key(name) {
                return Err(MapsError::BuiltIn(path));
            }
            let text = std::fs::read_to_string(&path).map_err(|source| failed(&path, source))?;
            match RouteMap::from_toml(&text) {
                Ok(map) => maps.insert(name.to_owned(), Arc::new(map)),
                Err(source) => return Err(MapsError::Map { path, source }),
            };
        }
        Ok(Self(Arc::new(maps)))
    }

    /// Returns the map of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<RouteMap>> {
        self.0.get(name).map(Arc::clone)
    }

    /// Returns true if both are copies of the same maps.
    pub(in crate::dataplane) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the names of all maps, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MAP: &str = "[routes.\"/metrics\"]\nGET = [\"deployment.metrics.get\"]\n";

    fn read(files: &[(&str, &str)]) -> Result<RouteMaps, String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        RouteMaps::read(directory.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_directory_adds_to_what_is_built_in() {
        let maps = read(&[("grafana.toml", MAP), ("README.md", "not a map")]).unwrap();
        assert_eq!(maps.names().collect::<Vec<_>>(), ["airflow-v2", "grafana"]);
        let path = super::super::CanonicalPath::parse("/metrics").unwrap();
        assert!(maps.get("grafana").unwrap().find("GET", &path).is_some());
        assert!(maps.get("mlflow").is_none());
    }

    #[test]
    fn one_faulty_file_is_named_and_none_is_taken() {
        for (name, text, expected) in [
            ("airflow-v2.toml", MAP, "built in"),
            ("Grafana.toml", MAP, "no usable name"),
            ("grafana.toml", "[routes.\"/a\"]\nGET = [\"everything\"]", "everything"),
        ] {
            let error = read(&[("good.toml", MAP), (name, text)]).unwrap_err();
            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
        assert!(RouteMaps::read(Path::new("/nowhere/at/all")).is_err());
    }
}
