//! Who calls the resource API, and how far it reaches.

use std::sync::Arc;

pub use crate::model::scope::ADMIN;

use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::account::SessionRecord;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::ProvenBy;
use crate::model::caller::Subject;
use crate::model::key::DisabledBy;
use crate::model::scope::ScopeSet;
use crate::model::scope::UNLIMITED;
use crate::model::scope::is_reserved;
use crate::model::user::Rights;
use crate::model::user::UserRecord;

/// The right to the keys of one's organisation.
pub const KEYS: &str = "tollgate:keys";
/// The right to the users, invitations and clients of one's organisation.
pub const USERS: &str = "tollgate:users";
/// The right to the counts of one's organisation.
pub const USAGE: &str = "tollgate:usage";

/// Who is named as the client of a token that a person got by signing in at our own door.
pub const OURSELVES: &str = "tollgate";

/// Who calls. Every request to the resource API carries one as an extension.
#[derive(Clone, Debug)]
pub enum Actor {
    /// Whoever reaches the control socket: its file's mode is the right to do so.
    Operator,
    /// An API key or an access token, proven by the gate's rooms.
    Caller(Arc<Caller>),
    /// A person on the issuer's own pages.
    Person(Arc<Person>),
}

/// A person who signed in.
#[derive(Clone, Debug)]
pub struct Person {
    pub session: SessionRecord,
    pub user: Arc<UserRecord>,
}

/// Whose things an actor may see and change; everything else is 404.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Everything,
    Organization(Arc<str>),
    Own(Subject),
}

impl Actor {
    /// The local user behind it; none: an operator, or a client that acts for itself.
    pub fn user(&self) -> Option<&Subject> {
        match self {
            Self::Operator => None,
            // Keys belong to local users, also where a foreign issuer's token names one.
            Self::Caller(caller) => (caller.source.as_str() == "local" || caller.key.is_some()).then_some(&caller.subject),
            Self::Person(person) => Some(&person.user.subject),
        }
    }

    pub fn organization(&self) -> Option<&Arc<str>> {
        match self {
            Self::Operator => None,
            Self::Caller(caller) => caller.organization.as_ref(),
            Self::Person(person) => person.user.organization.as_ref(),
        }
    }

    /// Whether it holds this `tollgate:` scope now. An admin holds every one.
    pub fn holds(&self, scope: &str) -> bool {
        let held = |scopes: &ScopeSet| scopes.covers(scope) || scopes.covers(ADMIN);
        match self {
            Self::Operator => true,
            Self::Caller(caller) => held(&caller.scopes),
            Self::Person(person) => match &person.user.rights {
                // Whatever its credentials were granted; a session was granted nothing.
                Rights::Unlimited => false,
                Rights::Only(scopes) => held(scopes),
            },
        }
    }

    /// Whether an application acts here in its user's name. Its user allowed it what its scopes say, and never the account itself.
    pub fn is_application(&self) -> bool {
        match self {
            Self::Operator | Self::Person(_) => false,
            Self::Caller(caller) => caller.client.as_deref().is_some_and(|client| client != OURSELVES),
        }
    }

    /// Whether its user itself acts here, having signed in; a key is given less than its user, and an application too.
    pub fn is_in_person(&self) -> bool {
        match self {
            Self::Operator => false,
            Self::Person(_) => true,
            Self::Caller(caller) => caller.proven_by == ProvenBy::Token && caller.key.is_none() && !self.is_application(),
        }
    }

    /// Whether it may hand on this scope now: nobody gives what they do not hold, and the rights over everything only who has them.
    pub fn may_grant(&self, scope: &str) -> bool {
        self.holds(ADMIN) || run(&Gift::CHECKS, &Gift { giver: self, scope }).is_ok()
    }

    /// The same of all of them.
    pub fn may_grant_all(&self, scopes: &ScopeSet) -> bool {
        scopes.iter().all(|scope| self.may_grant(scope.as_str()))
    }

    /// Whether it may make something of this environment: what is kept from live routes makes nothing that is not.
    pub fn may_use(&self, environment: Environment) -> bool {
        match self {
            Self::Operator | Self::Person(_) => true,
            Self::Caller(caller) => caller.environment == Environment::Live || environment == Environment::Test,
        }
    }

    /// How far it reaches among the things that `scope` is about. Whoever does not hold it reaches its own.
    ///
    /// # Errors
    /// 403 for a caller that is nobody's, and for an application.
    pub fn reach(&self, scope: &'static str) -> Result<Reach, Problem> {
        let organization = self.organization().map(|organization| Reach::Organization(Arc::clone(organization)));
        let farthest_first = [Some(Reach::Everything), organization, self.user().cloned().map(Reach::Own)];
        let mut claims = farthest_first.into_iter().flatten().map(|reach| Claim { actor: self, scope, reach });
        claims.find(|claim| run(&Claim::CHECKS, claim).is_ok()).map(|claim| claim.reach).ok_or_else(|| Problem::lacks_scope(scope))
    }
}

impl Reach {
    /// Of what an actor may reach at all.
    pub(in crate::issuer) const MANAGERS: [Check<Self>; 1] = [Check {
        name: "a user does not say itself what it may be",
        run: |reach| match reach {
            Self::Everything | Self::Organization(_) => Ok(()),
            Self::Own(_) => Err(Unmet),
        },
    }];

