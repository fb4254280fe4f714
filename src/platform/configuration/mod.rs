//! Reads the configuration file (TOML) of either program. An invalid file is rejected as a whole, with its first fault
//! in one sentence.

mod addresses;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use addresses::{check_hosts, check_listeners};

/// Reasons to reject a configuration file.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} can't be read: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: std::io::Error,
    },
    /// The content is invalid.
    #[error("the configuration {path} is not understood: line {line}: {what}")]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// Line of the fault, from 1.
        line: usize,
        /// Description of the fault.
        what: String,
    },
}

/// Bounds of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Key with its tables, such as `limits.calls_per_minute`; `*` stands for a name that the operator chooses.
    pub key: &'static str,
    /// Minimum, inclusive.
    pub least: i64,
    /// Maximum, inclusive.
    pub most: i64,
    /// True if 0 is accepted as well, for no limit.
    pub or_zero: bool,
}

/// Returns the bounds of a number.
#[must_use]
pub const fn bound(key: &'static str, least: i64, most: i64) -> Bound {
    Bound { key, least, most, or_zero: false }
}

/// Returns the bounds of a number that may also be 0, for no limit.
#[must_use]
pub const fn bound_or_zero(key: &'static str, least: i64, most: i64) -> Bound {
    Bound { key, least, most, or_zero: true }
}

impl Bound {
    #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 is not exact, and none needs to be")]
    fn admits(&self, number: f64) -> bool {
        (self.or_zero && number == 0.0) || (self.least as f64 <= number && number <= self.most as f64)
    }
}

/// Invalid value, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Key with its tables.
    pub key: String,
    /// States the fault and a value that would be accepted.
    pub what: String,
}

/// A type that a configuration file is parsed into.
pub trait Configuration: DeserializeOwned {
    /// Bounds of all its numbers.
    const BOUNDS: &'static [Bound];

    /// Checks the rules that the types do not express.
    fn check(&self) -> Result<(), Wrong>;
}

impl Configuration for toml::Table {
    const BOUNDS: &'static [Bound] = &[];

    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}

/// Reads the configuration file at `path`.
pub fn read<T: Configuration>(path: &Path) -> Result<T, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    parse(path, &text)
}

/// Parses `text`, the content of the file at `path`.
pub fn parse<T: Configuration>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let line_of = |start: usize| text.get(..start).unwrap_or_default().matches('\n').count() + 1;
    let refused = |start: usize, key: &str, what: &str| ConfigError::Parse {
        path: path.into(),
        line: line_of(start),
        what: format!("{key}: {what}").replace(char::is_control, "\u{fffd}"),
    };
    // A file that is not TOML is rejected below, with its line.
    let table = DeTable::parse(text).ok();
    let outside = table.as_ref().and_then(|table| outside(table.get_ref(), "", T::BOUNDS));
    if let Some((start, Wrong { key, what })) = outside {
        return Err(refused(start, &key, &what));
    }
    let read: T = deserialize(text).map_err(|(error, place)| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        // Joined to one line, without the excerpt that the parser appends.
        let what = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
        // The parser names the fault but not the key.
        let what = match place.as_deref().or_else(|| key(before)) {
            Some(key) => format!("{key}: {what}"),
            None => what,
        };
        // The message quotes the file and goes to a terminal or a journal, so control characters must not pass.
        let what = what.replace(char::is_control, "\u{fffd}");
        ConfigError::Parse { path: path.into(), line, what }
    })?;
    read.check().map_err(|Wrong { key, what }| {
        let start = table.as_ref().and_then(|table| start_of(table.get_ref(), &key));
        refused(start.unwrap_or_default(), &key, &what)
    })?;
    Ok(read)
}

/// Parses `text`. An error comes with the key of the value or table that it is about, such as `control_plane.urls[0]`, unless
/// that is the whole file.
fn deserialize<T: DeserializeOwned>(text: &str) -> Result<T, (toml::de::Error, Option<String>)> {
    let file = toml::Deserializer::parse(text).map_err(|error| (error, None))?;
    serde_path_to_error::deserialize(file).map_err(|error| {
        let place = Some(error.path().to_string()).filter(|place| place != ".");
        (error.into_inner(), place)
    })
}

