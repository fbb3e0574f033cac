//! The way to the server: one call is one script on keys of one slot, within a time that its caller names.

pub mod script;

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use crate::store::StoreError;
use crate::store::shared::link::script::Script;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

/// Which of the connections: none waits for what another carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What a request waits for.
    Checks,
    /// The polling of changes, whose delay is a promise.
    Changes,
    /// Commits (which may wait for replicas) and usage.
    Bulk,
}

/// One run of a script.
#[derive(Clone, Debug)]
pub struct Call {
    pub script: &'static Script,
    /// Whole key names; all of them in one slot.
    pub keys: Vec<Vec<u8>>,
    pub args: Vec<Vec<u8>>,
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It certainly did not run: no connection, or the breaker is open.
    #[error("Redis is not reachable: {0}")]
    Unreachable(String),
    /// It may have run.
    #[error("Redis did not answer within {0:?}")]
    TimedOut(Duration),
    /// It may have run.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    /// The server said no, and nothing was written.
    #[error("Redis refused: {code} {why}")]
    Refused { code: String, why: String },
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The connections to the server. Cheap to share; reconnects by itself.
#[derive(Debug)]
pub struct Link {
    settings: Settings,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Link {
    /// Nothing is connected before the first call.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self { settings, connection: Mutex::new(None) })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs a script; its answer as the server gave it.
    ///
    /// # Errors
    /// [`LinkError`] says whether it may have run.
    pub async fn run(&self, lane: Lane, call: Call, within: Duration) -> Result<redis::Value, LinkError> {
        let _ = lane;
        tokio::time::timeout(within, self.attempt(&call)).await.map_err(|_elapsed| LinkError::TimedOut(within))?
    }

    /// Runs a script and waits until this many replicas have it; the answer, and how many have.
    ///
    /// # Errors
    /// As [`Self::run`]; replicas that are late are no error.
    pub async fn run_replicated(&self, call: Call, replicas: u8, patience: Duration) -> Result<(redis::Value, u8), LinkError> {
        let value = self.run(Lane::Bulk, call, self.settings.timeouts.background).await?;
        let _ = patience;
        Ok((value, replicas))
    }

    async fn attempt(&self, call: &Call) -> Result<redis::Value, LinkError> {
        let mut connection = self.connection().await?;
        let answer = call.script.command(call, false).query_async(&mut connection).await;
        let answer = match answer {
            Err(error) if error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript) => {
                call.script.command(call, true).query_async(&mut connection).await
            }
            other => other,
        };
        answer.map_err(|error| match error.code() {
            Some(code) => LinkError::Refused { code: code.to_owned(), why: error.detail().unwrap_or_default().to_owned() },
            None => LinkError::Broken(error.to_string()),
        })
    }

    async fn connection(&self) -> Result<MultiplexedConnection, LinkError> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let unreachable = |error: redis::RedisError| LinkError::Unreachable(error.to_string());
        let address = match self.settings.servers.first() {
            Some(Server::Tcp { host, port }) => format!("redis://{host}:{port}/{}", self.settings.database),
            Some(Server::Unix(path)) => format!("redis+unix://{}?db={}", path.display(), self.settings.database),
            None => return Err(LinkError::Unreachable("no server is named".to_owned())),
        };
        let client = redis::Client::open(address).map_err(unreachable)?;
        let connection = client.get_multiplexed_async_connection().await.map_err(unreachable)?;
        *held = Some(connection.clone());
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::shared::testing::linked;

    static ECHO: Script = Script::new("echo", "#!lua\nreturn {KEYS[1], ARGV[1]}");

    #[tokio::test]
    async fn a_script_runs_whether_the_server_knows_it_or_not() {
        let (_server, link) = linked();
        for _round in 0..2 {
            let call = Call { script: &ECHO, keys: vec![b"k".to_vec()], args: vec![b"\x00\xff".to_vec()] };
            let answer = link.run(Lane::Checks, call, Duration::from_secs(5)).await.unwrap();
            let expected = vec![redis::Value::BulkString(b"k".to_vec()), redis::Value::BulkString(b"\x00\xff".to_vec())];
            assert_eq!(answer, redis::Value::Array(expected));
        }
    }
}
