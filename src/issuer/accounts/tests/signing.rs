use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Clock as _;
use crate::issuer::accounts::identities;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_in::sign_in;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::Profile;
use crate::issuer::accounts::sign_up::SignedUp;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::accounts::sign_up::sign_up_linked;
use crate::issuer::accounts::sign_up::sign_up_under;
use crate::issuer::accounts::tests::PASSWORD;
use crate::issuer::accounts::tests::new;
use crate::issuer::accounts::tests::scopes;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::tests::Issuer;
use crate::issuer::tests::meddled::Meddled;
use crate::issuer::users;
use crate::model::account::AccountRecord;
use crate::model::account::InvitationRecord;
use crate::model::account::LinkedIdentity;
use crate::model::account::OrganizationRecord;
use crate::model::account::Role;
use crate::model::caller::Environment;
use crate::model::handle::HandleKind;
use crate::model::issuance::FirstKey;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::SignUp;
use crate::model::user::Rights;

fn address(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

/// One whose pool many may wait for.
fn patient() -> Issuer {
    Issuer::issuing(|issuance| {
        issuance.passwords.waiting = 200;
        issuance.first_key = Some(FirstKey { name: "first".into(), environment: Environment::Test, scopes: scopes("orders:*") });
    })
}

async fn all<T: crate::store::codec::Shelved>(issuer: &Issuer) -> Vec<T> {
    shelf::all::<T>(&issuer.state, "", |_| true).await.unwrap().into_iter().map(|(record, _version)| record).collect()
}

async fn account(issuer: &Issuer, name: &str) -> AccountRecord {
    shelf::find::<AccountRecord>(&issuer.state, name).await.unwrap().unwrap().0
}

/// An invitation of the operator's, or of this user's: its handle.
async fn invitation(issuer: &Issuer, organization: &str, rights: &str, made_by: Option<&str>) -> String {
    let now = issuer.clock.now();
    let id = crate::secrets::random_id().unwrap();
    let record = InvitationRecord {
        id: Arc::from(id.as_str()),
        organization: Arc::from(organization),
        role: Role::Member,
        rights: scopes(rights),
        made_by: made_by.map(|maker| crate::model::caller::Subject::parse(maker).unwrap()),
        created: now,
        expires: now.plus(std::time::Duration::from_secs(60)),
        accepted_by: None,
    };
    issuer.records.commit(Vec::new(), vec![shelf::put(&record, Some(record.expires))], now).await.unwrap();
    issuer.state.peppers.handle("reva", HandleKind::Invitation, &id, 0, "p1").unwrap().to_string()
}

#[tokio::test]
async fn whoever_comes_without_an_invitation_is_admin_of_an_organisation_of_its_own() {
    let issuer = patient();
    let now = issuer.clock.now();
    let wanted = NewAccount {
        display_name: Some("Alice A.".into()),
        email: Some("alice@example.com".into()),
        phone: Some("+49 (30) 123-45.67".into()),
        ..new("Alice")
    };
    let SignedUp { user, organization, role, key } =
        sign_up_under(&issuer.state, wanted, PhoneRule::Required, address(1), now).await.unwrap();
    assert_eq!((user.as_str(), role), ("alice", Role::Admin));
    let account = account(&issuer, "alice").await;
    let phone = account.phone.unwrap();
    assert_eq!((&*phone.number, phone.verified, account.online), ("+49301234567", false, false));
    let organizations = all::<OrganizationRecord>(&issuer).await;
    assert_eq!(
        (&organizations[0].id, organizations[0].founder.as_ref(), &*organizations[0].name),
        (&organization, Some(&user), "Alice A.")
    );
    assert_eq!(organization.len(), 24);
    let (record, _) = users::find(&issuer.state, "local", "alice").await.unwrap().unwrap();
    assert_eq!(record.rights, Rights::Only(issuer.state.rules.load().issuance.as_ref().unwrap().admin_rights.clone()));
    let caller = issuer.judge(&key.unwrap()).await.unwrap();
    assert_eq!((caller.environment, caller.scopes.to_string().as_str()), (Environment::Test, "orders:read orders:write"));
    assert_eq!(caller.organization.as_ref(), Some(&organization));
    let refused = sign_up_under(&issuer.state, new("bob"), PhoneRule::Required, address(1), now).await.unwrap_err();
    assert_eq!(refused.details.unwrap().field, "phone");
}

#[tokio::test]
async fn names_and_fields_are_read_strictly_and_every_mode_keeps_its_promise() {
    let issuer = patient();
    let now = issuer.clock.now();
    let long = "x".repeat(65);
    for name in ["", "a b", "al\u{131}ce", "a:b", "app_1", "APP_x", "anonymous", "Admin", "__other__", "a\0", &long] {
        let refused = sign_up(&issuer.state, new(name), None, now).await.unwrap_err();
        assert_eq!(refused.details.unwrap().field, "name", "{name:?}");
    }
    let fields = [
        ("phone", NewAccount { phone: Some("0301234567".into()), ..new("a") }),
        ("phone", NewAccount { phone: Some("+0301234567".into()), ..new("a") }),
        ("phone", NewAccount { phone: Some("+1234567890123456".into()), ..new("a") }),
        ("email", NewAccount { email: Some("a b@c".into()), ..new("a") }),
        ("display_name", NewAccount { display_name: Some("a\nb".into()), ..new("a") }),
        ("password", NewAccount { password: Some("seven77".into()), ..new("a") }),
        ("password", NewAccount { password: Some("x".repeat(1025)), ..new("a") }),
    ];
    for (field, wanted) in fields {
        let refused = sign_up(&issuer.state, wanted, None, now).await.unwrap_err();
        assert_eq!(refused.details.unwrap().field, field);
    }
    sign_up(&issuer.state, new("alice@example.com"), None, now).await.unwrap();
    assert_eq!(sign_up(&issuer.state, new("ALICE@example.com"), None, now).await.unwrap_err().code, Code::Conflict);
    for mode in [SignUp::Invited, SignUp::Closed] {
        let issuer = Issuer::issuing(|issuance| issuance.sign_up = mode);
        assert_eq!(sign_up(&issuer.state, new("a"), None, now).await.unwrap_err().code, Code::Forbidden);
        let invitation = Some(invitation(&issuer, "acme", "orders:read", None).await);
        let invited = sign_up(&issuer.state, NewAccount { invitation, ..new("a") }, None, now).await;
        assert_eq!(invited.is_ok(), mode == SignUp::Invited);
    }
}

// oauth: R14 R15
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_sign_ups_at_once_for_one_name_one_invitation_or_one_identity_exactly_one_succeeds() {
    for round in 0..5 {
        let issuer = Arc::new(patient());
        let now = issuer.clock.now();
        let handle = invitation(&issuer, "acme", "orders:read", None).await;
        let mut same_name = tokio::task::JoinSet::new();
        let mut same_invitation = tokio::task::JoinSet::new();
        let mut same_identity = tokio::task::JoinSet::new();
        for number in 0..50 {
            let task = Arc::clone(&issuer);
            same_name.spawn(async move { sign_up(&task.state, new("alice@example.com"), None, now).await });
            let (task, invitation) = (Arc::clone(&issuer), Some(handle.clone()));
            let wanted = NewAccount { invitation, password: None, ..new(&format!("guest{number}")) };
            same_invitation.spawn(async move { sign_up(&task.state, wanted, None, now).await });
            let task = Arc::clone(&issuer);
            let identity = LinkedIdentity { provider: "google".into(), issuer: "https://g".into(), subject: "1".into() };
            same_identity
                .spawn(async move { sign_up_linked(&task.state, identity, Profile::default(), PhoneRule::Optional, None, now).await });
        }
        let won = |outcomes: Vec<Result<SignedUp, Problem>>, refusal: Code| {
            let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1, "round {round}");
            for lost in lost {
                assert_eq!(lost.unwrap_err().code, refusal, "round {round}");
            }
            won.into_iter().next().unwrap().unwrap()
        };
        let founder = won(same_name.join_all().await, Code::Conflict);
        let guest = won(same_invitation.join_all().await, Code::InvalidRequest);
        let linked = won(same_identity.join_all().await, Code::Conflict);
        assert_eq!((founder.role, guest.role, linked.role), (Role::Admin, Role::Member, Role::Admin));
        assert_eq!(&*guest.organization, "acme");
        assert_eq!(identities::owner(&issuer.state, "https://g", "1").await.unwrap(), Some(linked.user.clone()));
        let mut organizations: Vec<_> = all::<OrganizationRecord>(&issuer).await.into_iter().map(|organization| organization.id).collect();
        organizations.sort();
        let mut expected = vec![founder.organization, linked.organization];
        expected.sort();
        assert_eq!(organizations, expected, "nothing of the losers is left");
        assert_eq!(all::<AccountRecord>(&issuer).await.len(), 3);
        let keys = issuer.records.range(crate::store::Family::Key, None, 500).await.unwrap();
        assert_eq!(keys.records.len(), 3, "one first key each");
        let accepted = all::<InvitationRecord>(&issuer).await;
        assert_eq!(accepted[0].accepted_by, Some(guest.user));
    }
}

