//! Against real servers.

mod answers;
mod cluster;
mod logins;
mod sentinel;
mod standalone;

use std::time::Duration;

use redis::Value;

use crate::clock::monotonic;
use crate::store::shared::link::Call;
use crate::store::shared::link::Lane;
use crate::store::shared::link::Link;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::script::Script;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::settings::Timeouts;
use crate::store::shared::testing::redis_server::Place;

/// Within which a busy machine answers a healthy call.
const LONG: Duration = Duration::from_secs(10);

static ADD: Script = Script::new("add", "#!lua\nreturn redis.call('INCR', KEYS[1])");

fn add(key: &str) -> Call {
    Call { script: &ADD, keys: vec![key.as_bytes().to_vec()], args: Vec::new() }
}

/// One more on a key's number; the number.
async fn added(link: &Link, lane: Lane, key: &str, within: Duration) -> Result<i64, LinkError> {
    let answer = link.run(lane, add(key), within).await?;
    let Value::Int(number) = answer else { panic!("no number: {answer:?}") };
    Ok(number)
}

fn tcp(port: u16) -> Server {
    Server::Tcp { host: "127.0.0.1".to_owned(), port }
}

fn at(place: Place) -> Server {
    match place {
        Place::Tcp(port) => tcp(port),
        Place::Unix(path) => Server::Unix(path),
    }
}

/// Timeouts that a test can wait for, and that a busy machine keeps.
fn brisk(server: Server) -> Settings {
    let timeouts = Timeouts { connect: Duration::from_secs(2), check: Duration::from_millis(300), background: Duration::from_millis(600) };
    Settings { timeouts, ..Settings::standalone(server) }
}

/// Asks again until the answer is yes.
async fn eventually(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let began = monotonic();
    while !met().await {
        assert!(began.elapsed() < Duration::from_secs(40), "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn eventually_up(link: &Link) {
    eventually("the link is up", async || link.state().connected).await;
}
