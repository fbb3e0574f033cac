//! The last room that can fail: identity values validated and encoded, the upstream assertion at hand.
//!
//! A client can never choose what an upstream reads as its identity: every identity header is either overwritten or removed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::check::authorise::Permit;
use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Fault;
use crate::check::pin_version::Pinned;
use crate::check::reasons::Reason;
use crate::check::take_credential::Shown;
use crate::jose::Assertions;
use crate::jose::assertions::AssertionError;
use crate::model::caller::Caller;
use crate::model::request::HeaderSize;
use crate::model::request::Headers;
use crate::model::route::Auth;
use crate::model::route::CredentialUpstream;
use crate::model::route::Route;
use crate::model::rules::Assertion;
use crate::model::rules::IdentityPart;
use crate::model::rules::IdentityValue;
use crate::model::rules::Rules;
use crate::model::rules::looks_like;
use crate::model::time::Timestamp;

/// The longest identity header, in bytes.
const VALUE_LIMIT_BYTES: usize = 1024;

/// The longest user id or subject in a header, in bytes.
const USER_LIMIT_BYTES: usize = 128;

/// Everything that the answer will carry but the limits' levels. Only [`prepare`] makes one.
#[derive(Debug)]
pub struct Prepared<'r> {
    reason: Reason,
    route: &'r Route,
    caller: Option<Arc<Caller>>,
    set: Vec<(Arc<str>, Cow<'r, str>)>,
    remove: Vec<Arc<str>>,
    remove_query: Option<Arc<str>>,
    response: Vec<(&'static str, String)>,
}

impl<'r> Prepared<'r> {
    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub fn route(&self) -> &'r Route {
        self.route
    }

    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_deref()
    }

    /// Request headers to overwrite: identity, assertion, resolved API version. Never a name of [`Self::remove`].
    pub fn set(&self) -> &[(Arc<str>, Cow<'r, str>)] {
        &self.set
    }

    /// Request headers to remove: identity headers that are not set, and the credential's.
    pub fn remove(&self) -> &[Arc<str>] {
        &self.remove
    }

    /// The query parameter that carried a credential.
    pub fn remove_query(&self) -> Option<&str> {
        self.remove_query.as_deref()
    }

    /// Response headers for the client, `Deprecation` and its kin.
    pub fn response(&self) -> &[(&'static str, String)] {
        &self.response
    }

    /// For the tests of doors, which can make no verdict themselves.
    #[cfg(test)]
    pub(in crate::check) fn for_test(
        (reason, route, caller): (Reason, &'r Route, Option<Arc<Caller>>),
        set: Vec<(Arc<str>, Cow<'r, str>)>,
        remove: Vec<Arc<str>>,
        remove_query: Option<Arc<str>>,
        response: Vec<(&'static str, String)>,
    ) -> Self {
        Self { reason, route, caller, set, remove, remove_query, response }
    }
}

/// # Errors
/// [`Reason::UnusableIdentity`] when a value cannot stand in a header, [`Reason::HeadersTooLarge`] when all together are more than Envoy
/// takes, [`Reason::Internal`] when the assertion cannot be signed; a
/// fault while the keys that sign are still out of reach.
pub fn prepare<'r>(
    permit: Permit<'r>,
    pinned: Pinned,
    shown: &Shown<'_>,
    headers: &Headers<'_>,
    rules: &'r Rules,
    assertions: &Assertions,
    now: Timestamp,
) -> Result<Prepared<'r>, Exit> {
    let signed = match (&rules.assertion, permit.caller()) {
        (Some(assertion), Some(caller)) => match assertions.sign_for(assertion, caller, now) {
            Ok(token) => Some(token),
            Err(error @ AssertionError::NoRing) => return Err(Fault::new(Reason::StoreUnavailable, error.to_string()).into()),
            Err(error @ (AssertionError::NoLifeLeft | AssertionError::Unsigned)) => {
                return Err(Denial::new(Reason::Internal).because(error.to_string()).into());
            }
        },
        (Some(_), None) | (None, _) => None,
    };
    Ok(compose(permit, pinned, shown, headers, rules, signed.as_deref())?)
}

fn compose<'r>(
    permit: Permit<'r>,
    pinned: Pinned,
    shown: &Shown<'_>,
    headers: &Headers<'_>,
    rules: &'r Rules,
    signed: Option<&str>,
) -> Result<Prepared<'r>, Denial> {
    let (reason, route) = (permit.reason(), permit.route());
    let mut edits = Edits::default();
    for header in &rules.identity_headers {
        match permit.caller() {
            Some(caller) => match fill(&header.value, caller)? {
                Some(value) => edits.set(&header.name, value),
                None => edits.remove(&header.name),
            },
            None => edits.remove(&header.name),
        }
    }
    if let Some(assertion) = &rules.assertion {
        match signed {
            Some(token) => edits.set(&assertion.header, Cow::Owned(format!("{}{token}", assertion.prefix))),
            None if passes_credentials(assertion, route, reason, rules) => {}
            None => edits.remove(&assertion.header),
        }
    }
    if let (Some(version), Some(versions)) = (pinned.version(), &rules.api_versions) {
        edits.set(&versions.header, Cow::Owned(version.to_string()));
    }
    match route.credential_upstream {
        CredentialUpstream::Removed => {
            for header in &shown.headers {
                edits.remove(header);
            }
        }
        CredentialUpstream::Kept => {}
    }
    edits.remove_look_alikes(rules, Some(headers));
    if !edits.fit(headers, rules.header_limits) {
        return Err(Denial::new(Reason::HeadersTooLarge));
    }
    Ok(Prepared {
        reason,
        route,
        caller: permit.into_caller(),
        set: edits.set,
        remove: edits.remove,
        remove_query: shown.query_parameter.clone(),
        response: pinned.response().to_vec(),
    })
}