#[tokio::test]
async fn an_invited_member_holds_what_the_inviter_still_holds() {
    let issuer = patient();
    let now = issuer.clock.now();
    let founder = sign_up(&issuer.state, new("alice"), None, now).await.unwrap();
    let organization = &*founder.organization;
    let wide = invitation(&issuer, organization, "orders:read orders:write secret:thing", Some("alice")).await;
    let late = invitation(&issuer, organization, "orders:read orders:write", Some("alice")).await;
    let elsewhere = invitation(&issuer, "other", "orders:read", Some("alice")).await;
    let invite = async |name: &str, invitation: &str| {
        let wanted = NewAccount { invitation: Some(invitation.to_owned()), ..new(name) };
        sign_up_under(&issuer.state, wanted, PhoneRule::Required, None, issuer.clock.now()).await
    };
    let rights = async |name: &str| match users::find(&issuer.state, "local", name).await.unwrap().unwrap().0.rights {
        Rights::Only(scopes) => scopes.to_string(),
        Rights::Unlimited => panic!("{name} holds everything"),
    };
    let bob = invite("bob", &wide).await.unwrap();
    assert_eq!((&*bob.organization, bob.role), (organization, Role::Member));
    assert_eq!(rights("bob").await, "orders:read orders:write");
    assert!(invite("carol", &wide).await.is_err(), "it was used");
    assert!(invite("carol", &elsewhere).await.is_err(), "its maker is no part of that organisation");
    let (handle, mac) = late.rsplit_once('.').unwrap();
    let forged = format!("{handle}.{}", mac.chars().rev().collect::<String>());
    assert!(invite("carol", &forged).await.is_err(), "forged");
    issuer.ok("PATCH", "/v1/users/alice", serde_json::json!({"rights": ["orders:read"]})).await;
    invite("dora", &late).await.unwrap();
    assert_eq!(rights("dora").await, "orders:read");
    let old = invitation(&issuer, organization, "orders:read", None).await;
    issuer.clock.advance(std::time::Duration::from_secs(60));
    assert!(invite("eve", &old).await.is_err(), "too old");
}

