//! Messages that others publish, best effort: they make things sooner, and nothing depends on them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::monotonic;
use crate::store::shared::link::breaker::Backoff;
use crate::store::shared::link::breaker::chance;
use crate::store::shared::link::connect::open_subscription;
use crate::store::shared::link::connect::shortened;
use crate::store::shared::link::delivery::Way;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

/// Messages that wait for their reader; more are dropped.
const WAITING_MAX: usize = 64;
/// How often a connection that may be silent for good reasons is asked whether it is there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Subscribes until the receiver is dropped or the end is called.
pub(super) fn listen(settings: Arc<Settings>, way: Way, channel: String, ended: CancellationToken) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let mut backoff = Backoff::default();
        let mut attempt = 0_usize;
        loop {
            let began = monotonic();
            let outcome = tokio::select! {
                () = ended.cancelled() => return,
                () = sender.closed() => return,
                outcome = hear(&settings, &way, &channel, attempt, &sender) => outcome,
            };
            if let Err(why) = outcome {
                tracing::debug!(why, "no hints from Redis for now");
            }
            attempt = attempt.wrapping_add(1);
            backoff.ended(began.elapsed());
            tokio::select! {
                () = ended.cancelled() => return,
                () = sender.closed() => return,
                () = sleep(backoff.pause(chance())) => {}
            }
        }
    });
    receiver
}

async fn hear(settings: &Settings, way: &Way, channel: &str, attempt: usize, sender: &mpsc::Sender<Vec<u8>>) -> Result<(), String> {
    let opening = async {
        let server = whom(way, attempt).await?;
        let (mut subscription, unfinished) = open_subscription(&server, settings).await.map_err(|trouble| trouble.what)?;
        subscription.subscribe(channel).await.map_err(|error| shortened(&error.to_string(), 200))?;
        Ok::<_, String>((subscription, unfinished, server))
    };
    let opened = timeout(settings.timeouts.connect, opening).await.map_err(|_elapsed| "no connection in time".to_owned())?;
    let (subscription, unfinished, server) = opened?;
    // Something may have been said while nobody listened.
    let _ = sender.try_send(Vec::new());
    let (mut sink, mut messages) = subscription.split();
    loop {
        tokio::select! {
            message = messages.next() => {
                unfinished.store(0, Ordering::Relaxed);
                let message = message.ok_or_else(|| "the connection ended".to_owned())?;
                let _ = sender.try_send(message.get_payload_bytes().to_vec());
            }
            () = way.left(&server) => return Ok(()),
            () = sleep(LOOK_EVERY) => {
                let pong = timeout(settings.timeouts.connect, sink.ping::<redis::Value>()).await;
                pong.map_err(|_elapsed| "it does not answer".to_owned())?.map_err(|error| shortened(&error.to_string(), 200))?;
            }
        }
    }
}

/// Any member of a cluster hears what is published anywhere in it.
async fn whom(way: &Way, attempt: usize) -> Result<Server, String> {
    match way {
        Way::One(node) => node.target.pick(attempt).await.map_err(|trouble| trouble.what),
        Way::Circle(circle) => {
            circle.wait_until_known().await.map_err(|error| error.to_string())?;
            let members = circle.members().0;
            let index = attempt.wrapping_add(usize::from(chance())) % members.len().max(1);
            members.into_iter().nth(index).map(|(server, _)| server).ok_or_else(|| "the cluster has no members".to_owned())
        }
    }
}
