//! Sentinels that die, lie or change their minds, and a cluster whose slots move: requests go on, or fail in time and recover.

use std::time::Duration;
use std::time::Instant;

use crate::support::check_load::CheckLoad;
use crate::support::check_load::Outcome;
use crate::support::check_load::ask;
use crate::support::fleet::FleetPlan;
use crate::support::fleet::Sidecar;
use crate::support::fleet::bearer;
use crate::support::grpc::Checker;
use crate::support::process::wait_until;
use crate::support::redis::Cluster;
use crate::support::redis::Flavour;
use crate::support::redis::RedisServer;
use crate::support::redis::Sentinels;

/// The sidecars give the store 50 ms for everything that one check asks; the rest is a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
const LAPSED: Duration = Duration::from_millis(2300);

/// Without a sentinel to ask, the primary that is known goes on being used; and when its place was taken meanwhile, it is found.
// battery: R12
#[test]
fn sentinels_that_are_gone_are_not_missed() {
    let mut sentinels = Sentinels::start_with(Flavour::Redis, &["--min-replicas-to-write", "1"]);
    let fleet = FleetPlan::on_sentinels(&sentinels).start(1);
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    let key = sidecar.key("alice", "free");
    let is_allowed = || ask(&checker, &bearer("/orders", &key.text)) == Outcome::Allowed;
    assert!(is_allowed());
    sentinels.sentinels.iter_mut().for_each(RedisServer::kill);
    let began = Instant::now();
    while began.elapsed() < LAPSED + Duration::from_secs(1) {
        assert!(is_allowed(), "after {:?} without sentinels", began.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    sidecar.key("bob", "free");
    // Its connection breaks too, and there is still nobody to ask.
    let primary = sentinels.servers.iter().position(|server| server.info("role").as_deref() == Some("master")).expect("a primary");
    sentinels.servers[primary].ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    wait_until("the last known primary is used again", || is_allowed() && sidecar.is_ready());
    sidecar.key("carol", "free");
    sentinels.heal();
    let after = sentinels.kill_primary();
    wait_until("the new primary is found", || is_allowed() && sidecar.is_ready());
    sidecar.key("dora", "free");
    assert_eq!(sentinels.primary(), Some(after));
}

/// A sentinel that names a replica is not believed: what it names does not call itself a primary.
// battery: R12
#[test]
fn a_sentinel_that_names_a_replica_is_not_believed() {
    let sentinels = Sentinels::start_with(Flavour::Redis, &["--min-replicas-to-write", "1"]);
    let primary = sentinels.settled_primary();
    let replica = (primary + 1) % 3;
    // It alone watches the replica under the primary's name.
    let liar = &sentinels.sentinels[0];
    liar.ask(&["SENTINEL", "REMOVE", sentinels.name()]);
    liar.ask(&["SENTINEL", "MONITOR", sentinels.name(), "127.0.0.1", &sentinels.servers[replica].port().to_string(), "3"]);
    let fleet = FleetPlan::on_sentinels(&sentinels).start(1);
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    let key = sidecar.key("alice", "free");
    assert_eq!(ask(&checker, &bearer("/orders", &key.text)), Outcome::Allowed);
    assert_eq!(sentinels.servers[replica].info("role").as_deref(), Some("slave"));
}

/// The primary changes again and again.
// battery: R5 R12
#[test]
fn a_topology_that_flaps_is_followed() {
    let sentinels = Sentinels::start_with(Flavour::Redis, &[]);
    let fleet = FleetPlan::on_sentinels(&sentinels).start(2);
    let key = fleet.sidecars[0].key("alice", "patient");
    let clients = fleet.sidecars.iter().map(|sidecar| (sidecar.tollgate.check.clone(), bearer("/orders", &key.text)));
    let load = CheckLoad::start(clients.collect(), Duration::from_millis(2));
    wait_until("the load runs", || load.allowed() > 100);
    for _ in 0..2 {
        sentinels.failover();
    }
    wait_until("both sidecars are ready", || fleet.sidecars.iter().all(Sidecar::is_ready));
    let before = load.allowed();
    wait_until("the load goes on", || load.allowed() > before + 100);
    let seen = load.finish();
    assert_eq!(seen.allowed(), seen.total(), "somebody with a grace was turned away: {seen:?}");
    assert!(seen.slowest < LONGEST_WAIT, "somebody waited {:?}", seen.slowest);
    wait_until("everything is counted once", || fleet.sidecars[0].counted("alice") == seen.allowed());
}

/// Slots that move under load answer MOVED, ASK and TRYAGAIN, and none of our scripts has keys of two slots.
// battery: R6
#[test]
fn slots_that_move_disturb_nobody() {
    let cluster = Cluster::start();
    let fleet = FleetPlan::on_cluster(&cluster).start(2);
    let users = ["alice", "bob"];
    let keys: Vec<_> = users.iter().map(|user| fleet.sidecars[0].key(user, "limited")).collect();
    let clients =
        fleet.sidecars.iter().flat_map(|sidecar| keys.iter().map(|key| (sidecar.tollgate.check.clone(), bearer("/orders", &key.text))));
    let load = CheckLoad::start(clients.collect(), Duration::from_millis(2));
    wait_until("the load runs", || load.allowed() > 100);
    let mut tags: Vec<String> = users.iter().map(|user| format!("{{{user}}}")).collect();
    tags.push("{r}".to_owned());
    for _ in 0..3 {
        for tag in &tags {
            cluster.move_slot(tag);
        }
        let made = fleet.sidecars[1].key("carol", "free");
        assert_eq!(fleet.sidecars[0].revoke(&made.id).0, 200);
    }
    let before = load.allowed();
    wait_until("the load goes on", || load.allowed() > before + 100);
    let seen = load.finish();
    let failed = seen.total() - seen.allowed();
    eprintln!("nine slots moved: {} requests, {failed} failed, the slowest answer after {:?}", seen.total(), seen.slowest);
    assert!(seen.slowest < LONGEST_WAIT, "somebody waited {:?}", seen.slowest);
    assert!(failed * 100 <= seen.total(), "more than one in a hundred failed: {seen:?}");
    for sidecar in &fleet.sidecars {
        let (process, refused) = (&sidecar.tollgate.process, sidecar.tollgate.metric("tollgate_redis_errors_total", &["CROSSSLOT"]));
        assert!(refused < 0.5 && !process.output().contains("CROSSSLOT") && !process.errors().contains("CROSSSLOT"), "keys of two slots");
    }
}

/// A primary and its replica die: what lies in their slots is out of reach, in time, until they are back.
// battery: R6
#[test]
fn a_part_of_a_cluster_that_is_gone_comes_back() {
    let mut cluster = Cluster::start_with(Flavour::Redis, &["--appendonly", "yes"]);
    let fleet = FleetPlan::on_cluster(&cluster).start(1);
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    let (free, patient) = (sidecar.key("alice", "free"), sidecar.key("bob", "patient"));
    let ask_both = || [&free, &patient].map(|key| ask(&checker, &bearer("/orders", &key.text)));
    // The news that the keys were made makes a sidecar forget what it read of them before.
    sidecar.hears_the_news();
    wait_until("the keys open the gate", || ask_both() == [Outcome::Allowed; 2]);
    let owner = cluster.owner("{r}");
    let replica = (owner + 3) % 6;
    cluster.servers[owner].kill();
    cluster.servers[replica].kill();
    wait_until("the lease has lapsed", || !sidecar.holds_lease());
    let began = Instant::now();
    let [without, with] = ask_both();
    assert!(began.elapsed() < 2 * LONGEST_WAIT, "somebody waited {:?}", began.elapsed());
    assert!(matches!(without, Outcome::Fault | Outcome::Denied(503)), "{without:?}");
    assert_eq!(with, Outcome::Allowed);
    cluster.heal();
    wait_until("everything is in order again", || ask_both() == [Outcome::Allowed; 2] && sidecar.is_ready());
}
