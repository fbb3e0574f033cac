//! `/v1/clients`: create, list, show, change, delete.

use std::sync::Arc;
use std::sync::LazyLock;

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::accounts::caps;
use crate::issuer::accounts::reach;
use crate::issuer::accounts::reach::Takeover;
use crate::issuer::actor;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::input::Fields;
use crate::issuer::keys::refuse_unbound;
use crate::issuer::names;
use crate::issuer::oauth::clients;
use crate::issuer::oauth::clients::NotMade;
use crate::issuer::oauth::clients::draft::Draft;
use crate::issuer::once::Once;
use crate::issuer::openapi::schemas::ClientKindName;
use crate::issuer::openapi::schemas::EnvironmentName;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::views::PageView;
use crate::issuer::views::Row;
use crate::issuer::views::answer;
use crate::issuer::views::answer_change;
use crate::issuer::views::answer_removal;
use crate::issuer::views::check_revision;
use crate::issuer::views::show_time;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::client::AccessTokenForm;
use crate::model::client::ClientAuth;
use crate::model::client::ClientId;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::client::ClientSecret;
use crate::model::client::ClientState;
use crate::model::client::GrantType;
use crate::model::client::is_client_id;
use crate::model::issuance::Issuance;
use crate::model::key::HashAlgorithm;
use crate::model::key::SecretHash;
use crate::model::rules::Algorithm;
use crate::model::rules::Rules;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::Write;
use crate::store::codec::Shelved;

/// Records that one list request looks at; a filter that finds little continues on the next page.
const SCANNED_MAX: usize = 20_000;
const SCANNED_TOGETHER: usize = 500;

/// A client without its secrets.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Client, example = json!({
    "id": "app_0123456789abcdefghij", "name": "Order book", "active": true, "owner": "ann", "organization": "acme", "kind": "confidential",
    "token_endpoint_auth_method": "client_secret_basic", "redirect_uris": ["https://app.example.com/callback"],
    "grant_types": ["authorization_code", "refresh_token"], "scopes": ["orders:read"], "resources": [], "access_tokens": "EdDSA",
    "environment": "live", "tier": null, "website": null, "secrets": [{"created_at": "2027-01-15T08:00:00Z", "retires_at": null}],
    "created_at": "2027-01-15T08:00:00Z", "revision": 4
}))]
pub(in crate::issuer) struct ClientView {
    id: String,
    name: Arc<str>,
    active: bool,
    owner: Option<String>,
    organization: Option<Arc<str>>,
    #[schema(value_type = ClientKindName)]
    kind: &'static str,
    token_endpoint_auth_method: &'static str,
    redirect_uris: Vec<Arc<str>>,
    grant_types: Vec<&'static str>,
    scopes: Vec<String>,
    /// Empty: the issuer's own.
    resources: Vec<Arc<str>>,
    /// The form of its access tokens: `EdDSA`, `RS256` or `opaque`.
    access_tokens: &'static str,
    #[schema(value_type = EnvironmentName)]
    environment: &'static str,
    tier: Option<Arc<str>>,
    website: Option<Arc<str>>,
    /// Newest first; the second one is on its way out.
    secrets: Vec<SecretView>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Name it in `if-match` to change exactly what was read.
    revision: u64,
}

/// Since when one of a client's secrets opens, and until when.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientSecret)]
struct SecretView {
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    retires_at: Option<String>,
}

/// A client with a new secret: the one answer that has it. A client that keeps no secret has none.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IssuedClient, example = json!({
    "client_secret": "tg_cs_9f86d081…",
    "id": "app_0123456789abcdefghij", "name": "Order book", "active": true, "owner": "ann", "organization": "acme", "kind": "confidential",
    "token_endpoint_auth_method": "client_secret_basic", "redirect_uris": ["https://app.example.com/callback"],
    "grant_types": ["authorization_code", "refresh_token"], "scopes": ["orders:read"], "resources": [], "access_tokens": "EdDSA",
    "environment": "live", "tier": null, "website": null, "secrets": [{"created_at": "2027-01-15T08:00:00Z", "retires_at": null}],
    "created_at": "2027-01-15T08:00:00Z", "revision": 4
}))]
pub(in crate::issuer) struct Issued<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::issuer) client_secret: Option<&'a str>,
    #[serde(flatten)]
    pub(in crate::issuer) view: ClientView,
}

