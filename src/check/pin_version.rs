//! Which API version this call is bound to. The path's prefix comes first, then the header, then the key's pin, then the default.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use crate::check::decide::Denial;
use crate::check::decide::Particulars;
use crate::check::find_route::Found;
use crate::check::reasons::Reason;
use crate::model::api_version::ApiVersion;
use crate::model::api_version::ApiVersions;
use crate::model::api_version::Stage;
use crate::model::caller::Caller;
use crate::model::request::Request;
use crate::model::request::Single;
use crate::model::route::Versioned;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// The version that a call is bound to, if its route is versioned. Made by [`pin_version`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    version: Option<Arc<str>>,
    response: Vec<(&'static str, String)>,
}

impl Pinned {
    /// The version's name, which goes upstream in the versions' header.
    pub fn version(&self) -> Option<&Arc<str>> {
        self.version.as_ref()
    }

    /// Response headers that tell the client about the version's age; none for a current one.
    pub fn response(&self) -> &[(&'static str, String)] {
        &self.response
    }
}

/// Binds the call to one version.
///
/// # Errors
/// 400 for a version that there is not, and for a path and a header that disagree; 410 for a retired one.
pub fn pin_version(request: &Request<'_>, found: &Found<'_, '_>, caller: Option<&Caller>, rules: &Rules) -> Result<Pinned, Denial> {
    let versions = match (&rules.api_versions, found.route.versioned) {
        (Some(versions), Versioned::Yes) => versions,
        (Some(_) | None, Versioned::Yes | Versioned::No) => return Ok(Pinned { version: None, response: Vec::new() }),
    };
    let prefix = longest_prefix(versions, found.variables.path());
    let version = match (named_in_header(request, versions)?, prefix) {
        (Some(version), None) => version,
        (Some(version), Some(prefix)) if version.path_prefix.as_deref() == Some(prefix) => version,
        (Some(_), Some(_)) => return Err(conflicting(versions)),
        (None, prefix) => unnamed(versions, prefix, caller)?,
    };
    let response = match version.stage {
        Stage::Current => Vec::new(),
        Stage::Deprecated { since, sunset } => deprecation(versions, version, since, sunset),
        Stage::Retired => return Err(retired(versions, version)),
    };
    Ok(Pinned { version: Some(Arc::clone(&version.name)), response })
}

/// The prefix that the path begins with, by whole segments; the longest, where one lies inside another.
fn longest_prefix<'v>(versions: &'v ApiVersions, path: &str) -> Option<&'v str> {
    let prefixes = versions.versions.iter().filter_map(|version| version.path_prefix.as_deref());
    let begins = |prefix: &&str| path.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    prefixes.filter(begins).max_by_key(|prefix| prefix.len())
}

fn named_in_header<'v>(request: &Request<'_>, versions: &'v ApiVersions) -> Result<Option<&'v ApiVersion>, Denial> {
    match request.headers.single(&versions.header) {
        Single::Absent => Ok(None),
        Single::Repeated => Err(conflicting(versions)),
        Single::Once(value) => match versions.versions.iter().find(|version| version.name.as_bytes() == value) {
            Some(version) => Ok(Some(version)),
            None => Err(unknown(versions)),
        },
    }
}

/// The version of a request whose header names none.
fn unnamed<'v>(versions: &'v ApiVersions, prefix: Option<&str>, caller: Option<&Caller>) -> Result<&'v ApiVersion, Denial> {
    let within = |version: &&ApiVersion| prefix.is_none_or(|prefix| version.path_prefix.as_deref() == Some(prefix));
    if let Some(pin) = caller.and_then(|caller| caller.pinned_version.as_deref()) {
        match versions.versions.iter().find(|version| *version.name == *pin) {
            Some(version) if within(&version) => return Ok(version),
            // The path says otherwise, and it comes first.
            Some(_) => {}
            None if prefix.is_some() => {}
            None => return Err(unknown(versions).because("the key is pinned to a version that the config does not have")),
        }
    }
    let default = versions.versions.get(versions.default).filter(within);
    let usable = || versions.versions.iter().filter(within).max_by_key(|version| freshness(version.stage));
    default.or_else(usable).ok_or_else(|| Denial::new(Reason::Internal).because("api_versions has no default"))
}

