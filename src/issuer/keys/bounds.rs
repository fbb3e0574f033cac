//! What a key cannot give: whatever it touches or makes holds no more than itself, lasts no longer, is asked no oftener, and opens from
//! nowhere else.

use std::sync::Arc;

use ipnet::IpNet;

use crate::issuer::IssuerState;
use crate::issuer::accounts::reach::Takeover;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::input::Fields;
use crate::issuer::keys::owner::find_user;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::caller::Subject;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::store::RecordKey;
use crate::store::codec::decode_key;

pub(super) const ABOVE_USER: &str = "must be within what the user holds (`rights`)";
pub(super) const ABOVE_MAKER: &str = "must be within what you hold yourself now";

/// Whose key widens another, or learns a secret of it, has nothing by that which it has not itself: it is no use for longer, oftener, or
/// from elsewhere. Else a text that is good for an hour, or for nothing outside, would become one that is good for ever and everywhere.
/// Whoever manages an organisation's keys is held to the networks alone.
///
/// # Errors
/// 403.
pub(in crate::issuer) async fn refuse_wider(state: &IssuerState, actor: &Actor, reach: &Reach, key: &KeyRecord) -> Result<(), Problem> {
    run(&Lasting::CHECKS, &Lasting { actor, reach, key })?;
    run(&Opening::CHECKS, &Opening { held: &networks_of(state, actor, reach).await?, asked: key.notes.allowed_networks() })
}

/// A key as it is to be, and what changes it.
pub(in crate::issuer) struct Lasting<'a> {
    actor: &'a Actor,
    reach: &'a Reach,
    key: &'a KeyRecord,
}

impl Lasting<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 2] = [
        Check {
            name: "what a user's own key touches lasts no longer than itself",
            run: |it| lasts_no_longer(it.actor, it.reach, it.key.expires),
        },
        Check {
            name: "what a user's own key touches asks no oftener than itself",
            run: |it| asks_no_oftener(it.actor, it.reach, it.key.rate_limit),
        },
    ];
}

/// From where a changed key opens, and from where what changes it.
struct Opening<'o> {
    held: &'o [IpNet],
    asked: &'o [IpNet],
}

impl Opening<'_> {
    const CHECKS: [Check<Self, Problem>; 1] =
        [Check { name: "it opens from nowhere else than what changes it", run: |opening| within_networks(opening.held, opening.asked) }];
}

/// Refuses a key that is bound to make what nothing binds: an application, a password, an invitation, another's rights. By these whoever
/// has its text for a moment would have more, for longer and from elsewhere.
///
/// # Errors
/// 403.
pub(in crate::issuer) async fn refuse_unbound(state: &IssuerState, maker: &Actor, reach: &Reach) -> Result<(), Problem> {
    let networks = networks_of(state, maker, reach).await?;
    run(&Unbound::CHECKS, &Unbound { maker, reach, networks: &networks }).map_err(|Unmet| {
        let issue = "this would be bound by nothing, and the key that you show is: to networks, an end or a limit; sign in for it";
        Problem::new(Code::Forbidden, issue)
    })
}

/// Something that nothing binds, and who would make it.
pub(in crate::issuer) struct Unbound<'u> {
    maker: &'u Actor,
    reach: &'u Reach,
    networks: &'u [IpNet],
}

impl Unbound<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 3] = [
        Check { name: "what opens from some networks makes nothing that opens from all", run: |new| hold(new.networks.is_empty()) },
        Check { name: "what ends makes nothing that does not", run: |new| hold(own_end(new.maker, new.reach).is_none()) },
        Check { name: "what is limited makes nothing that is not", run: |new| hold(own_limit(new.maker, new.reach).is_none()) },
    ];
}

/// The networks to which the key is bound that this one shows; empty: to none. Who reaches everything has whatever it likes.
pub(super) async fn networks_of(state: &IssuerState, actor: &Actor, reach: &Reach) -> Result<Vec<IpNet>, Problem> {
    match reach {
        Reach::Everything => Ok(Vec::new()),
        Reach::Organization(_) | Reach::Own(_) => {
            Ok(shown_key(state, actor).await?.map(|key| key.notes.allowed_networks().to_vec()).unwrap_or_default())
        }
    }
}

/// The key that this one shows, or in whose name its token is, as it is now; none: it shows none. One that ended since it was shown says
/// nothing any more: on whose word it stood went with whoever that was.
pub(super) async fn shown_key(state: &IssuerState, actor: &Actor) -> Result<Option<Arc<KeyRecord>>, Problem> {
    let Actor::Caller(caller) = actor else { return Ok(None) };
    let Some(id) = &caller.key else { return Ok(None) };
    if let Some(record) = state.rules.load().file_keys.get(id.as_str()) {
        return Ok(Some(Arc::clone(record)));
    }
    let stored = state.records.get(&RecordKey::key(id.as_str())).await?;
    let key = stored.map(|stored| decode_key(id.as_str(), &stored.bytes)).transpose()?;
    run(&SHOWN, &key).map(|()| key.map(Arc::new))
}

pub(in crate::issuer) const SHOWN: [Check<Option<KeyRecord>, Problem>; 1] = [Check {
    name: "a key that ended since it was shown says nothing any more",
    run: |key| match key.as_ref().map(|key| key.state) {
        Some(KeyState::Active | KeyState::Disabled) => Ok(()),
        Some(KeyState::Revoked) | None => Err(Problem::new(Code::Unauthenticated, "the key that you show is gone")),
    },
}];

