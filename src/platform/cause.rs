//! Causes of errors.

use std::error::Error;

/// Returns `error` and its causes, the innermost last.
pub fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| (*error).source())
}

/// Returns the innermost cause of an error, or the error itself if it has none. The outer layers of an HTTP client's error
/// only state that a lower one failed.
#[must_use]
pub fn innermost<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}

/// Returns true if a file system takes no more data: it is full, a quota is exceeded, or it is mounted read-only. Such a
/// failure can end without a change of the configuration.
#[must_use]
pub fn has_no_room(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn the_innermost_cause_is_the_last_of_an_error() {
        let inner = || Layer("inner", None);
        let outer = Layer("outer", Some(Box::new(Layer("middle", Some(Box::new(inner()))))));
        let told: Vec<String> = causes(&outer).map(ToString::to_string).collect();
        assert_eq!(told, ["outer", "middle", "inner"]);
        assert_eq!(
            (innermost(&outer).to_string(), innermost(&inner()).to_string()),
            ("inner".into(), "inner".into())
        );
    }
}
