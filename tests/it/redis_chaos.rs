//! Counting through everything that can happen to a shared store and to the sidecars on it: afterwards, for each user,
//! allows seen ≤ counted ≤ allows seen + what may have been in flight when a sidecar was killed; and in the store itself every line's
//! total is the sum of what its writers say.
//!
//! `TOLLGATE_TEST_ROUNDS` asks for more than the usual run has time for, `TOLLGATE_TEST_SEED` for the same choices again.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use crate::support::chance::Chance;
use crate::support::check_load::CheckLoad;
use crate::support::check_load::Outcome;
use crate::support::check_load::Seen;
use crate::support::fleet::Fleet;
use crate::support::fleet::FleetPlan;
use crate::support::fleet::bearer;
use crate::support::fleet::token;
use crate::support::process::wait_until;
use crate::support::redis::Cluster;
use crate::support::redis::FaultyProxy;
use crate::support::redis::Flavour;
use crate::support::redis::Mode;
use crate::support::redis::RedisServer;
use crate::support::redis::Sentinels;
use crate::support::redis::ServerPlan;
use crate::support::redis::Snapshot;
use crate::support::usage_checker::Ask;
use crate::support::usage_checker::Contents;

const SIDECARS: usize = 3;
/// Of each client, between its checks: enough of them, and the machine still has time for the store.
const PAUSE: Duration = Duration::from_millis(4);
const ALWAYS_KEPT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A store that can be hurt.
trait Victim {
    /// Does something to it and heals it again; what was done, in words.
    fn suffer(&mut self, chance: &mut Chance, meanwhile: &mut dyn FnMut()) -> String;
    /// The servers that hold everything now.
    fn servers(&self) -> Vec<&RedisServer>;
}

/// One server behind a proxy.
struct Alone {
    server: RedisServer,
    proxy: FaultyProxy,
    backups: Vec<Snapshot>,
    round: u64,
}

impl Alone {
    fn start() -> Self {
        let server = ServerPlan::tcp().start();
        let proxy = FaultyProxy::tcp(server.place());
        Self { server, proxy, backups: Vec::new(), round: 0 }
    }

    fn under(&self, mode: Mode, time: Duration, meanwhile: &mut dyn FnMut()) {
        self.proxy.set(mode);
        std::thread::sleep(time / 2);
        meanwhile();
        std::thread::sleep(time / 2);
        self.proxy.set(Mode::Pass);
    }
}

impl Victim for Alone {
    fn suffer(&mut self, chance: &mut Chance, meanwhile: &mut dyn FnMut()) -> String {
        let time = chance.between(Duration::from_millis(200), Duration::from_millis(2800));
        if self.backups.is_empty() || chance.below(3) == 0 {
            self.backups.push(self.server.snapshot());
        }
        self.round += 1;
        // The first rounds are one of each kind, so that a short run has seen all of them.
        let kind = if self.round <= 5 { self.round - 1 } else { chance.below(9) };
        match kind {
            0 => {
                self.server.freeze();
                std::thread::sleep(time / 2);
                meanwhile();
                std::thread::sleep(time / 2);
                self.server.thaw();
                format!("frozen for {time:?}")
            }
            1 => {
                self.server.kill();
                meanwhile();
                std::thread::sleep(time / 4);
                self.server.restart_with(&[]);
                "killed, and restarted on its last backup".to_owned()
            }
            2 => {
                let every = 1 + chance.below(3);
                let before = self.proxy.replies_cut();
                self.under(Mode::CutReplies { every }, time, meanwhile);
                format!("{} answers cut off after the script ran", self.proxy.replies_cut() - before)
            }
            3 => {
                let backup = self.backups[chance.index(self.backups.len())].clone();
                meanwhile();
                self.server.restore(&backup);
                "an old backup restored".to_owned()
            }
            4 => {
                self.server.ask(&["CONFIG", "SET", "appendonly", "yes"]);
                wait_until("the log of writes is there", || self.server.info("aof_rewrite_in_progress").as_deref() == Some("0"));
                self.server.ask(&["CONFIG", "SET", "appendfsync", "always"]);
                self.server.kill();
                meanwhile();
                std::thread::sleep(time / 4);
                self.server.restart_with(&ALWAYS_KEPT);
                "killed, and restarted on its log of writes".to_owned()
            }
            5 => {
                self.under(Mode::BlackHole, time, meanwhile);
                format!("a black hole for {time:?}")
            }
            6 => {
                let delay = chance.between(Duration::from_millis(10), Duration::from_millis(400));
                self.under(Mode::Delay(delay), time, meanwhile);
                format!("answers late by {delay:?} for {time:?}")
            }
            7 => {
                meanwhile();
                self.server.ask(&["FLUSHALL"]);
                "emptied".to_owned()
            }
            _ => {
                self.under(Mode::Refuse, time, meanwhile);
                format!("connections refused for {time:?}")
            }
        }
    }

