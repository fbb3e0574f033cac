//! Somebody is proven by a provider: whose account that opens, and what becomes of who has none.

use std::sync::Arc;

use axum::http::header;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;

use crate::issuer::IssuerState;
use crate::issuer::accounts::identities;
use crate::issuer::accounts::sign_up::Profile;
use crate::issuer::accounts::sign_up::sign_up_linked;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::audit::Deed;
use crate::issuer::federation::answer;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::ask::Journey;
use crate::issuer::federation::finish;
use crate::issuer::pages;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Code;
use crate::issuer::sessions;
use crate::issuer::tickets;
use crate::issuer::users;
use crate::jose::id_token::IdToken;
use crate::model::account::AccountRecord;
use crate::model::account::LinkedIdentity;
use crate::model::caller::Subject;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::Provider;
use crate::model::issuance::SignUp;
use crate::model::user::UserState;
use crate::store::Family;
use crate::store::codec::Shelved;

/// Accounts that one look at the shelf brings.
const SCANNED_TOGETHER: usize = 500;

/// Somebody whom a provider proved, and who has no account yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Newcomer {
    pub(super) identity: LinkedIdentity,
    pub(super) display_name: Option<String>,
    pub(super) email: Option<String>,
    /// Whether the config trusts the provider for it, and the provider said so.
    pub(super) email_verified: bool,
    pub(super) invitation: Option<String>,
    pub(super) return_to: Option<String>,
}

/// Opens the account that this sign-in elsewhere is linked to, or begins a new one.
pub(super) async fn sign_in(
    state: &IssuerState,
    provider: &Provider,
    token: IdToken,
    journey: &Journey,
    browser: &Arc<str>,
    visit: &Visit,
) -> Result<Response, Stop> {
    if let Some(user) = identities::owner(state, &token.issuer, &token.subject).await? {
        return open(state, &user, &provider.name, journey.return_to.as_deref(), visit).await;
    }
    let newcomer = Newcomer {
        email_verified: provider.trusts_email && token.email_verified,
        display_name: token.name.as_deref().map(str::to_owned),
        email: token.email.as_deref().map(str::to_owned),
        identity: identity(provider, token),
        invitation: journey.invitation.clone(),
        return_to: journey.return_to.clone(),
    };
    match (visit.issuance.sign_up, &newcomer.invitation) {
        (SignUp::Closed, _) => Err(Stop::refused("No account here is linked to this sign-in, and nobody can sign up.")),
        (SignUp::Invited, None) => Err(Stop::refused("No account here is linked to this sign-in, and signing up needs an invitation.")),
        (SignUp::Open, None) if visit.issuance.phone == PhoneRule::Required => {
            refuse_known_email(state, newcomer.email.as_deref()).await?;
            let (_ticket, handle) = tickets::write(state, finish::PURPOSE, browser, &newcomer, visit.now).await?;
            Ok(pages::go_to(&visit.local(&format!("{}?ticket={}", finish::PATH, *handle))))
        }
        (SignUp::Open, None) | (SignUp::Open | SignUp::Invited, Some(_)) => sign_up(state, newcomer, None, visit).await,
    }
}

/// Links a sign-in elsewhere to the account of who is signed in here: both are proven now.
pub(super) async fn link(
    state: &IssuerState,
    provider: &Provider,
    token: IdToken,
    user: &Subject,
    visit: &Visit,
) -> Result<Response, Stop> {
    let person = sessions::current(state, &visit.headers, visit.now).await?;
    let Some(person) = person.filter(|person| person.user.subject == *user) else {
        return Err(Stop::refused("You are not signed in to the account any more that this was begun for. Please begin again."));
    };
    identities::link(state, user, identity(provider, token), visit.now).await?;
    let organization = person.user.organization.clone();
    let done = Done { deed: Deed::IdentityLinked, subject: user.as_str(), organization: organization.as_deref(), address: visit.address };
    trail::note(state, &Actor::Person(Arc::new(person)), done, visit.now).await;
    Ok(pages::go_to(&visit.local("/account")))
}

