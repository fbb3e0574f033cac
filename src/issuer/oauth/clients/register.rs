//! `/oauth/register`: RFC 7591, where the config serves it. What a client says of itself is believed in nothing that matters: its id,
//! its secret, its owner and its scopes' ceiling are ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

use crate::issuer::IssuerState;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::audit::Deed;
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::run;
use crate::issuer::input::Value;
use crate::issuer::names;
use crate::issuer::oauth::answer::Fault;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::answer::unstored;
use crate::issuer::oauth::asked::Asked;
use crate::issuer::oauth::asked::Attempt;
use crate::issuer::oauth::clients;
use crate::issuer::oauth::clients::Made;
use crate::issuer::oauth::clients::NotMade;
use crate::issuer::oauth::clients::draft;
use crate::issuer::oauth::clients::draft::Draft;
use crate::issuer::oauth::clients::redirects::URIS_MAX;
use crate::issuer::oauth::clients::resource::auth_name;
use crate::issuer::oauth::token::audience::read_scopes;
use crate::issuer::once::Once;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::caller::Environment;
use crate::model::client::AccessTokenForm;
use crate::model::client::ClientAuth;
use crate::model::client::ClientKind;
use crate::model::client::GrantType;
use crate::model::issuance::Issuance;
use crate::model::issuance::Registration;
use crate::model::quota::Limit;
use crate::model::rules::GuardLimits;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;

const BODY_BYTES_MAX: usize = 64 * 1024;
/// Registrations of one address, the ones that succeed included.
const REGISTRATIONS: GuardLimits = {
    let limit = Limit { per_minute: 6, depth: 20 };
    GuardLimits { per_address: limit, per_key_prefix: limit }
};

/// RFC 7591 section 3.2.1.
#[derive(Serialize)]
struct Registered<'a> {
    client_id: &'a str,
    client_id_issued_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    /// Zero: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<u64>,
    client_name: &'a str,
    redirect_uris: &'a [Arc<str>],
    token_endpoint_auth_method: &'static str,
    grant_types: Vec<&'static str>,
    response_types: &'a [&'static str],
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_uri: Option<&'a str>,
}

