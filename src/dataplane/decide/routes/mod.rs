//! Routes: find the permissions that a request's method and path require.

mod map;
mod maps;
mod path;

pub use map::{
    AIRFLOW_V2, DAG_PARAMETER, MAX_PARAMETERS, METHODS, Match, Route, RouteError, RouteMap,
    has_too_many_parameters,
};
pub use maps::{MapsError, RouteMaps};
pub use path::{CanonicalPath, MAX_PATH, PathError, is_target};
