//! The way out: `GET /sign-in/{provider}`.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::federation::answer;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::ask;
use crate::issuer::federation::ask::Journey;
use crate::issuer::federation::browser;
use crate::issuer::federation::issuance;
use crate::issuer::parameters::Parameters;
use crate::model::issuance::Issuance;
use crate::model::issuance::Provider;
use crate::model::time::Timestamp;

const INVITATION_BYTES_MAX: usize = 256;

/// Sends the browser to the provider. `return_to` is a path of ours, `invitation` is for who has no account yet, and `prompt=none`
/// signs in only whom the provider knows already (seed 003's automatic login).
pub(super) async fn sign_in(
    State(state): State<IssuerState>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let now = state.clock.now();
    begin(&state, path, uri.query(), &headers, now).await.unwrap_or_else(Stop::into_response)
}

async fn begin(
    state: &IssuerState,
    path: Result<Path<String>, PathRejection>,
    query: Option<&str>,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Response, Stop> {
    let issuance = issuance(state)?;
    let provider = provider(&issuance, path)?;
    let journey = read(query)?;
    let automatic = journey.automatic;
    let back = answer::sign_in_page(journey.return_to.as_deref());
    match set_out(state, &issuance, provider, headers, &journey, now).await {
        Ok((target, cookie)) => Ok(answer::with_cookie(answer::redirect(&target), cookie.as_deref())),
        // Nobody asked for this sign-in, so nobody is shown its trouble.
        Err(_stop) if automatic => Ok(answer::redirect(&back)),
        Err(stop) => Err(stop),
    }
}

/// The address at the provider, and the `set-cookie` that lets the browser be known on its way back.
pub(super) async fn set_out(
    state: &IssuerState,
    issuance: &Issuance,
    provider: &Provider,
    headers: &HeaderMap,
    journey: &Journey,
    now: Timestamp,
) -> Result<(String, Option<String>), Stop> {
    let upstream = state.federation.upstream(provider, issuance);
    let metadata = upstream.metadata(now).await.ok_or_else(Stop::provider_down)?;
    let browser = browser::meet(state, headers)?;
    let target = ask::ask(state, issuance, provider, &metadata, &browser.mark, journey, now).await?;
    Ok((target, browser.cookie))
}

/// The provider that the path names.
pub(super) fn provider(issuance: &Arc<Issuance>, path: Result<Path<String>, PathRejection>) -> Result<&Provider, Stop> {
    let named = path.ok().and_then(|Path(name)| issuance.provider(&name));
    named.ok_or_else(Stop::no_such_provider)
}

fn read(query: Option<&str>) -> Result<Journey, Stop> {
    let mut parameters = Parameters::read(query)?;
    let local = |path: &str| ask::is_local_path(path).then(|| path.to_owned());
    let return_to = parameters.parsed("return_to", local, "must be a path of this server")?;
    let short = |text: &str| (text.len() <= INVITATION_BYTES_MAX).then(|| text.to_owned());
    let invitation = parameters.parsed("invitation", short, "must be an invitation's text")?.filter(|text| !text.is_empty());
    let automatic = parameters.parsed("prompt", |text| (text == "none").then_some(true), "must be `none` or absent")?;
    parameters.finish("return_to, invitation, prompt")?;
    Ok(Journey { return_to, invitation, automatic: automatic.unwrap_or(false), link_to: None })
}
