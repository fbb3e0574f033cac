//! Signatures by the wrong key, by the wrong algorithm, in the wrong encoding; keys named or carried by the token.

use crate::jose::KeySet;
use crate::jose::battery::Expected::Accepted;
use crate::jose::battery::Expected::BadSignature;
use crate::jose::battery::Expected::Malformed;
use crate::jose::battery::SECRET;
use crate::jose::battery::check;
use crate::jose::battery::encode;
use crate::jose::battery::forge;
use crate::jose::battery::issuer_with;
use crate::jose::battery::jwk;
use crate::jose::battery::p256_point;
use crate::jose::battery::payload;
use crate::jose::battery::pem;
use crate::jose::battery::set;
use crate::jose::battery::sign;
use crate::model::rules::Algorithm;
use crate::model::rules::Issuer;

fn issuer_of(keys: &[(&str, Algorithm)], algorithms: &[Algorithm]) -> Issuer {
    issuer_with(KeySet::from_jwks(&set(keys), algorithms).unwrap(), algorithms.to_vec())
}

fn with_signature(algorithm: Algorithm, signature: &[u8]) -> String {
    format!("{}.{}.{}", encode(format!(r#"{{"alg":"{}"}}"#, algorithm.name())), encode(payload(&[])), encode(signature))
}

fn genuine(algorithm: Algorithm) -> Vec<u8> {
    let input = format!("{}.{}", encode(format!(r#"{{"alg":"{}"}}"#, algorithm.name())), encode(payload(&[])));
    sign(algorithm, input.as_bytes())
}

/// Signed by HMAC with bytes that everybody knows.
fn hmac_with(key: &[u8], header: &str) -> String {
    let input = format!("{}.{}", encode(header), encode(payload(&[])));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
    format!("{input}.{}", encode(tag.as_ref()))
}

// battery: J4
// oauth: O2
#[test]
fn a_public_key_is_never_a_shared_secret() {
    let header = r#"{"alg":"HS256"}"#;
    let every = [Algorithm::Hs256, Algorithm::Es256, Algorithm::Rs256];
    let point = p256_point();
    for algorithms in [&[Algorithm::Es256][..], &every] {
        let issuer = issuer_of(&[("", Algorithm::Es256)], algorithms);
        for bytes in [point.as_slice(), &point[1..], &point[1..33], pem(Algorithm::Es256).as_bytes(), &set(&[("", Algorithm::Es256)])] {
            check("an HMAC with the point", &hmac_with(bytes, header), &issuer, BadSignature);
        }
    }
    let issuer = issuer_of(&[("", Algorithm::Rs256)], &every);
    for bytes in [pem(Algorithm::Rs256).as_bytes(), pem(Algorithm::Rs256).trim_end().as_bytes(), jwk(Algorithm::Rs256).as_bytes()] {
        check("an HMAC with the RSA key", &hmac_with(bytes, header), &issuer, BadSignature);
    }
}

// battery: J5
// oauth: O2
#[test]
fn the_algorithm_comes_from_the_entry_and_the_key() {
    use Algorithm::Es256;
    use Algorithm::Hs256;
    use Algorithm::Ps256;
    use Algorithm::Rs256;
    use Algorithm::Rs384;
    for (entry, key_alg, header_alg, signed_by, expected) in [
        (vec![Rs256], None, "RS256", Rs256, Accepted),
        (vec![Ps256], None, "PS256", Ps256, Accepted),
        (vec![Ps256], None, "RS256", Rs256, BadSignature),
        (vec![Rs256], None, "PS256", Ps256, BadSignature),
        (vec![Rs256], None, "RS384", Rs384, BadSignature),
        // The header lies about what signed it.
        (vec![Rs256, Ps256], None, "RS256", Ps256, BadSignature),
        (vec![Rs256, Ps256], None, "PS256", Rs256, BadSignature),
        (vec![Rs256, Ps256], None, "PS256", Ps256, Accepted),
        // The key's own `alg` narrows what the entry allows.
        (vec![Rs256, Ps256], Some("PS256"), "RS256", Rs256, BadSignature),
        (vec![Rs256, Ps256], Some("PS256"), "PS256", Ps256, Accepted),
        (vec![Rs256, Ps256], Some("RS256"), "PS256", Ps256, BadSignature),
        (vec![Rs256, Es256], None, "ES256", Es256, BadSignature),
        (vec![Rs256, Hs256], None, "HS256", Hs256, BadSignature),
    ] {
        let alg = key_alg.map(|alg| format!(r#","alg":"{alg}""#)).unwrap_or_default();
        let json = format!(r#"{{"keys":[{{{}{alg}}}]}}"#, jwk(Rs256));
        let issuer = issuer_with(KeySet::from_jwks(json.as_bytes(), &entry).unwrap(), entry.clone());
        let token = forge(signed_by, format!(r#"{{"alg":"{header_alg}"}}"#), payload(&[]));
        check(&format!("{entry:?} {key_alg:?} {header_alg} {signed_by:?}"), &token, &issuer, expected);
    }
}

// battery: J6
#[test]
fn degenerate_signatures_sign_nothing() {
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84,
        0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let near = |last: u8| {
        let mut number = order;
        number[31] = last;
        number
    };
    let small = |last: u8| {
        let mut number = [0; 32];
        number[31] = last;
        number
    };
    let numbers = [small(0), small(1), near(0x50), order, near(0x52), [0xff; 32]];
    let issuer = issuer_of(&[("", Algorithm::Es256)], &[Algorithm::Es256]);
    check("genuine", &with_signature(Algorithm::Es256, &genuine(Algorithm::Es256)), &issuer, Accepted);
    for r in numbers {
        for s in numbers {
            check(&format!("r {r:?} s {s:?}"), &with_signature(Algorithm::Es256, &[r, s].concat()), &issuer, BadSignature);
        }
    }
    let eddsa = issuer_of(&[("", Algorithm::EdDsa)], &[Algorithm::EdDsa]);
    for filler in [0, 0xff] {
        check("EdDSA of one byte", &with_signature(Algorithm::EdDsa, &[filler; 64]), &eddsa, BadSignature);
    }
}

// battery: J7
#[test]
fn ecdsa_signatures_have_exactly_their_length() {
    let issuer = issuer_of(&[("", Algorithm::Es256)], &[Algorithm::Es256]);
    let raw = genuine(Algorithm::Es256);
    let integer = |number: &[u8]| {
        let number = if number[0] & 0x80 == 0 { number.to_vec() } else { [&[0], number].concat() };
        [&[0x02, u8::try_from(number.len()).unwrap()], number.as_slice()].concat()
    };
    let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
    let der = [&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat();
    for (shown, signature) in [
        ("DER", der),
        ("63 bytes", raw[..63].to_vec()),
        ("65 bytes", [raw.as_slice(), &[0]].concat()),
        ("65 bytes, zero in front", [&[0], raw.as_slice()].concat()),
        ("128 bytes", [raw.as_slice(), &raw].concat()),
        ("66 bytes, each number longer", [&[0], &raw[..32], &[0], &raw[32..]].concat()),
        ("one byte", vec![7]),
    ] {
        check(shown, &with_signature(Algorithm::Es256, &signature), &issuer, BadSignature);
    }
}

// battery: J9
#[test]
fn rsa_signatures_are_neither_shorter_nor_longer_nor_altered() {
    let issuer = issuer_of(&[("", Algorithm::Rs256)], &[Algorithm::Rs256]);
    let raw = genuine(Algorithm::Rs256);
    check("genuine", &with_signature(Algorithm::Rs256, &raw), &issuer, Accepted);
    let altered = |position: usize| {
        let mut altered = raw.clone();
        altered[position] ^= 1;
        altered
    };
    for (shown, signature) in [
        ("shorter", raw[..255].to_vec()),
        ("longer", [raw.as_slice(), &[0]].concat()),
        ("zero in front", [&[0], raw.as_slice()].concat()),
        ("first byte", altered(0)),
        ("middle", altered(128)),
        ("last byte", altered(255)),
        ("above the modulus", vec![0xff; 256]),
        ("zero", vec![0; 256]),
        ("one", [vec![0; 255], vec![1]].concat()),
    ] {
        check(shown, &with_signature(Algorithm::Rs256, &signature), &issuer, BadSignature);
    }
}

// battery: J14 J15 J16
// oauth: O6
#[test]
fn keys_and_addresses_in_a_token_are_not_even_read() {
    // The attacker signs with the P-256 key; the issuer trusts the Ed25519 key.
    let issuer = issuer_of(&[("ours", Algorithm::EdDsa)], &[Algorithm::EdDsa, Algorithm::Es256]);
    let carried = jwk(Algorithm::Es256);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    for (shown, extra) in [
        ("jwk", format!(r#""jwk":{{{carried}}}"#)),
        ("jwk under our kid", format!(r#""kid":"ours","jwk":{{{carried},"kid":"ours"}}"#)),
        ("jku", r#""jku":"https://evil.example/jwks""#.to_owned()),
        ("jku, loopback", format!(r#""jku":"http://{address}/jwks""#)),
        ("jku, metadata", r#""jku":"http://169.254.169.254/latest/meta-data""#.to_owned()),
        ("x5u, loopback", format!(r#""x5u":"http://{address}/chain""#)),
        ("x5u, file", r#""x5u":"file:///etc/passwd""#.to_owned()),
        ("x5c", r#""x5c":["MIIBszCCAVmgAwIBAgIUQX"]"#.to_owned()),
        ("x5t", r#""x5t":"AAAA""#.to_owned()),
    ] {
        let header = |alg: &str| format!(r#"{{"alg":"{alg}",{extra}}}"#);
        check(shown, &forge(Algorithm::Es256, header("ES256"), payload(&[])), &issuer, BadSignature);
        check(shown, &forge(Algorithm::Es256, header("EdDSA"), payload(&[])), &issuer, BadSignature);
        // By our own key it is good, whatever else it carries.
        check(shown, &forge(Algorithm::EdDsa, header("EdDSA"), payload(&[])), &issuer, Accepted);
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody was asked");
}

// battery: J17 J19
#[test]
fn a_key_id_is_a_map_key_and_nothing_else() {
    let issuer = issuer_of(&[("ours", Algorithm::EdDsa)], &[Algorithm::EdDsa]);
    let long = format!("\"{}\"", "k".repeat(257));
    let huge = format!("\"{}\"", "k".repeat(1024 * 1024));
    for (id, expected) in [
        (r#""ours""#, Accepted),
        (r#""\u006furs""#, Accepted),
        (r#""Ours""#, BadSignature),
        (r#""ours ""#, BadSignature),
        (r#""""#, BadSignature),
        (r#""../../dev/null""#, BadSignature),
        (r#""/dev/null""#, BadSignature),
        (r#""https://evil.example/key""#, BadSignature),
        (r#""%2e%2e""#, BadSignature),
        (r#""' OR 1=1 --""#, BadSignature),
        (r#""ours\u0000""#, BadSignature),
        (&long, Malformed),
        (&huge, Malformed),
        ("7", Malformed),
        (r#"["ours"]"#, Malformed),
        ("null", Malformed),
        ("{}", Malformed),
    ] {
        let shown: String = id.chars().take(40).collect();
        check(&shown, &forge(Algorithm::EdDsa, format!(r#"{{"alg":"EdDSA","kid":{id}}}"#), payload(&[])), &issuer, expected);
    }
}

// battery: J21
#[test]
fn without_a_key_id_only_the_one_possible_key_counts() {
    use Algorithm::EdDsa;
    use Algorithm::Es256;
    let every = [EdDsa, Es256];
    let token = |algorithm: Algorithm| forge(algorithm, format!(r#"{{"alg":"{}"}}"#, algorithm.name()), payload(&[]));
    let one = issuer_of(&[("a", EdDsa)], &every);
    check("one key", &token(EdDsa), &one, Accepted);
    check("one key of another kind", &token(Es256), &one, BadSignature);
    let kinds = issuer_of(&[("a", EdDsa), ("b", Es256)], &every);
    check("one of each kind", &token(EdDsa), &kinds, Accepted);
    check("one of each kind", &token(Es256), &kinds, Accepted);
    let two = issuer_of(&[("a", EdDsa), ("b", EdDsa)], &every);
    check("two of a kind", &token(EdDsa), &two, BadSignature);
    let nameless = issuer_of(&[("", EdDsa), ("", EdDsa)], &every);
    check("two without names", &token(EdDsa), &nameless, BadSignature);
    let named = forge(EdDsa, r#"{"alg":"EdDSA","kid":"x"}"#, payload(&[]));
    check("a name that neither has", &named, &nameless, BadSignature);
    let only = issuer_of(&[("", EdDsa)], &every);
    check("an issuer's only key need not have the name", &named, &only, Accepted);
}

#[test]
fn a_secret_verifies_only_what_it_signed() {
    let issuer = issuer_with(KeySet::from_hmac_secret(SECRET, &[Algorithm::Hs256]).unwrap(), vec![Algorithm::Hs256]);
    check("ours", &hmac_with(SECRET, r#"{"alg":"HS256"}"#), &issuer, Accepted);
    check("another", &hmac_with(&SECRET[1..], r#"{"alg":"HS256"}"#), &issuer, BadSignature);
    check("another HMAC", &forge(Algorithm::Hs512, r#"{"alg":"HS512"}"#, payload(&[])), &issuer, BadSignature);
    check("cut", &with_signature(Algorithm::Hs256, &genuine(Algorithm::Hs256)[..16]), &issuer, BadSignature);
}
