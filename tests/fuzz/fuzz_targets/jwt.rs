//! Any text is refused or verified; any payload under a good signature is refused or has the claims that were asked for.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use tollgate::config::outside::Outside;
use tollgate::config::compile_text;
use tollgate::jose::Tokens;
use tollgate::model::rules::Rules;
use tollgate::model::time::Timestamp;

const SECRET: &[u8] = b"a shared secret of the fuzz target, longer than 32 bytes";
const CONFIG: &str = include_str!("jwt.yaml");

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let outside = Outside::of([(PathBuf::from("secret"), SECRET.to_vec())], []);
    compile_text(CONFIG, &outside).expect("the config of this target is good").1
});

fuzz_target!(|bytes: &[u8]| {
    let tokens = Tokens::new(8);
    let now = Timestamp::from_unix_seconds(1_900_000_000);
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(tokens.verify(text, &RULES, now).is_err(), "nobody signed this");
    }
    let (header, payload) = match bytes.split_first() {
        Some((0, rest)) => (rest.split(|byte| *byte == 0).next().unwrap_or_default(), rest),
        Some((_, rest)) => (&br#"{"alg":"HS256"}"#[..], rest),
        None => return,
    };
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).expect("signed");
    if tokens.verify(&format!("{input}.{signature}"), &RULES, now).is_ok() {
        assert!(std::str::from_utf8(payload).is_ok_and(|text| text.contains("exp")), "verified claims are text with an expiry");
    }
});
