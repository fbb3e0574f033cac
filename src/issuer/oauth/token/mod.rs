//! `/oauth/token`: RFC 6749 section 3.2.

pub mod audience;
pub mod client_credentials;
pub mod code;
pub mod exchange;
pub mod mint;
pub mod refresh;

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;

use crate::issuer::IssuerState;
use crate::issuer::oauth::answer::Fault;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::asked::Asked;
use crate::issuer::oauth::checks::Check;
use crate::issuer::oauth::checks::Checks;
use crate::issuer::oauth::checks::Stop;
use crate::issuer::oauth::checks::run;
use crate::issuer::oauth::client_auth::authenticate;
use crate::issuer::oauth::form::Bodies;
use crate::issuer::oauth::form::Form;
use crate::issuer::oauth::introspect;
use crate::issuer::oauth::revoke;
use crate::model::client::ClientRecord;
use crate::model::client::GrantType;
use crate::model::issuance::Compatibility;
use crate::model::issuance::Issuance;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// Everything that a grant's own file needs.
pub(in crate::issuer) struct Bench<'b> {
    pub(in crate::issuer) state: &'b IssuerState,
    pub(in crate::issuer) rules: &'b Rules,
    pub(in crate::issuer) issuance: &'b Issuance,
    pub(in crate::issuer) checks: &'b Checks,
    pub(in crate::issuer) client: Arc<ClientRecord>,
    pub(in crate::issuer) address: Option<std::net::IpAddr>,
    pub(in crate::issuer) now: Timestamp,
}

/// A client and the kind of grant that it asks for.
pub(in crate::issuer) struct Asking {
    client: Arc<ClientRecord>,
    grant_type: GrantType,
}

/// `/oauth/token`, `/oauth/revoke` and `/oauth/introspect`.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    router_with(Checks::all())
}

/// The same with other lists of checks: for tests.
pub(in crate::issuer) fn router_with(checks: Checks) -> Router<IssuerState> {
    Router::new()
        .route("/oauth/token", post(answer))
        .route("/oauth/revoke", post(revoke::answer))
        .route("/oauth/introspect", post(introspect::answer))
        .layer(Extension(Arc::new(checks)))
}

pub(in crate::issuer) fn asking_checks() -> Vec<Check<Asking>> {
    vec![Check { name: "the client is registered for this grant", run: is_registered }]
}

fn is_registered(asking: &Asking) -> Result<(), Stop> {
    if asking.client.grant_types.contains(&asking.grant_type) {
        return Ok(());
    }
    Err(Refusal::new(Fault::UnauthorizedClient, "the client is not registered for this grant type").into())
}

async fn answer(State(state): State<IssuerState>, Extension(checks): Extension<Arc<Checks>>, request: Request) -> Response {
    exchange_for_token(&state, &checks, request).await.unwrap_or_else(Refusal::into_response)
}

async fn exchange_for_token(state: &IssuerState, checks: &Checks, request: Request) -> Result<Response, Refusal> {
    let rules = state.rules.load_full();
    let issuance = rules.issuance.clone().ok_or_else(no_issuance)?;
    let (asked, body) = Asked::new(request, &rules);
    let bodies = if issuance.serves(Compatibility::JsonToken) { Bodies::FormOrJson } else { Bodies::Form };
    let form = Form::read(&asked.headers, asked.query.as_deref(), body, bodies).await?;
    let now = state.clock.now();
    let named = form.required("grant_type")?;
    let known = GrantType::ALL.into_iter().find(|known| known.as_str() == named);
    let grant_type = known.ok_or_else(|| Refusal::new(Fault::UnsupportedGrantType, "this grant type is not supported"))?;
    let client = authenticate(state, &rules, checks, &asked, &form, now).await?;
    let asking = Asking { client: Arc::clone(&client), grant_type };
    run(&checks.asking, &asking).map_err(|stop| stop.refusal)?;
    let bench = Bench { state, rules: &rules, issuance: &issuance, checks, client, address: asked.address, now };
    let form = Arc::new(form);
    match grant_type {
        GrantType::AuthorizationCode => code::redeem(&bench, &form).await,
        GrantType::RefreshToken => refresh::refresh(&bench, &form).await,
        GrantType::ClientCredentials => client_credentials::grant(&bench, &form).await,
        GrantType::TokenExchange => exchange::exchange(&bench, &form).await,
    }
}

pub(in crate::issuer) fn no_issuance() -> Refusal {
    Refusal::unavailable("nothing is issued here: the config has no issuer")
}

#[cfg(test)]
pub(in crate::issuer) mod tests;
