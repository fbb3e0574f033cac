use std::collections::BTreeSet;
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
use crate::model::look_alikes::LookAlikes;
use crate::model::look_alikes::Spellings;
use crate::model::look_alikes::looks_like;
use crate::model::request::HeaderSize;
use crate::model::request::Method;
use crate::model::route::Cors;
use crate::model::route::samples::route;
use crate::model::rules::IdentityHeader;
use crate::model::rules::IdentityPart;
use crate::model::rules::IdentityValue;

fn of(value: IdentityValue) -> Vec<IdentityPart> {
    vec![IdentityPart::Of(value)]
}

fn header(name: &str, value: Vec<IdentityPart>) -> IdentityHeader {
    IdentityHeader { name: name.into(), value }
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
    Assertion { header: name.into(), prefix: prefix.into(), issuer: "gate".into(), audience: Vec::new(), lifetime: Duration::from_secs(60) }
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

fn composed(rules: &mut Rules, method: Method, caller: Option<Caller>, shown: &Shown<'_>, signed: Option<&str>) -> Result<Written, Reason> {
    rules.look_alikes = LookAlikes::of(rules);
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
    composed(&mut rules, Method::Get, Some(caller), &shown(&[]), None)
}

// battery: H14
#[test]
fn a_known_caller_is_written_into_every_header_that_has_a_value() {
    let mut rules = rules(Auth::Required, CredentialUpstream::Removed);
    let full = ["user: alice", "x-user-id: alice", "x-org-id: acme", "x-key-id: k1", "x-scopes: *", "x-tier: free", "-x-api-key"];
    let full = [&full[..], &LOOK_ALIKES].concat();
    assert_eq!(composed(&mut rules, Method::Get, Some(doubles::caller()), &shown(&["x-api-key"]), None).unwrap(), full);
    let bare = Caller { organization: None, key: None, tier: None, scopes: scopes(""), ..doubles::caller() };
    let bare_written = ["user: alice", "x-user-id: alice", "-x-org-id", "-x-key-id", "-x-scopes", "-x-tier"];
    let bare_written = [&bare_written[..], &LOOK_ALIKES].concat();
    assert_eq!(composed(&mut rules, Method::Get, Some(bare), &shown(&[]), None).unwrap(), bare_written);
}

// battery: H14
#[test]
fn without_a_caller_every_identity_header_is_removed() {
    let removed = ["-user", "-x-user-id", "-x-org-id", "-x-key-id", "-x-scopes", "-x-tier", "-x-assertion"];
    let removed = [&removed[..], &LOOK_ALIKES, &["-x_assertion"]].concat();
    for (auth, method) in [(Auth::Public, Method::Get), (Auth::Optional, Method::Get), (Auth::Required, Method::Options)] {
        let mut rules = rules(auth, CredentialUpstream::Removed);
        rules.assertion = Some(assertion("x-assertion", ""));
        assert_eq!(composed(&mut rules, method, None, &shown(&[]), None).unwrap(), removed, "{auth:?} {method:?}");
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
            rules.look_alikes = LookAlikes::of(&rules);
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
        let written = composed(&mut rules, Method::Get, Some(doubles::caller()), &shown(&["authorization", "x-api-key"]), None).unwrap();
        assert_eq!(written, if removed { vec!["-authorization", "-x-api-key"] } else { vec![] });
    }
}

#[test]
fn the_assertion_takes_the_credentials_place() {
    let mut rules = rules(Auth::Required, CredentialUpstream::Removed);
    rules.identity_headers.clear();
    rules.assertion = Some(assertion("authorization", "Bearer "));
    let swapped = composed(&mut rules, Method::Get, Some(doubles::caller()), &shown(&["Authorization"]), Some("a.b.c")).unwrap();
    assert_eq!(swapped, ["authorization: Bearer a.b.c"]);
    // Where credentials are none of our business, that header is none either; a header of the assertion's own always is.
    let mut public = rules_with_auth(rules, Auth::Public);
    assert_eq!(composed(&mut public, Method::Get, None, &shown(&[]), None).unwrap(), Written::new());
    assert_eq!(composed(&mut public, Method::Options, None, &shown(&[]), None).unwrap(), Written::new());
    public.assertion = Some(assertion("x-caller", ""));
    assert_eq!(composed(&mut public, Method::Get, None, &shown(&[]), None).unwrap(), ["-x-caller", "-x_caller"]);
    let mut optional = rules_with_auth(public, Auth::Optional);
    optional.assertion = Some(assertion("authorization", "Bearer "));
    assert_eq!(composed(&mut optional, Method::Get, None, &shown(&[]), None).unwrap(), ["-authorization"]);
}

#[test]
fn only_what_is_new_takes_room_among_the_headers() {
    type Lines = [(&'static str, &'static str)];
    let mut rules = rules(Auth::Required, CredentialUpstream::Removed);
    rules.identity_headers = vec![header("user", of(IdentityValue::User)), header("x-org-id", of(IdentityValue::Organization))];
    rules.look_alikes = LookAlikes::of(&rules);
    let headers = |lines: &Lines| Headers::new(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
    // `user: alice` and `x-org-id: acme` are added: 2 lines, 21 bytes.
    let table: &[(&Lines, usize, usize)] = &[
        (&[], 2, 21),
        (&[("a", "1")], 3, 23),
        (&[("user", "mallory")], 2, 21),
        (&[("user", "mallory"), ("user", "eve"), ("a", "1")], 3, 23),
        (&[("x_org-id", "evil"), ("a", "1")], 4, 35),
        (&[("x-api-key", "secret"), ("a", "1")], 4, 38),
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
    let versions = ApiVersions { header: "api-version".into(), versions: vec![version("2024-01-01"), version("2025-01-01")], default: 1 };
    for (auth, caller, expected) in [
        (Auth::Public, None, "api-version: 2025-01-01"),
        (Auth::Required, Some(doubles::caller()), "api-version: 2025-01-01"),
        (Auth::Required, Some(Caller { pinned_version: Some("2024-01-01".into()), ..doubles::caller() }), "api-version: 2024-01-01"),
    ] {
        let mut rules = rules(auth, CredentialUpstream::Removed);
        rules.identity_headers.clear();
        rules.api_versions = Some(versions.clone());
        assert_eq!(composed(&mut rules, Method::Get, caller, &shown(&[]), None).unwrap(), [expected]);
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
    prop::sample::select(vec!["x-a", "X-A", "x-b", "X-B", "x-c", "authorization", "Authorization", "api-version"]).prop_map(str::to_owned)
}

/// Some are other spellings of others.
fn spelled_name() -> impl Strategy<Value = String> {
    let names = ["x-user-id", "x_user_id", "x-user_id", "x-tier", "x_tier", "x-a-b-c-d", "x_a_b_c_d", "x-a_b-c-d", "user", "authorization"];
    prop::sample::select(names.to_vec()).prop_map(str::to_owned)
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
        let written = composed(&mut rules, Method::Get, caller, &shown(&names), token).unwrap();

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

    /// As if every spelling were held against every name in each request.
    #[test]
    fn what_was_worked_out_before_removes_what_comparing_each_time_would(
        headers in prop::collection::vec(spelled_name(), 0..6),
        signed in prop::option::of(spelled_name()),
        version in prop::option::of(spelled_name()),
        places in prop::collection::vec(spelled_name(), 0..3),
        sent in prop::collection::btree_set(spelled_name(), 0..6),
        (known, public, kept) in any::<(bool, bool, bool)>(),
    ) {
        let auth = if public { Auth::Public } else { Auth::Optional };
        let mut rules = rules(auth, if kept { CredentialUpstream::Kept } else { CredentialUpstream::Removed });
        rules.identity_headers = headers.iter().map(|name| header(name, of(IdentityValue::Tier))).collect();
        rules.assertion = signed.as_ref().map(|name| assertion(name, ""));
        rules.places = places.iter().map(|name| samples::place(name, None)).collect();
        rules.api_versions = version.map(|header| ApiVersions {
            header: header.into(),
            versions: vec![ApiVersion { name: "1".into(), path_prefix: None, stage: Stage::Current, documentation: None, successor: None }],
            default: 0,
        });
        let lines: Vec<(&str, &str)> = sent.iter().map(|name| (name.as_str(), "1")).collect();
        let request = samples::request(Method::Get, "/x", &lines);
        let shown = shown(&places.iter().map(String::as_str).collect::<Vec<_>>());
        let caller = (known && !public).then(|| Arc::new(doubles::caller()));
        let told = |rules: &Rules, compared: &[&str]| {
            let found = find_route(&request, rules).unwrap();
            let permit = authorise(caller.clone(), &found).unwrap();
            let pinned = pin_version(&request, &found, permit.caller(), rules).unwrap();
            let prepared = compose(permit, pinned, &shown, &request.headers, rules, caller.as_ref().map(|_| "a.b.c")).unwrap();
            let mut edits = Edits { set: prepared.set, remove: prepared.remove };
            for name in compared {
                let Spellings { listed, are_all } = Spellings::of(name);
                let came = sent.iter().filter(|came| !are_all && looks_like(came.as_bytes(), name)).map(|came| Arc::from(came.as_str()));
                listed.into_iter().chain(came).for_each(|spelling| edits.remove(&spelling));
            }
            let removed: BTreeSet<String> = edits.remove.iter().map(ToString::to_string).collect();
            assert_eq!(removed.len(), edits.remove.len(), "{:?}", edits.remove);
            let set: Vec<String> = edits.set.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            (set, removed)
        };
        let names: Vec<&str> = headers.iter().chain(&signed).map(String::as_str).collect();
        let compared = told(&rules, &names);
        rules.look_alikes = LookAlikes::of(&rules);
        prop_assert_eq!(told(&rules, &[]), compared);
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
        let mut rules = rules(Auth::Required, CredentialUpstream::Removed);
        if let Ok(written) = composed(&mut rules, Method::Get, Some(caller), &shown(&[]), None) {
            for line in written {
                prop_assert!(line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{}", line);
                if let Some((_, value)) = line.split_once(": ") {
                    prop_assert!(!value.is_empty() && value.len() <= 1024 && value.trim() == value);
                }
            }
        }
    }
}
