//! Erasing a user: first nothing of it opens anything any more, then what is its own goes, then what names it, then itself. An erasure
//! that stops half-way leaves a disabled user, and asking again completes it. A user of the same name made later inherits nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::issuer::IssuerState;
use crate::issuer::accounts::identities;
use crate::issuer::accounts::shelf;
use crate::issuer::audit;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::usage;
use crate::issuer::users;
use crate::model::account::AccountRecord;
use crate::model::account::IdentityRecord;
use crate::model::account::InvitationRecord;
use crate::model::account::OrganizationRecord;
use crate::model::account::SessionRecord;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;
use crate::model::user::UserState;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::decode_key;
use crate::store::codec::encode_key;
use crate::store::codec::encode_user;

/// Things that one commit removes.
const REMOVED_TOGETHER: usize = 200;
const SCANNED_TOGETHER: usize = 500;

/// Erases a user; none: there is none.
pub(in crate::issuer) async fn erase(
    state: &IssuerState,
    source: &str,
    subject: &Subject,
    now: Timestamp,
) -> Result<Option<Committed>, Problem> {
    let place = RecordKey::user(source, subject.as_str());
    for attempt in 0..ATTEMPTS {
        let Some((mut record, revision)) = users::find(state, source, subject.as_str()).await? else {
            return if attempt == 0 { Ok(None) } else { Err(Problem::changed_meanwhile()) };
        };
        // Always written, also when disabled before: the new revision refuses every key that is just being made for it.
        record.state = UserState::Disabled;
        let write = Write::Put { key: place.clone(), bytes: encode_user(&record), expires: None };
        if !state.records.commit(vec![Precondition::AtVersion(place.clone(), revision)], vec![write], now).await?.is_done() {
            continue;
        }
        let Some((record, revision)) = users::find(state, source, subject.as_str()).await? else { continue };
        if record.state == UserState::Active {
            // Somebody enabled it in between, and keys may be on their way again.
            continue;
        }
        let mut writes = vec![Write::Remove(place.clone())];
        if source == users::LOCAL {
            remove_belongings(state, subject, now).await?;
            forget_mentions(state, subject, now).await?;
            writes.push(Write::Remove(AccountRecord::place(subject.as_str())));
        }
        forget_elsewhere(state, source, subject).await?;
        let removed = state.records.commit(vec![Precondition::AtVersion(place.clone(), revision)], writes, now).await?;
        if removed.is_done() {
            // Once more, for what was being counted all the while; whatever went wrong stands in the log.
            let _told_there = forget_elsewhere(state, source, subject).await;
            tracing::info!("a user was erased");
            // A replica that has the last write has those before it.
            return Ok(Some(removed));
        }
    }
    Err(Problem::changed_meanwhile())
}

/// Keys, clients, grants, sessions, sign-ins elsewhere and invitations.
async fn remove_belongings(state: &IssuerState, user: &Subject, now: Timestamp) -> Result<(), Problem> {
    let keys = users::keys_of(state, user).await?;
    let clients = shelf::all::<ClientRecord>(state, "", |client| client.owner.as_ref() == Some(user)).await?;
    let clients: BTreeSet<ClientId> = clients.into_iter().map(|(client, _version)| client.id).collect();
    // First what opens something, then what it stood on.
    let mut writes: Vec<Write> = keys.iter().flat_map(users::removal).collect();
    writes.extend(clients.iter().map(|client| Write::Remove(ClientRecord::place(client.as_str()))));
    let of_theirs = |grant: &GrantRecord| grant.user() == Some(user) || grant.client().is_some_and(|client| clients.contains(client));
    writes.extend(places::<GrantRecord>(state, of_theirs).await?);
    writes.extend(places::<SessionRecord>(state, |session| session.user == *user).await?);
    writes.extend(
        places::<InvitationRecord>(state, |invitation| {
            invitation.made_by.as_ref() == Some(user) || invitation.accepted_by.as_ref() == Some(user)
        })
        .await?,
    );
    writes.extend(places::<IdentityRecord>(state, |identity| identity.user == *user).await?);
    if let Some((account, _version)) = shelf::find::<AccountRecord>(state, user.as_str()).await? {
        let linked = account.identities.iter().map(|linked| identities::identity_id(&linked.issuer, &linked.subject));
        writes.extend(linked.map(|id| Write::Remove(IdentityRecord::place(&id))));
    }
    for some in writes.chunks(REMOVED_TOGETHER) {
        state.records.commit(Vec::new(), some.to_vec(), now).await?;
    }
    Ok(())
}

