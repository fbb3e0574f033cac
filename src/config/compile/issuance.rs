//! What this deployment issues itself, and the trust in its own tokens that follows from it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::compile::Revision;
use crate::config::compile::doors::period;
use crate::config::compile::error_format;
use crate::config::compile::issuers;
use crate::config::compile::limits;
use crate::config::compile::providers::is_web;
use crate::config::compile::providers::providers;
use crate::config::compile::scopes;
use crate::config::compile::scopes::Declared;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::file::ConfigFile;
use crate::config::file::issuance::CapsFile;
use crate::config::file::issuance::CompatibilityFile;
use crate::config::file::issuance::FirstKeyFile;
use crate::config::file::issuance::LifetimesFile;
use crate::config::file::issuance::PasswordsFile;
use crate::config::file::issuance::PhoneFile;
use crate::config::file::issuance::RegistrationFile;
use crate::config::file::issuance::ResourceFile;
use crate::config::file::issuance::SignOutFile;
use crate::config::file::issuance::SignUpFile;
use crate::config::file::issuance::SigningFile;
use crate::config::file::scalars::Whole;
use crate::model::caller::Environment;
use crate::model::issuance::Caps;
use crate::model::issuance::Compatibility;
use crate::model::issuance::FirstKey;
use crate::model::issuance::Issuance;
use crate::model::issuance::Lifetimes;
use crate::model::issuance::Passwords;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::Registration;
use crate::model::issuance::Resource;
use crate::model::issuance::SignOut;
use crate::model::issuance::SignUp;
use crate::model::rules::Algorithm;
use crate::model::rules::ClaimNames;
use crate::model::rules::Issuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Managed;
use crate::model::rules::Source;
use crate::model::rules::TokenId;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;

const LEAST_TOKEN_BYTES: usize = 16;

/// What a new organisation's first user holds beside the catalogue.
const ADMIN_SCOPES: [&str; 3] = ["tollgate:keys", "tollgate:users", "tollgate:usage"];

pub(super) fn issuance(
    desk: &mut Desk<'_>,
    root: &Spot,
    file: &ConfigFile,
    revision: &mut Revision,
    declared: &Declared<'_>,
) -> Option<Issuance> {
    let spot = root.key("issuer");
    let Some(written) = &file.issuer else {
        if file.listen.issuer.is_some() {
            desk.missing(&root.key("listen").key("issuer"), "`issuer` must say what is issued there, at least its `url` and `resources`");
        }
        return None;
    };
    url(desk, &spot.key("url"), &written.url);
    let catalogue = catalogue(desk, &spot.key("scopes"), &written.scopes, declared);
    let resources = resources(desk, &spot.key("resources"), &written.resources, &catalogue);
    let lifetimes = lifetimes(desk, &spot.key("lifetimes"), &written.lifetimes);
    let admin_rights = rights(desk, &spot.key("admin_rights"), written.admin_rights.as_deref(), &catalogue, &ADMIN_SCOPES, declared);
    let member_rights = rights(desk, &spot.key("member_rights"), written.member_rights.as_deref(), &catalogue, &[], declared);
    if let Some(tier) = &written.tier {
        limits::known_tier(desk, &spot.key("tier"), tier, file);
    }
    let passwords = passwords(written.passwords);
    let caps = caps(written.caps);
    let providers = providers(desk, &spot.key("providers"), &written.providers, revision);
    let compatibility = compatibility(desk, &spot.key("compatibility"), &written.compatibility);
    let registration = registration(desk, &spot.key("registration"), written.registration.as_ref(), revision);
    if let Some(home) = written.home.as_deref().filter(|home| !is_local_path(home) && !is_web(home)) {
        desk.error_expecting(&spot.key("home"), format!("`{}` is no page", home.escape_debug()), "an https URL, or a path of our own");
    }
    Some(Issuance {
        url: Arc::from(written.url.as_str()),
        name: name(desk, &spot.key("name"), written.name.as_deref(), &written.url),
        resources,
        scopes: catalogue,
        lifetimes,
        algorithm: match written.algorithm {
            Some(SigningFile::Rs256) => Algorithm::Rs256,
            Some(SigningFile::EdDsa) | None => Algorithm::EdDsa,
        },
        sign_out: match written.sign_out {
            Some(SignOutFile::Session) | None => SignOut::Session,
            Some(SignOutFile::Grants) => SignOut::Grants,
        },
        sign_up: match written.sign_up {
            Some(SignUpFile::Open) => SignUp::Open,
            Some(SignUpFile::Invited) | None => SignUp::Invited,
            Some(SignUpFile::Closed) => SignUp::Closed,
        },
        phone: match written.phone {
            Some(PhoneFile::Required) => PhoneRule::Required,
            Some(PhoneFile::Optional) | None => PhoneRule::Optional,
            Some(PhoneFile::Off) => PhoneRule::Off,
        },
        first_key: written.first_key.as_ref().map(|key| first_key(desk, &spot.key("first_key"), key, &member_rights, declared)),
        admin_rights,
        member_rights,
        tier: written.tier.as_deref().map(Arc::from),
        passwords,
        caps,
        providers,
        registration: registration?,
        compatibility,
        errors: error_format(written.errors.or(file.errors)),
        trusted_hops: Whole::or(written.trusted_hops, 0),
        home: written.home.as_deref().map(Arc::from),
    })
}

