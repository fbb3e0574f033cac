//! The audit log: who did what to which key, client or user, from where. Append-only, one hash chain for each issuer's process;
//! no secret in it, and of a user who was erased nothing but a pseudonym.
//!
//! An entry names the digest of the one before it and carries a MAC under the pepper, so neither a change nor a gap goes unseen, and
//! whoever can write the store alone can make no chain. What nobody can see by the store alone is that the newest entries of a
//! process that ended, or a whole chain, are gone; the process's own log has every entry's digest for that.
//!
//! Entries are kept for 400 days. Then a chain's beginning goes, and only what is old enough may be missing there.

mod chain;
pub(in crate::issuer) mod changes;
pub(in crate::issuer) mod list;
mod people;
mod record;
pub(in crate::issuer) mod verify;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::audit::chain::Draft;
use crate::issuer::audit::chain::Pen;
use crate::issuer::audit::chain::Who;
use crate::issuer::audit::changes::Change;
use crate::issuer::problem::Problem;
use crate::model::caller::Caller;
use crate::model::caller::ProvenBy;
use crate::model::caller::Subject;
use crate::model::client::is_client_id;
use crate::model::time::Timestamp;

pub use crate::issuer::audit::chain::Audit;

/// Characters of a subject or a request id that an entry keeps.
const TEXT_CHARACTERS_MAX: usize = 200;
/// The source of whoever proved nothing.
const NOBODY: &str = "nobody";

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
    /// Every deed.
    pub const ALL: [Self; 27] = [
        Self::KeyCreated,
        Self::KeyImported,
        Self::KeyChanged,
        Self::KeyRotated,
        Self::KeyRevoked,
        Self::UserCreated,
        Self::UserChanged,
        Self::UserErased,
        Self::OrganizationCreated,
        Self::OrganizationChanged,
        Self::InvitationCreated,
        Self::InvitationAccepted,
        Self::InvitationRevoked,
        Self::ClientCreated,
        Self::ClientChanged,
        Self::ClientSecretRotated,
        Self::ClientDeleted,
        Self::SignedIn,
        Self::SignInFailed,
        Self::SignedOut,
        Self::PasswordChanged,
        Self::IdentityLinked,
        Self::ConsentGiven,
        Self::GrantRevoked,
        Self::ReuseDetected,
        Self::TokenIssued,
        Self::RingRotated,
    ];

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

    /// Whether what it is done to is a person.
    const fn is_about_a_person(self) -> bool {
        match self {
            Self::UserCreated
            | Self::UserChanged
            | Self::UserErased
            | Self::SignedIn
            | Self::SignInFailed
            | Self::SignedOut
            | Self::PasswordChanged
            | Self::IdentityLinked
            | Self::InvitationAccepted => true,
            Self::KeyCreated
            | Self::KeyImported
            | Self::KeyChanged
            | Self::KeyRotated
            | Self::KeyRevoked
            | Self::OrganizationCreated
            | Self::OrganizationChanged
            | Self::InvitationCreated
            | Self::InvitationRevoked
            | Self::ClientCreated
            | Self::ClientChanged
            | Self::ClientSecretRotated
            | Self::ClientDeleted
            | Self::ConsentGiven
            | Self::GrantRevoked
            | Self::ReuseDetected
            | Self::TokenIssued
            | Self::RingRotated => false,
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
    pub address: Option<IpAddr>,
    pub request_id: Option<&'a str>,
    /// What it changed of a record that was there.
    pub changes: &'a [Change],
}

/// Notes that something was done. Called after the deed's commit. The deed stands whether it can be noted or not, so a note that fails
/// is told in the log and in metrics, and never to whoever did the deed.
pub async fn note(state: &IssuerState, entry: Entry<'_>, now: Timestamp) {
    pen(state).write(entry.draft(state.audit.way_of_operators(), now)).await;
}

/// Has it noted a while later, together with what else came meanwhile: so neither this answer's time nor the next one's tells of the
/// names that the entry needs, and a flood of sign-ins is no flood of commits. A process that is killed loses what waited.
pub fn note_behind(state: &IssuerState, entry: Entry<'_>, now: Timestamp) {
    pen(state).post_behind(entry.draft(state.audit.way_of_operators(), now));
}

/// Writes what still waits.
pub async fn finish(state: &IssuerState) {
    pen(state).finish().await;
}

fn pen(state: &IssuerState) -> Pen {
    Pen {
        audit: Arc::clone(&state.audit),
        records: Arc::clone(&state.records),
        peppers: Arc::clone(&state.peppers),
        observer: Arc::clone(&state.observer),
    }
}

/// How the log calls a local user; none: it never named it. Asked before the user is erased.
///
/// # Errors
/// A store that does not answer.
pub async fn pseudonym(state: &IssuerState, user: &Subject) -> Result<Option<Arc<str>>, Problem> {
    Ok(people::find(&*state.records, people::LOCAL, user.as_str()).await?.map(|name| name.pseudonym))
}

/// Takes a user's name out of the log, and the means to read the addresses noted with it. Called when the user is erased, before and
/// after its record is gone: its last deeds could give it a name again.
///
/// # Errors
/// A store that does not answer.
pub async fn forget(state: &IssuerState, source: &str, user: &Subject) -> Result<(), Problem> {
    Ok(people::forget(&*state.records, source, user.as_str(), state.clock.now()).await?)
}

/// The routes.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new().route("/v1/audit", get(list::list)).route("/v1/audit/verify", get(verify::verify))
}

