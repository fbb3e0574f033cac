//! Two sources with the same subject never become one user: in headers, limits, counts and metrics.

use serde_json::json;

use crate::support::jwt;
use crate::support::scenario::NewKey;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;
use crate::support::scenario::counted;
use crate::support::tollgate;

const SECOND_ISSUER: &str = "  - name: partner
    issuer: https://id.partner.example
    audience: https://api.demo.example
    algorithms: [HS256]
    keys: { hmac_secret: { file: ./auth-secret } }
    claims: { user: sub, scopes: scope, org: org_id, tier: tier }

tiers:
";

fn two_issuers() -> Scenario {
    // The same secret on purpose: only `iss` tells the two apart.
    let plan = Plan::of("quickstart").tollgate_with("tiers:\n", SECOND_ISSUER);
    plan.start()
}

fn token(issuer: &str, subject: &str) -> String {
    let claims = jwt::claims(issuer, "https://api.demo.example", subject);
    let claims = jwt::with(claims, json!({ "scope": "conversations:read", "tier": "free" }));
    jwt::hs256(&claims, crate::support::scenario::JWT_SECRET)
}

#[test]
fn one_subject_of_three_sources_is_three_users() {
    let scenario = two_issuers();
    let key = scenario.new_key(&NewKey { user: "sam", tier: "free", scopes: &["conversations:read"], ..NewKey::default() }).text;
    let credentials =
        [("sam", key), ("demo:sam", token("https://id.demo.example", "sam")), ("partner:sam", token("https://id.partner.example", "sam"))];
    for (user, credential) in &credentials {
        // Each has a burst of ten of its own, used to the end before the next one begins.
        let mut allowed = 0;
        loop {
            let reply = scenario.client().bearer("/api/v1/conversations", credential);
            if reply.status == 429 {
                break;
            }
            assert_eq!(reply.upstream_header("user").as_deref(), Some(*user));
            allowed += 1;
            assert!(allowed < 40, "{user} is never limited");
        }
        assert!(allowed >= 10, "{user} had only {allowed} of the ten");
        assert_eq!(counted(scenario.folder.path(), user, "allowed"), allowed, "{user}");
        let series = scenario.tollgate.ops("/metrics/usage").text();
        let label = format!("user=\"{user}\"");
        let line = series
            .lines()
            .find(|line| line.contains(&label) && line.contains("allowed"))
            .unwrap_or_else(|| panic!("no {label} in {series}"));
        assert!(line.ends_with(&format!(" {allowed}")), "{line}");
    }
}

/// A subject cannot be written so that it reads like a user of another source.
#[test]
fn a_subject_that_looks_like_another_sources_user_is_somebody_else() {
    let scenario = two_issuers();
    let shown = |issuer: &str, subject: &str| {
        let reply = scenario.client().bearer("/api/v1/conversations", &token(issuer, subject));
        reply.upstream_header("user").unwrap_or_else(|| panic!("{subject}: {}", reply.text()))
    };
    let demo = "https://id.demo.example";
    let users = [
        shown(demo, "sam"),
        shown(demo, "partner:sam"),
        shown(demo, "demo:sam"),
        shown(demo, "%3Asam"),
        shown(demo, ":sam"),
        shown("https://id.partner.example", "sam"),
        shown("https://id.partner.example", "Sam"),
    ];
    let mut different = users.to_vec();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), users.len(), "{users:?}");
    // Local users stand bare, so a bare name with a colon must never be one.
    let key = scenario.new_key(&NewKey { user: "demo:sam", tier: "free", scopes: &["conversations:read"], ..NewKey::default() }).text;
    let reply = scenario.client().bearer("/api/v1/conversations", &key);
    assert!(!users.contains(&reply.upstream_header("user").expect("a user")), "{}", reply.text());
}

#[test]
fn two_sources_that_claim_one_namespace_are_refused_at_load() {
    let plan = Plan::of("quickstart").tollgate_with("tiers:\n", &SECOND_ISSUER.replace("name: partner", "name: demo"));
    plan.folder.write("tollgate.yaml", &plan.tollgate);
    let output = tollgate::run(plan.folder.path(), &["check-config", "--config", "tollgate.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}
