//! The token's form: parts, base64url, JSON, header members.

use crate::jose::battery::AUDIENCE;
use crate::jose::battery::Expected;
use crate::jose::battery::Expected::Accepted;
use crate::jose::battery::Expected::BadSignature;
use crate::jose::battery::Expected::Malformed;
use crate::jose::battery::Expected::UntrustedIssuer;
use crate::jose::battery::ISSUER;
use crate::jose::battery::check;
use crate::jose::battery::encode;
use crate::jose::battery::forge;
use crate::jose::battery::issuer;
use crate::jose::battery::payload;
use crate::jose::battery::seal;
use crate::jose::battery::token;
use crate::model::rules::Algorithm;

fn header(json: impl AsRef<[u8]>) -> String {
    forge(Algorithm::EdDsa, json, payload(&[]))
}

fn with_payload(bytes: impl AsRef<[u8]>) -> String {
    forge(Algorithm::EdDsa, r#"{"alg":"EdDSA"}"#, bytes)
}

fn table(rows: Vec<(&str, String, Expected)>) {
    let issuer = issuer();
    for (shown, token, expected) in rows {
        check(shown, &token, &issuer, expected);
    }
}

#[test]
fn the_plain_token_passes() {
    check("plain", &token(&[]), &issuer(), Accepted);
}

// battery: J1 J2
// oauth: O2
#[test]
fn alg_none_and_odd_algs_are_refused() {
    let mut rows = Vec::new();
    for none in ["none", "None", "nOnE", "NONE"] {
        let unsigned = format!("{}.{}", encode(format!(r#"{{"alg":"{none}"}}"#)), encode(payload(&[])));
        rows.push((none, format!("{unsigned}."), BadSignature));
        rows.push((none, seal(Algorithm::EdDsa, unsigned), BadSignature));
    }
    for (odd, expected) in [
        (r#"{}"#, Malformed),
        (r#"{"alg":null}"#, Malformed),
        (r#"{"alg":7}"#, Malformed),
        (r#"{"alg":["EdDSA"]}"#, Malformed),
        (r#"{"alg":""}"#, BadSignature),
        (r#"{"alg":"eddsa"}"#, BadSignature),
        (r#"{"alg":"EdDSA "}"#, BadSignature),
        (r#"{"alg":"ES512"}"#, BadSignature),
        (r#"{"alg":"A256GCM"}"#, BadSignature),
    ] {
        rows.push((odd, header(odd), expected));
    }
    table(rows);
}

// battery: J25 J26
// oauth: O3
#[test]
fn extensions_and_encryption_are_refused() {
    let signed = token(&[]);
    table(vec![
        ("crit unknown", header(r#"{"alg":"EdDSA","crit":["x"],"x":1}"#), Malformed),
        ("crit empty", header(r#"{"alg":"EdDSA","crit":[]}"#), Malformed),
        ("crit null", header(r#"{"alg":"EdDSA","crit":null}"#), Malformed),
        ("crit of a standard member", header(r#"{"alg":"EdDSA","crit":["alg"]}"#), Malformed),
        ("crit b64", header(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#), Malformed),
        ("b64", header(r#"{"alg":"EdDSA","b64":false}"#), Malformed),
        ("zip", header(r#"{"alg":"EdDSA","zip":"DEF"}"#), Malformed),
        ("enc", header(r#"{"alg":"EdDSA","enc":"A256GCM"}"#), Malformed),
        ("five parts", format!("{signed}.AA.AA"), Malformed),
        ("a token inside", with_payload(&signed), Malformed),
        ("an unknown member", header(r#"{"alg":"EdDSA","shoe":{"size":[44]}}"#), Accepted),
    ]);
}

// battery: J27 J32
#[test]
fn only_three_parts_are_a_token() {
    let signed = token(&[]);
    let parts: Vec<&str> = signed.split('.').collect();
    let [header, payload, signature] = [parts[0], parts[1], parts[2]];
    table(vec![
        ("empty", String::new(), Malformed),
        ("one part", header.to_owned(), Malformed),
        ("two parts", format!("{header}.{payload}"), Malformed),
        ("four parts", format!("{signed}.{signature}"), Malformed),
        ("no header", format!(".{payload}.{signature}"), Malformed),
        ("no payload", format!("{header}..{signature}"), Malformed),
        ("no payload, signed", seal(Algorithm::EdDsa, format!("{header}.")), Malformed),
        ("no signature", format!("{header}.{payload}."), BadSignature),
        ("leading dot", format!(".{signed}"), Malformed),
        ("trailing dot", format!("{signed}."), Malformed),
        ("two dots", "..".to_owned(), Malformed),
        (
            "JSON serialisation",
            format!(r#"{{"payload":"{payload}","signatures":[{{"protected":"{header}","signature":"{signature}"}}]}}"#),
            Malformed,
        ),
        ("flattened", format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#), Malformed),
    ]);
}

// battery: J29 J30 J35 J36
// oauth: O7
#[test]
fn only_one_strict_object_is_a_header_or_a_payload() {
    let good = payload(&[]);
    let twice = |member: &str| format!("{},{member}}}", &good[..good.len() - 1]);
    let deep = |depth: usize| format!("{},\"x\":{}{}}}", &good[..good.len() - 1], "[".repeat(depth), "]".repeat(depth));
    let deep_header = |depth: usize| format!("{{\"alg\":\"EdDSA\",\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let with_bom = |text: &str| [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat();
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    table(vec![
        ("alg twice", header(r#"{"alg":"EdDSA","alg":"EdDSA"}"#), Malformed),
        ("alg twice, escaped", header(r#"{"alg":"EdDSA","\u0061lg":"none"}"#), Malformed),
        ("kid twice", header(r#"{"alg":"EdDSA","kid":"a","kid":"b"}"#), Malformed),
        ("sub twice", with_payload(twice(r#""sub":"bob""#)), Malformed),
        ("exp twice", with_payload(twice(r#""exp":1"#)), Malformed),
        ("scope twice", with_payload(twice(r#""scope":"a","scope":"b""#)), Malformed),
        ("twice, deeper", with_payload(twice(r#""x":[{"y":1,"y":1}]"#)), Malformed),
        ("shallow", with_payload(deep(10)), Accepted),
        ("200 deep", with_payload(deep(200)), Malformed),
        ("2,000 deep", with_payload(deep(2000)), Malformed),
        ("10,000 deep", with_payload(deep(10_000)), Malformed),
        ("1,000,000 deep", with_payload(deep(1_000_000)), Malformed),
        ("header 200 deep", header(deep_header(200)), Malformed),
        ("header 10,000 deep", header(deep_header(10_000)), Malformed),
        ("array", with_payload(format!("[{good}]")), Malformed),
        ("string", with_payload("\"alice\""), Malformed),
        ("number", with_payload("7"), Malformed),
        ("null", with_payload("null"), Malformed),
        ("nothing", with_payload(""), Malformed),
        ("two objects", with_payload(format!("{good}{good}")), Malformed),
        ("header is an array", header(r#"["alg","EdDSA"]"#), Malformed),
        ("BOM before the payload", with_payload(with_bom(&good)), Malformed),
        ("BOM before the header", header(with_bom(r#"{"alg":"EdDSA"}"#)), Malformed),
        ("UTF-16", with_payload(utf16), Malformed),
        ("invalid UTF-8", with_payload(b"{\"sub\":\"\xff\"}"), Malformed),
        ("overlong UTF-8", with_payload(b"{\"sub\":\"\xc0\xae\"}"), Malformed),
        ("lone surrogate", with_payload(r#"{"sub":"\ud800"}"#), Malformed),
        ("lone low surrogate", with_payload(r#"{"sub":"\udc00x"}"#), Malformed),
        ("trailing comma", with_payload(r#"{"sub":"a",}"#), Malformed),
        ("NaN", with_payload(r#"{"exp":NaN}"#), Malformed),
        ("spaces are allowed", with_payload(good.replace("\":", "\" : ")), Accepted),
    ]);
}

// battery: J31
// oauth: O7
#[test]
fn long_tokens_are_refused_before_any_work() {
    let issuer = issuer();
    // Grown by a member until the token is exactly so long.
    let of_length = |wanted: usize| {
        let mut filler = wanted * 3 / 4 - 400;
        loop {
            let token = token(&[("filler", Some(&format!("\"{}\"", "x".repeat(filler))))]);
            if token.len() >= wanted {
                return token;
            }
            filler += 1;
        }
    };
    let longest = of_length(8191);
    assert!(longest.len() <= 8192, "{}", longest.len());
    check("just fits", &longest, &issuer, Accepted);
    check("one above", &of_length(8193), &issuer, Malformed);
    for length in [16 * 1024, 64 * 1024, 1024 * 1024, 16 * 1024 * 1024] {
        check("far too long", &"a".repeat(length), &issuer, Malformed);
        check("dots alone", &".".repeat(length), &issuer, Malformed);
    }
}

// battery: J34
// oauth: O7
#[test]
fn base64url_has_one_spelling() {
    let issuer = issuer();
    let signed = token(&[]);
    let (input, signature) = signed.rsplit_once('.').unwrap();
    let (header, payload) = input.split_once('.').unwrap();
    // 64 bytes leave 4 stray bits in the last character.
    let stray = {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = signature.chars().last().unwrap();
        let position = alphabet.find(last).unwrap();
        assert_eq!(position % 16, 0);
        format!("{}{}", &signature[..signature.len() - 1], &alphabet[position + 1..=position + 1])
    };
    table(vec![
        ("padded signature", format!("{input}.{signature}=="), Malformed),
        ("stray bits in the signature", format!("{input}.{stray}"), Malformed),
        ("space in the signature", format!("{input}.{} {}", &signature[..9], &signature[9..]), Malformed),
        ("newline at the end", format!("{signed}\n"), Malformed),
        ("space in front", format!(" {signed}"), Malformed),
        ("tab in the payload", seal(Algorithm::EdDsa, format!("{header}.{}\t{}", &payload[..9], &payload[9..])), Malformed),
        ("padded header", seal(Algorithm::EdDsa, format!("{header}=.{payload}")), Malformed),
        ("signed padding", seal(Algorithm::EdDsa, format!("{header}.{payload}=")), Malformed),
        ("percent", seal(Algorithm::EdDsa, format!("{header}.%{payload}")), Malformed),
        ("not ASCII", format!("{header}.{payload}é.{signature}"), Malformed),
        ("NUL", format!("{header}.{payload}\0.{signature}"), Malformed),
        ("stray bits in a payload", seal(Algorithm::EdDsa, format!("{header}.e31")), Malformed),
    ]);
    // The standard alphabet, where the text has a character that differs.
    let marked = forge(Algorithm::EdDsa, r#"{"alg":"EdDSA"}"#, format!(r#"{{"x":"???>>>~~~","iss":"{ISSUER}","aud":"{AUDIENCE}"}}"#));
    let (input, _signature) = marked.rsplit_once('.').unwrap();
    let standard = input.replace('-', "+").replace('_', "/");
    assert_ne!(standard, input);
    check("standard alphabet", &seal(Algorithm::EdDsa, standard), &issuer, Malformed);
}

// battery: J47
// oauth: O4
#[test]
fn the_issuer_is_compared_byte_for_byte() {
    let mut rows = vec![("the very text", token(&[]), Accepted)];
    for other in [
        None,
        Some(r#""https://id.example.com/""#),
        Some(r#""https://ID.example.com""#),
        Some(r#""HTTPS://id.example.com""#),
        Some(r#""https://id.example.com.""#),
        Some(r#""https://id.example.com#""#),
        Some(r#""https://id.example.com\u0000""#),
        Some(r#""https://іd.example.com""#),
        Some(r#""http://id.example.com""#),
        Some(r#"["https://id.example.com"]"#),
        Some(r#"["https://evil.example","https://id.example.com"]"#),
        Some("7"),
        Some("null"),
        Some("{}"),
        Some(r#""""#),
    ] {
        rows.push((other.unwrap_or("missing"), token(&[("iss", other)]), UntrustedIssuer));
    }
    // Written with an escape it is still the same text.
    rows.push(("escaped", token(&[("iss", Some(r#""https:\/\/id.example.com""#))]), Accepted));
    table(rows);
}
