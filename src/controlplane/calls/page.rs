//! Pagination of lists by offset or by cursor, and `LIKE` patterns for SQLite.
//!
//! An offset counts from the beginning of the list each time: while others insert, items are shown twice or missed. A
//! cursor names the last item shown, by its sort key, and the next page begins after it.

use std::cmp::Ordering;

use base64::Engine as _;
use serde_json::Value;

use crate::api::page::{Extent, NamedField, Page, Sort, SortField};
use crate::controlplane::error::Error;
use crate::protocol::jws::BASE64URL;

/// Maximum number of items on a page.
const MAX_LIMIT: u64 = 1000;
/// Maximum length of a cursor, in characters: a name of 100 characters with the text around it.
const MAX_CURSOR: usize = 1024;

/// Validated page of one list.
#[derive(Debug)]
pub(in crate::controlplane) struct Range {
    pub(in crate::controlplane) offset: u64,
    pub(in crate::controlplane) limit: u64,
    /// Name of the list and its order. The cursor of another list is rejected.
    list: String,
    /// True if the order has one key, which a cursor can name.
    one_key: bool,
    /// Sort key and id of the last item on the page before.
    after: Option<(Value, String)>,
}

/// Rejects offsets that SQLite cannot represent, pages that are too large, and cursors of other lists.
pub(in crate::controlplane) fn check(page: Page, list: &str) -> Result<Range, Error> {
    check_order(page, list.to_owned(), true)
}

/// Does the same for a list in the order of `sorts`.
pub(in crate::controlplane) fn check_sorted<F: SortField + PartialEq>(
    page: Page,
    list: &str,
    sorts: &[Sort<F>],
) -> Result<Range, Error> {
    let mut name = list.to_owned();
    for sort in sorts {
        let field = F::FIELDS.iter().find(|(_, field)| *field == sort.field).map_or("", |(name, _)| *name);
        name.extend([" ", field, if sort.descending { ":desc" } else { ":asc" }]);
    }
    check_order(page, name, sorts.len() <= 1)
}

fn check_order(page: Page, list: String, one_key: bool) -> Result<Range, Error> {
    let Page { offset, limit, cursor } = page;
    if limit > MAX_LIMIT {
        return Err(Error::invalid("limit", "use 0 to 1000"));
    }
    if i64::try_from(offset).is_err() {
        return Err(Error::invalid("offset", "is out of range"));
    }
    if cursor.is_some() && !one_key {
        return Err(Error::invalid("cursor", "use an offset for a list in the order of several keys"));
    }
    let after = cursor.map(|cursor| read_cursor(&cursor, &list)).transpose()?;
    if after.is_some() && offset > 0 {
        return Err(Error::invalid("cursor", "use either an offset or a cursor"));
    }
    Ok(Range { offset, limit, list, one_key, after })
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
    #[cfg(test)]
    pub(in crate::controlplane) fn start_after(&mut self, key: Value, id: &str) {
        self.after = Some((key, id.to_owned()));
    }

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
    pub(in crate::controlplane) fn sorted(&self, key: &str, id: &str, descending: bool) -> String {
        let (compare, way) = if descending { ("<", "DESC") } else { (">", "ASC") };
        // With an alternative in it, SQLite would not begin at the cursor's place in an index.
        let condition = if self.after.is_some() {
            format!("({key}, {id}) {compare} (json_extract(:after, '$[0]'), json_extract(:after, '$[1]'))")
        } else {
            "(:after IS NULL OR TRUE)".to_owned()
        };
        format!("AND {condition} ORDER BY {key} {way}, {id} {way}")
    }

    /// Returns the condition and order of a query by the keys of `order`, each of which is `column` in SQL.
    pub(in crate::controlplane) fn sorted_by<F: SortField>(
        &self,
        order: &[Sort<F>],
        column: fn(F) -> &'static str,
        id: &str,
    ) -> String {
        if let [Sort { field, descending }] = order {
            return self.sorted(column(*field), id, *descending);
        }
        let way = |sort: &Sort<F>| if sort.descending { "DESC" } else { "ASC" };
        let keys: Vec<String> =
            order.iter().map(|sort| format!("{} {}", column(sort.field), way(sort))).collect();
        format!("AND (:after IS NULL OR TRUE) ORDER BY {}, {id}", keys.join(", "))
    }

    /// Truncates the rows to the page, and returns the members that describe it.
    pub(in crate::controlplane) fn extent<T>(
        &self,
        total_count: u64,
        found: &mut Vec<T>,
        place: impl Fn(&T) -> (Value, String),
    ) -> Extent {
        let next_cursor = self.cut(found, place);
        Extent { total_count, offset: self.offset, limit: self.limit, next_cursor }
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
        if !self.one_key {
            return None;
        }
        Some(BASE64URL.encode(serde_json::json!([self.list, key, id]).to_string()))
    }

    /// Does the same with a list in memory that is sorted by `compare`.
    fn slice<T>(
        &self,
        all: Vec<T>,
        place: impl Fn(&T) -> (Value, String),
        compare: impl Fn(&(Value, String), &(Value, String)) -> Ordering,
    ) -> (Vec<T>, Option<String>) {
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let rows = usize::try_from(self.rows()).unwrap_or(usize::MAX);
        let after = self.after.as_ref();
        let follows = |item: &T| after.is_none_or(|after| compare(&place(item), after).is_gt());
        let mut found: Vec<T> = all.into_iter().filter(follows).skip(skip).take(rows).collect();
        let next = self.cut(&mut found, place);
        (found, next)
    }
}