    fn servers(&self) -> Vec<&RedisServer> {
        vec![&self.server]
    }
}

impl Victim for Sentinels {
    fn suffer(&mut self, chance: &mut Chance, meanwhile: &mut dyn FnMut()) -> String {
        let done = match chance.below(4) {
            0 => {
                meanwhile();
                self.kill_primary();
                "the primary killed"
            }
            1 => {
                self.freeze_primary();
                meanwhile();
                "the primary frozen until another one had its place"
            }
            2 => {
                self.failover();
                meanwhile();
                "a failover while everybody lived"
            }
            _ => {
                // What the primary takes meanwhile nobody else has.
                let primary = self.settled_primary();
                let replicas = || self.servers.iter().enumerate().filter(|(index, _)| *index != primary).map(|(_, server)| server);
                replicas().for_each(RedisServer::freeze);
                std::thread::sleep(Duration::from_millis(500));
                self.servers[primary].freeze();
                replicas().for_each(RedisServer::thaw);
                meanwhile();
                self.wait_for_other(primary);
                self.servers[primary].kill();
                "the primary killed with what no replica had"
            }
        };
        self.heal();
        done.to_owned()
    }

    fn servers(&self) -> Vec<&RedisServer> {
        vec![&self.servers[self.settled_primary()]]
    }
}

impl Victim for Cluster {
    fn suffer(&mut self, chance: &mut Chance, meanwhile: &mut dyn FnMut()) -> String {
        let user = format!("tollgate:1:u:{{user-{}}}:", chance.below(4));
        let done = match chance.below(3) {
            0 => {
                meanwhile();
                self.kill_owner(&user);
                format!("the owner of {user} killed")
            }
            1 => {
                self.failover(&user);
                meanwhile();
                format!("the replica of the owner of {user} promoted")
            }
            _ => {
                self.move_slot(&user);
                meanwhile();
                format!("the slot of {user} moved")
            }
        };
        self.heal();
        done
    }

    fn servers(&self) -> Vec<&RedisServer> {
        self.servers.iter().filter(|server| server.info("role").as_deref() == Some("master")).collect()
    }
}

/// Rounds of faults under load, then the judgement.
fn survive(name: &str, rounds: u64, victim: &mut dyn Victim, plan: FleetPlan) {
    let mut chance = Chance::new();
    eprintln!("{name}: seed {}", chance.seed);
    let began = Instant::now();
    let mut fleet = plan.start(SIDECARS);
    let users: Vec<String> = (0..4).map(|user| format!("user-{user}")).collect();
    let key = |user: &str, tier| fleet.sidecars[0].key(user, tier).text;
    // Three with keys, one of them with a grace and one with a limit that never bites; and one whose tokens ask no store who he is.
    let credentials = [key(&users[0], "free"), key(&users[1], "patient"), key(&users[2], "limited"), token(&users[3], "free")];
    let clients =
        fleet.sidecars.iter().flat_map(|sidecar| credentials.iter().map(|text| (sidecar.tollgate.check.clone(), bearer("/orders", text))));
    let load = CheckLoad::start(clients.collect(), PAUSE);
    let mut kills = [0; SIDECARS];
    let mut story = Vec::new();
    for _ in 0..rounds {
        let before = load.allowed();
        wait_until("the load goes on", || load.allowed() > before + 50);
        let doomed = (chance.below(2) == 0).then(|| chance.index(SIDECARS));
        let mut kill = || {
            if let Some(doomed) = doomed {
                fleet.sidecars[doomed].tollgate.process.kill();
                fleet.sidecars[doomed].tollgate.restart_unready();
                kills[doomed] += 1;
            }
        };
        let mut done = victim.suffer(&mut chance, &mut kill);
        if let Some(doomed) = doomed {
            done = format!("{done}; sidecar {doomed} killed meanwhile");
        }
        story.push(done);
    }
    wait_until("every sidecar is ready", || fleet.sidecars.iter().all(|sidecar| sidecar.is_ready()));
    let before = load.allowed();
    wait_until("the load goes on", || load.allowed() > before + 50);
    let seen = load.finish_each();
    let slowest = seen.iter().map(|seen| seen.slowest).max().unwrap_or_default();
    let total: u64 = seen.iter().map(Seen::total).sum();
    eprintln!(
        "{name}: {rounds} rounds in {:.0?}, {} sidecars killed, {total} requests, {} allowed, the slowest answer after {slowest:?}\n  {}",
        began.elapsed(),
        kills.iter().sum::<u64>(),
        seen.iter().map(Seen::allowed).sum::<u64>(),
        story.join("\n  ")
    );
    judge(&fleet, &users, &seen, &kills, victim);
}

