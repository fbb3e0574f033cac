//! What a token's claims must be, judged by our own rules once its signature holds. The library's own claim checks are not used:
//! they let claims of the wrong type pass and read the system clock.

use std::sync::Arc;
use std::time::Duration;

use crate::jose::TokenError;
use crate::jose::compact::Header;
use crate::jose::json::Json;
use crate::jose::json::Members;
use crate::jose::json::Number;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::claims::VerifiedClaims;
use crate::model::handle::is_handle_id;
use crate::model::key::is_key_id;
use crate::model::rules::Issuer;
use crate::model::rules::Managed;
use crate::model::rules::TokenId;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// How far clocks may differ, on either side.
pub const LEEWAY: Duration = Duration::from_secs(5);

const AUDIENCES_MAX: usize = 64;
const SCOPES_MAX: usize = 256;

/// The last second that a [`Timestamp`] can hold (in the year 2554).
const SECONDS_MAX: u64 = u64::MAX / 1_000_000_000;

/// Judges everything that a token says. `position` is the issuer's place in the rules.
pub(in crate::jose) fn judge(
    members: &Members<'_>,
    header: &Header,
    issuer: &Issuer,
    position: usize,
    now: Timestamp,
) -> Result<VerifiedClaims, TokenError> {
    if issuer.token_type.as_deref().is_some_and(|wanted| !header.is_of_type(wanted)) {
        return Err(TokenError::BadClaims("`typ` is not what the issuer's entry asks for"));
    }
    judge_audience(members.get("aud"), &issuer.audience)?;
    let names = &issuer.claims;
    let expires = instant(members.get("exp"), "`exp`")?.ok_or(TokenError::BadClaims("`exp` is missing"))?;
    let claims = VerifiedClaims {
        issuer: position,
        subject: subject(members, &names.user)?,
        scopes: Arc::new(scopes(members, &names.scopes)?.without_reserved()),
        organization: named(members, names.organization.as_deref())?,
        tier: named(members, names.tier.as_deref())?,
        environment: environment(members, names.environment.as_deref())?,
        client: named(members, names.client.as_deref())?,
        grant: grant(members, issuer.managed)?,
        token_id: token_id(members.get("jti"), issuer.token_id)?,
        issued: instant(members.get("iat"), "`iat`")?,
        not_before: instant(members.get("nbf"), "`nbf`")?,
        expires,
    };
    match issuer.managed {
        Managed::No | Managed::Yes => {}
        Managed::ByGrant => judge_own(&claims)?,
    }
    judge_times(&claims, now)?;
    let lifetime = claims.expires.since(claims.issued.unwrap_or(now));
    if issuer.max_lifetime.is_some_and(|most| lifetime > most) {
        return Err(TokenError::BadClaims("it lives longer than `max_lifetime`"));
    }
    Ok(claims)
}

/// RFC 9068 section 2.2: what every token of our own says.
fn judge_own(claims: &VerifiedClaims) -> Result<(), TokenError> {
    match (&claims.client, &claims.token_id, claims.issued) {
        (Some(_), Some(_), Some(_)) => Ok(()),
        (None, _, _) => Err(TokenError::BadClaims("`client_id` is missing")),
        (_, None, _) => Err(TokenError::BadClaims("`jti` is missing or no plain text")),
        (_, _, None) => Err(TokenError::BadClaims("`iat` is missing")),
    }
}

/// Whether the token is good at this instant; asked again each time that a cached one is used.
pub(in crate::jose) fn judge_times(claims: &VerifiedClaims, now: Timestamp) -> Result<(), TokenError> {
    if now >= claims.expires.plus(LEEWAY) {
        return Err(TokenError::Expired);
    }
    let latest = now.plus(LEEWAY);
    if claims.not_before.is_some_and(|start| start > latest) || claims.issued.is_some_and(|issued| issued > latest) {
        return Err(TokenError::NotYetValid);
    }
    Ok(())
}

fn judge_audience(claim: Option<&Json<'_>>, wanted: &[Arc<str>]) -> Result<(), TokenError> {
    let is_wanted = |audience: &str| wanted.iter().any(|wanted| **wanted == *audience);
    let found = match claim {
        Some(Json::Text(audience)) => is_wanted(audience),
        Some(Json::List(audiences)) => {
            if audiences.len() > AUDIENCES_MAX {
                return Err(TokenError::BadClaims("`aud` has more than 64 entries"));
            }
            let texts: Vec<&str> = audiences
                .iter()
                .map(Json::as_text)
                .collect::<Option<_>>()
                .ok_or(TokenError::BadClaims("`aud` holds something that is no text"))?;
            texts.into_iter().any(is_wanted)
        }
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) => {
            return Err(TokenError::BadClaims("`aud` has the wrong type"));
        }
        None => return Err(TokenError::BadClaims("`aud` is missing")),
    };
    if found { Ok(()) } else { Err(TokenError::BadClaims("`aud` names none of the audiences")) }
}

