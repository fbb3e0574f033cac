//! Claims of the wrong type, out of range, or not what the issuer's entry asks for.

use std::time::Duration;

use proptest::prelude::any;
use proptest::proptest;

use crate::jose::battery::AUDIENCE;
use crate::jose::battery::Expected;
use crate::jose::battery::Expected::Accepted;
use crate::jose::battery::Expected::BadClaims;
use crate::jose::battery::Expected::Expired;
use crate::jose::battery::Expected::Malformed;
use crate::jose::battery::Expected::NotYetValid;
use crate::jose::battery::NOW;
use crate::jose::battery::check;
use crate::jose::battery::check_at;
use crate::jose::battery::forge;
use crate::jose::battery::issuer;
use crate::jose::battery::payload;
use crate::jose::battery::token;
use crate::jose::battery::verify;
use crate::model::caller::Environment;
use crate::model::rules::Algorithm;
use crate::model::rules::Issuer;
use crate::model::rules::TokenId;
use crate::model::time::Timestamp;

fn claim(name: &str, rows: &[(&str, Expected)]) {
    claim_with(&issuer(), name, rows);
}

/// Each row is the claim's JSON text; an empty one leaves it out.
fn claim_with(issuer: &Issuer, name: &str, rows: &[(&str, Expected)]) {
    for (value, expected) in rows {
        let token = token(&[(name, Some(*value).filter(|value| !value.is_empty()))]);
        let shown: String = value.chars().take(60).collect();
        check(&format!("{name} {shown}"), &token, issuer, *expected);
    }
}

// battery: J39 J40 J41
// oauth: O5
#[test]
fn exp_is_a_finite_number_in_range_rounded_down() {
    claim(
        "exp",
        &[
            ("", BadClaims),
            ("\"1800000600\"", BadClaims),
            ("[1800000600]", BadClaims),
            ("{}", BadClaims),
            ("true", BadClaims),
            ("null", BadClaims),
            ("1800000600", Accepted),
            ("1800000600.9", Accepted),
            ("1.8000006e9", Accepted),
            // Rounded down it is 1799999995, which was over five seconds ago exactly now.
            ("1799999995.999", Expired),
            ("1799999996.0", Accepted),
            ("1e10", Accepted),
            ("1.5", Expired),
            ("-0.0", Expired),
            ("-0", Expired),
            ("0", Expired),
            ("-1", Expired),
            ("-1e300", Expired),
            ("-9223372036854775809", Expired),
            ("2147483648", Accepted),
            ("9007199254740993", BadClaims),
            ("9223372036854775808", BadClaims),
            ("18446744073709551616", BadClaims),
            ("18446744073", Accepted),
            ("18446744074", BadClaims),
            ("18446744073.5", Accepted),
            ("100000000000000000000000000000", BadClaims),
            ("1e300", BadClaims),
            ("1e400", Malformed),
            ("NaN", Malformed),
            ("Infinity", Malformed),
            ("0x6b49d200", Malformed),
            ("01800000600", Malformed),
        ],
    );
    let short_lived = Issuer { max_lifetime: Some(Duration::from_secs(3600)), ..issuer() };
    claim_with(&short_lived, "exp", &[("2147483648", BadClaims), ("1e10", BadClaims), ("1800000600", Accepted)]);
}

// battery: J42
// oauth: O5
#[test]
fn the_leeway_is_five_seconds_on_both_sides() {
    let issuer = issuer();
    let nanosecond = Duration::from_nanos(1);
    let expiry = NOW.plus(Duration::from_secs(600));
    let ends = |shown: &str, now: Timestamp, expected| check_at(shown, &token(&[]), &issuer, now, expected);
    ends("exactly at exp", expiry, Accepted);
    ends("one second short of the leeway", expiry.plus(Duration::from_secs(4)), Accepted);
    ends("a nanosecond short of it", expiry.plus(Duration::from_secs(5)).minus(nanosecond), Accepted);
    ends("exp and leeway", expiry.plus(Duration::from_secs(5)), Expired);
    ends("one second past it", expiry.plus(Duration::from_secs(6)), Expired);

    let begins = token(&[("nbf", Some("1800000100")), ("iat", None)]);
    let start = Timestamp::from_unix_seconds(1_800_000_100);
    check_at("six seconds early", &begins, &issuer, start.minus(Duration::from_secs(6)), NotYetValid);
    check_at("a nanosecond too early", &begins, &issuer, start.minus(Duration::from_secs(5)).minus(nanosecond), NotYetValid);
    check_at("five seconds early", &begins, &issuer, start.minus(Duration::from_secs(5)), Accepted);
    check_at("exactly at nbf", &begins, &issuer, start, Accepted);
}

