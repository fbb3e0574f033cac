//! A client's forged identity headers never reach the upstream: not on any kind of route, not on an allow, not with Tollgate away.

use crate::support::http1::Reply;
use crate::support::scenario::Listener;
use crate::support::scenario::NewKey;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;

const IDENTITY_HEADERS: [&str; 6] = ["user", "x-user-id", "x-org-id", "x-key-id", "x-scopes", "x-tier"];

const MORE_ROUTES: &str = "
  - { name: optional, path: /optional, methods: [GET], auth: optional }
  - { name: required, path: /required, methods: [GET] }
";

/// How a name can be written so that some server takes it for the real one.
fn spellings(name: &str) -> Vec<String> {
    let capitals: Vec<String> = name.split('-').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..])).collect();
    vec![name.to_owned(), name.to_uppercase(), capitals.join("-")]
}

/// Other names that servers of the CGI kind read as the real one.
fn look_alikes(name: &str) -> Vec<String> {
    if !name.contains('-') {
        return Vec::new();
    }
    let mixed = [name.replacen('-', "_", 1), name.replace("-id", "_id")];
    let mut all = vec![name.replace('-', "_"), name.replace('-', "_").to_uppercase()];
    all.extend(mixed.into_iter().filter(|spelling| spelling != name));
    all
}

fn start(listener: Listener) -> Scenario {
    // The forgeries are many, and none of these tests is about limits.
    let generous = "pro: { requests_per_minute: 6000000, burst: 1000000 }";
    listener.plan().with_routes(MORE_ROUTES).tollgate_with("pro: { requests_per_minute: 300, burst: 50 }", generous).start()
}

/// The upstream saw of each identity header what Tollgate says, which is nothing where nothing is known.
fn assert_unforged(reply: &Reply, known: &[(&str, &str)], what: &str) {
    assert_eq!(reply.status, 200, "{what}: {}", reply.text());
    for name in IDENTITY_HEADERS {
        let wanted = known.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(reply.upstream_header(name), wanted, "{name}, {what}");
    }
    assert!(!reply.text().contains("mallory"), "{what}: {}", reply.text());
}

// battery: H14
// oauth: O12
#[test]
fn forged_identity_headers_never_reach_the_upstream() {
    for listener in Listener::BOTH {
        let scenario = start(listener);
        let key = scenario.new_key(&NewKey {
            user: "alice",
            organization: Some("acme"),
            tier: "pro",
            scopes: &["analytics:read"],
            ..NewKey::default()
        });
        let authorization = format!("Bearer {}", key.text);
        let with_org = [
            ("user", "alice"),
            ("x-user-id", "alice"),
            ("x-org-id", "acme"),
            ("x-key-id", key.id.as_str()),
            ("x-scopes", "analytics:read"),
            ("x-tier", "pro"),
        ];
        // A key without an organisation: that header is not set, and so it must be removed.
        let homeless = scenario.new_key(&NewKey { user: "bob", tier: "pro", scopes: &["analytics:read"], ..NewKey::default() });
        let without_org = format!("Bearer {}", homeless.text);
        let bob =
            [("user", "bob"), ("x-user-id", "bob"), ("x-key-id", homeless.id.as_str()), ("x-scopes", "analytics:read"), ("x-tier", "pro")];
        let (alice, homeless) = (Some(authorization.as_str()), Some(without_org.as_str()));
        let cases = [
            ("/public/ping", None, &[][..]),
            ("/optional", None, &[]),
            ("/optional", alice, &with_org),
            ("/required", alice, &with_org),
            ("/required", homeless, &bob),
            ("/api/v1/analytics", alice, &with_org),
        ];
        for (target, credential, known) in cases {
            for name in IDENTITY_HEADERS {
                for spelling in spellings(name) {
                    let mut once: Vec<(&str, &str)> = vec![(&spelling, "mallory")];
                    once.extend(credential.map(|value| ("authorization", value)));
                    assert_unforged(&scenario.client().get(target, &once), known, &format!("{listener:?} {target} {spelling}"));
                    let mut twice = once.clone();
                    twice.insert(0, (name, "mallory"));
                    twice.push((&spelling, "mallory,mallory"));
                    assert_unforged(&scenario.client().get(target, &twice), known, &format!("{listener:?} {target} {spelling} thrice"));
                }
            }
        }
    }
}

// battery: H2
#[test]
fn without_a_defence_of_envoys_no_look_alike_reaches_the_upstream() {
    let scenario = start(Listener::Careless);
    let authorization = format!("Bearer {}", scenario.key("alice", "pro", &[]));
    let cases = [("/public/ping", None), ("/optional", None), ("/optional", Some(&authorization)), ("/required", Some(&authorization))];
    for (target, credential) in cases {
        for name in IDENTITY_HEADERS {
            for spelling in look_alikes(name) {
                let mut headers = vec![(spelling.as_str(), "mallory")];
                headers.extend(credential.map(|value| ("authorization", value.as_str())));
                let reply = scenario.client().get(target, &headers);
                assert_eq!(reply.status, 200, "{target} {spelling}: {}", reply.text());
                assert!(!reply.text().contains("mallory"), "{target} {spelling}: {}", reply.text());
            }
        }
    }
}

