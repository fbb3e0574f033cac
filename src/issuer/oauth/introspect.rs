//! `/oauth/introspect`: RFC 7662. Whoever may not see a token hears what is heard of one that does not exist.

use std::sync::Arc;

use axum::Extension;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::actor;
use crate::issuer::oauth::answer::Fault;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::answer::unstored;
use crate::issuer::oauth::asked::Asked;
use crate::issuer::oauth::asked::Attempt;
use crate::issuer::oauth::checks::Check;
use crate::issuer::oauth::checks::Checks;
use crate::issuer::oauth::checks::Stop;
use crate::issuer::oauth::checks::run;
use crate::issuer::oauth::client_auth::authenticate;
use crate::issuer::oauth::form::Bodies;
use crate::issuer::oauth::form::Form;
use crate::issuer::oauth::inspect;
use crate::issuer::oauth::inspect::Active;
use crate::issuer::oauth::inspect::Kind;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::quota::Limit;
use crate::model::rules::GuardLimits;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// Questions about tokens that are nothing, for each caller: a scanner asks no others.
const SCANS: GuardLimits = {
    let limit = Limit { per_minute: 120, depth: 120 };
    GuardLimits { per_address: limit, per_key_prefix: limit }
};

/// Who asks.
pub(in crate::issuer) enum Asker {
    Client(Arc<ClientRecord>),
    /// A key or an access token of its own.
    Bearer(Box<Active>),
}

/// A question about a token that is good.
pub(in crate::issuer) struct Sight {
    asker: Asker,
    token: Active,
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Introspection, example = json!({
    "active": true, "scope": "orders:read", "client_id": "app_0123456789abcdefghij", "sub": "ann", "aud": "https://api.example.com",
    "iss": "https://id.example.com", "iat": 1_800_000_000, "exp": 1_800_000_600, "token_type": "Bearer", "jti": "4Fz0c2Qk1LmN7sVb3xYt0A"
}))]
pub(in crate::issuer) struct Answer<'a> {
    /// False: nothing else is said.
    active: bool,
    #[schema(required = false)]
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[schema(required = false)]
    sub: &'a str,
    /// One text, or a list of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<Value>,
    #[schema(required = false)]
    iss: &'a str,
    #[schema(required = false)]
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[schema(required = false)]
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'a Value>,
}

pub(in crate::issuer) fn checks() -> Vec<Check<Sight>> {
    vec![Check { name: "the token is the asker's to see", run: may_see }]
}

pub(in crate::issuer) async fn answer(
    State(state): State<IssuerState>,
    Extension(checks): Extension<Arc<Checks>>,
    request: Request,
) -> Response {
    introspect(&state, &checks, request).await.unwrap_or_else(Refusal::into_response)
}

async fn introspect(state: &IssuerState, checks: &Checks, request: Request) -> Result<Response, Refusal> {
    let rules = state.rules.load_full();
    let (asked, body) = Asked::new(request, &rules);
    let form = Form::read(&asked.headers, asked.query.as_deref(), body, Bodies::Form).await?;
    let now = state.clock.now();
    let asker = asker(state, &rules, checks, &asked, &form, now).await?;
    let token = form.required("token")?;
    let scan = Attempt::new("introspect", asker.name(), token);
    if let Some(seconds) = scan.wait(state, None, &SCANS, now) {
        return Err(Refusal::too_many(seconds));
    }
    let found = inspect::active(state, &rules, token, now).await?;
    let seen = found.map(|token| Sight { asker, token }).filter(|sight| run(&checks.introspect, sight).is_ok());
    let Some(sight) = seen else {
        scan.failed(state, None, &SCANS, now);
        return Ok(unstored(StatusCode::OK, &json!({"active": false})));
    };
    let issuer = rules.issuance.as_ref().map(|issuance| Arc::clone(&issuance.url)).unwrap_or_default();
    Ok(unstored(StatusCode::OK, &Answer::new(&sight.token, &issuer)))
}

impl<'a> Answer<'a> {
    fn new(token: &'a Active, issuer: &'a str) -> Self {
        Self {
            active: true,
            scope: token.scopes.to_string(),
            client_id: token.client.as_deref(),
            sub: &token.subject,
            aud: match token.audience.as_slice() {
                [] => None,
                [one] => Some(json!(**one)),
                several => Some(several.iter().map(|uri| json!(**uri)).collect()),
            },
            iss: issuer,
            iat: token.issued.unix_seconds(),
            exp: token.expires.map(Timestamp::unix_seconds),
            token_type: match token.kind {
                Kind::Access => "Bearer",
                Kind::Refresh => "refresh_token",
                Kind::Key => "api_key",
            },
            jti: token.id.as_deref(),
            act: token.act.as_ref(),
        }
    }
}

impl Asker {
    fn name(&self) -> &str {
        match self {
            Self::Client(client) => client.id.as_str(),
            Self::Bearer(own) => &own.subject,
        }
    }
}

/// A confidential client, or whoever holds a key or an access token that is good.
async fn asker(state: &IssuerState, rules: &Rules, checks: &Checks, asked: &Asked, form: &Form, now: Timestamp) -> Result<Asker, Refusal> {
    let Some(shown) = bearer(&asked.headers) else {
        let client = authenticate(state, rules, checks, asked, form, now).await?;
        return match client.kind {
            ClientKind::Confidential => Ok(Asker::Client(client)),
            ClientKind::Public | ClientKind::Native => Err(Refusal::client()),
        };
    };
    let attempt = Attempt::new("bearer", shown.get(..24).unwrap_or(shown), shown);
    if let Some(seconds) = attempt.wait(state, asked.address, &rules.guard, now) {
        return Err(Refusal::too_many(seconds));
    }
    match inspect::active(state, rules, shown, now).await? {
        Some(own) if own.kind != Kind::Refresh && own.notes.admits(asked.address) => {
            attempt.succeeded(state);
            Ok(Asker::Bearer(Box::new(own)))
        }
        Some(_) | None => {
            attempt.failed(state, asked.address, &rules.guard, now);
            Err(Refusal::new(Fault::InvalidToken, "the bearer token opens nothing"))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn may_see(sight: &Sight) -> Result<(), Stop> {
    let token = &sight.token;
    let may = match &sight.asker {
        Asker::Client(client) => {
            let is_its_own = token.client.as_deref() == Some(client.id.as_str());
            // A resource server: registered with what the token is for, and of the same organisation, or an operator's.
            let is_operators = client.organization.is_none() && client.owner.is_none();
            let is_near = is_operators || (client.organization.is_some() && client.organization == token.organization);
            let is_for_it = match token.kind {
                Kind::Access => client.resources.iter().any(|uri| token.audience.contains(uri)),
                Kind::Key => !client.resources.is_empty(),
                Kind::Refresh => false,
            };
            is_its_own || (is_near && is_for_it)
        }
        Asker::Bearer(own) => {
            // A key sees what stands in its user's name; a token sees its own client's alone.
            let is_same_holder = own.user == token.user && (own.kind == Kind::Key || own.client == token.client);
            let is_its_own = is_same_holder && (own.user.is_some() || own.client.is_some());
            let governs = own.scopes.covers(actor::USERS) && own.organization.is_some() && own.organization == token.organization;
            is_its_own || governs || own.scopes.covers(actor::ADMIN)
        }
    };
    if may { Ok(()) } else { Err(Refusal::grant().into()) }
}
