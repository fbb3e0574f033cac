//! A primary with two replicas, and three sentinels that watch them.

use std::time::Duration;
use std::time::Instant;

use super::PATIENCE;
use super::server::Flavour;
use super::server::RedisServer;
use super::server::ServerPlan;
use super::wait_until;
use super::wire::Answer;

/// What the sentinels call the primary.
const NAME: &str = "main";

#[derive(Debug)]
pub struct Sentinels {
    /// Whoever is the primary now, the first one was it in the beginning.
    pub servers: Vec<RedisServer>,
    pub sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Seven tenths of a second without an answer makes a primary down.
    pub fn start() -> Self {
        Self::start_with(Flavour::Redis, &[])
    }

    /// The same with more arguments for the servers, such as `["--min-replicas-to-write", "1"]`.
    pub fn start_with(flavour: Flavour, arguments: &[&str]) -> Self {
        let plan = ServerPlan::tcp().flavour(flavour).with(&["--repl-ping-replica-period", "1"]).with(arguments);
        let servers: Vec<RedisServer> = (0..3).map(|_| plan.clone().start()).collect();
        for replica in &servers[1..] {
            replica.follow(&servers[0]);
        }
        let file = format!(
            "bind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {NAME} 700\n\
             sentinel failover-timeout {NAME} 3000\nsentinel parallel-syncs {NAME} 2\n",
            servers[0].port()
        );
        let plan = ServerPlan { sentinel_file: Some(file), ..ServerPlan::tcp().flavour(flavour) };
        let sentinels: Vec<RedisServer> = (0..3).map(|_| plan.clone().start()).collect();
        for sentinel in &sentinels {
            // Sentinels find one another sooner when they speak more often than every two seconds. After four such periods they make
            // whoever calls itself a primary without their knowledge a replica again, so a promotion must not take longer.
            sentinel.ask(&["SENTINEL", "DEBUG", "PUBLISH-PERIOD", "500", "INFO-PERIOD", "500", "ASK-PERIOD", "200"]);
        }
        let all = Self { servers, sentinels };
        all.wait_until_watched();
        all
    }

    /// The name of the primary for whoever asks the sentinels.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// `127.0.0.1:<port>` of each sentinel.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect()
    }

    /// Which server takes writes and is the one that the sentinels name; none in between.
    pub fn primary(&self) -> Option<usize> {
        let mut named = self.sentinels.iter().filter_map(named_port);
        let port = named.next()?;
        let index = self.servers.iter().position(|server| server.port() == port)?;
        let is_primary = self.servers[index].info("role").as_deref() == Some("master");
        (is_primary && named.all(|other| other == port)).then_some(index)
    }

    /// Waits for a primary that all sentinels agree on.
    pub fn settled_primary(&self) -> usize {
        let mut found = None;
        wait_until("the sentinels agree on a primary", || {
            found = self.primary();
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// Has the sentinels promote a replica while everybody lives, and waits until the old primary follows it.
    pub fn failover(&self) -> usize {
        let before = self.settled_primary();
        let mut asked: Option<Instant> = None;
        // A failover that is given up on the way is asked for again.
        wait_until("another primary is there", || {
            if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(7)) {
                let mut answers = self.sentinels.iter().map(|sentinel| sentinel.ask(&["SENTINEL", "FAILOVER", NAME]));
                asked = answers.any(|answer| !matches!(answer, Answer::Error(_))).then(Instant::now);
            }
            self.primary().is_some_and(|now| now != before)
        });
        let after = self.settled_primary();
        wait_until("the old primary follows", || self.servers[before].info("role").as_deref() == Some("slave"));
        after
    }

    /// Kills the primary and waits until another one has its place.
    pub fn kill_primary(&mut self) -> usize {
        let before = self.settled_primary();
        self.servers[before].kill();
        self.wait_for_other(before)
    }

    /// Freezes the primary, waits until another one has its place, and lets the old one go on.
    pub fn freeze_primary(&self) -> usize {
        let before = self.settled_primary();
        self.servers[before].freeze();
        let after = self.wait_for_other(before);
        self.servers[before].thaw();
        after
    }

    /// Starts the servers that were killed and waits until everybody is watched again.
    pub fn heal(&mut self) {
        for server in self.servers.iter_mut().chain(&mut self.sentinels) {
            if !server.is_running() {
                server.restart();
            }
        }
        self.wait_until_watched();
    }

    /// Waits until the primary is another one than this.
    pub fn wait_for_other(&self, before: usize) -> usize {
        let began = Instant::now();
        while self.primary().is_none_or(|now| now == before) {
            assert!(began.elapsed() < PATIENCE, "nobody took the place of server {before}:\n{}", self.last_words());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.settled_primary()
    }

    /// What the sentinels said lately, and what the servers are.
    fn last_words(&self) -> String {
        let tail = |sentinel: &RedisServer| sentinel.log().lines().rev().take(20).map(str::to_owned).collect::<Vec<_>>();
        let said = self.sentinels.iter().map(|sentinel| tail(sentinel).into_iter().rev().collect::<Vec<_>>().join("\n"));
        let roles = self.servers.iter().map(|server| format!("{}: {:?}", server.port(), server.info("role")));
        said.chain(roles).collect::<Vec<_>>().join("\n---\n")
    }

    fn wait_until_watched(&self) {
        let has = |sentinel: &RedisServer, what: &str, count: &str| {
            sentinel.info("master0").is_some_and(|line| line.contains(&format!("{what}={count}")))
        };
        // A sentinel that still sees an earlier failover through would leave the next one to the others, and learn of it late.
        let is_calm = |sentinel: &RedisServer| {
            let Ok(Answer::List(words)) = sentinel.try_ask(&["SENTINEL", "MASTER", NAME]) else { return false };
            words.chunks(2).any(|pair| pair[0].text() == "flags" && pair[1].text() == "master")
        };
        wait_until("the sentinels know one another and the replicas", || {
            self.sentinels.iter().all(|sentinel| {
                is_calm(sentinel) && has(sentinel, "status", "ok") && has(sentinel, "slaves", "2") && has(sentinel, "sentinels", "3")
            })
        });
        wait_until("the replicas are in step", || {
            let Some(primary) = self.primary() else { return false };
            let others = self.servers.iter().enumerate().filter(|(index, _)| *index != primary);
            let mut links = others.map(|(_, server)| server.info("master_link_status"));
            links.all(|link| link.as_deref() == Some("up")) && self.servers[primary].info("connected_slaves").as_deref() == Some("2")
        });
    }
}

fn named_port(sentinel: &RedisServer) -> Option<u16> {
    let Answer::List(parts) = sentinel.try_ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).ok()? else { return None };
    parts.get(1)?.text().parse().ok()
}