impl ClientView {
    pub(in crate::issuer) fn new(record: &ClientRecord, revision: u64, now: Timestamp) -> Self {
        let live = record.secrets.iter().filter(|secret| secret.retires.is_none_or(|retires| now < retires));
        Self {
            id: record.id.to_string(),
            name: Arc::clone(&record.name),
            active: record.state == ClientState::Active,
            owner: record.owner.as_ref().map(|owner| owner.as_str().to_owned()),
            organization: record.organization.clone(),
            kind: match record.kind {
                ClientKind::Confidential => "confidential",
                ClientKind::Public => "public",
                ClientKind::Native => "native",
            },
            token_endpoint_auth_method: auth_name(record.auth),
            redirect_uris: record.redirect_uris.clone(),
            grant_types: record.grant_types.iter().map(|grant_type| grant_type.as_str()).collect(),
            scopes: record.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            resources: record.resources.clone(),
            access_tokens: token_form_name(record.token_form),
            environment: record.environment.as_str(),
            tier: record.tier.clone(),
            website: record.website.clone(),
            secrets: live
                .map(|secret| SecretView { created_at: show_time(secret.created), retires_at: secret.retires.map(show_time) })
                .collect(),
            created_at: show_time(record.created),
            revision,
        }
    }
}

pub(in crate::issuer) const fn auth_name(auth: ClientAuth) -> &'static str {
    match auth {
        ClientAuth::Basic => "client_secret_basic",
        ClientAuth::Body => "client_secret_post",
        ClientAuth::None => "none",
    }
}

pub(in crate::issuer) const fn token_form_name(form: AccessTokenForm) -> &'static str {
    match form {
        AccessTokenForm::Jwt(Algorithm::Rs256) => "RS256",
        AccessTokenForm::Jwt(_) => "EdDSA",
        AccessTokenForm::Opaque => "opaque",
    }
}

pub(in crate::issuer) async fn create(
    State(state): State<IssuerState>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // Whoever has things of its own may have clients; an application of somebody's has none.
    let reach = asker.actor.reach(actor::USERS)?;
    let mut fields = Fields::read(&headers, body).await?;
    let once = Once::read(&asker.actor, &headers, "clients", &fields)?;
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let issuance = issuance_of(&rules)?;
    let draft = Draft::read(&mut fields, &rules, &issuance)?;
    run(&MAKERS, &asker.actor)?;
    let (owner, organization) = if run(&OWNERS, &asker.actor).is_ok() {
        let owner = fields.change("owner", names::subject, names::SUBJECT)?.set();
        (owner, fields.change("organization", names::organization, names::SUBJECT)?.set())
    } else {
        (asker.actor.user().cloned(), asker.actor.organization().cloned())
    };
    fields.finish()?;
    draft.check(&asker.actor)?;
    once.check(&state).await?;
    refuse_unbound(&state, &asker.actor, &reach).await?;
    if let Some(owner) = &owner {
        caps::check_clients(&state, &reach, owner).await?;
    }
    let standing = reach::maker(&state, &asker.actor).await?.map(|(_user, standing)| standing);
    let Some(made) = clients::make(&state, draft, owner, organization, &once, standing, now).await? else {
        once.check(&state).await?;
        return Err(Problem::changed_meanwhile());
    };
    tracing::info!(client = %made.record.id, "client created");
    note(&state, &asker, Deed::ClientCreated, &made.record, now).await;
    let revision = revision_of(&state, &made.record).await;
    let view = ClientView::new(&made.record, revision, now);
    Ok(answer(StatusCode::CREATED, revision, Issued { client_secret: made.secret.as_ref().map(|secret| secret.as_str()), view }))
}

pub(in crate::issuer) const MAKERS: [Check<Actor, Problem>; 1] = [Check {
    name: "a client makes no clients",
    run: |actor| match actor {
        Actor::Operator => Ok(()),
        Actor::Caller(_) | Actor::Person(_) if actor.user().is_some() => Ok(()),
        Actor::Caller(_) | Actor::Person(_) => Err(Problem::new(Code::Forbidden, "clients are registered by users")),
    },
}];

pub(in crate::issuer) const OWNERS: [Check<Actor>; 1] =
    [Check { name: "whose a client is an operator says, and nobody else", run: |actor| hold(matches!(actor, Actor::Operator)) }];