// oauth: R7 R11 R12
#[tokio::test]
async fn a_sign_in_is_right_or_wrong_in_one_text_and_marks_the_user() {
    let issuer = patient();
    let now = issuer.clock.now();
    sign_up(&issuer.state, new("alice"), None, now).await.unwrap();
    sign_up(&issuer.state, NewAccount { password: None, ..new("keyed") }, None, now).await.unwrap();
    sign_up(&issuer.state, new("gone"), None, now).await.unwrap();
    issuer.ok("PATCH", "/v1/users/gone", serde_json::json!({"active": false})).await;
    let mut texts = Vec::new();
    for (at, (name, password)) in [
        ("alice", "wrong horse"),
        ("alice", "correct horse\0"),
        ("alice", ""),
        ("nobody-here", PASSWORD),
        ("keyed", PASSWORD),
        ("keyed", ""),
        ("gone", PASSWORD),
        ("\u{430}lice", PASSWORD),
        ("app_00000000000000000000", PASSWORD),
        (&*"x".repeat(5000), PASSWORD),
    ]
    .into_iter()
    .enumerate()
    {
        let from = address(u8::try_from(at).unwrap());
        texts.push(sign_in(&issuer.state, name, password.to_owned(), from, now).await.unwrap_err());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(texts[0].code, Code::Unauthenticated);
    assert!(sign_in(&issuer.state, "alice", "x".repeat(1025), address(1), now).await.unwrap_err().details.is_some());
    assert!(!account(&issuer, "alice").await.online);
    assert_eq!(sign_in(&issuer.state, "ALICE", PASSWORD.to_owned(), address(1), now).await.unwrap().as_str(), "alice");
    let before = account(&issuer, "alice").await;
    assert_eq!((before.online, before.last_operation), (true, Some(now)));
    let stronger = Issuer::issuing(|issuance| issuance.passwords.iterations = 3).state.rules.load_full();
    issuer.state.rules.store(stronger);
    sign_in(&issuer.state, "alice", PASSWORD.to_owned(), address(1), now).await.unwrap();
    let after = account(&issuer, "alice").await;
    assert_ne!(before.password, after.password);
    assert!(after.password.unwrap().contains("t=3"));
    sign_in(&issuer.state, "alice", PASSWORD.to_owned(), address(1), now).await.unwrap();
}

// oauth: R8 R9
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guesses_at_once_are_no_more_than_guesses_in_turn_and_nobody_is_locked_out() {
    let issuer = Arc::new(patient());
    let now = issuer.clock.now();
    sign_up(&issuer.state, new("alice"), None, now).await.unwrap();
    let guess = |password: &'static str, from: u8| {
        let issuer = Arc::clone(&issuer);
        async move { sign_in(&issuer.state, "alice", password.to_owned(), address(from), now).await.map_err(|problem| problem.code) }
    };
    let mut right = tokio::task::JoinSet::new();
    (0..40).for_each(|_| drop(right.spawn(guess(PASSWORD, 1))));
    assert!(right.join_all().await.iter().all(Result::is_ok), "a right password is not refused because others run");
    let mut wrong = tokio::task::JoinSet::new();
    (0..100).for_each(|_| drop(wrong.spawn(guess("wrong horse", 1))));
    let outcomes = wrong.join_all().await;
    let counted = |code: Code| outcomes.iter().filter(|outcome| **outcome == Err(code)).count();
    assert_eq!((counted(Code::Unauthenticated), counted(Code::TooManyRequests)), (5, 95));
    assert_eq!(guess(PASSWORD, 1).await, Err(Code::TooManyRequests), "the guesser's address");
    assert!(guess(PASSWORD, 2).await.is_ok(), "the owner's");
    // Many names from one address are one address.
    let mut spray = 0;
    for name in 0..40 {
        let outcome = sign_in(&issuer.state, &format!("user{name}"), PASSWORD.to_owned(), address(3), now).await;
        spray += usize::from(outcome.unwrap_err().code == Code::Unauthenticated);
    }
    assert_eq!(spray, 30);
    for number in 0..30 {
        sign_up(&issuer.state, NewAccount { password: None, ..new(&format!("n{number}")) }, address(9), now).await.unwrap();
    }
    assert_eq!(sign_up(&issuer.state, new("n30"), address(9), now).await.unwrap_err().code, Code::TooManyRequests);
}

