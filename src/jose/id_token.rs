//! ID tokens (OpenID Connect Core section 3.1.3.7), judged where we are the client that asked for them.
//!
//! The judgement is a list of named checks, each a plain function, so that a test can leave one out and see what it was for.

use std::sync::Arc;

use crate::jose::TokenError;
use crate::jose::claims::LEEWAY;
use crate::jose::claims::instant;
use crate::jose::compact::Compact;
use crate::jose::compact::Header;
use crate::jose::compact::Unverified;
use crate::jose::json::Json;
use crate::jose::json::Members;
use crate::jose::json::read_object;
use crate::jose::keys::KeySet;
use crate::jose::keys::NoKey;
use crate::model::rules::Algorithm;
use crate::model::time::Timestamp;

/// How an ID token may be signed. Never by a shared secret: whoever knows it could sign too.
pub const ALGORITHMS: [Algorithm; 7] =
    [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

/// Stands in a multi-tenant issuer where the tenant goes.
pub const TENANT: &str = "{tenantid}";

/// OpenID Connect Core section 2.
const SUBJECT_BYTES_MAX: usize = 255;
/// An address longer than this cannot be written to (RFC 5321 section 4.5.3.1).
const EMAIL_BYTES_MAX: usize = 254;
const NAME_CHARACTERS_MAX: usize = 255;

/// What the token must be about.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Exact, or with [`TENANT`] in the place of the tenant.
    pub issuer: &'a str,
    /// With a tenant in the issuer: those that may sign in; empty: every one.
    pub tenants: &'a [Arc<str>],
    /// Who we are at the provider.
    pub client_id: &'a str,
    /// Of this very sign-in.
    pub nonce: &'a str,
}

/// Who signed in, as the provider proved it to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdToken {
    /// With the tenant in its place.
    pub issuer: Arc<str>,
    /// Stable within the issuer: `sub`; of a multi-tenant issuer `oid` where it is given, which is the same for all of its clients.
    pub subject: Arc<str>,
    /// For people; as the person wrote it.
    pub name: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    /// What the provider says. Whether it is believed is another matter.
    pub email_verified: bool,
    /// Which key signed it.
    pub key_id: Option<String>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// The keys may be older than the token: worth one more look at the provider's.
    #[error("no key of the provider has the token's `kid`")]
    UnknownKey,
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What a check sees.
struct Shown<'a> {
    header: &'a Header,
    members: &'a Members<'a>,
    expected: &'a Expected<'a>,
    now: Timestamp,
}

