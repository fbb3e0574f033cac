//! What people do to themselves, for the audit log.

use std::net::IpAddr;
use std::sync::Arc;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Person;
use crate::issuer::audit;
use crate::issuer::audit::Deed;
use crate::issuer::audit::Entry;
use crate::model::account::SessionRecord;
use crate::model::caller::Subject;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;

/// One thing that was done, and from where.
#[derive(Clone, Copy, Debug)]
pub(in crate::issuer) struct Done<'a> {
    pub deed: Deed,
    /// The id of what it was done to.
    pub subject: &'a str,
    pub organization: Option<&'a str>,
    pub address: Option<IpAddr>,
}

/// Writes it into the audit log.
pub(in crate::issuer) async fn note(state: &IssuerState, actor: &Actor, done: Done<'_>, now: Timestamp) {
    let Done { deed, subject, organization, address } = done;
    let entry = Entry { deed, actor, subject, organization, address, request_id: None, changes: &[] };
    audit::note(state, entry, now).await;
}

/// The same, written a while later: for what strangers can make happen as often as the pool of passwords lets them.
pub(in crate::issuer) fn note_behind(state: &IssuerState, actor: &Actor, done: Done<'_>, now: Timestamp) {
    let Done { deed, subject, organization, address } = done;
    audit::note_behind(state, Entry { deed, actor, subject, organization, address, request_id: None, changes: &[] }, now);
}

/// A user who just proved who it is, and has no session yet.
pub(in crate::issuer) fn themselves(user: UserRecord, now: Timestamp) -> Actor {
    let session = SessionRecord {
        id: Arc::from(""),
        user: user.subject.clone(),
        method: Arc::from("none"),
        created: now,
        used: now,
        idle_until: now,
        ends: now,
        agent: None,
    };
    Actor::Person(Arc::new(Person { session, user: Arc::new(user) }))
}

/// Somebody who proved nothing.
pub(in crate::issuer) fn somebody(now: Timestamp) -> Option<Actor> {
    let user = UserRecord {
        source: Arc::from("nobody"),
        subject: Subject::parse("anonymous").ok()?,
        organization: None,
        tier: None,
        rights: Rights::Only(Arc::new(ScopeSet::default())),
        state: UserState::Disabled,
        disabled_by: None,
        valid_from: None,
        created: now,
    };
    Some(themselves(user, now))
}
