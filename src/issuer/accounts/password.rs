//! Changing a password: whatever was opened with the old one ends.

use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::grants;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::audit::Deed;
use crate::issuer::passwords;
use crate::issuer::passwords::Compared;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::issuer::users;
use crate::model::account::AccountRecord;
use crate::model::caller::Subject;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantRecord;
use crate::model::time::Timestamp;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::encode_user;

/// Gives the actor's own account another password. Every session and every grant of it ends, also the session that asks: open another.
///
/// # Errors
/// 401 for a wrong current password, 400 for a new one that may not be set, and what signing in may answer.
pub async fn change_own_password(
    state: &IssuerState,
    actor: &Actor,
    current: Option<String>,
    new: String,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Problem> {
    let user = actor.user().ok_or_else(|| Problem::new(Code::Forbidden, "only a user has a password"))?.clone();
    passwords::check_new("password", &new)?;
    let (mut account, version) = shelf::find::<AccountRecord>(state, user.as_str()).await?.ok_or_else(no_account)?;
    prove_current(state, actor, &account, current, address, now).await?;
    account.password = Some(state.passwords.hash(issuance(state)?.passwords, new).await?);
    let (mut record, revision) = users::find(state, users::LOCAL, user.as_str()).await?.ok_or_else(no_account)?;
    record.valid_from = Some(valid_from(now));
    let organization = record.organization.clone();
    let place = RecordKey::user(users::LOCAL, user.as_str());
    let preconditions = vec![Precondition::AtVersion(place.clone(), revision), shelf::at(&account, version)];
    let writes = vec![Write::Put { key: place, bytes: encode_user(&record), expires: None }, shelf::put(&account, None)];
    if !state.records.commit(preconditions, writes, now).await?.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    end_everything(state, &user, GrantEnd::PasswordChanged, now).await?;
    let done = Done { deed: Deed::PasswordChanged, subject: user.as_str(), organization: organization.as_deref(), address };
    trail::note(state, actor, done, now).await;
    Ok(())
}

/// Proves that whoever asks knows the account's password; guesses count as at a sign-in. An account without one is opened by a session.
///
/// # Errors
/// 401, 403, and what signing in may answer.
pub(in crate::issuer) async fn prove_current(
    state: &IssuerState,
    actor: &Actor,
    account: &AccountRecord,
    current: Option<String>,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Problem> {
    let Some(stored) = account.password.clone() else {
        return match actor {
            Actor::Operator | Actor::Person(_) => Ok(()),
            Actor::Caller(_) => Err(Problem::new(Code::Forbidden, "a first password is set by signing in, not by a key or a token")),
        };
    };
    let current = Zeroizing::new(current.ok_or_else(|| Problem::field("current_password", "is required to set another password"))?);
    passwords::check_length("current_password", &current)?;
    let settings = issuance(state)?.passwords;
    let guess = state.passwords.guesses().begin(settings, address, account.user.as_str(), now).await?;
    match state.passwords.compare(settings, current.to_string(), Some(stored)).await? {
        Compared::Right | Compared::RightAndOutdated(_) => Ok(()),
        Compared::Wrong => {
            guess.failed(now);
            Err(Problem::new(Code::Unauthenticated, "the current password is wrong"))
        }
    }
}

/// Ends every session and every grant of a user.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn end_everything(state: &IssuerState, user: &Subject, why: GrantEnd, now: Timestamp) -> Result<(), Problem> {
    sessions::end_all_of(state, user, now).await?;
    // A key's token stands on its key, which no password opened.
    let is_theirs = |grant: &GrantRecord| grant.user() == Some(user) && grant.key().is_none();
    grants::end_all(state, is_theirs, why, now).await?;
    Ok(())
}

/// From when on tokens are good again: a token says the second of its making, and one of this second must not be refused.
pub(in crate::issuer) fn valid_from(now: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(now.unix_seconds())
}

fn no_account() -> Problem {
    Problem::new(Code::Conflict, "this user has no account, and so no password; an operator may give it one")
}
