//! Messages of `envoy.service.auth.v3.Authorization`, as far as the daemon reads and writes them.
//!
//! Names and numbers are those of Envoy's published interface. Fields that are not declared here are skipped when read, as
//! protobuf requires, and never written.

use std::collections::HashMap;

/// Request for a decision.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckRequest {
    /// Attributes of the original request.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<AttributeContext>,
}

/// The original request, its parties, and additions of the route's configuration.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeContext {
    /// Party that sent the request.
    #[prost(message, optional, tag = "1")]
    pub source: Option<Peer>,
    /// The original request.
    #[prost(message, optional, tag = "4")]
    pub request: Option<Request>,
    /// `context_extensions` of the route.
    #[prost(map = "string, string", tag = "10")]
    pub context_extensions: HashMap<String, String>,
}

/// Party of a request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Peer {
    /// Address of the party.
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

/// Address of a party. The address of a pipe is skipped.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    /// Address of a socket, if it is one.
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

/// Address of a socket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SocketAddress {
    /// IP address, as text.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// Request by protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// HTTP attributes of the request.
    #[prost(message, optional, tag = "2")]
    pub http: Option<HttpRequest>,
}

/// HTTP request of the client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpRequest {
    /// Method of the request.
    #[prost(string, tag = "2")]
    pub method: String,
    /// Header fields with names in lower case. Values of one name are joined with commas.
    #[prost(map = "string, string", tag = "3")]
    pub headers: HashMap<String, String>,
    /// Path and query, as sent.
    #[prost(string, tag = "4")]
    pub path: String,
    /// Host of the request, as sent.
    #[prost(string, tag = "5")]
    pub host: String,
}

/// Answer to Envoy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckResponse {
    /// Status: code 0 allows the request, any other denies it.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Changes to the request, or the response to a denied one.
    #[prost(oneof = "HttpResponse", tags = "2, 3")]
    pub http_response: Option<HttpResponse>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Description of the status, for logs.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Handling of a request.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HttpResponse {
    /// Envoy sends this response to the client.
    #[prost(message, tag = "2")]
    Denied(Denied),
    /// Envoy changes the request and passes it on.
    #[prost(message, tag = "3")]
    Passed(Passed),
}

/// Response to a denied request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Denied {
    /// HTTP status of the response.
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    /// Header fields of the response.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Body of the response.
    #[prost(string, tag = "3")]
    pub body: String,
}

/// HTTP status of a response.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpStatus {
    /// Status code. Envoy's enumeration has the same numbers.
    #[prost(int32, tag = "1")]
    pub code: i32,
}

/// Changes to an allowed request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Passed {
    /// Header fields to set.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Names of header fields to remove.
    #[prost(string, repeated, tag = "5")]
    pub headers_to_remove: Vec<String>,
    /// Header fields to add to the deployment's response.
    #[prost(message, repeated, tag = "6")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
}

/// Header field, and how it is set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderValueOption {
    /// Header field to set.
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// [`OVERWRITE_IF_EXISTS_OR_ADD`] or [`APPEND_IF_EXISTS_OR_ADD`].
    #[prost(int32, tag = "3")]
    pub append_action: i32,
}

/// Replaces a field that a client sent, or adds it.
pub const OVERWRITE_IF_EXISTS_OR_ADD: i32 = 2;
/// Adds a field beside those that are there.
pub const APPEND_IF_EXISTS_OR_ADD: i32 = 0;

/// Header field of a request or response.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderValue {
    /// Name of the field.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value of the field.
    #[prost(string, tag = "2")]
    pub value: String,
}
