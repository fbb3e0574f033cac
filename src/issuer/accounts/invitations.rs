//! Invitations: what a handle still stands for when it is shown.

use std::sync::Arc;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::model::account::InvitationRecord;
use crate::model::account::OrganizationRecord;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::key::Rights;
use crate::model::key::UserState;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::store::Precondition;
use crate::store::RecordKey;

/// An invitation that is still good, and what of it must not change until it is used.
#[derive(Debug)]
pub(in crate::issuer) struct Standing {
    pub record: InvitationRecord,
    /// What the new user may hold: the invitation's rights within what its maker holds now.
    pub rights: Arc<ScopeSet>,
    /// The tier of the organisation.
    pub tier: Option<Arc<str>>,
    pub preconditions: Vec<Precondition>,
}

/// What the handle stands for now.
///
/// # Errors
/// 400 with one text for every handle that is good for nothing.
pub(in crate::issuer) async fn judge(state: &IssuerState, shown: &str, now: Timestamp) -> Result<Standing, Problem> {
    let rules = state.rules.load_full();
    let handle = read_handle(&rules.key_brand, shown).filter(|handle| handle.kind == HandleKind::Invitation).ok_or_else(spent)?;
    state.peppers.prove_handle(&handle).ok_or_else(spent)?;
    let (record, version) = shelf::find::<InvitationRecord>(state, handle.id).await?.ok_or_else(spent)?;
    if record.accepted_by.is_some() || record.expires <= now {
        return Err(spent());
    }
    let mut preconditions = vec![shelf::at(&record, version)];
    let rights = match &record.made_by {
        None => Arc::clone(&record.rights),
        Some(maker) => {
            let (maker, version) = users::find(state, users::LOCAL, maker.as_str()).await?.ok_or_else(spent)?;
            if maker.state != UserState::Active || maker.organization.as_ref() != Some(&record.organization) {
                return Err(spent());
            }
            // Should the maker lose rights at this moment, the invitation is judged again.
            preconditions.push(Precondition::AtVersion(RecordKey::user(users::LOCAL, maker.subject.as_str()), version));
            match &maker.rights {
                Rights::Unlimited => Arc::clone(&record.rights),
                Rights::Only(held) => Arc::new(record.rights.intersect(held)),
            }
        }
    };
    let organization = shelf::find::<OrganizationRecord>(state, &record.organization).await?;
    let tier = organization.and_then(|(organization, _version)| organization.tier);
    Ok(Standing { record, rights, tier, preconditions })
}

fn spent() -> Problem {
    Problem::new(
        Code::InvalidRequest,
        "this invitation is good for nothing: it is unknown, used, withdrawn or too old; ask for another one",
    )
}
