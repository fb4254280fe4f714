//! Faces: the interfaces at which a proxy or a client asks. Each reads a request, calls [`super::authorize`] and answers
//! with the same fields.

pub mod answer;
pub mod browser;
#[cfg(feature = "grpc")]
pub mod ext_authz;
pub mod gateway;
mod guard;
pub mod http;
pub mod reserved;
pub mod upstream_identity;