async fn places<T: Shelved>(state: &IssuerState, is_wanted: impl Fn(&T) -> bool) -> Result<Vec<Write>, Problem> {
    let found = shelf::all::<T>(state, "", is_wanted).await?;
    Ok(found.into_iter().map(|(record, _version)| Write::Remove(T::place(record.id()))).collect())
}

/// Takes the user's name out of what stays: accounts and keys that it made, organisations that it founded. A key that stood on its word
/// is revoked with it: without the name nothing would bound the key any more.
async fn forget_mentions(state: &IssuerState, user: &Subject, now: Timestamp) -> Result<(), Problem> {
    rewrite::<AccountRecord>(state, |account| account.made_by.as_ref() == Some(user), |account| account.made_by = None, now).await?;
    let is_founder = |organization: &OrganizationRecord| organization.founder.as_ref() == Some(user);
    rewrite::<OrganizationRecord>(state, is_founder, |organization| organization.founder = None, now).await?;
    for (mut key, version) in keys_made_by(state, user).await? {
        key.state = KeyState::Revoked;
        let mut extras = key.notes.extras().cloned().unwrap_or_default();
        extras.made_by = None;
        key.notes = KeyNotes::new(extras);
        let place = RecordKey::key(key.id.as_str());
        let write = Write::Put { key: place.clone(), bytes: encode_key(&key), expires: None };
        if !state.records.commit(vec![Precondition::AtVersion(place, version)], vec![write], now).await?.is_done() {
            return Err(Problem::changed_meanwhile());
        }
    }
    Ok(())
}

async fn rewrite<T: Shelved>(
    state: &IssuerState,
    is_wanted: impl Fn(&T) -> bool,
    change: impl Fn(&mut T),
    now: Timestamp,
) -> Result<(), Problem> {
    for (mut record, mut version) in shelf::all::<T>(state, "", &is_wanted).await? {
        let mut is_done = false;
        for _attempt in 0..ATTEMPTS {
            change(&mut record);
            if state.records.commit(vec![shelf::at(&record, version)], vec![shelf::put(&record, None)], now).await?.is_done() {
                is_done = true;
                break;
            }
            match shelf::find::<T>(state, record.id()).await? {
                Some((again, at)) if is_wanted(&again) => (record, version) = (again, at),
                Some(_) | None => {
                    is_done = true;
                    break;
                }
            }
        }
        if !is_done {
            return Err(Problem::changed_meanwhile());
        }
    }
    Ok(())
}

async fn keys_made_by(state: &IssuerState, user: &Subject) -> Result<Vec<(KeyRecord, u64)>, Problem> {
    let made_by = |record: &KeyRecord| record.notes.made_by() == Some(user);
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = state.records.range(Family::Key, after.as_deref(), SCANNED_TOGETHER).await?;
        let records = page.records.iter().filter_map(|(place, stored)| Some((decode_key(&place.id, &stored.bytes).ok()?, stored.version)));
        found.extend(records.filter(|(record, _version)| made_by(record)));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

/// Counts, series and the audit log's names.
async fn forget_elsewhere(state: &IssuerState, source: &str, subject: &Subject) -> Result<(), Problem> {
    let user: Arc<str> = Arc::from(usage::render(&state.rules.load(), source, subject).as_str());
    audit::forget(state, source, subject).await?;
    state.usage.forget(&user).await.map_err(|error| {
        tracing::error!(%error, "the counts of a user could not be erased");
        Problem::new(Code::Unavailable, "the user's counts cannot be erased now; the user is disabled: ask again to complete it")
    })
}
