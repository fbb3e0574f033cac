//! Against a real server.

use std::sync::Arc;

use crate::clock::Clock as _;
use crate::clock::ManualClock;
use crate::clock::SystemClock;
use crate::model::time::Timestamp;
use crate::store::counts_conformance;
use crate::store::shared::link::Link;
use crate::store::shared::testing::linked;
use crate::store::shared::usage::SharedCounts;

/// The server's clock judges what is past its time, so these tests live in the present; in the middle of an hour and a month.
fn now() -> Timestamp {
    SystemClock.now()
}

fn counts_at(link: &Arc<Link>, now: Timestamp) -> Arc<SharedCounts> {
    SharedCounts::new(Arc::clone(link), Arc::new(ManualClock::starting_at(now)))
}

#[tokio::test]
async fn it_keeps_the_contract_of_counts() {
    let (now, servers) = (now(), std::sync::Mutex::new(Vec::new()));
    let fresh = async || {
        let (server, link) = linked();
        servers.lock().unwrap().push(server);
        counts_at(&link, now)
    };
    counts_conformance::run(fresh, now).await;
}