/// The clients stand in the order of sidecars, and within one in the order of users.
fn judge(fleet: &Fleet, users: &[String], seen: &[Seen], kills: &[u64; SIDECARS], victim: &dyn Victim) {
    let mut told = BTreeMap::new();
    let names = |number: usize| if number == 3 { format!("shared:{}", users[3]) } else { users[number].clone() };
    for number in 0..users.len() {
        let own: Vec<&Seen> = (0..SIDECARS).map(|sidecar| &seen[sidecar * users.len() + number]).collect();
        let allowed: u64 = own.iter().map(|seen| seen.allowed()).sum();
        // Each client has one check at a time, so a kill cuts off at most one of each client at that sidecar.
        let in_flight: u64 = own.iter().zip(kills).map(|(seen, kills)| seen.of(Outcome::Broken).min(*kills)).sum();
        let user = names(number);
        wait_until(&format!("everything of {user} is in the store ({allowed} seen)"), || fleet.sidecars[0].counted(&user) >= allowed);
        for sidecar in &fleet.sidecars {
            wait_until("the sidecars agree", || sidecar.counted(&user) == fleet.sidecars[0].counted(&user));
        }
        let counted = fleet.sidecars[0].counted(&user);
        assert!(
            (allowed..=allowed + in_flight).contains(&counted),
            "{user}: {counted} counted, {allowed} seen, at most {in_flight} in flight"
        );
        told.insert(user.clone(), counted);
        assert!(allowed > 0, "{user} was never let through: {own:?}");
    }
    check_contents(&victim.servers(), &told);
}

/// In the store itself: the total of every line is the sum of its writers, and a user's hours, days and months agree with one another and
/// with what the sidecars tell.
fn check_contents(servers: &[&RedisServer], counted: &BTreeMap<String, u64>) {
    let asks: Vec<_> = servers.iter().map(|server| move |words: &[&str]| server.ask(words).texts()).collect();
    let asks: Vec<Ask<'_>> = asks.iter().map(|ask| ask as Ask<'_>).collect();
    let contents = Contents::read(&asks, "tollgate");
    let breaches = contents.sums();
    assert!(breaches.is_empty(), "totals are not what their writers say:\n{}", breaches.join("\n"));
    for (user, counted) in counted {
        let tag = user.replace(':', "%3A");
        for span in ['h', 'd', 'm'] {
            let periods = contents.0.keys().filter(|(own, period)| *own == tag && period.0 == span);
            let sum: u64 = periods.map(|(_, period)| contents.allowed(&tag, *period)).sum();
            assert_eq!(sum, *counted, "{user}: `{span}` in the store against what is told");
        }
    }
}

/// Of all rounds this share is played on one kind of store.
fn rounds(percent: u64, usual: u64) -> u64 {
    let asked = std::env::var("TOLLGATE_TEST_ROUNDS").ok().map(|rounds| rounds.parse::<u64>().expect("TOLLGATE_TEST_ROUNDS is a number"));
    asked.map_or(usual, |asked| (asked * percent).div_ceil(100))
}

// battery: R8 R10
#[test]
fn counts_survive_what_happens_to_one_server() {
    let mut alone = Alone::start();
    let plan = FleetPlan::on(&alone.proxy.place());
    survive("one server", rounds(60, 5), &mut alone, plan);
}

// battery: R11
#[test]
fn counts_survive_failovers_of_sentinels() {
    let mut sentinels = Sentinels::start_with(Flavour::Redis, &[]);
    let plan = FleetPlan::on_sentinels(&sentinels);
    survive("sentinels", rounds(25, 1), &mut sentinels, plan);
}

// battery: R6 R11
#[test]
fn counts_survive_failovers_and_moves_of_a_cluster() {
    let mut cluster = Cluster::start();
    let plan = FleetPlan::on_cluster(&cluster);
    survive("cluster", rounds(15, 1), &mut cluster, plan);
}
