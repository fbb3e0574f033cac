//! What the members of bodies may be, each with the sentence that says so.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::issuer::input::Change;
use crate::issuer::input::Fields;
use crate::issuer::input::Value;
use crate::issuer::problem::Problem;
use crate::model::account::Role;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::client::CLIENT_ID_PREFIX;
use crate::model::rules::Rules;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// Whether a text could be the id of a record that we named: what is not never reaches a record's name.
pub(in crate::issuer) use crate::secrets::is_random_id as is_record_id;

/// Scopes of one key or user.
const SCOPES_MAX: usize = 128;

pub(in crate::issuer) const NAME: &str = "must be a text of 1 to 255 characters without control characters";
pub(in crate::issuer) const SUBJECT: &str = "must be a text of 1 to 128 visible ASCII characters without space";
pub(in crate::issuer) const SCOPES: &str =
    "must be a list of up to 128 scopes, each of 1 to 128 visible ASCII characters without quote or backslash";
pub(in crate::issuer) const ENVIRONMENT: &str = "must be \"live\" or \"test\"";
pub(in crate::issuer) const RATE_LIMIT: &str = "must be a whole number from 1 to 1000000, requests per minute";
pub(in crate::issuer) const INSTANT: &str = "must be a time such as \"2027-01-31T00:00:00Z\"";
pub(in crate::issuer) const LENGTH: &str = "must be a length of time such as \"90d\", \"12h\", \"30m\" or \"0s\"";
pub(in crate::issuer) const TRUTH: &str = "must be true or false";
pub(in crate::issuer) const ACCOUNT_NAME: &str = "must be a free name of 1 to 64 of `a-z 0-9 . _ @ + -`";
pub(in crate::issuer) const ROLE: &str = "must be \"admin\" or \"member\"";
pub(in crate::issuer) const PHONE: &str = "must be a number such as \"+49 30 1234567\": `+`, the country, then 7 to 15 digits in all";
pub(in crate::issuer) const EMAIL: &str = "must be an e-mail address of at most 254 characters";
pub(in crate::issuer) const SHA256: &str = "must be 64 hex digits, the SHA-256 of the key's text";

pub(in crate::issuer) const NETWORKS: &str = "must be a list of up to 32 networks such as \"10.0.0.0/8\" or addresses";
pub(in crate::issuer) const METADATA: &str =
    "must be an object of up to 16 texts of up to 255 characters, under names of 1 to 64 of a-z A-Z 0-9 _ . -";
pub(in crate::issuer) const TAGS: &str = "must be a list of up to 16 texts of 1 to 64 characters without control characters";

pub(in crate::issuer) fn name(value: &Value) -> Option<Arc<str>> {
    plain_name(text(value)?)
}

/// What may be shown as somebody's or something's name.
pub(in crate::issuer) fn plain_name(text: &str) -> Option<Arc<str>> {
    ((1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control)).then(|| Arc::from(text))
}

pub(in crate::issuer) fn role(value: &Value) -> Option<Role> {
    [Role::Admin, Role::Member].into_iter().find(|role| text(value) == Some(role.as_str()))
}

/// Names that would read as somebody they are not.
const RESERVED_NAMES: [&str; 10] =
    ["anonymous", "admin", "administrator", "local", "nobody", "operator", "root", "system", "tollgate", "__other__"];

/// The longest name of an account.
pub(in crate::issuer) const ACCOUNT_NAME_CHARACTERS_MAX: usize = 64;

