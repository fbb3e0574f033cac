//! What an actor may hand on, and to whom it may do something.

use std::sync::Arc;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::keys::owner::maker_of;
use crate::issuer::keys::refuse_unbound;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::model::account::AccountRecord;
use crate::model::account::Role;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Precondition;
use crate::store::RecordKey;

/// What an actor may hand on at the most; none: everything.
pub(in crate::issuer) type Ceiling = Option<ScopeSet>;

/// What this actor's credential holds now. A key that holds little hands on little, whoever owns it.
pub(in crate::issuer) fn ceiling(actor: &Actor) -> Ceiling {
    let held = match actor {
        Actor::Operator => return None,
        Actor::Caller(caller) => (*caller.scopes).clone(),
        Actor::Person(person) => match &person.user.rights {
            Rights::Unlimited => ScopeSet::new(Scope::parse("*").ok()),
            Rights::Only(scopes) => (**scopes).clone(),
        },
    };
    (!held.covers(ADMIN)).then_some(held)
}

/// What a user holds at the most.
pub(in crate::issuer) fn held_by(user: &UserRecord) -> Ceiling {
    match &user.rights {
        Rights::Unlimited => None,
        Rights::Only(scopes) => Some((**scopes).clone()),
    }
}

/// Whether rights lie within a ceiling.
pub(in crate::issuer) fn is_within(rights: &Rights, ceiling: &Ceiling) -> bool {
    match (rights, ceiling) {
        (_, None) => true,
        (Rights::Unlimited, Some(_)) => false,
        (Rights::Only(scopes), Some(held)) => scopes.iter().all(|scope| held.covers(scope.as_str())),
    }
}

/// Refuses to touch somebody who holds or is more than the actor: whoever may set its password would be it.
///
/// # Errors
/// 403.
pub(in crate::issuer) async fn refuse_superior(
    state: &IssuerState,
    actor: &Actor,
    reach: &Reach,
    target: &UserRecord,
) -> Result<(), Problem> {
    let is_local = &*target.source == users::LOCAL;
    if *reach == Reach::Everything || (is_local && actor.user() == Some(&target.subject)) {
        return Ok(());
    }
    let role = if is_local { role_of_user(state, &target.subject).await? } else { Role::Member };
    run(&Touch::CHECKS, &Touch { actor, by: role_of(state, actor).await?, target, role })
}

/// Something that is to be done to another user.
pub(in crate::issuer) struct Touch<'a> {
    actor: &'a Actor,
    by: Role,
    target: &'a UserRecord,
    role: Role,
}

impl Touch<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 2] = [
        Check {
            name: "nobody touches a user who holds more than itself",
            run: |touch| {
                let issue = "this user holds more than you do";
                if is_within(&touch.target.rights, &ceiling(touch.actor)) { Ok(()) } else { Err(Problem::new(Code::Forbidden, issue)) }
            },
        },
        Check {
            name: "nobody but an admin touches one",
            run: |touch| {
                let issue = "this user is an admin, and you are not";
                let is_equal = touch.role == Role::Member || touch.by == Role::Admin;
                if is_equal { Ok(()) } else { Err(Problem::new(Code::Forbidden, issue)) }
            },
        },
    ];
}

/// What an actor is: an admin where its user is one, and beside that user whoever made it the key that is shown.
pub(in crate::issuer) async fn role_of(state: &IssuerState, actor: &Actor) -> Result<Role, Problem> {
    let Some(user) = actor.user() else { return Ok(Role::Member) };
    let (maker, _standing) = maker_of(state, actor, user).await?;
    if let Some(maker) = maker
        && role_of_user(state, &maker).await? == Role::Member
    {
        return Ok(Role::Member);
    }
    role_of_user(state, user).await
}

async fn role_of_user(state: &IssuerState, user: &Subject) -> Result<Role, Problem> {
    let account = shelf::find::<AccountRecord>(state, user.as_str()).await?;
    Ok(account.map_or(Role::Member, |(account, _version)| account.role))
}

/// A key or a client that somebody would change to whom it does not belong: whoever may could use it.
pub(in crate::issuer) struct Takeover<'a> {
    pub(in crate::issuer) actor: &'a Actor,
    pub(in crate::issuer) scopes: &'a ScopeSet,
    pub(in crate::issuer) environment: Environment,
    pub(in crate::issuer) refusal: &'static str,
}

impl Takeover<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 2] = [
        Check { name: "whoever changes a key or a client holds what it holds", run: |it| it.unless(it.actor.may_grant_all(it.scopes)) },
        Check { name: "what is kept from live routes changes nothing live", run: |it| it.unless(it.actor.may_use(it.environment)) },
    ];

    fn unless(&self, holds: bool) -> Result<(), Problem> {
        if holds { Ok(()) } else { Err(Problem::new(Code::Forbidden, self.refusal)) }
    }
}

