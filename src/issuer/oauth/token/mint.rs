//! Making access tokens, signed or opaque, and the answer that carries them.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::answer::unstored;
use crate::issuer::oauth::families;
use crate::issuer::oauth::token::Bench;
use crate::jose::signer::AccessClaims;
use crate::model::client::AccessTokenForm;
use crate::model::grant::GrantRecord;
use crate::model::handle::HandleKind;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::random_id;

/// What the next access token is to say.
pub(in crate::issuer) struct Order<'o> {
    pub(in crate::issuer) subject: &'o str,
    pub(in crate::issuer) form: AccessTokenForm,
    pub(in crate::issuer) scopes: Arc<ScopeSet>,
    pub(in crate::issuer) audience: Vec<Arc<str>>,
    /// Its end, whatever the configured lifetime would allow.
    pub(in crate::issuer) no_later_than: Timestamp,
    pub(in crate::issuer) act: Option<&'o serde_json::Value>,
}

/// An access token that is good once the grant it stands on is on the shelf.
pub(in crate::issuer) struct Minted {
    text: Zeroizing<String>,
    scopes: Arc<ScopeSet>,
    pub(in crate::issuer) expires: Timestamp,
}

/// RFC 6749 section 5.1, RFC 8693 section 2.2.1.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenAnswer, example = json!({
    "access_token": "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9…", "token_type": "Bearer", "expires_in": 600, "scope": "orders:read",
    "refresh_token": "tg_rt_…"
}))]
pub(in crate::issuer) struct Success<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

/// Whole seconds, as tokens tell time.
pub(in crate::issuer) fn whole(instant: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(instant.unix_seconds())
}

/// Makes an access token under a grant. An opaque one is entered in the record, which its caller puts on the shelf.
///
/// # Errors
/// When it cannot be signed now.
pub(in crate::issuer) async fn mint(bench: &Bench<'_>, grant: &mut GrantRecord, order: Order<'_>) -> Result<Minted, Refusal> {
    let Order { subject, form, scopes, audience, no_later_than, act } = order;
    let issued = whole(bench.now);
    let expires = issued.plus(bench.issuance.lifetimes.access_token).min(whole(no_later_than));
    let text = match form {
        AccessTokenForm::Jwt(algorithm) => {
            let jti = random_id()?;
            let claims = AccessClaims {
                iss: &bench.issuance.url,
                aud: &audience,
                sub: subject,
                client_id: bench.client.id.as_str(),
                grant: grant.id.as_str(),
                scope: &scopes,
                jti: &jti,
                iat: issued,
                exp: expires,
                act,
            };
            Zeroizing::new(bench.state.signer.sign(&claims, algorithm).await?)
        }
        AccessTokenForm::Opaque => {
            let number = families::put_out(grant, Arc::clone(&scopes), audience, bench.now, expires)
                .ok_or_else(|| Refusal::unavailable("this grant has no room for another token; end it and begin anew"))?;
            opaque(bench, grant, number)?
        }
    };
    Ok(Minted { text, scopes, expires })
}

/// The opaque token that was made last, where it is as wanted: a repeated question is answered with it, and nothing is written.
pub(in crate::issuer) fn remint(
    bench: &Bench<'_>,
    grant: &GrantRecord,
    scopes: &Arc<ScopeSet>,
    audience: &[Arc<str>],
) -> Result<Option<Minted>, Refusal> {
    use crate::model::grant::AccessState;
    let Some(number) = grant.access.iter().filter_map(families::number_of).max() else { return Ok(None) };
    let Some(token) = families::out_token(grant, number, bench.now) else { return Ok(None) };
    let is_as_wanted = match &token.state {
        AccessState::Out { issued, scopes: held, audience: at } => held == scopes && *at == *audience && *issued >= grant.advanced,
        AccessState::Revoked => false,
    };
    if !is_as_wanted {
        return Ok(None);
    }
    Ok(Some(Minted { text: opaque(bench, grant, number)?, scopes: Arc::clone(scopes), expires: token.expires }))
}

fn opaque(bench: &Bench<'_>, grant: &GrantRecord, number: u32) -> Result<Zeroizing<String>, Refusal> {
    let peppers = &bench.state.peppers;
    Ok(peppers.handle(&bench.rules.key_brand, HandleKind::Access, grant.id.as_str(), number, peppers.current_id())?)
}

/// The refresh token of a grant's generation.
///
/// # Errors
/// When its pepper is not configured any more.
pub(in crate::issuer) fn refresh_token(bench: &Bench<'_>, grant: &GrantRecord) -> Result<Zeroizing<String>, Refusal> {
    Ok(bench.state.peppers.handle(&bench.rules.key_brand, HandleKind::Refresh, grant.id.as_str(), grant.generation, &grant.pepper)?)
}

/// The answer with a token.
pub(in crate::issuer) fn success(
    bench: &Bench<'_>,
    minted: &Minted,
    refresh_token: Option<&str>,
    issued_token_type: Option<&'static str>,
) -> Response {
    let body = Success {
        access_token: &minted.text,
        token_type: "Bearer",
        expires_in: minted.expires.since(whole(bench.now)).as_secs(),
        scope: minted.scopes.to_string(),
        refresh_token,
        issued_token_type,
    };
    unstored(StatusCode::OK, &body)
}
