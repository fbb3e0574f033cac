//! Restarts under load: two instances one after the other, and one instance whose every answer is counted.

use rustix::process::Signal;
use serde_json::json;

use crate::support::envoy::Envoy;
use crate::support::http1::message;
use crate::support::jwt;
use crate::support::load::Load;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::Plan;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;
use crate::support::upstream::Upstream;

fn token(subject: &str) -> String {
    let claims = jwt::claims("https://id.demo.example", "https://api.demo.example", subject);
    jwt::hs256(&jwt::with(claims, json!({ "scope": "conversations:read", "tier": "enterprise" })), JWT_SECRET)
}

fn request(credential: &str) -> Vec<u8> {
    message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &format!("Bearer {credential}"))], b"")
}

#[test]
fn two_instances_are_restarted_in_turn_and_no_request_fails() {
    let (port, admin_port) = (free_port(), free_port());
    let plan = Plan::of("quickstart")
        .with_two_instances()
        .envoy_with("port_value: 10000", &format!("port_value: {port}"))
        .envoy_with("port_value: 9901", &format!("port_value: {admin_port}"))
        .tollgate_with("requests_per_minute: 1000, burst: 100", "requests_per_minute: 60000000, burst: 1000000")
        .tollgate_with("errors: standard\n", "errors: standard\nlifecycle: { drain_delay: 1s }\n");
    let folder = plan.folder.path();
    plan.folder.write("envoy.yaml", &plan.envoy);
    let upstream = Upstream::unix(&plan.folder.short_path().join("run/upstream.sock"));
    // Each has its own store; what they share is the issuer.
    let mut instances: Vec<Tollgate> = ["a", "b"]
        .iter()
        .map(|name| {
            let ops_port = free_port();
            let rules = plan.tollgate.replace("run/check.sock", &format!("run/{name}.sock")).replace("./data", &format!("./data-{name}"));
            plan.folder.write(&format!("{name}.yaml"), &rules.replace("127.0.0.1:9464", &format!("127.0.0.1:{ops_port}")));
            let check = CheckAt::Unix(plan.folder.short_path().join(format!("run/{name}.sock")));
            Tollgate::start(folder, &format!("{name}.yaml"), check, ops_port)
        })
        .collect();
    let envoy = Envoy::start(folder, "envoy.yaml", port, admin_port);
    let healthy = || envoy.statistic("cluster.tollgate.membership_healthy");
    wait_until("Envoy knows both instances", || healthy() == 2);
    let load = Load::start(port, (0..4).map(|number| request(&token(&format!("user-{number}")))).collect());
    for _ in 0..2 {
        for instance in &mut instances {
            let before = upstream.count();
            let status = instance.process.stop();
            assert_eq!(status.code(), Some(0), "{}", instance.process.last_words());
            wait_until("the other one carries the load", || upstream.count() > before + 50);
            instance.restart();
            wait_until("Envoy has the instance back", || healthy() == 2);
        }
    }
    load.finish().assert_flawless(500);
}

/// SIGTERM loses nothing: whoever got an answer is counted, and whoever was counted got an answer.
#[test]
fn after_sigterm_every_answer_is_counted_exactly() {
    let plan = Plan::of("quickstart").tollgate_with("errors: standard\n", "errors: standard\nlifecycle: { drain_delay: 200ms }\n");
    let mut scenario = plan.start();
    let key = scenario.key("alice", "enterprise", &["conversations:read", "tollgate:unlimited"]);
    let load = Load::start(scenario.envoy.port, vec![request(&key); 4]);
    wait_until("the load runs", || scenario.upstream.count() > 200);
    let status = scenario.tollgate.process.stop();
    assert_eq!(status.code(), Some(0), "{}", scenario.tollgate.process.last_words());
    let tally = load.finish();
    assert_eq!(tally.total(), tally.of(200) + tally.of(503), "{tally:?}");
    scenario.tollgate.restart();
    assert_eq!(scenario.admitted("alice"), tally.of(200));
    assert_eq!(scenario.upstream.count(), tally.of(200));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let plan =
        Plan::of("quickstart").tollgate_with("errors: standard\n", "errors: standard\nlifecycle: { drain_delay: 60s, grace: 60s }\n");
    let mut scenario = plan.start();
    scenario.tollgate.process.signal(Signal::TERM);
    wait_until("it says that it is going", || scenario.tollgate.ops("/readyz").status == 503);
    assert!(scenario.tollgate.process.is_running());
    scenario.tollgate.process.signal(Signal::TERM);
    // `wait` gives up long before a drain of a minute would end.
    scenario.tollgate.process.wait();
}

// battery: X7
#[test]
fn a_process_that_was_halted_judges_by_the_clock_it_wakes_up_to() {
    let scenario = Plan::of("quickstart").start();
    // Past by three seconds: inside the leeway of five, and outside of it when the process goes on.
    let claims = jwt::claims("https://id.demo.example", "https://api.demo.example", "tom");
    let ending = jwt::with(claims, json!({ "scope": "conversations:read", "exp": jwt::now() - 3 }));
    let token = request(&jwt::hs256(&ending, JWT_SECRET));
    assert_eq!(scenario.client().raw(&token).status, 200);
    scenario.tollgate.process.signal(Signal::STOP);
    let end = jwt::now() + 3;
    wait_until("the token is past its leeway", || jwt::now() > end);
    scenario.tollgate.process.signal(Signal::CONT);
    assert_eq!(scenario.client().raw(&token).status, 401);
}
