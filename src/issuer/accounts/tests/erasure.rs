use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::HeaderMap;
use serde_json::Value;
use serde_json::json;

use crate::check::reasons::Reason;
use crate::clock::Clock as _;
use crate::issuer::IssuerState;
use crate::issuer::accounts::erase;
use crate::issuer::accounts::identities;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::Profile;
use crate::issuer::accounts::sign_up::SignedUp;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::accounts::sign_up::sign_up_linked;
use crate::issuer::accounts::tests::Browser;
use crate::issuer::accounts::tests::call_as;
use crate::issuer::accounts::tests::founder;
use crate::issuer::accounts::tests::new;
use crate::issuer::audit;
use crate::issuer::oauth::authorize::asked::AuthorizeParameters;
use crate::issuer::oauth::authorize::authorize_as;
use crate::issuer::oauth::authorize::testing;
use crate::issuer::sessions;
use crate::issuer::sign_in_tokens::token_for_sign_in;
use crate::issuer::tests::Issuer;
use crate::issuer::tests::meddled::Meddled;
use crate::issuer::users;
use crate::model::account::LinkedIdentity;
use crate::model::caller::Environment;
use crate::model::client::AccessTokenForm;
use crate::model::client::ClientAuth;
use crate::model::client::ClientId;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::issuance::FirstKey;
use crate::model::issuance::PhoneRule;
use crate::model::user::UserState;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::encode_user;

/// Everything on the shelf as text, for searching.
async fn everything(issuer: &Issuer) -> String {
    let mut text = String::new();
    for family in Family::ALL {
        for (place, stored) in issuer.records.range(family, None, 500).await.unwrap().records {
            text.push_str(&format!("{}/{} {}\n", family.as_str(), place.id, String::from_utf8_lossy(&stored.bytes)));
        }
    }
    text
}

/// One that makes each new user a key.
fn issuing() -> Issuer {
    Issuer::issuing(|issuance| {
        issuance.first_key = Some(FirstKey { name: "first".into(), environment: Environment::Live, scopes: Arc::default() });
    })
}

/// mallory, of whom there is something in every corner.
async fn mallory(issuer: &Issuer) -> (SignedUp, Browser<'_>) {
    let now = issuer.clock.now();
    let identity = LinkedIdentity { provider: "google".into(), issuer: "https://g".into(), subject: "sub-of-mallory".into() };
    let profile = Profile {
        name: Some("mallory".into()),
        email: Some("mallory@example.com".into()),
        display_name: Some("Mallory M.".into()),
        ..Profile::default()
    };
    let mallory = sign_up_linked(&issuer.state, identity, profile, PhoneRule::Optional, None, now).await.unwrap();
    founder(issuer, "zed").await;
    let browser = Browser::of(issuer, "mallory").await;
    browser.ok("POST", "/v1/users", json!({"id": "bob"})).await;
    let handle = browser.ok("POST", "/v1/invitations", json!({})).await["invitation"].as_str().unwrap().to_owned();
    sign_up(&issuer.state, NewAccount { invitation: Some(handle), ..new("carol") }, None, now).await.unwrap();
    let client = ClientRecord {
        id: ClientId::new("app_00000000000000000000"),
        name: Arc::from("shop"),
        owner: Some(mallory.user.clone()),
        organization: None,
        kind: ClientKind::Public,
        auth: ClientAuth::None,
        redirect_uris: Vec::new(),
        grant_types: Vec::new(),
        scopes: Arc::default(),
        resources: Vec::new(),
        token_form: AccessTokenForm::Opaque,
        environment: Environment::Live,
        tier: None,
        secrets: Vec::new(),
        state: ClientState::Active,
        disabled_by: None,
        created: now,
        website: None,
    };
    let ends = now.plus(Duration::from_secs(600));
    let grant = |id: &str, of: GrantOf| GrantRecord::new(GrantId::new(id), of, Environment::Live, "p1", now, ends);
    let grants = [
        grant("grant_one", GrantOf::SignIn { user: mallory.user.clone() }),
        grant("grant_two", GrantOf::Client { client: client.id.clone() }),
        grant("grant_three", GrantOf::SignIn { user: crate::model::caller::Subject::parse("zed").unwrap() }),
    ];
    let mut writes = vec![shelf::put(&client, None)];
    writes.extend(grants.iter().map(|grant| shelf::put(grant, None)));
    issuer.records.commit(Vec::new(), writes, now).await.unwrap();
    (mallory, browser)
}

