//! Three primaries that share the slots, with a replica each.

use std::time::Duration;
use std::time::Instant;

use super::server::Flavour;
use super::server::RedisServer;
use super::server::ServerPlan;
use super::server::free_port;
use super::wait_until;
use super::wire::Answer;

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

#[derive(Debug)]
pub struct Cluster {
    /// The first three were the primaries in the beginning, and each one's replica stands three places later.
    pub servers: Vec<RedisServer>,
}

impl Cluster {
    /// A second without an answer makes a server down.
    pub fn start() -> Self {
        Self::start_with(Flavour::Redis, &[])
    }

    pub fn start_with(flavour: Flavour, arguments: &[&str]) -> Self {
        let servers: Vec<RedisServer> = (0..2 * PRIMARIES)
            .map(|_| {
                let bus = free_port().to_string();
                let own = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-port",
                    &bus,
                    "--cluster-node-timeout",
                    "1000",
                    "--repl-ping-replica-period",
                    "1",
                ];
                ServerPlan::tcp().flavour(flavour).with(&own).with(arguments).start()
            })
            .collect();
        let done = |server: &RedisServer, words: &[&str]| assert_eq!(server.ask(words), Answer::Bytes(b"OK".to_vec()), "{words:?}");
        for (index, server) in servers.iter().enumerate() {
            done(server, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < PRIMARIES {
                let (first, last) = (index * SLOTS / PRIMARIES, (index + 1) * SLOTS / PRIMARIES - 1);
                done(server, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            }
        }
        for server in &servers[1..] {
            let bus = server.ask(&["CONFIG", "GET", "cluster-port"]).texts().remove(1);
            done(&servers[0], &["CLUSTER", "MEET", "127.0.0.1", &server.port().to_string(), &bus]);
        }
        let cluster = Self { servers };
        wait_until("everybody knows everybody", || {
            cluster.servers.iter().all(|server| cluster_info(server, "cluster_known_nodes").as_deref() == Some("6"))
        });
        for index in 0..PRIMARIES {
            let id = cluster.servers[index].ask(&["CLUSTER", "MYID"]).text();
            done(&cluster.servers[index + PRIMARIES], &["CLUSTER", "REPLICATE", &id]);
        }
        cluster.wait_until_whole();
        cluster
    }

    /// `127.0.0.1:<port>` of each server.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect()
    }

    /// Which server owns the slot of this key, as most of those that are up see it.
    pub fn owner(&self, key: &str) -> usize {
        let slot = self.slot(key);
        let mut found = None;
        wait_until("the slot has an owner", || {
            found = self.owner_now(slot);
            found.is_some()
        });
        found.unwrap_or_default()
    }

    pub fn slot(&self, key: &str) -> i64 {
        let answers = self.servers.iter().filter_map(|server| server.try_ask(&["CLUSTER", "KEYSLOT", key]).ok());
        answers.map(|answer| answer.number()).next().expect("a server is up")
    }

    /// Kills the owner of a key's slot and waits until its replica has the slot.
    pub fn kill_owner(&mut self, key: &str) -> usize {
        let before = self.owner(key);
        self.servers[before].kill();
        self.wait_for_other(key, before)
    }

    /// Promotes the replica of a key's owner while everybody lives.
    pub fn failover(&self, key: &str) -> usize {
        let before = self.owner(key);
        let id = self.servers[before].ask(&["CLUSTER", "MYID"]).text();
        let follows = |server: &RedisServer| {
            let own = server.ask(&["CLUSTER", "NODES"]).text();
            own.lines().any(|line| line.contains("myself") && line.split(' ').nth(3) == Some(id.as_str()))
        };
        let replica = self.servers.iter().position(follows).expect("the owner has a replica");
        let slot = self.slot(key);
        // A promotion that finds no majority in time is given up without a word.
        for _ in 0..5 {
            self.servers[replica].ask(&["CLUSTER", "FAILOVER"]);
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(4) {
                if self.owner_now(slot).is_some_and(|now| now != before) {
                    return self.owner(key);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("the replica was not promoted: {}", self.servers[replica].log())
    }

    /// Gives the slot of a key, with what is in it, to another primary while clients go on.
    pub fn move_slot(&self, key: &str) -> usize {
        let from = self.owner(key);
        let slot = self.slot(key).to_string();
        let primaries = || (0..self.servers.len()).filter(|index| self.servers[*index].info("role").as_deref() == Some("master"));
        let to = primaries().find(|index| *index != from).expect("another primary");
        let id = |index: usize| self.servers[index].ask(&["CLUSTER", "MYID"]).text();
        let (from_id, to_id) = (id(from), id(to));
        self.servers[to].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        self.servers[from].ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        let port = self.servers[to].port().to_string();
        loop {
            let keys = self.servers[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).texts();
            if keys.is_empty() {
                break;
            }
            let fixed = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            let words: Vec<&str> = fixed.into_iter().chain(keys.iter().map(String::as_str)).collect();
            self.servers[from].ask(&words);
        }
        for index in [to, from].into_iter().chain(primaries().filter(|index| *index != to && *index != from)) {
            self.servers[index].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
        to
    }

    /// Starts the servers that were killed and waits until every slot has an owner and a replica.
    pub fn heal(&mut self) {
        for server in &mut self.servers {
            if !server.is_running() {
                server.restart();
            }
        }
        self.wait_until_whole();
    }

    fn wait_for_other(&self, key: &str, before: usize) -> usize {
        let slot = self.slot(key);
        wait_until("the slot has another owner", || self.owner_now(slot).is_some_and(|now| now != before));
        self.owner(key)
    }

    /// The owner of a slot by the word of the owner itself.
    fn owner_now(&self, slot: i64) -> Option<usize> {
        let owns = |server: &RedisServer| {
            let text = server.try_ask(&["CLUSTER", "NODES"]).ok()?.text();
            let line = text.lines().find(|line| line.contains("myself,master"))?.to_owned();
            line.split(' ').skip(8).filter(|range| !range.starts_with('[')).find(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                first.parse().is_ok_and(|first: i64| first <= slot) && last.parse().is_ok_and(|last: i64| slot <= last)
            })?;
            let epoch: u64 = line.split(' ').nth(6)?.parse().ok()?;
            (cluster_info(server, "cluster_state").as_deref() == Some("ok")).then_some(epoch)
        };
        let owners = self.servers.iter().enumerate().filter_map(|(index, server)| Some((owns(server)?, index)));
        owners.max().map(|(_, index)| index)
    }

    fn wait_until_whole(&self) {
        wait_until("every slot is served and every replica in step", || {
            self.servers.iter().all(|server| {
                let is_primary = server.info("role").as_deref() == Some("master");
                let in_step = is_primary || server.info("master_link_status").as_deref() == Some("up");
                in_step && cluster_info(server, "cluster_state").as_deref() == Some("ok")
            }) && self.servers.iter().filter(|server| server.info("connected_slaves").as_deref() == Some("1")).count() == PRIMARIES
        });
    }
}

fn cluster_info(server: &RedisServer, field: &str) -> Option<String> {
    let text = server.try_ask(&["CLUSTER", "INFO"]).ok()?.text();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}
