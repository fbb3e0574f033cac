//! What a credential of ours is good for at this instant: asked by introspection and token exchange, and with what it stands on by
//! revocation. The shelf itself is asked, never a cache.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::issuer::IssuerState;
use crate::issuer::actor::OURSELVES;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::clients;
use crate::issuer::oauth::families;
use crate::jose::TokenError;
use crate::model::caller::Subject;
use crate::model::claims::VerifiedClaims;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::AccessState;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::handle::Handle;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::key::KeyForm;
use crate::model::key::KeyId;
use crate::model::key::KeyRecord;
use crate::model::key::UserRecord;
use crate::model::key::read_key;
use crate::model::rules::ImportedKeys;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Rules;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::codec::decode_key;

/// Longer texts are none of ours.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// What kind of credential it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issuer) enum Kind {
    Access,
    Refresh,
    Key,
}

/// A credential that is good now, and for what.
#[derive(Debug)]
pub(in crate::issuer) struct Active {
    pub(in crate::issuer) kind: Kind,
    /// None for a key.
    pub(in crate::issuer) grant: Option<GrantRecord>,
    /// `client_id`.
    pub(in crate::issuer) client: Option<Arc<str>>,
    /// `sub`.
    pub(in crate::issuer) subject: Arc<str>,
    /// The local user in whose name it stands.
    pub(in crate::issuer) user: Option<Subject>,
    pub(in crate::issuer) organization: Option<Arc<str>>,
    /// What was granted, within what user, client and key hold now.
    pub(in crate::issuer) scopes: ScopeSet,
    pub(in crate::issuer) audience: Vec<Arc<str>>,
    pub(in crate::issuer) issued: Timestamp,
    pub(in crate::issuer) expires: Option<Timestamp>,
    /// `jti`.
    pub(in crate::issuer) id: Option<Arc<str>>,
    pub(in crate::issuer) act: Option<Value>,
}

/// A text that we made, and where it leads; nothing is known of whether it opens anything.
#[derive(Debug)]
pub(in crate::issuer) enum Traced {
    Refresh { grant: String, generation: u32 },
    Opaque { grant: String, number: u32 },
    Signed { grant: String, claims: Arc<VerifiedClaims> },
}

impl Traced {
    pub(in crate::issuer) fn grant(&self) -> &str {
        match self {
            Self::Refresh { grant, .. } | Self::Opaque { grant, .. } | Self::Signed { grant, .. } => grant,
        }
    }
}

/// Where a token leads. Its MAC or signature is proven before anything is looked up.
///
/// # Errors
/// When our own signing keys are not known yet.
pub(in crate::issuer) fn trace(state: &IssuerState, rules: &Rules, text: &str, now: Timestamp) -> Result<Option<Traced>, Refusal> {
    if text.len() > TEXT_BYTES_MAX {
        return Ok(None);
    }
    if let Some(handle) = read_handle(&rules.key_brand, text) {
        let is_ours = state.peppers.prove_handle(&handle).is_some();
        return Ok(if is_ours { traced_handle(&handle) } else { None });
    }
    if text.bytes().filter(|byte| *byte == b'.').count() != 2 {
        return Ok(None);
    }
    match state.gate.tokens.verify(text, rules, now) {
        Ok(claims) => {
            let is_own = rules.issuers.get(claims.issuer).is_some_and(|issuer| matches!(issuer.keys, IssuerKeys::Own));
            let grant = claims.grant.as_deref().filter(|_grant| is_own).map(str::to_owned);
            Ok(grant.map(|grant| Traced::Signed { grant, claims }))
        }
        Err(TokenError::KeysMissing(_)) => Err(Refusal::unavailable("the signing keys are not known yet; try again")),
        Err(
            TokenError::Malformed(_)
            | TokenError::UntrustedIssuer
            | TokenError::BadSignature(_)
            | TokenError::BadClaims(_)
            | TokenError::Expired
            | TokenError::NotYetValid,
        ) => Ok(None),
    }
}

fn traced_handle(handle: &Handle<'_>) -> Option<Traced> {
    let grant = handle.id.to_owned();
    match handle.kind {
        HandleKind::Refresh => Some(Traced::Refresh { grant, generation: handle.generation }),
        HandleKind::Access => Some(Traced::Opaque { grant, number: handle.generation }),
        HandleKind::Code | HandleKind::Session | HandleKind::Invitation | HandleKind::Ticket | HandleKind::Browser => None,
    }
}

