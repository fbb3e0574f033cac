//! What the API shows of records.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::openapi::schemas::EnvironmentName;
use crate::issuer::openapi::schemas::KeyStateName;
use crate::issuer::openapi::schemas::UserStateName;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::key::HashAlgorithm;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Committed;
use crate::store::codec::Shelved;

/// A key without its secret.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Key, example = json!({
    "id": "4Fz0c2Qk1LmN", "name": "nightly import", "display": "tg_live_sk_4Fz0c2Qk1LmN", "state": "active", "active": true,
    "user": "ann", "organization": "acme", "environment": "live", "scopes": ["orders:read"], "tier": null, "rate_limit": 60,
    "version": null, "allowed_networks": ["192.0.2.0/24"], "metadata": {"team": "billing"}, "tags": ["batch"], "made_by": null,
    "imported": false, "created_at": "2027-01-15T08:00:00Z", "not_before": null, "expires_at": "2027-04-15T08:00:00Z",
    "old_secret_until": null, "old_secret_used_at": null, "old_secret_used_route": null, "last_used_at": "2027-01-16T02:00:00Z", "last_used_route": "orders", "revision": 17
}))]
pub(in crate::issuer) struct KeyView {
    pub id: String,
    pub name: Arc<str>,
    pub display: Arc<str>,
    #[schema(value_type = KeyStateName)]
    pub state: &'static str,
    pub active: bool,
    pub user: String,
    pub organization: Option<Arc<str>>,
    #[schema(value_type = EnvironmentName)]
    pub environment: &'static str,
    pub scopes: Vec<String>,
    pub tier: Option<Arc<str>>,
    pub rate_limit: Option<u32>,
    pub version: Option<Arc<str>>,
    /// The client addresses from which alone it opens anything; empty: from everywhere.
    pub allowed_networks: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    pub tags: Vec<String>,
    /// Who made it, where that was another than its user.
    pub made_by: Option<String>,
    pub imported: bool,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub not_before: Option<String>,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// Until when the secret of before the last rotation still opens.
    #[schema(format = DateTime)]
    pub old_secret_until: Option<String>,
    /// When that secret was last used since the rotation, as far as is known; somebody holds it still.
    #[schema(format = DateTime)]
    pub old_secret_used_at: Option<String>,
    pub old_secret_used_route: Option<Arc<str>>,
    #[schema(format = DateTime)]
    pub last_used_at: Option<String>,
    pub last_used_route: Option<Arc<str>>,
    /// Name it in `if-match` to change exactly what was read.
    pub revision: u64,
}

/// A user.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserRights)]
pub(in crate::issuer) struct UserView {
    pub id: String,
    /// `local`, or the issuer whose user it is.
    pub source: Arc<str>,
    #[schema(value_type = UserStateName)]
    pub state: &'static str,
    pub active: bool,
    pub organization: Option<Arc<str>>,
    pub tier: Option<Arc<str>>,
    /// None: whatever the credentials were granted.
    pub rights: Option<Vec<String>>,
    /// Tokens from before are worth nothing.
    #[schema(format = DateTime)]
    pub valid_from: Option<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    pub revision: u64,
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::issuer) struct PageView<T> {
    pub data: Vec<T>,
    /// Hand it in as `after` for the next page.
    pub next: Option<String>,
}

impl<T> PageView<T> {
    /// The first of these records, and where the rest begins.
    pub(in crate::issuer) fn first<R: Shelved>(found: &[(R, u64)], most: usize, show: impl Fn(&(R, u64)) -> T) -> Self {
        let next = found.get(most).and_then(|_more| found.get(most - 1)).map(|(record, _version)| record.id().to_owned());
        Self { data: found.iter().take(most).map(show).collect(), next }
    }
}

/// A row of a list: what is there, or for whoever reaches everything that it cannot be read.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::issuer) enum Row<T> {
    Record(T),
    Unreadable(Unreadable),
}

/// A record that is there and cannot be read, or was so before it was removed.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "4Fz0c2Qk1LmN", "state": "unreadable"}))]
pub(in crate::issuer) struct Unreadable {
    pub id: String,
    pub state: &'static str,
}

impl<T> Row<T> {
    pub(in crate::issuer) fn unreadable(id: &str) -> Self {
        Self::Unreadable(Unreadable { id: id.to_owned(), state: "unreadable" })
    }
}

