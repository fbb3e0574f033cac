//! `CheckRequest` as far as the gate reads it. Field numbers are those of `envoy.service.auth.v3`; every text is `bytes`, so that
//! decoding copies nothing, and what is not named here (bodies, metadata, certificates) is skipped without being parsed. And the
//! numbers of the fields of `CheckResponse` that the gate writes.

use bytes::Bytes;

/// `envoy.service.auth.v3.CheckRequest`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<Attributes>,
}

/// `envoy.service.auth.v3.AttributeContext`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Attributes {
    #[prost(message, optional, tag = "1")]
    pub source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    pub request: Option<RequestAttributes>,
    #[prost(message, repeated, tag = "10")]
    pub context_extensions: Vec<MapEntry>,
}

/// `AttributeContext.Peer`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Peer {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
    #[prost(bytes = "bytes", tag = "4")]
    pub principal: Bytes,
}

/// `envoy.config.core.v3.Address`; pipes and internal addresses have no IP address and are skipped.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Address {
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

/// `envoy.config.core.v3.SocketAddress`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SocketAddress {
    #[prost(bytes = "bytes", tag = "2")]
    pub address: Bytes,
}

/// `AttributeContext.Request`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RequestAttributes {
    #[prost(message, optional, tag = "2")]
    pub http: Option<HttpRequest>,
}

/// `AttributeContext.HttpRequest`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HttpRequest {
    #[prost(bytes = "bytes", tag = "2")]
    pub method: Bytes,
    /// The joined form: one entry a name.
    #[prost(message, repeated, tag = "3")]
    pub headers: Vec<MapEntry>,
    /// The target with its query, as the client sent it.
    #[prost(bytes = "bytes", tag = "4")]
    pub path: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub host: Bytes,
    /// The raw form (`encode_raw_headers: true`): one entry a header line.
    #[prost(message, optional, tag = "13")]
    pub header_map: Option<HeaderMap>,
}

/// One entry of a `map<string, string>`, which is on the wire what this message is.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapEntry {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `envoy.config.core.v3.HeaderMap`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<HeaderValue>,
}

/// `envoy.config.core.v3.HeaderValue`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HeaderValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub raw_value: Bytes,
}

/// Field numbers of `envoy.service.auth.v3.CheckResponse` and of what it is made of.
pub mod field {
    pub const STATUS: u32 = 1;
    pub const DENIED_RESPONSE: u32 = 2;
    pub const OK_RESPONSE: u32 = 3;
    pub const DYNAMIC_METADATA: u32 = 4;
    pub const ERROR_RESPONSE: u32 = 5;

    /// `google.rpc.Status`
    pub mod status {
        pub const CODE: u32 = 1;
        pub const MESSAGE: u32 = 2;
    }

    /// `OkHttpResponse`
    pub mod ok {
        pub const HEADERS: u32 = 2;
        pub const HEADERS_TO_REMOVE: u32 = 5;
        pub const RESPONSE_HEADERS_TO_ADD: u32 = 6;
        pub const QUERY_PARAMETERS_TO_REMOVE: u32 = 8;
    }

    /// `DeniedHttpResponse`; its status is a message with a code.
    pub mod denied {
        pub const STATUS: u32 = 1;
        pub const STATUS_CODE: u32 = 1;
        pub const HEADERS: u32 = 2;
        pub const BODY: u32 = 3;
    }

    /// `HeaderValueOption`
    pub mod option {
        pub const HEADER: u32 = 1;
        pub const APPEND: u32 = 2;
        pub const APPEND_ACTION: u32 = 3;
    }

    /// An entry of a map, and `HeaderValue`.
    pub const KEY: u32 = 1;
    pub const VALUE: u32 = 2;
    /// `google.protobuf.Struct`
    pub const ENTRIES: u32 = 1;
    /// `google.protobuf.Value`
    pub const STRING_VALUE: u32 = 3;
}