const fn freshness(stage: Stage) -> u8 {
    match stage {
        Stage::Retired => 0,
        Stage::Deprecated { .. } => 1,
        Stage::Current => 2,
    }
}

fn unknown(versions: &ApiVersions) -> Denial {
    let usable = versions.versions.iter().filter(|version| version.stage != Stage::Retired);
    Denial::with(Reason::UnknownVersion, Particulars::Versions(usable.map(|version| Arc::clone(&version.name)).collect()))
}

fn conflicting(versions: &ApiVersions) -> Denial {
    let issue = Cow::Owned(format!("leave `{}` out, or send it once and with a version of the path", versions.header));
    Denial::with(Reason::ConflictingVersions, Particulars::Field { field: "version", issue })
}

fn retired(versions: &ApiVersions, version: &ApiVersion) -> Denial {
    match links(versions, version) {
        Some(links) => Denial::with(Reason::RetiredVersion, Particulars::Link(links)),
        None => Denial::new(Reason::RetiredVersion),
    }
}

fn deprecation(versions: &ApiVersions, version: &ApiVersion, since: Timestamp, sunset: Option<Timestamp>) -> Vec<(&'static str, String)> {
    // RFC 9745: a structured date. RFC 8594: an HTTP date.
    let mut headers = vec![("Deprecation", format!("@{}", since.unix_seconds()))];
    headers.extend(sunset.and_then(http_date).map(|date| ("Sunset", date)));
    headers.extend(links(versions, version).map(|links| ("Link", links)));
    headers
}

fn http_date(instant: Timestamp) -> Option<String> {
    let instant = jiff::Timestamp::from_second(i64::try_from(instant.unix_seconds()).ok()?).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&instant).ok()
}

