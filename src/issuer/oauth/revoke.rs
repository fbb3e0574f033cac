//! `/oauth/revoke`: RFC 7009. A refresh token takes its whole family with it; an access token is remembered as taken back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::audit::Deed;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::asked::Asked;
use crate::issuer::oauth::checks::Check;
use crate::issuer::oauth::checks::Checks;
use crate::issuer::oauth::checks::Stop;
use crate::issuer::oauth::checks::run;
use crate::issuer::oauth::client_auth::authenticate;
use crate::issuer::oauth::families;
use crate::issuer::oauth::form::Bodies;
use crate::issuer::oauth::form::Form;
use crate::issuer::oauth::inspect;
use crate::issuer::oauth::inspect::Traced;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::time::Timestamp;

/// A token that is to be taken back, and by whom.
pub(in crate::issuer) struct Takeback {
    client: Arc<ClientRecord>,
    grant: GrantRecord,
    /// The `client_id` of a signed token.
    issued_to: Option<Arc<str>>,
}

pub(in crate::issuer) fn checks() -> Vec<Check<Takeback>> {
    vec![Check { name: "the token is this client's to take back", run: is_its_own }]
}

pub(in crate::issuer) async fn answer(
    State(state): State<IssuerState>,
    Extension(checks): Extension<Arc<Checks>>,
    request: Request,
) -> Response {
    revoke(&state, &checks, request).await.unwrap_or_else(Refusal::into_response)
}

async fn revoke(state: &IssuerState, checks: &Checks, request: Request) -> Result<Response, Refusal> {
    let rules = state.rules.load_full();
    let (asked, body) = Asked::new(request, &rules);
    let form = Form::read(&asked.headers, asked.query.as_deref(), body, Bodies::Form).await?;
    let now = state.clock.now();
    let client = authenticate(state, &rules, checks, &asked, &form, now).await?;
    // The hint is not needed: every text tells by itself what it is.
    let token = form.required("token")?;
    if let Some(traced) = inspect::trace(state, &rules, token, now)? {
        take_back(state, checks, &client, &traced, &asked, now).await?;
    }
    let mut response = StatusCode::OK.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// What is another client's, and what opens nothing, is answered as what was taken back: the answer tells nobody which tokens exist.
async fn take_back(
    state: &IssuerState,
    checks: &Checks,
    client: &Arc<ClientRecord>,
    traced: &Traced,
    asked: &Asked,
    now: Timestamp,
) -> Result<(), Refusal> {
    for _attempt in 0..families::ATTEMPTS {
        let Some((grant, version)) = families::load(state, traced.grant()).await? else { return Ok(()) };
        let issued_to = match traced {
            Traced::Signed { claims, .. } => claims.client.clone(),
            Traced::Refresh { .. } | Traced::Opaque { .. } => None,
        };
        let takeback = Takeback { client: Arc::clone(client), grant, issued_to };
        if run(&checks.revoke, &takeback).is_err() {
            return Ok(());
        }
        let mut grant = takeback.grant;
        match grant.state {
            GrantState::Live => {}
            GrantState::Pending(_) | GrantState::Ended { .. } => return Ok(()),
        }
        let is_noted = match traced {
            Traced::Refresh { .. } => false,
            Traced::Opaque { number, .. } => match families::out_token(&grant, *number, now).map(|token| token.expires) {
                Some(expires) => families::take_back(&mut grant, &number.to_string(), expires, now),
                None => return Ok(()),
            },
            Traced::Signed { claims, .. } => match &claims.token_id {
                Some(id) if grant.has_revoked(id) => return Ok(()),
                Some(id) => families::take_back(&mut grant, id, claims.expires.plus(LEEWAY), now),
                None => false,
            },
        };
        // One token was all that this grant was for; who traded it for another took that one back alone.
        let was_only_one = matches!(&grant.of, GrantOf::Client { client: own } if *own == client.id);
        if !is_noted || was_only_one {
            families::finish(&mut grant, GrantEnd::Revoked, now);
        }
        if families::replace(state, &grant, version, now).await? {
            tracing::info!(grant = %grant.id, client = %client.id, "token revoked");
            families::note(state, client, Deed::GrantRevoked, &grant, asked.address, now).await;
            return Ok(());
        }
    }
    Err(families::contended(traced.grant()).into())
}

/// How long after its end a token still passes a clock that is late.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(60);

fn is_its_own(takeback: &Takeback) -> Result<(), Stop> {
    let is_grants = takeback.grant.client() == Some(&takeback.client.id);
    let is_tokens = takeback.issued_to.as_deref() == Some(takeback.client.id.as_str());
    if is_grants || is_tokens { Ok(()) } else { Err(Refusal::grant().into()) }
}