impl Entry<'_> {
    fn draft(&self, way_of_operators: &'static str, at: Timestamp) -> Draft {
        let (actor, via) = self.who(way_of_operators);
        let subject = if self.deed == Deed::UserErased {
            // Its name leads nowhere any more.
            Who::Pseudonym(short(self.subject))
        } else if self.deed.is_about_a_person() {
            Who::Person { source: Arc::from(people::LOCAL), subject: short(self.subject) }
        } else {
            Who::Thing(short(self.subject))
        };
        Draft {
            at,
            deed: self.deed.as_str(),
            actor,
            via,
            subject,
            organization: self.organization.map(Arc::from),
            address: self.address,
            request_id: self.request_id.map(short),
            changes: self.changes.to_vec(),
        }
    }

    /// Who did it, and by which credential or way.
    fn who(&self, way_of_operators: &'static str) -> (Who, Option<Arc<str>>) {
        match self.actor {
            Actor::Operator => (Who::Operator, Some(Arc::from(way_of_operators))),
            Actor::Person(person) if &*person.user.source == NOBODY => (Who::Nobody, None),
            Actor::Person(person) => {
                let who = Who::Person { source: Arc::clone(&person.user.source), subject: Arc::from(person.user.subject.as_str()) };
                // Who proved itself by another way than our pages has no session.
                (who, (!person.session.id.is_empty()).then(|| Arc::from("session")))
            }
            Actor::Caller(caller) => (of_caller(caller), via(caller)),
        }
    }
}

fn of_caller(caller: &Caller) -> Who {
    let subject: Arc<str> = Arc::from(caller.subject.as_str());
    match caller.proven_by {
        ProvenBy::Principal => Who::Principal(subject),
        ProvenBy::Token if is_client_id(&subject) => Who::Client(subject),
        ProvenBy::Key | ProvenBy::Token => Who::Person { source: Arc::from(caller.source.as_str()), subject },
    }
}

fn via(caller: &Caller) -> Option<Arc<str>> {
    match (&caller.key, &caller.client) {
        (Some(key), _) => Some(Arc::from(format!("key:{key}"))),
        (None, Some(client)) => Some(Arc::from(format!("client:{client}"))),
        (None, None) => None,
    }
}

/// A text from outside keeps to a bound here too.
fn short(text: &str) -> Arc<str> {
    match text.char_indices().nth(TEXT_CHARACTERS_MAX) {
        None => Arc::from(text),
        Some((end, _character)) => Arc::from(text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
