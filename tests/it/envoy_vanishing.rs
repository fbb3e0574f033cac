//! Hundreds of clients that vanish at once, five times, disturb nobody: Envoy resets their checks, and a server that took this for an
//! attack would close the one connection that everybody's checks go over.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::http1::message;
use crate::support::load::Load;
use crate::support::scenario::Plan;

const STEADY: usize = 8;
const VANISHING: usize = 256;
const ROUNDS: usize = 5;

#[test]
fn steady_clients_notice_nothing_of_the_vanishing() {
    let scenario = Plan::of("quickstart").start();
    let key = scenario.key("alice", "enterprise", &["conversations:read", "tollgate:unlimited"]);
    let authorization = format!("Bearer {key}");
    let request = message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &authorization)], b"");
    assert_eq!(scenario.client().raw(&request).status, 200);
    let steady = Load::start(scenario.envoy.port, vec![request.clone(); STEADY]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for _ in 0..ROUNDS {
        runtime.block_on(vanish(scenario.envoy.port, &request));
    }
    let tally = steady.finish();
    // Beside so many others each of the steady ones gets few turns.
    tally.assert_flawless(40);
    let resets = scenario.envoy.statistic("cluster.tollgate.upstream_rq_tx_reset");
    assert!(resets > 20, "only {resets} checks were cut off, so this run shows nothing");
    assert_eq!(scenario.envoy.statistic("cluster.tollgate.upstream_cx_total"), 1, "Envoy had to connect to Tollgate again");
}

/// Opens many connections, keeps each busy for a while, then drops them all in the same instant.
async fn vanish(port: u16, request: &[u8]) {
    let mut clients = JoinSet::new();
    for _ in 0..VANISHING {
        let request = request.to_vec();
        clients.spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the port is open");
            let mut buffer = vec![0; 16 * 1024];
            loop {
                stream.write_all(&request).await.expect("Envoy reads");
                if stream.read(&mut buffer).await.expect("Envoy answers") == 0 {
                    return;
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    clients.shutdown().await;
}
