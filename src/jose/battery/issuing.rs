//! Our own access tokens and the ring that signs them: what they say, and that our own gate believes them, before, during and after
//! a turn, and never after an emergency.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;

use crate::jose::TokenError;
use crate::jose::Tokens;
use crate::jose::battery::AUDIENCE;
use crate::jose::battery::ISSUER;
use crate::jose::battery::NOW;
use crate::jose::battery::issuer;
use crate::jose::battery::rotation::MONTH;
use crate::jose::battery::rotation::Memory;
use crate::jose::battery::rotation::pepper;
use crate::jose::battery::rotation::peppers;
use crate::jose::battery::rules;
use crate::jose::compact::Compact;
use crate::jose::ring::RingError;
use crate::jose::ring::RingKeyState;
use crate::jose::ring::Rotation;
use crate::jose::signer::AccessClaims;
use crate::jose::signer::KEYS_CACHED_FOR;
use crate::jose::signer::LIFETIME_MAX;
use crate::jose::signer::PUBLISHED_BEFORE_USE;
use crate::jose::signer::SignError;
use crate::jose::signer::Signer;
use crate::model::claims::VerifiedClaims;
use crate::model::key_text::push_base62;
use crate::model::rules::Algorithm;
use crate::model::rules::Issuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Managed;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::secrets::random_bytes;
use crate::secrets::random_id;

const BOTH: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::EdDsa];
const SECOND: Duration = Duration::from_secs(1);

/// As the config makes it of the `issuer` section.
fn own_issuer() -> Issuer {
    Issuer { algorithms: BOTH.to_vec(), keys: IssuerKeys::Own, token_type: Some("at+jwt".into()), managed: Managed::ByGrant, ..issuer() }
}

fn scopes(text: &str) -> ScopeSet {
    ScopeSet::new(text.split(' ').filter_map(|scope| Scope::parse(scope).ok()))
}

/// What alice's token for `app_1` says, good for ten minutes.
fn claims(now: Timestamp) -> AccessClaims<'static> {
    static AUD: LazyLock<[Arc<str>; 1]> = LazyLock::new(|| [Arc::from(AUDIENCE)]);
    static SCOPE: LazyLock<ScopeSet> = LazyLock::new(|| scopes("orders:read files:read"));
    AccessClaims {
        iss: ISSUER,
        aud: &*AUD,
        sub: "alice",
        client_id: "app_1",
        grant: "g1",
        scope: &SCOPE,
        jti: "t1",
        iat: now,
        exp: now.plus(Duration::from_secs(600)),
        act: None,
    }
}

async fn sign(signer: &Signer, algorithm: Algorithm, now: Timestamp) -> String {
    signer.sign(&claims(now), algorithm).await.unwrap()
}

fn verify(tokens: &Tokens, token: &str, now: Timestamp) -> Result<Arc<VerifiedClaims>, TokenError> {
    tokens.verify(token, &rules(vec![own_issuer()]), now)
}

/// One process over this shelf: what signs and what verifies.
async fn process(shelf: &Memory, now: Timestamp) -> (Signer, Arc<Tokens>) {
    let (signer, tokens) = (Signer::load_or_create(shelf, &peppers(), now).await.unwrap(), Arc::new(Tokens::new(100)));
    signer.tell(&tokens);
    (signer, tokens)
}

fn kid(token: &str) -> String {
    Compact::read(token).unwrap().header.key_id.unwrap()
}

/// The ids of the keys that do this, RS256's last.
fn ids(signer: &Signer, state: impl Fn(RingKeyState) -> bool) -> Vec<Arc<str>> {
    signer.report(NOW).unwrap().keys.into_iter().filter(|key| state(key.state)).map(|key| key.id).collect()
}

fn jwks(signer: &Signer) -> Vec<serde_json::Value> {
    let set: serde_json::Value = serde_json::from_str(&signer.jwks().unwrap()).unwrap();
    set["keys"].as_array().unwrap().clone()
}

