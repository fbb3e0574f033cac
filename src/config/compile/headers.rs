//! Where credentials come from, and what goes upstream about the caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::desk::shorten;
use crate::config::file::ConfigFile;
use crate::config::file::identity::AssertionFile;
use crate::config::file::identity::AssertionPrefix;
use crate::model::api_version::ApiVersions;
use crate::model::rules::Assertion;
use crate::model::rules::IdentityHeader;
use crate::model::rules::IdentityPart;
use crate::model::rules::IdentityValue;
use crate::model::rules::Place;

/// Headers that belong to one connection, or to the message's own framing.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const VALUES: [(&str, IdentityValue); 10] = [
    ("user", IdentityValue::User),
    ("subject", IdentityValue::Subject),
    ("source", IdentityValue::Source),
    ("issuer", IdentityValue::Issuer),
    ("org", IdentityValue::Organization),
    ("key", IdentityValue::Key),
    ("client", IdentityValue::Client),
    ("scopes", IdentityValue::Scopes),
    ("tier", IdentityValue::Tier),
    ("environment", IdentityValue::Environment),
];

const DEFAULT_IDENTITY_HEADERS: [(&str, &str); 6] = [
    ("user", "{user}"),
    ("x-key-id", "{key}"),
    ("x-org-id", "{org}"),
    ("x-scopes", "{scopes}"),
    ("x-tier", "{tier}"),
    ("x-user-id", "{user}"),
];

/// The places of credentials, in order.
pub(super) fn places(desk: &mut Desk<'_>, spot: &Spot, file: &ConfigFile) -> Vec<Place> {
    let Some(written) = &file.credentials else {
        let place = |header: &str, scheme: Option<&str>| Place { header: Arc::from(header), scheme: scheme.map(Arc::from) };
        return vec![place("authorization", Some("Bearer")), place("x-api-key", None), place("x-authorization", Some("Agent"))];
    };
    if written.is_empty() && file.mesh.is_none() {
        desk.missing(spot, "the list is empty and there is no `mesh`: nobody could show a credential");
    }
    let mut places: Vec<Place> = Vec::with_capacity(written.len());
    for (index, place) in written.iter().enumerate() {
        let spot = spot.index(index);
        let Some(header) = header_name(desk, &spot.key("header"), &place.header) else { continue };
        let scheme = place.scheme.as_deref();
        if scheme.is_some_and(|scheme| !is_token(scheme)) {
            desk.error_expecting(&spot.key("scheme"), "this is no authentication scheme", "one word such as `Bearer`");
        }
        let same = |other: &Place| {
            other.header == header && other.scheme.as_deref().map(str::to_ascii_lowercase) == scheme.map(str::to_ascii_lowercase)
        };
        if places.iter().any(same) {
            desk.error(&spot, "this place stands in the list twice");
        }
        places.push(Place { header, scheme: scheme.map(Arc::from) });
    }
    places
}

/// The upstream assertion.
pub(super) fn assertion(desk: &mut Desk<'_>, spot: &Spot, file: Option<&AssertionFile>) -> Option<Assertion> {
    let file = file?;
    let header = match &file.header {
        Some(name) => header_name(desk, &spot.key("header"), name),
        None => Some(Arc::from("x-tollgate-assertion")),
    };
    if file.issuer.is_empty() {
        desk.error(&spot.key("issuer"), "the issuer is empty");
    }
    if file.audience.0.is_empty() || file.audience.0.iter().any(String::is_empty) {
        desk.error(&spot.key("audience"), "the audience is empty");
    }
    let lifetime = file.lifetime.map_or(Duration::from_secs(300), |period| period.0);
    if !(Duration::from_secs(10)..=Duration::from_secs(3_600)).contains(&lifetime) {
        desk.error_expecting(&spot.key("lifetime"), "this lifetime is out of bounds", "`10s` to `1h`");
    }
    let header = header?;
    Some(Assertion {
        header,
        prefix: match file.prefix {
            Some(AssertionPrefix::Bearer) => Arc::from("Bearer "),
            Some(AssertionPrefix::None) | None => Arc::from(""),
        },
        issuer: Arc::from(file.issuer.as_str()),
        audience: file.audience.0.iter().map(|audience| Arc::from(audience.as_str())).collect(),
        lifetime,
    })
}