fn subject(members: &Members<'_>, name: &str) -> Result<Subject, TokenError> {
    // RFC 7519 section 4.1.2, also where another claim names the user.
    if members.get("sub").is_some_and(|sub| sub.as_text().is_none()) {
        return Err(TokenError::BadClaims("`sub` is not a text"));
    }
    let text = members.get(name).and_then(Json::as_text).ok_or(TokenError::BadClaims("the user's claim is missing or not a text"))?;
    Subject::parse(text).map_err(|_outside| TokenError::BadClaims("the user's claim is not 1 to 128 visible ASCII characters"))
}

/// A `NumericDate`, rounded down to whole seconds. Before 1970 is 1970.
pub(in crate::jose) fn instant(claim: Option<&Json<'_>>, name: &'static str) -> Result<Option<Timestamp>, TokenError> {
    let wrong = || {
        TokenError::BadClaims(match name {
            "`exp`" => "`exp` is not a number within range",
            "`nbf`" => "`nbf` is not a number within range",
            _ => "`iat` is not a number within range",
        })
    };
    let Some(claim) = claim else { return Ok(None) };
    let seconds = match claim.as_number().ok_or_else(wrong)? {
        Number::Natural(seconds) => seconds,
        Number::Negative(_) => 0,
        Number::Float(seconds) => whole_seconds(seconds).ok_or_else(wrong)?,
    };
    if seconds > SECONDS_MAX {
        return Err(wrong());
    }
    Ok(Some(Timestamp::from_unix_seconds(seconds)))
}

fn whole_seconds(seconds: f64) -> Option<u64> {
    if seconds <= 0.0 {
        return Some(0);
    }
    Duration::try_from_secs_f64(seconds.floor()).ok().map(|since| since.as_secs())
}

fn scopes(members: &Members<'_>, names: &[Arc<str>]) -> Result<ScopeSet, TokenError> {
    let wrong = TokenError::BadClaims("the scopes are not exact tokens");
    let texts: Vec<&str> = match names.iter().find_map(|name| members.get(&**name)) {
        None => Vec::new(),
        Some(Json::Text(text)) if text.is_empty() => Vec::new(),
        Some(Json::Text(text)) => text.split(' ').collect(),
        Some(Json::List(list)) => list.iter().map(Json::as_text).collect::<Option<_>>().ok_or_else(|| wrong.clone())?,
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) => return Err(wrong),
    };
    if texts.len() > SCOPES_MAX {
        return Err(TokenError::BadClaims("there are more than 256 scopes"));
    }
    let scopes: Vec<Scope> = texts.into_iter().map(Scope::parse).collect::<Result<_, _>>().map_err(|_outside| wrong)?;
    Ok(ScopeSet::new(scopes))
}

/// A claim that the issuer's entry maps to something; absent and null are the same.
fn named(members: &Members<'_>, name: Option<&str>) -> Result<Option<Arc<str>>, TokenError> {
    match name.and_then(|name| members.get(name)) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => {
            let text = value.as_text().filter(|text| is_plain(text)).ok_or(TokenError::BadClaims("a mapped claim is not a plain text"))?;
            Ok(Some(Arc::from(text)))
        }
    }
}

fn environment(members: &Members<'_>, name: Option<&str>) -> Result<Option<Environment>, TokenError> {
    match named(members, name)?.as_deref() {
        None => Ok(None),
        Some("live") => Ok(Some(Environment::Live)),
        Some("test") => Ok(Some(Environment::Test)),
        Some(_) => Err(TokenError::BadClaims("the environment is neither `live` nor `test`")),
    }
}

/// Our own tokens name their grant.
fn grant(members: &Members<'_>, managed: Managed) -> Result<Option<Arc<str>>, TokenError> {
    match (managed, members.get("gid").and_then(Json::as_text)) {
        (Managed::No | Managed::Yes, _) => Ok(None),
        (Managed::ByGrant, Some(id)) if is_handle_id(id) => Ok(Some(Arc::from(id))),
        (Managed::ByGrant, Some(_) | None) => Err(TokenError::BadClaims("`gid` does not name a grant")),
    }
}

fn token_id(claim: Option<&Json<'_>>, meaning: TokenId) -> Result<Option<Arc<str>>, TokenError> {
    let text = match claim {
        None => None,
        Some(claim) => Some(claim.as_text().ok_or(TokenError::BadClaims("`jti` is not a text"))?),
    };
    match (meaning, text) {
        (TokenId::Ignored, text) => Ok(text.filter(|text| is_plain(text)).map(Arc::from)),
        (TokenId::NamesKey, Some(text)) if is_key_id(text) => Ok(Some(Arc::from(text))),
        (TokenId::NamesKey, Some(_) | None) => Err(TokenError::BadClaims("`jti` does not name a key")),
    }
}

/// 1 to 128 visible ASCII characters: fit for a header and a counter.
fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
