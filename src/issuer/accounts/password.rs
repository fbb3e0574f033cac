//! Changing a password: whatever was opened with the old one ends.

use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::grants;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_in;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::audit::Deed;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
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
    let (account, version) = shelf::find::<AccountRecord>(state, user.as_str()).await?.ok_or_else(no_account)?;
    prove_current(state, actor, &account, current, address, now).await?;
    let organization = replace(state, account, version, new, now).await?;
    end_everything(state, &user, GrantEnd::PasswordChanged, now).await?;
    let done = Done { deed: Deed::PasswordChanged, subject: user.as_str(), organization: organization.as_deref(), address };
    trail::note(state, actor, done, now).await;
    Ok(())
}

/// Puts the new password in the old one's place; the organisation of its user.
async fn replace(
    state: &IssuerState,
    mut account: AccountRecord,
    version: u64,
    new: String,
    now: Timestamp,
) -> Result<Option<Arc<str>>, Problem> {
    let user = account.user.as_str();
    account.password = Some(state.passwords.hash(issuance(state)?.passwords, new).await?);
    let (mut record, revision) = users::find(state, users::LOCAL, user).await?.ok_or_else(no_account)?;
    record.valid_from = Some(valid_from(now));
    let place = RecordKey::user(users::LOCAL, user);
    let preconditions = vec![Precondition::AtVersion(place.clone(), revision), shelf::at(&account, version)];
    let writes = vec![Write::Put { key: place, bytes: encode_user(&record), expires: None }, shelf::put(&account, None)];
    if !state.records.commit(preconditions, writes, now).await?.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    Ok(record.organization)
}

/// Somebody who would change an account.
struct Claimant {
    actor: Actor,
    /// argon2id in PHC form; none: the account has no password.
    stored: Option<Arc<str>>,
    /// What it says the password is.
    current: Option<Zeroizing<String>>,
}

const CLAIM: [Check<Claimant, Problem>; 2] = [
    Check { name: "a first password is set by signing in", run: is_in_session },
    Check { name: "a longest password", run: |claimant| passwords::check_length("current_password", claimant.shown()) },
];

const PROOF: [Check<Compared, Problem>; 1] = [Check { name: "the current password is right", run: is_right }];

impl Claimant {
    /// What is to be compared, where there is something to compare it with.
    fn shown(&self) -> &str {
        self.stored.as_ref().and(self.current.as_ref()).map_or("", |current| current.as_str())
    }
}

fn is_in_session(claimant: &Claimant) -> Result<(), Problem> {
    match (&claimant.stored, &claimant.actor) {
        (Some(_), _) | (None, Actor::Operator | Actor::Person(_)) => Ok(()),
        (None, Actor::Caller(_)) => Err(Problem::new(Code::Forbidden, "a first password is set by signing in, not by a key or a token")),
    }
}

fn is_right(compared: &Compared) -> Result<(), Problem> {
    sign_in::is_right(compared).map_err(|_unmet| Problem::new(Code::Unauthenticated, "the current password is wrong"))
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
    let claimant = Claimant { actor: actor.clone(), stored: account.password.clone(), current: current.map(Zeroizing::new) };
    run(&CLAIM, &claimant)?;
    let Some(stored) = claimant.stored else { return Ok(()) };
    let current = claimant.current.ok_or_else(|| Problem::field("current_password", "is required to set another password"))?;
    let settings = issuance(state)?.passwords;
    let guess = state.passwords.guesses().begin(settings, address, account.user.as_str(), now).await?;
    let compared = state.passwords.compare(settings, current.to_string(), Some(stored)).await?;
    run(&PROOF, &compared).inspect_err(|_wrong| guess.failed(now))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::issuer::accounts::tests::Browser;
    use crate::issuer::accounts::tests::PASSWORD;
    use crate::issuer::accounts::tests::founder;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::sign_in_tokens::token_for_sign_in;
    use crate::issuer::tests::Issuer;
    use crate::model::caller::Caller;

    async fn caller(issuer: &Issuer) -> Arc<Caller> {
        let (_id, key) = issuer.key_of("bob", "acme", &["orders:read"]).await;
        issuer.judge(&key).await.unwrap()
    }

    // oauth: R12
    #[tokio::test]
    async fn every_check_of_another_password_holds_something_up() {
        let issuer = Issuer::issuing(|_| {});
        let by_key = Actor::Caller(caller(&issuer).await);
        let claimant = |stored: bool, current: &str| Claimant {
            actor: by_key.clone(),
            stored: stored.then(|| Arc::from("$argon2id$")),
            current: Some(Zeroizing::new(current.to_owned())),
        };
        let rows = [
            ("a first password is set by signing in", claimant(false, "")),
            ("a longest password", claimant(true, &"x".repeat(passwords::PASSWORD_BYTES_MAX + 1))),
        ];
        run(&CLAIM, &claimant(true, PASSWORD)).unwrap();
        assert_each_is_needed(|| CLAIM, &rows);
        assert_each_is_needed(|| PROOF, &[("the current password is right", Compared::Wrong)]);
    }

    // oauth: H12 R8
    #[tokio::test]
    async fn what_a_change_of_password_ends_and_counts_nothing_else_would() {
        for is_whole in [true, false] {
            let issuer = Issuer::issuing(|_| {});
            let (state, now) = (&issuer.state, issuer.clock.now());
            let user = founder(&issuer, "alice").await.user;
            let browser = Browser::of(&issuer, "alice").await;
            let actor = browser.actor().await;
            token_for_sign_in(state, &user, None, now).await.unwrap();
            let (account, version) = shelf::find::<AccountRecord>(state, "alice").await.unwrap().unwrap();
            if is_whole {
                change_own_password(state, &actor, Some(PASSWORD.into()), "another horse".into(), None, now).await.unwrap();
            } else {
                // Its first half alone.
                replace(state, account, version, "another horse".into(), now).await.unwrap();
            }
            let grants = shelf::all::<GrantRecord>(state, "", |grant| grant.is_live(now)).await.unwrap();
            assert_eq!((grants.is_empty(), browser.is_signed_in().await), (is_whole, !is_whole));
        }
        let issuer = Issuer::issuing(|_| {});
        let (state, now) = (&issuer.state, issuer.clock.now());
        founder(&issuer, "alice").await;
        let actor = Browser::of(&issuer, "alice").await.actor().await;
        let (account, _version) = shelf::find::<AccountRecord>(state, "alice").await.unwrap().unwrap();
        let prove = async |password: &str| prove_current(state, &actor, &account, Some(password.into()), None, now).await;
        for _guess in 0..5 {
            assert_eq!(prove("wrong horse").await.unwrap_err().code, Code::Unauthenticated);
        }
        assert_eq!(prove(PASSWORD).await.unwrap_err().code, Code::TooManyRequests);
        let compared = state.passwords.compare(issuance(state).unwrap().passwords, PASSWORD.into(), account.password.clone()).await;
        assert_eq!(run(&PROOF, &compared.unwrap()), Ok(()), "nothing falls without the limit of guesses");
    }
}
