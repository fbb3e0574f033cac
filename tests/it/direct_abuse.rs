//! Peers on the check listener that do not keep to HTTP/2's manners. Whatever they do, others are served and memory stays bounded.

use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::support::frames::CONTINUATION;
use crate::support::frames::DATA;
use crate::support::frames::END_HEADERS;
use crate::support::frames::HEADERS;
use crate::support::frames::PING;
use crate::support::frames::Peer;
use crate::support::frames::RESET;
use crate::support::frames::SETTINGS;
use crate::support::frames::WINDOW_UPDATE;
use crate::support::frames::check_head;
use crate::support::frames::frame;
use crate::support::frames::literal;
use crate::support::grpc::Checker;
use crate::support::grpc::check_request;
use crate::support::grpc::denied_with;
use crate::support::jwt;
use crate::support::ports::free_port;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::Plan;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;

/// What a flood may make the process grow by.
const GROWTH_MAX: u64 = 96 * 1024 * 1024;
/// What a check of somebody else may take meanwhile, on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(3);

struct Target {
    tollgate: Tollgate,
    checker: Checker,
    socket: PathBuf,
    /// Kept until the process has ended.
    _plan: Plan,
}

impl Target {
    fn start(descriptors: Option<u32>) -> Self {
        let plan = Plan::of("quickstart");
        let ops_port = free_port();
        plan.folder.write("tollgate.yaml", &plan.tollgate.replace("127.0.0.1:9464", &format!("127.0.0.1:{ops_port}")));
        let socket = plan.folder.short_path().join("run/check.sock");
        let tollgate = Tollgate::start_with(plan.folder.path(), "tollgate.yaml", CheckAt::Unix(socket.clone()), ops_port, descriptors);
        let checker = Checker::connect(&tollgate.check);
        Self { tollgate, checker, socket, _plan: plan }
    }

    fn peer(&self) -> Peer {
        Peer::connect(&self.socket).expect("the check listener takes connections")
    }

    fn assert_serves(&self, what: &str) {
        let started = Instant::now();
        let response = self.checker.check(check_request("GET", "/public/ping", &[])).unwrap_or_else(|status| panic!("{what}: {status}"));
        assert_eq!(denied_with(&response), None, "{what}");
        assert!(started.elapsed() < ANSWER_MAX, "{what}: {:?}", started.elapsed());
    }

    fn resident_bytes(&self) -> u64 {
        self.tollgate.process.resident_bytes()
    }
}

type Flood = fn(&mut Peer, u32) -> bool;

// battery: G7
#[test]
fn floods_cost_little_and_hurt_nobody_else() {
    let target = Target::start(None);
    target.assert_serves("before");
    let before = target.resident_bytes();
    let floods: [(&str, u32, Flood); 8] = [
        ("streams reset at once", 20_000, |peer, turn| {
            let stream = 2 * turn + 1;
            let open = frame(HEADERS, END_HEADERS, stream, &check_head());
            peer.send(&[open, frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat())
        }),
        ("streams that make the server reset", 20_000, |peer, turn| {
            let stream = 2 * turn + 1;
            let open = frame(HEADERS, END_HEADERS, stream, &check_head());
            peer.send(&[open, frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes())].concat())
        }),
        ("a head that never ends", 20_000, |peer, turn| match turn {
            0 => peer.send(&frame(HEADERS, 0, 1, &check_head())),
            _ => peer.send(&frame(CONTINUATION, 0, 1, &literal("x-more", &[b'a'; 100]))),
        }),
        ("a head that never ends, of nothing", 50_000, |peer, turn| match turn {
            0 => peer.send(&frame(HEADERS, 0, 1, &check_head())),
            _ => peer.send(&frame(CONTINUATION, 0, 1, b"")),
        }),
        ("empty data", 50_000, |peer, turn| match turn {
            0 => peer.send(&frame(HEADERS, END_HEADERS, 1, &check_head())),
            _ => peer.send(&frame(DATA, 0, 1, b"")),
        }),
        ("settings", 50_000, |peer, _| peer.send(&frame(SETTINGS, 0, 0, b""))),
        ("pings", 50_000, |peer, _| peer.send(&frame(PING, 0, 0, &[0; 8]))),
        ("a window that overflows", 10, |peer, _| peer.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()))),
    ];
    for (what, turns, flood) in floods {
        let mut peer = target.peer();
        for turn in 0..turns {
            if !flood(&mut peer, turn) {
                break;
            }
            if turn % 5000 == 4999 {
                target.assert_serves(what);
            }
        }
        target.assert_serves(what);
        let grown = target.resident_bytes().saturating_sub(before);
        assert!(grown < GROWTH_MAX, "{what}: {} MiB more", grown / 1024 / 1024);
    }
    assert!(target.tollgate.metric("tollgate_panics_total", &[]) == 0.0);
}

