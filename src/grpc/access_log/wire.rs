//! Envoy's access log as far as it is counted. Field numbers are those of `envoy.service.accesslog.v3` and `envoy.data.accesslog.v3`;
//! entries stay bytes until their turn comes, and what is not named here (headers, addresses, certificates) is skipped unread.

use bytes::Bytes;

/// `envoy.service.accesslog.v3.StreamAccessLogsMessage`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Batch {
    #[prost(message, optional, tag = "2")]
    pub http: Option<Entries>,
    #[prost(message, optional, tag = "3")]
    pub tcp: Option<Entries>,
}

/// `StreamAccessLogsMessage.HTTPAccessLogEntries`, and the same of TCP.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Entries {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub entries: Vec<Bytes>,
}

/// `envoy.data.accesslog.v3.HTTPAccessLogEntry`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct HttpEntry {
    #[prost(message, optional, tag = "1")]
    pub common: Option<Common>,
    #[prost(message, optional, tag = "3")]
    pub request: Option<RequestProperties>,
    #[prost(message, optional, tag = "4")]
    pub response: Option<ResponseProperties>,
}

/// `AccessLogCommon`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Common {
    /// To the last byte that went to the client.
    #[prost(message, optional, tag = "12")]
    pub time_to_last_byte: Option<Duration>,
    #[prost(message, optional, tag = "17")]
    pub metadata: Option<Metadata>,
    /// The whole of it, of newer Envoys.
    #[prost(message, optional, tag = "23")]
    pub duration: Option<Duration>,
    #[prost(int32, tag = "33")]
    pub kind: i32,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub(super) struct Duration {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `envoy.config.core.v3.Metadata`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Metadata {
    #[prost(message, repeated, tag = "1")]
    pub namespaces: Vec<Namespace>,
}

/// One filter's metadata, by its name.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Namespace {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, optional, tag = "2")]
    pub fields: Option<Fields>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Fields {
    #[prost(message, repeated, tag = "1")]
    pub fields: Vec<Field>,
}

/// One entry of it.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Field {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Text>,
}

/// `google.protobuf.Value`, where it is text.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Text {
    #[prost(bytes = "bytes", tag = "3")]
    pub text: Bytes,
}

/// `HTTPRequestProperties`.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub(super) struct RequestProperties {
    #[prost(uint64, tag = "11")]
    pub header_bytes: u64,
    #[prost(uint64, tag = "12")]
    pub body_bytes: u64,
}

/// `HTTPResponseProperties`.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub(super) struct ResponseProperties {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Number>,
    #[prost(uint64, tag = "2")]
    pub header_bytes: u64,
    #[prost(uint64, tag = "3")]
    pub body_bytes: u64,
}

/// `google.protobuf.UInt32Value`.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub(super) struct Number {
    #[prost(uint32, tag = "1")]
    pub value: u32,
}