/// What a user is to hold.
pub(in crate::issuer) struct Grant<'a> {
    pub(in crate::issuer) rights: &'a Rights,
    pub(in crate::issuer) giver: &'a Actor,
    /// Who made the user; none: nobody who bounds it.
    pub(in crate::issuer) maker: Option<&'a UserRecord>,
}

impl Grant<'_> {
    /// What is expected of `rights` where one fails.
    pub(in crate::issuer) const CHECKS: [Check<Self, &'static str>; 2] = [
        Check {
            name: "a user is given no more than its giver holds",
            run: |grant| is_within(grant.rights, &ceiling(grant.giver)).then_some(()).ok_or("must be within what you hold"),
        },
        Check {
            name: "a user is given no more than its maker holds, by nobody's hand",
            run: |grant| {
                let is_bounded = grant.maker.is_none_or(|maker| is_within(grant.rights, &held_by(maker)));
                is_bounded.then_some(()).ok_or("must be within what the user's maker holds")
            },
        },
    ];
}

/// Refuses a key that is bound, or for tests, to give anybody a way in or more than before.
///
/// # Errors
/// 403.
pub(in crate::issuer) async fn refuse_bound(state: &IssuerState, actor: &Actor, reach: &Reach) -> Result<(), Problem> {
    run(&LIVE, actor)?;
    refuse_unbound(state, actor, reach).await
}

pub(in crate::issuer) const LIVE: [Check<Actor, Problem>; 1] = [Check {
    name: "what is for tests makes nobody who is not",
    run: |actor| {
        let issue = "this would be live, and the key that you show is for tests";
        if actor.may_use(Environment::Live) { Ok(()) } else { Err(Problem::new(Code::Forbidden, issue)) }
    },
}];

/// The actor's own record: what a change on its behalf stands on, so that it is refused when the actor loses something meanwhile.
///
/// # Errors
/// 403 when the actor's user is gone or disabled.
pub(in crate::issuer) async fn maker(state: &IssuerState, actor: &Actor) -> Result<Option<(UserRecord, Precondition)>, Problem> {
    let Some(user) = actor.user() else { return Ok(None) };
    let found = users::find(state, users::LOCAL, user.as_str()).await?;
    run(&Standing::CHECKS, &Standing { actor, user: found.as_ref().map(|(record, _version)| record) })?;
    let place = RecordKey::user(users::LOCAL, user.as_str());
    Ok(found.map(|(record, version)| (record, Precondition::AtVersion(place, version))))
}

/// Somebody who does something in a user's name, and that user's record now.
pub(in crate::issuer) struct Standing<'a> {
    actor: &'a Actor,
    user: Option<&'a UserRecord>,
}

impl Standing<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 2] = [
        Check {
            name: "whoever changes something is not disabled meanwhile",
            run: |standing| match standing.user.map(|user| user.state) {
                Some(UserState::Disabled) => Err(no_longer()),
                Some(UserState::Active) | None => Ok(()),
            },
        },
        Check {
            name: "whoever changes something is not gone meanwhile",
            // A key of the keys file may act for a user without a record.
            run: |standing| if standing.user.is_some() || ceiling(standing.actor).is_none() { Ok(()) } else { Err(no_longer()) },
        },
    ];
}

fn no_longer() -> Problem {
    Problem::new(Code::Forbidden, "your user is disabled or gone")
}

/// The organisation that a new thing belongs to: the actor's own, or for whoever reaches everything the one that was named.
///
/// # Errors
/// 400 where another one is named, 403 where the actor manages none.
pub(in crate::issuer) fn organization(reach: &Reach, named: Option<Arc<str>>, scope: &'static str) -> Result<Option<Arc<str>>, Problem> {
    run(&Placing::CHECKS, &Placing { reach, named: named.as_ref(), scope })?;
    Ok(match reach {
        Reach::Everything | Reach::Own(_) => named,
        Reach::Organization(own) => named.or_else(|| Some(Arc::clone(own))),
    })
}

/// Something that is to be made in an organisation.
pub(in crate::issuer) struct Placing<'a> {
    reach: &'a Reach,
    named: Option<&'a Arc<str>>,
    scope: &'static str,
}

impl Placing<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 2] = [
        Check {
            name: "whoever makes users and invitations manages an organisation",
            run: |placing| match placing.reach {
                Reach::Everything | Reach::Organization(_) => Ok(()),
                Reach::Own(_) => Err(Problem::lacks_scope(placing.scope)),
            },
        },
        Check {
            name: "what somebody makes is of the organisation that they manage",
            run: |placing| match placing.reach {
                Reach::Organization(own) if placing.named.is_some_and(|named| named != own) => {
                    Err(Problem::field("organization", "must be your own organisation, or absent"))
                }
                Reach::Everything | Reach::Organization(_) | Reach::Own(_) => Ok(()),
            },
        },
    ];
}