pub(in crate::issuer) async fn list(
    State(state): State<IssuerState>,
    asker: Asker,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::read(query.as_deref())?;
    let limit = parameters.limit()?;
    let expected = "must be the `next` of the page before";
    let mut after = parameters.parsed("after", |text| is_client_id(text).then(|| text.to_owned()), expected)?;
    parameters.finish("limit, after")?;
    let reach = asker.actor.reach(actor::USERS)?;
    let now = state.clock.now();
    let mut data = Vec::new();
    let mut scanned = 0;
    while data.len() < limit && scanned < SCANNED_MAX {
        let together = if reach == Reach::Everything { limit - data.len() } else { SCANNED_TOGETHER };
        let page = state.records.range(Family::Client, after.as_deref(), together).await?;
        after = page.next;
        for (place, stored) in page.records {
            scanned += 1;
            match ClientRecord::decode(&place.id, &stored.bytes) {
                Ok(record) if covers(&reach, &record) => data.push(Row::Record(ClientView::new(&record, stored.version, now))),
                Ok(_) => {}
                Err(_) if reach.is_operators() => data.push(Row::unreadable(&place.id)),
                Err(_) => {}
            }
            if data.len() >= limit {
                // The rest of the piece belongs to the next page.
                after = after.map(|_next| place.id.clone()).or(Some(place.id));
                break;
            }
        }
        if after.is_none() {
            break;
        }
    }
    Ok(Json(PageView { data, next: after }).into_response())
}

pub(in crate::issuer) async fn show(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (record, revision) = within_reach(&state, &asker.actor, id).await?;
    Ok(answer(StatusCode::OK, revision, ClientView::new(&record, revision, state.clock.now())))
}

pub(in crate::issuer) async fn change(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut fields = Fields::read(&headers, body).await?;
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let issuance = issuance_of(&rules)?;
    let (mut record, revision) = within_reach(&state, &asker.actor, id).await?;
    check_revision(&headers, revision)?;
    check_may_change(&asker.actor, &record)?;
    let before = record.clone();
    let draft = Draft::change(&record, &mut fields, &rules, &issuance)?;
    let reach = asker.actor.reach(actor::USERS)?;
    if let Some(active) = fields.optional("active", names::truth, names::TRUTH)? {
        record.disabled_by = reach.switch(active, record.disabled())?;
        record.state = if active { ClientState::Active } else { ClientState::Disabled };
    }
    fields.finish()?;
    let is_same_reach = draft.tier == record.tier && draft.scopes == record.scopes && draft.grant_types == record.grant_types;
    // What it holds already needs no new consent of whoever gave it.
    if is_same_reach {
        draft.consistent().map_err(|(field, issue)| Problem::field(field, issue))?;
    } else {
        draft.check(&asker.actor)?;
    }
    if !is_same_reach || draft.redirect_uris != record.redirect_uris || draft.resources != record.resources {
        refuse_unbound(&state, &asker.actor, &reach).await?;
    }
    draft.apply(&mut record);
    let outcome = replace(&state, &record, revision, now).await?;
    tracing::info!(client = %record.id, "client changed");
    asker.note_change(&state, Deed::ClientChanged, (&before, &record), now).await;
    let revision = revision_of(&state, &record).await;
    Ok(answer_change(&outcome, revision, ClientView::new(&record, revision, now)))
}

/// Deletes a client. Everything that was given to it stands on its record, and is nothing from then on.
pub(in crate::issuer) async fn delete(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (record, revision) = within_reach(&state, &asker.actor, id).await?;
    check_revision(&headers, revision)?;
    let now = state.clock.now();
    let place = ClientRecord::place(record.id.as_str());
    let removed = state.records.commit(vec![Precondition::AtVersion(place.clone(), revision)], vec![Write::Remove(place)], now).await?;
    if !removed.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    tracing::info!(client = %record.id, "client deleted");
    note(&state, &asker, Deed::ClientDeleted, &record, now).await;
    Ok(answer_removal(&removed))
}

/// Refuses to change a client, or to learn a secret of it, for whoever could get more by it than it holds: what the client holds itself,
/// or what its users allowed it. Its owner may in person; everybody else must hold that too. Ending it is always allowed.
///
/// # Errors
/// 403.
pub(in crate::issuer) fn check_may_change(actor: &Actor, record: &ClientRecord) -> Result<(), Problem> {
    let is_its_owner = actor.is_in_person() && actor.user().is_some() && actor.user() == record.owner.as_ref();
    if is_its_owner {
        return Ok(());
    }
    let refusal = "the client holds more than you hold yourself now; deleting it is all that you may do";
    run(&Takeover::CHECKS, &Takeover { actor, scopes: &record.scopes, environment: record.environment, refusal })
}

