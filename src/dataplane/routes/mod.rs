//! Routes: from a request's method and path to the permissions it needs.

mod map;
mod path;

pub use map::{Match, Route, RouteError, RouteMap};
pub use path::{CanonicalPath, MAX_PATH, PathError};