// battery: J44
#[test]
fn iat_lies_not_ahead_and_lifetimes_are_bounded() {
    claim(
        "iat",
        &[
            ("", Accepted),
            ("1800000005", Accepted),
            ("1800000006", NotYetValid),
            ("1e300", BadClaims),
            ("\"1800000000\"", BadClaims),
            ("null", BadClaims),
            ("-5", Accepted),
            ("1", Accepted),
        ],
    );
    claim("nbf", &[("1800000000", Accepted), ("1800000006", NotYetValid), ("\"1\"", BadClaims), ("null", BadClaims), ("-1", Accepted)]);
    // The token lives 600 seconds.
    let lifetime = |seconds: u64| Issuer { max_lifetime: Some(Duration::from_secs(seconds)), ..issuer() };
    check("just short enough", &token(&[]), &lifetime(600), Accepted);
    check("a second too long", &token(&[]), &lifetime(599), BadClaims);
    check("iat pushed forward hides nothing", &token(&[("iat", Some("1800000005"))]), &lifetime(590), BadClaims);
    check("without iat it counts from now", &token(&[("iat", None)]), &lifetime(600), Accepted);
    check("without iat, too long", &token(&[("iat", None)]), &lifetime(599), BadClaims);
    check("issued long ago", &token(&[("iat", Some("0"))]), &lifetime(600), BadClaims);
}

// battery: J45
#[test]
fn judging_survives_every_instant() {
    let issuer = issuer();
    let seconds = Timestamp::from_unix_seconds;
    let until_2200 = token(&[("exp", Some("7258118400")), ("iat", Some("1800000000"))]);
    for (shown, now, expected) in [
        ("an hour back", NOW.minus(Duration::from_secs(3600)), NotYetValid),
        ("an hour on", NOW.plus(Duration::from_secs(3600)), Accepted),
        ("year 2038", seconds(1 << 31), Accepted),
        ("year 2106", seconds(1 << 32), Accepted),
        ("a leap second's place", seconds(1_798_761_600), NotYetValid),
        ("1970", seconds(0), NotYetValid),
        ("the end of time", Timestamp::from_nanos(u64::MAX), Expired),
    ] {
        check_at(shown, &until_2200, &issuer, now, expected);
    }
}

// battery: J46
// oauth: O4
#[test]
fn the_audience_is_ours_exactly() {
    let many = format!("[{}]", vec!["\"x\""; 10_000].join(","));
    let some = format!("[{},\"{AUDIENCE}\"]", vec!["\"x\""; 64].join(","));
    let fewer = format!("[{},\"{AUDIENCE}\"]", vec!["\"x\""; 63].join(","));
    claim(
        "aud",
        &[
            ("\"https://api.example.com\"", Accepted),
            ("[\"x\",\"https://api.example.com\"]", Accepted),
            (&fewer, Accepted),
            (&some, BadClaims),
            (&many, Malformed),
            ("", BadClaims),
            ("[]", BadClaims),
            ("7", BadClaims),
            ("null", BadClaims),
            ("{\"https://api.example.com\":1}", BadClaims),
            ("[\"https://api.example.com\",7]", BadClaims),
            ("[[\"https://api.example.com\"]]", BadClaims),
            ("\"https://api.example.com/v1\"", BadClaims),
            ("\"https://api.example.co\"", BadClaims),
            ("\"https://API.example.com\"", BadClaims),
            ("\"https://api.example.com \"", BadClaims),
            ("\"https://other.example.com\"", BadClaims),
        ],
    );
    let nobody = Issuer { audience: Vec::new(), ..issuer() };
    check("an issuer without audiences accepts none", &token(&[]), &nobody, BadClaims);
    let two = Issuer { audience: vec!["other".into(), AUDIENCE.into()], ..issuer() };
    check("the second of two", &token(&[]), &two, Accepted);
}

