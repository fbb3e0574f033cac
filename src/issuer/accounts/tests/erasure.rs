use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::check::reasons::Reason;
use crate::clock::Clock as _;
use crate::issuer::accounts::identities;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::Profile;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::accounts::sign_up::sign_up_linked;
use crate::issuer::accounts::tests::Browser;
use crate::issuer::accounts::tests::founder;
use crate::issuer::accounts::tests::new;
use crate::issuer::tests::Issuer;
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
use crate::model::grant::GrantState;
use crate::model::issuance::FirstKey;
use crate::model::issuance::PhoneRule;
use crate::store::Family;

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

// battery: K17
#[tokio::test]
async fn nothing_names_an_erased_user_any_more() {
    let issuer = Issuer::issuing(|issuance| {
        issuance.first_key = Some(FirstKey { name: "first".into(), environment: Environment::Live, scopes: Arc::default() });
    });
    let now = issuer.clock.now();
    let identity = LinkedIdentity { provider: "google".into(), issuer: "https://g".into(), subject: "sub-of-mallory".into() };
    let profile = Profile {
        name: Some("mallory".into()),
        email: Some("mallory@example.com".into()),
        display_name: Some("Mallory M.".into()),
        ..Profile::default()
    };
    let mallory = sign_up_linked(&issuer.state, identity, profile, PhoneRule::Optional, None, now).await.unwrap();
    founder(&issuer, "zed").await;
    let browser = Browser::of(&issuer, "mallory").await;
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
        created: now,
        website: None,
    };
    let grant = |id: &str, of: GrantOf| GrantRecord {
        id: GrantId::new(id),
        of,
        organization: None,
        environment: Environment::Live,
        scopes: Arc::default(),
        resources: Vec::new(),
        state: GrantState::Live,
        generation: 1,
        advanced: now,
        pepper: Arc::from("p1"),
        created: now,
        idle_until: now.plus(Duration::from_secs(600)),
        ends: now.plus(Duration::from_secs(600)),
        session: None,
        access: Vec::new(),
    };
    let grants = [
        grant("grant_one", GrantOf::SignIn { user: mallory.user.clone() }),
        grant("grant_two", GrantOf::Client { client: client.id.clone() }),
        grant("grant_three", GrantOf::SignIn { user: crate::model::caller::Subject::parse("zed").unwrap() }),
    ];
    let mut writes = vec![shelf::put(&client, None)];
    writes.extend(grants.iter().map(|grant| shelf::put(grant, None)));
    issuer.records.commit(Vec::new(), writes, now).await.unwrap();
    assert!(everything(&issuer).await.contains("mallory"));
    browser.ok("DELETE", "/v1/users/mallory", Value::Null).await;
    let left = everything(&issuer).await;
    // The organisation stays with its members, under the name that its founder gave it.
    let named: Vec<_> =
        left.lines().filter(|line| line.contains("mallory") || line.contains("grant_one") || line.contains("grant_two")).collect();
    assert_eq!(named, Vec::<&str>::new());
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
