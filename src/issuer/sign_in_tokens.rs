//! Tokens for people who sign in by name and password and hold the token themselves (seeds 001 and 004).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::issuer::IssuerState;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::OURSELVES;
use crate::issuer::audit::Deed;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::jose::signer::AccessClaims;
use crate::jose::signer::SignError;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::issuance::Issuance;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::secrets::random_id;
use crate::store::Precondition;
use crate::store::Write;
use crate::store::codec::Shelved;

/// How long a grant stays on the shelf after its end, so that what is shown late is still recognised as dead.
const KEPT_AFTER_END: Duration = Duration::from_secs(86_400);

/// A JWT for a user who has just proven who it is, and how long it lives. It opens what the user may at each request, but for
/// `tollgate:` rights: whoever administers does it with a key.
///
/// # Errors
/// 404 where nothing is issued, 401 for a user who is gone or disabled, 503 when it cannot be signed or kept now.
pub async fn token_for_sign_in(
    state: &IssuerState,
    user: &Subject,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<(String, Duration), Problem> {
    let issuance = issuance(state)?;
    let found = users::standing(state, user).await?;
    let (record, standing) = found.ok_or_else(|| Problem::new(Code::Unauthenticated, "the user is gone or disabled"))?;
    let scopes = match &record.rights {
        Rights::Only(held) => held.without_reserved(),
        Rights::Unlimited => catalogue(&issuance),
    };
    let lives = issuance.lifetimes.access_token;
    let ends = now.plus(lives);
    let (id, jti) = (random_id()?, random_id()?);
    let own = OwnToken {
        id: GrantId::new(&id),
        of: GrantOf::SignIn { user: user.clone() },
        organization: record.organization.clone(),
        environment: Environment::Live,
        scopes,
        subject: user,
        jti: &jti,
        ends,
        // One who is disabled meanwhile gets no token.
        stands_on: standing,
    };
    let token = sign_own(state, &issuance, own, now).await?;
    let organization = record.organization.clone();
    let actor = trail::themselves(record, now);
    let done = Done { deed: Deed::TokenIssued, subject: &id, organization: organization.as_deref(), address };
    trail::note_behind(state, &actor, done, now);
    Ok((token, lives))
}

/// An access token that no client asked for, and the grant that it stands on.
#[derive(Debug)]
pub(in crate::issuer) struct OwnToken<'a> {
    pub id: GrantId,
    pub of: GrantOf,
    pub organization: Option<Arc<str>>,
    pub environment: Environment,
    pub scopes: ScopeSet,
    pub subject: &'a Subject,
    pub jti: &'a str,
    pub ends: Timestamp,
    /// What must hold of the record in whose name it is: there is no token without it.
    pub stands_on: Precondition,
}

/// Signs it, and keeps its grant.
///
/// # Errors
/// 503 when it cannot be signed or kept now, 409 when what it stands on is gone.
pub(in crate::issuer) async fn sign_own(
    state: &IssuerState,
    issuance: &Issuance,
    own: OwnToken<'_>,
    now: Timestamp,
) -> Result<String, Problem> {
    let OwnToken { id, of, organization, environment, scopes, subject, jti, ends, stands_on } = own;
    let grant = GrantRecord {
        organization,
        scopes: Arc::new(scopes),
        resources: issuance.resources.iter().take(1).map(|resource| Arc::clone(&resource.uri)).collect(),
        ..GrantRecord::new(id, of, environment, state.peppers.current_id(), now, ends)
    };
    let claims = AccessClaims {
        iss: &issuance.url,
        aud: &grant.resources,
        sub: subject.as_str(),
        client_id: OURSELVES,
        grant: grant.id.as_str(),
        scope: &grant.scopes,
        jti,
        iat: now,
        exp: ends,
        act: None,
    };
    let token = state.signer.sign(&claims, issuance.algorithm).await.map_err(unsigned)?;
    let place = GrantRecord::place(grant.id.as_str());
    let preconditions = vec![Precondition::Absent(place.clone()), stands_on];
    let write = Write::Put { key: place, bytes: grant.encode(), expires: Some(ends.plus(KEPT_AFTER_END)) };
    if !state.records.commit(preconditions, vec![write], now).await?.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    Ok(token)
}

/// Every scope that somebody can be granted here.
pub(in crate::issuer) fn catalogue(issuance: &Issuance) -> ScopeSet {
    ScopeSet::new(issuance.scopes.keys().filter_map(|scope| Scope::parse(scope).ok()))
}

/// Why there is no token, as this door says it.
fn unsigned(error: SignError) -> Problem {
    tracing::error!(%error, "an access token could not be signed");
    Problem::new(Code::Unavailable, "the token cannot be signed now; try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::issuer::accounts::shelf;
    use crate::issuer::accounts::tests::founder;
    use crate::issuer::tests::Issuer;
    use crate::model::user::UserState;
    use crate::store::RecordKey;
    use crate::store::codec::encode_user;

    /// The step behind both would sign whatever it is given.
    #[tokio::test]
    async fn a_disabled_user_gets_no_token_and_nobody_one_that_administers() {
        let issuer = Issuer::issuing(|_| {});
        let (state, user, now) = (&issuer.state, founder(&issuer, "alice").await.user, issuer.clock.now());
        let (mut alice, _version) = users::find(state, users::LOCAL, "alice").await.unwrap().unwrap();
        let Rights::Only(held) = alice.rights.clone() else { panic!("an admin holds what the config says") };
        let reserved = async || {
            let grants = shelf::all::<GrantRecord>(state, "", |_| true).await.unwrap();
            grants.iter().filter(|(grant, _version)| grant.scopes.to_string().contains("tollgate:")).count()
        };
        token_for_sign_in(state, &user, None, now).await.unwrap();
        assert_eq!(reserved().await, 0);
        alice.state = UserState::Disabled;
        let place = RecordKey::user(users::LOCAL, "alice");
        issuer.put(Write::Put { key: place.clone(), bytes: encode_user(&alice), expires: None }).await;
        assert_eq!(token_for_sign_in(state, &user, None, now).await.unwrap_err().code, Code::Unauthenticated);
        let (_alice, version) = users::find(state, users::LOCAL, "alice").await.unwrap().unwrap();
        let own = OwnToken {
            id: GrantId::new("grant"),
            of: GrantOf::SignIn { user: user.clone() },
            organization: None,
            environment: Environment::Live,
            scopes: ScopeSet::clone(&held),
            subject: &user,
            jti: "jti",
            ends: now.plus(Duration::from_secs(60)),
            stands_on: Precondition::AtVersion(place, version),
        };
        sign_own(state, &issuance(state).unwrap(), own, now).await.unwrap();
        assert_eq!(reserved().await, 1, "nothing falls without the two");
    }
}
