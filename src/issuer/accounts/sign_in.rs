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
use crate::issuer::audit;
use crate::issuer::audit::Deed;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::names;
use crate::issuer::passwords;
use crate::issuer::passwords::Compared;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::model::account::AccountRecord;
use crate::model::caller::Subject;
use crate::model::key::UserRecord;
use crate::model::key::UserState;
use crate::model::time::Timestamp;

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
    let subject = names::account_name(name);
    let guessed = subject.as_ref().map_or("", Subject::as_str);
    let guess = state.passwords.guesses().begin(settings, address, guessed, now).await?;
    let Judged { user, is_known } = judge(state, subject.as_ref(), &Zeroizing::new(password), now).await?;
    let Some(user) = user else {
        guess.failed(now);
        if let Some(actor) = trail::somebody(now) {
            // What was typed as a name may be a password, so only a name that is an account's is noted.
            let subject = if is_known { guessed } else { "" };
            let deed = Deed::SignInFailed;
            let entry = audit::Entry { deed, actor: &actor, subject, organization: None, address, request_id: None };
            audit::note_behind(state, entry, now);
        }
        return Err(wrong());
    };
    drop(guess);
    let (subject, organization) = (user.subject.clone(), user.organization.clone());
    let actor = trail::themselves(user, now);
    let done = Done { deed: Deed::SignedIn, subject: subject.as_str(), organization: organization.as_deref(), address };
    trail::note(state, &actor, done, now).await;
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

async fn judge(state: &IssuerState, subject: Option<&Subject>, password: &Zeroizing<String>, now: Timestamp) -> Result<Judged, Problem> {
    let settings = issuance(state)?.passwords;
    for _attempt in 0..ATTEMPTS {
        let account = match subject {
            Some(subject) => shelf::find::<AccountRecord>(state, subject.as_str()).await?,
            None => None,
        };
        let stored = account.as_ref().and_then(|(account, _version)| account.password.clone());
        let upgraded = match state.passwords.compare(settings, password.to_string(), stored).await? {
            Compared::Wrong => return Ok(Judged { user: None, is_known: account.is_some() }),
            Compared::Right => None,
            Compared::RightAndOutdated(stronger) => Some(stronger),
        };
        let Some((mut account, version)) = account else { return Ok(Judged { user: None, is_known: false }) };
        let user = users::find(state, users::LOCAL, account.user.as_str()).await?.map(|(user, _version)| user);
        let user = user.filter(|user| match user.state {
            UserState::Active => true,
            UserState::Disabled => false,
        });
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
