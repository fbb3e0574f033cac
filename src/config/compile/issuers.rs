//! Whom we trust: the local store, issuers of JWTs, the mesh; and which of them shows its users bare.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::compile::Revision;
use crate::config::compile::limits;
use crate::config::compile::names;
use crate::config::compile::scopes;
use crate::config::compile::scopes::Declared;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::desk::shorten;
use crate::config::file::ConfigFile;
use crate::config::file::identity::AlgorithmFile;
use crate::config::file::identity::ClaimsFile;
use crate::config::file::identity::EnvironmentFile;
use crate::config::file::identity::ExemptionFile;
use crate::config::file::identity::IssuerFile;
use crate::config::file::identity::IssuerKeysFile;
use crate::config::file::identity::MeshFile;
use crate::config::file::identity::TokenIdFile;
use crate::config::outside::Contents;
use crate::jose::KeySet;
use crate::jose::KeySetError;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::rules::Algorithm;
use crate::model::rules::ClaimNames;
use crate::model::rules::Exemption;
use crate::model::rules::Issuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Managed;
use crate::model::rules::Mesh;
use crate::model::rules::PrincipalGrant;
use crate::model::rules::Source;
use crate::model::rules::TokenId;

const LOCAL: &str = "local";
const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

/// Every source of identities.
pub(super) struct Sources {
    pub(super) local: Source,
    pub(super) issuers: Vec<Issuer>,
    pub(super) mesh: Option<Mesh>,
}

pub(super) fn sources(
    desk: &mut Desk<'_>,
    root: &Spot,
    file: &ConfigFile,
    revision: &mut Revision,
    declared: &Declared<'_>,
) -> Option<Sources> {
    let names = source_names(desk, root, file);
    let bare = file.user_ids.bare.as_deref().unwrap_or(LOCAL);
    let known = || std::iter::once(LOCAL).chain(names.issuers.iter().map(String::as_str)).chain(names.mesh.as_deref());
    if !known().any(|name| name == bare) {
        desk.unknown_in(&root.key("issuers"), &root.key("user_ids").key("bare"), "source", bare, known());
    }
    let source =
        |name: &str| Source { name: SourceName::new(name), namespace: if name == bare { Namespace::Bare } else { Namespace::Named } };
    let mut seen = BTreeMap::new();
    let mut issuers = Vec::with_capacity(file.issuers.len());
    for (index, (written, name)) in file.issuers.iter().zip(&names.issuers).enumerate() {
        let spot = root.key("issuers").index(index);
        if file.issuer.as_ref().is_some_and(|own| own.url == written.issuer) {
            desk.error(&spot.key("issuer"), "this is our own `issuer.url`, whose tokens are trusted anyway");
        }
        if let Some(first) = seen.insert(written.issuer.as_str(), desk.line(&spot)) {
            desk.error(&spot.key("issuer"), format!("this issuer stands here twice, first in line {first}"));
        }
        issuers.extend(issuer(desk, &spot, written, source(name), file, revision));
    }
    let mesh = match (&file.mesh, &names.mesh) {
        (Some(written), Some(name)) => Some(mesh(desk, &root.key("mesh"), written, source(name), file, declared)),
        (Some(_) | None, _) => None,
    };
    (issuers.len() == file.issuers.len()).then(|| Sources { local: source(LOCAL), issuers, mesh })
}

struct SourceNames {
    /// One per issuer, in the file's order.
    issuers: Vec<String>,
    mesh: Option<String>,
}

fn source_names(desk: &mut Desk<'_>, root: &Spot, file: &ConfigFile) -> SourceNames {
    // `client` is the source of our own clients that act for themselves.
    let mut taken = BTreeSet::from([LOCAL.to_owned(), "client".to_owned()]);
    let mut issuers = Vec::with_capacity(file.issuers.len());
    for (index, issuer) in file.issuers.iter().enumerate() {
        let spot = root.key("issuers").index(index);
        let (name, spot) = match &issuer.name {
            Some(name) => (name.clone(), spot.key("name")),
            None => (derived_name(&issuer.issuer), spot),
        };
        claim(desk, &spot, &name, &mut taken);
        issuers.push(name);
    }
    let mesh = file.mesh.as_ref().map(|mesh| mesh.name.clone().unwrap_or_else(|| "mesh".to_owned()));
    if let Some(name) = &mesh {
        claim(desk, &root.key("mesh").key("name"), name, &mut taken);
    }
    SourceNames { issuers, mesh }
}

