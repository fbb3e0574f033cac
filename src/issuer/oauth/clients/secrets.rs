//! A client's secrets: a new one beside the old, and the end of either.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::actor::USERS;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::input::Fields;
use crate::issuer::keys::refuse_unbound;
use crate::issuer::names;
use crate::issuer::oauth::client_auth::SECRETS_MAX;
use crate::issuer::oauth::clients;
use crate::issuer::oauth::clients::resource::ClientView;
use crate::issuer::oauth::clients::resource::Issued;
use crate::issuer::oauth::clients::resource::check_may_change;
use crate::issuer::oauth::clients::resource::note;
use crate::issuer::oauth::clients::resource::replace;
use crate::issuer::oauth::clients::resource::revision_of;
use crate::issuer::oauth::clients::resource::within_reach;
use crate::issuer::oauth::clients::resource::within_reach_of;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::views::answer_change;
use crate::issuer::views::check_revision;
use crate::model::client::ClientAuth;
use crate::model::client::ClientRecord;

/// The longest grace.
const GRACE_DAYS_MAX: u64 = 30;

/// Gives the client a new secret; the old one goes on for the grace.
pub(in crate::issuer) async fn rotate(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut fields = Fields::read(&headers, body).await?;
    let now = state.clock.now();
    let read_grace = |value: &_| names::length(value).filter(|grace| grace.as_secs() <= GRACE_DAYS_MAX * 86_400);
    let grace = fields.required("grace", read_grace, "must be from \"0s\" (the old secret ends now) to \"30d\"")?;
    fields.finish()?;
    let (mut record, revision) = within_reach(&state, &asker.actor, id).await?;
    check_revision(&headers, revision)?;
    check_may_change(&asker.actor, &record)?;
    refuse_unbound(&state, &asker.actor, &asker.actor.reach(USERS)?).await?;
    run(&ROTATES, &record)?;
    let (text, secret) = clients::new_secret(&state, now)?;
    // One old secret at a time: what was already on its way out ends with this rotation.
    record.secrets.truncate(if grace.is_zero() { 0 } else { SECRETS_MAX - 1 });
    for old in &mut record.secrets {
        old.retires = Some(now.plus(grace));
    }
    record.secrets.insert(0, secret);
    let outcome = replace(&state, &record, revision, now).await?;
    tracing::info!(client = %record.id, grace_seconds = grace.as_secs(), "client secret rotated");
    note(&state, &asker, Deed::ClientSecretRotated, &record, now).await;
    let revision = revision_of(&state, &record).await;
    let view = ClientView::new(&record, revision, now);
    Ok(answer_change(&outcome, revision, Issued { client_secret: Some(&text), view }))
}

pub(in crate::issuer) const ROTATES: [Check<ClientRecord, Problem>; 1] = [Check {
    name: "a public client gets no secret",
    run: |record| match record.auth {
        ClientAuth::None => Err(Problem::new(Code::Conflict, "a public client has no secret")),
        ClientAuth::Basic | ClientAuth::Body => Ok(()),
    },
}];

pub(in crate::issuer) const KEEPS_ONE: [Check<ClientRecord, Problem>; 1] = [Check {
    name: "a client's last secret stays",
    run: |record| {
        let issue = "the client has one secret; rotate it, or disable or delete the client";
        if record.secrets.len() < 2 { Err(Problem::new(Code::Conflict, issue)) } else { Ok(()) }
    },
}];

/// Ends one of two secrets, `current` or `old`, before its time. The last one cannot be: then delete or disable the client.
pub(in crate::issuer) async fn remove(
    State(state): State<IssuerState>,
    asker: Asker,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let not_found = || Problem::new(Code::NotFound, "there is no such secret; name `current` or `old`");
    let Path((id, which)) = path.map_err(|_error| not_found())?;
    let now = state.clock.now();
    let (mut record, revision) = within_reach_of(&state, &asker.actor, &id).await?;
    check_revision(&headers, revision)?;
    record.secrets.retain(|secret| secret.retires.is_none_or(|retires| now < retires));
    run(&KEEPS_ONE, &record)?;
    match which.as_str() {
        "current" => {
            record.secrets.remove(0);
            // What is left is the one that there is.
            record.secrets.iter_mut().for_each(|secret| secret.retires = None);
        }
        "old" => record.secrets.truncate(1),
        _ => return Err(not_found()),
    }
    let outcome = replace(&state, &record, revision, now).await?;
    tracing::info!(client = %record.id, "client secret removed");
    note(&state, &asker, Deed::ClientSecretRotated, &record, now).await;
    let revision = revision_of(&state, &record).await;
    Ok(answer_change(&outcome, revision, ClientView::new(&record, revision, now)))
}