/// Our own tokens are trusted as an issuer's are, with the keys of our own ring; what they open is judged by the grant that they name.
pub(super) fn own_issuer(issuance: &Issuance, source: Source) -> Issuer {
    Issuer {
        source,
        issuer: Arc::clone(&issuance.url),
        audience: issuance.resources.iter().map(|resource| Arc::clone(&resource.uri)).collect(),
        algorithms: vec![Algorithm::Rs256, Algorithm::EdDsa],
        keys: IssuerKeys::Own,
        claims: ClaimNames {
            user: Arc::from("sub"),
            scopes: vec![Arc::from("scope")],
            organization: None,
            tier: None,
            environment: None,
            client: Some(Arc::from("client_id")),
        },
        token_type: Some(Arc::from("at+jwt")),
        managed: Managed::ByGrant,
        max_lifetime: None,
        tier: None,
        environment: Environment::Live,
        token_id: TokenId::Ignored,
    }
}

fn url(desk: &mut Desk<'_>, spot: &Spot, url: &str) {
    if !is_issuer(url) {
        desk.error_expecting(
            spot,
            "this cannot be an issuer",
            "an https URL (http on loopback only) without query, fragment or a slash at the end, such as `https://id.example.com`",
        );
    }
}

/// What stands on every page: short, on one line.
fn name(desk: &mut Desk<'_>, spot: &Spot, written: Option<&str>, url: &str) -> Arc<str> {
    let Some(written) = written else {
        return Arc::from(host(url));
    };
    if written.trim().is_empty() || written.chars().count() > 64 || written.chars().any(char::is_control) {
        desk.error_expecting(spot, "this is no name", "1 to 64 characters");
    }
    Arc::from(written.trim())
}

fn host(url: &str) -> String {
    url.parse::<http::Uri>().ok().and_then(|parsed| parsed.host().map(str::to_owned)).unwrap_or_else(|| url.to_owned())
}

/// RFC 8414 section 2: no query and no fragment; and one spelling, so no slash at the end and no user information.
fn is_issuer(url: &str) -> bool {
    let parsed = url.parse::<http::Uri>().ok();
    let host = parsed.as_ref().and_then(http::Uri::host);
    let is_safe = match (parsed.as_ref().and_then(http::Uri::scheme_str), host) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => issuers::is_loopback(host),
        (Some(_) | None, _) => false,
    };
    is_safe
        && url.len() <= 512
        && !url.contains(['?', '#', '@', '\\'])
        && !url.ends_with('/')
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

fn catalogue(
    desk: &mut Desk<'_>,
    spot: &Spot,
    written: &BTreeMap<String, String>,
    declared: &Declared<'_>,
) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut catalogue = BTreeMap::new();
    for (scope, words) in written {
        let spot = spot.key(scope);
        match Scope::parse(scope) {
            Ok(parsed) if parsed.is_reserved() => desk.error(&spot, "no client is ever granted a `tollgate:` scope"),
            Ok(_) if scope.contains('*') => desk.error(&spot, "a person cannot judge a wildcard; name the scopes one by one"),
            Ok(parsed) => declared.check(desk, &spot, &parsed),
            Err(error) => desk.error(&spot, error.to_string()),
        }
        if words.trim().is_empty() || words.chars().count() > 200 || words.chars().any(char::is_control) {
            desk.error_expecting(&spot, "these are no words for a consent page", "1 to 200 characters");
        }
        catalogue.insert(Arc::from(scope.as_str()), Arc::from(words.as_str()));
    }
    catalogue
}

