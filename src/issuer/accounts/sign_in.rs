//! Signing in by name and password.
//!
//! Whoever is wrong reads one text, whatever was wrong, and waits as long. The guess is paid for before anything is hashed.

use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::audit::Deed;
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::run;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::names;
use crate::issuer::passwords;
use crate::issuer::passwords::Compared;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::issuer::users::STANDING;
use crate::model::account::AccountRecord;
use crate::model::caller::Subject;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;

/// No account has this name: it is reserved.
const NOBODY: &str = "nobody";
/// How often the account's operation time is written at the most.
const MARKED_EVERY_SECONDS: u64 = 60;

/// The user whose name and password these are. Marks it online.
///
/// # Errors
/// 401 with one text whatever is wrong, 429 after too many wrong guesses, 503 when too much is to be hashed already.
pub async fn sign_in(
    state: &IssuerState,
    name: &str,
    password: String,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<Subject, Problem> {
    let settings = issuance(state)?.passwords;
    passwords::check_length("password", &password)?;
    state.passwords.refuse_surplus(settings)?;
    let subject = names::account_name(name);
    let guessed = subject.as_ref().map_or("", Subject::as_str);
    let guess = state.passwords.guesses().begin(settings, address, guessed, now).await?;
    let Judged { user, is_known } = judge(state, subject.as_ref(), &Zeroizing::new(password), now).await?;
    let Some(user) = user else {
        guess.failed(now);
        if let Some(actor) = trail::somebody(now) {
            // What was typed as a name may be a password, so only a name that is an account's is noted.
            let subject = if is_known { guessed } else { "" };
            trail::note_behind(state, &actor, Done { deed: Deed::SignInFailed, subject, organization: None, address }, now);
        }
        return Err(wrong());
    };
    drop(guess);
    let (subject, organization) = (user.subject.clone(), user.organization.clone());
    let actor = trail::themselves(user, now);
    let done = Done { deed: Deed::SignedIn, subject: subject.as_str(), organization: organization.as_deref(), address };
    trail::note_behind(state, &actor, done, now);
    Ok(subject)
}

/// The one text for everything that is wrong with a name and a password.
pub(in crate::issuer) fn wrong() -> Problem {
    Problem::new(Code::Unauthenticated, "the name or the password is wrong")
}

/// Notes that a user did something: online and the time of its last operation, both written at most once a minute.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn mark_online(state: &IssuerState, user: &Subject, now: Timestamp) -> Result<(), Problem> {
    for _attempt in 0..ATTEMPTS {
        let Some((mut account, version)) = shelf::find::<AccountRecord>(state, user.as_str()).await? else { return Ok(()) };
        if !marked(&mut account, now) {
            return Ok(());
        }
        if state.records.commit(vec![shelf::at(&account, version)], vec![shelf::put(&account, None)], now).await?.is_done() {
            return Ok(());
        }
    }
    // Somebody else marks it all the time.
    Ok(())
}

/// Notes that a user signed out.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn mark_offline(state: &IssuerState, user: &Subject, now: Timestamp) -> Result<(), Problem> {
    for _attempt in 0..ATTEMPTS {
        let Some((mut account, version)) = shelf::find::<AccountRecord>(state, user.as_str()).await? else { return Ok(()) };
        account.online = false;
        account.last_operation = Some(now);
        if state.records.commit(vec![shelf::at(&account, version)], vec![shelf::put(&account, None)], now).await?.is_done() {
            return Ok(());
        }
    }
    Ok(())
}

struct Judged {
    /// None: something is wrong.
    user: Option<UserRecord>,
    /// Whether there is an account of this name.
    is_known: bool,
}

/// What must hold of a password that was compared.
const PROOF: [Check<Compared>; 1] = [Check { name: "the password is the account's", run: is_right }];

pub(super) fn is_right(compared: &Compared) -> Result<(), Unmet> {
    match compared {
        Compared::Right | Compared::RightAndOutdated(_) => Ok(()),
        Compared::Wrong => Err(Unmet),
    }
}

