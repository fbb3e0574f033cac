//! Each check refuses what it is there for; and without it that would get through.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::issuer::checks::run;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::testing::REDIRECT;
use crate::issuer::oauth::authorize::testing::client;
use crate::issuer::oauth::authorize::testing::query;
use crate::issuer::tests::issuance;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::client::GrantType;

/// What the checks of these names make of a request.
fn judge(is_kept: impl Fn(&str) -> bool, client: Option<&ClientRecord>, text: &str) -> Result<(), Refusal> {
    let (asked, issuance) = (AuthorizeParameters::read(text).unwrap(), issuance());
    let client = client.map(|client| Arc::new(client.clone()));
    let inquiry = Inquiry { asked: &asked, client: client.as_ref(), issuance: &issuance };
    let kept: Vec<Check<Inquiry<'_>, Refusal>> = trust().into_iter().chain(rules()).filter(|check| is_kept(check.name)).collect();
    run(&kept, &inquiry)
}

fn error(client: &ClientRecord, text: &str) -> Option<ErrorCode> {
    let refusal = judge(|_| true, Some(client), text).err()?;
    let is_allowed = |byte: u8| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    assert!(refusal.description.bytes().all(is_allowed), "{}", refusal.description);
    Some(refusal.error)
}

// oauth: A5 A6 A7 A8 A9 A10 A13 A20 C1 C2 C4 C9 Q1
// battery: I7 I8
#[test]
fn every_fault_has_its_error() {
    use ErrorCode::*;
    let good = client("a");
    for (changes, expected) in [
        (vec![], None),
        (vec![("state", None)], None),
        (vec![("nonce", Some("n")), ("x", Some("y")), ("display", Some("popup"))], None),
        (vec![("response_type", None)], Some(InvalidRequest)),
        (vec![("response_type", Some(""))], Some(InvalidRequest)),
        (vec![("response_type", Some("token"))], Some(UnsupportedResponseType)),
        (vec![("response_type", Some("id_token"))], Some(UnsupportedResponseType)),
        (vec![("response_type", Some("code token"))], Some(UnsupportedResponseType)),
        (vec![("response_type", Some("CODE"))], Some(UnsupportedResponseType)),
        (vec![("response_mode", Some("query"))], None),
        (vec![("response_mode", Some("fragment"))], Some(InvalidRequest)),
        (vec![("response_mode", Some("form_post"))], Some(InvalidRequest)),
        (vec![("scope", Some(""))], None),
        (vec![("scope", None)], None),
        (vec![("scope", Some("orders:read files:read"))], None),
        (vec![("scope", Some("orders:read orders:delete"))], Some(InvalidScope)),
        (vec![("scope", Some("orders:*"))], Some(InvalidScope)),
        (vec![("scope", Some("*"))], Some(InvalidScope)),
        (vec![("scope", Some("tollgate:keys"))], Some(InvalidScope)),
        (vec![("scope", Some("orders:read\u{0}"))], Some(InvalidScope)),
        (vec![("scope", Some("órders:read"))], Some(InvalidScope)),
        (vec![("scope", Some("<script>"))], Some(InvalidScope)),
        (vec![("code_challenge", None)], Some(InvalidRequest)),
        (vec![("code_challenge", Some(""))], Some(InvalidRequest)),
        (vec![("code_challenge_method", None)], Some(InvalidRequest)),
        (vec![("code_challenge_method", Some("plain"))], Some(InvalidRequest)),
        (vec![("code_challenge_method", Some("s256"))], Some(InvalidRequest)),
        (vec![("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c"))], Some(InvalidRequest)),
        (vec![("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cMM"))], Some(InvalidRequest)),
        (vec![("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM"))], Some(InvalidRequest)),
        (vec![("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c="))], Some(InvalidRequest)),
        (vec![("resource", Some("https://api.example.com"))], None),
        (vec![("resource", Some("https://api.example.com/"))], Some(InvalidTarget)),
        (vec![("resource", Some("https://other.example.com"))], Some(InvalidTarget)),
        (vec![("resource", Some("https://api.example.com#f"))], Some(InvalidTarget)),
        (vec![("resource", Some("/api"))], Some(InvalidTarget)),
        (vec![("resource", Some("api"))], Some(InvalidTarget)),
        (vec![("prompt", Some("none"))], None),
        (vec![("prompt", Some("login consent"))], None),
        (vec![("prompt", Some("none login"))], Some(InvalidRequest)),
        (vec![("prompt", Some("dance"))], Some(InvalidRequest)),
    ] {
        assert_eq!(error(&good, &query(&good, &changes)), expected, "{changes:?}");
        // A client without a secret is held to the same.
        let public = ClientRecord { kind: ClientKind::Public, ..good.clone() };
        assert_eq!(error(&public, &query(&public, &changes)), expected, "{changes:?}");
    }
    let twice = |more: &str| format!("{}&{more}", query(&good, &[]));
    for name in ["response_type=code", "scope=orders:read", "state=s-1", "state=", "code_challenge=x", "code_challenge_method=S256"] {
        assert_eq!(error(&good, &twice(name)), Some(InvalidRequest), "{name}");
    }
    assert_eq!(error(&good, &twice("resource=https://api.example.com&resource=https://files.example.com")), None);
    assert_eq!(error(&good, &twice(&"resource=https://api.example.com&".repeat(9))), Some(InvalidTarget));
    let machine = ClientRecord { grant_types: vec![GrantType::ClientCredentials], ..good.clone() };
    assert_eq!(error(&machine, &query(&machine, &[])), Some(UnauthorizedClient));
    let narrow = ClientRecord { resources: vec!["https://files.example.com".into()], ..good.clone() };
    assert_eq!(error(&narrow, &query(&narrow, &[("resource", Some("https://files.example.com"))])), None);
    assert_eq!(error(&narrow, &query(&narrow, &[("resource", Some("https://api.example.com"))])), Some(InvalidTarget));
}