/// One thing that must hold of a token whose signature does.
struct Check {
    #[cfg_attr(not(test), expect(dead_code, reason = "tests leave a check out by its name"))]
    name: &'static str,
    run: fn(&Shown<'_>) -> Result<(), TokenError>,
}

const CHECKS: [Check; 8] = [
    Check { name: "type", run: judge_type },
    Check { name: "issuer", run: judge_issuer },
    Check { name: "tenant", run: judge_tenant },
    Check { name: "audience", run: judge_audience },
    Check { name: "party", run: judge_party },
    Check { name: "expiry", run: judge_expiry },
    Check { name: "age", run: judge_age },
    Check { name: "nonce", run: judge_nonce },
];

/// Judges an ID token with the provider's keys.
///
/// # Errors
/// [`IdTokenError`].
pub fn judge(token: &str, keys: &KeySet, expected: &Expected<'_>, now: Timestamp) -> Result<IdToken, IdTokenError> {
    judge_by(CHECKS.iter(), token, keys, expected, now)
}

fn judge_by<'c>(
    checks: impl Iterator<Item = &'c Check>,
    token: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<IdToken, IdTokenError> {
    let compact = Compact::read(token)?;
    compact.verify(keys, &ALGORITHMS).map_err(|unverified| match unverified {
        Unverified::NoKey(NoKey::UnknownId) => IdTokenError::UnknownKey,
        Unverified::NoKey(NoKey::OtherAlgorithm | NoKey::Ambiguous) | Unverified::Refused(_) => IdTokenError::Token(unverified.into()),
    })?;
    let members = read_object(&compact.payload).map_err(|_reason| TokenError::Malformed("the payload is not a strict JSON object"))?;
    let shown = Shown { header: &compact.header, members: &members, expected, now };
    for check in checks {
        (check.run)(&shown)?;
    }
    read(&shown)
}

fn read(shown: &Shown<'_>) -> Result<IdToken, IdTokenError> {
    let sub = identifier(shown.members, "sub")?.ok_or(TokenError::BadClaims("`sub` is missing"))?;
    let subject = if shown.expected.issuer.contains(TENANT) { identifier(shown.members, "oid")?.unwrap_or(sub) } else { sub };
    let is_true = |name: &str| matches!(shown.members.get(name), Some(Json::Bool(true)));
    Ok(IdToken {
        issuer: Arc::from(text(shown.members, "iss")?),
        subject: Arc::from(subject),
        name: decoration(shown.members, "name", |text| text.chars().count() <= NAME_CHARACTERS_MAX),
        email: decoration(shown.members, "email", is_email),
        // Exactly the truth value: a text that says "true" is none.
        email_verified: is_true("email_verified"),
        key_id: shown.header.key_id.clone(),
    })
}

/// An access token or a logout token of the same issuer is no ID token.
fn judge_type(shown: &Shown<'_>) -> Result<(), TokenError> {
    if shown.header.token_type.is_none() || shown.header.is_of_type("JWT") {
        return Ok(());
    }
    Err(TokenError::BadClaims("`typ` is not that of an ID token"))
}

fn judge_issuer(shown: &Shown<'_>) -> Result<(), TokenError> {
    let shown_issuer = text(shown.members, "iss")?;
    let expected = match shown.expected.issuer.split_once(TENANT) {
        None => shown.expected.issuer.to_owned(),
        Some((before, after)) => format!("{before}{}{after}", tenant(shown.members)?),
    };
    if shown_issuer == expected { Ok(()) } else { Err(TokenError::BadClaims("`iss` is not the provider's")) }
}

fn judge_tenant(shown: &Shown<'_>) -> Result<(), TokenError> {
    if !shown.expected.issuer.contains(TENANT) {
        return Ok(());
    }
    let tenant = tenant(shown.members)?;
    if shown.expected.tenants.is_empty() || shown.expected.tenants.iter().any(|allowed| **allowed == *tenant) {
        return Ok(());
    }
    Err(TokenError::BadClaims("`tid` is none of the tenants that may sign in"))
}

/// For us, and for nobody beside us: we trust no other audience (step 3 of the section named above).
fn judge_audience(shown: &Shown<'_>) -> Result<(), TokenError> {
    let is_ours = match shown.members.get("aud") {
        Some(Json::Text(audience)) => **audience == *shown.expected.client_id,
        Some(Json::List(audiences)) => match audiences.as_slice() {
            [Json::Text(audience)] => **audience == *shown.expected.client_id,
            [..] => false,
        },
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) | None => false,
    };
    if is_ours { Ok(()) } else { Err(TokenError::BadClaims("`aud` is not us alone")) }
}

fn judge_party(shown: &Shown<'_>) -> Result<(), TokenError> {
    match shown.members.get("azp") {
        None => Ok(()),
        Some(party) if party.as_text() == Some(shown.expected.client_id) => Ok(()),
        Some(_) => Err(TokenError::BadClaims("`azp` is another client")),
    }
}

fn judge_expiry(shown: &Shown<'_>) -> Result<(), TokenError> {
    let expires = instant(shown.members.get("exp"), "`exp`")?.ok_or(TokenError::BadClaims("`exp` is missing"))?;
    if shown.now >= expires.plus(LEEWAY) { Err(TokenError::Expired) } else { Ok(()) }
}

fn judge_age(shown: &Shown<'_>) -> Result<(), TokenError> {
    let issued = instant(shown.members.get("iat"), "`iat`")?.ok_or(TokenError::BadClaims("`iat` is missing"))?;
    let begins = instant(shown.members.get("nbf"), "`nbf`")?.unwrap_or(issued);
    let latest = shown.now.plus(LEEWAY);
    if issued > latest || begins > latest { Err(TokenError::NotYetValid) } else { Ok(()) }
}

fn judge_nonce(shown: &Shown<'_>) -> Result<(), TokenError> {
    match shown.members.get("nonce").and_then(Json::as_text) {
        Some(nonce) if nonce == shown.expected.nonce => Ok(()),
        Some(_) | None => Err(TokenError::BadClaims("`nonce` is not that of this sign-in")),
    }
}

/// The tenant's id as it goes into the issuer: nothing that could carry the issuer elsewhere.
fn tenant<'m>(members: &'m Members<'_>) -> Result<&'m str, TokenError> {
    let tenant = text(members, "tid")?;
    let is_plain = (1..=64).contains(&tenant.len()) && tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_plain { Ok(tenant) } else { Err(TokenError::BadClaims("`tid` is no tenant's id")) }
}

fn text<'m>(members: &'m Members<'_>, name: &'static str) -> Result<&'m str, TokenError> {
    members.get(name).and_then(Json::as_text).ok_or(TokenError::BadClaims(match name {
        "iss" => "`iss` is missing or not a text",
        "tid" => "`tid` is missing or not a text",
        _ => "a claim is missing or not a text",
    }))
}