fn claim(desk: &mut Desk<'_>, spot: &Spot, name: &str, taken: &mut BTreeSet<String>) {
    if !names::is_small_name(name) {
        let wrong = format!("`{}` is no source name", shorten(name));
        desk.error_expecting(spot, wrong, "a `name` of 1 to 32 of `a-z 0-9 -`");
    }
    if !taken.insert(name.to_owned()) {
        desk.error_hinting(
            spot,
            format!("two sources have the name `{}`", shorten(name)),
            "give each a `name` of its own; `local` is the store's",
        );
    }
}

/// `micro` is `micro`, `https://id.example.com/realm` is `id-example-com`.
fn derived_name(issuer: &str) -> String {
    let without_scheme = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    let host = without_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    host.to_ascii_lowercase().replace(['.', ':'], "-")
}

fn issuer(
    desk: &mut Desk<'_>,
    spot: &Spot,
    written: &IssuerFile,
    source: Source,
    file: &ConfigFile,
    revision: &mut Revision,
) -> Option<Issuer> {
    if written.issuer.is_empty() || written.issuer.len() > 512 || written.issuer.chars().any(char::is_control) {
        desk.error_expecting(&spot.key("issuer"), "this is no issuer", "the exact `iss` of its tokens, 1 to 512 characters");
    }
    if written.audience.0.is_empty() || written.audience.0.iter().any(String::is_empty) {
        desk.error_expecting(&spot.key("audience"), "the audience is empty", "what its tokens for us name in `aud`");
    }
    if let Some(tier) = &written.tier {
        limits::known_tier(desk, &spot.key("tier"), tier, file);
    }
    if written.max_lifetime.is_some_and(|bound| bound.0 < Duration::from_secs(1)) {
        desk.error_expecting(&spot.key("max_lifetime"), "every token would be refused", "at least `1s`");
    }
    if written.token_type.as_deref().is_some_and(str::is_empty) {
        desk.error(&spot.key("token_type"), "the type is empty");
    }
    if written.managed == Some(true) && matches!(written.token_id, Some(TokenIdFile::NamesKey)) {
        desk.error_expecting(
            &spot.key("token_id"),
            "keys are local users', and the users of a managed issuer are others",
            "`ignored`, or an issuer that is not `managed`",
        );
    }
    let algorithms = algorithms(desk, &spot.key("algorithms"), written);
    let keys = keys(desk, &spot.key("keys"), &written.keys, &algorithms, revision);
    let claims = claims(desk, &spot.key("claims"), &written.claims);
    Some(Issuer {
        source,
        issuer: Arc::from(written.issuer.as_str()),
        audience: written.audience.0.iter().map(|audience| Arc::from(audience.as_str())).collect(),
        algorithms,
        keys: keys?,
        claims,
        token_type: written.token_type.as_deref().map(Arc::from),
        managed: if written.managed == Some(true) { Managed::Yes } else { Managed::No },
        max_lifetime: written.max_lifetime.map(|bound| bound.0),
        tier: written.tier.as_deref().map(Arc::from),
        environment: environment(written.environment),
        token_id: match written.token_id {
            Some(TokenIdFile::NamesKey) => TokenId::NamesKey,
            Some(TokenIdFile::Ignored) | None => TokenId::Ignored,
        },
    })
}

pub(super) fn environment(written: Option<EnvironmentFile>) -> Environment {
    match written {
        Some(EnvironmentFile::Test) => Environment::Test,
        Some(EnvironmentFile::Live) | None => Environment::Live,
    }
}

