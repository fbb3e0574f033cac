//! Who calls `listen.issuer`, judged by the gate's own rooms, or by the session of a person on our pages.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::check::identify_caller::identify_caller;
use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::audit;
use crate::issuer::audit::Deed;
use crate::issuer::audit::Entry;
use crate::issuer::audit::changes::Audited;
use crate::issuer::audit::changes::Change;
use crate::issuer::audit::changes::compare;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::listen::http::Peer;
use crate::model::request;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

const FORWARDED: &str = "x-forwarded-for";

/// What a change by cookie carries beside it: the value of a form of ours for this purpose.
pub const FORM_HEADER: &str = "x-csrf-token";
/// The purpose of that form value.
pub const FORM_PURPOSE: &str = "api";

/// The id of a request, as its answer and the log name it.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// Who asks, and from where.
#[derive(Clone, Debug)]
pub struct Asker {
    pub actor: Actor,
    /// None: over the control socket.
    pub address: Option<IpAddr>,
    pub request_id: Option<RequestId>,
}

impl FromRequestParts<IssuerState> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &IssuerState) -> Result<Self, Problem> {
        let Some(actor) = parts.extensions.get::<Actor>().cloned() else { return Err(Problem::unauthenticated()) };
        let address = client_address(parts, &state.rules.load());
        Ok(Self { actor, address, request_id: parts.extensions.get().cloned() })
    }
}

impl Asker {
    /// Writes into the audit log what this one did.
    pub async fn note(&self, state: &IssuerState, deed: Deed, subject: &str, organization: Option<&str>, now: Timestamp) {
        audit::note(state, self.entry(deed, subject, organization, &[]), now).await;
    }

    /// Writes into the audit log what this one changed.
    pub(in crate::issuer) async fn note_change<R: Audited>(
        &self,
        state: &IssuerState,
        deed: Deed,
        (before, after): (&R, &R),
        now: Timestamp,
    ) {
        let changes = compare(before, after);
        audit::note(state, self.entry(deed, after.id(), after.organization(), &changes), now).await;
    }

    fn entry<'a>(&'a self, deed: Deed, subject: &'a str, organization: Option<&'a str>, changes: &'a [Change]) -> Entry<'a> {
        let request_id = self.request_id.as_ref().map(|id| &*id.0);
        Entry { deed, actor: &self.actor, subject, organization, address: self.address, request_id, changes }
    }
}

/// A layer for what only somebody known may ask: the request then carries its [`Actor`].
pub async fn judge(State(state): State<IssuerState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match identify(&state, &parts).await {
        Ok(Some(actor)) => {
            parts.extensions.insert(actor);
            next.run(Request::from_parts(parts, body)).await
        }
        Ok(None) => Problem::unauthenticated().into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Who sends this request; none: it shows nothing. What it shows in its headers goes before its cookie.
///
/// # Errors
/// A credential that is not good, a change by cookie that did not come from a page of ours, a store that does not answer.
pub async fn identify(state: &IssuerState, parts: &Parts) -> Result<Option<Actor>, Problem> {
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let shown = plain(parts, &rules)?;
    if let Some(caller) = identify_caller(&shown, &state.gate, &rules, now).await? {
        return Ok(Some(Actor::Caller(caller)));
    }
    let Some(person) = sessions::current(state, &parts.headers, now).await? else { return Ok(None) };
    run(&ByCookie::CHECKS, &ByCookie { state, parts })?;
    Ok(Some(Actor::Person(Arc::new(person))))
}

/// A request that a browser's cookie proves.
pub(in crate::issuer) struct ByCookie<'a> {
    state: &'a IssuerState,
    parts: &'a Parts,
}

impl ByCookie<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 1] =
        [Check { name: "a change by cookie comes from a page of ours", run: comes_from_a_page }];
}

fn comes_from_a_page(request: &ByCookie<'_>) -> Result<(), Problem> {
    let ByCookie { state, parts } = request;
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let value = parts.headers.get(FORM_HEADER).and_then(|value| value.to_str().ok());
    sessions::check_form(state, &parts.headers, FORM_PURPOSE, value).map_err(name_the_header)
}