fn resources(desk: &mut Desk<'_>, spot: &Spot, written: &[ResourceFile], catalogue: &BTreeMap<Arc<str>, Arc<str>>) -> Vec<Resource> {
    if written.is_empty() {
        desk.missing(spot, "the list is empty; name what our tokens are for, such as `https://api.example.com`");
    }
    let mut seen = BTreeSet::new();
    let mut resources = Vec::with_capacity(written.len());
    for (index, resource) in written.iter().enumerate() {
        let spot = spot.index(index);
        if !is_resource(&resource.uri) {
            desk.error_expecting(&spot.key("uri"), "this is no resource", "an absolute URI without fragment (RFC 8707)");
        }
        if !seen.insert(resource.uri.as_str()) {
            desk.error(&spot.key("uri"), "this resource stands here twice");
        }
        let scopes = resource.scopes.as_ref().map(|scopes| {
            let spot = spot.key("scopes");
            for (index, scope) in scopes.iter().enumerate() {
                if !catalogue.contains_key(scope.as_str()) {
                    desk.unknown(&spot.index(index), "scope of the issuer", scope, catalogue.keys().map(|scope| &**scope));
                }
            }
            Arc::new(ScopeSet::new(scopes.iter().filter_map(|scope| Scope::parse(scope).ok())))
        });
        resources.push(Resource { uri: Arc::from(resource.uri.as_str()), scopes });
    }
    resources
}

/// RFC 8707 section 2.
fn is_resource(uri: &str) -> bool {
    let scheme = uri.split_once(':');
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    };
    (1..=512).contains(&uri.len())
        && uri.bytes().all(|byte| byte.is_ascii_graphic())
        && !uri.contains('#')
        && scheme.is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty())
}

fn lifetimes(desk: &mut Desk<'_>, spot: &Spot, written: &LifetimesFile) -> Lifetimes {
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);
    let seconds = Duration::from_secs;
    let lifetimes = Lifetimes {
        code: period(desk, &spot.key("code"), written.code, MINUTE, seconds(5)..=10 * MINUTE),
        access_token: period(desk, &spot.key("access_token"), written.access_token, 10 * MINUTE, MINUTE..=DAY),
        refresh_idle: period(desk, &spot.key("refresh_idle"), written.refresh_idle, 30 * DAY, HOUR..=366 * DAY),
        refresh_absolute: period(desk, &spot.key("refresh_absolute"), written.refresh_absolute, 366 * DAY, HOUR..=3_660 * DAY),
        refresh_window: period(desk, &spot.key("refresh_window"), written.refresh_window, seconds(10), seconds(0)..=MINUTE),
        key_token: period(desk, &spot.key("key_token"), written.key_token, HOUR, MINUTE..=DAY),
        key_token_absolute: period(desk, &spot.key("key_token_absolute"), written.key_token_absolute, DAY, MINUTE..=366 * DAY),
        session_idle: period(desk, &spot.key("session_idle"), written.session_idle, 12 * HOUR, MINUTE..=366 * DAY),
        session_absolute: period(desk, &spot.key("session_absolute"), written.session_absolute, 30 * DAY, MINUTE..=366 * DAY),
        invitation: period(desk, &spot.key("invitation"), written.invitation, 7 * DAY, MINUTE..=366 * DAY),
    };
    let pairs = [
        ("refresh_idle", lifetimes.refresh_idle, lifetimes.refresh_absolute),
        ("key_token", lifetimes.key_token, lifetimes.key_token_absolute),
        ("session_idle", lifetimes.session_idle, lifetimes.session_absolute),
    ];
    for (name, sliding, absolute) in pairs {
        if sliding > absolute {
            desk.error(&spot.key(name), "it would outlive its absolute end");
        }
    }
    lifetimes
}

fn rights(
    desk: &mut Desk<'_>,
    spot: &Spot,
    written: Option<&[String]>,
    catalogue: &BTreeMap<Arc<str>, Arc<str>>,
    beside: &[&str],
    declared: &Declared<'_>,
) -> Arc<ScopeSet> {
    match written {
        Some(written) => {
            for (index, scope) in written.iter().enumerate() {
                if matches!(scope.as_str(), "tollgate:admin" | "tollgate:unlimited") {
                    desk.error(&spot.index(index), "who signs up never gets this scope; an operator may give it to single users");
                }
            }
            scopes::held(desk, spot, written, declared)
        }
        None => {
            let all = catalogue.keys().map(|scope| &**scope).chain(beside.iter().copied());
            Arc::new(ScopeSet::new(all.filter_map(|scope| Scope::parse(scope).ok())))
        }
    }
}