// oauth: N1 N2 N3 N4 N8
#[tokio::test]
async fn a_token_says_what_rfc_9068_asks_for_and_nothing_about_the_person() {
    let (signer, tokens) = (Signer::for_tests(NOW), Arc::new(Tokens::new(10)));
    signer.tell(&tokens);
    for algorithm in BOTH {
        let token = sign(&signer, algorithm, NOW).await;
        let compact = Compact::read(&token).unwrap();
        assert_eq!((compact.header.algorithm, compact.header.token_type.as_deref()), (Some(algorithm), Some("at+jwt")));
        assert_eq!(
            String::from_utf8(compact.payload).unwrap(),
            r#"{"iss":"https://id.example.com","aud":"https://api.example.com","sub":"alice","client_id":"app_1","gid":"g1","scope":"files:read orders:read","jti":"t1","iat":1800000000,"exp":1800000600}"#
        );
        let verified = verify(&tokens, &token, NOW).unwrap();
        let named = (verified.grant.as_deref(), verified.token_id.as_deref(), verified.client.as_deref());
        assert_eq!(named, (Some("g1"), Some("t1"), Some("app_1")));
        let (none, act) = (ScopeSet::default(), serde_json::json!({"sub": "robot"}));
        let token = signer.sign(&AccessClaims { scope: &none, act: Some(&act), ..claims(NOW) }, algorithm).await.unwrap();
        let payload = String::from_utf8(Compact::read(&token).unwrap().payload).unwrap();
        assert!(payload.ends_with(r#""act":{"sub":"robot"}}"#) && !payload.contains("scope"), "{payload}");
    }
}

#[tokio::test]
async fn nothing_is_signed_that_would_be_refused() {
    let signer = Signer::for_tests(NOW);
    assert_eq!(signer.sign(&claims(NOW), Algorithm::Es256).await, Err(SignError::Unsigned), "no key for it");
    assert_eq!(Signer::default().sign(&claims(NOW), Algorithm::EdDsa).await, Err(SignError::NoRing));
    let (long, end) = ("x".repeat(8 * 1024), NOW.plus(LIFETIME_MAX));
    for algorithm in BOTH {
        for (shown, claims, is_signed) in [
            ("longer than a gate reads", AccessClaims { sub: &long, ..claims(NOW) }, false),
            ("the longest life", AccessClaims { exp: end, ..claims(NOW) }, true),
            ("it would outlive its key", AccessClaims { exp: end.plus(SECOND), ..claims(NOW) }, false),
        ] {
            let signed = signer.sign(&claims, algorithm).await;
            assert_eq!(signed.is_ok(), is_signed, "{shown}");
            assert!(is_signed || signed == Err(SignError::Unsigned), "{shown}");
        }
    }
}

// oauth: O1 O2 O3 O4 O5 O6
#[tokio::test]
async fn what_is_signed_with_our_own_key_is_still_judged() {
    let (signer, tokens) = (Signer::for_tests(NOW), Arc::new(Tokens::new(100)));
    signer.tell(&tokens);
    let header = r#"{"alg":"EdDSA","kid":"KID","typ":"at+jwt"}"#;
    let payload = r#"{"iss":"https://id.example.com","aud":"https://api.example.com","sub":"alice","client_id":"app_1","gid":"g1","jti":"t1","iat":1800000000,"exp":1800000600}"#;
    let judge = |header: &str, payload: &str| {
        let algorithm = if header.contains("\"RS") { Algorithm::Rs256 } else { Algorithm::EdDsa };
        verify(&tokens, &signer.forge(algorithm, header, payload), NOW)
    };
    judge(header, payload).unwrap();
    judge(&header.replace("EdDSA", "RS256"), payload).unwrap();
    for (from, to) in [
        (r#","typ":"at+jwt""#, ""),
        ("at+jwt", "JWT"),
        ("at+jwt", "id+jwt"),
        ("at+jwt", "tollgate+jwt"),
        ("EdDSA", "none"),
        ("EdDSA", "HS256"),
        ("EdDSA", "RS512"),
        ("EdDSA", "ES256"),
        ("EdDSA", "eddsa"),
        (r#"{"alg""#, r#"{"crit":["exp"],"alg""#),
        (r#""kid":"KID""#, r#""kid":"another","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#),
        (r#""kid":"KID""#, r#""kid":"another","jku":"https://id.example.com/jwks""#),
    ] {
        assert!(header.contains(from));
        assert!(judge(&header.replace(from, to), payload).is_err(), "{from} {to}");
    }
    for (from, to) in [
        (r#""iss":"https://id.example.com","#, ""),
        ("https://id.example.com", "https://id.example.com/"),
        (r#""aud":"https://api.example.com","#, ""),
        ("https://api.example.com", "https://other.example.com"),
        (r#""aud":"https://api.example.com""#, r#""aud":[]"#),
        (r#""sub":"alice","#, ""),
        (r#""client_id":"app_1","#, ""),
        (r#""client_id":"app_1""#, r#""client_id":null"#),
        (r#""gid":"g1","#, ""),
        (r#""gid":"g1""#, r#""gid":"g 1""#),
        (r#""jti":"t1","#, ""),
        (r#""jti":"t1""#, r#""jti":1"#),
        (r#""iat":1800000000,"#, ""),
        (r#","exp":1800000600"#, ""),
        ("1800000600", "1799999995"),
        (r#""iat":1800000000"#, r#""iat":1800000006"#),
        (r#""iat":1800000000"#, r#""iat":1800000000,"nbf":1800000006"#),
        (r#""sub":"alice""#, r#""sub":"alice","sub":"alice""#),
    ] {
        assert!(payload.contains(from));
        assert!(judge(header, &payload.replace(from, to)).is_err(), "{from} {to}");
    }
    for ended in ["1799999995", "1799999990"] {
        assert!(matches!(judge(header, &payload.replace("1800000600", ended)), Err(TokenError::Expired)), "{ended}");
    }
}

/// The id of a token: 128 random bits, all of which stand in it.
// oauth: N6
#[test]
fn a_million_ids_are_a_million() {
    let mut drawn: Vec<u128> = (0..1_000_000).map(|_| u128::from_be_bytes(random_bytes().unwrap())).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 1_000_000);
    for number in drawn.into_iter().take(1_000).chain([0, 1, u128::MAX]) {
        let mut text = String::new();
        push_base62(&mut text, &mut number.to_be_bytes(), random_id().unwrap().len());
        let digit = |digit| b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".iter().position(|known| *known == digit);
        let read = text.bytes().map(|byte| digit(byte).unwrap() as u128);
        assert_eq!(read.fold(0_u128, |read, digit| read.wrapping_mul(62).wrapping_add(digit)), number);
    }
}

// oauth: M1 M2 N2
#[tokio::test]
async fn what_is_published_is_public_and_says_what_it_is_for() {
    let shelf = Memory::default();
    let (signer, _tokens) = process(&shelf, NOW).await;
    assert_eq!(signer.rotate(&shelf, &peppers(), NOW.plus(PUBLISHED_BEFORE_USE)).await, Ok(Rotation::Rotated));
    let keys = jwks(&signer);
    assert_eq!(keys.len(), 6, "for each algorithm the current, the next, the retired");
    let mut names = BTreeSet::new();
    for key in &keys {
        let members: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        match key["alg"].as_str().unwrap() {
            "EdDSA" => {
                assert_eq!((members.as_slice(), &key["kty"]), (["alg", "crv", "kid", "kty", "use", "x"].as_slice(), &"OKP".into()));
            }
            "RS256" => {
                assert_eq!((members.as_slice(), &key["kty"]), (["alg", "e", "kid", "kty", "n", "use"].as_slice(), &"RSA".into()));
                assert_eq!((key["e"].as_str().unwrap(), key["n"].as_str().unwrap().len()), ("AQAB", 342), "2048 bits without a sign");
            }
            other => panic!("{other}"),
        }
        assert_eq!(key["use"], "sig");
        assert_eq!(key["kid"].as_str().unwrap().len(), 43, "a thumbprint");
        names.insert(key["kid"].as_str().unwrap());
    }
    assert_eq!(names.len(), keys.len());
}

// oauth: M3
#[tokio::test]
async fn a_key_is_published_for_longer_than_a_set_is_remembered_before_it_signs() {
    let shelf = Memory::default();
    let (signer, _tokens) = process(&shelf, NOW).await;
    let remembered = signer.key_set().unwrap();
    let [first, next] = [RingKeyState::Current, RingKeyState::Next].map(|state| ids(&signer, |known| known == state));
    assert_eq!(next.len(), 2);
    let early = NOW.plus(PUBLISHED_BEFORE_USE).minus(SECOND);
    assert!(PUBLISHED_BEFORE_USE > KEYS_CACHED_FOR);
    for every in [Duration::ZERO, SECOND, KEYS_CACHED_FOR] {
        assert_eq!(signer.rotate_if_due(&shelf, &peppers(), every, early).await, Ok(Rotation::NotDue), "however often is asked for");
    }
    assert_eq!(kid(&sign(&signer, Algorithm::Rs256, early).await), *first[1]);
    let now = early.plus(SECOND);
    assert_eq!(signer.rotate(&shelf, &peppers(), now).await, Ok(Rotation::Rotated));
    assert_eq!(ids(&signer, |state| state == RingKeyState::Current), next, "what was announced signs");
    // Whoever remembers the set of before knows the key that signs now.
    let elsewhere = Tokens::new(10);
    elsewhere.install_own(remembered);
    for algorithm in BOTH {
        verify(&elsewhere, &sign(&signer, algorithm, now).await, now).unwrap();
    }
}

// oauth: M4
#[tokio::test]
async fn a_key_stays_for_a_tokens_longest_life_after_its_last_signature_and_then_goes() {
    let shelf = Memory::default();
    let (signer, tokens) = process(&shelf, NOW).await;
    let now = NOW.plus(MONTH);
    let last = AccessClaims { exp: now.plus(LIFETIME_MAX), ..claims(now) };
    let token = signer.sign(&last, Algorithm::EdDsa).await.unwrap();
    assert_eq!(signer.rotate_if_due(&shelf, &peppers(), MONTH, now).await, Ok(Rotation::Rotated));
    let is_shown = || jwks(&signer).iter().any(|key| key["kid"] == *kid(&token));
    let end = now.plus(LIFETIME_MAX);
    for (instant, shown) in
        [(now, true), (end, true), (end.plus(Duration::from_secs(3_599)), true), (end.plus(Duration::from_secs(3_600)), false)]
    {
        assert_eq!(signer.rotate_if_due(&shelf, &peppers(), MONTH, instant).await, Ok(Rotation::NotDue));
        assert_eq!(is_shown(), shown, "{instant:?}");
        if instant <= end {
            verify(&tokens, &token, instant).unwrap();
        }
    }
    assert!(matches!(verify(&tokens, &token, end), Err(TokenError::BadSignature(_))), "whatever the clock says now");
}

// oauth: M6
#[tokio::test]
async fn two_processes_at_once_make_one_ring_and_one_turn() {
    let (shelf, peppers) = (Memory::default(), peppers());
    let version = || shelf.0.lock().unwrap().values().next().unwrap().version;
    let (one, two) = tokio::join!(process(&shelf, NOW), process(&shelf, NOW));
    let ((one, _), (two, tokens)) = (one, two);
    assert_eq!((one.jwks(), version()), (two.jwks(), 1));
    let now = NOW.plus(MONTH);
    let (first, second) = tokio::join!(one.rotate_if_due(&shelf, &peppers, MONTH, now), two.rotate_if_due(&shelf, &peppers, MONTH, now));
    let mut outcomes = [first.unwrap(), second.unwrap()];
    outcomes.sort_by_key(|outcome| *outcome == Rotation::Adopted);
    assert_eq!(outcomes, [Rotation::Rotated, Rotation::Adopted]);
    assert_eq!((one.jwks(), version()), (two.jwks(), 2));
    for algorithm in BOTH {
        verify(&tokens, &sign(&one, algorithm, now).await, now).unwrap();
    }
}

#[tokio::test]
async fn the_ring_lies_wrapped_and_opens_by_its_pepper_alone() {
    let shelf = Memory::default();
    let (signer, _tokens) = process(&shelf, NOW).await;
    let stored = shelf.0.lock().unwrap().values().next().unwrap().bytes.clone();
    let lossy = String::from_utf8_lossy(&stored).into_owned();
    let private = signer.private_texts();
    assert!(private.iter().all(|text| text.len() > 40 && !lossy.contains(text)) && !lossy.contains("rs256"));
    let shown = format!("{signer:?} {:?} {}", signer.report(NOW), signer.jwks().unwrap());
    assert!(private.iter().all(|text| !shown.contains(text)));
    let newer = Peppers::new(pepper("b"), vec![pepper("a")]);
    assert_eq!(Signer::load_or_create(&shelf, &newer, NOW).await.unwrap().jwks(), signer.jwks());
    let stranger = Peppers::new(pepper("c"), Vec::new());
    assert!(matches!(Signer::load_or_create(&shelf, &stranger, NOW).await, Err(RingError::Wrapping(_))), "never replaced by itself");
    assert_eq!(shelf.0.lock().unwrap().values().next().unwrap().bytes, stored);
}

// oauth: M8
#[tokio::test]
async fn after_an_emergency_nothing_of_before_verifies() {
    let shelf = Memory::default();
    let (one, own) = process(&shelf, NOW).await;
    let (two, other) = process(&shelf, NOW).await;
    let mut before = vec![sign(&one, Algorithm::Rs256, NOW).await, sign(&one, Algorithm::EdDsa, NOW).await];
    let now = NOW.plus(PUBLISHED_BEFORE_USE);
    assert_eq!(one.rotate(&shelf, &peppers(), now).await, Ok(Rotation::Rotated));
    assert_eq!(two.rotate_if_due(&shelf, &peppers(), MONTH, now).await, Ok(Rotation::Adopted));
    before.extend([sign(&one, Algorithm::Rs256, now).await, sign(&two, Algorithm::EdDsa, now).await]);
    for token in &before {
        verify(&own, token, now).unwrap();
        verify(&other, token, now).unwrap();
    }
    let old: BTreeSet<Arc<str>> = ids(&one, |_any| true).into_iter().collect();

    one.emergency_rotate(&shelf, &peppers(), now).await.unwrap();
    assert_eq!(one.report(now).unwrap().since, now);
    assert!(ids(&one, |_any| true).iter().all(|id| !old.contains(id)), "neither what signed, nor what was announced");
    let fresh = [sign(&one, Algorithm::Rs256, now).await, sign(&one, Algorithm::EdDsa, now).await];
    for token in &before {
        assert!(matches!(verify(&own, token, now), Err(TokenError::BadSignature(_))), "at once, also what was remembered");
    }
    assert_eq!(two.rotate_if_due(&shelf, &peppers(), MONTH, now).await, Ok(Rotation::Adopted));
    for token in &before {
        assert!(matches!(verify(&other, token, now), Err(TokenError::BadSignature(_))), "and elsewhere with the next look");
    }
    for token in fresh {
        verify(&own, &token, now).unwrap();
        verify(&other, &token, now).unwrap();
    }
    assert_eq!(one.rotate(&shelf, &peppers(), now).await, Ok(Rotation::NotDue), "the new ones must be known before the next turn");
    // Whoever lost the pepper starts anew in the same way.
    let stranger = Peppers::new(pepper("c"), Vec::new());
    one.emergency_rotate(&shelf, &stranger, now).await.unwrap();
    assert!(Signer::load_or_create(&shelf, &stranger, now).await.unwrap().has_ring());
}

// oauth: M9
#[tokio::test]
async fn however_many_unknown_names_are_shown_it_is_said_once() {
    let (signer, tokens) = (Signer::for_tests(NOW), Tokens::new(10));
    tokens.install_own(signer.key_set().unwrap());
    let payload = r#"{"iss":"https://id.example.com","aud":"https://api.example.com"}"#;
    let is_wanted = async || futures_util::poll!(Box::pin(tokens.own_wanted())).is_ready();
    assert!(!is_wanted().await);
    for _round in 0..2 {
        for number in 0..1_000 {
            let token = signer.forge(Algorithm::EdDsa, &format!(r#"{{"alg":"EdDSA","kid":"k{number}","typ":"at+jwt"}}"#), payload);
            assert!(matches!(verify(&tokens, &token, NOW), Err(TokenError::BadSignature(_))));
        }
        assert!(is_wanted().await);
        assert!(!is_wanted().await);
    }
}

/// Three rings in a row, of one shelf: before a turn, after it, and after another one.
static TURNS: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let shelf = Memory::default();
        let mut rings = vec![process(&shelf, NOW).await.0];
        for turn in 1..3 {
            let now = NOW.plus(PUBLISHED_BEFORE_USE * turn);
            let (signer, _tokens) = process(&shelf, now).await;
            assert_eq!(signer.rotate(&shelf, &peppers(), now).await, Ok(Rotation::Rotated));
            rings.push(signer);
        }
        rings
    })
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever signs may be one turn ahead of whoever verifies, or any number behind.
    #[test]
    fn whatever_we_sign_verifies_at_our_gate(
        signed_after in 0_usize..3,
        verified_after in 0_usize..3,
        is_rs256: bool,
        sub in "[!-~]{1,128}",
        client in "[!-~]{1,128}",
        grant in "[0-9A-Za-z_-]{1,72}",
        jti in "[!-~]{1,128}",
        texts in proptest::collection::vec("[!#-Z^-z~]{1,20}", 0..20),
        audiences in proptest::collection::vec("https://[a-z]{1,20}", 0..4),
        seconds in 1_u64..=86_400,
        act in proptest::option::of("[ -~é]{0,40}"),
    ) {
        prop_assume!(signed_after <= verified_after + 1);
        let algorithm = if is_rs256 { Algorithm::Rs256 } else { Algorithm::EdDsa };
        let scope = ScopeSet::new(texts.iter().filter_map(|text| Scope::parse(text).ok()));
        let aud: Vec<Arc<str>> = audiences.iter().map(|one| Arc::from(one.as_str())).chain([Arc::from(AUDIENCE)]).collect();
        let act = act.map(|sub| serde_json::json!({ "sub": sub }));
        let claims = AccessClaims {
            iss: ISSUER,
            aud: &aud,
            sub: &sub,
            client_id: &client,
            grant: &grant,
            scope: &scope,
            jti: &jti,
            iat: NOW,
            exp: NOW.plus(Duration::from_secs(seconds)),
            act: act.as_ref(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let token = runtime.block_on(TURNS[signed_after].sign(&claims, algorithm)).unwrap();
        let tokens = Tokens::new(10);
        tokens.install_own(TURNS[verified_after].key_set().unwrap());
        let verified = verify(&tokens, &token, NOW).unwrap();
        prop_assert_eq!(verified.subject.as_str(), sub);
        prop_assert_eq!(verified.client.as_deref(), Some(client.as_str()));
        prop_assert_eq!(verified.grant.as_deref(), Some(grant.as_str()));
        prop_assert_eq!(verified.token_id.as_deref(), Some(jti.as_str()));
        prop_assert_eq!(verified.scopes.to_string(), scope.without_reserved().to_string());
    }
}