/// Makes the account, and signs in to it.
pub(super) async fn sign_up(state: &IssuerState, newcomer: Newcomer, phone: Option<String>, visit: &Visit) -> Result<Response, Stop> {
    refuse_known_email(state, newcomer.email.as_deref()).await?;
    let Newcomer { identity, display_name, email, email_verified, invitation, return_to } = newcomer;
    let profile = Profile { name: None, invitation, display_name, email, email_verified, phone };
    let provider = Arc::clone(&identity.provider);
    let (issuer, subject) = (Arc::clone(&identity.issuer), Arc::clone(&identity.subject));
    let made = sign_up_linked(state, identity, profile, visit.issuance.phone, visit.address, visit.now).await;
    let made = match made {
        Ok(made) => made,
        Err(problem) if problem.code == Code::Conflict => {
            // Of two sign-ups of one person at once the other one made the account.
            let owner = identities::owner(state, &issuer, &subject).await?;
            let user = owner.ok_or_else(|| Stop::from(problem))?;
            return open(state, &user, &provider, return_to.as_deref(), visit).await;
        }
        Err(problem) => return Err(problem.into()),
    };
    let opened = open(state, &made.user, &provider, return_to.as_deref(), visit).await?;
    let Some(key) = made.key else { return Ok(opened) };
    let mut page = answer::show_key(visit, &key, &visit.after_sign_in(return_to.as_deref()));
    for cookie in opened.headers().get_all(header::SET_COOKIE) {
        page.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    Ok(page)
}

async fn open(state: &IssuerState, user: &Subject, method: &str, return_to: Option<&str>, visit: &Visit) -> Result<Response, Stop> {
    let record = users::find(state, users::LOCAL, user.as_str()).await?.map(|(record, _version)| record);
    let record = record.filter(|record| match record.state {
        UserState::Active => true,
        UserState::Disabled => false,
    });
    if record.is_none() {
        if let Some(actor) = trail::somebody(visit.now) {
            let done = Done { deed: Deed::SignInFailed, subject: user.as_str(), organization: None, address: visit.address };
            trail::note(state, &actor, done, visit.now).await;
        }
        return Err(Stop::refused("This account is closed."));
    }
    let opened = sessions::open(state, &visit.headers, user, method, visit.address, visit.now).await?;
    Ok(pages::with_cookie(pages::go_to(&visit.after_sign_in(return_to)), Some(opened.cookie)))
}

fn identity(provider: &Provider, token: IdToken) -> LinkedIdentity {
    LinkedIdentity { provider: Arc::clone(&provider.name), issuer: token.issuer, subject: token.subject }
}

/// An address that is proven to be another account's makes no second one, and opens nothing: whoever owns both links them, signed in to
/// both. One that was only claimed is nobody's: else whoever claims it first would keep its owner out.
async fn refuse_known_email(state: &IssuerState, email: Option<&str>) -> Result<(), Stop> {
    let Some(email) = email else { return Ok(()) };
    if is_known_email(state, email).await? {
        return Err(Stop::refused(
            "An account here has the e-mail address of this sign-in already. Sign in to it the way you always do, and link this \
             sign-in on its page.",
        ));
    }
    Ok(())
}

/// Asked once for each new account, so the accounts are looked through and no index is kept that erasing would have to clean.
async fn is_known_email(state: &IssuerState, email: &str) -> Result<bool, Stop> {
    let folded = email.to_lowercase();
    let mut after = None;
    loop {
        let page = state.records.range(Family::Account, after.as_deref(), SCANNED_TOGETHER).await?;
        let is_theirs =
            |account: AccountRecord| account.email_verified && account.email.is_some_and(|known| known.to_lowercase() == folded);
        if page.records.iter().filter_map(|(place, stored)| AccountRecord::decode(&place.id, &stored.bytes).ok()).any(is_theirs) {
            return Ok(true);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(false),
        }
    }
}
