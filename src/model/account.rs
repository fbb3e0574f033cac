//! Accounts: the people behind local users, their organisations, sessions and invitations.
//!
//! What a check needs of a user stands in its [`UserRecord`](crate::model::user::UserRecord); what only the issuer needs stands here.

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::model::caller::Subject;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// What a member is to its organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Manages the organisation's users, keys and clients, and reads its usage.
    Admin,
    Member,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }
}

/// A phone number and what is known of it. Sending a code is not ours (seed 003, phase 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phone {
    /// E.164: `+` and 7 to 15 digits.
    pub number: Arc<str>,
    pub verified: bool,
}

/// A sign-in elsewhere that opens this account: the pair (issuer, subject), never an e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkedIdentity {
    /// The provider's name in the config.
    pub provider: Arc<str>,
    pub issuer: Arc<str>,
    pub subject: Arc<str>,
}

/// Which account a sign-in elsewhere opens. Lies under the SHA-256 of its issuer and subject, 64 hex digits: it is linked once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRecord {
    pub id: Arc<str>,
    pub user: Subject,
}

/// What only the issuer needs of a local user. Lies under the user's subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRecord {
    pub user: Subject,
    pub role: Role,
    /// argon2id in PHC form; none: this account has no password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Arc<str>>,
    /// Whether a provider that we trust for it said so.
    #[serde(default)]
    pub email_verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Phone>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<LinkedIdentity>,
    /// Whether a sign-in stands that was not followed by a sign-out (seed 004).
    #[serde(default)]
    pub online: bool,
    /// When it last signed in, out, or did something in a session (seed 004's operation time), to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_operation: Option<Timestamp>,
    /// Who made it; none: it signed up itself, or an operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Subject>,
    /// The invitation that it came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<Arc<str>>,
    pub created: Timestamp,
}

/// An organisation. Lies under its id: `org_` and 20 base62 characters, or what an operator named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationRecord {
    pub id: Arc<str>,
    pub name: Arc<str>,
    /// The tier of its users that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Arc<str>>,
    /// Its first admin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founder: Option<Subject>,
    pub created: Timestamp,
}

/// A session of the issuer's own pages. Its handle is in the browser's cookie, and not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRecord {
    /// 22 base62 characters: 6 that are the same for all sessions of its user, and 16 random ones.
    pub id: Arc<str>,
    pub user: Subject,
    /// How it signed in: `password`, or a provider's name.
    pub method: Arc<str>,
    pub created: Timestamp,
    /// When it was last used, to the minute.
    pub used: Timestamp,
    pub idle_until: Timestamp,
    pub ends: Timestamp,
    /// What the person reads in the list of sessions: the browser's name, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
}

impl SessionRecord {
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.idle_until && now < self.ends
    }
}

/// An invitation into an organisation (the "referral" of seed 003). Its handle is handed over outside of us, and not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvitationRecord {
    /// 22 random base62 characters.
    pub id: Arc<str>,
    pub organization: Arc<str>,
    pub role: Role,
    /// What the new user may hold at the most; never more than its maker held.
    pub rights: Arc<ScopeSet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Subject>,
    pub created: Timestamp,
    pub expires: Timestamp,
    /// Set once: it is good for one user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_by: Option<Subject>,
}

/// Something single-use and short-lived: a consent or a sign-in elsewhere that is under way, which is taken by removing it; or that a
/// request was done, which is not done again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRecord {
    /// 22 random base62 characters; or where it says that a request was done, 64 hex digits that the request leads to.
    pub id: Arc<str>,
    /// What it is for; a ticket opens nothing else.
    pub purpose: Arc<str>,
    /// SHA-256 of the browser's handle that it is bound to, 64 hex digits; empty where it is bound to none.
    pub browser: Arc<str>,
    /// What the step after it needs.
    pub data: serde_json::Value,
    pub created: Timestamp,
    pub expires: Timestamp,
}