#[tokio::test]
async fn a_sign_in_beyond_the_pool_is_refused_before_anything_is_looked_for() {
    let mut issuer = Issuer::issuing(|issuance| (issuance.passwords.workers, issuance.passwords.waiting) = (0, 0));
    let records = Meddled::over(&issuer.records, 0);
    issuer.state.records = records.clone();
    let refused = sign_in(&issuer.state, "alice", "a wrong one".to_owned(), address(7), issuer.clock.now()).await.unwrap_err();
    assert_eq!((refused.code, records.looks.lock().unwrap().len()), (Code::Unavailable, 0));
}

/// Of a name that is known the log notes more than of one that is not, and whoever waits for that learns which it was.
// oauth: R7
#[tokio::test]
async fn a_refused_sign_in_looks_once_at_the_shelf_whatever_the_name_and_does_not_wait_for_the_log() {
    let mut issuer = Issuer::issuing(|_| {});
    sign_up(&issuer.state, new("alice"), None, issuer.clock.now()).await.unwrap();
    let records = Meddled::over(&issuer.records, 0);
    issuer.state.records = records.clone();
    for name in ["alice", "nobody-here", "admin", "no name at all", ""] {
        let refused = sign_in(&issuer.state, name, "a wrong one".to_owned(), address(7), issuer.clock.now());
        let refused = tokio::time::timeout(std::time::Duration::from_secs(20), refused).await.expect("an answer");
        assert_eq!(refused.unwrap_err().code, Code::Unauthenticated, "{name}");
        // What is written behind looks for other things.
        let looks = std::mem::take(&mut *records.looks.lock().unwrap());
        assert_eq!(looks.iter().filter(|place| place.family == crate::store::Family::Account).count(), 1, "{name:?}: {looks:?}");
    }
}