/// What of mallory's is left. The organisation stays with its members, under the name that its founder gave it.
async fn left_of_mallory(issuer: &Issuer) -> Vec<String> {
    let left = everything(issuer).await;
    let names = ["mallory", "grant_one", "grant_two"];
    left.lines().filter(|line| names.iter().any(|name| line.contains(name))).map(str::to_owned).collect()
}

// battery: K17
#[tokio::test]
async fn nothing_names_an_erased_user_any_more() {
    let issuer = issuing();
    let (mallory, browser) = mallory(&issuer).await;
    assert!(everything(&issuer).await.contains("mallory"));
    browser.ok("DELETE", "/v1/users/mallory", Value::Null).await;
    assert_eq!(left_of_mallory(&issuer).await, Vec::<String>::new());
    let left = everything(&issuer).await;
    assert!(!left.contains("app_00000000000000000000") && left.contains("grant_three"));
    assert!(!browser.is_signed_in().await);
    assert_eq!(issuer.judge(&mallory.key.unwrap()).await.unwrap_err(), Reason::UnknownKey);
    assert_eq!(identities::owner(&issuer.state, "https://g", "sub-of-mallory").await.unwrap(), None);
    assert_eq!(issuer.forgotten(), ["mallory", "mallory"]);
    for name in ["bob", "carol", "zed"] {
        issuer.ok("GET", &format!("/v1/users/{name}"), Value::Null).await;
    }
    assert_eq!(issuer.refused("DELETE", "/v1/users/mallory", Value::Null).await.0, 404);
    let again = founder(&issuer, "mallory").await;
    assert_ne!(again.organization, mallory.organization, "a new user of the same name inherits nothing");
}

/// What an erasure does not reach stays.
// battery: K17
#[tokio::test]
async fn every_family_that_an_erasure_goes_through_holds_something_up() {
    for family in Family::ALL {
        let names_users = match family {
            Family::Key | Family::User | Family::Grant | Family::Client | Family::Account | Family::Organization => true,
            Family::Session | Family::Invitation | Family::Identity | Family::AuditName => true,
            // Digests name keys, tickets go by themselves, the log has pseudonyms, and the ring is nobody's.
            Family::Ring | Family::Digest | Family::Ticket | Family::Audit => false,
        };
        let issuer = issuing();
        let (mallory, _browser) = mallory(&issuer).await;
        let meddled = Meddled::over(&issuer.records, 1000);
        *meddled.neglected.lock().unwrap() = Some(family);
        let state = IssuerState { records: meddled, ..issuer.state.clone() };
        // One that cannot so much as disable the user says so.
        let _either_way = erase::erase(&state, users::LOCAL, &mallory.user, issuer.clock.now()).await;
        let left = left_of_mallory(&issuer).await;
        assert_eq!(!left.is_empty(), names_users, "{}: {left:?}", family.as_str());
    }
}

