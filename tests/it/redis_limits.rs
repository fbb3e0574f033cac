//! One bucket, and one, two or four sidecars that hammer it at once: what they admit together.
//!
//! By Redis's clock, over a window of `w` seconds: exact admits b + ⌊r·w⌋; leased, never more than b + r·(w + T).

use std::time::Duration;

use crate::support::check_load::CheckLoad;
use crate::support::check_load::Outcome;
use crate::support::fleet::FleetPlan;
use crate::support::fleet::bearer;
use crate::support::redis::RedisServer;

/// Tokens a second, and the depth.
const RATE: f64 = 200.0;
const DEPTH: f64 = 100.0;
/// The length of a lease.
const LEASE: f64 = 0.1;

fn seconds(server: &RedisServer) -> f64 {
    let time = server.ask(&["TIME"]).texts();
    time[0].parse::<f64>().expect("seconds") + time[1].parse::<f64>().expect("microseconds") / 1e6
}

#[test]
fn any_number_of_sidecars_admit_what_one_would() {
    eprintln!("sidecars |  window | b + r*w | b + r*(w+T) | admitted | refused");
    for count in [1, 2, 4] {
        let server = RedisServer::start();
        let fleet = FleetPlan::on(&server.place())
            .with("requests_per_minute: 60, burst: 10", "requests_per_minute: 12000, burst: 100")
            .start(count);
        let key = fleet.sidecars[0].key("alice", "small");
        // Membership is a matter of a poll.
        std::thread::sleep(Duration::from_millis(1200));
        let clients = fleet
            .sidecars
            .iter()
            .flat_map(|sidecar| std::iter::repeat_n((sidecar.tollgate.check.clone(), bearer("/orders", &key.text)), 4 / count.min(2)));
        let began = seconds(&server);
        let load = CheckLoad::start(clients.collect(), Duration::from_micros(500));
        std::thread::sleep(Duration::from_secs(2));
        let seen = load.finish();
        let window = seconds(&server) - began;
        let admitted = seen.allowed() as f64;
        let (exact, leased) = (DEPTH + (RATE * window).floor(), DEPTH + RATE * (window + LEASE));
        eprintln!("{count:8} | {window:6.3}s | {exact:7.0} | {leased:11.0} | {admitted:8.0} | {:7}", seen.of(Outcome::Denied(429)));
        assert!(admitted <= leased.ceil(), "{count} sidecars admitted {admitted}, more than {leased}");
        // A machine that is late may cost a check its answer, which admits nothing.
        let judged = seen.allowed() + seen.of(Outcome::Denied(429));
        assert_eq!(seen.total(), judged + seen.of(Outcome::Fault), "{seen:?}");
        assert!(judged >= 19 * seen.of(Outcome::Fault), "{seen:?}");
        // Nothing that was to be had is withheld for long: a lease that ends unused costs at most what it held.
        assert!(seen.of(Outcome::Denied(429)) == 0 || admitted >= exact * 0.8, "{count} sidecars admitted {admitted} of {exact}");
    }
}
