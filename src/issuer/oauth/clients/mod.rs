//! OAuth clients (applications): `/v1/clients` for whoever manages them, `/oauth/register` for RFC 7591.
//!
//! Ids and secrets are ours, never chosen. A secret is shown in the one answer that makes it.

pub mod draft;
pub mod redirects;
pub mod register;
pub mod resource;
pub mod secrets;

use std::sync::Arc;

use axum::Router;
use axum::routing::delete;
use axum::routing::get;
use axum::routing::post;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::oauth::clients::draft::Draft;
use crate::issuer::once::Once;
use crate::model::caller::Subject;
use crate::model::client::CLIENT_ID_PREFIX;
use crate::model::client::ClientAuth;
use crate::model::client::ClientId;
use crate::model::client::ClientRecord;
use crate::model::client::ClientSecret;
use crate::model::client::ClientState;
use crate::model::client::is_client_id;
use crate::model::key_text::push_base62;
use crate::model::time::Timestamp;
use crate::secrets::SecretError;
use crate::secrets::random_bytes;
use crate::store::Committed;
use crate::store::Precondition;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::Shelved;

/// Digits of a client's id, and of 256 bits.
const ID_DIGITS: usize = 20;
const SECRET_DIGITS: usize = 43;

/// `/v1/clients`: for the control socket and the public door alike.
pub(in crate::issuer) fn resources() -> Router<IssuerState> {
    Router::new()
        .route("/v1/clients", get(resource::list).post(resource::create))
        .route("/v1/clients/{id}", get(resource::show).patch(resource::change).delete(resource::delete))
        .route("/v1/clients/{id}/rotate", post(secrets::rotate))
        .route("/v1/clients/{id}/secrets/{which}", delete(secrets::remove))
}

/// `/oauth/register`.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new().route("/oauth/register", post(register::register))
}

/// A new client, and its secret where it has one.
#[derive(Debug)]
pub(in crate::issuer) struct Made {
    pub(in crate::issuer) record: ClientRecord,
    pub(in crate::issuer) secret: Option<Zeroizing<String>>,
}

/// Why no client was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::issuer) enum NotMade {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// The client of this id and its revision. What cannot be an id is nobody's, and never gets near a record.
///
/// # Errors
/// A store that does not answer, or a record that cannot be read.
pub(in crate::issuer) async fn find(state: &IssuerState, id: &str) -> Result<Option<(ClientRecord, u64)>, StoreError> {
    if !is_client_id(id) {
        return Ok(None);
    }
    match state.records.get(&ClientRecord::place(id)).await? {
        Some(stored) => Ok(Some((ClientRecord::decode(id, &stored.bytes)?, stored.version))),
        None => Ok(None),
    }
}

/// Makes a client. Its draft was checked; `standing` is what it rests on of whoever registers it. None: that changed at this moment, or the
/// same request was done elsewhere.
///
/// # Errors
/// A store that does not answer, or no random bytes.
pub(in crate::issuer) async fn make(
    state: &IssuerState,
    draft: Draft,
    owner: Option<Subject>,
    organization: Option<Arc<str>>,
    once: &Once,
    standing: Option<Precondition>,
    now: Timestamp,
) -> Result<Option<Made>, NotMade> {
    loop {
        let mut id = String::with_capacity(CLIENT_ID_PREFIX.len() + ID_DIGITS);
        id.push_str(CLIENT_ID_PREFIX);
        push_base62(&mut id, &mut random_bytes::<16>()?, ID_DIGITS);
        let (secret, secrets) = match draft.auth {
            ClientAuth::None => (None, Vec::new()),
            ClientAuth::Basic | ClientAuth::Body => {
                let (text, secret) = new_secret(state, now)?;
                (Some(text), vec![secret])
            }
        };
        let mut record = ClientRecord {
            id: ClientId::new(&id),
            name: Arc::clone(&draft.name),
            owner: owner.clone(),
            organization: organization.clone(),
            kind: draft.kind,
            auth: draft.auth,
            redirect_uris: Vec::new(),
            grant_types: Vec::new(),
            scopes: Arc::clone(&draft.scopes),
            resources: Vec::new(),
            token_form: draft.token_form,
            environment: draft.environment,
            tier: None,
            secrets,
            state: ClientState::Active,
            disabled_by: None,
            created: now,
            website: None,
        };
        draft.clone().apply(&mut record);
        let place = ClientRecord::place(&id);
        let write = Write::Put { key: place.clone(), bytes: record.encode(), expires: None };
        let made = [(Precondition::Absent(place), write)];
        let (mut preconditions, writes): (Vec<_>, Vec<_>) = made.into_iter().chain(once.commit(state, &id, now)).unzip();
        preconditions.extend(standing.clone());
        match state.records.commit(preconditions, writes, now).await? {
            Committed::Done | Committed::Unconfirmed => return Ok(Some(Made { record, secret })),
            // Another client of 119 random bits: then another draw.
            Committed::Refused(0) => {}
            Committed::Refused(_) => return Ok(None),
        }
    }
}

/// A new secret of 256 bits: its text, and what is kept of it.
pub(in crate::issuer) fn new_secret(state: &IssuerState, now: Timestamp) -> Result<(Zeroizing<String>, ClientSecret), SecretError> {
    let random = Zeroizing::new(random_bytes::<32>()?);
    let rules = state.rules.load();
    let mut text = Zeroizing::new(String::with_capacity(rules.key_brand.len() + "_cs_".len() + SECRET_DIGITS));
    text.push_str(&rules.key_brand);
    text.push_str("_cs_");
    push_base62(&mut text, &mut Zeroizing::new(random.to_vec()), SECRET_DIGITS);
    let hash = state.peppers.hash(text.as_bytes());
    Ok((text, ClientSecret { hash, created: now, retires: None }))
}

#[cfg(test)]
mod tests;
