//! Pages: how a list is cut, and how what is searched for is put to SQLite.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::error::Error;

/// The most a page can hold.
const MAX_LIMIT: u64 = 1000;

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// How many to skip.
    #[serde(default)]
    #[param(default = 0, minimum = 0, maximum = 9_223_372_036_854_775_807_u64)]
    pub offset: u64,
    /// How many to give, 1 to 1000.
    #[serde(default = "fifty")]
    #[param(default = 50, minimum = 1, maximum = 1000)]
    pub limit: u64,
}

fn fifty() -> u64 {
    50
}

impl Page {
    /// Refuses what SQLite could not count, and pages larger than anybody should ask for.
    pub(super) fn check(self) -> Result<Self, Error> {
        if !(1..=MAX_LIMIT).contains(&self.limit) {
            return Err(Error::invalid("limit", "use 1 to 1000"));
        }
        if i64::try_from(self.offset).is_err() {
            return Err(Error::invalid("offset", "is out of range"));
        }
        Ok(self)
    }
}

/// A pattern for `LIKE … ESCAPE '\'` that finds `text` anywhere, whatever it holds.
pub(super) fn containing(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_for_is_no_pattern() {
        assert_eq!(containing(r"50%_a\b"), r"%50\%\_a\\b%");
    }

    #[test]
    fn a_page_has_bounds() {
        for (offset, limit, good) in [(0, 1, true), (0, 1000, true), (0, 0, false), (0, 1001, false)] {
            assert_eq!(Page { offset, limit }.check().is_ok(), good, "{limit}");
        }
        assert!(Page { offset: u64::MAX, limit: 1 }.check().is_err());
    }
}