    pub(in crate::issuer) const OPERATORS: [Check<Self>; 1] =
        [Check { name: "some things are operators' to see and to say", run: |reach| hold(*reach == Self::Everything) }];

    /// Whether something of this user and organisation lies within it.
    pub fn covers(&self, user: Option<&Subject>, organization: Option<&str>) -> bool {
        run(&Found::CHECKS, &Found { reach: self, user, organization }).is_ok()
    }

    /// Whether it is an operator's: tiers, what moves between organisations, and what cannot be read are theirs alone.
    pub fn is_operators(&self) -> bool {
        run(&Self::OPERATORS, self).is_ok()
    }

    /// Whether it is more than somebody's own.
    pub fn is_managers(&self) -> bool {
        run(&Self::MANAGERS, self).is_ok()
    }

    /// A look at the shelf, to whoever reaches so far: what cannot be read may be anybody's, so it is there for operators alone.
    ///
    /// # Errors
    /// Those of the look.
    pub fn sees<T, E: Into<Problem>>(&self, found: Result<Option<T>, E>) -> Result<Option<T>, Problem> {
        match found.map_err(Into::into) {
            Err(problem) if problem.code == Code::CorruptRecord && !self.is_operators() => Ok(None),
            found => found,
        }
    }

    /// On whose word something is disabled after it was switched on or off; none: it is enabled. To disable it again makes it nobody
    /// else's word, and what who reaches further disabled is not enabled: a block is not for the blocked to lift.
    ///
    /// # Errors
    /// 403.
    pub fn switch(&self, active: bool, disabled: Option<DisabledBy>) -> Result<Option<DisabledBy>, Problem> {
        if !active {
            return Ok(disabled.max(Some(self.level())));
        }
        run(&Lift::CHECKS, &Lift { by: self.level(), disabled }).map(|()| None).map_err(|Unmet| {
            Problem::new(Code::Forbidden, "this was disabled by an administrator who reaches further than you do; ask one to enable it")
        })
    }

    fn level(&self) -> DisabledBy {
        match self {
            Self::Everything => DisabledBy::Operator,
            Self::Organization(_) => DisabledBy::Organization,
            Self::Own(_) => DisabledBy::Owner,
        }
    }
}

/// What is to be enabled again.
pub(in crate::issuer) struct Lift {
    by: DisabledBy,
    disabled: Option<DisabledBy>,
}

impl Lift {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 1] =
        [Check { name: "what is disabled is enabled by whoever reaches as far", run: |lift| hold(lift.disabled <= Some(lift.by)) }];
}

/// A scope that is to be handed on, by somebody who is no admin.
pub(in crate::issuer) struct Gift<'a> {
    giver: &'a Actor,
    scope: &'a str,
}

impl Gift<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 3] = [
        Check { name: "the rights over everything are admins' to give", run: |gift| hold(gift.scope != ADMIN && gift.scope != UNLIMITED) },
        Check {
            name: "a session without limits gives no reserved scope",
            run: |gift| hold(gift.held().is_some() || !is_reserved(gift.scope)),
        },
        Check { name: "nobody gives what they do not hold", run: |gift| hold(gift.held().is_none_or(|held| held.covers(gift.scope))) },
    ];

    /// What limits the giver; none: nothing does.
    fn held(&self) -> Option<&ScopeSet> {
        match self.giver {
            Actor::Operator => None,
            Actor::Caller(caller) => Some(&caller.scopes),
            Actor::Person(person) => match &person.user.rights {
                Rights::Unlimited => None,
                Rights::Only(scopes) => Some(scopes),
            },
        }
    }
}

/// That somebody reaches so far among the things that a scope is about.
pub(in crate::issuer) struct Claim<'a> {
    actor: &'a Actor,
    scope: &'static str,
    reach: Reach,
}

impl Claim<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 3] = [
        Check {
            name: "operators and admins alone reach everything",
            run: |claim| hold(claim.reach != Reach::Everything || claim.actor.holds(ADMIN)),
        },
        Check {
            name: "an application reaches nothing of its user's",
            run: |claim| hold(claim.reach == Reach::Everything || !claim.actor.is_application()),
        },
        Check {
            name: "whoever manages an organisation holds the scope for it",
            run: |claim| match claim.reach {
                Reach::Organization(_) => hold(claim.actor.holds(claim.scope)),
                Reach::Everything | Reach::Own(_) => Ok(()),
            },
        },
    ];
}

/// Something of a user and an organisation, and whose reach it may lie within.
pub(in crate::issuer) struct Found<'a> {
    reach: &'a Reach,
    user: Option<&'a Subject>,
    organization: Option<&'a str>,
}

impl Found<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 2] = [
        Check {
            name: "who manages an organisation reaches that one alone",
            run: |found| match found.reach {
                Reach::Organization(own) => hold(found.organization == Some(own)),
                Reach::Everything | Reach::Own(_) => Ok(()),
            },
        },
        Check {
            name: "everybody else reaches its own",
            run: |found| match found.reach {
                Reach::Own(own) => hold(found.user == Some(own)),
                Reach::Everything | Reach::Organization(_) => Ok(()),
            },
        },
    ];
}