/// Shared secrets and public keys never serve one issuer: a public key used as a secret is an old attack.
fn algorithms(desk: &mut Desk<'_>, spot: &Spot, written: &IssuerFile) -> Vec<Algorithm> {
    let secret = written.keys.hmac_secret.is_some();
    if written.algorithms.is_empty() {
        return if secret { vec![Algorithm::Hs256] } else { vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] };
    }
    let mut algorithms = Vec::with_capacity(written.algorithms.len());
    for (index, written) in written.algorithms.iter().enumerate() {
        let (algorithm, keyed) = match written {
            AlgorithmFile::Hs256 => (Algorithm::Hs256, true),
            AlgorithmFile::Hs384 => (Algorithm::Hs384, true),
            AlgorithmFile::Hs512 => (Algorithm::Hs512, true),
            AlgorithmFile::Rs256 => (Algorithm::Rs256, false),
            AlgorithmFile::Rs384 => (Algorithm::Rs384, false),
            AlgorithmFile::Rs512 => (Algorithm::Rs512, false),
            AlgorithmFile::Ps256 => (Algorithm::Ps256, false),
            AlgorithmFile::Es256 => (Algorithm::Es256, false),
            AlgorithmFile::Es384 => (Algorithm::Es384, false),
            AlgorithmFile::EdDsa => (Algorithm::EdDsa, false),
        };
        if keyed != secret {
            let expected = if secret { "HS256, HS384 or HS512 with `hmac_secret`" } else { "no HS algorithm with public keys" };
            desk.error_expecting(&spot.index(index), "this algorithm does not go with the keys", expected);
        }
        if algorithms.contains(&algorithm) {
            desk.error(&spot.index(index), "this algorithm stands here twice");
        }
        algorithms.push(algorithm);
    }
    algorithms
}

/// A set of public keys, or anything in its place where it is elsewhere.
fn public_keys(
    contents: &Contents,
    algorithms: &[Algorithm],
    read: fn(&[u8], &[Algorithm]) -> Result<KeySet, KeySetError>,
) -> Result<KeySet, KeySetError> {
    if contents.is_stand_in { KeySet::from_hmac_secret(&contents.bytes, &[Algorithm::Hs256]) } else { read(&contents.bytes, algorithms) }
}

fn keys(
    desk: &mut Desk<'_>,
    spot: &Spot,
    written: &IssuerKeysFile,
    algorithms: &[Algorithm],
    revision: &mut Revision,
) -> Option<IssuerKeys> {
    if written.refresh.is_some() && written.jwks_url.is_none() {
        desk.error(&spot.key("refresh"), "`refresh` goes with `jwks_url`; files are watched anyway");
    }
    let fixed = |made: Result<KeySet, KeySetError>| made.map(|keys| IssuerKeys::Fixed(Arc::new(keys)));
    let (spot, made) = match (&written.jwks_url, &written.jwks_file, &written.pem_file, &written.hmac_secret) {
        (Some(url), None, None, None) => return from_url(desk, spot, url, written),
        (None, Some(path), None, None) => {
            let spot = spot.key("jwks_file");
            let contents = desk.read(&spot, path)?;
            revision.add("jwks", &contents.bytes);
            (spot, fixed(public_keys(&contents, algorithms, KeySet::from_jwks)))
        }
        (None, None, Some(path), None) => {
            let spot = spot.key("pem_file");
            let contents = desk.read(&spot, path)?;
            revision.add("pem", &contents.bytes);
            (spot, fixed(public_keys(&contents, algorithms, KeySet::from_pem)))
        }
        (None, None, None, Some(place)) => {
            let spot = spot.key("hmac_secret");
            let secret = desk.secret(&spot, place)?;
            revision.add_secret("hmac", &secret);
            (spot, fixed(KeySet::from_hmac_secret(&secret, algorithms)))
        }
        _ => {
            desk.missing(spot, "exactly one of `jwks_url`, `jwks_file`, `pem_file` and `hmac_secret` must be given");
            return None;
        }
    };
    match made {
        Ok(keys) => Some(keys),
        Err(error) => {
            desk.error(&spot, error.to_string());
            None
        }
    }
}