/// The client that the path names, where it lies within the actor's reach.
pub(in crate::issuer) async fn within_reach(
    state: &IssuerState,
    actor: &Actor,
    id: Result<Path<String>, PathRejection>,
) -> Result<(ClientRecord, u64), Problem> {
    let Path(id) = id.map_err(|_error| no_such_client())?;
    within_reach_of(state, actor, &id).await
}

pub(in crate::issuer) async fn within_reach_of(state: &IssuerState, actor: &Actor, id: &str) -> Result<(ClientRecord, u64), Problem> {
    let reach = actor.reach(actor::USERS)?;
    match reach.sees(clients::find(state, id).await)? {
        Some((record, revision)) if covers(&reach, &record) => Ok((record, revision)),
        Some(_) => Err(no_such_client()),
        None => {
            // As long as for one that is out of reach.
            let _as_long = std::hint::black_box(ClientRecord::decode(id, &SAMPLE));
            Err(no_such_client())
        }
    }
}

/// A record like any other, to be read where there is none.
static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let secret = |pepper: &str| ClientSecret {
        hash: SecretHash { pepper: pepper.into(), algorithm: HashAlgorithm::HmacSha256, digest: [0; 32] },
        created: Timestamp::from_unix_seconds(0),
        retires: None,
    };
    ClientRecord {
        id: ClientId::new("app_00000000000000000000"),
        name: "an application".into(),
        owner: Subject::parse("nobody").ok(),
        organization: Some("org_00000000000000000000".into()),
        kind: ClientKind::Confidential,
        auth: ClientAuth::Basic,
        redirect_uris: vec!["https://app.example.com/callback".into()],
        grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        scopes: Arc::new(ScopeSet::new(Scope::parse("orders:read"))),
        resources: Vec::new(),
        token_form: AccessTokenForm::Jwt(Algorithm::EdDsa),
        environment: Environment::Live,
        tier: None,
        secrets: vec![secret("p")],
        state: ClientState::Active,
        disabled_by: None,
        created: Timestamp::from_unix_seconds(0),
        website: None,
    }
    .encode()
});

fn covers(reach: &Reach, record: &ClientRecord) -> bool {
    reach.covers(record.owner.as_ref(), record.organization.as_deref())
}

pub(in crate::issuer) async fn replace(
    state: &IssuerState,
    record: &ClientRecord,
    revision: u64,
    now: Timestamp,
) -> Result<Committed, Problem> {
    let place = ClientRecord::place(record.id.as_str());
    let write = Write::Put { key: place.clone(), bytes: record.encode(), expires: None };
    match state.records.commit(vec![Precondition::AtVersion(place, revision)], vec![write], now).await? {
        outcome @ (Committed::Done | Committed::Unconfirmed) => Ok(outcome),
        Committed::Refused(_) => Err(Problem::changed_meanwhile()),
    }
}

pub(in crate::issuer) async fn revision_of(state: &IssuerState, record: &ClientRecord) -> u64 {
    match state.records.get(&ClientRecord::place(record.id.as_str())).await {
        Ok(stored) => stored.map_or(0, |stored| stored.version),
        Err(_unknown) => 0,
    }
}

pub(in crate::issuer) async fn note(state: &IssuerState, asker: &Asker, deed: Deed, record: &ClientRecord, now: Timestamp) {
    asker.note(state, deed, record.id.as_str(), record.organization.as_deref(), now).await;
}

fn issuance_of(rules: &Rules) -> Result<Arc<Issuance>, Problem> {
    rules.issuance.clone().ok_or_else(|| Problem::new(Code::Conflict, "nothing is issued here: the config has no `issuer`"))
}

fn no_such_client() -> Problem {
    Problem::new(Code::NotFound, "there is no client of this id (`app_` and 20 characters)")
}

impl From<NotMade> for Problem {
    fn from(error: NotMade) -> Self {
        match error {
            NotMade::Store(error) => error.into(),
            NotMade::Secret(error) => error.into(),
        }
    }
}
