//! Pagination of lists by offset or by cursor, and `LIKE` patterns for SQLite.
//!
//! An offset counts from the beginning of the list each time: while others insert, items are shown twice or missed. A
//! cursor names the last item shown, by its sort key, and the next page begins after it.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::controlplane::error::Error;
use crate::protocol::jws::BASE64URL;

/// Maximum number of items on a page.
const MAX_LIMIT: u64 = 1000;
/// Maximum length of a cursor, in characters: a name of 100 characters with the text around it.
const MAX_CURSOR: usize = 1024;

/// Part of a list that is requested.
#[derive(Clone, Debug, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Number of items to skip. While others insert, use `cursor`.
    #[serde(default)]
    #[param(default = 0, minimum = 0, maximum = 9_223_372_036_854_775_807_u64)]
    pub offset: u64,
    /// Maximum number of items, 1 to 1000.
    #[serde(default = "fifty")]
    #[param(default = 50, minimum = 1, maximum = 1000)]
    pub limit: u64,
    /// The `nextCursor` of the page before, of the same list in the same order. The page begins after it.
    #[param(max_length = 1024)]
    pub cursor: Option<String>,
}

fn fifty() -> u64 {
    50
}

/// Validated page of one list.
#[derive(Debug)]
pub(in crate::controlplane) struct Range {
    pub(in crate::controlplane) offset: u64,
    pub(in crate::controlplane) limit: u64,
    /// Name of the list and its order. The cursor of another list is rejected.
    list: &'static str,
    /// Sort key and id of the last item on the page before.
    after: Option<(Value, String)>,
}

impl Page {
    /// Rejects offsets that SQLite cannot represent, pages that are too large, and cursors of other lists.
    pub(in crate::controlplane) fn check(self, list: &'static str) -> Result<Range, Error> {
        let Self { offset, limit, cursor } = self;
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::invalid("limit", "use 1 to 1000"));
        }
        if i64::try_from(offset).is_err() {
            return Err(Error::invalid("offset", "is out of range"));
        }
        let after = cursor.map(|cursor| read_cursor(&cursor, list)).transpose()?;
        if after.is_some() && offset > 0 {
            return Err(Error::invalid("cursor", "use either an offset or a cursor"));
        }
        Ok(Range { offset, limit, list, after })
    }
}

fn read_cursor(cursor: &str, list: &str) -> Result<(Value, String), Error> {
    let read = || {
        let bytes = BASE64URL.decode(Some(cursor).filter(|cursor| cursor.len() <= MAX_CURSOR)?).ok()?;
        let (of, key, id): (String, Value, String) = serde_json::from_slice(&bytes).ok()?;
        (of == list && (key.is_i64() || key.is_string())).then_some((key, id))
    };
    read().ok_or_else(|| {
        Error::invalid("cursor", "is not one of this list in this order; take nextCursor of the page before")
    })
}

impl Range {
    /// Returns the cursor for SQLite: a JSON list of sort key and id.
    pub(in crate::controlplane) fn after(&self) -> Option<String> {
        self.after.as_ref().map(|after| serde_json::json!(after).to_string())
    }

    /// Returns the number of rows to read. One more than the page holds shows whether there is a next page.
    pub(in crate::controlplane) const fn rows(&self) -> u64 {
        self.limit + 1
    }

    /// Returns the condition and order of a query, by `key` and then by `id`. Its parameter `:after` is the result of
    /// [`Self::after`].
    pub(in crate::controlplane) fn sorted(key: &str, id: &str, descending: bool) -> String {
        let (compare, way) = if descending { ("<", "DESC") } else { (">", "ASC") };
        format!(
            "AND (:after IS NULL OR ({key}, {id}) {compare} (json_extract(:after, '$[0]'), json_extract(:after, '$[1]')))
             ORDER BY {key} {way}, {id} {way}"
        )
    }

    /// Truncates the rows to the page, and returns the cursor of the next page if there is one. `place` returns the
    /// sort key and id of an item.
    pub(in crate::controlplane) fn cut<T>(
        &self,
        found: &mut Vec<T>,
        place: impl Fn(&T) -> (Value, String),
    ) -> Option<String> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if found.len() <= limit {
            return None;
        }
        found.truncate(limit);
        let (key, id) = place(found.last()?);
        Some(BASE64URL.encode(serde_json::json!([self.list, key, id]).to_string()))
    }

    /// Does the same with a list in memory that is sorted by a text alone.
    pub(in crate::controlplane) fn slice<T>(
        &self,
        all: Vec<T>,
        place: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let rows = usize::try_from(self.rows()).unwrap_or(usize::MAX);
        let after = self.after.as_ref().map(|(_, after)| after);
        let rest = all.into_iter().filter(|item| after.is_none_or(|after| place(item) > *after));
        let mut found: Vec<T> = rest.skip(skip).take(rows).collect();
        let next = self.cut(&mut found, |item| (Value::from(0), place(item)));
        (found, next)
    }
}

/// Returns a pattern for `LIKE … ESCAPE '\'` that finds `text` anywhere, with its special characters escaped.
pub(in crate::controlplane) fn containing(text: &str) -> String {
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_searched_for_is_no_pattern() {
        assert_eq!(containing(r"50%_a\b"), r"%50\%\_a\\b%");
    }

    #[test]
    fn a_page_has_bounds() {
        for (offset, limit, good) in [(0, 1, true), (0, 1000, true), (0, 0, false), (0, 1001, false)] {
            assert_eq!(Page { offset, limit, cursor: None }.check("a").is_ok(), good, "{limit}");
        }
        assert!(Page { offset: u64::MAX, limit: 1, cursor: None }.check("a").is_err());
    }

    #[test]
    fn a_cursor_is_of_one_list_in_one_order() {
        let page = |cursor: &str, offset| Page { offset, limit: 2, cursor: Some(cursor.to_owned()) };
        let first = Page { offset: 0, limit: 2, cursor: None }.check("a").unwrap();
        let mut found = vec![1, 2, 3];
        let next = first.cut(&mut found, |item| (Value::from(*item), format!("id_{item}"))).unwrap();
        assert_eq!(found, [1, 2]);
        let second = page(&next, 0).check("a").unwrap();
        assert_eq!(second.after().unwrap(), r#"[2,"id_2"]"#);
        assert!(second.cut(&mut vec![3], |_| (Value::Null, String::new())).is_none());
        for bad in ["", "x", "bnVsbA", "W10", &next[1..], &"A".repeat(2000)] {
            assert!(page(bad, 0).check("a").is_err(), "{bad}");
        }
        assert!(page(&next, 0).check("b").is_err(), "of another list");
        assert!(page(&next, 1).check("a").is_err(), "both");
    }
}
