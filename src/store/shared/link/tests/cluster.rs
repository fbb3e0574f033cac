//! Slots that have owners, move, and lose them.

use super::*;
use crate::store::shared::link::slots::slot_of;
use crate::store::shared::settings::Mode;
use crate::store::shared::testing::redis_server::Cluster;

fn linked(cluster: &Cluster) -> std::sync::Arc<Link> {
    // Only one member is named, and it is a replica.
    let seed = tcp(cluster.servers[5].port());
    Link::new(Settings { mode: Mode::Cluster, ..brisk(seed) })
}

static BOTH: Script = Script::new("both", "#!lua\nreturn redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2])");

// battery: R6
#[tokio::test]
async fn keys_are_found_wherever_their_slots_are_and_go() {
    let mut cluster = Cluster::start();
    let link = linked(&cluster);
    for number in 0..60 {
        let key = format!("{{k{number}}}:n");
        assert_eq!(i64::from(slot_of(key.as_bytes())), cluster.slot(&key));
        assert_eq!(added(&link, Lane::Checks, &key, LONG).await, Ok(1), "{key}");
    }
    eventually_up(&link).await;
    assert_eq!(link.state().servers.len(), 3);
    assert!(link.findings().iter().any(|finding| finding.what.contains("min-replicas-to-write")), "{:?}", link.findings());
    let mut changes = link.changes();
    changes.mark_unchanged();

    // MOVED: whole, and followed within one call.
    cluster.move_slot("{k1}:n");
    assert_eq!(added(&link, Lane::Checks, "{k1}:n", LONG).await, Ok(2));
    changes.changed().await.unwrap();

    // ASK: the key is made where the slot is going to be, and TRYAGAIN while only one of two keys is there.
    let from = cluster.owner("{k2}:n");
    let to = (0..3).find(|index| *index != from).unwrap();
    let id = |index: usize| cluster.servers[index].ask(&["CLUSTER", "MYID"]).text();
    let slot = cluster.slot("{k2}:n").to_string();
    cluster.servers[to].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
    cluster.servers[from].ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    assert_eq!(added(&link, Lane::Checks, "{k2}:n", LONG).await, Ok(2), "what is there is served there");
    assert_eq!(added(&link, Lane::Checks, "{k2}:new", LONG).await, Ok(1), "what is not is made where it is going to be");
    assert_eq!(added(&link, Lane::Checks, "{k2}:new", LONG).await, Ok(2));
    let call = Call { script: &BOTH, keys: vec![b"{k2}:n".to_vec(), b"{k2}:new".to_vec()], args: Vec::new() };
    let error = link.run(Lane::Bulk, call, LONG).await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused { code, .. } if code == "TRYAGAIN"), "{error}");
    cluster.servers[to].ask(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    cluster.servers[from].ask(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);

    let call = Call { script: &BOTH, keys: vec![b"a".to_vec(), b"b".to_vec()], args: Vec::new() };
    let error = link.run(Lane::Bulk, call, LONG).await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused { code, .. } if code == "CROSSSLOT"), "{error}");

    // On the replica of its own primary, over the same connection.
    let replicated = link.run_replicated(add("{k3}:n"), 1, LONG).await;
    assert_eq!(replicated, Ok((Value::Int(2), 1)));

    // A primary dies: the others' slots are served all along, and its own again after the election.
    let dead = cluster.owner("{k3}:n");
    let spared = (0..60).map(|number| format!("{{k{number}}}:n")).find(|key| cluster.owner(key) != dead).unwrap();
    cluster.servers[dead].kill();
    assert!(added(&link, Lane::Checks, &spared, LONG).await.is_ok());
    eventually("the replica serves", async || added(&link, Lane::Checks, "{k3}:n", Duration::from_millis(300)).await.is_ok()).await;
    eventually_up(&link).await;
    let places = link.places(LONG).await.unwrap();
    assert_eq!(places.len(), 3);
    for place in places {
        assert!(link.command_at(&place, Lane::Bulk, redis::cmd("DBSIZE"), LONG).await.is_ok());
    }
}

#[tokio::test]
async fn a_frozen_primary_takes_only_its_own_slots_with_it_and_hints_reach_everybody() {
    let cluster = Cluster::start();
    let link = linked(&cluster);
    let mut hints = link.subscribe("h");
    assert_eq!(tokio::time::timeout(LONG, hints.recv()).await.unwrap(), Some(Vec::new()));
    cluster.servers[1].tell("PUBLISH h 1");
    assert_eq!(tokio::time::timeout(LONG, hints.recv()).await.unwrap(), Some(b"1".to_vec()));
    let frozen = cluster.owner("a");
    let other = ["b", "c", "d", "e", "f", "g"].into_iter().find(|key| cluster.owner(key) != frozen).unwrap();
    for key in ["a", other] {
        assert_eq!(added(&link, Lane::Checks, key, LONG).await, Ok(1));
    }
    cluster.servers[frozen].freeze();
    let within = link.settings().timeouts.check;
    for round in 0..20 {
        let began = monotonic();
        let outcome = added(&link, Lane::Checks, "a", within).await;
        assert!(began.elapsed() < within + Duration::from_millis(250));
        assert!(outcome.is_err() || round > 2, "{outcome:?}");
        let _ = added(&link, Lane::Checks, other, LONG).await;
    }
    eventually("its replica serves", async || added(&link, Lane::Checks, "a", within).await.is_ok()).await;
    cluster.servers[frozen].thaw();
    eventually_up(&link).await;
}
