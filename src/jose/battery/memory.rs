//! What is remembered about tokens and keys, and when it stops counting.

use std::sync::Arc;
use std::time::Duration;

use crate::jose::KeySet;
use crate::jose::TokenError;
use crate::jose::Tokens;
use crate::jose::battery::NOW;
use crate::jose::battery::URL;
use crate::jose::battery::forge;
use crate::jose::battery::issuer;
use crate::jose::battery::issuer_with;
use crate::jose::battery::payload;
use crate::jose::battery::remote_issuer;
use crate::jose::battery::rules;
use crate::jose::battery::set;
use crate::jose::battery::token;
use crate::jose::tokens::Installed;
use crate::model::rules::Algorithm;
use crate::model::rules::Issuer;
use crate::model::rules::Rules;

fn keys(keys: &[(&str, Algorithm)]) -> KeySet {
    KeySet::from_jwks(&set(keys), &[Algorithm::EdDsa, Algorithm::Es256]).unwrap()
}

fn remote() -> Rules {
    rules(vec![Issuer { algorithms: vec![Algorithm::EdDsa, Algorithm::Es256], ..remote_issuer() }])
}

fn named(algorithm: Algorithm, id: &str) -> String {
    forge(algorithm, format!(r#"{{"alg":"{}","kid":"{id}"}}"#, algorithm.name()), payload(&[]))
}

#[test]
fn a_token_is_verified_once() {
    let tokens = Tokens::new(8);
    let rules = rules(vec![issuer()]);
    let token = token(&[]);
    let first = tokens.verify(&token, &rules, NOW).unwrap();
    let second = tokens.verify(&token, &rules, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn a_remembered_token_still_expires_and_still_begins() {
    let tokens = Tokens::new(8);
    let rules = rules(vec![issuer()]);
    let token = token(&[("nbf", Some("1800000000"))]);
    tokens.verify(&token, &rules, NOW).unwrap();
    let end = NOW.plus(Duration::from_secs(605));
    assert!(tokens.verify(&token, &rules, end.minus(Duration::from_nanos(1))).is_ok());
    assert_eq!(tokens.verify(&token, &rules, end).unwrap_err(), TokenError::Expired);
    // The clock was set back.
    assert_eq!(tokens.verify(&token, &rules, NOW.minus(Duration::from_secs(6))).unwrap_err(), TokenError::NotYetValid);
}

// battery: J54
#[test]
fn like_tokens_never_share_what_is_remembered() {
    let tokens = Tokens::new(64);
    let rules = rules(vec![issuer()]);
    let alice = token(&[("sub", Some("\"alice\""))]);
    let mallo = token(&[("sub", Some("\"mallo\""))]);
    assert_eq!(alice.len(), mallo.len());
    assert_eq!(alice[..60], mallo[..60]);
    for _ in 0..2 {
        assert_eq!(tokens.verify(&alice, &rules, NOW).unwrap().subject.as_str(), "alice");
        assert_eq!(tokens.verify(&mallo, &rules, NOW).unwrap().subject.as_str(), "mallo");
    }
    // The same text but for each single character of it.
    for (position, old) in alice.char_indices() {
        let mut changed = alice.clone();
        changed.replace_range(position..=position, if old == 'A' { "B" } else { "A" });
        assert!(tokens.verify(&changed, &rules, NOW).is_err(), "{position}");
    }
}

#[test]
fn what_is_remembered_ends_with_the_rules_that_it_rests_on() {
    let tokens = Tokens::new(8);
    let token = token(&[]);
    let old = rules(vec![issuer()]);
    tokens.verify(&token, &old, NOW).unwrap();

    let narrower = Rules { revision: "fedcba987654".into(), ..rules(vec![Issuer { audience: vec!["other".into()], ..issuer() }]) };
    assert!(matches!(tokens.verify(&token, &narrower, NOW), Err(TokenError::BadClaims(_))));
    let gone = Rules { revision: "fedcba987655".into(), ..rules(Vec::new()) };
    assert_eq!(tokens.verify(&token, &gone, NOW).unwrap_err(), TokenError::UntrustedIssuer);
    let swapped = rules(vec![issuer_with(keys(&[("", Algorithm::Es256)]), vec![Algorithm::Es256])]);
    assert!(matches!(tokens.verify(&token, &swapped, NOW), Err(TokenError::BadSignature(_))), "other keys under the same revision");
    let moved =
        Rules { revision: "fedcba987656".into(), ..rules(vec![Issuer { issuer: "https://first.example".into(), ..issuer() }, issuer()]) };
    assert_eq!(tokens.verify(&token, &moved, NOW).unwrap().issuer, 1);
}

#[test]
fn memory_is_bounded() {
    let tokens = Tokens::new(16);
    let rules = rules(vec![issuer()]);
    for number in 0..400 {
        tokens.verify(&token(&[("jti", Some(&format!("\"{number}\"")))]), &rules, NOW).unwrap();
    }
    assert!((1..=16).contains(&tokens.remembered()), "{tokens:?}");
}

#[test]
fn keys_that_were_never_fetched_are_no_answer() {
    let tokens = Tokens::new(8);
    assert!(matches!(tokens.verify(&token(&[]), &remote(), NOW), Err(TokenError::KeysMissing(_))));
    // But what is wrong whatever the keys are is an answer.
    assert!(matches!(tokens.verify("a.b.c", &remote(), NOW), Err(TokenError::Malformed(_))));
    assert_eq!(
        tokens.verify(&token(&[("iss", Some("\"https://other.example\""))]), &remote(), NOW).unwrap_err(),
        TokenError::UntrustedIssuer
    );
    tokens.install(URL, keys(&[("", Algorithm::EdDsa)]));
    assert!(tokens.verify(&token(&[]), &remote(), NOW).is_ok());
}

#[test]
fn a_rotated_set_ends_what_the_old_one_verified() {
    let tokens = Tokens::new(8);
    let rules = remote();
    let [old, new] = [named(Algorithm::EdDsa, "a"), named(Algorithm::Es256, "b")];
    assert_eq!(tokens.install(URL, keys(&[("a", Algorithm::EdDsa)])), Installed::Changed);
    assert!(tokens.verify(&old, &rules, NOW).is_ok());
    assert!(tokens.take_wanted().is_empty());

    assert!(matches!(tokens.verify(&new, &rules, NOW), Err(TokenError::BadSignature(_))));
    assert_eq!(tokens.take_wanted().iter().map(|url| &**url).collect::<Vec<_>>(), [URL], "an unknown kid asks for a fetch");
    assert!(tokens.take_wanted().is_empty(), "once");

    let first = tokens.verify(&old, &rules, NOW).unwrap();
    assert_eq!(tokens.install(URL, keys(&[("a", Algorithm::EdDsa)])), Installed::Unchanged);
    assert!(Arc::ptr_eq(&first, &tokens.verify(&old, &rules, NOW).unwrap()), "an unchanged set forgets nothing");

    assert_eq!(tokens.install(URL, keys(&[("a", Algorithm::EdDsa), ("b", Algorithm::Es256)])), Installed::Changed);
    assert!(tokens.verify(&old, &rules, NOW).is_ok());
    assert!(tokens.verify(&new, &rules, NOW).is_ok());
    tokens.install(URL, keys(&[("b", Algorithm::Es256)]));
    assert!(matches!(tokens.verify(&old, &rules, NOW), Err(TokenError::BadSignature(_))), "the withdrawn key's tokens end with it");
    assert!(tokens.verify(&new, &rules, NOW).is_ok());

    tokens.retain(|url| url != URL);
    assert!(!tokens.has_keys(URL));
    assert!(matches!(tokens.verify(&new, &rules, NOW), Err(TokenError::KeysMissing(_))));
}

#[test]
fn only_an_unknown_name_asks_for_a_fetch() {
    let tokens = Tokens::new(8);
    let rules = remote();
    tokens.install(URL, keys(&[("a", Algorithm::EdDsa), ("b", Algorithm::EdDsa)]));
    let mut damaged = named(Algorithm::EdDsa, "a");
    damaged.replace_range(damaged.len() - 10..damaged.len() - 9, "_");
    for token in [damaged, named(Algorithm::Es256, "a"), token(&[]), "x.y.z".to_owned()] {
        assert!(tokens.verify(&token, &rules, NOW).is_err());
    }
    assert!(tokens.take_wanted().is_empty());
}
