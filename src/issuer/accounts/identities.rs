//! Sign-ins elsewhere: which account the pair (issuer, subject) opens. Never an e-mail address.

use std::sync::Arc;

use aws_lc_rs::digest;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::model::account::AccountRecord;
use crate::model::account::IdentityRecord;
use crate::model::account::LinkedIdentity;
use crate::model::caller::Subject;
use crate::model::hex::write_hex;
use crate::model::time::Timestamp;
use crate::store::Committed;

/// Sign-ins elsewhere of one account.
const IDENTITIES_MAX: usize = 16;

/// Under which a sign-in elsewhere lies: the SHA-256 of its issuer and subject, so that neither can be mistaken for part of the other.
pub fn identity_id(issuer: &str, subject: &str) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&(issuer.len() as u64).to_be_bytes());
    hash.update(issuer.as_bytes());
    hash.update(subject.as_bytes());
    write_hex(hash.finish().as_ref())
}

/// The record that links a sign-in elsewhere to a user.
pub fn identity_record(identity: &LinkedIdentity, user: &Subject) -> IdentityRecord {
    IdentityRecord { id: Arc::from(identity_id(&identity.issuer, &identity.subject)), user: user.clone() }
}

/// The user whom a sign-in elsewhere opens.
///
/// # Errors
/// A store that does not answer.
pub async fn owner(state: &IssuerState, issuer: &str, subject: &str) -> Result<Option<Subject>, Problem> {
    let found = shelf::find::<IdentityRecord>(state, &identity_id(issuer, subject)).await?;
    Ok(found.map(|(record, _version)| record.user))
}

/// Links one more sign-in elsewhere to an account whose owner is signed in. Linking it again changes nothing.
///
/// # Errors
/// 409 where it opens another account.
pub async fn link(state: &IssuerState, user: &Subject, identity: LinkedIdentity, now: Timestamp) -> Result<(), Problem> {
    let record = identity_record(&identity, user);
    for _attempt in 0..ATTEMPTS {
        if let Some((known, _version)) = shelf::find::<IdentityRecord>(state, &record.id).await? {
            return if known.user == *user { Ok(()) } else { Err(taken()) };
        }
        let (mut account, version) = shelf::find::<AccountRecord>(state, user.as_str())
            .await?
            .ok_or_else(|| Problem::new(Code::Conflict, "there is no account that this sign-in could be linked to"))?;
        if account.identities.len() >= IDENTITIES_MAX {
            return Err(Problem::new(Code::Conflict, format!("an account has at most {IDENTITIES_MAX} sign-ins elsewhere")));
        }
        let (_user, standing) = users::standing(state, user).await?.ok_or_else(Problem::changed_meanwhile)?;
        let preconditions = vec![shelf::absent(&record), shelf::at(&account, version), standing];
        account.identities.push(identity.clone());
        let writes = vec![shelf::put(&record, None), shelf::put(&account, None)];
        match state.records.commit(preconditions, writes, now).await? {
            Committed::Done | Committed::Unconfirmed => return Ok(()),
            Committed::Refused(_) => {}
        }
    }
    Err(Problem::changed_meanwhile())
}

pub fn taken() -> Problem {
    Problem::new(Code::Conflict, "this sign-in opens another account already")
}