/// Compares two values of one sort key, which are texts or numbers.
fn compare_keys(a: &Value, b: &Value) -> Ordering {
    a.as_i64().cmp(&b.as_i64()).then_with(|| a.as_str().cmp(&b.as_str()))
}

/// Sorts a list in memory by the values of `key`, and then by `place`, and cuts a page out of it. No two items have the same
/// place. In the order of at most one key the page has a cursor.
pub(in crate::controlplane) fn listed<T, F: SortField + PartialEq>(
    page: Page,
    list: &str,
    sorts: &[Sort<F>],
    items: Vec<T>,
    place: impl Fn(&T) -> String,
    key: impl Fn(F, &T) -> Value,
) -> Result<(Vec<T>, Extent), Error> {
    let range = check_sorted(page, list, sorts)?;
    let keys_of = |item: &T| -> Vec<Value> { sorts.iter().map(|sort| key(sort.field, item)).collect() };
    let mut keyed: Vec<(Vec<Value>, T)> = items.into_iter().map(|item| (keys_of(&item), item)).collect();
    let in_order = |a: &[Value], b: &[Value]| {
        let by = |(sort, (a, b)): (&Sort<F>, (&Value, &Value))| {
            let order = compare_keys(a, b);
            if sort.descending { order.reverse() } else { order }
        };
        sorts.iter().zip(a.iter().zip(b)).map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    keyed.sort_by_cached_key(|(_, item)| place(item));
    keyed.sort_by(|(a, _), (b, _)| in_order(a, b));
    let total_count = keyed.len() as u64;
    let (keyed, next_cursor) = range.slice(
        keyed,
        |(keys, item)| (keys.first().cloned().unwrap_or(Value::from(0)), place(item)),
        |(a, id_a), (b, id_b)| {
            in_order(std::slice::from_ref(a), std::slice::from_ref(b)).then_with(|| id_a.cmp(id_b))
        },
    );
    let items = keyed.into_iter().map(|(_, item)| item).collect();
    let extent = Extent { total_count, offset: range.offset, limit: range.limit, next_cursor };
    Ok((items, extent))
}

/// Does the same for a list that has one order.
pub(in crate::controlplane) fn unsorted<T>(
    page: Page,
    list: &str,
    items: Vec<T>,
    place: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Extent), Error> {
    let sorts: [Sort<NamedField>; 0] = [];
    listed(page, list, &sorts, items, place, |_, _| Value::Null)
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
        for (offset, limit, good) in [(0, 1, true), (0, 1000, true), (0, 0, true), (0, 1001, false)] {
            assert_eq!(check(Page { offset, limit, cursor: None }, "a").is_ok(), good, "{limit}");
        }
        assert!(check(Page { offset: u64::MAX, limit: 1, cursor: None }, "a").is_err());
    }

    #[test]
    fn a_page_of_no_items_has_the_count_alone() {
        let none = check(Page { offset: 0, limit: 0, cursor: None }, "a").unwrap();
        let mut found = vec![1];
        let extent = none.extent(7, &mut found, |item| (Value::from(*item), String::new()));
        assert!(found.is_empty() && extent.total_count == 7 && extent.next_cursor.is_none());
    }

    #[test]
    fn a_list_in_memory_is_sorted_by_every_key_and_has_a_cursor_in_its_own_order() {
        use crate::api::page::NamedField::{CreatedAt, Name};
        let items = || vec![("b", 2), ("a", 2), ("c", 1)];
        let part = |cursor, sorts: &[Sort<NamedField>]| {
            let key = |field: NamedField, item: &(&str, i32)| match field {
                Name => Value::from(item.0),
                _ => Value::from(item.1),
            };
            let page = Page { offset: 0, limit: 2, cursor };
            listed(page, "x", sorts, items(), |item| item.0.to_owned(), key)
        };
        let (first, extent) = part(None, &[]).unwrap();
        assert_eq!((first, extent.total_count), (vec![("a", 2), ("b", 2)], 3));
        assert_eq!(part(extent.next_cursor.clone(), &[]).unwrap().0, [("c", 1)]);
        let by = |field, descending| Sort { field, descending };
        let (sorted, extent) = part(None, &[by(CreatedAt, true), by(Name, true)]).unwrap();
        assert_eq!((sorted, extent.next_cursor.clone()), (vec![("b", 2), ("a", 2)], None));
    }

    #[test]
    fn a_list_in_memory_shows_each_item_once_in_the_order_of_a_key_while_others_come_and_go() {
        use crate::api::page::NamedField::{CreatedAt, Name};
        for (field, descending) in [(Name, false), (Name, true), (CreatedAt, false), (CreatedAt, true)] {
            let mut items: Vec<(String, i64)> = (10..30).map(|n| (format!("{n}"), n * 7 % 5)).collect();
            let sorts = [Sort { field, descending }];
            let (mut cursor, mut seen) = (None, Vec::new());
            loop {
                let key = |field: NamedField, item: &(String, i64)| match field {
                    Name => Value::from(item.0.clone()),
                    _ => Value::from(item.1),
                };
                let page = Page { offset: 0, limit: 3, cursor };
                let place = |item: &(String, i64)| item.0.clone();
                let (found, extent) = listed(page, "x", &sorts, items.clone(), place, key).unwrap();
                seen.extend(found.iter().map(|item| item.0.clone()));
                // The last item shown is removed, and others come before and after it.
                let last = found.last().unwrap().clone();
                items.retain(|item| *item != last);
                items.extend([
                    (format!("0{}", seen.len()), last.1 - 1),
                    (format!("9{}", seen.len()), last.1 - 1),
                ]);
                cursor = extent.next_cursor;
                if cursor.is_none() || seen.len() > 200 {
                    break;
                }
            }
            let sorted: std::collections::BTreeSet<&String> = seen.iter().collect();
            assert_eq!(sorted.len(), seen.len(), "{field:?} {descending}: twice");
            assert!((10..30).all(|n| seen.contains(&n.to_string())), "{field:?} {descending}: {seen:?}");
            let page = Page { offset: 0, limit: 3, cursor: None };
            let key = |_: NamedField, item: &(String, i64)| Value::from(item.1);
            let (_, extent) = listed(page, "x", &sorts, items, |item| item.0.clone(), key).unwrap();
            let other = Page { offset: 0, limit: 3, cursor: extent.next_cursor };
            let reversed = [Sort { field, descending: !descending }];
            assert!(check_sorted(other, "x", &reversed).is_err(), "in another order");
        }
    }

    #[test]
    fn a_cursor_is_of_one_list_in_one_order() {
        let page = |cursor: &str, offset| Page { offset, limit: 2, cursor: Some(cursor.to_owned()) };
        let first = check(Page { offset: 0, limit: 2, cursor: None }, "a").unwrap();
        let mut found = vec![1, 2, 3];
        let next = first.cut(&mut found, |item| (Value::from(*item), format!("id_{item}"))).unwrap();
        assert_eq!(found, [1, 2]);
        let second = check(page(&next, 0), "a").unwrap();
        assert_eq!(second.after().unwrap(), r#"[2,"id_2"]"#);
        assert!(second.cut(&mut vec![3], |_| (Value::Null, String::new())).is_none());
        for bad in ["", "x", "bnVsbA", "W10", &next[1..], &"A".repeat(2000)] {
            assert!(check(page(bad, 0), "a").is_err(), "{bad}");
        }
        assert!(check(page(&next, 0), "b").is_err(), "of another list");
        assert!(check(page(&next, 1), "a").is_err(), "both");
    }
}
