//! What an actor may hand on, and to whom it may do something.

use std::sync::Arc;

use crate::issuer::IssuerState;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
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
    let is_own = &*target.source == users::LOCAL && actor.user() == Some(&target.subject);
    if *reach == Reach::Everything || is_own || is_within(&target.rights, &ceiling(actor)) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "this user holds more than you do"))
}

/// The actor's own record: what a change on its behalf stands on, so that it is refused when the actor loses something meanwhile.
///
/// # Errors
/// 403 when the actor's user is gone or disabled.
pub(in crate::issuer) async fn maker(state: &IssuerState, actor: &Actor) -> Result<Option<(UserRecord, Precondition)>, Problem> {
    let Some(user) = actor.user() else { return Ok(None) };
    match users::find(state, users::LOCAL, user.as_str()).await? {
        Some((record, version)) if record.state == UserState::Active => {
            let place = RecordKey::user(users::LOCAL, user.as_str());
            Ok(Some((record, Precondition::AtVersion(place, version))))
        }
        // A key of the keys file may act for a user without a record.
        None if ceiling(actor).is_none() => Ok(None),
        Some(_) | None => Err(Problem::new(Code::Forbidden, "your user is disabled or gone")),
    }
}

/// The organisation that a new thing belongs to: the actor's own, or for whoever reaches everything the one that was named.
///
/// # Errors
/// 400 where another one is named, 403 where the actor manages none.
pub(in crate::issuer) fn organization(reach: &Reach, named: Option<Arc<str>>, scope: &'static str) -> Result<Option<Arc<str>>, Problem> {
    match reach {
        Reach::Everything => Ok(named),
        Reach::Organization(own) if named.is_none() || named.as_ref() == Some(own) => Ok(Some(Arc::clone(own))),
        Reach::Organization(_) => Err(Problem::field("organization", "must be your own organisation, or absent")),
        Reach::Own(_) => Err(Problem::lacks_scope(scope)),
    }
}
