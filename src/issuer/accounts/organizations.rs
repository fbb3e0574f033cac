//! `/v1/organizations`: what they are called. Whoever is in one sees it; whoever manages its users may change its name.

use std::sync::Arc;

use axum::Extension;
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
use crate::issuer::accounts::shelf;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::actor::USERS;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::input::Fields;
use crate::issuer::names;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::views::PageView;
use crate::issuer::views::answer;
use crate::issuer::views::answer_change;
use crate::issuer::views::check_revision;
use crate::issuer::views::show_time;
use crate::model::account::OrganizationRecord;
use crate::model::caller::Subject;

/// An organisation.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Organization, example = json!({
    "id": "acme", "name": "Acme", "tier": "pro", "founder": "ann", "created_at": "2027-01-15T08:00:00Z", "revision": 3
}))]
pub(in crate::issuer) struct OrganizationView {
    id: Arc<str>,
    name: Arc<str>,
    tier: Option<Arc<str>>,
    /// Its first admin.
    founder: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Name it in `if-match` to change exactly what was read.
    revision: u64,
}

impl OrganizationView {
    fn new(record: &OrganizationRecord, revision: u64) -> Self {
        Self {
            id: Arc::clone(&record.id),
            name: Arc::clone(&record.name),
            tier: record.tier.clone(),
            founder: record.founder.as_ref().map(|user| user.as_str().to_owned()),
            created_at: show_time(record.created),
            revision,
        }
    }
}

pub(super) async fn list(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::read(query.as_deref())?;
    let limit = parameters.limit()?;
    let after = parameters.text("after").unwrap_or_default();
    parameters.finish("limit, after")?;
    let found = match actor.reach(USERS)? {
        Reach::Everything => shelf::all::<OrganizationRecord>(&state, "", |record| *record.id > *after).await?,
        Reach::Organization(_) | Reach::Own(_) => match actor.organization() {
            Some(own) => shelf::find(&state, own).await?.into_iter().collect(),
            None => Vec::new(),
        },
    };
    Ok(Json(PageView::first(&found, limit, |(record, version)| OrganizationView::new(record, *version))).into_response())
}

pub(super) async fn show(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (record, revision) = find(&state, &actor, id).await?;
    Ok(answer(StatusCode::OK, revision, OrganizationView::new(&record, revision)))
}

pub(super) async fn change(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (mut record, revision) = find(&state, &asker.actor, id).await?;
    let before = record.clone();
    let reach = asker.actor.reach(USERS)?;
    if !reach.is_managers() {
        return Err(Problem::lacks_scope(USERS));
    }
    let mut fields = Fields::read(&headers, body).await?;
    check_revision(&headers, revision)?;
    if let Some(name) = fields.optional("name", names::name, names::NAME)? {
        record.name = name;
    }
    if reach.is_operators() {
        names::tier(&mut fields, &state.rules.load_full())?.apply(&mut record.tier);
    } else {
        fields.refuse(&["tier"], ADMIN)?;
    }
    fields.finish()?;
    let now = state.clock.now();
    let outcome = state.records.commit(vec![shelf::at(&record, revision)], vec![shelf::put(&record, None)], now).await?;
    if !outcome.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    asker.note_change(&state, Deed::OrganizationChanged, (&before, &record), now).await;
    let revision = shelf::find::<OrganizationRecord>(&state, &record.id).await?.map_or(0, |(_record, version)| version);
    Ok(answer_change(&outcome, revision, OrganizationView::new(&record, revision)))
}

/// The organisation that the path names, where it is the actor's own or the actor reaches everything.
async fn find(state: &IssuerState, actor: &Actor, id: Result<Path<String>, PathRejection>) -> Result<(OrganizationRecord, u64), Problem> {
    let none = || Problem::new(Code::NotFound, "there is no organisation of this id");
    let Path(id) = id.map_err(|_error| none())?;
    // Organisations travel in headers, so they keep to a subject's grammar.
    Subject::parse(&id).map_err(|_error| none())?;
    // Whoever is in one sees it.
    let reach = match (actor.reach(USERS)?, actor.organization()) {
        (Reach::Organization(_) | Reach::Own(_), Some(own)) => Reach::Organization(Arc::clone(own)),
        (reach, _) => reach,
    };
    if !reach.covers(None, Some(&id)) {
        return Err(none());
    }
    shelf::find(state, &id).await?.ok_or_else(none)
}
