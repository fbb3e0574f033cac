//! What lies in a shared store and should not, or looks as if it did not belong: damaged records and counts, a clock that was set back,
//! names like keys. Nothing of it opens the gate, and nobody else is disturbed.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use crate::support::check_load::Outcome;
use crate::support::check_load::ask;
use crate::support::fleet::FleetPlan;
use crate::support::fleet::LONGEST_WAIT;
use crate::support::fleet::bearer;
use crate::support::fleet::token;
use crate::support::grpc::Checker;
use crate::support::process::wait_until;
use crate::support::redis::Answer;
use crate::support::redis::RedisServer;
use crate::support::redis::ServerPlan;

/// The one key of this form; records stand under their family and id.
fn key_of(server: &RedisServer, pattern: &str) -> String {
    let mut found = server.ask(&["KEYS", pattern]).texts();
    assert_eq!(found.len(), 1, "{pattern}: {found:?}");
    found.remove(0)
}

/// A record that somebody damaged, replaced or widened in the store opens nothing, and disturbs nobody else.
// battery: R1 R2 R13
#[test]
fn a_record_that_was_tampered_with_opens_nothing() {
    let server = ServerPlan::tcp().start();
    let fleet = FleetPlan::on(&server.place()).start(2);
    let (issuer, other) = (&fleet.sidecars[0], &fleet.sidecars[1]);
    let checker = Checker::connect(&other.tollgate.check);
    let healthy = issuer.key("healthy", "free");
    let resident = || other.tollgate.process.resident_bytes();
    let before = resident();
    type Damage = fn(&RedisServer, &str);
    let damages: [(&str, Damage); 5] = [
        ("another type", |server, key| {
            server.ask(&["DEL", key]);
            server.ask(&["SADD", key, "x"]);
        }),
        ("a text in place of the hash", |server, key| {
            server.ask(&["DEL", key]);
            server.ask(&["SETRANGE", key, "104857600", "x"]);
        }),
        ("a value of 100 MB", |server, key| {
            server.ask(&["EVAL", "redis.call('HSET', KEYS[1], 'b', string.rep('x', 100 * 1024 * 1024))", "1", key]);
        }),
        ("a million fields in place of its own", |server, key| {
            server.ask(&["DEL", key]);
            let script = "for i = 1, 1000000, 4 do redis.call('HSET', KEYS[1], i, 1, i + 1, 1, i + 2, 1, i + 3, 1) end";
            server.ask(&["EVAL", script, "1", key]);
        }),
        ("a wider scope", |server, key| {
            let Answer::Bytes(bytes) = server.ask(&["HGET", key, "b"]) else { panic!("the record has no bytes") };
            let place = bytes.windows(11).position(|part| part == b"orders:read").expect("the scope stands in the record");
            let wider = [&bytes[..place], b"admin:admin", &bytes[place + 11..]].concat();
            server.ask(&[b"HSET".as_slice(), key.as_bytes(), b"b", &wider]);
        }),
    ];
    for (name, damage) in damages {
        let key = issuer.key("victim", "free");
        let place = key_of(&server, &format!("*:rec:*{}", key.id));
        damage(&server, &place);
        // The damage may have kept the server busy for so long that nobody trusts it for a moment.
        wait_until("everybody else goes on", || ask(&checker, &bearer("/orders", &healthy.text)) == Outcome::Allowed);
        for target in ["/orders", "/admin"] {
            let began = Instant::now();
            let outcome = ask(&checker, &bearer(target, &key.text));
            assert!(matches!(outcome, Outcome::Denied(503) | Outcome::Fault), "{name}, {target}: {outcome:?}");
            assert!(began.elapsed() < LONGEST_WAIT, "{name}: {:?}", began.elapsed());
        }
        wait_until("the record is known to be damaged", || {
            let outcome = ask(&checker, &bearer("/orders", &key.text));
            assert_ne!(outcome, Outcome::Allowed, "{name}");
            outcome == Outcome::Denied(503)
        });
        assert_eq!(ask(&checker, &bearer("/orders", &healthy.text)), Outcome::Allowed, "{name}");
        server.ask(&["UNLINK", &place]);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "the sidecar took {grown} bytes of what lies in the store");
    let corrupt = other.tollgate.ops("/readyz").text();
    assert!(corrupt.contains("corrupt"), "{corrupt}");
}

