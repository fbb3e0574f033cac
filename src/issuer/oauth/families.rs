//! Grants on the shelf: loading, replacing and ending them, and the access tokens that stand in them.
//!
//! Every change names the version it rests on, so that of two at once one is refused and judges anew.

use std::sync::Arc;
use std::time::Duration;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::audit;
use crate::issuer::audit::Deed;
use crate::model::caller::Caller;
use crate::model::caller::Namespace;
use crate::model::caller::ProvenBy;
use crate::model::caller::SourceName;
use crate::model::caller::Subject;
use crate::model::caller::UserId;
use crate::model::client::ClientRecord;
use crate::model::grant::ACCESS_MAX;
use crate::model::grant::AccessState;
use crate::model::grant::AccessToken;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::decode_user;

/// How often a change that loses a race is judged again.
pub(in crate::issuer) const ATTEMPTS: usize = 8;
/// How long a grant outlives its end on the shelf, so that what is shown late is still recognised as dead.
const MARGIN: Duration = Duration::from_secs(86_400);
/// The same for grants that only ever had one token: there is one for each of them.
const MARGIN_OF_ONE: Duration = Duration::from_secs(60);

/// The grant of this id and its version.
///
/// # Errors
/// A store that does not answer, or a record that cannot be read.
pub(in crate::issuer) async fn load(state: &IssuerState, id: &str) -> Result<Option<(GrantRecord, u64)>, StoreError> {
    match state.records.get(&GrantRecord::place(id)).await? {
        Some(stored) => Ok(Some((GrantRecord::decode(id, &stored.bytes)?, stored.version))),
        None => Ok(None),
    }
}

/// Puts a new grant on the shelf; `false`: there is one of this id.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn create(state: &IssuerState, record: &GrantRecord, now: Timestamp) -> Result<bool, StoreError> {
    let place = GrantRecord::place(record.id.as_str());
    let committed = state.records.commit(vec![Precondition::Absent(place)], vec![put(record)], now).await?;
    Ok(committed.is_done())
}

/// Puts a grant in the place of the version that was read; `false`: somebody was faster.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn replace(
    state: &IssuerState,
    record: &GrantRecord,
    version: u64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let place = GrantRecord::place(record.id.as_str());
    let committed = state.records.commit(vec![Precondition::AtVersion(place, version)], vec![put(record)], now).await?;
    Ok(committed.is_done())
}

/// The write of a grant.
pub(in crate::issuer) fn put(record: &GrantRecord) -> Write {
    let margin = match &record.of {
        GrantOf::Client { .. } => MARGIN_OF_ONE,
        GrantOf::Consent { .. } | GrantOf::SignIn { .. } | GrantOf::Key { .. } => MARGIN,
    };
    let expires = Some(record.ends.plus(margin));
    Write::Put { key: GrantRecord::place(record.id.as_str()), bytes: record.encode(), expires }
}

/// Makes the record an ended one. Its tokens need no entry any more.
pub(in crate::issuer) fn finish(record: &mut GrantRecord, why: GrantEnd, now: Timestamp) {
    record.state = GrantState::Ended { at: now, why };
    record.access.clear();
}

pub(in crate::issuer) fn contended(id: &str) -> StoreError {
    StoreError::Unavailable(format!("the grant {id} is changed by others without pause"))
}

/// Notes a new opaque access token and gives the number that its handle carries; none when numbers have run out. The oldest one
/// gives way beyond [`ACCESS_MAX`].
pub(in crate::issuer) fn put_out(
    record: &mut GrantRecord,
    scopes: Arc<ScopeSet>,
    audience: Vec<Arc<str>>,
    issued: Timestamp,
    expires: Timestamp,
) -> Option<u32> {
    let number = record.access.iter().filter_map(number_of).max().unwrap_or(0).checked_add(1)?;
    record.access.retain(|token| issued < token.expires);
    while record.access.len() >= ACCESS_MAX {
        let outs = record.access.iter().enumerate().filter(|(_position, token)| matches!(token.state, AccessState::Out { .. }));
        let (_number, oldest) = outs.filter_map(|(position, token)| Some((number_of(token)?, position))).min()?;
        record.access.remove(oldest);
    }
    let state = AccessState::Out { issued, scopes, audience };
    record.access.push(AccessToken { id: Arc::from(number.to_string()), state, expires });
    Some(number)
}