// battery: J37 J36
#[test]
fn a_subject_is_visible_ascii_compared_as_bytes() {
    let longest = format!("\"{}\"", "x".repeat(128));
    let longer = format!("\"{}\"", "x".repeat(129));
    claim(
        "sub",
        &[
            ("\"alice\"", Accepted),
            ("\"Alice\"", Accepted),
            (&longest, Accepted),
            (&longer, BadClaims),
            ("", BadClaims),
            ("\"\"", BadClaims),
            ("7", BadClaims),
            ("null", BadClaims),
            ("[\"alice\"]", BadClaims),
            ("\"al ice\"", BadClaims),
            ("\"alice\\u0000\"", BadClaims),
            ("\"alice\\n\"", BadClaims),
            // Cyrillic, decomposed, right-to-left mark, zero width.
            ("\"\u{430}lice\"", BadClaims),
            ("\"ali\u{301}ce\"", BadClaims),
            ("\"\u{202e}alice\"", BadClaims),
            ("\"ali\u{200b}ce\"", BadClaims),
        ],
    );
    let one = verify(&token(&[("sub", Some("\"alice\""))]), &issuer(), NOW).unwrap();
    let escaped = verify(&token(&[("sub", Some("\"\\u0061lice\""))]), &issuer(), NOW).unwrap();
    let other = verify(&token(&[("sub", Some("\"Alice\""))]), &issuer(), NOW).unwrap();
    assert_eq!(one.subject, escaped.subject);
    assert_ne!(one.subject, other.subject);
}

