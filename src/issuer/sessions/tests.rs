use std::time::Duration;

use axum::http::HeaderValue;

use super::*;
use crate::clock::Clock as _;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::checks::left_out::leave_out;
use crate::issuer::checks::names;
use crate::issuer::tests::Issuer;
use crate::model::account::AccountRecord;
use crate::model::caller::Environment;
use crate::model::client::ClientId;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::handle::HandleKind;
use crate::model::key::KeyId;
use crate::model::user::UserState;
use crate::store::RecordKey;
use crate::store::codec::encode_user;

async fn alice(issuer: &Issuer) -> Subject {
    let new = NewAccount { name: "alice".into(), password: Some("correct horse".into()), ..NewAccount::default() };
    sign_up(&issuer.state, new, None, issuer.clock.now()).await.unwrap().user
}

/// What a browser sends that was given these cookies.
fn browser_with(cookies: &[&str]) -> HeaderMap {
    let pairs: Vec<&str> = cookies.iter().map(|cookie| cookie.split(';').next().unwrap()).collect();
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, HeaderValue::from_str(&pairs.join("; ")).unwrap());
    headers
}

async fn who(issuer: &Issuer, headers: &HeaderMap) -> Option<String> {
    let person = current(&issuer.state, headers, issuer.clock.now()).await.unwrap();
    person.map(|person| person.user.subject.as_str().to_owned())
}