// battery: H2
#[test]
fn the_underscore_variant_is_refused() {
    let scenario = start(Listener::Shipped);
    for name in IDENTITY_HEADERS.iter().filter(|name| name.contains('-')) {
        let reply = scenario.client().get("/public/ping", &[(&name.replace('-', "_"), "mallory")]);
        assert_eq!(reply.status, 400, "{name}");
    }
    assert_eq!(scenario.upstream.count(), 0);
}

// battery: H7
#[test]
fn naming_our_header_in_connection_does_not_remove_it() {
    let scenario = start(Listener::Shipped);
    let key = scenario.key("alice", "pro", &[]);
    let authorization = format!("Bearer {key}");
    let reply =
        scenario.client().get("/required", &[("authorization", &authorization), ("connection", "user, x-user-id"), ("user", "mallory")]);
    assert_eq!(reply.upstream_header("user").as_deref(), Some("alice"), "{}", reply.text());
}

// battery: H8
#[test]
fn a_bare_line_feed_makes_no_way_around() {
    let scenario = start(Listener::Careless);
    let raw = b"GET /public/ping HTTP/1.1\r\nhost: api.example.com\r\nx-harmless: 1\nuser: mallory\r\n\r\n";
    let reply = scenario.client().raw(raw);
    assert!(reply.status == 400 || reply.upstream_header("user").is_none(), "{reply:?}");
}

/// With fail-open an outage lets everybody in, which is what was asked for, but nobody as somebody.
#[test]
fn with_tollgate_away_under_failure_mode_allow_nothing_forged_passes() {
    let mut scenario =
        Plan::of("quickstart").envoy_with("failure_mode_allow: false", "failure_mode_allow: true").with_routes(MORE_ROUTES).start();
    let key = scenario.key("alice", "pro", &[]);
    let authorization = format!("Bearer {key}");
    scenario.tollgate.process.kill();
    for target in ["/public/ping", "/optional", "/required", "/api/v1/conversations", "/nowhere"] {
        for name in IDENTITY_HEADERS {
            for spelling in spellings(name) {
                for credential in [None, Some(("authorization", authorization.as_str()))] {
                    let mut headers = vec![(spelling.as_str(), "mallory"), (name, "mallory")];
                    headers.extend(credential);
                    assert_unforged(&scenario.client().get(target, &headers), &[], &format!("{target} {spelling}"));
                }
            }
        }
        for name in IDENTITY_HEADERS.iter().filter(|name| name.contains('-')) {
            assert_eq!(scenario.client().get(target, &[(&name.replace('-', "_"), "mallory")]).status, 400, "{target} {name}");
        }
    }
}

/// Envoy can be told to show Tollgate the body, and then a caller decides how long the message is.
#[test]
fn under_failure_mode_allow_a_long_body_does_not_open_the_gate() {
    let scenario = Plan::of("quickstart")
        .envoy_with("failure_mode_allow: false", "failure_mode_allow: true")
        .envoy_with(
            "encode_raw_headers: true",
            "encode_raw_headers: true\n                      with_request_body: { max_request_bytes: 4194304 }",
        )
        .envoy_with("per_connection_buffer_limit_bytes: 32768", "per_connection_buffer_limit_bytes: 8388608")
        .start();
    for length in [300_000, 3_000_000] {
        let head = format!("POST /api/v1/knowledge HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        let reply = scenario.client().raw(&[head.as_bytes(), &vec![b'x'; length]].concat());
        assert_eq!(reply.status, 400, "{length}: {}", reply.text());
    }
    assert_eq!(scenario.upstream.count(), 0);
    assert_eq!(scenario.envoy.statistic("http.public.ext_authz.tollgate.failure_mode_allowed"), 0);
}

/// Nothing that a caller can send brings about a fault, which fail-open would turn into an allow.
#[test]
fn under_failure_mode_allow_no_input_of_a_caller_opens_the_gate() {
    let scenario = Plan::of("quickstart")
        .envoy_with("failure_mode_allow: false", "failure_mode_allow: true")
        .envoy_with("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW")
        .start();
    let long = "a".repeat(50_000);
    let inputs: Vec<Vec<u8>> = vec![
        b"GET /api/v1/conversations HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \xff\xfe\r\n\r\n".to_vec(),
        b"GET /api/v1/conversations HTTP/1.1\r\nhost: a\r\nx-odd: \x80\x81\xff\r\n\r\n".to_vec(),
        b"GET /api/v1/conversations?\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"GET /api/v1/conversations%ff%fe HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"GET /api/v1/conversations HTTP/1.1\r\nhost: \xc3\xa4\r\n\r\n".to_vec(),
        format!("GET /api/v1/conversations HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {long}\r\n\r\n").into_bytes(),
        format!("GET /api/v1/conversations HTTP/1.1\r\nhost: a\r\nx-long: {long}\r\n\r\n").into_bytes(),
        format!("GET /api/v1/{long} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes(),
        format!("GET /api/v1/conversations HTTP/1.1\r\nhost: a\r\nauthorization: Bearer e30.{}.e30\r\n\r\n", "W1td".repeat(1000))
            .into_bytes(),
    ];
    for input in inputs {
        let reply = scenario.client().raw(&input);
        assert!(matches!(reply.status, 400..=499), "{} for {}", reply.status, String::from_utf8_lossy(&input[..input.len().min(120)]));
    }
    assert_eq!(scenario.upstream.count(), 0);
    assert_eq!(scenario.envoy.statistic("http.public.ext_authz.tollgate.failure_mode_allowed"), 0);
}
