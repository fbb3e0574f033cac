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
use crate::model::client::ClientId;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::AccessState;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::handle::Handle;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key_text::KeyForm;
use crate::model::key_text::read_key;
use crate::model::rules::ImportedKeys;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Rules;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
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
    /// Of the key that it is, or stands on.
    pub(in crate::issuer) notes: KeyNotes,
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
    let acting = match &traced {
        Traced::Signed { claims, .. } => claims.acting_client(&grant),
        Traced::Refresh { .. } | Traced::Opaque { .. } => None,
    };
    let Some(holders) = Holders::of(state, &grant, acting, now).await? else { return Ok(None) };
    Ok(match traced {
        Traced::Refresh { generation, .. } => refresh(grant, generation, holders),
        Traced::Opaque { number, .. } => opaque(grant, number, holders, now),
        Traced::Signed { claims, .. } => signed(grant, &claims, text, holders),
    })
}

/// Whoever a token stands on, all of them standing.
#[derive(Default)]
struct Holders {
    user: Option<UserRecord>,
    client: Option<ClientRecord>,
    /// The client that traded another's token for it.
    acting: Option<ClientRecord>,
    /// What its key holds now.
    key: Option<ScopeSet>,
    notes: KeyNotes,
}

impl Holders {
    async fn of(state: &IssuerState, grant: &GrantRecord, acting: Option<&str>, now: Timestamp) -> Result<Option<Self>, StoreError> {
        let mut holders = Self::default();
        for (id, holder) in [(grant.client().map(ClientId::as_str), &mut holders.client), (acting, &mut holders.acting)] {
            let Some(id) = id else { continue };
            match clients::find(state, id).await? {
                Some((record, _revision)) if record.state == ClientState::Active => *holder = Some(record),
                Some(_) | None => return Ok(None),
            }
        }
        let owner = holders.client.as_ref().and_then(|client| client.owner.as_ref());
        if let Some(subject) = grant.user().or(owner) {
            holders.user = families::user(state, subject).await?;
        }
        let user = holders.user.as_ref();
        let stands = match (&grant.of, &holders.client) {
            (GrantOf::Client { .. }, Some(client)) => families::owner_stands(client, user, grant.created),
            (GrantOf::Consent { .. } | GrantOf::SignIn { .. }, _) => families::stands_for(user, grant),
            (GrantOf::Key { .. }, _) => families::stands(user, grant.created),
            (GrantOf::Client { .. }, None) => false,
        };
        if !stands {
            return Ok(None);
        }
        if let (Some(id), Some(user)) = (grant.key(), user) {
            let Some(key) = key_record(state, id).await?.filter(|key| key.state_at(now) == "active") else { return Ok(None) };
            let Some(scopes) = scopes_of_key(state, &key, user).await? else { return Ok(None) };
            (holders.key, holders.notes) = (Some(scopes), key.notes);
        }
        Ok(Some(holders))
    }

    fn ceiling(&self, scopes: &ScopeSet) -> ScopeSet {
        let clients = [&self.client, &self.acting].into_iter().flatten().map(|client| &*client.scopes);
        let ceilings = clients.chain(&self.key);
        let within = ceilings.fold(scopes.clone(), |within, ceiling| within.intersect(ceiling));
        families::within(&within, self.user.as_ref()).without_reserved()
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
        notes: holders.notes,
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
        notes: holders.notes,
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
        notes: holders.notes,
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
    let scopes = match &user {
        _ if in_file => ScopeSet::clone(&record.scopes),
        Some(user) if families::stands(Some(user), now) => match scopes_of_key(state, &record, user).await? {
            Some(scopes) => scopes,
            None => return Ok(None),
        },
        Some(_) | None => return Ok(None),
    };
    Ok(Some(Active {
        kind: Kind::Key,
        grant: None,
        client: None,
        subject: Arc::from(record.user.as_str()),
        user: Some(record.user.clone()),
        organization: record.organization.clone().or_else(|| user.as_ref().and_then(|user| user.organization.clone())),
        scopes,
        audience: Vec::new(),
        issued: record.created,
        expires: record.expires,
        id: Some(Arc::from(record.id.as_str())),
        act: None,
        notes: record.notes,
    }))
}

/// What a stored key holds now, by its user and by whoever made it for that one; none: nothing.
async fn scopes_of_key(state: &IssuerState, key: &KeyRecord, user: &UserRecord) -> Result<Option<ScopeSet>, StoreError> {
    if user.organization.is_some() && !user.is_still_of(key.organization.as_ref()) {
        return Ok(None);
    }
    let scopes = user.within_rights(&key.scopes);
    let Some(maker) = key.notes.made_by() else { return Ok(Some(ScopeSet::clone(&scopes))) };
    let maker = families::user(state, maker).await?.filter(|maker| maker.state == UserState::Active);
    Ok(maker.and_then(|maker| maker.gives(&scopes, key)).map(|scopes| ScopeSet::clone(&scopes)))
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
