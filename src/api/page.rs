//! Parts of lists: the query that asks for one, the members that describe it, and the order of its items.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize};

/// Part of a list that is requested.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct Page {
    /// Number of items to skip. While others insert, use `cursor`.
    #[serde(default)]
    #[cfg_attr(
        feature = "control",
        param(default = 0, minimum = 0, maximum = 9_223_372_036_854_775_807_u64)
    )]
    pub offset: u64,
    /// Maximum number of items, 0 to 1000. With 0, the answer has the count alone.
    #[serde(default = "twenty")]
    #[cfg_attr(feature = "control", param(default = 20, minimum = 0, maximum = 1000))]
    pub limit: u64,
    /// The `nextCursor` of the page before, of the same list in the same order. The page begins after it.
    #[cfg_attr(feature = "control", param(max_length = 1024))]
    pub cursor: Option<String>,
}

fn twenty() -> u64 {
    20
}

/// Members of every list that describe the part shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Extent {
    /// Number of items on all pages.
    pub total_count: u64,
    /// Number of items skipped.
    pub offset: u64,
    /// Maximum number of items on the page.
    pub limit: u64,
    /// Cursor of the next page, or none on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Field that a list can be sorted by.
pub trait SortField: Copy + 'static {
    /// Every field with its name in queries.
    const FIELDS: &[(&'static str, Self)];
}

/// One key of the order of a list. In a query it is `FIELD:asc` or `FIELD:desc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort<F> {
    /// Field to sort by.
    pub field: F,
    /// True for the greatest value first.
    pub descending: bool,
}

impl<'de, F: SortField> Deserialize<'de> for Sort<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<F>(PhantomData<F>);
        impl<F: SortField> serde::de::Visitor<'_> for Text<F> {
            type Value = Sort<F>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let names: Vec<&str> = F::FIELDS.iter().map(|(name, _)| *name).collect();
                write!(formatter, "FIELD:asc or FIELD:desc, where FIELD is one of {}", names.join(", "))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Sort<F>, E> {
                let read = || {
                    let (name, way) = text.split_once(':')?;
                    let (_, field) = F::FIELDS.iter().find(|(known, _)| *known == name)?;
                    let descending = match way {
                        "asc" => false,
                        "desc" => true,
                        _ => return None,
                    };
                    Some(Sort { field: *field, descending })
                };
                read().ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// Field that a list of objects with a name can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedField {
    /// Time of creation.
    CreatedAt,
    /// Name.
    Name,
    /// Time of the last change.
    UpdatedAt,
}

impl SortField for NamedField {
    const FIELDS: &[(&'static str, Self)] =
        &[("createdAt", Self::CreatedAt), ("name", Self::Name), ("updatedAt", Self::UpdatedAt)];
}

/// Schema of the keys of an order by `F`: each field, ascending and descending.
#[cfg(feature = "control")]
pub(crate) fn sort_schema<F: SortField>() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    let keys = F::FIELDS.iter().flat_map(|(name, _)| [format!("{name}:asc"), format!("{name}:desc")]);
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .enum_values(Some(keys.collect::<Vec<_>>()))
        .into()
}

/// Schema of a key of the order of a list of objects with a name.
#[cfg(feature = "control")]
pub struct NamedSort;

#[cfg(feature = "control")]
impl utoipa::PartialSchema for NamedSort {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        sort_schema::<NamedField>()
    }
}

#[cfg(feature = "control")]
impl utoipa::ToSchema for NamedSort {}
