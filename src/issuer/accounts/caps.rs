//! How much one user may have at a time, by `issuer.caps`: what is left lying about is looked through at many a request.
//!
//! What is there is counted before one more is made, and nothing holds it still meanwhile: of many at once a few come through beyond the cap.

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::actor::Reach;
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::model::account::InvitationRecord;
use crate::model::account::SessionRecord;
use crate::model::caller::Subject;
use crate::model::client::ClientRecord;
use crate::model::issuance::Caps;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;

/// Refuses a user one more key.
///
/// # Errors
/// 409.
pub(in crate::issuer) async fn check_keys(state: &IssuerState, reach: &Reach, user: &Subject, now: Timestamp) -> Result<(), Problem> {
    let Some(caps) = caps(state, reach) else { return Ok(()) };
    let is_live = |key: &&KeyRecord| key.state != KeyState::Revoked && key.expires.is_none_or(|expires| now < expires);
    let live = users::keys_of(state, user).await?.iter().filter(is_live).count();
    refuse_beyond(caps.keys, live, "keys of one user that are neither revoked nor expired; revoke one first")
}

/// The same of a client.
///
/// # Errors
/// 409.
pub(in crate::issuer) async fn check_clients(state: &IssuerState, reach: &Reach, owner: &Subject) -> Result<(), Problem> {
    let Some(caps) = caps(state, reach) else { return Ok(()) };
    let clients = shelf::all::<ClientRecord>(state, "", |client| client.owner.as_ref() == Some(owner)).await?;
    refuse_beyond(caps.clients, clients.len(), "applications of one user; delete one first")
}

/// The same of an invitation.
///
/// # Errors
/// 409.
pub(in crate::issuer) async fn check_invitations(
    state: &IssuerState,
    reach: &Reach,
    maker: &Subject,
    now: Timestamp,
) -> Result<(), Problem> {
    let Some(caps) = caps(state, reach) else { return Ok(()) };
    let is_out = |one: &InvitationRecord| one.made_by.as_ref() == Some(maker) && one.accepted_by.is_none() && now < one.expires;
    let out = shelf::all::<InvitationRecord>(state, "", is_out).await?;
    refuse_beyond(caps.invitations, out.len(), "invitations of one user that are out; revoke one first")
}

/// A user's sessions beyond its cap, the oldest first. All of them begin like the newest, which stays; one of before ids began so is not
/// counted, and ends with its `session_absolute` at the latest.
pub(in crate::issuer) async fn surplus_sessions(
    state: &IssuerState,
    newest: &SessionRecord,
    beginning: &str,
    most: usize,
    now: Timestamp,
) -> Result<Vec<SessionRecord>, Problem> {
    let is_other = |session: &SessionRecord| session.user == newest.user && session.id != newest.id && session.is_live(now);
    let others = shelf::all(state, beginning, is_other).await?;
    let mut others: Vec<SessionRecord> = others.into_iter().map(|(session, _version)| session).collect();
    others.sort_unstable_by_key(|session| session.created);
    others.truncate((others.len() + 1).saturating_sub(most));
    Ok(others)
}

fn caps(state: &IssuerState, reach: &Reach) -> Option<Caps> {
    let issuance = state.rules.load().issuance.clone();
    issuance.map(|issuance| issuance.caps).filter(|_caps| *reach != Reach::Everything)
}

/// One more of what a user has.
pub(in crate::issuer) struct OneMore {
    most: usize,
    there: usize,
}

impl OneMore {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 1] =
        [Check { name: "nobody has more than the config allows", run: |one| hold(one.there < one.most) }];
}

fn refuse_beyond(most: usize, there: usize, what: &str) -> Result<(), Problem> {
    run(&OneMore::CHECKS, &OneMore { most, there })
        .map_err(|Unmet| Problem::new(Code::Conflict, format!("there are at most {most} {what}")))
}