/// A refused form, as programs in a page read it.
fn name_the_header(problem: Problem) -> Problem {
    if problem.code != Code::Forbidden {
        return problem;
    }
    let expected =
        format!("a change by cookie comes from a page of this origin, with `csrf_token` of /v1/sessions/self as `{FORM_HEADER}`");
    Problem::new(Code::Forbidden, expected)
}

/// The address that a request came from, behind as many proxies as the config trusts.
pub fn client_address(parts: &Parts, rules: &Rules) -> Option<IpAddr> {
    address_of(&parts.headers, parts.extensions.get::<Peer>(), rules)
}

/// The same, for handlers that take headers and peer apart. The proxies before this door are counted by themselves: the gate is asked
/// by Envoy, and this door stands behind it. An entry that no trusted proxy wrote is never believed.
pub fn address_of(headers: &HeaderMap, peer: Option<&Peer>, rules: &Rules) -> Option<IpAddr> {
    let peer = peer.and_then(|peer| peer.0).map(|address| address.ip().to_canonical());
    let hops = rules.issuance.as_ref().map_or(0, |issuance| issuance.trusted_hops);
    let Some(back) = usize::from(hops).checked_sub(1) else { return peer };
    let lists: Vec<&[u8]> = headers.get_all(FORWARDED).iter().map(HeaderValue::as_bytes).collect();
    let mut from_right = lists.iter().rev().flat_map(|list| list.rsplit(|byte| *byte == b','));
    from_right.nth(back).and_then(request::parse_forwarded).or(peer)
}

/// The request as the rooms read it, with the client's address already found.
fn plain<'m>(parts: &'m Parts, rules: &Rules) -> Result<request::Request<'m>, Problem> {
    let others = parts.headers.iter().filter(|(name, _)| *name != FORWARDED);
    let entries = others.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
    door(request::Headers::new(entries), parts.uri.query(), client_address(parts, rules))
}

/// What the rooms need of a request to our own door. Host and path chose the door already and say nothing of who calls.
fn door<'m>(headers: request::Headers<'m>, query: Option<&'m str>, peer: Option<IpAddr>) -> Result<request::Request<'m>, Problem> {
    let unread = |_error| Problem::new(Code::InvalidRequest, "the request could not be read");
    Ok(request::Request {
        method: request::Method::Get,
        host: request::Host::parse(b"issuer").map_err(unread)?,
        path: request::Path::parse(b"/").map_err(unread)?,
        query,
        headers,
        peer_address: peer,
        principal: None,
        chosen_route: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::tests::Issuer;

    #[tokio::test]
    async fn an_address_is_believed_as_far_as_the_proxies_before_this_door_are() {
        let told = |hops: u8, lists: &[&str]| {
            let issuer = Issuer::issuing(|issuance| issuance.trusted_hops = hops);
            let headers = lists.iter().map(|list| (FORWARDED.parse().unwrap(), list.parse().unwrap())).collect();
            let peer = Peer(Some("[::ffff:10.0.0.1]:7".parse().unwrap()));
            address_of(&headers, Some(&peer), &issuer.state.rules.load()).unwrap().to_string()
        };
        let list = "6.6.6.6, 1.2.3.4, [2001:db8::1]:7";
        for (hops, lists, expected) in [
            (0, &[list][..], "10.0.0.1"),
            (1, &[list], "2001:db8::1"),
            (2, &[list], "1.2.3.4"),
            (3, &[list], "6.6.6.6"),
            (1, &["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            // Whom nobody trusted wrote, and what is no address, is not believed.
            (4, &[list], "10.0.0.1"),
            (1, &["unknown"], "10.0.0.1"),
            (1, &[], "10.0.0.1"),
        ] {
            assert_eq!(told(hops, lists), expected, "{hops} {lists:?}");
        }
        assert_eq!(address_of(&HeaderMap::new(), None, &Issuer::issuing(|_| ()).state.rules.load()), None, "the control socket");
    }
}