/// Whether a text has the form of an account's name, whoever has it.
pub(in crate::issuer) fn is_account_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    (1..=ACCOUNT_NAME_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The name under which an account signs up and in, folded to lower case.
pub(in crate::issuer) fn account_name(text: &str) -> Option<Subject> {
    if !is_account_name(text) {
        return None;
    }
    let folded = text.to_ascii_lowercase();
    let is_reserved = folded.starts_with(CLIENT_ID_PREFIX) || RESERVED_NAMES.contains(&&*folded);
    if is_reserved { None } else { Subject::parse(&folded).ok() }
}

/// A number as E.164 writes it: `+` and 7 to 15 digits, the first of them not zero. Spaces, dots, hyphens and brackets are left out.
pub(in crate::issuer) fn phone(text: &str) -> Option<Arc<str>> {
    if text.len() > 40 {
        return None;
    }
    let kept: String = text.chars().filter(|character| !" .-()".contains(*character)).collect();
    let digits = kept.strip_prefix('+')?;
    let is_number = (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    is_number.then(|| Arc::from(kept.as_str()))
}

/// An e-mail address, as far as its form tells.
pub(in crate::issuer) fn email(text: &str) -> Option<Arc<str>> {
    let (local, domain) = text.rsplit_once('@')?;
    let is_whole = !local.is_empty() && !domain.is_empty() && text.len() <= 254;
    let is_plain = !text.chars().any(|character| character.is_whitespace() || character.is_control());
    (is_whole && is_plain).then(|| Arc::from(text))
}

pub(in crate::issuer) fn subject(value: &Value) -> Option<Subject> {
    Subject::parse(text(value)?).ok()
}

/// Organisations travel in headers, so they keep to a subject's grammar.
pub(in crate::issuer) fn organization(value: &Value) -> Option<Arc<str>> {
    subject(value).map(|subject| Arc::from(subject.as_str()))
}

pub(in crate::issuer) fn scopes(value: &Value) -> Option<Arc<ScopeSet>> {
    let Value::List(items) = value else { return None };
    if items.len() > SCOPES_MAX {
        return None;
    }
    let scopes: Option<Vec<Scope>> = items.iter().map(|item| Scope::parse(text(item)?).ok()).collect();
    scopes.map(|scopes| Arc::new(ScopeSet::new(scopes)))
}

pub(in crate::issuer) fn environment(value: &Value) -> Option<Environment> {
    match text(value)? {
        "live" => Some(Environment::Live),
        "test" => Some(Environment::Test),
        _ => None,
    }
}

pub(in crate::issuer) fn rate_limit(value: &Value) -> Option<u32> {
    match value {
        Value::Number(Some(number)) => u32::try_from(*number).ok().filter(|number| (1..=1_000_000).contains(number)),
        Value::Null | Value::Bool(_) | Value::Number(None) | Value::Text(_) | Value::List(_) | Value::Object(_) => None,
    }
}

pub(in crate::issuer) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => None,
    }
}

pub(in crate::issuer) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => None,
    }
}

pub(in crate::issuer) fn instant(value: &Value) -> Option<Timestamp> {
    read_instant(text(value)?)
}