/// Finds the first number outside its bounds, or the first text that no setting can have. Returns its byte offset, its key and
/// what is accepted.
fn outside(table: &DeTable<'_>, path: &str, bounds: &[Bound]) -> Option<(usize, Wrong)> {
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    table.iter().find_map(|(key, value)| outside_value(value, &at(key.get_ref()), bounds))
}

fn outside_value(value: &Spanned<DeValue<'_>>, path: &str, bounds: &[Bound]) -> Option<(usize, Wrong)> {
    let (written, decimal) = match value.get_ref() {
        DeValue::Table(table) => return outside(table, path, bounds),
        DeValue::Array(values) => return values.iter().find_map(|value| outside_value(value, path, bounds)),
        // The parser has removed digit separators and the prefix of the base.
        DeValue::Integer(number) => {
            let read = i128::from_str_radix(number.as_str(), number.radix());
            (number.to_string(), read.map_or_else(|_| String::new(), |number| number.to_string()))
        }
        DeValue::Float(number) => (number.to_string(), number.as_str().to_owned()),
        // An empty path is the current directory to some calls, and no file to others.
        DeValue::String(text) if text.is_empty() || text.contains('\0') => {
            let what = "the text is empty, or has a NUL; set a value, or leave the key out".into();
            return Some((value.span().start, Wrong { key: path.into(), what }));
        }
        _ => return None,
    };
    let bound = bounds.iter().find(|bound| covers(bound.key, path))?;
    // A number that cannot be parsed is rejected by the TOML parser itself.
    let number: f64 = decimal.parse().ok()?;
    let Bound { least, most, or_zero, .. } = bound;
    let zero = if *or_zero { ", or 0 for no limit" } else { "" };
    let what = format!("{written} is out of bounds; use {least} to {most}{zero}");
    (!bound.admits(number)).then(|| (value.span().start, Wrong { key: path.into(), what }))
}

/// Returns true if `key`, which may have `*` in place of names, matches `path`.
fn covers(key: &str, path: &str) -> bool {
    let (mut names, mut parts) = (key.split('.'), path.split('.'));
    loop {
        match (names.next(), parts.next()) {
            (None, None) => return true,
            (Some(name), Some(part)) if name == "*" || name == part => {}
            _ => return false,
        }
    }
}

