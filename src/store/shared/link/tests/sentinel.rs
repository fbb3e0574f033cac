//! A primary that the Sentinels name, and Sentinels that fail.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;

use super::*;
use crate::store::shared::settings::Mode;
use crate::store::shared::testing::redis_server::Sentinels;

fn settings(all: &Sentinels, servers: Vec<Server>) -> Settings {
    let first = servers[0].clone();
    Settings { mode: Mode::Sentinel { master_name: all.name().to_owned() }, servers, ..brisk(first) }
}

/// A Sentinel that names this server as the primary, elected in this epoch, to whoever asks.
fn liar(port: u16, epoch: u64) -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 4_096];
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                    let text = format!("$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.to_string().len());
                    let epoch = format!("${}\r\n{epoch}\r\n", epoch.to_string().len());
                    let said = format!("*2\r\n{text}*2\r\n$12\r\nconfig-epoch\r\n{epoch}*0\r\n");
                    if stream.write_all(said.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    tcp(own)
}

// battery: R12
#[tokio::test]
async fn the_primary_is_followed_through_failovers_lies_and_the_end_of_all_sentinels() {
    let mut all = Sentinels::start();
    let first = all.settled_primary();
    let replica = (0..3).find(|index| *index != first).unwrap();
    let mut named: Vec<Server> = all.sentinels.iter().map(|sentinel| tcp(sentinel.port())).collect();
    // Two that were bribed, asked before the others: one names a replica, and one a port where nobody is.
    named.insert(0, liar(all.servers[replica].port(), 1_000));
    named.insert(1, liar(9, 1_001));
    let link = Link::new(settings(&all, named));
    let mut changes = link.changes();
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    assert_eq!(link.state().servers[0].place, format!("127.0.0.1:{}", all.servers[first].port()));

    changes.mark_unchanged();
    let second = all.failover();
    let place = format!("127.0.0.1:{}", all.servers[second].port());
    eventually("the new primary is used", async || {
        added(&link, Lane::Checks, "n", LONG).await.is_ok() && link.state().servers[0].place == place
    })
    .await;
    changes.changed().await.unwrap();
    assert!(link.findings().iter().any(|finding| finding.what.contains("min-replicas-to-write")), "{:?}", link.findings());

    for sentinel in &mut all.sentinels {
        sentinel.kill();
    }
    all.servers[second].tell("CLIENT KILL TYPE normal SKIPME yes");
    eventually("it is used without any Sentinel", async || {
        link.state().reconnects > 3 && added(&link, Lane::Checks, "n", LONG).await.is_ok()
    })
    .await;
    assert_eq!(link.state().servers[0].place, place);
}

#[tokio::test]
async fn a_killed_primary_is_replaced_by_the_one_that_was_elected() {
    let mut all = Sentinels::start();
    // Only one Sentinel is named; the others are learned from it.
    let link = Link::new(settings(&all, vec![tcp(all.sentinels[0].port())]));
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    let first = all.settled_primary();
    all.servers[first].kill();
    eventually("another primary is used", async || added(&link, Lane::Checks, "n", Duration::from_millis(300)).await.is_ok()).await;
    assert_ne!(link.state().servers[0].place, format!("127.0.0.1:{}", all.servers[first].port()));
}

#[tokio::test]
async fn sentinels_that_are_down_or_do_not_know_the_name_are_said_to_be() {
    let link = Link::new(Settings { mode: Mode::Sentinel { master_name: "main".to_owned() }, ..brisk(tcp(9)) });
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err();
    assert!(matches!(&error, LinkError::Unreachable(why) if why.contains("Sentinel 127.0.0.1:9")), "{error}");
}
