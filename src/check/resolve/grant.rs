//! Tokens of our own. They carry no authority themselves: the grant that they stand on does, within what its client, its user and its key
//! hold at this very request, so whatever happens to one of these bites at once.

use std::net::IpAddr;
use std::sync::Arc;

use crate::check::decide::Exit;
use crate::check::reasons::Reason;
use crate::check::resolve::deny;
use crate::check::resolve::facts::ClientFact;
use crate::check::resolve::facts::FoundFacts;
use crate::check::resolve::facts::GrantFact;
use crate::check::resolve::facts::KeyFact;
use crate::check::resolve::key::stands;
use crate::check::resolve::key::within_maker;
use crate::check::resolve::key_of;
use crate::check::resolve::organization_of;
use crate::check::resolve::owner_of;
use crate::check::resolve::tier_of;
use crate::check::resolve::unanswered;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::ProvenBy;
use crate::model::caller::SourceName;
use crate::model::caller::Subject;
use crate::model::caller::UserId;
use crate::model::claims::VerifiedClaims;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::AccessState;
use crate::model::grant::AccessToken;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::key::KeyId;
use crate::model::key::KeyRecord;
use crate::model::rules::Issuer;
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;

/// An opaque token whose MAC held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opaque<'t> {
    pub id: &'t str,
    pub generation: u32,
    /// The id of the pepper that made it.
    pub pepper: &'t str,
}

/// What a token itself says, whatever its form.
struct Token<'t> {
    scopes: Arc<ScopeSet>,
    /// None: it does not say, and so cannot show that it is younger than anything.
    issued: Option<Timestamp>,
    expires: Timestamp,
    /// Who traded another's token for it.
    acting: Option<&'t str>,
}

/// Those behind a token, each found in good standing.
#[derive(Default)]
struct Behind<'f> {
    client: Option<&'f ClientRecord>,
    acting: Option<&'f ClientRecord>,
    key: Option<&'f Arc<KeyRecord>>,
    owner: Option<&'f UserRecord>,
}

type Resolved<'f> = Result<(Caller, Option<&'f Arc<KeyRecord>>), Exit>;

/// A JWT of our own, its signature and its times proven.
pub(super) fn from_token<'f>(
    claims: &VerifiedClaims,
    issuer: &Issuer,
    facts: &'f FoundFacts,
    address: Option<IpAddr>,
    rules: &Rules,
    now: Timestamp,
) -> Resolved<'f> {
    let (Some(grant), Some(id)) = (&claims.grant, &claims.token_id) else {
        return Err(deny(Reason::BadClaims, "the token names no grant, or not itself"));
    };
    let record = live_grant(grant, facts, now)?;
    if record.has_revoked(id) {
        return Err(deny(Reason::Revoked, "the token was taken back"));
    }
    if subject_of(record) != claims.subject.as_str() {
        return Err(deny(Reason::UnknownToken, "the token and its grant name different subjects"));
    }
    // `iat` is cut to whole seconds, and no token is older than its grant.
    let issued = claims.issued.map(|issued| issued.max(record.created));
    let acting = claims.acting_client(record);
    let token = Token { scopes: Arc::clone(&claims.scopes), issued, expires: claims.expires, acting };
    opened(record, token, issuer, facts, address, rules, now)
}

/// An opaque token of our own, its MAC proven.
pub(super) fn from_opaque<'f>(
    shown: &Opaque<'_>,
    facts: &'f FoundFacts,
    address: Option<IpAddr>,
    rules: &Rules,
    now: Timestamp,
) -> Resolved<'f> {
    let own = rules.issuers.iter().find(|issuer| issuer.managed == Managed::ByGrant);
    let issuer = own.ok_or_else(|| deny(Reason::UntrustedIssuer, "nothing is issued under these rules"))?;
    let record = live_grant(shown.id, facts, now)?;
    let mut entries = record.access.iter().filter(|entry| is_number(&entry.id, shown.generation));
    let entry = entries.next();
    if entry.into_iter().chain(entries).any(|entry| entry.state == AccessState::Revoked) {
        return Err(deny(Reason::Revoked, "the token was taken back"));
    }
    let (token, audience) = match &record.of {
        GrantOf::Key { .. } => (newest_of_key(record, shown)?, &record.resources),
        GrantOf::Consent { .. } | GrantOf::Client { .. } | GrantOf::SignIn { .. } => noted(entry, now)?,
    };
    if !audience.iter().any(|named| issuer.audience.contains(named)) {
        return Err(deny(Reason::BadClaims, "the token is for another audience"));
    }
    opened(record, token, issuer, facts, address, rules, now)
}