/// A request that one check refuses and no other: what would get through without it.
struct Hostile {
    check: &'static str,
    client: Option<ClientRecord>,
    text: String,
}

fn hostile() -> Vec<Hostile> {
    let good = client("a");
    let one = |check, changes: &[(&str, Option<&str>)]| Hostile { check, client: Some(good.clone()), text: query(&good, changes) };
    let disabled = ClientRecord { state: ClientState::Disabled, ..good.clone() };
    let machine = ClientRecord { grant_types: vec![GrantType::ClientCredentials], ..good.clone() };
    vec![
        Hostile { check: "client", text: query(&good, &[]), client: Some(disabled) },
        one("redirect_uri", &[("redirect_uri", Some("https://evil.example/cb"))]),
        Hostile { check: "repeats", text: format!("{}&scope=files:read", query(&good, &[])), client: Some(good.clone()) },
        one("response_type", &[("response_type", Some("token"))]),
        one("response_mode", &[("response_mode", Some("fragment"))]),
        Hostile { check: "grant_type", text: query(&good, &[]), client: Some(machine) },
        one("challenge_present", &[("code_challenge", None)]),
        one("challenge_method", &[("code_challenge_method", Some("plain"))]),
        one("challenge_form", &[("code_challenge", Some("short"))]),
        one("scope", &[("scope", Some("orders:delete"))]),
        one("resource_known", &[("resource", Some("https://other.example.com"))]),
        one("prompt", &[("prompt", Some("none login"))]),
        // What is malformed is not known either; the two checks are one assertion.
        Hostile {
            check: "resource_form",
            text: format!("{}&{}", query(&good, &[]), "resource=https%3A%2F%2Fapi.example.com&".repeat(9)),
            client: Some(good.clone()),
        },
    ]
}

// oauth: A2 A3 A5 A6 A9 A10 B1 C1 C2 C4 C9 Q1
#[test]
fn without_a_check_what_it_refuses_gets_through() {
    let mut shown = BTreeSet::new();
    for Hostile { check, client, text } in hostile() {
        assert!(judge(|_| true, client.as_ref(), &text).is_err(), "{check} is there and refuses");
        assert_eq!(judge(|kept| kept != check, client.as_ref(), &text), Ok(()), "{check} is all that refuses it");
        shown.insert(check);
    }
    let all: BTreeSet<&str> = trust().iter().chain(&rules()).map(|check| check.name).collect();
    assert_eq!(shown, all);
}

// oauth: A2 A3 B6
#[test]
fn a_client_or_address_that_is_not_trusted_ends_it_before_anything_else() {
    let good = client("a");
    let trust = |client: Option<&ClientRecord>, text: &str| judge(|name| matches!(name, "client" | "redirect_uri"), client, text).is_ok();
    assert!(trust(Some(&good), &query(&good, &[])));
    assert!(!trust(None, &query(&good, &[])));
    assert!(!trust(Some(&good), &format!("{}&client_id={}", query(&good, &[]), good.id)));
    assert!(!trust(Some(&good), &format!("{}&redirect_uri={REDIRECT}", query(&good, &[]))));
    assert!(trust(Some(&good), &query(&good, &[("redirect_uri", None)])), "there is only one");
    let two = ClientRecord { redirect_uris: vec![REDIRECT.into(), "https://b.example/cb".into()], ..good.clone() };
    assert!(!trust(Some(&two), &query(&good, &[("redirect_uri", None)])));
    assert!(!trust(Some(&two), &query(&good, &[("redirect_uri", Some(""))])));
    let none = ClientRecord { redirect_uris: Vec::new(), ..good.clone() };
    assert!(!trust(Some(&none), &query(&good, &[("redirect_uri", None)])));
}