fn first_key(desk: &mut Desk<'_>, spot: &Spot, written: &FirstKeyFile, rights: &Arc<ScopeSet>, declared: &Declared<'_>) -> FirstKey {
    let name = written.name.as_deref().unwrap_or("first");
    if name.trim().is_empty() || name.chars().count() > 255 || name.chars().any(char::is_control) {
        desk.error_expecting(&spot.key("name"), "this is no name", "1 to 255 characters");
    }
    FirstKey {
        name: Arc::from(name),
        environment: issuers::environment(written.environment),
        scopes: match &written.scopes {
            Some(written) => scopes::held(desk, &spot.key("scopes"), written, declared),
            None => Arc::new(rights.without_reserved()),
        },
    }
}

fn passwords(written: PasswordsFile) -> Passwords {
    Passwords {
        memory_kib: Whole::or(written.memory_kib, 19_456),
        iterations: Whole::or(written.iterations, 2),
        workers: Whole::or(written.workers, 1),
        waiting: Whole::or(written.waiting, 8),
        per_address: Whole::or(written.per_address, 30),
        per_account_and_address: Whole::or(written.per_account_and_address, 5),
    }
}

fn caps(written: CapsFile) -> Caps {
    Caps {
        keys: Whole::or(written.keys, 100),
        clients: Whole::or(written.clients, 20),
        sessions: Whole::or(written.sessions, 50),
        invitations: Whole::or(written.invitations, 100),
    }
}

fn registration(desk: &mut Desk<'_>, spot: &Spot, written: Option<&RegistrationFile>, revision: &mut Revision) -> Option<Registration> {
    let Some(written) = written else { return Some(Registration::Off) };
    match (written.open, &written.initial_access_token) {
        (Some(true), Some(_)) => {
            desk.error(spot, "registration is open to all, or to those with the token, not both");
            None
        }
        (Some(true), None) => Some(Registration::Open),
        (Some(false) | None, None) => Some(Registration::Off),
        (Some(false) | None, Some(place)) => {
            let spot = spot.key("initial_access_token");
            let secret: Zeroizing<Vec<u8>> = desk.secret(&spot, place)?;
            if secret.len() < LEAST_TOKEN_BYTES || !secret.iter().all(u8::is_ascii_graphic) {
                let wrong = format!("the token has {} bytes or cannot stand in a header", secret.len());
                desk.error_expecting(&spot, wrong, format!("at least {LEAST_TOKEN_BYTES} visible ASCII characters"));
            }
            revision.add_secret("registration", &secret);
            Some(Registration::WithToken(Arc::new(secret)))
        }
    }
}

fn compatibility(desk: &mut Desk<'_>, spot: &Spot, written: &[CompatibilityFile]) -> Vec<Compatibility> {
    let mut served = Vec::with_capacity(written.len());
    for (index, written) in written.iter().enumerate() {
        let compatibility = match written {
            CompatibilityFile::Generate => Compatibility::Generate,
            CompatibilityFile::AuthUsers => Compatibility::AuthUsers,
            CompatibilityFile::JsonToken => Compatibility::JsonToken,
            CompatibilityFile::GetToken => Compatibility::GetToken,
            CompatibilityFile::Tinyoauth => Compatibility::Tinyoauth,
        };
        if served.contains(&compatibility) {
            desk.error(&spot.index(index), "this stands here twice");
        }
        served.push(compatibility);
    }
    served
}

/// A path of our own: one slash, and never two, which a browser takes for another host.
fn is_local_path(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.contains('\\') && path.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_without_a_name_show_the_host() {
        for (url, shown) in [("https://id.example.com:8443/tenant", "id.example.com"), ("http://[::1]:8080", "[::1]")] {
            assert_eq!(host(url), shown);
        }
    }

    // oauth: D4
    #[test]
    fn an_issuer_is_https_without_query_or_fragment() {
        for good in [
            "https://id.example.com",
            "https://id.example.com:8443/tenant",
            "http://127.0.0.1:8080",
            "http://localhost:1",
            "http://[::1]:1/a",
        ] {
            assert!(is_issuer(good), "{good}");
        }
        let long = format!("https://id.example.com/{}", "a".repeat(512));
        for bad in [
            "",
            "id.example.com",
            "/id",
            "http://id.example.com",
            "ftp://id.example.com",
            "https://",
            "https://id.example.com/",
            "https://id.example.com?a=b",
            "https://id.example.com/?",
            "https://id.example.com#f",
            "https://user@id.example.com",
            "https://id.example.com\\a",
            "https://id.example.com/\u{e9}",
            "https://id.example.com/a b",
            "http://127.0.0.1.example.com",
            "javascript:alert(1)",
            &long,
        ] {
            assert!(!is_issuer(bad), "{bad}");
        }
    }
}
