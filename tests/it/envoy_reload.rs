//! A hundred reloads under load, bad files among them: no request fails, and none is judged by two rule sets.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::support::http1::message;
use crate::support::load::Load;
use crate::support::process::wait_until;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;

const RELOADS: usize = 100;

const BAD_FILES: [&str; 5] = ["", "routes: [", "routes: []\nno_such_key: 1\n", "{{{{", "listen: { check: 17 }\nroutes: no\n"];

/// The rules with a mark in two places that different rooms read: the name of the route, and an identity header.
fn marked(rules: &str, mark: usize) -> String {
    let routes = rules.replace("name: conversations.list", &format!("name: conversations.list.{mark}"));
    routes.replace("x-tier: \"{tier}\"", &format!("x-tier: \"{mark}.{{tier}}\""))
}

fn write_whole(scenario: &Scenario, text: &str) {
    let path = scenario.folder.write("tollgate.yaml.new", text);
    std::fs::rename(path, scenario.folder.path().join("tollgate.yaml")).expect("a rename inside a folder");
    scenario.tollgate.process.signal(Signal::HUP);
}

// battery: C11
#[test]
fn a_hundred_reloads_fail_no_request_and_mix_no_rules() {
    let plan = Plan::of("quickstart").envoy_with("check_us:", "tier: \"%REQ(X-TIER)%\"\n                          check_us:");
    let scenario = plan.start();
    let key = scenario.key("alice", "enterprise", &["conversations:read", "tollgate:unlimited"]);
    let authorization = format!("Bearer {key}");
    let request = message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &authorization)], b"");
    let load = Load::start(scenario.envoy.port, vec![request.clone(); 4]);
    for reload in 1..=RELOADS {
        if reload % 10 == 0 {
            let failures = || scenario.tollgate.metric("tollgate_config_reloads_total", &["result=\"failure\""]);
            let before = failures();
            write_whole(&scenario, BAD_FILES[reload / 10 % BAD_FILES.len()]);
            wait_until("the bad file was refused", || failures() > before);
        } else {
            write_whole(&scenario, &marked(&scenario.rules, reload));
            let shown = format!("{reload}.enterprise");
            wait_until("the new rules are in force", || {
                scenario.client().raw(&request).upstream_header("x-tier").as_deref() == Some(&shown)
            });
        }
    }
    load.finish().assert_flawless(1000);

    let mut named: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    wait_until("the access log is written out", || scenario.envoy.access_log().len() as u64 >= scenario.upstream.count());
    for line in scenario.envoy.access_log() {
        let text = |member: &str| line[member].as_str().unwrap_or_else(|| panic!("{member} in {line}")).to_owned();
        let mark = |text: String| text.chars().filter(char::is_ascii_digit).collect::<String>();
        named.entry(text("config_revision")).or_default().insert((mark(text("route")), mark(text("tier"))));
    }
    let good = RELOADS - RELOADS / 10;
    assert!(named.len() > good, "{} revisions were seen, {good} files and the first one were good", named.len());
    for (revision, marks) in &named {
        assert_eq!(marks.len(), 1, "{revision} stands beside more than one set of rules: {marks:?}");
        assert!(marks.iter().all(|(route, tier)| route == tier), "{revision}: {marks:?}");
    }
}

// battery: C10
#[test]
fn the_symlink_swap_of_a_config_map_is_seen_without_a_signal() {
    let scenario = Plan::of("quickstart").start();
    let key = scenario.key("alice", "enterprise", &["conversations:read", "tollgate:unlimited"]);
    let tier = || scenario.client().bearer("/api/v1/conversations", &key).upstream_header("x-tier");
    assert_eq!(tier().as_deref(), Some("enterprise"));
    let folder = scenario.folder.path();
    for (version, mark) in [("..v1", 1), ("..v2", 2)] {
        scenario.folder.write(&format!("{version}/tollgate.yaml"), &marked(&scenario.rules, mark));
        // As a kubelet does it: the file is a link into `..data`, which is a link that is swapped.
        if mark == 1 {
            std::os::unix::fs::symlink(version, folder.join("..data")).expect("a link");
            std::os::unix::fs::symlink("..data/tollgate.yaml", folder.join("link.new")).expect("a link");
            std::fs::rename(folder.join("link.new"), folder.join("tollgate.yaml")).expect("a rename");
        } else {
            std::os::unix::fs::symlink(version, folder.join("..data.new")).expect("a link");
            std::fs::rename(folder.join("..data.new"), folder.join("..data")).expect("a rename");
        }
        wait_until("the new rules are in force", || tier().as_deref() == Some(&format!("{mark}.enterprise")));
    }
    // The file disappears and comes back half written, and nothing happens to anybody.
    std::fs::remove_file(folder.join("tollgate.yaml")).expect("the link");
    let before = scenario.tollgate.metric("tollgate_config_reloads_total", &["result=\"failure\""]);
    scenario.folder.write("tollgate.yaml", &scenario.rules[..scenario.rules.len() / 2]);
    wait_until("the half file was refused", || scenario.tollgate.metric("tollgate_config_reloads_total", &["result=\"failure\""]) > before);
    assert_eq!(tier().as_deref(), Some("2.enterprise"));
    assert_eq!(scenario.tollgate.ops("/readyz").status, 200);
    std::fs::remove_file(folder.join("tollgate.yaml")).expect("the file");
    scenario.folder.write("tollgate.yaml", &scenario.rules);
    wait_until("the old rules are back", || tier().as_deref() == Some("enterprise"));
}