/// A key has one token at a time, which its grant need not list.
fn newest_of_key(record: &GrantRecord, shown: &Opaque<'_>) -> Result<Token<'static>, Exit> {
    if shown.generation != record.generation || *shown.pepper != *record.pepper {
        return Err(deny(Reason::UnknownToken, "the token was replaced by a newer one"));
    }
    Ok(Token { scopes: Arc::clone(&record.scopes), issued: Some(record.advanced), expires: record.idle_until, acting: None })
}

/// Any other must be listed.
fn noted(entry: Option<&AccessToken>, now: Timestamp) -> Result<(Token<'static>, &Vec<Arc<str>>), Exit> {
    let Some(entry) = entry else { return Err(deny(Reason::UnknownToken, "the grant does not list the token")) };
    match &entry.state {
        AccessState::Revoked => Err(deny(Reason::Revoked, "the token was taken back")),
        AccessState::Out { .. } if now >= entry.expires => Err(deny(Reason::Expired, "the token has expired")),
        AccessState::Out { issued, scopes, audience } => {
            Ok((Token { scopes: Arc::clone(scopes), issued: Some(*issued), expires: entry.expires, acting: None }, audience))
        }
    }
}

/// Whether a text is this number as it is written.
fn is_number(text: &str, number: u32) -> bool {
    text.parse() == Ok(number) && (number == 0 || !text.starts_with(['0', '+'])) && (number != 0 || text == "0")
}

fn live_grant<'f>(id: &str, facts: &'f FoundFacts, now: Timestamp) -> Result<&'f GrantRecord, Exit> {
    let record = match &facts.grant {
        GrantFact::NotAsked => return Err(deny(Reason::Internal, "the grant was not looked up")),
        GrantFact::FromStore(Err(error)) => return Err(unanswered(error)),
        GrantFact::FromStore(Ok(None)) => return Err(deny(Reason::UnknownToken, "no such grant")),
        GrantFact::FromStore(Ok(Some(record))) => record,
    };
    if record.id.as_str() != id {
        return Err(deny(Reason::UnknownToken, "another grant was looked up"));
    }
    match &record.state {
        GrantState::Live if record.is_live(now) => Ok(record),
        GrantState::Live => Err(deny(Reason::Expired, "the grant has expired")),
        GrantState::Pending(_) => Err(deny(Reason::UnknownToken, "the grant's code was not redeemed")),
        GrantState::Ended { .. } => Err(deny(Reason::Revoked, "the grant has ended")),
    }
}

/// Whom the tokens of this grant are about.
fn subject_of(record: &GrantRecord) -> &str {
    match &record.of {
        GrantOf::Consent { user, .. } | GrantOf::SignIn { user } | GrantOf::Key { user, .. } => user.as_str(),
        GrantOf::Client { client } => client.as_str(),
    }
}

fn opened<'f>(
    record: &'f GrantRecord,
    token: Token<'_>,
    issuer: &Issuer,
    facts: &'f FoundFacts,
    address: Option<IpAddr>,
    rules: &Rules,
    now: Timestamp,
) -> Resolved<'f> {
    let behind = match &record.of {
        GrantOf::Consent { client, user } => {
            Behind { client: Some(active_client(client.as_str(), &facts.client)?), owner: Some(owner(user, facts)?), ..Behind::default() }
        }
        GrantOf::Client { client } => {
            let client = active_client(client.as_str(), &facts.client)?;
            // A client that acts for itself does so on the word of whoever registered it.
            Behind { client: Some(client), owner: client.owner.as_ref().map(|user| owner(user, facts)).transpose()?, ..Behind::default() }
        }
        GrantOf::SignIn { user } => Behind { owner: Some(owner(user, facts)?), ..Behind::default() },
        GrantOf::Key { key, user } => behind_key(key, user, facts, address, now)?,
    };
    let acting = token.acting.map(|id| active_client(id, &facts.acting)).transpose()?;
    let behind = Behind { acting, ..behind };
    let Behind { client, key, owner, .. } = behind;
    if let Some(earliest) = owner.and_then(|owner| owner.valid_from)
        && token.issued.is_none_or(|issued| issued < earliest)
    {
        return Err(deny(Reason::Revoked, "issued before the user's tokens became valid"));
    }
    let source = match &record.of {
        GrantOf::Client { .. } => (SourceName::client(), Namespace::Named),
        GrantOf::Consent { .. } | GrantOf::SignIn { .. } | GrantOf::Key { .. } => (rules.local.name.clone(), rules.local.namespace),
    };
    let subject = match &record.of {
        GrantOf::Consent { user, .. } | GrantOf::SignIn { user } | GrantOf::Key { user, .. } => user.clone(),
        GrantOf::Client { client } => {
            Subject::parse(client.as_str()).map_err(|_| deny(Reason::UnknownClient, "the client's id cannot be a subject"))?
        }
    };
    let tiers = [
        key.and_then(|key| key.tier.as_ref()),
        client.and_then(|client| client.tier.as_ref()),
        owner.and_then(|owner| owner.tier.as_ref()),
        issuer.tier.as_ref(),
    ];
    let ends = token.expires.min(record.ends);
    let caller = Caller {
        proven_by: ProvenBy::Token,
        user: UserId::new(&source.0, &subject, source.1),
        source: source.0,
        subject,
        issuer: Some(Arc::clone(&issuer.issuer)),
        organization: organization(record, &behind)?,
        key: key.map(|key| key.id.clone()),
        client: acting.or(client).map(|client| client.id.shared()),
        scopes: scopes(record, token.scopes, &behind, facts)?,
        tier: tier_of(tiers, rules)?,
        environment: environment(record, &behind),
        pinned_version: key.and_then(|key| key.pinned_version.clone()),
        key_rate_limit: key.and_then(|key| key.rate_limit),
        expires: Some(key.and_then(|key| key.expires).map_or(ends, |expires| expires.min(ends))),
    };
    Ok((caller, key))
}

