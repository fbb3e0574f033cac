//! The limiter against real servers.

mod accuracy;
mod differential;
mod faults;
mod remembering;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::model::quota::Limit;
use crate::model::quota::Per;
use crate::model::quota::Policy;
use crate::model::time::Timestamp;
use crate::store::Limits as _;
use crate::store::Take;
use crate::store::Taken;
use crate::store::shared::buckets::SharedBuckets;
use crate::store::shared::buckets::Tuning;
use crate::store::shared::link::Link;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::settings::Timeouts;
use crate::store::shared::testing::redis_server::RedisServer;

pub(super) const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
/// Never leased from.
pub(super) const COLD: u32 = u32::MAX;

pub(super) fn policy(name: &str, per_minute: u32, depth: u32) -> Policy {
    Policy { name: name.into(), per: Per::User, limit: Limit { per_minute, depth } }
}

pub(super) fn take<'a>(policy: &'a Policy, owner: &'a str, cost: u32) -> Take<'a> {
    Take { policy, owner, root: "org:acme", cost }
}

/// A link whose calls may take as long as a busy machine needs.
pub(super) fn patient_link(server: &RedisServer) -> Arc<Link> {
    let seconds = std::time::Duration::from_secs(20);
    let timeouts = Timeouts { connect: seconds, check: seconds, background: seconds };
    Link::new(Settings { timeouts, ..Settings::standalone(Server::Unix(server.socket().to_owned())) })
}

pub(super) fn limiter(link: &Arc<Link>, members: u32, tuning: Tuning) -> Arc<SharedBuckets> {
    SharedBuckets::new(Arc::clone(link), Arc::new(AtomicU32::new(members)), tuning)
}

pub(super) async fn asked(limiter: &SharedBuckets, takes: &[Take<'_>]) -> Taken {
    limiter.take(takes, NOW).await.unwrap()
}

/// How often the server ran the script.
pub(super) fn scripts_run(server: &RedisServer) -> u64 {
    let told = server.tell("INFO commandstats");
    let calls = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    calls("evalsha") + calls("eval")
}
