//! Whose keys these are, and who may make and change them: a key never exceeds its maker's current rights, nor its user's.
//!
//! Here a key is bounded when it is given its scopes: by the credential that gives them and by its user. The gate bounds it again at each
//! request, by what its user holds then and, where another than its user gave them, by what that one does ([`UserRecord::gives`]).

use std::sync::Arc;

use ipnet::IpNet;

use crate::issuer::IssuerState;
use crate::issuer::accounts::caps;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::actor::KEYS;
use crate::issuer::actor::Reach;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::keys::Draft;
use crate::issuer::keys::bounds::ABOVE_MAKER;
use crate::issuer::keys::bounds::ABOVE_USER;
use crate::issuer::keys::bounds::above_maker;
use crate::issuer::keys::bounds::asks_no_oftener;
use crate::issuer::keys::bounds::exceeds;
use crate::issuer::keys::bounds::lasts_no_longer;
use crate::issuer::keys::bounds::networks_of;
use crate::issuer::keys::bounds::shown_key;
use crate::issuer::keys::bounds::within_networks;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users::LOCAL;
use crate::model::caller::Subject;
use crate::model::key::KeyRecord;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_user;
use crate::store::codec::encode_user;

/// A key that is to be made.
pub(in crate::issuer) struct Wish<'w> {
    maker: &'w Actor,
    reach: &'w Reach,
    draft: &'w Draft,
    /// Whose it is to be; none: nobody of that name is there.
    user: Option<&'w UserRecord>,
    /// Those to which its maker's own key is bound.
    networks: &'w [IpNet],
}

impl Wish<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 10] = [
        Check { name: "its maker holds the scopes", run: maker_holds },
        Check { name: "what is kept from live routes makes nothing live", run: environment },
        Check { name: "tiers are an operator's to give", run: tier },
        Check { name: "it asks no oftener than what makes it", run: rate },
        Check { name: "it lasts no longer than what makes it", run: lifetime },
        Check { name: "it opens from nowhere else than what makes it", run: networks },
        Check { name: "its user lies within the maker's reach", run: within_reach },
        Check { name: "its user is active", run: user_stands },
        Check { name: "it is of its user's organisation", run: organization },
        Check { name: "its user holds the scopes", run: user_holds },
    ];
}

/// What a new key's commit needs of its user.
pub(in crate::issuer) struct Owner {
    pub organization: Option<Arc<str>>,
    pub made_by: Option<Subject>,
    pub allowed_networks: Vec<IpNet>,
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
    let place = RecordKey::user(LOCAL, draft.user.as_str());
    let found = reach.sees(find_user(state, &draft.user).await)?;
    let networks = networks_of(state, maker, &reach).await?;
    let user = found.as_ref().map(|(user, _revision)| user);
    run(&Wish::CHECKS, &Wish { maker, reach: &reach, draft, user, networks: &networks })?;
    caps::check_keys(state, &reach, &draft.user, now).await?;
    // Where none are named it is bound as its maker is.
    let allowed_networks = Some(&draft.extras.allowed_networks).filter(|asked| !asked.is_empty()).unwrap_or(&networks).clone();
    let Some((user, revision)) = found else {
        let user = UserRecord {
            source: Arc::from(LOCAL),
            subject: draft.user.clone(),
            organization: draft.organization.clone(),
            tier: None,
            rights: Rights::Unlimited,
            state: UserState::Active,
            disabled_by: None,
            valid_from: None,
            created: now,
        };
        let write = Write::Put { key: place.clone(), bytes: encode_user(&user), expires: None };
        let (made_by, mut preconditions) = maker_of(state, maker, &draft.user).await?;
        preconditions.push(Precondition::Absent(place));
        return Ok(Owner { organization: user.organization, made_by, allowed_networks, preconditions, writes: vec![write] });
    };
    let (made_by, mut preconditions) = maker_of(state, maker, &draft.user).await?;
    preconditions.push(Precondition::AtVersion(place, revision));
    let organization = draft.organization.clone().or(user.organization);
    Ok(Owner { organization, made_by, allowed_networks, preconditions, writes: Vec::new() })
}

