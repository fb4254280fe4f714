//! Query parameters. A call refuses those that its description in the OpenAPI document does not name: a filter that is
//! ignored would be answered with too much.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Query as Pairs, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::{OpenApi, RefOr};

use super::problem::of_field;
use crate::controlplane::error::Error;

/// Names of the query parameters of each call, by method and route below the base path.
pub(super) struct Known(HashMap<(Method, String), BTreeSet<String>>);

impl Known {
    /// Reads the names from the description of the calls.
    pub(super) fn from_document(document: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &document.paths.paths {
            let operations = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                let parameters = operation.parameters.iter().flatten();
                let names = parameters.filter_map(|parameter| match parameter {
                    RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
                        Some(parameter.name.clone())
                    }
                    _ => None,
                });
                known.insert((method, path.clone()), names.collect());
            }
        }
        Self(known)
    }

    fn refusal(&self, method: &Method, route: &str, uri: &Uri) -> Option<Response> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let known = self.0.get(&(method.clone(), route.to_owned()))?;
        let pairs = match pairs(uri) {
            Ok(pairs) => pairs,
            Err(refusal) => return Some(refusal.into_response()),
        };
        let (unknown, _) = pairs.into_iter().find(|(name, _)| !known.contains(name))?;
        let detail = if known.is_empty() {
            "this call takes no query parameters".to_owned()
        } else {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            format!("this call has no such query parameter; it has {}", known.join(", "))
        };
        Some(of_field(StatusCode::BAD_REQUEST, "unknown_parameter", &unknown, &detail))
    }
}

/// Refuses a call with a query parameter that it does not know.
pub(super) async fn refuse_unknown(
    State(known): State<Arc<Known>>,
    route: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let refusal = known.refusal(request.method(), super::below_base(route.as_str()), request.uri());
    match refusal {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

/// Extractor of query parameters. A list has its parameter repeated; any other parameter stands once.
pub(super) struct Query<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parse(pairs(&parts.uri).map_err(Error::into_response)?).map(Self).map_err(
            |Fault { field, detail }| of_field(StatusCode::BAD_REQUEST, "malformed", &field, &detail),
        )
    }
}

/// Returns the parameters of a query, in its order.
fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Error> {
    Pairs::try_from_uri(uri)
        .map(|Pairs(pairs)| pairs)
        .map_err(|_| Error::Malformed("the query is not understood".into()))
}

fn parse<T: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, Fault> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs {
        fields.entry(name).or_default().push(value);
    }
    let fields = fields.iter().map(|(name, values)| (name.as_str(), Field { name, values }));
    T::deserialize(MapDeserializer::new(fields))
}

/// Fault of a query parameter.
#[derive(Debug)]
struct Fault {
    field: String,
    detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.detail)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(detail: T) -> Self {
        Self { field: String::new(), detail: detail.to_string() }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let detail = format!("this call has no such query parameter; it has {}", known.join(", "));
        Self { field: field.to_owned(), detail }
    }
}

/// Values of one parameter, in the order of the query.
#[derive(Clone, Copy)]
struct Field<'a> {
    name: &'a str,
    values: &'a [String],
}

impl<'a> Field<'a> {
    fn named(self, fault: Fault) -> Fault {
        Fault { field: self.name.to_owned(), ..fault }
    }

    fn one(self) -> Result<&'a str, Fault> {
        match self.values {
            [value] => Ok(value),
            _ => Err(self.named(serde::de::Error::custom("is there more than once"))),
        }
    }

    fn number<T: std::str::FromStr>(self) -> Result<T, Fault> {
        let number = self.one()?.parse();
        number.map_err(|_| self.named(serde::de::Error::custom("is no whole number of its range")))
    }
}

impl<'a> IntoDeserializer<'a, Fault> for Field<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Field<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(self.one()?).map_err(|fault: Fault| self.named(fault))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.one()? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(self.named(serde::de::Error::custom("use true or false"))),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(self.number()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self).map_err(|fault: Fault| self.named(fault))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self.one()?.into_deserializer()).map_err(|fault: Fault| self.named(fault))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let each = self.values.iter().map(|value| Field { values: std::slice::from_ref(value), ..self });
        visitor.visit_seq(SeqDeserializer::new(each))
    }

    /// Skips a parameter of another part of the query.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map
        struct identifier
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::api::page::Page;
    use crate::api::token::{TokenField, TokenFilter};

    fn read<T: DeserializeOwned>(query: &str) -> Result<T, Fault> {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        parse(pairs(&uri).unwrap())
    }

    #[test]
    fn a_parameter_of_a_list_is_repeated_and_any_other_stands_once() {
        let filter: TokenFilter =
            read("dagTags=a&sorts=name:desc&dagTags=b%26c&sorts=createdAt:asc&limit=3").unwrap();
        assert_eq!(filter.dag_tags, ["a", "b&c"]);
        assert_eq!(filter.sorts[0].field, TokenField::Name);
        assert!(filter.sorts[0].descending && !filter.sorts[1].descending);
        let page: Page = read("limit=3&cursor=x&search=y&sorts=a&sorts=b").unwrap();
        assert_eq!((page.limit, page.offset, page.cursor.as_deref()), (3, 0, Some("x")));
        assert_eq!(read::<Page>("limit=3&limit=4").unwrap_err().field, "limit");
    }

    #[test]
    fn a_fault_names_its_parameter() {
        for (query, field) in [
            ("sorts=name", "sorts"),
            ("sorts=name:up", "sorts"),
            ("sorts=color:asc", "sorts"),
            ("kind=OTHER", "kind"),
            ("scope=DAG", "scope"),
            ("includeOnlyOrganizationTokens=1", "includeOnlyOrganizationTokens"),
        ] {
            assert_eq!(read::<TokenFilter>(query).unwrap_err().field, field, "{query}");
        }
        for query in ["limit=-1", "limit=x", "limit=", "offset=99999999999999999999"] {
            assert!(read::<Page>(query).is_err(), "{query}");
        }
    }
}