/// What a credential is good for now; none: for nothing.
///
/// # Errors
/// When that cannot be told: a store that does not answer, signing keys that are not known yet.
pub(in crate::issuer) async fn active(state: &IssuerState, rules: &Rules, text: &str, now: Timestamp) -> Result<Option<Active>, Refusal> {
    let Some(traced) = trace(state, rules, text, now)? else {
        return Ok(key_of_text(state, rules, text, now).await?);
    };
    let Some((grant, _version)) = families::load(state, traced.grant()).await? else { return Ok(None) };
    if !grant.is_live(now) {
        return Ok(None);
    }
    let Some(holders) = Holders::of(state, &grant, now).await? else { return Ok(None) };
    Ok(match traced {
        Traced::Refresh { generation, .. } => refresh(grant, generation, holders),
        Traced::Opaque { number, .. } => opaque(grant, number, holders, now),
        Traced::Signed { claims, .. } => signed(grant, &claims, text, holders),
    })
}

/// Whoever a grant stands on, all of them standing.
struct Holders {
    user: Option<UserRecord>,
    client: Option<ClientRecord>,
    key: Option<KeyRecord>,
}

impl Holders {
    async fn of(state: &IssuerState, grant: &GrantRecord, now: Timestamp) -> Result<Option<Self>, StoreError> {
        let mut holders = Self { user: None, client: None, key: None };
        if let Some(id) = grant.client() {
            match clients::find(state, id.as_str()).await? {
                Some((record, _revision)) if record.state == ClientState::Active => holders.client = Some(record),
                Some(_) | None => return Ok(None),
            }
        }
        // A client that acts for itself stands on whoever registered it.
        let registrant = match &grant.of {
            GrantOf::Client { .. } => holders.client.as_ref().and_then(|client| client.owner.as_ref()),
            GrantOf::Consent { .. } | GrantOf::SignIn { .. } | GrantOf::Key { .. } => None,
        };
        if let Some(subject) = grant.user().or(registrant) {
            match families::user(state, subject).await? {
                Some(user) if families::stands(Some(&user), grant.created) => holders.user = Some(user),
                Some(_) | None => return Ok(None),
            }
        }
        if let Some(id) = grant.key() {
            match key_record(state, id).await? {
                Some(key) if key.state_at(now) == "active" => holders.key = Some(key),
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(holders))
    }

    fn ceiling(&self, scopes: &ScopeSet) -> ScopeSet {
        let within_client = self.client.as_ref().map_or_else(|| scopes.clone(), |client| scopes.intersect(&client.scopes));
        let within_key = self.key.as_ref().map_or_else(|| within_client.clone(), |key| within_client.intersect(&key.scopes));
        families::within(&within_key, self.user.as_ref()).without_reserved()
    }

    /// Whether what was issued then still counts.
    fn stand_since(&self, issued: Timestamp) -> bool {
        self.user.is_none() || families::stands(self.user.as_ref(), issued)
    }
}

fn refresh(grant: GrantRecord, generation: u32, holders: Holders) -> Option<Active> {
    // The newest alone: the one before is forgiven its own client at the token endpoint, and is nothing anywhere else.
    let is_newest = generation == grant.generation && matches!(grant.of, GrantOf::Consent { .. });
    is_newest.then(|| Active {
        kind: Kind::Refresh,
        client: client_of(&grant),
        subject: subject_of(&grant),
        user: grant.user().cloned(),
        organization: grant.organization.clone(),
        scopes: holders.ceiling(&grant.scopes),
        audience: grant.resources.clone(),
        issued: grant.advanced,
        expires: Some(grant.idle_until.min(grant.ends)),
        id: None,
        act: None,
        grant: Some(grant),
    })
}

fn opaque(grant: GrantRecord, number: u32, holders: Holders, now: Timestamp) -> Option<Active> {
    let (scopes, audience, issued, expires) = match &grant.of {
        GrantOf::Key { .. } if number == grant.generation => {
            (Arc::clone(&grant.scopes), grant.resources.clone(), grant.created, grant.idle_until.min(grant.ends))
        }
        GrantOf::Key { .. } => return None,
        GrantOf::Consent { .. } | GrantOf::Client { .. } | GrantOf::SignIn { .. } => {
            let token = families::out_token(&grant, number, now)?;
            match &token.state {
                AccessState::Out { issued, scopes, audience } => (Arc::clone(scopes), audience.clone(), *issued, token.expires),
                AccessState::Revoked => return None,
            }
        }
    };
    Some(Active {
        kind: Kind::Access,
        client: client_of(&grant),
        subject: subject_of(&grant),
        user: grant.user().cloned(),
        organization: grant.organization.clone(),
        scopes: holders.ceiling(&scopes.intersect(&grant.scopes)),
        audience,
        issued,
        expires: Some(expires),
        id: Some(Arc::from(format!("{}.{number}", grant.id))),
        act: None,
        grant: Some(grant),
    })
}

fn signed(grant: GrantRecord, claims: &VerifiedClaims, text: &str, holders: Holders) -> Option<Active> {
    let id = claims.token_id.clone()?;
    // `iat` is cut to whole seconds, and no token is older than its grant.
    let issued = claims.issued?.max(grant.created);
    if grant.has_revoked(&id) || !holders.stand_since(issued) {
        return None;
    }
    let payload = payload_of(text)?;
    let audience = match payload.get("aud") {
        Some(Value::String(one)) => vec![Arc::from(one.as_str())],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(Arc::from).collect(),
        Some(_) | None => return None,
    };
    Some(Active {
        kind: Kind::Access,
        client: claims.client.clone(),
        subject: Arc::from(claims.subject.as_str()),
        user: grant.user().cloned(),
        organization: grant.organization.clone(),
        scopes: holders.ceiling(&claims.scopes.intersect(&grant.scopes)),
        audience,
        issued,
        expires: Some(claims.expires),
        id: Some(id),
        act: payload.get("act").cloned(),
        grant: Some(grant),
    })
}

/// The payload of a token whose signature was verified.
fn payload_of(text: &str) -> Option<Value> {
    let payload = text.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn client_of(grant: &GrantRecord) -> Option<Arc<str>> {
    match &grant.of {
        GrantOf::Consent { client, .. } | GrantOf::Client { client } => Some(Arc::from(client.as_str())),
        GrantOf::SignIn { .. } => Some(Arc::from(OURSELVES)),
        GrantOf::Key { .. } => None,
    }
}

fn subject_of(grant: &GrantRecord) -> Arc<str> {
    match &grant.of {
        GrantOf::Consent { user, .. } | GrantOf::SignIn { user } | GrantOf::Key { user, .. } => Arc::from(user.as_str()),
        GrantOf::Client { client } => Arc::from(client.as_str()),
    }
}

async fn key_of_text(state: &IssuerState, rules: &Rules, text: &str, now: Timestamp) -> Result<Option<Active>, StoreError> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Ok(None);
    }
    let (record, in_file) = match read_key(&rules.key_brand, text) {
        KeyForm::Own(own) => match rules.file_keys.get(own.id) {
            Some(record) => (Some(KeyRecord::clone(record)), true),
            None => (key_record(state, &KeyId::new(own.id)).await?, false),
        },
        KeyForm::Damaged => (None, false),
        KeyForm::Foreign => match rules.imported_keys {
            ImportedKeys::Accepted => (imported(state, text).await?, false),
            ImportedKeys::Refused => (None, false),
        },
    };
    let is_live = |secret: &crate::model::key::KeySecret| secret.retires.is_none_or(|retires| now < retires);
    let opens = |record: &KeyRecord| {
        record.state_at(now) == "active"
            && record.secrets.iter().any(|secret| is_live(secret) && state.peppers.matches(text.as_bytes(), &secret.hash))
    };
    let Some(record) = record.filter(opens) else { return Ok(None) };
    let user = if in_file { None } else { families::user(state, &record.user).await? };
    if !in_file && !families::stands(user.as_ref(), now) {
        return Ok(None);
    }
    Ok(Some(Active {
        kind: Kind::Key,
        grant: None,
        client: None,
        subject: Arc::from(record.user.as_str()),
        user: Some(record.user.clone()),
        organization: record.organization.clone().or_else(|| user.as_ref().and_then(|user| user.organization.clone())),
        scopes: families::within(&record.scopes, user.as_ref()),
        audience: Vec::new(),
        issued: record.created,
        expires: record.expires,
        id: Some(Arc::from(record.id.as_str())),
        act: None,
    }))
}

async fn imported(state: &IssuerState, text: &str) -> Result<Option<KeyRecord>, StoreError> {
    for digest in state.peppers.imported_digests(text.as_bytes()) {
        if let Some(record) = state.gate.facts.key_by_digest(&digest).await? {
            return Ok(Some(KeyRecord::clone(&record)));
        }
    }
    Ok(None)
}

async fn key_record(state: &IssuerState, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    match state.records.get(&RecordKey::key(id.as_str())).await? {
        Some(stored) => Ok(Some(decode_key(id.as_str(), &stored.bytes)?)),
        None => Ok(None),
    }
}
