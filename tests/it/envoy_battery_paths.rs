//! The attack battery's paths through Envoy: before the shipped listener, which mends or refuses much by itself, and before one that
//! passes everything on, so that Tollgate must judge alone.

use crate::support::http1::Client;
use crate::support::http1::message;
use crate::support::scenario::Listener;
use crate::support::scenario::Scenario;

/// `/area` is for everybody with a key, `/admin` for those with a scope that the test's key does not have.
const ROUTES: &str = "
  - { name: area, path: /area/** }
  - { name: admin, path: /admin/**, scopes: { all_of: [webhooks:write] } }
";

struct Battery {
    scenario: Scenario,
    listener: Listener,
    key: String,
}

impl Battery {
    fn start(listener: Listener) -> Self {
        let scenario = listener.plan().with_routes(ROUTES).unguarded().start();
        let key = scenario.key("alice", "enterprise", &["analytics:read", "tollgate:unlimited"]);
        Self { scenario, listener, key }
    }

    fn client(&self) -> Client {
        self.scenario.client()
    }

    fn status(&self, target: &[u8]) -> u16 {
        let mut raw = b"GET ".to_vec();
        raw.extend_from_slice(target);
        raw.extend_from_slice(format!(" HTTP/1.1\r\nhost: api.example.com\r\nauthorization: Bearer {}\r\n\r\n", self.key).as_bytes());
        self.client().raw(&raw).status
    }

    /// One target and what may come of it, behind the shipped and behind the careless listener.
    fn expect(&self, target: &str, shipped: &[u16], careless: &[u16]) {
        let wanted = match self.listener {
            Listener::Shipped => shipped,
            Listener::Careless => careless,
        };
        let status = self.status(target.as_bytes());
        let shown: String = target.chars().take(80).collect();
        assert!(wanted.contains(&status), "{:?} {shown:?}: {status}, not {wanted:?}", self.listener);
    }
}

fn both(cases: &[(&str, &[u16], &[u16])]) {
    for listener in Listener::BOTH {
        let battery = Battery::start(listener);
        assert_eq!(battery.status(b"/area/x"), 200, "the key opens what it should");
        assert_eq!(battery.status(b"/admin"), 403, "and not what it should not");
        for (target, shipped, careless) in cases {
            battery.expect(target, shipped, careless);
        }
        for seen in battery.scenario.upstream.seen() {
            assert!(!seen.path.starts_with("/admin"), "{listener:?}: {} reached the upstream", seen.path);
        }
    }
}

// battery: P1 P2 P4
#[test]
fn dot_segments_lead_nowhere() {
    both(&[
        ("/area/../admin", &[403], &[400]),
        ("/area/./x", &[200], &[400]),
        ("/..", &[400, 404], &[400]),
        ("/../admin", &[400, 403], &[400]),
        ("/area/%2e%2e/admin", &[403], &[400]),
        ("/area/%2E/admin", &[200], &[400]),
        ("/area/%252e%252e/admin", &[400], &[400]),
        ("/area/%252e%252e%252fadmin", &[400], &[400]),
    ]);
}

// battery: P5 P6
#[test]
fn matrix_parameters_are_refused() {
    both(&[
        ("/area/..;x=y/admin", &[400, 403], &[400]),
        ("/area/..;/admin", &[400, 403], &[400]),
        ("/admin;v=1", &[400], &[400]),
        ("/;x/admin", &[400], &[400]),
        ("/admin;/x", &[400], &[400]),
        ("/area/x;v=1", &[400], &[400]),
    ]);
}

// battery: P7 P9
#[test]
fn doubled_and_turned_slashes_are_one_slash_or_refused() {
    both(&[
        ("//admin", &[403], &[400]),
        ("/area//x", &[200], &[400]),
        ("/admin//", &[403, 404], &[400]),
        ("/area\\..\\admin", &[400, 403], &[400]),
        ("/area/x\\y", &[200, 400], &[400]),
        ("/area%2f..%2fadmin", &[400], &[400]),
        ("/area/x%5cy", &[400], &[400]),
    ]);
}

// battery: P10 P11 P12 P14 P15 P20
#[test]
fn escapes_have_one_meaning_or_none() {
    both(&[
        ("/adm%69n", &[403], &[403]),
        ("/%61dmin", &[403], &[403]),
        ("/area/%zz", &[400], &[400]),
        ("/area/%2", &[400], &[400]),
        ("/area/x%", &[400], &[400]),
        ("/area/%00", &[400], &[400]),
        ("/admin%00.js", &[400], &[400]),
        ("/area/%c0%ae", &[400], &[400]),
        ("/area/%c0%af", &[400], &[400]),
        ("/area/%ed%a0%80", &[400], &[400]),
        ("/area/%80", &[400], &[400]),
        ("/area/%09", &[400], &[400]),
        ("/area/%0d%0a", &[400], &[400]),
        ("/area/x%3fy", &[200], &[200]),
        ("/area/x%23y", &[200], &[200]),
        ("/admin%3f", &[404], &[404]),
    ]);
}

// battery: P16 P17
#[test]
fn another_spelling_is_another_path() {
    both(&[
        ("/Admin", &[404], &[404]),
        ("/ADMIN", &[404], &[404]),
        ("/admin.", &[404], &[404]),
        ("/admin/.", &[403, 404], &[400]),
        ("/admin/", &[403, 404], &[403, 404]),
        ("/administrator", &[404], &[404]),
        ("/public/ping/", &[404], &[404]),
    ]);
}

// battery: P19
#[test]
fn the_query_never_changes_the_path() {
    let many = format!("/area/x?{}", "a=1&".repeat(10_000));
    both(&[
        ("/area/x?b=/../admin", &[200], &[200]),
        ("/area/x?", &[200], &[200]),
        ("/area/x??", &[200], &[200]),
        ("/area/x?a;b;c=/admin", &[200], &[200]),
        ("/admin?/../area/x", &[403], &[403]),
        (&many, &[200], &[200]),
    ]);
}

// battery: P21 P22
#[test]
fn odd_targets_are_what_envoy_makes_of_them() {
    both(&[
        ("http://other.example/admin", &[403], &[403]),
        ("http://other.example/area/x", &[200], &[200]),
        ("admin", &[400], &[400]),
        ("*", &[400, 404], &[400, 404]),
    ]);
    for listener in Listener::BOTH {
        let battery = Battery::start(listener);
        let reply = battery.client().raw(&message("OPTIONS", "*", "api.example.com", &[], b""));
        assert!(matches!(reply.status, 400 | 404), "{listener:?}: {reply:?}");
    }
}

// battery: P24
#[test]
fn ten_thousand_segments_are_refused_quickly() {
    let segments = format!("/area{}", "/a".repeat(10_000));
    let dots = format!("/area{}/admin", "/a/..".repeat(10_000));
    both(&[(&segments, &[400], &[400]), (&dots, &[200, 400], &[400])]);
}

// battery: P27
#[test]
fn headers_that_name_another_path_are_ignored_and_do_not_pass() {
    for listener in Listener::BOTH {
        let battery = Battery::start(listener);
        let authorization = format!("Bearer {}", battery.key);
        for name in ["x-original-url", "x-rewrite-url", "x-envoy-original-path"] {
            let reply = battery.client().get("/area/x", &[("authorization", &authorization), (name, "/admin")]);
            assert_eq!(reply.status, 200, "{listener:?} {name}");
            if listener == Listener::Shipped {
                assert_eq!(reply.upstream_header(name), None, "{name}");
            }
            let reply = battery.client().get("/admin", &[("authorization", &authorization), (name, "/area/x")]);
            assert_eq!(reply.status, 403, "{listener:?} {name}");
            let reply = battery.client().get("/area/x", &[(name, "/public/ping")]);
            assert_eq!(reply.status, 401, "{listener:?} {name}");
        }
    }
}
