//! Pages: how a list is cut, and how what is searched for is put to SQLite.
//!
//! A list is cut by offset or by cursor. An offset counts from the beginning each time: while others insert, items are shown
//! twice or not at all. A cursor names the last item that was shown, by what the list is sorted by, and the page begins behind
//! it.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::error::Error;
use crate::protocol::jws::BASE64URL;

/// The most a page can hold.
const MAX_LIMIT: u64 = 1000;
/// The longest cursor, in characters: a name of 100 characters and what stands around it.
const MAX_CURSOR: usize = 1024;

/// Which part of a list is asked for.
#[derive(Clone, Debug, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// How many to skip. While others insert, use `cursor`.
    #[serde(default)]
    #[param(default = 0, minimum = 0, maximum = 9_223_372_036_854_775_807_u64)]
    pub offset: u64,
    /// How many to give, 1 to 1000.
    #[serde(default = "fifty")]
    #[param(default = 50, minimum = 1, maximum = 1000)]
    pub limit: u64,
    /// The `nextCursor` of the page before, of the same list in the same order: the page begins behind it.
    #[param(max_length = 1024)]
    pub cursor: Option<String>,
}

fn fifty() -> u64 {
    50
}

/// A checked page of one list.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) limit: u64,
    /// Name of the list and its order: a cursor of another is refused.
    list: &'static str,
    /// What the last item of the page before is sorted by, and its id.
    after: Option<(Value, String)>,
}

impl Page {
    /// Refuses what SQLite could not count, pages larger than anybody should ask for, and cursors of other lists.
    pub(super) fn check(self, list: &'static str) -> Result<Range, Error> {
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
    /// The cursor as SQLite reads it: a JSON list of the sorted value and the id.
    pub(super) fn after(&self) -> Option<String> {
        self.after.as_ref().map(|after| serde_json::json!(after).to_string())
    }

    /// Rows to ask for: one more than is given says whether there are more.
    pub(super) const fn rows(&self) -> u64 {
        self.limit + 1
    }

    /// Condition and order of a query, by `key` and then by `id`. `:after` is what [`Self::after`] gives.
    pub(super) fn sorted(key: &str, id: &str, descending: bool) -> String {
        let (compare, way) = if descending { ("<", "DESC") } else { (">", "ASC") };
        format!(
            "AND (:after IS NULL OR ({key}, {id}) {compare} (json_extract(:after, '$[0]'), json_extract(:after, '$[1]')))
             ORDER BY {key} {way}, {id} {way}"
        )
    }

    /// Cuts what was found to the page, and returns the cursor of the next one if there is more. `place` gives what an item is
    /// sorted by, and its id.
    pub(super) fn cut<T>(&self, found: &mut Vec<T>, place: impl Fn(&T) -> (Value, String)) -> Option<String> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if found.len() <= limit {
            return None;
        }
        found.truncate(limit);
        let (key, id) = place(found.last()?);
        Some(BASE64URL.encode(serde_json::json!([self.list, key, id]).to_string()))
    }

    /// Cuts a list that is in memory, sorted by a text alone, in the same way.
    pub(super) fn slice<T>(&self, all: Vec<T>, place: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let rows = usize::try_from(self.rows()).unwrap_or(usize::MAX);
        let after = self.after.as_ref().map(|(_, after)| after);
        let rest = all.into_iter().filter(|item| after.is_none_or(|after| place(item) > *after));
        let mut found: Vec<T> = rest.skip(skip).take(rows).collect();
        let next = self.cut(&mut found, |item| (Value::from(0), place(item)));
        (found, next)
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