/// The identity headers, sorted by name.
pub(super) fn identity_headers(
    desk: &mut Desk<'_>,
    root: &Spot,
    file: &ConfigFile,
    places: &[Place],
    assertion: Option<&Assertion>,
    versions: Option<&ApiVersions>,
) -> Vec<IdentityHeader> {
    let spot = root.key("identity_headers");
    let default: BTreeMap<String, String>;
    let written = match &file.identity_headers {
        Some(written) => written,
        None => {
            default = DEFAULT_IDENTITY_HEADERS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            &default
        }
    };
    let mut headers: Vec<IdentityHeader> = Vec::with_capacity(written.len());
    for (name, template) in written {
        let spot = spot.key(name);
        let value = identity_template(desk, &spot, template);
        let Some(name) = header_name(desk, &spot, name) else { continue };
        let taken = if name.starts_with("x-envoy-") {
            Some("Envoy gives `x-envoy-` headers a meaning of its own")
        } else if &*name == "x-request-id" {
            Some("`x-request-id` is Envoy's: it is read and never overwritten")
        } else if name.starts_with("x-forwarded-") {
            Some("`x-forwarded-` headers say who the client is")
        } else if places.iter().any(|place| place.header == name) {
            Some("credentials come in this header, and it is removed")
        } else if assertion.is_some_and(|assertion| assertion.header == name) {
            Some("`upstream_assertion` writes this header")
        } else if versions.is_some_and(|versions| versions.header == name) {
            Some("`api_versions` writes this header")
        } else {
            None
        };
        if let Some(why) = taken {
            desk.error_hinting(&spot, "this name cannot carry an identity", why);
        }
        if headers.iter().any(|header| header.name == name) {
            desk.error(&spot, format!("the header `{name}` stands here twice (names are compared without regard to case)"));
        }
        headers.push(IdentityHeader { name, value });
    }
    headers.sort_by(|left, right| left.name.cmp(&right.name));
    headers
}

fn identity_template(desk: &mut Desk<'_>, spot: &Spot, template: &str) -> Vec<IdentityPart> {
    let mut parts = Vec::new();
    let mut rest = template;
    if template.is_empty() || template.len() > 256 {
        desk.error_expecting(spot, "the template is empty or too long", "1 to 256 characters such as `{user}`");
    }
    if template.bytes().any(|byte| !(byte.is_ascii_graphic() || byte == b' ')) {
        desk.error(spot, "a header's value is visible ASCII");
    }
    while let Some((plain, after)) = rest.split_once('{') {
        let Some((name, next)) = after.split_once('}') else {
            desk.error(spot, "a brace is opened and not closed");
            return parts;
        };
        if !plain.is_empty() {
            parts.push(IdentityPart::Text(Arc::from(plain)));
        }
        match VALUES.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => parts.push(IdentityPart::Of(*value)),
            None => desk.unknown(spot, "value", &format!("{{{name}}}"), VALUES.iter().map(|(known, _)| *known)),
        }
        rest = next;
    }
    if rest.contains('}') {
        desk.error(spot, "a brace is closed and not opened");
    }
    if VALUES.iter().any(|(known, _)| *known == template) {
        desk.warn(spot, format!("the same text `{template}` at each request; the caller's own is `{{{template}}}`"));
    }
    if !rest.is_empty() {
        parts.push(IdentityPart::Text(Arc::from(rest)));
    }
    parts
}

/// A request header that the file may name, in lower case.
pub(super) fn header_name(desk: &mut Desk<'_>, spot: &Spot, written: &str) -> Option<Arc<str>> {
    let name = written.to_ascii_lowercase();
    if name.starts_with(':') || name == "host" {
        desk.error(spot, "`host` and names that start with `:` route the request and cannot be used here");
        return None;
    }
    if !is_token(&name) || name.len() > 128 {
        desk.error_expecting(spot, format!("`{}` is no header name", shorten(written)), "letters, digits and `-`");
        return None;
    }
    if HOP_BY_HOP.contains(&name.as_str()) {
        desk.error(spot, format!("`{name}` belongs to one connection and cannot be used here"));
        return None;
    }
    Some(Arc::from(name))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
