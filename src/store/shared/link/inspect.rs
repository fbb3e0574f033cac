//! What a server says about itself and how quickly it answers, for people who set it up.

use std::time::Duration;

use redis::Value;

use crate::clock::Clock;
use crate::clock::monotonic;
use crate::model::time::Timestamp;
use crate::store::shared::link::Lane;
use crate::store::shared::link::Link;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::findings::Info;

/// A text of the server's own is shown up to this length.
const SHOWN_MAX: usize = 64;
/// The smallest thing that is like what a check asks.
const SMALL: &str = "#!lua flags=no-writes\nreturn 1";

/// One primary, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    pub place: String,
    /// `redis` or `valkey`.
    pub product: String,
    pub version: String,
    pub role: String,
    pub replicas: u64,
    /// Whether it writes down each change.
    pub logs_writes: bool,
    /// When what it writes down is surely on disk, as its setting says; none: it may not be asked.
    pub flushes: Option<String>,
    /// When it takes snapshots, as its setting says; none: it may not be asked.
    pub snapshots: Option<String>,
    pub eviction: String,
    pub memory_bytes: u64,
    /// 0: as much as there is.
    pub memory_bytes_max: u64,
    /// How many replicas must be at hand for a write; none: it may not be asked.
    pub replicas_to_write: Option<u64>,
    /// How far its clock is ahead of ours; or behind, where the second is true.
    pub clock: (Duration, bool),
    /// Half of the calls took no longer.
    pub median: Duration,
    /// 99 of 100 took no longer.
    pub slow: Duration,
}

impl Link {
    /// Looks at every primary; `calls` of a small script measure how quickly each answers.
    ///
    /// # Errors
    /// Of the first server that does not answer.
    pub async fn inspect(&self, clock: &dyn Clock, calls: usize) -> Result<Vec<ServerFacts>, LinkError> {
        let mut servers = Vec::new();
        for place in self.places(self.patience()).await? {
            servers.push(self.inspect_one(place, clock, calls).await?);
        }
        Ok(servers)
    }

    async fn inspect_one(&self, place: String, clock: &dyn Clock, calls: usize) -> Result<ServerFacts, LinkError> {
        let text = text_of(self.tell(&place, redis::cmd("INFO")).await?);
        let info = Info(&text);
        let field = |name: &str| info.field(name).unwrap_or_default().chars().take(SHOWN_MAX).collect::<String>();
        let number = |name: &str| info.field(name).and_then(|digits| digits.parse().ok()).unwrap_or_default();
        let identity = info.identity();
        let clock = self.clock_of(&place, clock).await?;
        let snapshots = self.setting(&place, "save").await;
        let flushes = self.setting(&place, "appendfsync").await;
        let replicas_to_write = self.setting(&place, "min-replicas-to-write").await.and_then(|digits| digits.parse().ok());
        let (median, slow) = self.times_of(&place, calls).await?;
        Ok(ServerFacts {
            product: identity.product,
            version: identity.version,
            role: if info.field("role") == Some("master") { "primary".to_owned() } else { field("role") },
            replicas: number("connected_slaves"),
            logs_writes: info.field("aof_enabled") == Some("1"),
            flushes,
            snapshots,
            eviction: field("maxmemory_policy"),
            memory_bytes: number("used_memory"),
            memory_bytes_max: number("maxmemory"),
            replicas_to_write,
            clock,
            median,
            slow,
            place,
        })
    }

    async fn clock_of(&self, place: &str, clock: &dyn Clock) -> Result<(Duration, bool), LinkError> {
        let before = clock.now();
        let answer = self.tell(place, redis::cmd("TIME")).await?;
        let middle = before.plus(clock.now().since(before) / 2);
        let theirs = time_of(&answer).unwrap_or(middle);
        Ok((theirs.since(middle).max(middle.since(theirs)), theirs < middle))
    }

    /// A setting, where we may ask for it.
    async fn setting(&self, place: &str, name: &str) -> Option<String> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let answer = self.tell(place, command).await.ok()?;
        let pairs: Vec<(String, String)> = redis::from_redis_value(answer).ok()?;
        pairs.into_iter().next().map(|(_name, value)| value.chars().take(SHOWN_MAX).collect())
    }

    async fn times_of(&self, place: &str, calls: usize) -> Result<(Duration, Duration), LinkError> {
        let mut times = Vec::with_capacity(calls);
        for _call in 0..calls.max(1) {
            let mut command = redis::cmd("EVAL");
            command.arg(SMALL).arg(0);
            let began = monotonic();
            self.tell(place, command).await?;
            times.push(monotonic().duration_since(began));
        }
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied().unwrap_or_default();
        Ok((at(50), at(99)))
    }

    async fn tell(&self, place: &str, command: redis::Cmd) -> Result<Value, LinkError> {
        self.command_at(place, Lane::Bulk, command, self.patience()).await
    }

    /// A person waits, and rather a little longer than for nothing.
    fn patience(&self) -> Duration {
        self.settings().timeouts.connect + self.settings().timeouts.background.max(Duration::from_secs(1))
    }
}

fn text_of(value: Value) -> String {
    redis::from_redis_value::<Vec<u8>>(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn time_of(answer: &Value) -> Option<Timestamp> {
    let Value::Array(parts) = answer else { return None };
    let mut numbers = parts.iter().map(|part| text_of(part.clone()).parse::<u64>().ok());
    let (second, micros) = (numbers.next()??, numbers.next()??);
    Some(Timestamp::from_unix_seconds(second).plus(Duration::from_micros(micros)))
}

#[cfg(test)]
mod tests {
    use crate::clock::SystemClock;
    use crate::store::shared::testing::linked;

    #[tokio::test]
    async fn a_server_is_looked_at_whole() {
        let (server, link) = linked();
        server.tell("CONFIG SET min-replicas-to-write 0");
        let facts = link.inspect(&SystemClock, 20).await.unwrap().remove(0);
        assert_eq!((facts.role.as_str(), facts.replicas, facts.logs_writes, facts.eviction.as_str()), ("primary", 0, false, "noeviction"));
        assert_eq!((facts.snapshots.as_deref(), facts.replicas_to_write), (Some(""), Some(0)));
        assert!(facts.memory_bytes > 100_000 && facts.version.starts_with(|digit: char| digit.is_ascii_digit()), "{facts:?}");
        assert!(facts.clock.0.as_secs() < 5 && facts.median <= facts.slow && !facts.slow.is_zero(), "{facts:?}");
    }
}