pub(in crate::issuer) async fn register(State(state): State<IssuerState>, request: Request) -> Response {
    let rules = state.rules.load_full();
    let closed = || Problem::new(Code::NotFound, "clients do not register themselves here").into_response();
    let Some(issuance) = rules.issuance.clone() else { return closed() };
    if run(&SWITCH, &issuance.registration).is_err() {
        return closed();
    }
    let (asked, body) = Asked::new(request, &rules);
    match register_one(&state, &issuance, &asked, body, rules.guard).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn register_one(
    state: &IssuerState,
    issuance: &Issuance,
    asked: &Asked,
    body: Body,
    guard: GuardLimits,
) -> Result<Response, Refusal> {
    let now = state.clock.now();
    if let Registration::WithToken(token) = &issuance.registration {
        let shown = bearer(&asked.headers).unwrap_or_default();
        let attempt = Attempt::new("registration", "", shown);
        let wait = attempt.wait(state, asked.address, &guard, now);
        let is_known = constant_time::verify_slices_are_equal(shown.as_bytes(), token).is_ok();
        let judged = run(&Entrance::CHECKS, &Entrance { wait, is_known });
        match (wait, is_known) {
            (Some(_), _) => {}
            (None, true) => attempt.succeeded(state),
            (None, false) => attempt.failed(state, asked.address, &guard, now),
        }
        judged?;
    }
    let address = asked.address.map_or_else(String::new, |address| address.to_string());
    let attempt = Attempt::new("register", &address, "");
    run(&OFTEN, &attempt.wait(state, None, &REGISTRATIONS, now))?;
    attempt.failed(state, None, &REGISTRATIONS, now);
    let too_large = |_error| Refusal::new(Fault::TooLarge, "the body has more than 64 KiB");
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(too_large)?;
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(&bytes) else {
        return Err(metadata("the body must be a JSON object that names no member twice"));
    };
    let draft = read(&members, issuance)?;
    let made = clients::make(state, draft, None, None, &Once::default(), None, now).await?;
    let made = made.ok_or_else(|| Refusal::unavailable("the client could not be kept"))?;
    tracing::info!(client = %made.record.id, "client registered");
    if let Some(actor) = trail::somebody(now) {
        let done = Done { deed: Deed::ClientCreated, subject: made.record.id.as_str(), organization: None, address: asked.address };
        trail::note(state, &actor, done, now).await;
    }
    Ok(registered(&made))
}

pub(in crate::issuer) const SWITCH: [Check<Registration>; 1] = [Check {
    name: "clients register themselves where that is switched on",
    run: |registration| match registration {
        Registration::Off => Err(Unmet),
        Registration::Open | Registration::WithToken(_) => Ok(()),
    },
}];

/// Whoever registers with a token.
pub(in crate::issuer) struct Entrance {
    wait: Option<u32>,
    is_known: bool,
}

impl Entrance {
    pub(in crate::issuer) const CHECKS: [Check<Self, Refusal>; 2] = [
        Check { name: "guesses at the initial access token are limited", run: |entrance| may_go_on(&entrance.wait) },
        Check {
            name: "registration needs its initial access token",
            run: |entrance| {
                let refusal = || Refusal::new(Fault::InvalidToken, "registration needs its initial access token");
                entrance.is_known.then_some(()).ok_or_else(refusal)
            },
        },
    ];
}

/// Of the seconds that are to be waited.
pub(in crate::issuer) const OFTEN: [Check<Option<u32>, Refusal>; 1] =
    [Check { name: "registrations of one address are limited", run: may_go_on }];

fn may_go_on(wait: &Option<u32>) -> Result<(), Refusal> {
    match wait {
        None => Ok(()),
        Some(seconds) => Err(Refusal::too_many(*seconds)),
    }
}

fn registered(made: &Made) -> Response {
    let Made { record, secret } = made;
    let response_types: &[_] = if record.grant_types.contains(&GrantType::AuthorizationCode) { &["code"] } else { &[] };
    let body = Registered {
        client_id: record.id.as_str(),
        client_id_issued_at: record.created.unix_seconds(),
        client_secret: secret.as_ref().map(|secret| secret.as_str()),
        client_secret_expires_at: secret.as_ref().map(|_secret| 0),
        client_name: &record.name,
        redirect_uris: &record.redirect_uris,
        token_endpoint_auth_method: auth_name(record.auth),
        grant_types: record.grant_types.iter().map(|grant_type| grant_type.as_str()).collect(),
        response_types,
        scope: record.scopes.to_string(),
        client_uri: record.website.as_deref(),
    };
    unstored(StatusCode::CREATED, &body)
}

/// Whatever is unknown is ignored (RFC 7591 section 2), and nothing is fetched.
fn read(members: &BTreeMap<String, Value>, issuance: &Issuance) -> Result<Draft, Refusal> {
    let auth = match members.get("token_endpoint_auth_method") {
        None => ClientAuth::Basic,
        Some(value) => draft::auth(value)
            .ok_or_else(|| metadata("the token_endpoint_auth_method must be client_secret_basic, client_secret_post or none"))?,
    };
    let uris = texts(members.get("redirect_uris")).ok_or_else(bad_redirect)?;
    let is_native = auth == ClientAuth::None && uris.iter().any(|uri| !uri.starts_with("https://"));
    let kind = match (auth, is_native) {
        (ClientAuth::None, true) => ClientKind::Native,
        (ClientAuth::None, false) => ClientKind::Public,
        (ClientAuth::Basic | ClientAuth::Body, _) => ClientKind::Confidential,
    };
    let redirect_uris = match members.get("redirect_uris") {
        None => Vec::new(),
        Some(value) => draft::redirect_uris(kind, value).ok_or_else(bad_redirect)?,
    };
    let grant_types = match members.get("grant_types") {
        None => vec![GrantType::AuthorizationCode],
        Some(value) => draft::grant_types(value).ok_or_else(|| metadata("a grant_type is not supported here"))?,
    };
    run(&Metadata::CHECKS, &Metadata { members, grant_types: &grant_types, registration: &issuance.registration })?;
    let draft = Draft {
        name: match members.get("client_name") {
            None => Arc::from("unnamed application"),
            Some(value) => names::name(value).ok_or_else(|| metadata("the client_name must have 1 to 255 characters"))?,
        },
        kind,
        auth,
        redirect_uris,
        grant_types,
        scopes: scopes(members, issuance)?,
        resources: Vec::new(),
        token_form: AccessTokenForm::Jwt(issuance.algorithm),
        environment: Environment::Live,
        tier: None,
        website: match members.get("client_uri") {
            None => None,
            Some(value) => Some(draft::website(value).ok_or_else(|| metadata("the client_uri must be an https URL"))?),
        },
    };
    match draft.consistent() {
        Ok(()) => Ok(draft),
        Err(("redirect_uris", _issue)) => Err(bad_redirect()),
        Err((_field, issue)) => Err(metadata(issue.replace('"', "'"))),
    }
}

/// What a client says of itself.
pub(in crate::issuer) struct Metadata<'a> {
    members: &'a BTreeMap<String, Value>,
    grant_types: &'a [GrantType],
    registration: &'a Registration,
}

