//! Where a request came from.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::issuer::IssuerState;
use crate::issuer::callers::address_of;
use crate::listen::http::Peer;

/// The client's address, as far as the proxies before us are trusted; none over the control socket.
#[derive(Clone, Copy, Debug)]
pub(in crate::issuer) struct ClientAddress(pub Option<IpAddr>);

impl FromRequestParts<IssuerState> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &IssuerState) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Peer>().copied();
        std::future::ready(Ok(Self(client_address(state, peer, &parts.headers)))).await
    }
}

/// The client's address behind the trusted proxies.
pub(in crate::issuer) fn client_address(state: &IssuerState, peer: Option<Peer>, headers: &HeaderMap) -> Option<IpAddr> {
    address_of(headers, peer.as_ref(), &state.rules.load())
}
