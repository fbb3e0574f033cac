//! What happens between a reading and the commit that rests on it: the commit is refused. One that rested on nothing would go through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Clock as _;
use crate::issuer::accounts::identities::identity_record;
use crate::issuer::accounts::password::change_own_password;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_in::sign_in;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::Profile;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::accounts::sign_up::sign_up_linked;
use crate::issuer::accounts::tests::Browser;
use crate::issuer::accounts::tests::PASSWORD;
use crate::issuer::accounts::tests::founder;
use crate::issuer::accounts::tests::new;
use crate::issuer::accounts::tests::scopes;
use crate::issuer::key_tokens::token_for_key;
use crate::issuer::tests::Issuer;
use crate::issuer::tests::meddled::Meddled;
use crate::issuer::users;
use crate::model::account::AccountRecord;
use crate::model::account::InvitationRecord;
use crate::model::account::LinkedIdentity;
use crate::model::account::Role;
use crate::model::caller::Subject;
use crate::model::handle::HandleKind;
use crate::model::issuance::PhoneRule;
use crate::model::key::KeyState;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_key;
use crate::store::codec::encode_key;
use crate::store::codec::encode_user;

fn put_user(user: &UserRecord) -> Write {
    Write::Put { key: RecordKey::user(users::LOCAL, user.subject.as_str()), bytes: encode_user(user), expires: None }
}

/// Whether somebody succeeds although this happened meanwhile.
async fn succeeds(although: &str, is_careless: bool) -> bool {
    let mut issuer = Issuer::issuing(|_| {});
    let founded = founder(&issuer, "alice").await;
    let actor = Browser::of(&issuer, "alice").await.actor().await;
    // So long that a sign-in is written down.
    issuer.clock.advance(Duration::from_secs(60));
    let now = issuer.clock.now();
    let (key_id, key) = issuer.key_of("abe", "acme", &["orders:read"]).await;
    let (alice, _version) = users::find(&issuer.state, users::LOCAL, "alice").await.unwrap().unwrap();
    let (account, _version) = shelf::find::<AccountRecord>(&issuer.state, "alice").await.unwrap().unwrap();
    let invitation = InvitationRecord {
        id: Arc::from("invitation"),
        organization: founded.organization,
        role: Role::Member,
        rights: scopes("orders:read"),
        made_by: Some(founded.user.clone()),
        created: now,
        expires: now.plus(Duration::from_secs(60)),
        accepted_by: None,
    };
    issuer.put(shelf::put(&invitation, None)).await;
    let handle = issuer.state.peppers.handle("reva", HandleKind::Invitation, "invitation", 0, "p1").unwrap();
    let invited = NewAccount { invitation: Some(handle.to_string()), ..new("bob") };
    let identity = LinkedIdentity { provider: "google".into(), issuer: "https://g".into(), subject: "1".into() };
    let meddled = Meddled::over(&issuer.records, 1000);
    meddled.is_careless.store(is_careless, Ordering::SeqCst);
    issuer.state.records = meddled.clone();
    let state = &issuer.state;
    let first = |write| *meddled.first.lock().unwrap() = vec![write];
    let has_succeeded = match although {
        "the name was taken" => {
            first(put_user(&UserRecord { subject: Subject::parse("bob").unwrap(), ..alice }));
            sign_up(state, new("bob"), None, now).await.is_ok()
        }
        "the invitation was used" => {
            first(shelf::put(&InvitationRecord { accepted_by: Some(founded.user), ..invitation }, None));
            sign_up(state, invited, None, now).await.is_ok()
        }
        "who invited was disabled" => {
            first(put_user(&UserRecord { state: UserState::Disabled, ..alice }));
            sign_up(state, invited, None, now).await.is_ok()
        }
        "the sign-in elsewhere was linked" => {
            first(shelf::put(&identity_record(&identity, &founded.user), None));
            sign_up_linked(state, identity, Profile::default(), PhoneRule::Optional, None, now).await.is_ok()
        }
        "the password was taken away" => {
            first(shelf::put(&AccountRecord { password: None, ..account }, None));
            sign_in(state, "alice", PASSWORD.to_owned(), None, now).await.is_ok()
        }
        "the user was disabled" => {
            first(put_user(&UserRecord { state: UserState::Disabled, ..alice }));
            change_own_password(state, &actor, Some(PASSWORD.into()), "another horse".into(), None, now).await.is_ok()
        }
        "the key was revoked" => {
            let place = RecordKey::key(&key_id);
            let mut record = decode_key(&key_id, &issuer.records.get(&place).await.unwrap().unwrap().bytes).unwrap();
            record.state = KeyState::Revoked;
            first(Write::Put { key: place, bytes: encode_key(&record), expires: None });
            token_for_key(state, &key, None, now).await.is_ok()
        }
        _ => panic!("nobody does this: {although}"),
    };
    assert!(meddled.first.lock().unwrap().is_empty(), "{although}: nothing was tried");
    has_succeeded
}

// oauth: R14 R15 T10
#[tokio::test]
async fn whoever_was_faster_is_not_overwritten() {
    for although in [
        "the name was taken",
        "the invitation was used",
        "who invited was disabled",
        "the sign-in elsewhere was linked",
        "the password was taken away",
        "the user was disabled",
        "the key was revoked",
    ] {
        assert!(!succeeds(although, false).await, "{although}");
        assert!(succeeds(although, true).await, "nothing falls when commits rest on nothing: {although}");
    }
}