/// A name of a person within an issuer.
fn identifier<'m>(members: &'m Members<'_>, name: &str) -> Result<Option<&'m str>, TokenError> {
    let Some(claim) = members.get(name) else { return Ok(None) };
    let is_one = |text: &&str| (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    claim.as_text().filter(is_one).map(Some).ok_or(TokenError::BadClaims("the person's id is not 1 to 255 visible ASCII characters"))
}

/// What merely decorates an account is left out where it is odd.
fn decoration(members: &Members<'_>, name: &str, is_fit: impl Fn(&str) -> bool) -> Option<Arc<str>> {
    let text = members.get(name).and_then(Json::as_text)?.trim();
    (!text.is_empty() && !text.chars().any(char::is_control) && is_fit(text)).then(|| Arc::from(text))
}

fn is_email(text: &str) -> bool {
    let parts = text.split_once('@');
    text.len() <= EMAIL_BYTES_MAX
        && !text.chars().any(char::is_whitespace)
        && parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    use super::*;
    use crate::jose::battery::ISSUER;
    use crate::jose::battery::NOW;
    use crate::jose::battery::forge;
    use crate::jose::battery::payload;
    use crate::jose::battery::set;

    const EXPECTED: Expected<'static> = Expected { issuer: ISSUER, tenants: &[], client_id: "us", nonce: "n-1" };
    const TEMPLATE: &str = "https://login.example/{tenantid}/v2.0";

    fn keys() -> KeySet {
        KeySet::from_jwks(&set(&[("ed", Algorithm::EdDsa), ("rsa", Algorithm::Rs256)]), &ALGORITHMS).unwrap()
    }

    fn token(changes: &[(&str, Option<&str>)]) -> String {
        let good = [("aud", Some("\"us\"")), ("nonce", Some("\"n-1\""))];
        let all: Vec<(&str, Option<&str>)> = good.into_iter().chain(changes.iter().copied()).collect();
        forge(Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"ed"}"#, payload(&all))
    }

    fn without(name: &str, token: &str, expected: &Expected<'_>) -> Result<IdToken, IdTokenError> {
        assert!(CHECKS.iter().any(|check| check.name == name), "{name}");
        judge_by(CHECKS.iter().filter(|check| check.name != name), token, &keys(), expected, NOW)
    }

    /// Each hostile token, and the one check that stands against it: with the whole list it is refused, without that check it passes.
    // oauth: S2
    #[test]
    fn each_claim_is_judged_and_nothing_else_stands_in_for_a_check() {
        assert!(judge(&token(&[]), &keys(), &EXPECTED, NOW).is_ok());
        let past = (NOW.unix_seconds() - 5).to_string();
        let ahead = (NOW.unix_seconds() + 6).to_string();
        for (name, changes) in [
            ("issuer", ("iss", Some("\"https://id.example.com/\""))),
            ("issuer", ("iss", Some("\"https://ID.example.com\""))),
            ("audience", ("aud", Some("\"them\""))),
            ("audience", ("aud", Some("[\"us\",\"them\"]"))),
            ("audience", ("aud", Some("[]"))),
            ("audience", ("aud", Some("{\"us\":1}"))),
            ("audience", ("aud", None)),
            ("party", ("azp", Some("\"them\""))),
            ("party", ("azp", Some("null"))),
            ("expiry", ("exp", Some(&*past))),
            ("expiry", ("exp", None)),
            ("age", ("iat", Some(&*ahead))),
            ("age", ("nbf", Some(&*ahead))),
            ("age", ("iat", None)),
            ("nonce", ("nonce", Some("\"n-2\""))),
            ("nonce", ("nonce", Some("[\"n-1\"]"))),
            ("nonce", ("nonce", None)),
        ] {
            let token = token(&[changes]);
            assert!(judge(&token, &keys(), &EXPECTED, NOW).is_err(), "{changes:?}");
            assert!(without(name, &token, &EXPECTED).is_ok(), "{changes:?} is refused by something else than `{name}`");
        }
        for refused in [("iss", None), ("sub", None), ("sub", Some("7")), ("sub", Some("\"\"")), ("sub", Some("\"a\\u0000b\""))] {
            assert!(judge(&token(&[refused]), &keys(), &EXPECTED, NOW).is_err(), "{refused:?}");
        }
        for accepted in [("azp", Some("\"us\"")), ("aud", Some("[\"us\"]")), ("name", Some("7")), ("email", Some("\"no address\""))] {
            assert!(judge(&token(&[accepted]), &keys(), &EXPECTED, NOW).is_ok(), "{accepted:?}");
        }
        let access = forge(
            Algorithm::EdDsa,
            r#"{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}"#,
            payload(&[("aud", Some("\"us\"")), ("nonce", Some("\"n-1\""))]),
        );
        assert!(judge(&access, &keys(), &EXPECTED, NOW).is_err());
        assert!(without("type", &access, &EXPECTED).is_ok());
    }

    // oauth: S2
    #[test]
    fn only_the_providers_keys_and_public_key_algorithms_count() {
        let body = payload(&[("aud", Some("\"us\"")), ("nonce", Some("\"n-1\""))]);
        for (algorithm, header, expected) in [
            (Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa"}"#, Ok(())),
            (Algorithm::Ps256, r#"{"alg":"PS256","kid":"rsa"}"#, Ok(())),
            (Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"other"}"#, Err(true)),
            (Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"rsa"}"#, Err(false)),
            (Algorithm::Hs256, r#"{"alg":"HS256","kid":"rsa"}"#, Err(false)),
            (Algorithm::Hs256, r#"{"alg":"none"}"#, Err(false)),
            (Algorithm::Es256, r#"{"alg":"EdDSA","kid":"ed"}"#, Err(false)),
        ] {
            let judged = judge(&forge(algorithm, header, &body), &keys(), &EXPECTED, NOW);
            let found = judged.map(|_token| ()).map_err(|error| error == IdTokenError::UnknownKey);
            assert_eq!(found, expected, "{header}");
        }
        let unsigned = format!("{}.", token(&[]).rsplit_once('.').unwrap().0);
        assert!(judge(&unsigned, &keys(), &EXPECTED, NOW).is_err());
    }

    // oauth: S3 S4
    #[test]
    fn a_tenant_is_the_tokens_own_and_allowed_and_its_object_id_names_the_person() {
        let allowed: [Arc<str>; 1] = [Arc::from("9122-a")];
        let expected = Expected { issuer: TEMPLATE, ..EXPECTED };
        let only = Expected { tenants: &allowed, ..expected };
        let (own, others) = ("\"https://login.example/9122-a/v2.0\"", "\"https://login.example/evil/v2.0\"");
        let of = |issuer, tenant| token(&[("iss", Some(issuer)), ("tid", Some(tenant)), ("oid", Some("\"object\""))]);
        let judged = judge(&of(own, "\"9122-a\""), &keys(), &only, NOW).unwrap();
        assert_eq!((&*judged.issuer, &*judged.subject), ("https://login.example/9122-a/v2.0", "object"));
        let plain = judge(&token(&[("iss", Some(own)), ("tid", Some("\"9122-a\""))]), &keys(), &only, NOW).unwrap();
        assert_eq!(&*plain.subject, "alice");
        for (issuer, tenant) in [(others, "\"9122-a\""), (own, "\"evil\""), ("\"https://login.example/{tenantid}/v2.0\"", "\"9122-a\"")] {
            let token = of(issuer, tenant);
            assert!(judge(&token, &keys(), &expected, NOW).is_err(), "{issuer} {tenant}");
            assert!(without("issuer", &token, &expected).is_ok(), "{issuer} {tenant}");
        }
        assert!(judge(&of(others, "\"evil\""), &keys(), &expected, NOW).is_ok(), "every tenant may, where none is named");
        assert!(judge(&of(others, "\"evil\""), &keys(), &only, NOW).is_err());
        assert!(without("tenant", &of(others, "\"evil\""), &only).is_ok());
        for odd in ["\"\"", "\"a/b\"", "\"{tenantid}\"", "7", "null"] {
            assert!(judge(&of(own, odd), &keys(), &expected, NOW).is_err(), "{odd}");
        }
        let elsewhere = judge(&token(&[("oid", Some("\"object\""))]), &keys(), &EXPECTED, NOW).unwrap();
        assert_eq!(&*elsewhere.subject, "alice", "`oid` means something with tenants alone");
    }

    // oauth: S6
    #[test]
    fn an_address_is_verified_only_by_the_truth_value() {
        for (claim, verified) in
            [(Some("true"), true), (Some("false"), false), (Some("\"true\""), false), (Some("1"), false), (None, false)]
        {
            let judged = judge(&token(&[("email", Some("\"a@b.example\"")), ("email_verified", claim)]), &keys(), &EXPECTED, NOW).unwrap();
            assert_eq!((judged.email.as_deref(), judged.email_verified), (Some("a@b.example"), verified), "{claim:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = judge(&text, &keys(), &EXPECTED, NOW);
            let _ = judge(&forge(Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"ed"}"#, bytes), &keys(), &EXPECTED, NOW);
        }
    }
}