fn links(versions: &ApiVersions, version: &ApiVersion) -> Option<String> {
    let mut links = String::new();
    let successor = version.successor.as_deref().and_then(|name| versions.versions.iter().find(|other| *other.name == *name));
    let documented = [(Some(version), "deprecation"), (successor, "successor-version")];
    for (version, relation) in documented {
        if let Some(documentation) = version.and_then(|version| version.documentation.as_deref()) {
            let separator = if links.is_empty() { "" } else { ", " };
            // Writing into a string cannot fail.
            let _ = write!(links, "{separator}<{documentation}>; rel=\"{relation}\"");
        }
    }
    Some(links).filter(|links| !links.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::find_route::find_route;
    use crate::check::samples::request;
    use crate::check::samples::rules;
    use crate::model::caller::Environment;
    use crate::model::caller::ProvenBy;
    use crate::model::caller::SourceName;
    use crate::model::caller::Subject;
    use crate::model::caller::UserId;
    use crate::model::request::Method;
    use crate::model::route::samples::route;
    use crate::model::scope::ScopeSet;

    fn version(name: &str, prefix: Option<&str>, stage: Stage, successor: Option<&str>) -> ApiVersion {
        ApiVersion {
            name: name.into(),
            path_prefix: prefix.map(Arc::from),
            stage,
            documentation: Some(format!("https://docs.example/{name}").into()),
            successor: successor.map(Arc::from),
        }
    }

    /// `/api/v1` has two versions, one of them deprecated; `/api/v2` is the default; `/api/v0` is retired; one has no path.
    fn table() -> Rules {
        let deprecated = Stage::Deprecated {
            since: Timestamp::from_unix_seconds(1_688_169_599),
            sunset: Some(Timestamp::from_unix_seconds(1_719_791_999)),
        };
        let mut unversioned = route("health", &[], "/health");
        unversioned.versioned = Versioned::No;
        let mut rules = rules(vec![route("all", &[], "/**"), unversioned]);
        rules.api_versions = Some(ApiVersions {
            header: "api-version".into(),
            versions: vec![
                version("2022-01-01", Some("/api/v0"), Stage::Retired, Some("2024-01-01")),
                version("2023-01-01", Some("/api/v1"), deprecated, Some("2024-01-01")),
                version("2024-01-01", Some("/api/v1"), Stage::Current, None),
                version("2025-01-01", Some("/api/v2"), Stage::Current, None),
                version("preview", None, Stage::Current, None),
                version("beta", Some("/api/v2/beta"), Stage::Current, None),
            ],
            default: 3,
        });
        rules
    }

    fn caller(pin: &str) -> Caller {
        let subject = Subject::parse("alice").unwrap();
        Caller {
            proven_by: ProvenBy::Key,
            user: UserId::anonymous(),
            source: SourceName::local(),
            subject,
            issuer: None,
            organization: None,
            key: None,
            client: None,
            scopes: Arc::new(ScopeSet::default()),
            tier: None,
            environment: Environment::Live,
            pinned_version: Some(pin.into()),
            key_rate_limit: None,
            expires: None,
        }
    }

    fn pin(target: &str, header: Option<&str>, pinned: Option<&str>, rules: &Rules) -> Result<Pinned, Denial> {
        let headers: Vec<(&str, &str)> = header.map(|value| ("api-version", value)).into_iter().collect();
        let request = request(Method::Get, target, &headers);
        let found = find_route(&request, rules).unwrap();
        pin_version(&request, &found, pinned.map(caller).as_ref(), rules)
    }

    fn check(target: &str, header: Option<&str>, pinned: Option<&str>, expected: Result<Option<&str>, Reason>) {
        let answer = pin(target, header, pinned, &table());
        let answer = answer.as_ref().map(|pinned| pinned.version().map(|name| &**name)).map_err(|denial| denial.reason);
        assert_eq!(answer, expected, "{target} {header:?} {pinned:?}");
    }

    #[test]
    fn the_path_comes_before_the_header_before_the_pin_before_the_default() {
        let ok = |name| Ok(Some(name));
        check("/x", None, None, ok("2025-01-01"));
        check("/x", None, Some("2024-01-01"), ok("2024-01-01"));
        check("/x", Some("preview"), Some("2024-01-01"), ok("preview"));
        check("/x", Some("2024-01-01"), None, ok("2024-01-01"));
        check("/api/v2/x", None, None, ok("2025-01-01"));
        check("/api/v2", None, Some("2024-01-01"), ok("2025-01-01"));
        check("/api/v2/", Some("2025-01-01"), Some("2024-01-01"), ok("2025-01-01"));
        // Several versions of one prefix: header, then pin, then the freshest.
        check("/api/v1/x", None, None, ok("2024-01-01"));
        check("/api/v1/x", Some("2023-01-01"), Some("2024-01-01"), ok("2023-01-01"));
        check("/api/v1/x", None, Some("2023-01-01"), ok("2023-01-01"));
        check("/api/v1/x", None, Some("2025-01-01"), ok("2024-01-01"));
        check("/api/v1/x", None, Some("gone"), ok("2024-01-01"));
        // Whole segments, and the longest prefix.
        check("/api/v10/x", None, None, ok("2025-01-01"));
        check("/api/v10/x", Some("2024-01-01"), None, ok("2024-01-01"));
        check("/api/V1/x", Some("preview"), None, ok("preview"));
        check("/api/v2/beta/x", None, None, ok("beta"));
        check("/api/v2/betas", None, None, ok("2025-01-01"));
        // Nothing is versioned.
        check("/health", Some("nonsense"), Some("gone"), Ok(None));
        let mut rules = table();
        rules.api_versions = None;
        assert_eq!(pin("/api/v1/x", Some("nonsense"), None, &rules).unwrap().version(), None);
    }

    #[test]
    fn versions_that_are_not_there_or_disagree_are_refused() {
        for header in ["", "2024-01-02", "v1", "2024-01-01,2025-01-01", " 2024-01-01", "PREVIEW"] {
            check("/x", Some(header), None, Err(Reason::UnknownVersion));
            check("/api/v1/x", Some(header), None, Err(Reason::UnknownVersion));
        }
        check("/x", None, Some("gone"), Err(Reason::UnknownVersion));
        check("/api/v1/x", Some("2025-01-01"), None, Err(Reason::ConflictingVersions));
        check("/api/v2/x", Some("preview"), None, Err(Reason::ConflictingVersions));
        check("/api/v2/beta/x", Some("2025-01-01"), None, Err(Reason::ConflictingVersions));

        let usable = ["2023-01-01", "2024-01-01", "2025-01-01", "preview", "beta"].map(Arc::from).to_vec();
        assert_eq!(pin("/x", Some("no"), None, &table()).unwrap_err().particulars, Particulars::Versions(usable));
        let rules = table();
        let twice = request(Method::Get, "/x", &[("api-version", "preview"), ("api-version", "preview")]);
        let found = find_route(&twice, &rules).unwrap();
        assert_eq!(pin_version(&twice, &found, None, &rules).unwrap_err().reason, Reason::ConflictingVersions);
    }

    #[test]
    fn an_ageing_version_says_so() {
        let mut rules = table();
        let aged = |rules: &Rules| pin("/api/v1/x", Some("2023-01-01"), None, rules).unwrap().response().to_vec();
        assert_eq!(
            aged(&rules),
            [
                ("Deprecation", "@1688169599".to_owned()),
                ("Sunset", "Sun, 30 Jun 2024 23:59:59 GMT".to_owned()),
                (
                    "Link",
                    "<https://docs.example/2023-01-01>; rel=\"deprecation\", <https://docs.example/2024-01-01>; rel=\"successor-version\""
                        .to_owned()
                ),
            ]
        );
        assert_eq!(pin("/api/v1/x", None, None, &rules).unwrap().response(), []);

        let versions = &mut rules.api_versions.as_mut().unwrap().versions;
        versions[1].stage = Stage::Deprecated { since: Timestamp::from_unix_seconds(7), sunset: None };
        versions[1].documentation = None;
        versions[1].successor = Some("nowhere".into());
        assert_eq!(aged(&rules), [("Deprecation", "@7".to_owned())]);
    }

    #[test]
    fn a_retired_version_is_gone() {
        for (target, header, pinned) in [("/api/v0/x", None, None), ("/x", Some("2022-01-01"), None), ("/x", None, Some("2022-01-01"))] {
            check(target, header, pinned, Err(Reason::RetiredVersion));
        }
        let links = "<https://docs.example/2022-01-01>; rel=\"deprecation\", <https://docs.example/2024-01-01>; rel=\"successor-version\"";
        assert_eq!(pin("/api/v0/x", None, None, &table()).unwrap_err().particulars, Particulars::Link(links.into()));
    }

    proptest! {
        /// Whatever is asked, an answer is a version of the config that is not retired, and of the path's prefix if it has one.
        #[test]
        fn an_answer_is_always_a_version_that_may_be_used(
            target in prop_oneof![Just("/x"), Just("/api/v0/x"), Just("/api/v1/x"), Just("/api/v2/x"), Just("/api/v2/beta")],
            header in proptest::option::of(prop_oneof![Just("2022-01-01"), Just("2023-01-01"), Just("2025-01-01"), Just("preview"), Just("?")]),
            pinned in proptest::option::of(prop_oneof![Just("2022-01-01"), Just("2024-01-01"), Just("beta"), Just("?")]),
        ) {
            let rules = table();
            let versions = rules.api_versions.as_ref().unwrap();
            if let Ok(answer) = pin(target, header, pinned, &rules) {
                let version = versions.versions.iter().find(|version| Some(&version.name) == answer.version()).unwrap();
                prop_assert!(version.stage != Stage::Retired);
                let prefix = longest_prefix(versions, target);
                prop_assert!(prefix.is_none() || version.path_prefix.as_deref() == prefix);
                prop_assert!(header.is_none_or(|header| header == &*version.name));
            }
        }
    }
}