/// What happens to the request's headers. A name stands in one list, once; setting it outweighs removing it, because setting
/// overwrites whatever came.
#[derive(Default)]
pub(in crate::check) struct Edits<'r> {
    pub(in crate::check) set: Vec<(Arc<str>, Cow<'r, str>)>,
    pub(in crate::check) remove: Vec<Arc<str>>,
}

impl<'r> Edits<'r> {
    pub(in crate::check) fn set(&mut self, name: &Arc<str>, value: Cow<'r, str>) {
        self.remove.retain(|removed| !removed.eq_ignore_ascii_case(name));
        match self.set.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => *known = value,
            None => self.set.push((Arc::clone(name), value)),
        }
    }

    pub(in crate::check) fn remove(&mut self, name: &Arc<str>) {
        let known = self.set.iter().map(|(name, _)| name).chain(&self.remove).any(|known| known.eq_ignore_ascii_case(name));
        if !known {
            self.remove.push(Arc::clone(name));
        }
    }

    /// Sets nothing; what would have been set is removed, so that no client says it.
    pub(in crate::check) fn forgo(&mut self) {
        self.remove.extend(self.set.drain(..).map(|(name, _value)| name));
    }

    /// Whether the headers with these edits are within Envoy's bounds. What replaces a header, or removes one, adds nothing; that is looked
    /// at only where it matters.
    pub(in crate::check) fn fit(&self, headers: &Headers<'_>, limits: HeaderSize) -> bool {
        let added = |size: HeaderSize| self.set.iter().fold(size, |size, (name, value)| size.with(&**name, &**value));
        if added(headers.size()).is_within(limits) {
            return true;
        }
        let edited = || self.set.iter().map(|(name, _value)| name).chain(&self.remove);
        let kept = headers.iter().filter(|(came, _value)| !edited().any(|name| name.as_bytes().eq_ignore_ascii_case(came)));
        added(kept.fold(HeaderSize::default(), |size, (name, value)| size.with(name, value))).is_within(limits)
    }

    /// What an upstream could take for a header of these rules. The spellings go whether or not they were seen, because Envoy can be told
    /// not to show us a header; of a name that has too many, those that were seen go besides the usual one.
    pub(in crate::check) fn remove_look_alikes(&mut self, rules: &Rules, headers: Option<&Headers<'_>>) {
        let of_identity = rules.identity_headers.iter().map(|header| (&header.name, &header.look_alikes));
        let of_assertion = rules.assertion.iter().map(|assertion| (&assertion.header, &assertion.look_alikes));
        for (name, look_alikes) in of_identity.chain(of_assertion) {
            for spelling in &look_alikes.spellings {
                self.remove(spelling);
            }
            let shown = headers.filter(|_| !look_alikes.are_all).into_iter().flat_map(|headers| headers.iter());
            for (came, _value) in shown.filter(|(came, _value)| looks_like(came, name)) {
                if let Ok(came) = std::str::from_utf8(came) {
                    self.remove(&Arc::from(came));
                }
            }
        }
    }
}