/// How a key stands at an instant.
impl KeyView {
    pub(in crate::issuer) async fn new(record: &KeyRecord, revision: u64, state: &IssuerState, now: Timestamp) -> Self {
        let last_use = state.last_used.last_use(&record.id).await;
        let old = record.secrets.iter().find(|secret| secret.retires.is_some_and(|retires| now < retires));
        let old_use = match old {
            Some(secret) => state.last_used.last_use(&secret.use_name(&record.id)).await,
            None => None,
        };
        let extras = record.notes.extras();
        Self {
            id: record.id.to_string(),
            name: Arc::clone(&record.name),
            display: Arc::clone(&record.display),
            state: record.state_at(now),
            active: record.state == KeyState::Active,
            user: record.user.as_str().to_owned(),
            organization: record.organization.clone(),
            environment: record.environment.as_str(),
            scopes: record.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            tier: record.tier.clone(),
            rate_limit: record.rate_limit,
            version: record.pinned_version.clone(),
            allowed_networks: record.notes.allowed_networks().iter().map(ToString::to_string).collect(),
            metadata: extras.map(|extras| extras.metadata.clone()).unwrap_or_default(),
            tags: extras.map(|extras| extras.tags.clone()).unwrap_or_default(),
            made_by: extras.and_then(|extras| extras.made_by.as_ref()).map(|maker| maker.as_str().to_owned()),
            imported: record.secrets.iter().any(|secret| secret.hash.algorithm == HashAlgorithm::HmacOfSha256),
            created_at: show_time(record.created),
            not_before: record.not_before.map(show_time),
            expires_at: record.expires.map(show_time),
            old_secret_until: old.and_then(|secret| secret.retires).map(show_time),
            old_secret_used_at: old_use.as_ref().map(|used| show_time(used.at)),
            old_secret_used_route: old_use.map(|used| used.route),
            last_used_at: last_use.as_ref().map(|last_use| show_time(last_use.at)),
            last_used_route: last_use.map(|last_use| last_use.route),
            revision,
        }
    }
}

impl UserView {
    pub(in crate::issuer) fn new(record: &UserRecord, revision: u64) -> Self {
        Self {
            id: record.subject.as_str().to_owned(),
            source: Arc::clone(&record.source),
            state: match record.state {
                UserState::Active => "active",
                UserState::Disabled => "disabled",
            },
            active: record.state == UserState::Active,
            organization: record.organization.clone(),
            tier: record.tier.clone(),
            rights: match &record.rights {
                Rights::Unlimited => None,
                Rights::Only(scopes) => Some(scopes.iter().map(|scope| scope.as_str().to_owned()).collect()),
            },
            valid_from: record.valid_from.map(show_time),
            created_at: show_time(record.created),
            revision,
        }
    }
}

/// RFC 3339, whole seconds, UTC.
pub(in crate::issuer) fn show_time(instant: Timestamp) -> String {
    let seconds = i64::try_from(instant.unix_seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_error| seconds.to_string(), |time| time.to_string())
}

/// An answer with a record, its revision in `etag`.
pub(in crate::issuer) fn answer(status: StatusCode, revision: u64, body: impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// An answer to a change: 202 where it stands on the primary alone so far, with `"replicated": false`.
pub(in crate::issuer) fn answer_change(outcome: &Committed, revision: u64, record: impl Serialize) -> Response {
    match outcome {
        Committed::Unconfirmed => answer(StatusCode::ACCEPTED, revision, Changed { record: Some(record), replicated: false }),
        Committed::Done | Committed::Refused(_) => answer(StatusCode::OK, revision, record),
    }
}

/// An answer to a removal, of which nothing is left to show.
pub(in crate::issuer) fn answer_removal(outcome: &Committed) -> Response {
    match outcome {
        Committed::Unconfirmed => (StatusCode::ACCEPTED, Json(Changed::<()> { record: None, replicated: false })).into_response(),
        Committed::Done | Committed::Refused(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

/// What was changed, and that a failover right now could undo it for a moment. Of what was removed there is nothing to show.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::issuer) struct Changed<T> {
    #[serde(flatten)]
    record: Option<T>,
    replicated: bool,
}

/// Whether the caller's `if-match`, where there is one, names this revision.
pub(in crate::issuer) fn check_revision(headers: &HeaderMap, revision: u64) -> Result<(), Problem> {
    run(&Revision::CHECKS, &Revision { wanted: headers.get(header::IF_MATCH), found: revision })
}

/// The revision that a change is meant for, and the one that there is.
pub(in crate::issuer) struct Revision<'a> {
    wanted: Option<&'a HeaderValue>,
    found: u64,
}

impl Revision<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 1] = [Check {
        name: "nobody changes another revision than they name",
        run: |revision| {
            let is_it = |wanted: &HeaderValue| *wanted == "*" || *wanted == *format!("\"{}\"", revision.found);
            if revision.wanted.is_none_or(is_it) {
                return Ok(());
            }
            Err(Problem::new(Code::PreconditionFailed, "the record has another revision than `if-match` names; read it again"))
        },
    }];
}
