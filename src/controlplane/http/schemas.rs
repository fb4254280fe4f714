//! OpenAPI schemas of types that serialize themselves.

use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::protocol::permission::{CATALOGUE, Permission, PermissionSet};
use crate::protocol::role::RoleDigest;

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

impl PartialSchema for Permission {
    fn schema() -> RefOr<Schema> {
        text()
            .description(Some("A permission of the catalogue."))
            .enum_values(Some(CATALOGUE.to_vec()))
            .into()
    }
}

impl ToSchema for Permission {}

impl PartialSchema for PermissionSet {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(Ref::from_schema_name("Permission")).into()
    }
}

impl ToSchema for PermissionSet {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Permission".into(), Permission::schema()));
    }
}

impl PartialSchema for RoleDigest {
    fn schema() -> RefOr<Schema> {
        text()
            .description(Some("SHA-256 of a role's bytes, base64url."))
            .pattern(Some("^[A-Za-z0-9_-]{43}$"))
            .into()
    }
}

impl ToSchema for RoleDigest {}
