//! A `CheckRequest` in protobuf's JSON, as Envoy's own tools print it and as our records keep it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;

use crate::model::request::Headers;
use crate::model::request::Host;
use crate::model::request::Method;
use crate::model::request::Path;
use crate::model::request::Request;
use crate::model::request::RequestError;
use crate::model::request::split_target;

/// The message; whatever the gate does not read is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub attributes: Attributes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Peer>,
    pub request: HttpAttributes,
    #[serde(rename = "contextExtensions", alias = "context_extensions", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context_extensions: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub principal: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    #[serde(rename = "socketAddress", alias = "socket_address", default, skip_serializing_if = "Option::is_none")]
    pub socket_address: Option<SocketAddress>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketAddress {
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAttributes {
    pub http: Http,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    pub method: String,
    pub host: String,
    /// The target, query included.
    pub path: String,
    /// The joined form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The raw form, one entry a line.
    #[serde(rename = "headerMap", alias = "header_map", default, skip_serializing_if = "Option::is_none")]
    pub header_map: Option<HeaderMap>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMap {
    pub headers: Vec<Header>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// base64.
    #[serde(rename = "rawValue", alias = "raw_value", default, skip_serializing_if = "Option::is_none")]
    pub raw_value: Option<String>,
}

impl Asked {
    /// Names in lower case, and values, in their order.
    ///
    /// # Errors
    /// The name of a header whose value is no base64.
    pub fn headers(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let http = &self.attributes.request.http;
        let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|header| match &header.raw_value {
            Some(text) if !text.is_empty() => {
                let bytes = STANDARD.decode(text).map_err(|_error| format!("the raw value of `{}` is no base64", header.key))?;
                Ok((header.key.to_ascii_lowercase(), bytes))
            }
            Some(_) | None => Ok((header.key.to_ascii_lowercase(), header.value.clone().into_bytes())),
        });
        let joined = http.headers.iter().map(|(name, value)| Ok((name.to_ascii_lowercase(), value.clone().into_bytes())));
        joined.chain(raw).collect()
    }

    pub fn peer_address(&self) -> Option<IpAddr> {
        self.attributes.source.as_ref()?.address.as_ref()?.socket_address.as_ref()?.address.parse().ok()
    }

    pub fn principal(&self) -> Option<&str> {
        self.attributes.source.as_ref().map(|peer| peer.principal.as_str()).filter(|principal| !principal.is_empty())
    }

    pub fn chosen_route(&self) -> Option<&str> {
        self.attributes.context_extensions.get("route").map(String::as_str)
    }

    /// Method and path without the query, for people.
    pub fn line(&self) -> String {
        let http = &self.attributes.request.http;
        format!("{} {}", http.method, http.path.split('?').next().unwrap_or_default())
    }

    /// The request made plain. `headers` are those of [`Self::headers`].
    ///
    /// # Errors
    /// As reading it from Envoy.
    pub fn plain<'a>(&'a self, headers: &'a [(String, Vec<u8>)]) -> Result<Request<'a>, RequestError> {
        let http = &self.attributes.request.http;
        let (path, query) = split_target(http.path.as_bytes())?;
        Ok(Request {
            method: Method::parse(http.method.as_bytes())?,
            host: Host::parse(http.host.as_bytes())?,
            path: Path::parse(path)?,
            query,
            headers: Headers::new(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect()),
            peer_address: self.peer_address(),
            principal: self.principal(),
            chosen_route: self.chosen_route(),
        })
    }
}
