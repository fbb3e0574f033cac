//! The way out: `GET /sign-in/{provider}`.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::federation::answer;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::ask;
use crate::issuer::federation::ask::Journey;
use crate::issuer::federation::browser;
use crate::issuer::pages;
use crate::issuer::pages::visit::Visit;
use crate::issuer::pages::visit::is_local;
use crate::issuer::parameters::Parameters;
use crate::model::issuance::Issuance;
use crate::model::issuance::Provider;

const INVITATION_BYTES_MAX: usize = 256;
/// Of one address: each leaves a ticket on the shelf for a while, and nobody has proven anything yet.
const SET_OUTS_PER_MINUTE: u32 = 120;

/// Sends the browser to the provider. `return_to` is a path of ours, `invitation` is for who has no account yet, and `prompt=none`
/// signs in only whom the provider knows already (seed 003's automatic login).
pub(super) async fn sign_in(State(state): State<IssuerState>, path: Result<Path<String>, PathRejection>, request: Request) -> Response {
    match Visit::begin(&state, request) {
        Ok((visit, _body)) => begin(&state, path, &visit).await.unwrap_or_else(|stop| stop.show(&visit)),
        Err(problem) => problem.into_response(),
    }
}

async fn begin(state: &IssuerState, path: Result<Path<String>, PathRejection>, visit: &Visit) -> Result<Response, Stop> {
    let provider = provider(&visit.issuance, path)?;
    let journey = read(&visit.query)?;
    match set_out(state, provider, &journey, visit).await {
        Ok((target, cookie)) => Ok(pages::with_cookie(pages::go_to(&target), cookie)),
        // Nobody asked for this sign-in, so nobody is shown its trouble.
        Err(_stop) if journey.automatic => Ok(pages::go_to(&answer::sign_in_page(visit, journey.return_to.as_deref()))),
        Err(stop) => Err(stop),
    }
}

/// The address at the provider, and the `set-cookie` that lets the browser be known on its way back.
pub(super) async fn set_out(
    state: &IssuerState,
    provider: &Provider,
    journey: &Journey,
    visit: &Visit,
) -> Result<(String, Option<String>), Stop> {
    state.passwords.guesses().charge("sign-in elsewhere", visit.address, SET_OUTS_PER_MINUTE, visit.now)?;
    let upstream = state.federation.upstream(provider, &visit.issuance);
    let metadata = upstream.metadata(visit.now).await.ok_or_else(Stop::provider_down)?;
    let browser = browser::meet(state, &visit.headers)?;
    let target = ask::ask(state, provider, &metadata, &browser.mark, journey, visit).await?;
    Ok((target, browser.cookie))
}

/// The provider that the path names.
pub(super) fn provider(issuance: &Arc<Issuance>, path: Result<Path<String>, PathRejection>) -> Result<&Provider, Stop> {
    let named = path.ok().and_then(|Path(name)| issuance.provider(&name));
    named.ok_or_else(Stop::no_such_provider)
}

fn read(query: &str) -> Result<Journey, Stop> {
    let mut parameters = Parameters::read(Some(query))?;
    let local = |path: &str| is_local(path).then(|| path.to_owned());
    let return_to = parameters.parsed("return_to", local, "must be a path of this server")?;
    let short = |text: &str| (text.len() <= INVITATION_BYTES_MAX).then(|| text.to_owned());
    let invitation = parameters.parsed("invitation", short, "must be an invitation's text")?.filter(|text| !text.is_empty());
    let automatic = parameters.parsed("prompt", |text| (text == "none").then_some(true), "must be `none` or absent")?;
    parameters.finish("return_to, invitation, prompt")?;
    Ok(Journey { return_to, invitation, automatic: automatic.unwrap_or(false), link_to: None })
}