fn from_url(desk: &mut Desk<'_>, spot: &Spot, url: &str, written: &IssuerKeysFile) -> Option<IssuerKeys> {
    let refresh = written.refresh.map_or(DEFAULT_REFRESH, |period| period.0);
    if !(Duration::from_secs(10)..=Duration::from_secs(86_400)).contains(&refresh) {
        desk.error_expecting(&spot.key("refresh"), "this period is out of bounds", "`10s` to `1d`");
    }
    let spot = spot.key("jwks_url");
    let parsed = url.parse::<http::Uri>().ok();
    let scheme = parsed.as_ref().and_then(http::Uri::scheme_str);
    let host = parsed.as_ref().and_then(http::Uri::host);
    match (scheme, host) {
        // User information in a URL is a secret in the file.
        (Some("https" | "http"), Some(_)) if url.contains('@') => {
            desk.error(&spot, "a URL with a user or password in it is a secret in the file");
            None
        }
        (Some("https"), Some(_)) => Some(IssuerKeys::Url { url: Arc::from(url), refresh }),
        (Some("http"), Some(host)) if is_loopback(host) => Some(IssuerKeys::Url { url: Arc::from(url), refresh }),
        (Some("http"), Some(_)) => {
            desk.error_expecting(
                &spot,
                "whoever is on the way could replace keys fetched over plain http",
                "https (http on loopback only)",
            );
            None
        }
        (Some(_) | None, _) => {
            desk.error_expecting(&spot, "this is no URL of a key set", "https://host/path");
            None
        }
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn claims(desk: &mut Desk<'_>, spot: &Spot, written: &ClaimsFile) -> ClaimNames {
    let singles = [
        ("user", &written.user),
        ("org", &written.org),
        ("tier", &written.tier),
        ("environment", &written.environment),
        ("client", &written.client),
    ];
    for (key, name) in singles {
        if name.as_deref().is_some_and(|name| !is_claim(name)) {
            desk.error_expecting(&spot.key(key), "this is no claim", "1 to 128 characters");
        }
    }
    let scopes = match &written.scopes {
        Some(several) => several.0.clone(),
        None => vec!["scope".to_owned(), "scp".to_owned()],
    };
    if !scopes.iter().all(|name| is_claim(name)) {
        desk.error_expecting(&spot.key("scopes"), "this is no claim", "1 to 128 characters");
    }
    let name = |written: &Option<String>| written.as_deref().map(Arc::from);
    ClaimNames {
        user: name(&written.user).unwrap_or_else(|| Arc::from("sub")),
        scopes: scopes.iter().map(|scope| Arc::from(scope.as_str())).collect(),
        organization: name(&written.org),
        tier: name(&written.tier),
        environment: name(&written.environment),
        client: Some(name(&written.client).unwrap_or_else(|| Arc::from("client_id"))),
    }
}

fn is_claim(name: &str) -> bool {
    (1..=128).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn mesh(desk: &mut Desk<'_>, spot: &Spot, written: &MeshFile, source: Source, file: &ConfigFile, declared: &Declared<'_>) -> Mesh {
    let domain = &written.trust_domain;
    let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    if !(1..=255).contains(&domain.len()) || !domain.bytes().all(in_domain) {
        desk.error_expecting(&spot.key("trust_domain"), "this is no trust domain", "a name such as `cluster.local`");
    }
    let prefix = format!("spiffe://{domain}/");
    let mut principals = BTreeMap::new();
    for (principal, granted) in &written.principals {
        let spot = spot.key("principals").key(principal);
        let path = principal.strip_prefix(&prefix);
        let whole = |path: &str| !path.is_empty() && path.len() <= 2_048 && path.bytes().all(|byte| byte.is_ascii_graphic());
        if !path.is_some_and(whole) {
            desk.error_expecting(&spot, "this is no principal of the trust domain", format!("`{prefix}…`, without wildcards"));
        }
        if path.is_some_and(|path| path.contains('*')) {
            desk.error(&spot, "principals are compared byte for byte; there are no wildcards");
        }
        if let Some(tier) = &granted.tier {
            limits::known_tier(desk, &spot.key("tier"), tier, file);
        }
        if granted.organization.as_deref().is_some_and(|organization| !names::is_visible(organization)) {
            desk.error_expecting(&spot.key("organization"), "this is no organisation", "1 to 128 visible ASCII characters");
        }
        let grant = PrincipalGrant {
            scopes: scopes::held(desk, &spot.key("scopes"), &granted.scopes, declared),
            tier: granted.tier.as_deref().map(Arc::from),
            organization: granted.organization.as_deref().map(Arc::from),
            limits: match granted.limits {
                Some(ExemptionFile::Exempt) => Exemption::Exempt,
                Some(ExemptionFile::Limited) | None => Exemption::Limited,
            },
        };
        principals.insert(Arc::from(principal.as_str()), grant);
    }
    Mesh { source, trust_domain: Arc::from(domain.as_str()), principals }
}