// battery: J49
#[test]
fn scopes_are_exact_tokens() {
    let scopes = |changes: &[(&str, Option<&str>)]| verify(&token(changes), &issuer(), NOW).map(|claims| claims.scopes.to_string()).ok();
    for (claim, expected) in [
        (r#""read write""#, Some("read write")),
        (r#""write read read""#, Some("read write")),
        (r#"["read","write"]"#, Some("read write")),
        (r#""Read""#, Some("Read")),
        (r#""readall""#, Some("readall")),
        (r#""""#, Some("")),
        (r#"[]"#, Some("")),
        (r#""read  write""#, None),
        (r#"" read""#, None),
        (r#""read ""#, None),
        (r#""read\twrite""#, None),
        (r#"["read write"]"#, None),
        (r#"[["read"]]"#, None),
        (r#"["read",7]"#, None),
        (r#""re\"ad""#, None),
        (r#""r\u00e9ad""#, None),
        ("7", None),
        ("null", None),
        (r#"{"read":true}"#, None),
        // Reserved for us; no issuer gives them.
        (r#""read tollgate:admin tollgate""#, Some("read")),
        (r#""*""#, Some("*")),
    ] {
        assert_eq!(scopes(&[("scope", Some(claim))]).as_deref(), expected, "{claim}");
    }
    assert_eq!(scopes(&[]).as_deref(), Some(""), "no scopes are no rights");
    assert_eq!(scopes(&[("scp", Some(r#"["read"]"#))]).as_deref(), Some("read"));
    assert_eq!(scopes(&[("scp", Some("\"a\"")), ("scope", Some("\"b\""))]).as_deref(), Some("b"), "the first configured claim counts");
    let many = |count: usize| format!("\"{}\"", (0..count).map(|number| format!("s{number}")).collect::<Vec<_>>().join(" "));
    assert!(scopes(&[("scope", Some(&many(256)))]).is_some());
    assert_eq!(scopes(&[("scope", Some(&many(257)))]), None);
    assert_eq!(scopes(&[("scope", Some(&format!("\"{}\"", "x".repeat(129))))]), None);
    assert_eq!(scopes(&[("scope", Some(&many(30_000)))]), None);
    let prefix = verify(&token(&[("scope", Some("\"read\""))]), &issuer(), NOW).unwrap();
    assert!(!prefix.scopes.covers("readall"));
}

// oauth: O1
#[test]
fn the_type_is_what_the_entry_asks_for() {
    let access = Issuer { token_type: Some("at+jwt".into()), ..issuer() };
    for (header, for_access, for_any) in [
        (r#"{"alg":"EdDSA","typ":"at+jwt"}"#, Accepted, Accepted),
        (r#"{"alg":"EdDSA","typ":"AT+JWT"}"#, Accepted, Accepted),
        (r#"{"alg":"EdDSA","typ":"application/at+jwt"}"#, Accepted, Accepted),
        (r#"{"alg":"EdDSA"}"#, BadClaims, Accepted),
        // What ID tokens carry.
        (r#"{"alg":"EdDSA","typ":"JWT"}"#, BadClaims, Accepted),
        (r#"{"alg":"EdDSA","typ":"logout+jwt"}"#, BadClaims, Accepted),
        (r#"{"alg":"EdDSA","typ":"at+jw"}"#, BadClaims, Accepted),
        (r#"{"alg":"EdDSA","typ":7}"#, Malformed, Malformed),
        (r#"{"alg":"EdDSA","typ":null}"#, Malformed, Malformed),
    ] {
        let token = forge(Algorithm::EdDsa, header, payload(&[]));
        check(header, &token, &access, for_access);
        check(header, &token, &issuer(), for_any);
    }
}

#[test]
fn mapped_claims_are_plain_texts_or_absent() {
    for name in ["org_id", "tier", "client_id"] {
        claim(
            name,
            &[
                ("\"acme\"", Accepted),
                ("null", Accepted),
                ("", Accepted),
                ("7", BadClaims),
                ("\"\"", BadClaims),
                ("\"a b\"", BadClaims),
                ("\"a\\r\\nx: y\"", BadClaims),
                ("\"\u{fc}\"", BadClaims),
                ("[\"acme\"]", BadClaims),
            ],
        );
    }
    claim("env", &[("\"live\"", Accepted), ("\"test\"", Accepted), ("\"Live\"", BadClaims), ("true", BadClaims)]);
    let changes = [
        ("org_id", Some("\"acme\"")),
        ("tier", Some("\"pro\"")),
        ("client_id", Some("\"app\"")),
        ("env", Some("\"test\"")),
        ("jti", Some("\"x\"")),
    ];
    let claims = verify(&token(&changes), &issuer(), NOW).unwrap();
    assert_eq!(claims.organization.as_deref(), Some("acme"));
    assert_eq!(claims.tier.as_deref(), Some("pro"));
    assert_eq!(claims.client.as_deref(), Some("app"));
    assert_eq!(claims.environment, Some(Environment::Test));
    assert_eq!(claims.token_id.as_deref(), Some("x"));
    assert_eq!(claims.issued, Some(NOW));
    assert_eq!(claims.expires, NOW.plus(Duration::from_secs(600)));
}

#[test]
fn jti_names_a_key_where_the_entry_says_so() {
    claim("jti", &[("\"x/y\"", Accepted), ("", Accepted), ("7", BadClaims), ("null", BadClaims)]);
    let keyed = Issuer { token_id: TokenId::NamesKey, ..issuer() };
    claim_with(&keyed, "jti", &[("\"abc_-9\"", Accepted), ("", BadClaims), ("\"a/b\"", BadClaims), ("\"\"", BadClaims), ("7", BadClaims)]);
}

#[test]
fn the_user_may_stand_in_another_claim() {
    let mut by_name = issuer();
    by_name.claims.user = "preferred_username".into();
    check("missing there", &token(&[]), &by_name, BadClaims);
    let named = [("preferred_username", Some("\"bob\""))];
    assert_eq!(verify(&token(&named), &by_name, NOW).unwrap().subject.as_str(), "bob");
    check("sub may be absent then", &token(&[named[0], ("sub", None)]), &by_name, Accepted);
    check("but not of another type", &token(&[named[0], ("sub", Some("7"))]), &by_name, BadClaims);
}

proptest! {
    /// Against a slow statement of the rule: accepted exactly while `max(nbf, iat) - 5 <= now < exp + 5`, in whole seconds.
    #[test]
    fn times_are_judged_as_the_rule_says(exp in 1_799_999_000_u64..1_800_001_000, nbf in any::<Option<u16>>(), iat in any::<Option<u16>>()) {
        let at = |offset: u16| 1_799_990_000 + u64::from(offset) / 4;
        let [exp_text, nbf_text, iat_text] = [Some(exp), nbf.map(at), iat.map(at)].map(|seconds| seconds.map(|seconds| seconds.to_string()));
        let token = token(&[("exp", exp_text.as_deref()), ("nbf", nbf_text.as_deref()), ("iat", iat_text.as_deref())]);
        let now = NOW.unix_seconds();
        let good = now < exp + 5 && nbf.is_none_or(|nbf| at(nbf) <= now + 5) && iat.is_none_or(|iat| at(iat) <= now + 5);
        assert_eq!(verify(&token, &issuer(), NOW).is_ok(), good);
    }
}