/// Returns the byte offset of the value of a key.
fn start_of(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut table = table;
    let mut start = None;
    for part in key.split('.') {
        let (_, value) = table.iter().find(|(name, _)| name.get_ref() == part)?;
        start = Some(value.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    start
}

/// Returns the key at the end of `before`, whose value comes next. Only a bare key is accepted: inside a value there is
/// no key, and no part of a value may be shown.
fn key(before: &str) -> Option<&str> {
    let key = before.rsplit(['\n', '{', ',']).next()?.trim_end().strip_suffix('=')?.trim();
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (!key.is_empty() && key.bytes().all(bare)).then_some(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::collections::BTreeMap;

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
            ("a = 1\nlist = [\"x\", 7]", 2, "list[1]: invalid type: integer `7`, expected a string"),
            ("a = 1\nlist = [\n \"x\",\n [],\n]", 4, "list[1]: invalid type: sequence"),
            ("a = 1\n[of.one]\nnumbers = [1, 2, -3]", 3, "of.one.numbers[2]: invalid value"),
            ("a = 1\nof = { one = { numbers = \"n\" } }", 2, "of.one.numbers: invalid type"),
            ("a = 1\n[of.one]\nnumbers = []\nnumber = 1", 4, "of.one.number: unknown field `number`"),
            ("a = 1\n[of.one]\n", 2, "of.one: missing field `numbers`"),
            ("a = 1\n\"\\u001b[2J\\r\" = 2\n", 2, "`\u{fffd}[2J\u{fffd}`"),
        ] {
            #[derive(Debug, serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            #[expect(dead_code, reason = "only what is wrong with it is looked at")]
            struct Shape {
                a: u32,
                #[serde(default)]
                list: Vec<String>,
                #[serde(default)]
                of: BTreeMap<String, Inner>,
            }
            #[derive(Debug, serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            #[expect(dead_code, reason = "only what is wrong with it is looked at")]
            struct Inner {
                numbers: Vec<u8>,
            }
            impl Configuration for Shape {
                const BOUNDS: &'static [Bound] = &[];
                fn check(&self) -> Result<(), Wrong> {
                    Ok(())
                }
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
    fn a_text_that_is_empty_or_has_a_nul_is_refused_with_its_key() {
        let said = |text: &str| {
            let read: Result<toml::Table, _> = parse(Path::new("a.toml"), text);
            read.map_err(|error| error.to_string())
        };
        for (text, words) in [
            ("a = \"\"", "line 1: a: the text is empty"),
            ("[b]\nc = ''", "line 2: b.c: the text is empty"),
            ("b = { c = ['x', ''] }", "line 1: b.c: the text is empty"),
            ("\n[[d]]\ne = \"x\\u0000y\"", "line 3: d.e: the text is empty, or has a NUL"),
        ] {
            let error = said(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(said("a = ' '\nb = []\nc = \"\u{e9}\"").is_ok());
    }

    #[test]
    fn a_value_is_no_key() {
        assert_eq!(key("x = 1\na.b-c ="), Some("a.b-c"));
        assert_eq!(key("x = { y = 1, z = "), Some("z"));
        for before in ["", "x = 1\n", "url = \"https://a/?token=", "x = [\"a\", \"b=", "=", "x = 1 ="] {
            assert_eq!(key(before), None, "{before:?}");
        }
    }

    #[test]
    fn a_number_has_the_bounds_of_its_key_wherever_it_stands() {
        let bounds = [
            bound("a", 1, 9),
            bound("b.*", 5, 5),
            bound_or_zero("c.d", 10, 20),
            bound("e.f", 0, 1),
            bound("g", 1, 2),
        ];
        let said = |text: &str| {
            let table = DeTable::parse(text).unwrap();
            outside(table.get_ref(), "", &bounds).map(|(_, wrong)| (wrong.key, wrong.what))
        };
        for good in [
            "a = 1",
            "a = 9",
            "a = 0x9",
            "a = 0b1",
            "b = { x = 5 }",
            "b.x = 0o5",
            "c.d = 0x0",
            "[c]\nd = 0",
            "c.d = 20",
            "e.f = 0.5",
            "g = [1, 2]",
            "z = -7",
        ] {
            assert_eq!(said(good), None, "{good}");
        }
        for (bad, key, word) in [
            ("a = 0", "a", "use 1 to 9"),
            ("a = 1_0", "a", "10 is out of bounds"),
            ("a = 0x0", "a", "use 1 to 9"),
            ("a = 0xA", "a", "0xA is out of bounds"),
            ("a = 0x7fffffff", "a", "0x7fffffff is out of bounds"),
            ("a = 0o1_2", "a", "0o12 is out of bounds"),
            ("a = 0b1010", "a", "0b1010 is out of bounds"),
            ("a = 0xffffffffffffffff", "a", "use 1 to 9"),
            ("c.d = 0x9", "c.d", "use 10 to 20, or 0 for no limit"),
            ("g = [1, 0x3]", "g", "0x3 is"),
            ("a = 99999999999999999999999999", "a", "use 1 to 9"),
            ("[b]\nx = 5\n\"y z\" = 6", "b.y z", "use 5 to 5"),
            ("[c]\nd = 9", "c.d", "use 10 to 20, or 0 for no limit"),
            ("c.d = -1", "c.d", "-1"),
            ("e.f = 1.01", "e.f", "use 0 to 1"),
            ("e.f = nan", "e.f", "use 0 to 1"),
            ("e.f = -inf", "e.f", "use 0 to 1"),
            ("g = [1, 3]", "g", "3 is"),
        ] {
            let (found, what) = said(bad).unwrap_or_else(|| panic!("{bad} is taken"));
            assert!(found == key && what.contains(word), "{bad}: {found}: {what}");
        }
    }
}