async fn judge(state: &IssuerState, subject: Option<&Subject>, password: &Zeroizing<String>, now: Timestamp) -> Result<Judged, Problem> {
    let settings = issuance(state)?.passwords;
    for _attempt in 0..ATTEMPTS {
        // What can be no account's name costs the look at the shelf all the same.
        let account = shelf::find::<AccountRecord>(state, subject.map_or(NOBODY, Subject::as_str)).await?;
        let stored = account.as_ref().and_then(|(account, _version)| account.password.clone());
        let compared = state.passwords.compare(settings, password.to_string(), stored).await?;
        if run(&PROOF, &compared).is_err() {
            return Ok(Judged { user: None, is_known: account.is_some() });
        }
        let upgraded = match compared {
            Compared::RightAndOutdated(stronger) => Some(stronger),
            Compared::Right | Compared::Wrong => None,
        };
        let Some((mut account, version)) = account else { return Ok(Judged { user: None, is_known: false }) };
        let user = users::find(state, users::LOCAL, account.user.as_str()).await?.map(|(user, _version)| user);
        let user = user.filter(|user| run(&STANDING, user).is_ok());
        let precondition = shelf::at(&account, version);
        let is_news = marked(&mut account, now) || upgraded.is_some();
        if user.is_none() || !is_news {
            return Ok(Judged { user, is_known: true });
        }
        account.password = upgraded.or(account.password);
        if state.records.commit(vec![precondition], vec![shelf::put(&account, None)], now).await?.is_done() {
            return Ok(Judged { user, is_known: true });
        }
        // It was changed in between, and what was compared may not be its password any more.
    }
    Err(Problem::changed_meanwhile())
}

fn marked(account: &mut AccountRecord, now: Timestamp) -> bool {
    let is_recent = account.last_operation.is_some_and(|last| now.since(last).as_secs() < MARKED_EVERY_SECONDS && last <= now);
    if account.online && is_recent {
        return false;
    }
    account.online = true;
    account.last_operation = Some(now);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::issuer::accounts::tests::PASSWORD;
    use crate::issuer::accounts::tests::founder;
    use crate::issuer::checks;
    use crate::issuer::checks::left_out::leave_out;
    use crate::issuer::tests::Issuer;
    use crate::model::user::UserState;
    use crate::store::RecordKey;
    use crate::store::Write;
    use crate::store::codec::encode_user;

    /// What the step behind the length and the limit of guesses says of alice's password.
    async fn is_judged_right(issuer: &Issuer, password: &str) -> bool {
        let (alice, password) = (names::account_name("alice").unwrap(), Zeroizing::new(password.to_owned()));
        judge(&issuer.state, Some(&alice), &password, issuer.clock.now()).await.unwrap().user.is_some()
    }

    // oauth: R7 R8 R12
    #[tokio::test]
    async fn every_guard_of_a_sign_in_holds_something_up() {
        let refused = async |issuer: &Issuer, password: &str| {
            sign_in(&issuer.state, "alice", password.to_owned(), None, issuer.clock.now()).await.unwrap_err()
        };
        for check in [checks::names(&PROOF), checks::names(&STANDING)].concat() {
            let issuer = Issuer::issuing(|_| {});
            founder(&issuer, "alice").await;
            let password = match check {
                "the password is the account's" => "wrong horse",
                "the user is active" => {
                    let (mut user, _version) = users::find(&issuer.state, users::LOCAL, "alice").await.unwrap().unwrap();
                    user.state = UserState::Disabled;
                    let place = RecordKey::user(users::LOCAL, "alice");
                    issuer.put(Write::Put { key: place, bytes: encode_user(&user), expires: None }).await;
                    PASSWORD
                }
                _ => panic!("no assertion is known of the check {check:?}"),
            };
            assert_eq!(refused(&issuer, password).await, wrong(), "{check}");
            let _without = leave_out(check);
            let signed_in = sign_in(&issuer.state, "alice", password.to_owned(), None, issuer.clock.now()).await;
            assert!(signed_in.is_ok(), "nothing falls without the check: {check}");
        }
        // Those that come before: the step behind them would take what they refuse.
        let issuer = Issuer::issuing(|_| {});
        founder(&issuer, "alice").await;
        for _guess in 0..5 {
            assert_eq!(refused(&issuer, "wrong horse").await, wrong());
        }
        assert_eq!(refused(&issuer, PASSWORD).await.code, Code::TooManyRequests);
        assert!(is_judged_right(&issuer, PASSWORD).await, "nothing falls without the limit of guesses");
        let long = "x".repeat(passwords::PASSWORD_BYTES_MAX + 1);
        let (mut account, _version) = shelf::find::<AccountRecord>(&issuer.state, "alice").await.unwrap().unwrap();
        account.password = Some(issuer.state.passwords.hash(issuance(&issuer.state).unwrap().passwords, long.clone()).await.unwrap());
        issuer.put(shelf::put(&account, None)).await;
        assert_eq!(refused(&issuer, &long).await.details.unwrap().field, "password");
        assert!(is_judged_right(&issuer, &long).await, "nothing falls without the longest password");
    }
}