/// Takes one access token back. `false`: the grant has no room to remember it, and must end as a whole.
pub(in crate::issuer) fn take_back(record: &mut GrantRecord, id: &str, expires: Timestamp, now: Timestamp) -> bool {
    if let Some(token) = record.access.iter_mut().find(|token| *token.id == *id) {
        token.state = AccessState::Revoked;
        return true;
    }
    forget_expired(record, now);
    if record.access.len() >= ACCESS_MAX {
        return false;
    }
    record.access.push(AccessToken { id: Arc::from(id), state: AccessState::Revoked, expires });
    true
}

/// The opaque token of this number, where it may still open something.
pub(in crate::issuer) fn out_token(record: &GrantRecord, number: u32, now: Timestamp) -> Option<&AccessToken> {
    let wanted = number.to_string();
    let is_out = |token: &&AccessToken| *token.id == *wanted && matches!(token.state, AccessState::Out { .. }) && now < token.expires;
    record.access.iter().find(is_out)
}

/// The number of an opaque token; a JWT's `jti` has none.
pub(in crate::issuer) fn number_of(token: &AccessToken) -> Option<u32> {
    token.id.parse().ok()
}

/// The highest number stays though it expired: a number that came again would wake the token that had it before.
fn forget_expired(record: &mut GrantRecord, now: Timestamp) {
    let highest = record.access.iter().filter_map(number_of).max();
    record.access.retain(|token| now < token.expires || (highest.is_some() && number_of(token) == highest));
}

/// The local user of this name.
///
/// # Errors
/// A store that does not answer, or a record that cannot be read.
pub(in crate::issuer) async fn user(state: &IssuerState, subject: &Subject) -> Result<Option<UserRecord>, StoreError> {
    let rules = state.rules.load();
    let place = RecordKey::user(rules.local.name.as_str(), subject.as_str());
    match state.records.get(&place).await? {
        Some(stored) => Ok(Some(decode_user(&place.id, &stored.bytes)?)),
        None => Ok(None),
    }
}

/// Whether what was given at `since` in this user's name still counts.
pub(in crate::issuer) fn stands(user: Option<&UserRecord>, since: Timestamp) -> bool {
    user.is_some_and(|user| user.state == UserState::Active && user.valid_from.is_none_or(|from| from <= since))
}

/// The same of a grant, which stays with the organisation for which it was given.
pub(in crate::issuer) fn stands_for(user: Option<&UserRecord>, grant: &GrantRecord) -> bool {
    stands(user, grant.created) && user.is_some_and(|user| user.is_still_of(grant.organization.as_ref()))
}

/// Whether whoever registered a client stands, and still belongs to the client's organisation. One that nobody owns is an operator's.
pub(in crate::issuer) fn owner_stands(client: &ClientRecord, owner: Option<&UserRecord>, since: Timestamp) -> bool {
    client.owner.is_none() || (stands(owner, since) && owner.is_some_and(|owner| owner.is_still_of(client.organization.as_ref())))
}

/// These scopes within what the user holds.
pub(in crate::issuer) fn within(scopes: &ScopeSet, user: Option<&UserRecord>) -> ScopeSet {
    match user.map(|user| &user.rights) {
        Some(Rights::Only(rights)) => scopes.intersect(rights),
        Some(Rights::Unlimited) | None => scopes.clone(),
    }
}

