//! The grants that people gave: made with a code, found by their user, ended.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::model::caller::Subject;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::grant::PendingCode;
use crate::model::handle::HandleKind;
use crate::model::hex::write_hex;
use crate::model::issuance::Issuance;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::secrets::SecretError;
use crate::secrets::random_id;
use crate::secrets::sha256;
use crate::store::Precondition;
use crate::store::Write;

/// How long a grant that opens nothing any more is still known, so that a late repeat is told from a made-up one.
pub(in crate::issuer) const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

/// What is granted with a code.
#[derive(Debug)]
pub(in crate::issuer) struct Granted<'a> {
    pub client: &'a ClientRecord,
    pub user: &'a UserRecord,
    pub session: Option<Arc<str>>,
    pub redirect_uri: Arc<str>,
    pub redirect_uri_named: bool,
    pub challenge: Arc<str>,
    pub scopes: Arc<ScopeSet>,
    pub resources: Vec<Arc<str>>,
}

/// A grant that is ready to be kept.
pub(in crate::issuer) struct Prepared {
    pub record: GrantRecord,
    pub code: Zeroizing<String>,
    /// What must not have changed when it is.
    pub preconditions: Vec<Precondition>,
    pub writes: Vec<Write>,
}

/// Prepares a grant and its code; none where the user may do nothing any more.
///
/// # Errors
/// A store that does not answer, a machine without random bytes.
pub(in crate::issuer) async fn prepare(
    state: &IssuerState,
    issuance: &Issuance,
    granted: Granted<'_>,
    now: Timestamp,
) -> Result<Option<Prepared>, Problem> {
    let Some((_user, standing)) = users::standing(state, &granted.user.subject).await? else { return Ok(None) };
    let id = new_grant_id(&granted.user.subject)?;
    let (record, write) = pending(state, issuance, granted, id, now);
    let code = code_of(state, &record)?;
    Ok(Some(Prepared { preconditions: vec![shelf::absent(&record), standing], writes: vec![write], record, code }))
}

/// The id of a new grant of this user's. The grants of one user lie side by side, so that they are found without reading all others.
///
/// # Errors
/// When the system gives no random bytes.
pub(in crate::issuer) fn new_grant_id(user: &Subject) -> Result<GrantId, SecretError> {
    Ok(GrantId::new(&format!("{}-{}", neighbourhood(user), random_id()?)))
}

/// What this user's grants begin with.
fn neighbourhood(user: &Subject) -> String {
    let mut digest = write_hex(&sha256(format!("grants of {}", user.as_str()).as_bytes()));
    digest.truncate(16);
    digest
}

/// The record of a grant whose code is out, and the write that puts it on the shelf. Unredeemed it is soon forgotten.
pub(in crate::issuer) fn pending(
    state: &IssuerState,
    issuance: &Issuance,
    granted: Granted<'_>,
    id: GrantId,
    now: Timestamp,
) -> (GrantRecord, Write) {
    let lifetimes = issuance.lifetimes;
    let expires = now.plus(lifetimes.code);
    let of = GrantOf::Consent { client: granted.client.id.clone(), user: granted.user.subject.clone() };
    let ends = now.plus(lifetimes.refresh_absolute);
    let record = GrantRecord {
        organization: granted.user.organization.clone(),
        scopes: granted.scopes,
        resources: granted.resources,
        state: GrantState::Pending(PendingCode {
            redirect_uri: granted.redirect_uri,
            redirect_uri_named: granted.redirect_uri_named,
            challenge: granted.challenge,
            expires,
            failures: 0,
        }),
        idle_until: now.plus(lifetimes.refresh_idle),
        session: granted.session,
        ..GrantRecord::new(id, of, granted.client.environment, state.peppers.current_id(), now, ends)
    };
    let write = shelf::put(&record, Some(expires.plus(FORGOTTEN_AFTER)));
    (record, write)
}

/// The code of a grant: the same text whenever it is asked for.
///
/// # Errors
/// When the pepper that it was made under is gone.
pub(in crate::issuer) fn code_of(state: &IssuerState, record: &GrantRecord) -> Result<Zeroizing<String>, SecretError> {
    let rules = state.rules.load();
    state.peppers.handle(&rules.key_brand, HandleKind::Code, record.id.as_str(), 0, &record.pepper)
}

/// The grant of this id.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn find(state: &IssuerState, id: &str) -> Result<Option<(GrantRecord, u64)>, Problem> {
    shelf::find(state, id).await
}

/// What this user allowed clients to do, as far as tokens came of it that may still open something.
///
/// # Errors
/// A store that does not answer. A record that cannot be read is passed over: it opens nothing.
pub(in crate::issuer) async fn live_of(state: &IssuerState, user: &Subject, now: Timestamp) -> Result<Vec<GrantRecord>, Problem> {
    let found = shelf::all(state, &neighbourhood(user), |grant: &GrantRecord| grant.user() == Some(user) && grant.is_live(now)).await?;
    Ok(found.into_iter().map(|(grant, _version)| grant).collect())
}

/// Ends everything that this user allowed a client, codes that are out included; what was ended.
///
/// # Errors
/// A store that does not answer, or somebody else who changes it all the time.
pub(in crate::issuer) async fn take_back(
    state: &IssuerState,
    user: &Subject,
    client: &str,
    now: Timestamp,
) -> Result<Vec<GrantRecord>, Problem> {
    let stands = |grant: &GrantRecord| {
        let is_theirs = grant.user() == Some(user) && grant.client().is_some_and(|granted| granted.as_str() == client);
        is_theirs && (grant.is_live(now) || matches!(grant.state, GrantState::Pending(_)))
    };
    let found = shelf::all(state, &neighbourhood(user), stands).await?;
    let mut ended = Vec::with_capacity(found.len());
    for (grant, version) in found {
        end(state, grant.clone(), version, now).await?;
        ended.push(grant);
    }
    Ok(ended)
}

async fn end(state: &IssuerState, mut grant: GrantRecord, mut version: u64, now: Timestamp) -> Result<(), Problem> {
    for _attempt in 0..ATTEMPTS {
        let precondition = shelf::at(&grant, version);
        grant.state = GrantState::Ended { at: now, why: GrantEnd::Revoked };
        let write = shelf::put(&grant, Some(grant.ends.plus(FORGOTTEN_AFTER)));
        if state.records.commit(vec![precondition], vec![write], now).await?.is_done() {
            return Ok(());
        }
        match find(state, grant.id.as_str()).await? {
            Some((again, at)) if !matches!(again.state, GrantState::Ended { .. }) => (grant, version) = (again, at),
            Some(_) | None => return Ok(()),
        }
    }
    Err(Problem::changed_meanwhile())
}