// oauth: R1 R2
#[tokio::test]
async fn a_session_is_a_new_one_at_each_sign_in_and_its_cookie_is_the_browsers_alone() {
    let issuer = Issuer::issuing(|_| {});
    let user = alice(&issuer).await;
    let first = open(&issuer.state, &HeaderMap::new(), &user, BY_PASSWORD, None, issuer.clock.now()).await.unwrap();
    assert!(first.cookie.starts_with("__Host-tollgate_session=reva_se_"), "{}", first.cookie);
    assert!(first.cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=86400"), "{}", first.cookie);
    let browser = browser_with(&[&first.cookie]);
    assert_eq!(who(&issuer, &browser).await.as_deref(), Some("alice"));
    let second = open(&issuer.state, &browser, &user, BY_PASSWORD, None, issuer.clock.now()).await.unwrap();
    assert_ne!(first.person.session.id, second.person.session.id);
    assert_eq!(who(&issuer, &browser).await, None, "the id of before is dead");
    assert_eq!(who(&issuer, &browser_with(&[&second.cookie])).await.as_deref(), Some("alice"));
    let planted = browser_with(&[&second.cookie, &first.cookie]);
    assert_eq!(who(&issuer, &planted).await, None, "two of one name are nobody's");
    let id = &second.person.session.id;
    for forged in [
        format!("__Host-tollgate_session=reva_se_{id}.0.{}", "A".repeat(43)),
        format!("__Host-tollgate_session={id}"),
        second.cookie.replace("__Host-", ""),
        second.cookie.replace("_se_", "_br_"),
    ] {
        assert_eq!(who(&issuer, &browser_with(&[&forged])).await, None, "{forged}");
    }
    let plain = Issuer::issuing(|issuance| issuance.url = "http://127.0.0.1:8080".into());
    let user = alice(&plain).await;
    let opened = open(&plain.state, &HeaderMap::new(), &user, BY_PASSWORD, None, plain.clock.now()).await.unwrap();
    assert!(opened.cookie.starts_with("tollgate_session=") && !opened.cookie.contains("Secure"), "{}", opened.cookie);
}

#[tokio::test]
async fn a_session_slides_with_use_up_to_its_end() {
    let issuer = Issuer::issuing(|_| {});
    let user = alice(&issuer).await;
    let opened = open(&issuer.state, &HeaderMap::new(), &user, BY_PASSWORD, None, issuer.clock.now()).await.unwrap();
    let browser = browser_with(&[&opened.cookie]);
    let version =
        async || shelf::find::<SessionRecord>(&issuer.state, &opened.person.session.id).await.unwrap().map(|(_, version)| version);
    let begun = version().await;
    issuer.clock.advance(Duration::from_secs(59));
    assert!(who(&issuer, &browser).await.is_some());
    assert_eq!(version().await, begun, "not written within the minute");
    for _half_hour in 0..47 {
        issuer.clock.advance(Duration::from_secs(30 * 60));
        assert!(who(&issuer, &browser).await.is_some());
    }
    issuer.clock.advance(Duration::from_secs(30 * 60));
    assert!(who(&issuer, &browser).await.is_none(), "a day is the end");
    let opened = open(&issuer.state, &HeaderMap::new(), &user, BY_PASSWORD, None, issuer.clock.now()).await.unwrap();
    issuer.clock.advance(Duration::from_secs(60 * 60));
    assert!(who(&issuer, &browser_with(&[&opened.cookie])).await.is_none(), "an hour without use");
}

#[tokio::test]
async fn using_the_website_slides_the_tokens_of_its_owners_keys() {
    let issuer = Issuer::issuing(|_| {});
    let user = alice(&issuer).await;
    let now = issuer.clock.now();
    let grant = |id: &str, of: GrantOf| GrantRecord {
        idle_until: now.plus(Duration::from_secs(600)),
        ..GrantRecord::new(GrantId::new(id), of, Environment::Live, "p1", now, now.plus(Duration::from_secs(3_000)))
    };
    let of_key = |user: &str| GrantOf::Key { key: KeyId::new("k"), user: Subject::parse(user).unwrap() };
    let grants =
        [grant("key-alices", of_key("alice")), grant("key-bobs", of_key("bob")), grant("other", GrantOf::SignIn { user: user.clone() })];
    let writes = grants.iter().map(|grant| shelf::put(grant, None)).collect();
    issuer.records.commit(Vec::new(), writes, now).await.unwrap();
    let opened = open(&issuer.state, &HeaderMap::new(), &user, BY_PASSWORD, None, now).await.unwrap();
    issuer.clock.advance(Duration::from_secs(300));
    assert!(who(&issuer, &browser_with(&[&opened.cookie])).await.is_some());
    let left = async |id: &str| {
        let (grant, _) = shelf::find::<GrantRecord>(&issuer.state, id).await.unwrap().unwrap();
        grant.idle_until.since(now).as_secs()
    };
    assert_eq!([left("key-alices").await, left("key-bobs").await, left("other").await], [3_000, 600, 600]);
}

// oauth: R3
// battery: I14
#[tokio::test]
async fn a_form_is_good_in_the_browser_and_for_the_purpose_that_it_was_made_for() {
    let issuer = Issuer::issuing(|_| {});
    let user = alice(&issuer).await;
    let (value, cookie) = form_token(&issuer.state, &HeaderMap::new(), "sign-in").unwrap();
    let cookie = cookie.unwrap();
    assert!(cookie.starts_with("__Host-tollgate_browser="), "{cookie}");
    let mine = browser_with(&[&cookie]);
    let (again, no_cookie) = form_token(&issuer.state, &mine, "sign-in").unwrap();
    assert_eq!((&again, no_cookie), (&value, None));
    let check = |headers: &HeaderMap, purpose: &str, shown: Option<&str>| check_form(&issuer.state, headers, purpose, shown).is_ok();
    assert!(check(&mine, "sign-in", Some(&value)));
    assert!(!check(&mine, "consent", Some(&value)));
    assert!(!check(&mine, "sign-in", None) && !check(&mine, "sign-in", Some("")));
    assert!(!check(&HeaderMap::new(), "sign-in", Some(&value)), "no browser");
    let (_, theirs) = form_token(&issuer.state, &HeaderMap::new(), "sign-in").unwrap();
    assert!(!check(&browser_with(&[&theirs.unwrap()]), "sign-in", Some(&value)), "another browser");
    let opened = open(&issuer.state, &mine, &user, BY_PASSWORD, None, issuer.clock.now()).await.unwrap();
    let signed_in = browser_with(&[&cookie, &opened.cookie]);
    assert!(!check(&signed_in, "sign-in", Some(&value)), "made before the sign-in");
    let (value, _) = form_token(&issuer.state, &signed_in, "account").unwrap();
    for (name, said, expected) in [
        ("sec-fetch-site", "same-origin", true),
        ("sec-fetch-site", "same-site", false),
        ("sec-fetch-site", "cross-site", false),
        ("sec-fetch-site", "none", false),
        ("origin", "https://id.example.com", true),
        ("origin", "https://id.example.com.evil.example", false),
        ("origin", "http://id.example.com", false),
        // Under `no-referrer` browsers hide where even our own forms come from.
        ("origin", "null", true),
    ] {
        let mut headers = signed_in.clone();
        headers.insert(name, HeaderValue::from_static(said));
        assert_eq!(check(&headers, "account", Some(&value)), expected, "{name}: {said}");
    }
    let mut framed = signed_in.clone();
    framed.extend(
        [("origin", "null"), ("sec-fetch-site", "cross-site")]
            .map(|(name, said)| (name.parse::<header::HeaderName>().unwrap(), HeaderValue::from_static(said))),
    );
    assert!(!check(&framed, "account", Some(&value)), "a sandbox elsewhere");
}

// oauth: R13 H12
#[tokio::test]
async fn signing_out_ends_the_session_and_by_policy_what_was_allowed_under_it() {
    for (policy, ends) in [(SignOut::Session, false), (SignOut::Grants, true)] {
        let issuer = Issuer::issuing(|issuance| issuance.sign_out = policy);
        let user = alice(&issuer).await;
        let now = issuer.clock.now();
        let opened = open(&issuer.state, &HeaderMap::new(), &user, BY_PASSWORD, None, now).await.unwrap();
        let of = GrantOf::Consent { client: ClientId::new("app_00000000000000000000"), user: user.clone() };
        let grant = GrantRecord {
            session: Some(Arc::clone(&opened.person.session.id)),
            ..GrantRecord::new(GrantId::new("g"), of, Environment::Live, "p1", now, now.plus(Duration::from_secs(600)))
        };
        issuer.records.commit(Vec::new(), vec![shelf::put(&grant, None)], now).await.unwrap();
        let browser = browser_with(&[&opened.cookie]);
        let cookie = close(&issuer.state, &browser, None, now).await.unwrap();
        assert_eq!(cookie, "__Host-tollgate_session=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0");
        assert_eq!(who(&issuer, &browser).await, None);
        let (grant, _) = shelf::find::<GrantRecord>(&issuer.state, "g").await.unwrap().unwrap();
        assert_eq!(grant.is_live(now), !ends);
        let (account, _) = shelf::find::<AccountRecord>(&issuer.state, "alice").await.unwrap().unwrap();
        assert!(!account.online);
        close(&issuer.state, &browser, None, now).await.unwrap();
    }
}

#[tokio::test]
async fn the_log_says_from_where_somebody_signed_in_and_out() {
    let issuer = Issuer::issuing(|_| {});
    let user = alice(&issuer).await;
    let (now, address) = (issuer.clock.now(), Some([192, 0, 2, 7].into()));
    let opened = open(&issuer.state, &HeaderMap::new(), &user, "google", address, now).await.unwrap();
    close(&issuer.state, &browser_with(&[&opened.cookie]), address, now).await.unwrap();
    for deed in ["session.opened", "session.closed"] {
        let noted = issuer.ok("GET", &format!("/v1/audit?deed={deed}"), serde_json::Value::Null).await;
        assert_eq!(noted["data"][0]["address"], "192.0.2.7", "{noted}");
    }
}

/// Whether what this check stands against opens nothing.
async fn holds(check: &str) -> bool {
    let issuer = Issuer::issuing(|_| {});
    let (user, now) = (alice(&issuer).await, issuer.clock.now());
    let opened = open(&issuer.state, &HeaderMap::new(), &user, BY_PASSWORD, None, now).await.unwrap();
    let session = opened.person.session;
    let handle = |kind: HandleKind, generation: u32| {
        let handle = issuer.state.peppers.handle("reva", kind, &session.id, generation, "p1").unwrap();
        browser_with(&[&format!("__Host-tollgate_session={}", *handle)])
    };
    // Behind everybody's back: whatever the product does of this kind ends the session as well.
    let session_with = async |change: fn(&mut SessionRecord)| {
        let mut session = session.clone();
        change(&mut session);
        issuer.put(shelf::put(&session, None)).await;
    };
    let user_with = async |change: fn(&mut UserRecord)| {
        let (mut user, _version) = users::find(&issuer.state, users::LOCAL, "alice").await.unwrap().unwrap();
        change(&mut user);
        issuer.put(Write::Put { key: RecordKey::user(users::LOCAL, "alice"), bytes: encode_user(&user), expires: None }).await;
    };
    let mut browser = browser_with(&[&opened.cookie]);
    match check {
        "one cookie of its name" => browser = browser_with(&[&opened.cookie, "__Host-tollgate_session=planted"]),
        "a handle of this cookie's kind" => browser = handle(HandleKind::Browser, 0),
        "a handle of the only generation" => browser = handle(HandleKind::Session, 1),
        "a cookie of our own making" => {
            let forged = format!("__Host-tollgate_session=reva_se_{}.0.{}", session.id, "A".repeat(43));
            browser = browser_with(&[&forged]);
        }
        "the session was used lately" => session_with(|session| session.idle_until = session.created).await,
        "the session has not come to its end" => session_with(|session| session.ends = session.created).await,
        "the session's user is active" => user_with(|user| user.state = UserState::Disabled).await,
        "the password is the one of then" => {
            user_with(|user| user.valid_from = Some(user.created.plus(Duration::from_secs(1)))).await;
        }
        _ => panic!("no assertion is known of the check {check:?}"),
    }
    who(&issuer, &browser).await.is_none()
}

// oauth: R2
#[tokio::test]
async fn every_check_of_a_session_holds_something_up() {
    for check in [names(&cookies::CHECKS), names(&CHECKS)].concat() {
        assert!(holds(check).await, "{check}");
        let _without = leave_out(check);
        assert!(!holds(check).await, "nothing falls without the check: {check}");
    }
}

/// Nothing but the removal of its record ends a session before its time: with the record back, its cookie opens it again.
// oauth: R1 R13
#[tokio::test]
async fn what_ends_a_session_is_that_its_record_goes() {
    for way in ["another sign-in", "signing out", "whatever ends all of a user's"] {
        let issuer = Issuer::issuing(|_| {});
        let (state, user, now) = (&issuer.state, alice(&issuer).await, issuer.clock.now());
        let opened = open(state, &HeaderMap::new(), &user, BY_PASSWORD, None, now).await.unwrap();
        let browser = browser_with(&[&opened.cookie]);
        match way {
            "another sign-in" => drop(open(state, &browser, &user, BY_PASSWORD, None, now).await.unwrap()),
            "signing out" => drop(close(state, &browser, None, now).await.unwrap()),
            _ => drop(end_all_of(state, &user, now).await.unwrap()),
        }
        assert_eq!(who(&issuer, &browser).await, None, "{way}");
        issuer.put(shelf::put(&opened.person.session, None)).await;
        assert!(who(&issuer, &browser).await.is_some(), "{way}");
    }
}
