//! What happens to grants because of their users: they end with a password or a session, and slide with a session.

use std::time::Duration;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::problem::Problem;
use crate::model::caller::Subject;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::issuance::Issuance;
use crate::model::time::Timestamp;

/// How a key's grant is called begins so, and no other grant's name does.
const KEY_GRANTS: &str = "key-";
/// How much longer than its tokens a record of a grant is kept.
const KEPT_AFTER: Duration = Duration::from_secs(86_400);

/// Ends every grant that is wanted; how many.
pub(in crate::issuer) async fn end_all(
    state: &IssuerState,
    is_wanted: impl Fn(&GrantRecord) -> bool,
    why: GrantEnd,
    now: Timestamp,
) -> Result<usize, Problem> {
    let found = shelf::all::<GrantRecord>(state, "", |grant| is_wanted(grant) && !is_ended(grant)).await?;
    for (grant, version) in &found {
        end(state, grant.clone(), *version, why, now).await?;
    }
    Ok(found.len())
}

/// Resets the life of every token of this user's keys, as asking for it again does.
pub(in crate::issuer) async fn slide_key_tokens(
    state: &IssuerState,
    issuance: &Issuance,
    user: &Subject,
    now: Timestamp,
) -> Result<(), Problem> {
    let of_user = |grant: &GrantRecord| grant.key().is_some() && grant.user() == Some(user) && grant.is_live(now);
    for (grant, version) in shelf::all::<GrantRecord>(state, KEY_GRANTS, of_user).await? {
        let mut slid = grant.clone();
        slid.idle_until = now.plus(issuance.lifetimes.key_token).min(slid.ends);
        if slid.idle_until > grant.idle_until {
            let write = shelf::put(&slid, Some(slid.ends.plus(KEPT_AFTER)));
            // Refused: somebody asked for the token at the same moment, or ended it.
            let _either_way = state.records.commit(vec![shelf::at(&grant, version)], vec![write], now).await?;
        }
    }
    Ok(())
}

async fn end(state: &IssuerState, mut grant: GrantRecord, mut version: u64, why: GrantEnd, now: Timestamp) -> Result<(), Problem> {
    for _attempt in 0..ATTEMPTS {
        let precondition = shelf::at(&grant, version);
        grant.state = GrantState::Ended { at: now, why };
        let write = shelf::put(&grant, Some(grant.ends.plus(KEPT_AFTER)));
        if state.records.commit(vec![precondition], vec![write], now).await?.is_done() {
            return Ok(());
        }
        match shelf::find::<GrantRecord>(state, grant.id.as_str()).await? {
            Some((again, at)) if !is_ended(&again) => (grant, version) = (again, at),
            Some(_) | None => return Ok(()),
        }
    }
    Err(Problem::changed_meanwhile())
}

fn is_ended(grant: &GrantRecord) -> bool {
    match grant.state {
        GrantState::Ended { .. } => true,
        GrantState::Pending(_) | GrantState::Live => false,
    }
}
