//! Finding users and what is theirs.

use crate::issuer::IssuerState;
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::run;
use crate::issuer::problem::Problem;
use crate::issuer::users::LOCAL;
use crate::model::caller::Subject;
use crate::model::key::HashAlgorithm;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;

/// Records that one look at the shelf brings.
const SCANNED_TOGETHER: usize = 500;

/// The rendered ids of an organisation's users, for filtering counts.
pub(in crate::issuer) async fn of_organization(state: &IssuerState, organization: &str) -> Result<Vec<UserRecord>, Problem> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = state.records.range(Family::User, after.as_deref(), SCANNED_TOGETHER).await?;
        let records = page.records.iter().filter_map(|(place, stored)| decode_user(&place.id, &stored.bytes).ok());
        found.extend(records.filter(|record| record.organization.as_deref() == Some(organization)));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

pub(in crate::issuer) async fn find(state: &IssuerState, source: &str, subject: &str) -> Result<Option<(UserRecord, u64)>, Problem> {
    let place = RecordKey::user(source, subject);
    match state.records.get(&place).await? {
        Some(stored) => Ok(Some((decode_user(&place.id, &stored.bytes)?, stored.version))),
        None => Ok(None),
    }
}

/// What must hold of a user in whose name something is done.
pub(in crate::issuer) const STANDING: [Check<UserRecord>; 1] = [Check { name: "the user is active", run: stands }];

pub(in crate::issuer) fn stands(user: &UserRecord) -> Result<(), Unmet> {
    match user.state {
        UserState::Active => Ok(()),
        UserState::Disabled => Err(Unmet),
    }
}

/// A local user who may do anything at all, and what a commit in its name rests on: should it be disabled or erased meanwhile, nothing of
/// its own may be left for the next one of its name.
pub(in crate::issuer) async fn standing(state: &IssuerState, user: &Subject) -> Result<Option<(UserRecord, Precondition)>, Problem> {
    let found = find(state, LOCAL, user.as_str()).await?;
    Ok(found.filter(|(user, _version)| run(&STANDING, user).is_ok()).map(|(user, version)| {
        let precondition = Precondition::AtVersion(RecordKey::user(LOCAL, user.subject.as_str()), version);
        (user, precondition)
    }))
}

pub(super) async fn revision_of(state: &IssuerState, record: &UserRecord) -> u64 {
    let place = RecordKey::user(&record.source, record.subject.as_str());
    match state.records.get(&place).await {
        Ok(stored) => stored.map_or(0, |stored| stored.version),
        Err(_unknown) => 0,
    }
}

pub(in crate::issuer) async fn keys_of(state: &IssuerState, user: &Subject) -> Result<Vec<KeyRecord>, Problem> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = state.records.range(Family::Key, after.as_deref(), SCANNED_TOGETHER).await?;
        let records = page.records.iter().filter_map(|(place, stored)| decode_key(&place.id, &stored.bytes).ok());
        found.extend(records.filter(|record| record.user == *user));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

pub(super) async fn has_foreign_keys(state: &IssuerState, record: &UserRecord) -> Result<bool, Problem> {
    let keys = keys_of(state, &record.subject).await?;
    let is_foreign = |key: &KeyRecord| key.state != KeyState::Revoked && !record.is_still_of(key.organization.as_ref());
    Ok(keys.iter().any(is_foreign))
}

/// What a key leaves behind: nothing.
pub(in crate::issuer) fn removal(key: &KeyRecord) -> Vec<Write> {
    let imported = key.secrets.iter().filter(|secret| secret.hash.algorithm == HashAlgorithm::HmacOfSha256);
    let mut writes: Vec<Write> = imported.map(|secret| Write::Remove(RecordKey::digest(&secret.hash.digest))).collect();
    writes.push(Write::Remove(RecordKey::key(key.id.as_str())));
    writes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::model::time::Timestamp;
    use crate::model::user::Rights;

    #[test]
    fn nothing_is_done_in_the_name_of_a_disabled_user() {
        let user = |state| UserRecord {
            source: Arc::from(LOCAL),
            subject: Subject::parse("ann").unwrap(),
            organization: None,
            tier: None,
            rights: Rights::Unlimited,
            state,
            disabled_by: None,
            valid_from: None,
            created: Timestamp::from_unix_seconds(0),
        };
        run(&STANDING, &user(UserState::Active)).unwrap();
        assert_each_is_needed(|| STANDING, &[("the user is active", user(UserState::Disabled))]);
    }
}