// battery: G7
#[test]
fn a_head_larger_than_any_of_envoys_is_refused() {
    let target = Target::start(None);
    let mut peer = target.peer();
    // An indexed field of 100 bytes, named again and again: small on the wire and large when unpacked.
    let entry = [&[0x40, 6][..], b"x-bomb", &[100], &[b'a'; 100]].concat();
    let mut head = [check_head(), entry].concat();
    head.extend(std::iter::repeat_n(0xbe, 15_000));
    peer.send(&frame(HEADERS, END_HEADERS, 1, &head));
    target.assert_serves("a header bomb");
}

// battery: G8
#[test]
fn idle_and_half_open_peers_take_nobodys_place() {
    let target = Target::start(None);
    let silent: Vec<_> = (0..100).map(|_| std::os::unix::net::UnixStream::connect(&target.socket).expect("a connection")).collect();
    let half_open: Vec<Peer> = (0..100).map(|_| target.peer()).collect();
    let slow: Vec<Peer> = (0..100)
        .map(|_| {
            let mut peer = target.peer();
            peer.send(&frame(HEADERS, END_HEADERS, 1, &check_head()));
            // One byte of a message that is said to have a hundred.
            peer.send(&frame(DATA, 0, 1, &[0, 0, 0, 0, 100, 1]));
            peer
        })
        .collect();
    target.assert_serves("three hundred idle peers");
    drop((silent, half_open, slow));
}

// battery: X1 G12
#[test]
fn without_descriptors_those_who_are_connected_are_served_and_others_wait() {
    let target = Target::start(Some(64));
    target.assert_serves("before");
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.extend(std::os::unix::net::UnixStream::connect(&target.socket));
    }
    target.assert_serves("with every descriptor taken");
    drop(crowd);
    crate::support::process::wait_until("a new connection is taken again", || {
        Peer::connect(&target.socket).is_ok_and(|mut peer| peer.send(&frame(PING, 0, 0, &[0; 8])) && !peer.is_closed())
    });
    target.assert_serves("afterwards");
}

/// `TOLLGATE_TEST_USERS` asks for more than the usual run has time for.
fn users() -> u64 {
    std::env::var("TOLLGATE_TEST_USERS").map_or(10_000, |users| users.parse().expect("TOLLGATE_TEST_USERS is a number"))
}

#[test]
fn many_users_cost_little_memory_each() {
    let target = Target::start(None);
    target.assert_serves("before");
    let before = target.resident_bytes();
    let requests = (0..users()).map(|number| {
        let claims = jwt::claims("https://id.demo.example", "https://api.demo.example", &format!("user-{number}"));
        let token = jwt::hs256(&jwt::with(claims, json!({ "scope": "conversations:read" })), JWT_SECRET);
        check_request("GET", "/api/v1/conversations", &[("authorization", format!("Bearer {token}").as_bytes())])
    });
    let answers = target.checker.check_all(requests, 64);
    assert!(answers.iter().all(|answer| denied_with(answer).is_none()), "every user is let in");
    let grown = target.resident_bytes().saturating_sub(before);
    // A user with a token of its own, seen once; the caches have a part that does not grow with them.
    let allowed = 16 * 1024 * 1024 + users() * 2048;
    assert!(grown < allowed, "{} KiB more for {} users", grown / 1024, users());
}