/// On whose word beside its user's a key stands that this one gives its scopes, and what must not change until that is written. An
/// operator's word stands by itself, as the keys file's does; a key that was made for its user by another passes on that other's.
pub(in crate::issuer) async fn maker_of(
    state: &IssuerState,
    actor: &Actor,
    user: &Subject,
) -> Result<(Option<Subject>, Vec<Precondition>), Problem> {
    let name = match actor {
        Actor::Caller(_) if actor.user() == Some(user) => shown_key(state, actor).await?.and_then(|key| key.notes.made_by().cloned()),
        Actor::Operator | Actor::Caller(_) | Actor::Person(_) => actor.user().filter(|maker| *maker != user).cloned(),
    };
    let Some(name) = name else { return Ok((None, Vec::new())) };
    let found = find_user(state, &name).await?;
    let is_from_file = match actor {
        Actor::Caller(caller) => caller.key.as_ref().is_some_and(|key| state.rules.load().file_keys.contains_key(key.as_str())),
        Actor::Operator | Actor::Person(_) => false,
    };
    run(&Word::CHECKS, &Word { actor, is_there: found.is_some(), is_from_file })?;
    let Some((_maker, revision)) = found else { return Ok((None, Vec::new())) };
    let place = RecordKey::user(LOCAL, name.as_str());
    Ok((Some(name), vec![Precondition::AtVersion(place, revision)]))
}

/// On which a key is to stand.
pub(in crate::issuer) struct Word<'a> {
    actor: &'a Actor,
    /// Whoever answers for it has a record.
    is_there: bool,
    is_from_file: bool,
}

impl Word<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 1] = [Check {
        name: "whoever answers for a key is not gone meanwhile",
        // Nothing would ever bound the key. What an operator wrote or may do stands by itself.
        run: |word| {
            let issue = "whoever answers for the key that you would give scopes is gone: you, or who gave yours its scopes";
            let stands = word.is_there || word.is_from_file || word.actor.holds(ADMIN);
            if stands { Ok(()) } else { Err(Problem::new(Code::Forbidden, issue)) }
        },
    }];
}

fn maker_holds(wish: &Wish<'_>) -> Result<(), Problem> {
    if wish.maker.may_grant_all(&wish.draft.scopes) { Ok(()) } else { Err(above_maker("scopes", ABOVE_MAKER)) }
}

fn environment(wish: &Wish<'_>) -> Result<(), Problem> {
    if wish.maker.may_use(wish.draft.environment) {
        return Ok(());
    }
    Err(above_maker("environment", "must be \"test\": your own credential is a test key's"))
}

fn tier(wish: &Wish<'_>) -> Result<(), Problem> {
    if wish.draft.tier.is_none() || *wish.reach == Reach::Everything {
        return Ok(());
    }
    Err(above_maker("tier", "must be absent: tiers are given by operators"))
}

fn rate(wish: &Wish<'_>) -> Result<(), Problem> {
    asks_no_oftener(wish.maker, wish.reach, wish.draft.rate_limit)
}

fn lifetime(wish: &Wish<'_>) -> Result<(), Problem> {
    lasts_no_longer(wish.maker, wish.reach, wish.draft.expires)
}

fn networks(wish: &Wish<'_>) -> Result<(), Problem> {
    match wish.draft.extras.allowed_networks.as_slice() {
        [] => Ok(()),
        asked => within_networks(wish.networks, asked),
    }
}

fn within_reach(wish: &Wish<'_>) -> Result<(), Problem> {
    let is_covered = wish.user.is_some_and(|user| wish.reach.covers(Some(&user.subject), user.organization.as_deref()));
    if is_covered || *wish.reach == Reach::Everything { Ok(()) } else { Err(Problem::new(Code::NotFound, "there is no such user")) }
}

fn user_stands(wish: &Wish<'_>) -> Result<(), Problem> {
    match wish.user.map(|user| user.state) {
        None | Some(UserState::Active) => Ok(()),
        Some(UserState::Disabled) => Err(Problem::new(Code::Conflict, "the user is disabled; enable it first")),
    }
}

/// An operator may give a user of no organisation a key of one.
fn organization(wish: &Wish<'_>) -> Result<(), Problem> {
    let (Some(user), Some(named)) = (wish.user, &wish.draft.organization) else { return Ok(()) };
    if user.organization.as_ref() == Some(named) || (user.organization.is_none() && *wish.reach == Reach::Everything) {
        return Ok(());
    }
    Err(Problem::field("organization", "must be the user's own organisation, or absent"))
}

fn user_holds(wish: &Wish<'_>) -> Result<(), Problem> {
    match wish.user {
        Some(user) if exceeds(&user.rights, &wish.draft.scopes) => Err(Problem::field("scopes", ABOVE_USER)),
        Some(_) | None => Ok(()),
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
        Reach::Organization(_) => {
            let organization = reach.sees(organization_of(state, record).await.map(Some))?;
            Ok(organization.is_some_and(|organization| reach.covers(None, organization.as_deref())))
        }
    }
}

