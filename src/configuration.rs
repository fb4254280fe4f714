//! Reading a configuration file (TOML) of either plane: all of it, or a sentence that says where it is wrong.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why a configuration file is not taken.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration {path} can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not of this shape.
    #[error("the configuration {path} is not understood: line {line}: {what}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
}

/// Reads the file at `path`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    parse(path, &text)
}

/// Reads `text`, which stands in the file at `path`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        // One line: without the excerpt the parser would print.
        let what = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
        // A value that is wrong says so, and not under which key it stands.
        let key = before.rsplit(['\n', '{', ',']).next().and_then(|key| key.trim().strip_suffix('='));
        let what = key.map_or_else(|| what.clone(), |key| format!("{}: {what}", key.trim()));
        // It quotes what stands there, and goes to a terminal or a journal.
        let what = what.replace(char::is_control, "\u{fffd}");
        ConfigError::Parse { path: path.into(), line, what }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        for (text, line, word) in [
            ("a = 1\nb = 2\n", 2, "`b`"),
            ("a = \"one\"", 1, "a: invalid type: string \"one\", expected u32"),
            ("\na=-1", 2, "a: invalid value"),
            ("a = 1\n\nnonsense", 3, ""),
            ("a = 1\n\"\\u001b[2J\\r\" = 2\n", 2, "`\u{fffd}[2J\u{fffd}`"),
        ] {
            #[derive(Debug, serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            #[expect(dead_code, reason = "only what is wrong with it is looked at")]
            struct Shape {
                a: u32,
            }
            std::fs::write(&path, text).unwrap();
            match read::<Shape>(&path) {
                Err(ConfigError::Parse { line: found, what, .. }) => {
                    assert_eq!(found, line, "{what}");
                    assert!(what.contains(word) && !what.contains(char::is_control), "{what:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