/// Whether the assertion's header is a credential's place on a request whose credentials are none of our business. What stands
/// there is then the client's word, signed or not, and upstreams that trust the header verify its signature.
fn passes_credentials(assertion: &Assertion, route: &Route, reason: Reason, rules: &Rules) -> bool {
    let untouched = route.auth == Auth::Public || reason == Reason::Preflight;
    untouched && rules.places.iter().any(|place| place.header.eq_ignore_ascii_case(&assertion.header))
}

/// The header's value; none when one of its parts is unknown or empty.
pub(in crate::check) fn fill<'r>(parts: &'r [IdentityPart], caller: &Caller) -> Result<Option<Cow<'r, str>>, Denial> {
    let mut text = String::new();
    for part in parts {
        match part {
            IdentityPart::Text(fixed) => append(&mut text, format_args!("{fixed}")),
            IdentityPart::Of(value) => {
                let before = text.len();
                write_value(&mut text, *value, caller);
                match text.get(before..) {
                    Some("") | None => return Ok(None),
                    Some(written) => vet(written, *value)?,
                }
            }
        }
    }
    let shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.len() > VALUE_LIMIT_BYTES || !text.bytes().all(shown) {
        return Err(unusable("an identity header is too long or not visible ASCII"));
    }
    if text.is_empty() { Ok(None) } else { Ok(Some(Cow::Owned(text))) }
}

fn write_value(text: &mut String, value: IdentityValue, caller: &Caller) {
    let mut known = |value: Option<&str>| text.push_str(value.unwrap_or_default());
    match value {
        IdentityValue::User => known(Some(caller.user.as_str())),
        IdentityValue::Subject => known(Some(caller.subject.as_str())),
        IdentityValue::Source => known(Some(caller.source.as_str())),
        IdentityValue::Issuer => known(Some(caller.issuer.as_deref().unwrap_or(caller.source.as_str()))),
        IdentityValue::Organization => known(caller.organization.as_deref()),
        IdentityValue::Key => known(caller.key.as_ref().map(|key| key.as_str())),
        IdentityValue::Client => known(caller.client.as_deref()),
        IdentityValue::Scopes => append(text, format_args!("{}", caller.scopes)),
        IdentityValue::Tier => known(caller.tier.as_deref()),
        IdentityValue::Environment => known(Some(caller.environment.as_str())),
    }
}

/// Values come from records and tokens, so they are judged again at the last place where a bad one can be stopped.
fn vet(value: &str, kind: IdentityValue) -> Result<(), Denial> {
    let (limit_bytes, spaces) = match kind {
        IdentityValue::User | IdentityValue::Subject => (USER_LIMIT_BYTES, false),
        IdentityValue::Scopes => (VALUE_LIMIT_BYTES, true),
        IdentityValue::Source
        | IdentityValue::Issuer
        | IdentityValue::Organization
        | IdentityValue::Key
        | IdentityValue::Client
        | IdentityValue::Tier
        | IdentityValue::Environment => (VALUE_LIMIT_BYTES, false),
    };
    let fits = |byte: u8| byte.is_ascii_graphic() || (spaces && byte == b' ');
    if value.len() <= limit_bytes && value.bytes().all(fits) {
        return Ok(());
    }
    Err(unusable("an identity value is too long or not visible ASCII"))
}

fn append(text: &mut String, piece: fmt::Arguments<'_>) {
    // Writing to a string cannot fail; were that to change, the missing text would be refused as unusable.
    if fmt::Write::write_fmt(text, piece).is_err() {
        text.push('\u{fffd}');
    }
}

