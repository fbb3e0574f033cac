//! Servers that are asked now and then how things are arranged, each over a connection of its own.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use redis::Pipeline;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::store::shared::link::connect::Driver;
use crate::store::shared::link::connect::Peer;
use crate::store::shared::link::connect::greeting_error;
use crate::store::shared::link::connect::open;
use crate::store::shared::link::connect::shortened;
use crate::store::shared::link::dial::Unfinished;
use crate::store::shared::link::trouble::Trouble;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

#[derive(Debug)]
struct Held {
    connection: MultiplexedConnection,
    unfinished: Unfinished,
    _driver: Driver,
}

/// Connections are kept while they answer.
#[derive(Debug)]
pub(super) struct Panel {
    peer: Peer,
    held: HashMap<Server, Held>,
}

impl Panel {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, held: HashMap::new() }
    }

    /// Puts the same questions to all of them at once; who is silent for too long has not answered.
    pub(super) async fn ask(
        &mut self,
        servers: &[Server],
        questions: &Pipeline,
        settings: &Settings,
        within: Duration,
    ) -> Vec<(Server, Result<Vec<Value>, Trouble>)> {
        self.held.retain(|server, _| servers.contains(server));
        let asked: Vec<_> = servers.iter().map(|server| (server, self.held.remove(server))).collect();
        let peer = self.peer;
        let answers = asked.into_iter().map(|(server, held)| async move {
            let answering = async {
                let mut held = match held {
                    Some(held) => held,
                    None => {
                        let opened = open(server, peer, settings).await?;
                        Held { connection: opened.connection, unfinished: opened.unfinished, _driver: opened.driver }
                    }
                };
                let count = questions.len();
                let values = held.connection.send_packed_commands(questions, 0, count).await;
                held.unfinished.store(0, std::sync::atomic::Ordering::Relaxed);
                values.map(|values| (held, values)).map_err(|error| Trouble::met(shortened(&error.to_string(), 200)))
            };
            let outcome = timeout(within, answering).await.unwrap_or_else(|_elapsed| Err(format!("no answer within {within:?}").into()));
            (server.clone(), outcome)
        });
        let answers = join_all(answers).await;
        let mut told = Vec::with_capacity(answers.len());
        for (server, outcome) in answers {
            let outcome = outcome.map(|(held, values)| {
                self.held.insert(server.clone(), held);
                values
            });
            told.push((server, outcome));
        }
        told
    }
}

/// A value that is no error, as what it should be.
pub(super) fn read<T: redis::FromRedisValue>(value: Option<Value>) -> Result<T, Trouble> {
    let value = value.unwrap_or(Value::Nil).extract_error().map_err(|error| greeting_error(&error))?;
    redis::from_redis_value(value).map_err(|error| Trouble::met(shortened(&error.to_string(), 200)))
}