/// Other kinds of key that somebody overwrote: the bucket and the counts of one user. Everybody else goes on.
// battery: R1
#[test]
fn wrong_types_in_buckets_and_counts_stay_with_their_user() {
    let server = ServerPlan::tcp().start();
    let mut fleet = FleetPlan::on(&server.place()).start(1);
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    let (alice, bob) = (sidecar.key("alice", "limited"), sidecar.key("bob", "limited"));
    let allowed = |text: &str, count: u64| (0..count).for_each(|_| assert_eq!(ask(&checker, &bearer("/orders", text)), Outcome::Allowed));
    allowed(&alice.text, 5);
    allowed(&bob.text, 5);
    wait_until("the counts are there", || sidecar.counted("alice") == 5 && sidecar.counted("bob") == 5);
    for pattern in ["tollgate:1:u:{*alice*}:h:*", "tollgate:1:b:*alice*"] {
        for key in server.ask(&["KEYS", pattern]).texts() {
            server.ask(&["DEL", &key]);
            server.ask(&["SADD", &key, "x"]);
        }
    }
    let mut alices = 5;
    for _ in 0..5 {
        let outcome = ask(&checker, &bearer("/orders", &alice.text));
        assert!(matches!(outcome, Outcome::Allowed | Outcome::Denied(503)), "{outcome:?}");
        alices += u64::from(outcome == Outcome::Allowed);
    }
    allowed(&bob.text, 5);
    wait_until("the other user's counts are there", || sidecar.counted("bob") == 10);
    assert!(sidecar.tollgate.metric("tollgate_usage_quarantined", &[]) > 0.5, "an operator is told");
    // Once the keys are gone, everything is restated from what the sidecar has on its disk; a start does not wait for the next try.
    let damaged = ["tollgate:1:u:{*alice*}:*", "tollgate:1:b:*alice*"].map(|pattern| server.ask(&["KEYS", pattern]).texts()).concat();
    for key in damaged {
        server.ask(&["DEL", &key]);
    }
    fleet.sidecars[0].tollgate.process.stop();
    fleet.sidecars[0].tollgate.restart();
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    assert_eq!(ask(&checker, &bearer("/orders", &alice.text)), Outcome::Allowed);
    wait_until("the user's counts are there", || sidecar.counted("alice") > alices);
    assert_eq!((sidecar.counted("alice"), sidecar.counted("bob")), (alices + 1, 10));
}

/// A bucket that lies in the future, as after a promotion of a server whose clock was ahead, locks nobody out for longer than it takes to
/// fill.
// battery: R15
#[test]
fn a_clock_that_was_set_back_locks_nobody_out() {
    let server = ServerPlan::tcp().start();
    // Ten tokens, one each 100 ms.
    let fleet = FleetPlan::on(&server.place()).with("requests_per_minute: 60, burst: 10", "requests_per_minute: 600, burst: 10").start(1);
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    let key = sidecar.key("alice", "small");
    assert_eq!(ask(&checker, &bearer("/orders", &key.text)), Outcome::Allowed);
    let place = key_of(&server, "tollgate:1:b:*alice*");
    for ahead in [60, 3600, -60] {
        let seconds: i64 = server.ask(&["TIME"]).texts()[0].parse().expect("seconds");
        server.ask(&["SET", &place, &format!("{} 0", seconds + ahead)]);
        let began = Instant::now();
        wait_until("the bucket admits again", || ask(&checker, &bearer("/orders", &key.text)) == Outcome::Allowed);
        assert!(began.elapsed() < Duration::from_secs(3), "ahead by {ahead} s: locked out for {:?}", began.elapsed());
    }
}

/// Users whose names look like parts of keys, each with a bucket and a count of its own.
// battery: R16
#[test]
fn names_that_look_like_keys_are_names() {
    let server = ServerPlan::tcp().start();
    let fleet = FleetPlan::on(&server.place()).start(1);
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    let names =
        ["x", "{x}", "x}", "{x", "x:h:1", "x,h", "x%7D", "%7Bx%7D", "*", "x*", "?", "[x]", "x/y", "x\\", "..", "tollgate:1:u:{x}:h:1"];
    for odd in ["x h", "x\nh", "x\0", "é", " x"] {
        assert_eq!(ask(&checker, &bearer("/orders", &token(odd, "small"))), Outcome::Denied(401), "{odd:?} is no name");
    }
    for (index, name) in names.iter().enumerate() {
        let text = token(name, "small");
        let allowed = (0..=index % 7).filter(|_| ask(&checker, &bearer("/orders", &text)) == Outcome::Allowed).count();
        assert_eq!(allowed, index % 7 + 1, "{name:?} shares a bucket");
    }
    let shown = |name: &str| name.replace('%', "%25").replace(':', "%3A").replace(',', "%2C");
    let count = |name: &str| sidecar.counted(&format!("shared:{}", shown(name)));
    for (index, name) in names.iter().enumerate() {
        let expected = u64::try_from(index % 7 + 1).expect("small");
        wait_until(&format!("{name:?} is counted"), || count(name) >= expected);
        assert_eq!(count(name), expected, "{name:?}");
    }
    // Every user's hour, day and month share one slot of their own.
    let keys = server.ask(&["KEYS", "tollgate:1:u:*"]).texts();
    let tag = |key: &String| key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag.to_owned());
    let tags: BTreeSet<Option<String>> = keys.iter().map(tag).collect();
    assert_eq!((tags.len(), tags.contains(&None)), (names.len(), false), "{keys:?}");
    assert!(keys.iter().all(|key| key.bytes().all(|byte| byte.is_ascii_graphic())), "{keys:?}");
}