impl Metadata<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Refusal>; 2] = [
        // RFC 7591 section 2.1.
        Check { name: "response types and grant types say the same", run: types_agree },
        // Nobody answers for such a client: it would hold its scopes itself.
        Check { name: "a client that nobody lets in acts for users alone", run: acts_for_users },
    ];
}

fn acts_for_users(metadata: &Metadata<'_>) -> Result<(), Refusal> {
    let acts_for_itself = [GrantType::ClientCredentials, GrantType::TokenExchange].iter().any(|kind| metadata.grant_types.contains(kind));
    if acts_for_itself && matches!(metadata.registration, Registration::Open) {
        return Err(self::metadata("a client that registers itself acts for users alone"));
    }
    Ok(())
}

fn types_agree(Metadata { members, grant_types, .. }: &Metadata<'_>) -> Result<(), Refusal> {
    let Some(value) = members.get("response_types") else { return Ok(()) };
    let types = texts(Some(value)).ok_or_else(|| metadata("the response_types must be a list of texts"))?;
    let wants_code = grant_types.contains(&GrantType::AuthorizationCode);
    let is_consistent = if wants_code { types == ["code"] } else { types.is_empty() };
    if is_consistent { Ok(()) } else { Err(metadata("the response_types must be code beside authorization_code, and empty without it")) }
}

fn scopes(members: &BTreeMap<String, Value>, issuance: &Issuance) -> Result<Arc<ScopeSet>, Refusal> {
    let unknown = || metadata("the scope must name scopes that this server has");
    match members.get("scope") {
        None => Ok(Arc::new(ScopeSet::new(issuance.scopes.keys().filter_map(|scope| Scope::parse(scope).ok())))),
        Some(value) => {
            let scopes = read_scopes(names::text(value)).ok().flatten().ok_or_else(unknown)?;
            if draft::are_known(issuance, &scopes) { Ok(Arc::new(scopes)) } else { Err(unknown()) }
        }
    }
}

fn texts(value: Option<&Value>) -> Option<Vec<&str>> {
    match value {
        None => Some(Vec::new()),
        Some(Value::List(items)) if items.len() <= URIS_MAX => items.iter().map(names::text).collect(),
        Some(_) => None,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn bad_redirect() -> Refusal {
    Refusal::new(
        Fault::InvalidRedirectUri,
        "the redirect_uris must be absolute, without fragment, https or http on loopback or a scheme with a dot, and fit the grant_types",
    )
}

fn metadata(description: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Fault::InvalidClientMetadata, description)
}

impl From<NotMade> for Refusal {
    fn from(error: NotMade) -> Self {
        match error {
            NotMade::Store(error) => error.into(),
            NotMade::Secret(error) => error.into(),
            // Nobody owns what registers itself.
        }
    }
}
