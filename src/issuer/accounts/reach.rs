//! What an actor may hand on, and to whom it may do something.

use std::sync::Arc;

use crate::issuer::IssuerState;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::model::caller::Environment;
use crate::model::key::Rights;
use crate::model::key::UserRecord;
use crate::model::key::UserState;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
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

/// Whether rights lie within a ceiling.
pub(in crate::issuer) fn is_within(rights: &Rights, ceiling: &Ceiling) -> bool {
    match (rights, ceiling) {
        (_, None) => true,
        (Rights::Unlimited, Some(_)) => false,
        (Rights::Only(scopes), Some(held)) => scopes.iter().all(|scope| held.covers(scope.as_str())),
    }
}

/// Refuses to touch somebody who holds more than the actor: whoever may set its password would be it.
///
/// # Errors
/// 403.
pub(in crate::issuer) fn refuse_superior(actor: &Actor, reach: &Reach, target: &UserRecord) -> Result<(), Problem> {
    run(&Touch::CHECKS, &Touch { actor, reach, target })
}

/// Something that is to be done to a user.
pub(in crate::issuer) struct Touch<'a> {
    actor: &'a Actor,
    reach: &'a Reach,
    target: &'a UserRecord,
}

impl Touch<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 1] =
        [Check { name: "nobody touches a user who holds more than itself", run: touches_no_superior }];
}

fn touches_no_superior(touch: &Touch<'_>) -> Result<(), Problem> {
    let Touch { actor, reach, target } = touch;
    let is_own = &*target.source == users::LOCAL && actor.user() == Some(&target.subject);
    if **reach == Reach::Everything || is_own || is_within(&target.rights, &ceiling(actor)) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "this user holds more than you do"))
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
            run: |grant| match grant.maker.map(|maker| &maker.rights) {
                Some(Rights::Only(held)) if !is_within(grant.rights, &Some((**held).clone())) => {
                    Err("must be within what the user's maker holds")
                }
                Some(Rights::Only(_) | Rights::Unlimited) | None => Ok(()),
            },
        },
    ];
}

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
