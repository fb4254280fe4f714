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
        // Of a value that is wrong the parser says what is wrong, and not under which key it stands.
        let what = match key(before) {
            Some(key) => format!("{key}: {what}"),
            None => what,
        };
        // It quotes what stands there, and goes to a terminal or a journal.
        let what = what.replace(char::is_control, "\u{fffd}");
        ConfigError::Parse { path: path.into(), line, what }
    })
}

/// The key at the end of `before`, whose value comes next. Only what can be a bare key: in the midst of a value there is none,
/// and of a value nothing is to be shown.
fn key(before: &str) -> Option<&str> {
    let key = before.rsplit(['\n', '{', ',']).next()?.trim_end().strip_suffix('=')?.trim();
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (!key.is_empty() && key.bytes().all(bare)).then_some(key)
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
            ("b = { c = 1, a = -1 }", 1, "`b`"),
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
    #[test]
    fn a_value_is_no_key() {
        assert_eq!(key("x = 1\na.b-c ="), Some("a.b-c"));
        assert_eq!(key("x = { y = 1, z = "), Some("z"));
        for before in ["", "x = 1\n", "url = \"https://a/?token=", "x = [\"a\", \"b=", "=", "x = 1 ="] {
            assert_eq!(key(before), None, "{before:?}");
        }
    }
}
