//! Whose keys these are, and who may make and change them: a key never exceeds its maker's current rights, nor its user's.

use std::sync::Arc;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::actor::KEYS;
use crate::issuer::actor::Reach;
use crate::issuer::input::Fields;
use crate::issuer::keys::Draft;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::caller::Subject;
use crate::model::key::KeyRecord;
use crate::model::key::Rights;
use crate::model::key::UserRecord;
use crate::model::key::UserState;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_user;
use crate::store::codec::encode_user;

use crate::issuer::users::LOCAL;
const ABOVE_USER: &str = "must be within what the user holds (`rights`)";
const ABOVE_MAKER: &str = "must be within what you hold yourself now";

/// What a new key's commit needs of its user.
pub(in crate::issuer) struct Owner {
    pub organization: Option<Arc<str>>,
    pub preconditions: Vec<Precondition>,
    pub writes: Vec<Write>,
}

/// The user of a new key, which must lie within its maker's reach and hold what the key is to hold. For an operator it is made with the
/// key where there is none.
pub(in crate::issuer) async fn owner_of_new_key(
    state: &IssuerState,
    maker: &Actor,
    draft: &Draft,
    now: Timestamp,
) -> Result<Owner, Problem> {
    let reach = maker.reach(KEYS)?;
    check_maker(maker, &reach, draft)?;
    let place = RecordKey::user(LOCAL, draft.user.as_str());
    let found = find_user(state, &draft.user).await?;
    let Some((user, revision)) = found.filter(|(user, _)| reach.covers(Some(&user.subject), user.organization.as_deref())) else {
        if reach != Reach::Everything {
            return Err(Problem::new(Code::NotFound, "there is no such user"));
        }
        let user = UserRecord {
            source: Arc::from(LOCAL),
            subject: draft.user.clone(),
            organization: draft.organization.clone(),
            tier: None,
            rights: Rights::Unlimited,
            state: UserState::Active,
            valid_from: None,
            created: now,
        };
        let write = Write::Put { key: place.clone(), bytes: encode_user(&user), expires: None };
        return Ok(Owner { organization: user.organization, preconditions: vec![Precondition::Absent(place)], writes: vec![write] });
    };
    match user.state {
        UserState::Active => {}
        UserState::Disabled => return Err(Problem::new(Code::Conflict, "the user is disabled; enable it first")),
    }
    if draft.organization.is_some()
        && user.organization != draft.organization
        && (user.organization.is_some() || reach != Reach::Everything)
    {
        return Err(Problem::field("organization", "must be the user's own organisation, or absent"));
    }
    if exceeds(&user.rights, &draft.scopes) {
        return Err(Problem::field("scopes", ABOVE_USER));
    }
    Ok(Owner {
        organization: draft.organization.clone().or(user.organization),
        preconditions: vec![Precondition::AtVersion(place, revision)],
        writes: Vec::new(),
    })
}

/// What its maker may not give.
fn check_maker(maker: &Actor, reach: &Reach, draft: &Draft) -> Result<(), Problem> {
    if !maker.may_grant_all(&draft.scopes) {
        return Err(above_maker("scopes", ABOVE_MAKER));
    }
    if !maker.may_use(draft.environment) {
        return Err(above_maker("environment", "must be \"test\": your own credential is a test key's"));
    }
    if draft.tier.is_some() && *reach != Reach::Everything {
        return Err(above_maker("tier", "must be absent: tiers are given by operators"));
    }
    let limit = match (maker, reach) {
        (Actor::Caller(caller), Reach::Own(_)) => caller.key_rate_limit,
        (Actor::Operator | Actor::Caller(_) | Actor::Person(_), _) => None,
    };
    if limit.is_some_and(|limit| draft.rate_limit.is_none_or(|asked| asked > limit)) {
        return Err(above_maker("rate_limit", "must not be more than your own key's"));
    }
    refuse_outlasting(maker, reach, draft.expires)
}

/// What a user's own key makes, changes or learns lasts no longer than itself: else a text that is good for an hour would become one that is
/// good for ever. Whoever manages an organisation's keys is not held to that.
///
/// # Errors
/// 403.
pub(in crate::issuer) fn refuse_outlasting(actor: &Actor, reach: &Reach, expires: Option<Timestamp>) -> Result<(), Problem> {
    let ends = match (actor, reach) {
        (Actor::Caller(caller), Reach::Own(_)) if caller.key.is_some() => caller.expires,
        (Actor::Operator | Actor::Caller(_) | Actor::Person(_), _) => None,
    };
    match ends {
        Some(ends) if expires.is_none_or(|expires| expires > ends) => {
            Err(above_maker("expires_at", "must be no later than the end of the credential that you show"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether this one may change a key that lies within its reach, or learn a new secret of it. Its own user may at our pages, and the key
/// itself; everybody else must hold what it holds.
pub(in crate::issuer) fn check_may_change(actor: &Actor, record: &KeyRecord) -> Result<(), Problem> {
    let is_itself = match actor {
        Actor::Operator => true,
        Actor::Caller(caller) => caller.key.as_ref() == Some(&record.id),
        Actor::Person(person) => person.user.subject == record.user,
    };
    if is_itself || (actor.may_grant_all(&record.scopes) && actor.may_use(record.environment)) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "the key holds more than you hold yourself now; revoking it is all that you may do"))
}

/// Refuses scopes that a key's user, or whoever gives them, does not hold.
pub(in crate::issuer) async fn check_ceiling(
    state: &IssuerState,
    actor: &Actor,
    user: &Subject,
    scopes: &ScopeSet,
    fields: &Fields,
) -> Result<(), Problem> {
    if !actor.may_grant_all(scopes) {
        return Err(above_maker("scopes", ABOVE_MAKER));
    }
    match find_user(state, user).await? {
        Some((user, _revision)) if exceeds(&user.rights, scopes) => Err(fields.complaint("scopes", ABOVE_USER)),
        Some(_) => Ok(()),
        None => Err(Problem::new(Code::Conflict, "the key's user is gone")),
    }
}

/// The organisation that a key belongs to now: its own, or its user's.
pub(in crate::issuer) async fn organization_of(state: &IssuerState, record: &KeyRecord) -> Result<Option<Arc<str>>, Problem> {
    if record.organization.is_some() {
        return Ok(record.organization.clone());
    }
    Ok(find_user(state, &record.user).await?.and_then(|(user, _revision)| user.organization))
}

/// Whether the key lies within this reach.
pub(in crate::issuer) async fn is_within(state: &IssuerState, reach: &Reach, record: &KeyRecord) -> Result<bool, Problem> {
    match reach {
        Reach::Everything => Ok(true),
        Reach::Own(_) => Ok(reach.covers(Some(&record.user), None)),
        Reach::Organization(_) => Ok(reach.covers(None, organization_of(state, record).await?.as_deref())),
    }
}

async fn find_user(state: &IssuerState, subject: &Subject) -> Result<Option<(UserRecord, u64)>, Problem> {
    let place = RecordKey::user(LOCAL, subject.as_str());
    match state.records.get(&place).await? {
        Some(stored) => Ok(Some((decode_user(&place.id, &stored.bytes)?, stored.version))),
        None => Ok(None),
    }
}

fn exceeds(rights: &Rights, scopes: &ScopeSet) -> bool {
    match rights {
        Rights::Unlimited => false,
        Rights::Only(held) => scopes.iter().any(|scope| !held.covers(scope.as_str())),
    }
}

fn above_maker(field: &'static str, issue: &'static str) -> Problem {
    Problem { code: Code::Forbidden, ..Problem::field(field, issue) }
}
