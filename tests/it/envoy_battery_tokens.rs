//! The attack battery's tokens through Envoy; the wrapper's own tests have the long tables.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::support::jwt;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::Listener;
use crate::support::scenario::Scenario;

const TARGET: &str = "/api/v1/conversations";

fn claims() -> Value {
    let claims = jwt::claims("https://id.demo.example", "https://api.demo.example", "tom");
    jwt::with(claims, json!({ "scope": "conversations:read" }))
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn assert_refused(scenario: &Scenario, tokens: &[(String, &str)], listener: Listener) {
    for (token, what) in tokens {
        let reply = scenario.client().bearer(TARGET, token);
        assert_eq!(reply.status, 401, "{listener:?} {what}: {}", reply.text());
    }
    assert_eq!(scenario.upstream.count(), 0, "{listener:?}");
}

// battery: J1 J31 J32
#[test]
fn tokens_that_nobody_signed_are_refused() {
    for listener in Listener::BOTH {
        let scenario = listener.plan().unguarded().start();
        let good = jwt::hs256(&claims(), JWT_SECRET);
        let (head, signature) = good.rsplit_once('.').expect("three parts");
        let payload = part(&claims());
        let mut tokens = vec![
            (format!("{head}."), "an empty signature"),
            (head.to_owned(), "two parts"),
            (format!("{good}.{signature}"), "four parts"),
            (format!("{good}.."), "five parts"),
            (format!(".{payload}.{signature}"), "an empty head"),
            (format!("{good}."), "a dot behind"),
            (format!(".{good}"), "a dot before"),
            (format!("{head}.{}", &signature[..signature.len() - 2]), "a short signature"),
        ];
        for algorithm in ["none", "None", "nOnE", "NONE"] {
            let head = part(&json!({ "alg": algorithm, "typ": "JWT" }));
            tokens.push((format!("{head}.{payload}."), "no algorithm, no signature"));
            tokens.push((format!("{head}.{payload}.{signature}"), "no algorithm, some signature"));
        }
        for size in [8 * 1024, 40 * 1024] {
            let long = jwt::with(claims(), json!({ "padding": "x".repeat(size) }));
            tokens.push((jwt::hs256(&long, JWT_SECRET), "larger than any token of ours"));
        }
        assert_refused(&scenario, &tokens, listener);
        assert_eq!(scenario.client().bearer(TARGET, &good).status, 200, "{listener:?}");
    }
}

// oauth: O5
#[test]
fn tokens_out_of_their_time_are_refused() {
    let scenario = Listener::Shipped.plan().unguarded().start();
    let now = jwt::now();
    let signed = |members: Value| jwt::hs256(&jwt::with(claims(), members), JWT_SECRET);
    let mut timeless = claims();
    timeless.as_object_mut().expect("an object").remove("exp");
    let tokens = [
        (jwt::hs256(&timeless, JWT_SECRET), "no exp"),
        (signed(json!({ "exp": now - 6 })), "past by more than the leeway"),
        (signed(json!({ "nbf": now + 60 })), "not yet"),
    ];
    assert_refused(&scenario, &tokens, Listener::Shipped);
    assert_eq!(scenario.client().bearer(TARGET, &signed(json!({ "exp": now + 30, "nbf": now - 30 }))).status, 200);
}

// oauth: O4
#[test]
fn tokens_of_others_and_for_others_are_refused() {
    let scenario = Listener::Shipped.plan().unguarded().start();
    let signed = |members: Value| jwt::hs256(&jwt::with(claims(), members), JWT_SECRET);
    let mut tokens = vec![
        (signed(json!({ "iss": "https://id.demo.example/" })), "a slash more"),
        (signed(json!({ "iss": "https://ID.demo.example" })), "another case"),
        (signed(json!({ "iss": ["https://id.demo.example"] })), "a list"),
        (signed(json!({ "aud": "https://api.demo.example/" })), "another audience"),
        (signed(json!({ "aud": [] })), "an empty audience"),
    ];
    for member in ["iss", "aud"] {
        let mut without = claims();
        without.as_object_mut().expect("an object").remove(member);
        tokens.push((jwt::hs256(&without, JWT_SECRET), "a claim is missing"));
    }
    assert_refused(&scenario, &tokens, Listener::Shipped);
}

// battery: J55
// oauth: O8
#[test]
fn the_scheme_is_one_word_and_its_case_is_free() {
    for listener in Listener::BOTH {
        let scenario = listener.plan().unguarded().start();
        let token = jwt::hs256(&claims(), JWT_SECRET);
        let status = |value: &str| scenario.client().get(TARGET, &[("authorization", value)]).status;
        for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
            assert_eq!(status(&format!("{scheme} {token}")), 200, "{listener:?} {scheme}");
        }
        let bad = [
            format!("Bearer,{token}"),
            format!("Bearer: {token}"),
            format!("Bearer\t{token}"),
            format!("Bearer  {token}"),
            format!("Bearer{token}"),
            format!("Bearer {token} {token}"),
            format!("Bearer {token}, Bearer {token}"),
            format!("Bearer Bearer {token}"),
            format!("Basic {token}"),
            token.clone(),
            "Bearer".to_owned(),
        ];
        for value in bad {
            assert_eq!(status(&value), 401, "{listener:?} {}", &value[..value.len().min(30)]);
        }
    }
}
