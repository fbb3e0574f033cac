//! A user as a check needs it: what it may hold, and whether it stands.

use std::sync::Arc;

use crate::model::caller::Subject;
use crate::model::key::DisabledBy;
use crate::model::key::KeyRecord;
use crate::model::scope::ADMIN;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// A local user, or one of a managed issuer. Its rights are the ceiling of every credential that acts for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// `local` or the managed issuer's name.
    pub source: Arc<str>,
    pub subject: Subject,
    pub organization: Option<Arc<str>>,
    pub tier: Option<Arc<str>>,
    pub rights: Rights,
    pub state: UserState,
    /// While it is disabled.
    pub disabled_by: Option<DisabledBy>,
    /// Tokens issued before this are refused.
    pub valid_from: Option<Timestamp>,
    pub created: Timestamp,
}

/// What a user may hold at the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Whatever its credentials were granted.
    Unlimited,
    Only(Arc<ScopeSet>),
}

impl UserRecord {
    /// Who disabled it; none: it is not disabled.
    pub fn disabled(&self) -> Option<DisabledBy> {
        match self.state {
            UserState::Disabled => Some(self.disabled_by.unwrap_or_default()),
            UserState::Active => None,
        }
    }

    /// Whether it is still of the organisation for which something in its name was given. What was given for none asks for none.
    pub fn is_still_of(&self, organization: Option<&Arc<str>>) -> bool {
        organization.is_none_or(|given_for| self.organization.as_ref() == Some(given_for))
    }

    /// These scopes within what it holds.
    pub fn within_rights(&self, scopes: &Arc<ScopeSet>) -> Arc<ScopeSet> {
        match &self.rights {
            Rights::Unlimited => Arc::clone(scopes),
            Rights::Only(rights) => scopes.within(rights),
        }
    }

    /// What it can still give of these scopes to a key that it made for another; none: nothing for the key's organisation any more.
    ///
    /// Bounding a key when it is made would not do: a key never exceeds its maker's *current* rights, and whoever lost a right, or was put
    /// out, would have kept it in other hands. Whoever holds everything gives whatever there is, to every organisation.
    pub fn gives(&self, scopes: &Arc<ScopeSet>, key: &KeyRecord) -> Option<Arc<ScopeSet>> {
        match &self.rights {
            Rights::Unlimited => Some(Arc::clone(scopes)),
            Rights::Only(rights) if rights.covers(ADMIN) => Some(Arc::clone(scopes)),
            Rights::Only(_) if self.organization != key.organization => None,
            Rights::Only(rights) => Some(scopes.within(rights)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserState {
    Active,
    Disabled,
}