/// A client that acts for itself, for the audit log.
pub(in crate::issuer) fn actor_of(client: &ClientRecord) -> Option<Actor> {
    let source = SourceName::client();
    let subject = Subject::parse(client.id.as_str()).ok()?;
    Some(Actor::Caller(Arc::new(Caller {
        proven_by: ProvenBy::Token,
        user: UserId::new(&source, &subject, Namespace::Named),
        source,
        subject,
        issuer: None,
        organization: client.organization.clone(),
        key: None,
        client: Some(Arc::from(client.id.as_str())),
        scopes: Arc::default(),
        tier: None,
        environment: client.environment,
        pinned_version: None,
        key_rate_limit: None,
        expires: None,
    })))
}

/// Writes into the audit log what a client did to a grant.
pub(in crate::issuer) async fn note(
    state: &IssuerState,
    client: &ClientRecord,
    deed: Deed,
    grant: &GrantRecord,
    address: Option<std::net::IpAddr>,
    now: Timestamp,
) {
    let Some(actor) = actor_of(client) else { return };
    let entry = audit::Entry {
        deed,
        actor: &actor,
        subject: grant.id.as_str(),
        organization: grant.organization.as_deref(),
        address,
        request_id: None,
        changes: &[],
    };
    audit::note(state, entry, now).await;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::caller::Environment;
    use crate::model::client::ClientId;
    use crate::model::grant::GrantId;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn grant() -> GrantRecord {
        let of = GrantOf::Client { client: ClientId::new("app_01234567890123456789") };
        GrantRecord::new(GrantId::new("g"), of, Environment::Live, "p", NOW, NOW.plus(MARGIN))
    }

    fn out(record: &mut GrantRecord, now: Timestamp, seconds: u64) -> Option<u32> {
        put_out(record, Arc::default(), Vec::new(), now, now.plus(Duration::from_secs(seconds)))
    }

    #[test]
    fn the_oldest_opaque_token_gives_way_and_no_number_comes_twice() {
        let mut record = grant();
        for number in 1..=40 {
            assert_eq!(out(&mut record, NOW, 60), Some(number));
        }
        assert_eq!(record.access.len(), ACCESS_MAX);
        assert!(out_token(&record, 8, NOW).is_none() && out_token(&record, 9, NOW).is_some());
        let later = NOW.plus(Duration::from_secs(60));
        assert!(out_token(&record, 40, later).is_none());
        assert_eq!(out(&mut record, later, 60), Some(41), "though every other one expired");
        assert_eq!(record.access.len(), 1, "what expired is gone");
    }

    #[test]
    fn what_is_taken_back_is_remembered_until_it_expires_or_there_is_no_room() {
        let mut record = grant();
        assert_eq!(out(&mut record, NOW, 60), Some(1));
        assert!(take_back(&mut record, "1", NOW, NOW));
        assert!(record.has_revoked("1") && out_token(&record, 1, NOW).is_none());
        let expires = NOW.plus(Duration::from_secs(60));
        for number in 1..ACCESS_MAX {
            assert!(take_back(&mut record, &format!("jti{number}"), expires, NOW));
        }
        assert!(!take_back(&mut record, "one-more", expires, NOW));
        assert!(take_back(&mut record, "jti1", expires, NOW), "twice is once");
        assert_eq!(out(&mut record, NOW, 60), None, "nothing that was taken back may be forgotten");
        assert!(take_back(&mut record, "one-more", expires.plus(Duration::from_secs(9)), expires));
        assert_eq!(out(&mut record, expires, 60), Some(2));
    }

    proptest! {
        #[test]
        fn numbers_rise_and_the_list_is_bounded(steps in prop::collection::vec((0u8..3, 0u64..90), 0..120)) {
            let mut record = grant();
            let mut now = NOW;
            let mut last = 0;
            for (kind, seconds) in steps {
                match kind {
                    0 => now = now.plus(Duration::from_secs(seconds)),
                    1 => if let Some(number) = out(&mut record, now, seconds) {
                        prop_assert!(number > last);
                        last = number;
                    },
                    _ => {
                        let _room = take_back(&mut record, &format!("j{seconds}"), now.plus(Duration::from_secs(seconds)), now);
                    }
                }
                prop_assert!(record.access.len() <= ACCESS_MAX);
            }
        }
    }
}
