//! The messages of `envoy.service.auth.v3.Authorization`, as far as the daemon reads and writes them.
//!
//! Written from Envoy's published interface: names and numbers are Envoy's. Fields that are not here are skipped when
//! read (a protobuf parser has to) and never written.

use std::collections::HashMap;

/// What Envoy asks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckRequest {
    /// All it knows of the request.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<AttributeContext>,
}

/// A request, its parties, and what the route's configuration adds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeContext {
    /// Where it comes from.
    #[prost(message, optional, tag = "1")]
    pub source: Option<Peer>,
    /// The request.
    #[prost(message, optional, tag = "4")]
    pub request: Option<Request>,
    /// `context_extensions` of the route.
    #[prost(map = "string, string", tag = "10")]
    pub context_extensions: HashMap<String, String>,
}

/// A party.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Peer {
    /// Its address.
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

/// An address; of a pipe nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    /// The address of a socket.
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

/// The address of a socket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SocketAddress {
    /// An IP address, as text.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// A request at its layer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// At that of HTTP.
    #[prost(message, optional, tag = "2")]
    pub http: Option<HttpRequest>,
}

/// A request of HTTP.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpRequest {
    /// Its method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// Its headers in lower case; values of one name are joined with commas.
    #[prost(map = "string, string", tag = "3")]
    pub headers: HashMap<String, String>,
    /// Path and query, as sent.
    #[prost(string, tag = "4")]
    pub path: String,
    /// Its host.
    #[prost(string, tag = "5")]
    pub host: String,
}

/// What Envoy is answered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckResponse {
    /// The code 0 lets the request pass, and no other does.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// What is done beyond that.
    #[prost(oneof = "HttpResponse", tags = "2, 3")]
    pub http_response: Option<HttpResponse>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// A code of gRPC.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For whoever reads it.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// What is done with a request.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HttpResponse {
    /// It is answered.
    #[prost(message, tag = "2")]
    Denied(Denied),
    /// It is changed and passed on.
    #[prost(message, tag = "3")]
    Passed(Passed),
}

/// The answer to a request that does not pass.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Denied {
    /// Its status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    /// Its headers.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Its body.
    #[prost(string, tag = "3")]
    pub body: String,
}

/// A status of HTTP.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpStatus {
    /// Its number: Envoy's enumeration has the same.
    #[prost(int32, tag = "1")]
    pub code: i32,
}

/// What is changed of a request that passes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Passed {
    /// Headers it gets.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Headers it loses.
    #[prost(string, repeated, tag = "5")]
    pub headers_to_remove: Vec<String>,
}

/// A header, and how it is put in its place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderValueOption {
    /// The header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// [`OVERWRITE_IF_EXISTS_OR_ADD`], and nothing else.
    #[prost(int32, tag = "3")]
    pub append_action: i32,
}

/// The one way in which a header is set: over whatever a client sent.
pub const OVERWRITE_IF_EXISTS_OR_ADD: i32 = 2;

/// A header.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}
