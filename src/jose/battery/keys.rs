//! Key sets and keys that must not be trusted.

use crate::jose::KeySet;
use crate::jose::algorithm::ALL;
use crate::jose::battery::Expected::Accepted;
use crate::jose::battery::SECRET;
use crate::jose::battery::check;
use crate::jose::battery::encode;
use crate::jose::battery::forge;
use crate::jose::battery::issuer_with;
use crate::jose::battery::jwk;
use crate::jose::battery::payload;
use crate::jose::battery::pem;
use crate::jose::battery::pem_of;
use crate::jose::battery::set;
use crate::jose::keys::KeySetError;
use crate::model::rules::Algorithm;

fn read(json: &str) -> Result<KeySet, KeySetError> {
    KeySet::from_jwks(json.as_bytes(), &ALL)
}

fn alone(members: &str) -> Result<KeySet, KeySetError> {
    read(&format!(r#"{{"keys":[{{{members}}}]}}"#))
}

#[test]
fn a_key_counts_only_for_its_purpose() {
    let good = jwk(Algorithm::Es256);
    for (extra, accepted) in [
        ("", true),
        (r#","use":"sig""#, true),
        (r#","use":"enc""#, false),
        (r#","use":7"#, false),
        (r#","key_ops":["verify"]"#, true),
        (r#","key_ops":["sign","verify"]"#, true),
        (r#","key_ops":["encrypt"]"#, false),
        (r#","key_ops":[]"#, false),
        (r#","key_ops":"verify""#, false),
        (r#","alg":"ES256""#, true),
        (r#","alg":"ES384""#, false),
        (r#","alg":"ES521""#, false),
        (r#","alg":"HS256""#, false),
        (r#","alg":"none""#, false),
        (r#","alg":null"#, false),
        (r#","kid":7"#, false),
        (r#","kid":null"#, false),
        (r#","x5c":["AAAA"],"x5t":"AAAA","extra":{}"#, true),
    ] {
        assert_eq!(alone(&format!("{good}{extra}")).is_ok(), accepted, "{extra}");
    }
    assert!(alone(&format!(r#"{good},"kid":"{}""#, "k".repeat(256))).is_ok());
    assert!(alone(&format!(r#"{good},"kid":"{}""#, "k".repeat(257))).is_err());
}

#[test]
fn a_broken_key_is_skipped_and_named() {
    let good = jwk(Algorithm::Es256);
    let point = |x: &str, y: &str| format!(r#""kty":"EC","crv":"P-256","x":"{x}","y":"{y}""#);
    for broken in [
        r#""kty":"EC""#.to_owned(),
        r#""kty":"RSA""#.to_owned(),
        r#""kty":"RSA","n":"AQAB","e":"AQAB""#.to_owned(),
        r#""kty":"unknown""#.to_owned(),
        r#""kty":7"#.to_owned(),
        r#""x":"AA""#.to_owned(),
        point(&encode([1; 32]), &encode([1; 32])),
        point(&encode([0; 32]), &encode([0; 32])),
        point(&encode([1; 31]), &encode([1; 32])),
        point("AA==", "AA"),
        r#""kty":"EC","crv":"P-521","x":"AA","y":"AA""#.to_owned(),
        r#""kty":"EC","crv":"secp256k1","x":"AA","y":"AA""#.to_owned(),
        jwk(Algorithm::Es256).replace("P-256", "P-384"),
        jwk(Algorithm::Es256).replace(r#""kty":"EC""#, r#""kty":"RSA""#),
        r#""kty":"OKP","crv":"Ed448","x":"AA""#.to_owned(),
        r#""kty":"OKP","crv":"X25519","x":"AA""#.to_owned(),
        format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, encode([1; 31])),
    ] {
        assert!(matches!(alone(&broken), Err(KeySetError::NothingUsable { .. })), "{broken}");
        let beside = read(&format!(r#"{{"keys":[{{{broken}}},{{{good}}}]}}"#)).unwrap();
        assert_eq!((beside.len(), beside.skipped().len()), (1, 1), "{broken}");
    }
}

// battery: J22
#[test]
fn a_set_that_contradicts_itself_is_refused_whole() {
    let ed = jwk(Algorithm::EdDsa);
    let ec = jwk(Algorithm::Es256);
    let oct = jwk(Algorithm::Hs256);
    let many = |count: usize| {
        let keys: Vec<String> = (0..count).map(|number| format!(r#"{{{ed},"kid":"{number}"}}"#)).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    };
    assert_eq!(read(&many(100)).unwrap().len(), 100);
    assert!(matches!(read(&many(101)), Err(KeySetError::TooManyKeys(101))));
    assert!(read(&many(10_000)).is_err());
    assert!(matches!(read(&format!("{{\"keys\":[]}}{}", " ".repeat(1024 * 1024))), Err(KeySetError::TooLarge)));

    assert!(matches!(read(&format!(r#"{{"keys":[{{{ed},"kid":"a"}},{{{ec},"kid":"a"}}]}}"#)), Err(KeySetError::DuplicateId(_))));
    let broken = r#""kty":"EC","crv":"P-256","kid":"a""#;
    assert!(matches!(read(&format!(r#"{{"keys":[{{{ed},"kid":"a"}},{{{broken}}}]}}"#)), Err(KeySetError::DuplicateId(_))));
    let twin = format!(r#"{{"keys":[{{{ed},"kid":"a","use":"sig"}},{{{ec},"kid":"a","use":"enc"}}]}}"#);
    assert_eq!(read(&twin).unwrap().len(), 1, "an encryption key may share the name");
    assert!(matches!(read(&format!(r#"{{"keys":[{{{ed}}},{{{oct}}}]}}"#)), Err(KeySetError::Mixed)));
    assert!(matches!(alone(&oct), Err(KeySetError::Symmetric)));
    assert!(matches!(alone(&format!(r#"{ec},"d":"AAAA""#)), Err(KeySetError::Private { position: 0 })));
    for not_a_set in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"keys":{}}"#,
        r#"{"keys":[7]}"#,
        r#"{"keys":["a"]}"#,
        r#"{"keys":null}"#,
        "<html></html>",
        r#"{"keys":[],"keys":[]}"#,
        "\u{feff}{\"keys\":[]}",
    ] {
        assert!(matches!(read(not_a_set), Err(KeySetError::NotASet | KeySetError::NotJson(_))), "{not_a_set}");
    }
    assert!(matches!(read(r#"{"keys":[]}"#), Err(KeySetError::NothingUsable { .. })));
    // A member named twice in one key.
    assert!(read(&format!(r#"{{"keys":[{{{ed},"kid":"a","kid":"b"}}]}}"#)).is_err());
}

#[test]
fn a_set_must_serve_an_allowed_algorithm() {
    let json = set(&[("a", Algorithm::Es256)]);
    assert!(KeySet::from_jwks(&json, &[Algorithm::Es256]).is_ok());
    let refused = KeySet::from_jwks(&json, &[Algorithm::Rs256, Algorithm::EdDsa]).unwrap_err();
    assert_eq!(refused.to_string(), "no key of the set can be used with RS256, EdDSA");
    assert!(KeySet::from_jwks(&json, &[]).is_err());
}

// battery: J12
#[test]
fn secrets_are_as_long_as_the_hash() {
    use Algorithm::Hs256;
    use Algorithm::Hs384;
    use Algorithm::Hs512;
    for (length, allowed, accepted) in [
        (0, vec![Hs256], false),
        (31, vec![Hs256], false),
        (32, vec![Hs256], true),
        (32, vec![Hs256, Hs384], false),
        (47, vec![Hs384], false),
        (48, vec![Hs384], true),
        (63, vec![Hs512], false),
        (64, vec![Hs256, Hs384, Hs512], true),
        (1024, vec![Hs256], true),
        (1025, vec![Hs256], false),
        (64, vec![Algorithm::Rs256], false),
        (64, vec![], false),
    ] {
        assert_eq!(KeySet::from_hmac_secret(&vec![7; length], &allowed).is_ok(), accepted, "{length} bytes, {allowed:?}");
    }
    let of_length = |length: usize, alg: &str| format!(r#"{{"keys":[{{"kty":"oct","alg":"{alg}","k":"{}"}}]}}"#, encode(vec![7; length]));
    for (length, alg, accepted) in
        [(31, "HS256", false), (32, "HS256", true), (47, "HS384", false), (63, "HS512", false), (64, "HS512", true)]
    {
        assert_eq!(KeySet::from_secret_jwks(of_length(length, alg).as_bytes(), &ALL).is_ok(), accepted, "{length} bytes, {alg}");
    }
    assert!(KeySet::from_secret_jwks(&set(&[("a", Algorithm::EdDsa)]), &ALL).is_err());
}

#[test]
fn pem_keys_are_public_keys_of_the_kinds_on_offer() {
    for algorithm in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        let keys = KeySet::from_pem(pem(algorithm).as_bytes(), &[algorithm]).unwrap();
        let token = forge(algorithm, format!(r#"{{"alg":"{}","kid":"any"}}"#, algorithm.name()), payload(&[]));
        check(algorithm.name(), &token, &issuer_with(keys, vec![algorithm]), Accepted);
    }
    let good = pem(Algorithm::Es256);
    for (shown, text) in [
        ("nothing", String::new()),
        ("no PEM", "hello".to_owned()),
        ("two keys", format!("{good}{good}")),
        ("a private key", pem_of("PRIVATE KEY", b"\x30\x00")),
        ("a certificate", pem_of("CERTIFICATE", b"\x30\x00")),
        ("garbage", pem_of("PUBLIC KEY", b"\x30\x03\x02\x01\x07")),
        ("empty", pem_of("PUBLIC KEY", b"")),
        ("cut", good.replace("-----END", "-----NOEND")),
        ("a secret", String::from_utf8(SECRET.to_vec()).unwrap()),
    ] {
        assert!(KeySet::from_pem(text.as_bytes(), &ALL).is_err(), "{shown}");
    }
    assert!(KeySet::from_pem(good.as_bytes(), &[Algorithm::Rs256]).is_err());
}

#[test]
fn nothing_secret_shows_in_debug_output() {
    let keys = KeySet::from_hmac_secret(SECRET, &[Algorithm::Hs256]).unwrap();
    let shown = format!("{keys:?}") + &format!("{:?}", issuer_with(keys, vec![Algorithm::Hs256]));
    assert!(!shown.contains("0123456789abcdef") && !shown.contains(&encode(SECRET)), "{shown}");
    assert!(!shown.contains("48, 49, 50"), "{shown}");
}