pub(in crate::issuer) fn read_instant(text: &str) -> Option<Timestamp> {
    if text.len() > 40 {
        return None;
    }
    let instant: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(instant.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

pub(in crate::issuer) fn length(value: &Value) -> Option<Duration> {
    read_length(text(value)?)
}

/// A whole number and one unit, at most a hundred years.
pub(in crate::issuer) fn read_length(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 10 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (total <= 36_525 * 86_400).then_some(Duration::from_secs(total))
}

pub(in crate::issuer) fn networks(value: &Value) -> Option<Vec<IpNet>> {
    let Value::List(items) = value else { return None };
    let read = |item| {
        let text = text(item).filter(|text| text.len() <= 64)?;
        text.parse().or_else(|_error| text.parse::<IpAddr>().map(IpNet::from)).ok().map(|network: IpNet| network.trunc())
    };
    (items.len() <= 32).then(|| items.iter().map(read).collect())?
}

pub(in crate::issuer) fn metadata(value: &Value) -> Option<BTreeMap<String, String>> {
    let Value::Object(members) = value else { return None };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let read = |(name, value): (&String, &Value)| {
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(plain);
        let text = text(value).filter(|text| is_name && text.chars().count() <= 255 && !text.chars().any(char::is_control))?;
        Some((name.clone(), text.to_owned()))
    };
    (members.len() <= 16).then(|| members.iter().map(read).collect())?
}

pub(in crate::issuer) fn tags(value: &Value) -> Option<Vec<String>> {
    let Value::List(items) = value else { return None };
    let is_tag = |text: &&str| (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let tags: BTreeSet<String> = items.iter().map(|item| text(item).filter(is_tag).map(str::to_owned)).collect::<Option<_>>()?;
    (items.len() <= 16).then(|| tags.into_iter().collect())
}

/// A tier that the config knows, so that a misspelt one is not silently the default.
pub(in crate::issuer) fn tier(fields: &mut Fields, rules: &Rules) -> Result<Change<Arc<str>>, Problem> {
    let known: Vec<&str> = rules.tiers.keys().map(|name| &**name).collect();
    let expected = if known.is_empty() {
        "must be absent: the config has no tiers".to_owned()
    } else {
        format!("must be one of: {}", known.join(", "))
    };
    fields.change(
        "tier",
        |value| text(value).and_then(|name| rules.tiers.get_key_value(name)).map(|(name, _tier)| Arc::clone(name)),
        expected,
    )
}

/// An API version that the config knows.
pub(in crate::issuer) fn version(fields: &mut Fields, rules: &Rules) -> Result<Change<Arc<str>>, Problem> {
    let known: Vec<Arc<str>> =
        rules.api_versions.iter().flat_map(|versions| &versions.versions).map(|version| Arc::clone(&version.name)).collect();
    let expected = if known.is_empty() {
        "must be absent: the config has no api_versions".to_owned()
    } else {
        format!("must be one of: {}", known.join(", "))
    };
    fields.change("version", |value| text(value).and_then(|name| known.iter().find(|known| &***known == name)).cloned(), expected)
}

/// `expires_at` or `expires_in`; it must lie ahead.
pub(in crate::issuer) fn expiry(fields: &mut Fields, now: Timestamp) -> Result<Change<Timestamp>, Problem> {
    let at = fields.change("expires_at", instant, INSTANT)?;
    let after = fields.optional("expires_in", length, LENGTH)?;
    match (at, after) {
        (Change::Keep, None) => Ok(Change::Keep),
        (Change::Clear, None) => Ok(Change::Clear),
        (Change::Set(at), None) if at > now => Ok(Change::Set(at)),
        (Change::Keep, Some(after)) if !after.is_zero() => Ok(Change::Set(now.plus(after))),
        (Change::Set(_), None) => Err(fields.complaint("expires_at", "must lie in the future")),
        (Change::Keep, Some(_)) => Err(fields.complaint("expires_in", "must be longer than nothing")),
        (Change::Clear | Change::Set(_), Some(_)) => Err(fields.complaint("expires_in", "must be absent where `expires_at` is given")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_instants_are_read_strictly() {
        for (text, seconds) in [("0s", 0), ("90d", 7_776_000), ("12h", 43_200), ("5m", 300)] {
            assert_eq!(read_length(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "d", "1", "-1d", "+1d", "1.5h", "1w", " 1d", "1d ", "99999999999s", "36526d", "1\u{e4}", "\u{1f600}"] {
            assert_eq!(read_length(bad), None, "{bad}");
        }
        assert_eq!(read_instant("1970-01-01T00:00:01Z"), Some(Timestamp::from_unix_seconds(1)));
        assert_eq!(read_instant("1970-01-01T01:00:01+01:00"), Some(Timestamp::from_unix_seconds(1)));
        for bad in ["", "tomorrow", "1969-12-31T23:59:59Z", "2027-01-31", "2027-13-01T00:00:00Z", "2027-01-31T00:00:00"] {
            assert_eq!(read_instant(bad), None, "{bad}");
        }
    }
}
