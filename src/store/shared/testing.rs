//! Real servers for the tests of this folder.

#[path = "../../../tests/it/support/redis/mod.rs"]
#[expect(dead_code, unused_imports, unreachable_pub, reason = "the acceptance tests stand on it too, and use other parts")]
#[expect(clippy::disallowed_methods, reason = "a server's patience is not the product's time")]
pub(crate) mod redis_server;

#[path = "../../../tests/it/support/usage_checker.rs"]
#[expect(unreachable_pub, reason = "the acceptance tests stand on it too")]
pub(crate) mod usage_checker;

use std::sync::Arc;
use std::time::Duration;

use crate::store::shared::link::Link;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::settings::Timeouts;
use crate::store::shared::testing::redis_server::RedisServer;

/// Settings for a server whose machine is busy with other things: no test fails because an answer took a while.
pub(crate) fn patient(server: Server) -> Settings {
    let timeouts = Timeouts { connect: Duration::from_secs(20), check: Duration::from_secs(5), background: Duration::from_secs(10) };
    Settings { timeouts, ..Settings::standalone(server) }
}

/// A private server and a link to it.
pub(crate) fn linked() -> (RedisServer, Arc<Link>) {
    let server = RedisServer::start();
    let link = Link::new(patient(Server::Unix(server.socket().to_owned())));
    (server, link)
}
