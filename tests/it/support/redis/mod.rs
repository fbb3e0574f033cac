//! Private Redis and Valkey servers: each on a socket or a port of its own, in a temporary folder, ended with the value that stands for
//! it. The library's own tests include this folder too, so it uses nothing but the standard library, `rustix` and
//! `tempfile`.
//!
//! - [`RedisServer`]: one server, which can be frozen, killed, restarted and set back to an old backup.
//! - [`Sentinels`]: a primary, two replicas and the three that watch them.
//! - [`Cluster`]: three primaries with a replica each.
//! - [`FaultyProxy`]: the way to a server, with the faults of a network and of a server in trouble.

mod cluster;
mod proxy;
mod sentinels;
mod server;
mod wire;

pub use cluster::Cluster;
pub use proxy::FaultyProxy;
pub use proxy::Mode;
pub use sentinels::Sentinels;
pub use server::Flavour;
pub use server::RedisServer;
pub use server::ServerPlan;
pub use server::Snapshot;
pub use wire::Answer;
pub use wire::Place;
pub use wire::Talk;

use std::time::Duration;
use std::time::Instant;

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until the answer is yes.
///
/// # Panics
/// After [`PATIENCE`], saying what was waited for.
fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