fn unusable(why: &'static str) -> Denial {
    Denial::new(Reason::UnusableIdentity).because(why)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::check::authorise::authorise;
    use crate::check::doubles;
    use crate::check::doubles::NOW;
    use crate::check::doubles::scopes;
    use crate::check::find_route::find_route;
    use crate::check::pin_version::pin_version;
    use crate::check::samples;
    use crate::check::take_credential::Credential;
    use crate::model::api_version::ApiVersion;
    use crate::model::api_version::ApiVersions;
    use crate::model::api_version::Stage;
    use crate::model::caller::Namespace;
    use crate::model::caller::SourceName;
    use crate::model::caller::Subject;
    use crate::model::caller::UserId;
    use crate::model::request::Method;
    use crate::model::route::Cors;
    use crate::model::route::samples::route;
    use crate::model::rules::IdentityHeader;
    use crate::model::rules::LookAlikes;

    fn of(value: IdentityValue) -> Vec<IdentityPart> {
        vec![IdentityPart::Of(value)]
    }

    fn header(name: &str, value: Vec<IdentityPart>) -> IdentityHeader {
        IdentityHeader::new(name.into(), value)
    }

    /// The default set.
    fn default_headers() -> Vec<IdentityHeader> {
        vec![
            header("user", of(IdentityValue::User)),
            header("x-user-id", of(IdentityValue::User)),
            header("x-org-id", of(IdentityValue::Organization)),
            header("x-key-id", of(IdentityValue::Key)),
            header("x-scopes", of(IdentityValue::Scopes)),
            header("x-tier", of(IdentityValue::Tier)),
        ]
    }

    const LOOK_ALIKES: [&str; 11] = [
        "-x_user_id",
        "-x-user_id",
        "-x_user-id",
        "-x_org_id",
        "-x-org_id",
        "-x_org-id",
        "-x_key_id",
        "-x-key_id",
        "-x_key-id",
        "-x_scopes",
        "-x_tier",
    ];

    fn rules(auth: Auth, credential_upstream: CredentialUpstream) -> Rules {
        let mut rules = samples::rules(vec![Route { auth, credential_upstream, cors: Cors::Preflight, ..route("r", &[], "/x") }]);
        rules.identity_headers = default_headers();
        rules
    }

    fn assertion(name: &str, prefix: &str) -> Assertion {
        Assertion {
            header: name.into(),
            look_alikes: LookAlikes::of(name),
            prefix: prefix.into(),
            issuer: "gate".into(),
            audience: Vec::new(),
            lifetime: Duration::from_secs(60),
        }
    }

    fn shown(headers: &[&str]) -> Shown<'static> {
        let headers = headers.iter().map(|name| Arc::from(*name)).collect();
        Shown { credential: Credential::None, paired_key: None, headers, query_parameter: Some("token".into()) }
    }

    /// `name: value` and `-name`, in order.
    type Written = Vec<String>;

    fn written(prepared: &Prepared<'_>) -> Written {
        let set = prepared.set().iter().map(|(name, value)| format!("{name}: {value}"));
        set.chain(prepared.remove().iter().map(|name| format!("-{name}"))).collect()
    }

    fn composed(rules: &Rules, method: Method, caller: Option<Caller>, shown: &Shown<'_>, signed: Option<&str>) -> Result<Written, Reason> {
        let preflight = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
        let request = samples::request(method, "/x", &preflight);
        let found = find_route(&request, rules).unwrap();
        let permit = authorise(caller.map(Arc::new), &found).unwrap();
        let pinned = pin_version(&request, &found, permit.caller(), rules).unwrap();
        let prepared = compose(permit, pinned, shown, &request.headers, rules, signed).map_err(|denial| denial.reason)?;
        assert_eq!(prepared.remove_query(), shown.query_parameter.as_deref());
        Ok(written(&prepared))
    }

    fn values(value: Vec<IdentityPart>, caller: Caller) -> Result<Written, Reason> {
        let mut rules = rules(Auth::Required, CredentialUpstream::Removed);
        rules.identity_headers = vec![header("h", value)];
        composed(&rules, Method::Get, Some(caller), &shown(&[]), None)
    }

    // battery: H14
    #[test]
    fn a_known_caller_is_written_into_every_header_that_has_a_value() {
        let rules = rules(Auth::Required, CredentialUpstream::Removed);
        let full = ["user: alice", "x-user-id: alice", "x-org-id: acme", "x-key-id: k1", "x-scopes: *", "x-tier: free", "-x-api-key"];
        let full = [&full[..], &LOOK_ALIKES].concat();
        assert_eq!(composed(&rules, Method::Get, Some(doubles::caller()), &shown(&["x-api-key"]), None).unwrap(), full);
        let bare = Caller { organization: None, key: None, tier: None, scopes: scopes(""), ..doubles::caller() };
        let bare_written = ["user: alice", "x-user-id: alice", "-x-org-id", "-x-key-id", "-x-scopes", "-x-tier"];
        let bare_written = [&bare_written[..], &LOOK_ALIKES].concat();
        assert_eq!(composed(&rules, Method::Get, Some(bare), &shown(&[]), None).unwrap(), bare_written);
    }

    // battery: H14
    #[test]
    fn without_a_caller_every_identity_header_is_removed() {
        let removed = ["-user", "-x-user-id", "-x-org-id", "-x-key-id", "-x-scopes", "-x-tier", "-x-assertion"];
        let removed = [&removed[..], &LOOK_ALIKES, &["-x_assertion"]].concat();
        for (auth, method) in [(Auth::Public, Method::Get), (Auth::Optional, Method::Get), (Auth::Required, Method::Options)] {
            let mut rules = rules(auth, CredentialUpstream::Removed);
            rules.assertion = Some(assertion("x-assertion", ""));
            assert_eq!(composed(&rules, method, None, &shown(&[]), None).unwrap(), removed, "{auth:?} {method:?}");
        }
    }

    // battery: H2
    #[test]
    fn what_an_upstream_could_take_for_an_identity_header_is_removed() {
        const LONG: &str = "x-a-b-c-d";
        // (configured, sent by the client, removed)
        let table: [(&[&str], &[&str], &[&str]); 6] = [
            // Whether or not Envoy shows them.
            (&["x-user-id"], &[], &["x_user_id", "x-user_id", "x_user-id"]),
            (&["x-user-id"], &["x_user-id", "x_user_ids", "x_user.id", "x__user_id"], &["x_user_id", "x-user_id", "x_user-id"]),
            (&["user"], &["user_", "_user"], &[]),
            // Whoever configures both spellings sets both.
            (&["x_user_id", "x-user-id"], &["x_user_id", "x-user-id"], &["x-user_id", "x_user-id"]),
            // Of a long name, the usual one and what came.
            (&[LONG], &[LONG, "x-a-b"], &["x_a_b_c_d"]),
            (&[LONG], &["x-a-b-c_d", "x_a_b_c_d"], &["x_a_b_c_d", "x-a-b-c_d"]),
        ];
        for (configured, sent, removed) in table {
            for auth in [Auth::Required, Auth::Public] {
                let mut rules = rules(auth, CredentialUpstream::Removed);
                rules.identity_headers = configured.iter().map(|name| header(name, of(IdentityValue::User))).collect();
                let lines: Vec<(&str, &str)> = sent.iter().map(|name| (*name, "mallory")).collect();
                let request = samples::request(Method::Get, "/x", &lines);
                let found = find_route(&request, &rules).unwrap();
                let caller = (auth == Auth::Required).then(|| Arc::new(doubles::caller()));
                let permit = authorise(caller, &found).unwrap();
                let pinned = pin_version(&request, &found, permit.caller(), &rules).unwrap();
                let prepared = compose(permit, pinned, &shown(&[]), &request.headers, &rules, None).unwrap();
                let left: Vec<&str> = prepared.remove().iter().map(|name| &**name).filter(|name| !configured.contains(name)).collect();
                assert_eq!(left, removed, "{configured:?} {sent:?} {auth:?}");
                assert!(configured.iter().all(|name| written(&prepared).iter().any(|line| line.trim_start_matches('-').starts_with(name))));
            }
        }
    }

    #[test]
    fn credentials_are_removed_unless_the_route_keeps_them() {
        for (upstream, removed) in [(CredentialUpstream::Removed, true), (CredentialUpstream::Kept, false)] {
            let mut rules = rules(Auth::Required, upstream);
            rules.identity_headers.clear();
            let written = composed(&rules, Method::Get, Some(doubles::caller()), &shown(&["authorization", "x-api-key"]), None).unwrap();
            assert_eq!(written, if removed { vec!["-authorization", "-x-api-key"] } else { vec![] });
        }
    }

    #[test]
    fn the_assertion_takes_the_credentials_place() {
        let mut rules = rules(Auth::Required, CredentialUpstream::Removed);
        rules.identity_headers.clear();
        rules.assertion = Some(assertion("authorization", "Bearer "));
        let swapped = composed(&rules, Method::Get, Some(doubles::caller()), &shown(&["Authorization"]), Some("a.b.c")).unwrap();
        assert_eq!(swapped, ["authorization: Bearer a.b.c"]);
        // Where credentials are none of our business, that header is none either; a header of the assertion's own always is.
        let mut public = rules_with_auth(rules, Auth::Public);
        assert_eq!(composed(&public, Method::Get, None, &shown(&[]), None).unwrap(), Written::new());
        assert_eq!(composed(&public, Method::Options, None, &shown(&[]), None).unwrap(), Written::new());
        public.assertion = Some(assertion("x-caller", ""));
        assert_eq!(composed(&public, Method::Get, None, &shown(&[]), None).unwrap(), ["-x-caller", "-x_caller"]);
        let mut optional = rules_with_auth(public, Auth::Optional);
        optional.assertion = Some(assertion("authorization", "Bearer "));
        assert_eq!(composed(&optional, Method::Get, None, &shown(&[]), None).unwrap(), ["-authorization"]);
    }

    #[test]
    fn only_what_is_new_takes_room_among_the_headers() {
        type Lines = [(&'static str, &'static str)];
        let mut rules = rules(Auth::Required, CredentialUpstream::Removed);
        rules.identity_headers = vec![header("user", of(IdentityValue::User)), header("x-org-id", of(IdentityValue::Organization))];
        let headers = |lines: &Lines| {
            Headers::new(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
        };
        // `user: alice` and `x-org-id: acme` are added: 2 lines, 21 bytes.
        let table: &[(&Lines, usize, usize)] = &[
            (&[], 2, 21),
            (&[("a", "1")], 3, 23),
            (&[("user", "mallory")], 2, 21),
            (&[("user", "mallory"), ("user", "eve"), ("a", "1")], 3, 23),
            (&[("x_org-id", "evil"), ("a", "1")], 3, 23),
            (&[("x-api-key", "secret"), ("a", "1")], 3, 23),
        ];
        for (lines, count, bytes) in table {
            for (lacking, expected) in [((0, 0), true), ((1, 0), false), ((0, 1), false)] {
                rules.header_limits = HeaderSize { lines: count - lacking.0, bytes: bytes - lacking.1 };
                let request = samples::request(Method::Get, "/x", &[]);
                let found = find_route(&request, &rules).unwrap();
                let permit = authorise(Some(Arc::new(doubles::caller())), &found).unwrap();
                let pinned = pin_version(&request, &found, permit.caller(), &rules).unwrap();
                let composed = compose(permit, pinned, &shown(&["x-api-key"]), &headers(lines), &rules, None);
                assert_eq!(composed.map(|_| ()).map_err(|denial| denial.reason), if expected { Ok(()) } else { Err(Reason::HeadersTooLarge) });
            }
        }
    }

    fn rules_with_auth(old: Rules, auth: Auth) -> Rules {
        let routes = samples::rules(vec![Route { auth, cors: Cors::Preflight, ..route("r", &[], "/x") }]);
        Rules { routes: routes.routes, route_index: routes.route_index, ..old }
    }

    #[test]
    fn the_resolved_version_goes_upstream_on_every_kind_of_route() {
        let version =
            |name: &str| ApiVersion { name: name.into(), path_prefix: None, stage: Stage::Current, documentation: None, successor: None };
        let versions =
            ApiVersions { header: "api-version".into(), versions: vec![version("2024-01-01"), version("2025-01-01")], default: 1 };
        for (auth, caller, expected) in [
            (Auth::Public, None, "api-version: 2025-01-01"),
            (Auth::Required, Some(doubles::caller()), "api-version: 2025-01-01"),
            (Auth::Required, Some(Caller { pinned_version: Some("2024-01-01".into()), ..doubles::caller() }), "api-version: 2024-01-01"),
        ] {
            let mut rules = rules(auth, CredentialUpstream::Removed);
            rules.identity_headers.clear();
            rules.api_versions = Some(versions.clone());
            assert_eq!(composed(&rules, Method::Get, caller, &shown(&[]), None).unwrap(), [expected]);
        }
    }

    #[test]
    fn templates_are_filled_and_one_unknown_part_removes_the_whole() {
        let text = |text: &str| IdentityPart::Text(text.into());
        let caller = || Caller { issuer: Some("https://id.example.com/".into()), client: Some("app".into()), ..doubles::caller() };
        let table = [
            (vec![IdentityPart::Of(IdentityValue::Issuer)], "h: https://id.example.com/"),
            (vec![text("micro")], "h: micro"),
            (
                vec![text("u="), IdentityPart::Of(IdentityValue::Subject), text(";s="), IdentityPart::Of(IdentityValue::Source)],
                "h: u=alice;s=local",
            ),
            (vec![IdentityPart::Of(IdentityValue::Client), text("/"), IdentityPart::Of(IdentityValue::Environment)], "h: app/live"),
            (vec![], "-h"),
            (vec![text("")], "-h"),
        ];
        for (value, expected) in table {
            assert_eq!(values(value, caller()).unwrap(), [expected]);
        }
        // Of a key, the issuer is its source.
        assert_eq!(values(of(IdentityValue::Issuer), doubles::caller()).unwrap(), ["h: local"]);
        let unknown = vec![text("client="), IdentityPart::Of(IdentityValue::Client)];
        assert_eq!(values(unknown, doubles::caller()).unwrap(), ["-h"]);
        let empty = Caller { organization: Some("".into()), ..caller() };
        assert_eq!(values(of(IdentityValue::Organization), empty).unwrap(), ["-h"]);
    }

    // battery: H4 H5
    #[test]
    fn a_value_that_cannot_stand_in_a_header_is_a_denial_and_never_empty() {
        let with = |organization: &str| Caller { organization: Some(organization.into()), ..doubles::caller() };
        let user = |subject: &str| {
            let (source, subject) = (SourceName::parse("idp").unwrap(), Subject::parse(subject).unwrap());
            Caller { user: UserId::new(&source, &subject, Namespace::Named), subject, source, ..doubles::caller() }
        };
        let long_scopes = |count: usize| {
            let list: Vec<String> = (0..count).map(|number| format!("resource-{number:04}:read")).collect();
            Caller { scopes: scopes(&list.join(" ")), ..doubles::caller() }
        };
        let table = [
            (IdentityValue::Organization, with("a\r\nx-admin: 1"), false),
            (IdentityValue::Organization, with("a\0"), false),
            (IdentityValue::Organization, with("a\u{7f}"), false),
            (IdentityValue::Organization, with("ümlaut"), false),
            (IdentityValue::Organization, with("Acme Corporation"), false),
            (IdentityValue::Organization, with(" "), false),
            (IdentityValue::Organization, with(&"o".repeat(1024)), true),
            (IdentityValue::Organization, with(&"o".repeat(1025)), false),
            (IdentityValue::User, user(&"u".repeat(124)), true),
            (IdentityValue::User, user(&"u".repeat(125)), false),
            (IdentityValue::User, user(&"%".repeat(60)), false),
            (IdentityValue::Subject, user(&"u".repeat(128)), true),
            (IdentityValue::Scopes, long_scopes(53), true),
            (IdentityValue::Scopes, long_scopes(54), false),
        ];
        for (value, caller, usable) in table {
            let result = values(of(value), caller);
            assert_eq!(result.is_ok(), usable, "{value:?} {result:?}");
            assert!(usable || result == Err(Reason::UnusableIdentity));
        }
        let line_break = IdentityPart::Text("a\nb".into());
        assert_eq!(values(vec![line_break], doubles::caller()), Err(Reason::UnusableIdentity));
    }

    #[test]
    fn the_assertion_is_signed_for_callers_alone() {
        let mut rules = rules(Auth::Optional, CredentialUpstream::Removed);
        rules.identity_headers.clear();
        rules.assertion = Some(assertion("x-caller", ""));
        let assertions = Assertions::ephemeral(NOW).unwrap();
        for caller in [None, Some(doubles::caller())] {
            let known = caller.is_some();
            let request = samples::request(Method::Get, "/x", &[]);
            let found = find_route(&request, &rules).unwrap();
            let permit = authorise(caller.map(Arc::new), &found).unwrap();
            let pinned = pin_version(&request, &found, permit.caller(), &rules).unwrap();
            let prepared = prepare(permit, pinned, &shown(&[]), &request.headers, &rules, &assertions, NOW).unwrap();
            match prepared.set() {
                [(name, value)] => assert!(known && &**name == "x-caller" && value.split('.').count() == 3),
                _ => assert!(!known && prepared.remove().contains(&Arc::from("x-caller"))),
            }
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["x-a", "X-A", "x-b", "X-B", "x-c", "authorization", "Authorization", "api-version"])
            .prop_map(str::to_owned)
    }

    fn value() -> impl Strategy<Value = IdentityValue> {
        prop::sample::select(vec![
            IdentityValue::User,
            IdentityValue::Organization,
            IdentityValue::Client,
            IdentityValue::Scopes,
            IdentityValue::Tier,
        ])
    }

    proptest! {
        #[test]
        fn no_name_is_both_set_and_removed_and_none_stands_twice(
            headers in prop::collection::vec((name(), value()), 0..8),
            credentials in prop::collection::vec(name(), 0..4),
            signed in prop::option::of(name()),
            known in any::<bool>(), organization in prop::option::of("[a-z]{0,3}"), kept in any::<bool>(),
        ) {
            let upstream = if kept { CredentialUpstream::Kept } else { CredentialUpstream::Removed };
            let mut rules = rules(Auth::Optional, upstream);
            rules.identity_headers = headers.iter().map(|(name, value)| header(name, of(*value))).collect();
            rules.assertion = signed.as_ref().map(|name| assertion(name, ""));
            let version = ApiVersion { name: "1".into(), path_prefix: None, stage: Stage::Current, documentation: None, successor: None };
            rules.api_versions = Some(ApiVersions { header: "api-version".into(), versions: vec![version], default: 0 });
            let caller = known.then(|| Caller { organization: organization.map(Arc::from), ..doubles::caller() });
            let names: Vec<&str> = credentials.iter().map(String::as_str).collect();
            let token = known.then_some("a.b.c");
            let written = composed(&rules, Method::Get, caller, &shown(&names), token).unwrap();

            let folded: Vec<String> = written
                .iter()
                .map(|line| line.trim_start_matches('-').split(':').next().unwrap().to_ascii_lowercase())
                .collect();
            let distinct: HashSet<&String> = folded.iter().collect();
            prop_assert_eq!(distinct.len(), folded.len(), "{:?}", written);
            // Nothing that a client may have sent under an identity header's name survives.
            for (name, _) in &headers {
                prop_assert!(distinct.contains(&name.to_ascii_lowercase()));
            }
            if !kept {
                for name in &credentials {
                    prop_assert!(distinct.contains(&name.to_ascii_lowercase()));
                }
            }
        }

        #[test]
        fn whatever_is_set_can_stand_in_a_header(organization in ".{0,40}", claimed_tier in "[ -~]{0,20}", subject in "[!-~]{1,128}") {
            let subject = Subject::parse(&subject).unwrap();
            let source = SourceName::local();
            let caller = Caller {
                user: UserId::new(&source, &subject, Namespace::Bare),
                subject,
                source,
                organization: Some(organization.into()),
                tier: Some(claimed_tier.into()),
                ..doubles::caller()
            };
            let rules = rules(Auth::Required, CredentialUpstream::Removed);
            if let Ok(written) = composed(&rules, Method::Get, Some(caller), &shown(&[]), None) {
                for line in written {
                    prop_assert!(line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{}", line);
                    if let Some((_, value)) = line.split_once(": ") {
                        prop_assert!(!value.is_empty() && value.len() <= 1024 && value.trim() == value);
                    }
                }
            }
        }
    }
}