pub(super) async fn find_user(state: &IssuerState, subject: &Subject) -> Result<Option<(UserRecord, u64)>, Problem> {
    let place = RecordKey::user(LOCAL, subject.as_str());
    match state.records.get(&place).await? {
        Some(stored) => Ok(Some((decode_user(&place.id, &stored.bytes)?, stored.version))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::checks::left_out::leave_out;
    use crate::model::caller::Caller;
    use crate::model::caller::Environment;
    use crate::model::caller::Namespace;
    use crate::model::caller::ProvenBy;
    use crate::model::caller::SourceName;
    use crate::model::caller::UserId;
    use crate::model::key::KeyId;
    use crate::model::scope::Scope;
    use crate::model::scope::ScopeSet;

    fn scopes(text: &str) -> Arc<ScopeSet> {
        Arc::new(ScopeSet::new(text.split_whitespace().map(|scope| Scope::parse(scope).unwrap())))
    }

    fn subject(name: &str) -> Subject {
        Subject::parse(name).unwrap()
    }

    /// ann, who manages the keys of acme, by a key of hers.
    fn ann() -> Caller {
        let source = SourceName::local();
        Caller {
            proven_by: ProvenBy::Key,
            user: UserId::new(&source, &subject("ann"), Namespace::Bare),
            source,
            subject: subject("ann"),
            issuer: None,
            organization: Some("acme".into()),
            key: None,
            client: None,
            scopes: scopes("orders:read orders:write tollgate:keys"),
            tier: None,
            environment: Environment::Live,
            pinned_version: None,
            key_rate_limit: None,
            expires: None,
        }
    }

    /// By a key of hers that manages nobody's, for an hour.
    fn for_herself(caller: &mut Caller, draft: &mut Draft, user: &mut UserRecord) {
        let hour = Some(Timestamp::from_unix_seconds(3600));
        caller.scopes = scopes("orders:read");
        (caller.key, caller.key_rate_limit, caller.expires) = (Some(KeyId::new("JgE32ybtn5w4")), Some(60), hour);
        (draft.user, user.subject) = (subject("ann"), subject("ann"));
        (draft.rate_limit, draft.expires) = (Some(60), hour);
    }

    fn bob() -> UserRecord {
        UserRecord {
            source: Arc::from(LOCAL),
            subject: subject("bob"),
            organization: Some("acme".into()),
            tier: None,
            rights: Rights::Only(scopes("orders:*")),
            state: UserState::Active,
            disabled_by: None,
            valid_from: None,
            created: Timestamp::from_unix_seconds(0),
        }
    }

    // oauth: T5
    #[test]
    fn every_check_of_a_new_key_holds_something_up() {
        type Change = fn(&mut Caller, &mut Draft, &mut UserRecord);
        let table: [Change; 10] = [
            |_, draft, user| (draft.scopes, user.rights) = (scopes("files:read"), Rights::Unlimited),
            |caller, _, _| caller.environment = Environment::Test,
            |_, draft, _| draft.tier = Some("pro".into()),
            |caller, draft, user| {
                for_herself(caller, draft, user);
                draft.rate_limit = None;
            },
            |caller, draft, user| {
                for_herself(caller, draft, user);
                draft.expires = None;
            },
            |_, draft, _| draft.extras.allowed_networks = vec!["192.0.2.0/24".parse().unwrap(), "198.51.100.0/24".parse().unwrap()],
            |_, _, user| user.organization = Some("evil".into()),
            |_, _, user| user.state = UserState::Disabled,
            |_, draft, _| draft.organization = Some("evil".into()),
            |_, _, user| user.rights = Rights::Only(scopes("files:*")),
        ];
        let judged = |change: Change, without: &'static str| {
            let (mut caller, mut user) = (ann(), bob());
            let mut draft = Draft::new("a key".into(), subject("bob"), scopes("orders:read"));
            change(&mut caller, &mut draft, &mut user);
            let maker = Actor::Caller(Arc::new(caller));
            let reach = maker.reach(KEYS).unwrap();
            let networks = ["192.0.2.0/24".parse().unwrap()];
            let wish = Wish { maker: &maker, reach: &reach, draft: &draft, user: Some(&user), networks: &networks };
            let _left_out = leave_out(without);
            run(&Wish::CHECKS, &wish)
        };
        judged(|_, _, _| {}, "nothing").unwrap();
        for (check, change) in Wish::CHECKS.iter().zip(table) {
            assert!(judged(change, "nothing").is_err(), "{}", check.name);
            assert!(judged(change, check.name).is_ok(), "nothing falls without the check: {}", check.name);
        }
    }
}