fn active_client<'f>(id: &str, fact: &'f ClientFact) -> Result<&'f ClientRecord, Exit> {
    let record = match fact {
        ClientFact::NotAsked => return Err(deny(Reason::Internal, "the client was not looked up")),
        ClientFact::FromStore(Err(error)) => return Err(unanswered(error)),
        ClientFact::FromStore(Ok(None)) => return Err(deny(Reason::UnknownClient, "the client does not exist")),
        ClientFact::FromStore(Ok(Some(record))) => record,
    };
    if record.id.as_str() != id {
        return Err(deny(Reason::UnknownClient, "another client was looked up"));
    }
    match record.state {
        ClientState::Active => Ok(record),
        ClientState::Disabled => Err(deny(Reason::Disabled, "the client is disabled")),
    }
}

fn owner<'f>(user: &Subject, facts: &'f FoundFacts) -> Result<&'f UserRecord, Exit> {
    let owner = owner_of(facts)?;
    if owner.subject == *user { Ok(owner) } else { Err(deny(Reason::UnknownUser, "another user was looked up")) }
}

/// The key that was traded for the token, and its user; a key of the file has none.
fn behind_key<'f>(id: &KeyId, user: &Subject, facts: &'f FoundFacts, address: Option<IpAddr>, now: Timestamp) -> Result<Behind<'f>, Exit> {
    let record = key_of(facts)?.ok_or_else(|| deny(Reason::UnknownKey, "the token's key does not exist"))?;
    if record.id != *id || record.user != *user {
        return Err(deny(Reason::UnknownKey, "the token names somebody else's key"));
    }
    stands(record, address, now)?;
    let owner = match &facts.key {
        KeyFact::InFile(_) => None,
        KeyFact::NotAsked | KeyFact::FromStore(_) => Some(owner(user, facts)?),
    };
    Ok(Behind { key: Some(record), owner, ..Behind::default() })
}

/// What was granted, what this token was given of it, and what everybody behind it holds now. Never a reserved scope, whoever holds it.
fn scopes(record: &GrantRecord, of_token: Arc<ScopeSet>, behind: &Behind<'_>, facts: &FoundFacts) -> Result<Arc<ScopeSet>, Exit> {
    let mut scopes = of_token.within(&record.scopes);
    for client in [behind.client, behind.acting].into_iter().flatten() {
        scopes = scopes.within(&client.scopes);
    }
    if let Some(key) = behind.key {
        scopes = within_maker(&scopes.within(&key.scopes), key, facts)?;
    }
    if let Some(owner) = behind.owner {
        scopes = owner.within_rights(&scopes);
    }
    Ok(if scopes.holds_reserved() { Arc::new(scopes.without_reserved()) } else { scopes })
}

/// A grant stays with the organisation for which it was given, and so does whatever its client is: when the user behind it leaves, it
/// opens nothing there any more.
fn organization(record: &GrantRecord, behind: &Behind<'_>) -> Result<Option<Arc<str>>, Exit> {
    let left = || deny(Reason::Revoked, "the user behind the token left the organisation");
    match (behind.key, behind.owner, behind.client) {
        (Some(key), Some(owner), _) => organization_of(key.organization.as_ref(), owner.organization.as_ref()),
        (Some(key), None, _) => Ok(key.organization.clone()),
        (None, owner, Some(client)) if matches!(record.of, GrantOf::Client { .. }) => {
            if owner.is_some_and(|owner| !owner.is_still_of(client.organization.as_ref())) {
                return Err(left());
            }
            organization_of(record.organization.as_ref(), client.organization.as_ref())
        }
        (None, Some(owner), _) if !owner.is_still_of(record.organization.as_ref()) => Err(left()),
        (None, Some(owner), _) => Ok(owner.organization.clone()),
        (None, None, _) => Ok(record.organization.clone()),
    }
}

/// What is of the test environment in any part stays out of the live one.
fn environment(record: &GrantRecord, behind: &Behind<'_>) -> Environment {
    let of_grant = behind.key.map_or(record.environment, |key| key.environment);
    let clients = [behind.client, behind.acting].into_iter().flatten();
    match clients.map(|client| client.environment).chain([of_grant]).any(|environment| environment == Environment::Test) {
        true => Environment::Test,
        false => Environment::Live,
    }
}
