//! The way back: `GET /sign-in/{provider}/callback`.

use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::checks::run;
use crate::issuer::federation::answer;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::arrive;
use crate::issuer::federation::ask;
use crate::issuer::federation::ask::Journey;
use crate::issuer::federation::ask::Proofs;
use crate::issuer::federation::browser;
use crate::issuer::federation::exchange;
use crate::issuer::federation::exchange::Proof;
use crate::issuer::federation::is_error_code;
use crate::issuer::federation::judge;
use crate::issuer::federation::judge::Returned;
use crate::issuer::federation::start;
use crate::issuer::pages;
use crate::issuer::pages::visit::Visit;
use crate::issuer::parameters::Parameters;
use crate::jose::id_token::Expected;
use crate::jose::id_token::IdToken;
use crate::model::issuance::Provider;
use crate::store::StoreError;

const CODE_BYTES_MAX: usize = 8 * 1024;

/// Judges what the provider sent the browser back with, and signs it in.
pub(super) async fn callback(State(state): State<IssuerState>, path: Result<Path<String>, PathRejection>, request: Request) -> Response {
    match Visit::begin(&state, request) {
        Ok((visit, _body)) => receive(&state, path, &visit).await.unwrap_or_else(|stop| stop.show(&visit)),
        Err(problem) => problem.into_response(),
    }
}

async fn receive(state: &IssuerState, path: Result<Path<String>, PathRejection>, visit: &Visit) -> Result<Response, Stop> {
    let provider = start::provider(&visit.issuance, path)?;
    let mut shown = Parameters::read(Some(&visit.query))?;
    let handle = shown.text("state").ok_or_else(Stop::over)?;
    let (ticket, version) = ask::find_ticket(state, &handle).await?;
    let upstream = state.federation.upstream(provider, &visit.issuance);
    let metadata = upstream.metadata(visit.now).await.ok_or_else(Stop::provider_down)?;
    let browser = browser::known(state, &visit.headers)?;
    let issuer = shown.text("iss");
    let returned = Returned {
        provider,
        ticket: &ticket,
        browser: browser.as_deref(),
        issuer: issuer.as_deref(),
        promises_issuer: metadata.promises_issuer,
        now: visit.now,
    };
    if let Err(mismatch) = run(&judge::checks(), &returned) {
        tracing::info!(provider = &*provider.name, %mismatch, "a sign-in elsewhere was refused");
        return Err(Stop::over());
    }
    ask::take_ticket(state, &ticket, version, visit.now).await?;
    let corrupt = |_error| StoreError::Corrupt { key: format!("ticket/{}", ticket.id), why: "it holds no journey".to_owned() };
    let journey: Journey = serde_json::from_value(ticket.data.clone()).map_err(corrupt)?;
    let Some(code) = shown.text("code").filter(|code| (1..=CODE_BYTES_MAX).contains(&code.len())) else {
        return refused(visit, provider, &journey, shown.text("error").as_deref());
    };
    let proofs = Proofs::of(state, &ticket.id)?;
    let token = prove(state, provider, &code, &proofs, visit).await?;
    match journey.link_to.clone() {
        Some(user) => arrive::link(state, provider, token, &user, visit).await,
        None => arrive::sign_in(state, provider, token, &journey, &ticket.browser, visit).await,
    }
}

/// The provider says no, or the person did there.
fn refused(visit: &Visit, provider: &Provider, journey: &Journey, error: Option<&str>) -> Result<Response, Stop> {
    let code = error.filter(|code| is_error_code(code)).unwrap_or("none that could be read");
    tracing::info!(provider = &*provider.name, error = code, "a provider signed nobody in");
    if journey.automatic {
        return Ok(pages::go_to(&answer::sign_in_page(visit, journey.return_to.as_deref())));
    }
    Err(Stop::refused("The provider did not sign you in. Please begin again, or sign in another way."))
}

async fn prove(state: &IssuerState, provider: &Provider, code: &str, proofs: &Proofs, visit: &Visit) -> Result<IdToken, Stop> {
    let upstream = state.federation.upstream(provider, &visit.issuance);
    let metadata = upstream.metadata(visit.now).await.ok_or_else(Stop::provider_down)?;
    let redirect_uri = ask::redirect_uri(&visit.issuance, provider);
    let proof = Proof { code, verifier: &proofs.verifier, redirect_uri: &redirect_uri };
    let text = exchange::exchange(&upstream, provider, &metadata, &proof).await.map_err(|error| {
        tracing::warn!(provider = &*provider.name, %error, "a provider took no code");
        Stop::provider_down()
    })?;
    let expected = Expected { issuer: &provider.issuer, tenants: &provider.tenants, client_id: &provider.client_id, nonce: &proofs.nonce };
    // Asked of the clock again: the provider may have taken its time, and signed after we began.
    upstream.judge(&metadata, &text, &expected, state.clock.now()).await.map_err(|error| {
        tracing::warn!(provider = &*provider.name, %error, "a provider's ID token is not believed");
        Stop::not_believed()
    })
}
