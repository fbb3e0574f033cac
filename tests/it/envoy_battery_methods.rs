//! The attack battery's methods, preflights, upgrades and hosts through Envoy.

use crate::support::http1::message;
use crate::support::http2;
use crate::support::scenario::Listener;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;

const ROUTES: &str = "
  - { name: everything, path: /area/** }
  - { name: shared, path: /shared, methods: [GET, POST], cors: preflight }
  - { name: hosted, path: /hosted, methods: [GET], host: admin.example.com }
  - { name: hosted.port, path: /hosted, methods: [GET], host: \"admin.example.com:8443\", scopes: { all_of: [webhooks:write] } }
";

struct Battery {
    scenario: Scenario,
    authorization: String,
}

impl Battery {
    fn start(plan: Plan) -> Self {
        let scenario = plan.with_routes(ROUTES).unguarded().start();
        let key = scenario.key("alice", "enterprise", &["conversations:read", "tollgate:unlimited"]);
        Self { scenario, authorization: format!("Bearer {key}") }
    }

    fn status(&self, method: &str, target: &str, host: &str, more: &[(&str, &str)]) -> u16 {
        let mut headers = vec![("authorization", self.authorization.as_str())];
        headers.extend(more);
        self.scenario.client().raw(&message(method, target, host, &headers, b"")).status
    }
}

// battery: M1 M4
#[test]
fn methods_are_a_closed_list_of_exact_spellings() {
    let battery = Battery::start(Plan::of("quickstart"));
    for method in ["get", "GeT", "FOO", "TRACE", "PROPFIND"] {
        for target in ["/api/v1/conversations", "/area/x", "/public/ping"] {
            let request = http2::request(method, target, &[("authorization", &battery.authorization)]);
            let status = http2::send(battery.scenario.envoy.port, request, b"", None).status;
            assert!(matches!(status, 400 | 403 | 405), "{method} {target} over HTTP/2: {status}");
            let status = battery.status(method, target, "api.example.com", &[]);
            assert!(matches!(status, 400 | 403 | 405), "{method} {target} over HTTP/1.1: {status}");
        }
    }
    assert_eq!(battery.scenario.upstream.count(), 0);
    let request = http2::request("GET", "/area/x", &[("authorization", &battery.authorization)]);
    assert_eq!(http2::send(battery.scenario.envoy.port, request, b"", None).status, 200);
}

// battery: M3
#[test]
fn head_is_judged_and_counted_as_get() {
    let battery = Battery::start(Plan::of("quickstart"));
    assert_eq!(battery.status("HEAD", "/api/v1/conversations", "api.example.com", &[]), 200);
    assert_eq!(battery.status("HEAD", "/api/v1/customers", "api.example.com", &[]), 403);
    assert_eq!(battery.status("HEAD", "/api/v1/conversations/7/messages", "api.example.com", &[]), 405);
    assert_eq!(battery.scenario.admitted("alice"), 1);
}

// battery: M5
#[test]
fn connect_and_upgrades_are_refused() {
    let battery = Battery::start(Plan::of("quickstart").envoy_with(
        "                codec_type: AUTO\n",
        "                codec_type: AUTO\n                upgrade_configs: [{ upgrade_type: websocket }]\n",
    ));
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(battery.status("GET", "/area/x", "api.example.com", &upgrade), 403);
    let status = battery.status("CONNECT", "api.example.com:443", "api.example.com:443", &[]);
    assert!(matches!(status, 400..=499), "{status}");
    assert_eq!(battery.scenario.upstream.count(), 0);
}

// battery: M6 M8
#[test]
fn only_the_exact_preflight_passes_and_only_where_a_route_says_so() {
    for listener in Listener::BOTH {
        let battery = Battery::start(listener.plan());
        let client = battery.scenario.client();
        let origin = ("origin", "https://app.example.com");
        let method = ("access-control-request-method", "POST");
        let status = |verb: &str, target: &str, headers: &[(&str, &str)], body: &[u8]| {
            client.raw(&message(verb, target, "api.example.com", headers, body)).status
        };
        assert_eq!(status("OPTIONS", "/shared", &[origin, method], b""), 200, "{listener:?}: the exact shape");
        let both = [origin, method];
        let look_alikes = [
            ("/area/x", &both[..], ""),
            ("/area/x", &[], ""),
            ("/shared", &[], ""),
            ("/shared", &both[..1], ""),
            ("/shared", &both[1..], ""),
            ("/shared", &both, "{}"),
        ];
        for (target, headers, body) in look_alikes {
            let status = status("OPTIONS", target, headers, body.as_bytes());
            assert!(matches!(status, 401 | 405), "{listener:?} {target} {headers:?}: {status}");
        }
        assert_eq!(status("GET", "/shared", &[origin, method], b""), 401);
        assert_eq!(battery.scenario.upstream.count(), 1);
    }
}

// battery: O1 O2
#[test]
fn hosts_are_folded_and_an_exact_port_wins() {
    for listener in Listener::BOTH {
        let battery = Battery::start(listener.plan());
        let hosts = [
            ("admin.example.com", 200),
            ("ADMIN.Example.com", 200),
            ("admin.example.com.", 200),
            ("admin.example.com:80", 200),
            ("admin.example.com:8443", 403),
            ("other.example.com", 404),
            ("admin.example.com.evil.example", 404),
            ("[::1]:8080", 404),
        ];
        for (host, wanted) in hosts {
            assert_eq!(battery.status("GET", "/hosted", host, &[]), wanted, "{listener:?} {host}");
        }
    }
}

// battery: O4 O5 O6 O7
#[test]
fn what_is_no_host_is_refused() {
    for listener in Listener::BOTH {
        let battery = Battery::start(listener.plan());
        let long = format!("{}.example.com", "a".repeat(64));
        for host in [
            "",
            "user@admin.example.com",
            "admin.example.com/x",
            "admin example.com",
            "ädmin.example.com",
            "a:0x",
            "a:99999",
            "a:port",
            &long,
        ] {
            let status = battery.status("GET", "/area/x", host, &[]);
            assert_eq!(status, 400, "{listener:?} {host:?}");
        }
        assert_eq!(battery.status("GET", "/area/x", "xn--dmin-moa0i.example.com", &[]), 200);
        assert_eq!(battery.scenario.upstream.count(), 1);
    }
}

/// gRPC callers get their own kind of refusal: HTTP 200 with `grpc-status`, and 8 where the limit is reached.
#[test]
fn grpc_callers_get_a_grpc_status() {
    let battery = Battery::start(Plan::of("quickstart"));
    let free = battery.scenario.key("fred", "free", &["conversations:read"]);
    let call = |target: &str, credential: Option<&str>| {
        let authorization = credential.map(|key| format!("Bearer {key}"));
        let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
        headers.extend(authorization.iter().map(|value| ("authorization", value.as_str())));
        let reply = http2::send(battery.scenario.envoy.port, http2::request("POST", target, &headers), b"", None);
        (reply.status, reply.header("grpc-status").map(str::to_owned))
    };
    let answer = |code: &str| (200, Some(code.to_owned()));
    assert_eq!(call("/area/pkg.Service/Call", None), answer("16"));
    assert_eq!(call("/api/v1/conversations/7/messages", Some(&free)), answer("7"));
    assert_eq!(call("/pkg.Unknown/Call", Some(&free)), answer("12"));
    for _ in 0..10 {
        battery.scenario.client().bearer("/api/v1/conversations", &free);
    }
    let limited = (0..5).map(|_| call("/area/pkg.Service/Call", Some(&free))).find(|(_, code)| code.as_deref() == Some("8"));
    assert_eq!(limited, Some(answer("8")));
}