/// An erasure first disables the user and then looks for what is its own: whatever comes later must come to nothing, or it would be the
/// next one's of the same name.
#[tokio::test]
async fn what_is_under_way_when_its_user_is_erased_comes_to_nothing() {
    let mut issuer = Issuer::issuing(|_| {});
    let ann = founder(&issuer, "ann").await.user;
    let actor = Browser::of(&issuer, "ann").await.actor().await;
    let own = ClientRecord { owner: Some(ann.clone()), ..testing::client("a") };
    issuer.put_client(&own).await;
    let meddled = Meddled::over(&issuer.records, 1000);
    issuer.state.records = meddled.clone();
    let (state, now) = (&issuer.state, issuer.clock.now());
    let (user, _) = users::find(state, users::LOCAL, "ann").await.unwrap().unwrap();
    let put = |state| {
        let bytes = encode_user(&crate::model::user::UserRecord { state, ..user.clone() });
        Write::Put { key: RecordKey::user(users::LOCAL, "ann"), bytes, expires: None }
    };
    let count = async |family| issuer.records.range(family, None, 500).await.unwrap().records.len();
    let deeds = [
        ("sign in", Family::Session),
        ("get a token", Family::Grant),
        ("get a code", Family::Grant),
        ("link a sign-in elsewhere", Family::Identity),
        ("register a client", Family::Client),
    ];
    // With commits that rest on nothing each of them would be there.
    for ((deed, family), is_careless) in deeds.map(|deed| (deed, false)).into_iter().chain(deeds.map(|deed| (deed, true))) {
        meddled.is_careless.store(is_careless, Ordering::SeqCst);
        let before = count(family).await;
        *meddled.first.lock().unwrap() = vec![put(UserState::Disabled)];
        match deed {
            "sign in" => drop(sessions::open(state, &HeaderMap::new(), &ann, sessions::BY_PASSWORD, None, now).await),
            "get a token" => drop(token_for_sign_in(state, &ann, None, now).await),
            "get a code" => drop(authorize_as(state, &ann, AuthorizeParameters::read(&testing::query(&own, &[])).unwrap()).await),
            "link a sign-in elsewhere" => {
                let identity = LinkedIdentity { provider: "google".into(), issuer: "https://g".into(), subject: "ann's".into() };
                drop(identities::link(state, &ann, identity, now).await);
            }
            _ => {
                let body = json!({"name": "app", "redirect_uris": ["https://app.example.com/cb"]});
                call_as(&issuer, actor.clone(), "POST", "/v1/clients", body).await;
            }
        }
        assert!(meddled.first.lock().unwrap().is_empty(), "{deed}: it was tried");
        assert_eq!(count(family).await, before + usize::from(is_careless), "{deed}");
        issuer.put(put(UserState::Active)).await;
    }
}

// battery: K17
#[tokio::test]
async fn the_log_says_by_pseudonym_who_was_erased() {
    let issuer = Issuer::issuing(|_| {});
    founder(&issuer, "ann").await;
    founder(&issuer, "bob").await;
    issuer.ok("DELETE", "/v1/users/ann", Value::Null).await;
    let subjects = async |deed: &str| issuer.ok("GET", &format!("/v1/audit?deed={deed}"), Value::Null).await["data"].clone();
    let (made, erased) = (subjects("user.created").await, subjects("user.erased").await);
    assert_eq!((&erased[0]["subject"], &erased[0]["subject_kind"]), (&made[0]["subject"], &json!("erased")), "{erased}");
    assert_ne!(made[0]["subject"], json!("ann"));
    assert_eq!(made[1]["subject"], json!("bob"));
}

#[tokio::test]
async fn whoever_has_the_same_name_elsewhere_keeps_its_own_in_the_log() {
    let issuer = issuing();
    let (state, now) = (&issuer.state, issuer.clock.now());
    let (mallory, _browser) = mallory(&issuer).await;
    let before = audit::pseudonym(state, &mallory.user).await.unwrap();
    assert!(before.is_some());
    let (local, _version) = users::find(state, users::LOCAL, "mallory").await.unwrap().unwrap();
    let foreign = crate::model::user::UserRecord { source: Arc::from("micro"), ..local };
    issuer.put(Write::Put { key: RecordKey::user("micro", "mallory"), bytes: encode_user(&foreign), expires: None }).await;
    assert!(erase::erase(state, "micro", &mallory.user, now).await.unwrap().is_some());
    assert_eq!(audit::pseudonym(state, &mallory.user).await.unwrap(), before);
}
