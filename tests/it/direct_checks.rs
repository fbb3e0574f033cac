//! The check listener of the real program, asked without an Envoy between: what Envoy would never pass on, over both kinds of socket.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::support::grpc::Checker;
use crate::support::grpc::check_request;
use crate::support::grpc::denied_with;
use crate::support::ports::free_port;
use crate::support::scenario::NewKey;
use crate::support::scenario::Plan;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;
use crate::support::tollgate::program;

const TARGET: &str = "/api/v1/conversations";

/// The quickstart's rules, on a Unix socket or on TCP.
fn start(plan: &Plan, over_tcp: bool) -> Tollgate {
    let (check, ops_port) = prepare(plan, over_tcp);
    Tollgate::start(plan.folder.path(), "tollgate.yaml", check, ops_port)
}

fn prepare(plan: &Plan, over_tcp: bool) -> (CheckAt, u16) {
    let ops_port = free_port();
    let mut rules = plan.tollgate.replace("127.0.0.1:9464", &format!("127.0.0.1:{ops_port}"));
    let check = if over_tcp {
        let port = free_port();
        rules = rules.replace("unix:./run/check.sock", &format!("127.0.0.1:{port}"));
        CheckAt::Tcp(([127, 0, 0, 1], port).into())
    } else {
        CheckAt::Unix(plan.folder.short_path().join("run/check.sock"))
    };
    plan.folder.write("tollgate.yaml", &rules);
    (check, ops_port)
}

fn key(plan: &Plan) -> String {
    NewKey { scopes: &["conversations:read"], ..NewKey::default() }.create(plan.folder.path()).text
}

#[test]
fn checks_are_answered_over_both_kinds_of_socket() {
    for over_tcp in [false, true] {
        let plan = Plan::of("quickstart");
        let tollgate = start(&plan, over_tcp);
        let checker = Checker::connect(&tollgate.check);
        let authorization = format!("Bearer {}", key(&plan));
        let ask = |headers: &[(&str, &[u8])]| denied_with(&checker.check(check_request("GET", TARGET, headers)).expect("an answer"));
        assert_eq!(ask(&[("authorization", authorization.as_bytes())]), None, "over TCP: {over_tcp}");
        assert_eq!(ask(&[]), Some(401), "over TCP: {over_tcp}");
    }
}

/// A small image has none, and what fetches nothing needs none.
#[test]
fn it_serves_where_no_certificate_authorities_are_installed() {
    let plan = Plan::of("quickstart");
    let (check, ops_port) = prepare(&plan, false);
    let bare = |command: &str| {
        let mut bare = program();
        bare.args([command, "--config", "tollgate.yaml"]).env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
        bare
    };
    let judged = bare("check-config").current_dir(plan.folder.path()).output().expect("the program runs");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    let tollgate = Tollgate::start_command(bare("serve"), plan.folder.path(), "tollgate.yaml", check, ops_port);
    let refused = Checker::connect(&tollgate.check).check(check_request("GET", TARGET, &[])).expect("an answer");
    assert_eq!(denied_with(&refused), Some(401));
}

// battery: K9 K10
#[test]
fn control_bytes_and_bytes_that_are_no_text_make_no_key() {
    let plan = Plan::of("quickstart").unguarded();
    let tollgate = start(&plan, false);
    let checker = Checker::connect(&tollgate.check);
    let key = key(&plan).into_bytes();
    for byte in [0, 1, 9, 10, 13, 27, 127, 128, 255, b'!', b' '] {
        let inside = [&key[..20], &[byte], &key[20..]].concat();
        let instead = [&key[..20], &[byte], &key[21..]].concat();
        for value in [inside, instead] {
            let bearer = [b"Bearer ", value.as_slice()].concat();
            for header in [("x-api-key", value.as_slice()), ("authorization", bearer.as_slice())] {
                let response = checker.check(check_request("GET", TARGET, &[header])).expect("an answer");
                assert_eq!(denied_with(&response), Some(401), "byte {byte} in {}", header.0);
            }
        }
    }
}

// battery: M9 P22 G2
#[test]
fn what_a_request_must_have_is_asked_for() {
    let plan = Plan::of("quickstart");
    let tollgate = start(&plan, false);
    let checker = Checker::connect(&tollgate.check);
    let status = |request| denied_with(&checker.check(request).expect("an answer"));
    for (method, target) in [("", TARGET), ("GET", ""), ("GET", "*"), ("GET", "public/ping")] {
        assert_eq!(status(check_request(method, target, &[])), Some(400), "{method:?} {target:?}");
    }
    let mut hostless = check_request("GET", "/public/ping", &[]);
    let http = hostless.attributes.as_mut().and_then(|attributes| attributes.request.as_mut()).and_then(|request| request.http.as_mut());
    http.expect("made above").host.clear();
    assert_eq!(status(hostless), Some(400));
    assert_eq!(status(envoy_types::pb::envoy::service::auth::v3::CheckRequest::default()), Some(400));
    assert_eq!(status(check_request("GET", "/public/ping", &[])), None);
}

#[test]
fn the_socket_is_for_its_group_and_a_stale_one_is_replaced() {
    let plan = Plan::of("quickstart");
    let mut tollgate = start(&plan, false);
    let socket = plan.folder.path().join("run/check.sock");
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    tollgate.process.signal(Signal::KILL);
    tollgate.process.wait();
    assert!(socket.exists(), "a killed process leaves its socket");
    tollgate.restart();
    assert!(tollgate.check.accepts());
}

// battery: X9
#[test]
fn a_second_process_on_the_same_folder_does_not_start() {
    let plan = Plan::of("quickstart");
    let first = start(&plan, false);
    let rules = std::fs::read_to_string(plan.folder.path().join("tollgate.yaml")).expect("the rules");
    // Its own sockets, but the same store and ledger.
    let second = rules.replace("run/check.sock", "run/second.sock").replace("data/control.sock", "run/control.sock");
    plan.folder.write("second.yaml", &second.replace(&format!(":{}", first.ops_port), &format!(":{}", free_port())));
    let output = crate::support::tollgate::run(plan.folder.path(), &["serve", "--config", "second.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(first.check.accepts());
    assert_eq!(first.ops("/readyz").status, 200);
}