pub(super) fn within_networks(held: &[IpNet], asked: &[IpNet]) -> Result<(), Problem> {
    let lies_within = |network: &IpNet| held.iter().any(|held| held.contains(network));
    if held.is_empty() || (!asked.is_empty() && asked.iter().all(lies_within)) {
        return Ok(());
    }
    Err(above_maker("allowed_networks", "must lie within the networks of the key that you show"))
}

/// Whether this one may change a key that lies within its reach, or learn a new secret of it. Its own user may at our pages, and the key
/// itself; everybody else must hold what it holds.
pub(in crate::issuer) fn check_may_change(actor: &Actor, record: &KeyRecord) -> Result<(), Problem> {
    let is_itself = match actor {
        Actor::Operator => true,
        Actor::Caller(caller) => caller.key.as_ref() == Some(&record.id),
        Actor::Person(person) => person.user.subject == record.user,
    };
    if is_itself {
        return Ok(());
    }
    let refusal = "the key holds more than you hold yourself now; revoking it is all that you may do";
    run(&Takeover::CHECKS, &Takeover { actor, scopes: &record.scopes, environment: record.environment, refusal })
}

/// Refuses scopes that a key's user, or whoever gives them, does not hold.
pub(in crate::issuer) async fn check_ceiling(
    state: &IssuerState,
    actor: &Actor,
    user: &Subject,
    scopes: &ScopeSet,
    fields: &Fields,
) -> Result<(), Problem> {
    let user = find_user(state, user).await?.map(|(user, _revision)| user);
    run(&Rescoping::CHECKS, &Rescoping { actor, scopes, user: user.as_ref(), fields })
}

/// Scopes that a key is to hold from now on.
pub(in crate::issuer) struct Rescoping<'a> {
    actor: &'a Actor,
    scopes: &'a ScopeSet,
    user: Option<&'a UserRecord>,
    fields: &'a Fields,
}

impl Rescoping<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 3] = [
        Check {
            name: "whoever changes a key's scopes holds them",
            run: |asked| if asked.actor.may_grant_all(asked.scopes) { Ok(()) } else { Err(above_maker("scopes", ABOVE_MAKER)) },
        },
        Check {
            name: "scopes are given to somebody's key",
            run: |asked| asked.user.map(|_user| ()).ok_or_else(|| Problem::new(Code::Conflict, "the key's user is gone")),
        },
        Check {
            name: "a key's user holds its new scopes",
            run: |asked| match asked.user {
                Some(user) if exceeds(&user.rights, asked.scopes) => Err(asked.fields.complaint("scopes", ABOVE_USER)),
                Some(_) | None => Ok(()),
            },
        },
    ];
}

pub(super) fn asks_no_oftener(actor: &Actor, reach: &Reach, asked: Option<u32>) -> Result<(), Problem> {
    if own_limit(actor, reach).is_some_and(|limit| asked.is_none_or(|asked| asked > limit)) {
        return Err(above_maker("rate_limit", "must not be more than your own key's"));
    }
    Ok(())
}

fn own_limit(maker: &Actor, reach: &Reach) -> Option<u32> {
    match (maker, reach) {
        (Actor::Caller(caller), Reach::Own(_)) => caller.key_rate_limit,
        (Actor::Operator | Actor::Caller(_) | Actor::Person(_), _) => None,
    }
}

pub(super) fn lasts_no_longer(actor: &Actor, reach: &Reach, expires: Option<Timestamp>) -> Result<(), Problem> {
    if own_end(actor, reach).is_some_and(|ends| expires.is_none_or(|expires| expires > ends)) {
        return Err(above_maker("expires_at", "must be no later than the end of the credential that you show"));
    }
    Ok(())
}

fn own_end(actor: &Actor, reach: &Reach) -> Option<Timestamp> {
    match (actor, reach) {
        (Actor::Caller(caller), Reach::Own(_)) if caller.key.is_some() => caller.expires,
        (Actor::Operator | Actor::Caller(_) | Actor::Person(_), _) => None,
    }
}

pub(super) fn exceeds(rights: &Rights, scopes: &ScopeSet) -> bool {
    match rights {
        Rights::Unlimited => false,
        Rights::Only(held) => scopes.iter().any(|scope| !held.covers(scope.as_str())),
    }
}

/// What somebody may do, and not as far as this field says.
pub(super) fn above_maker(field: &'static str, issue: &'static str) -> Problem {
    Problem { code: Code::Forbidden, message: "this is more than you may give".into(), ..Problem::field(field, issue) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::checks::assert_each_is_needed;

    #[test]
    fn every_check_of_where_a_changed_key_opens_from_is_needed() {
        let held = ["192.0.2.0/24".parse().unwrap()];
        for asked in [Vec::new(), vec!["0.0.0.0/0".parse().unwrap()], vec![held[0], "198.51.100.7/32".parse().unwrap()]] {
            assert_each_is_needed(
                || Opening::CHECKS,
                &[("it opens from nowhere else than what changes it", Opening { held: &held, asked: &asked })],
            );
        }
    }
}
