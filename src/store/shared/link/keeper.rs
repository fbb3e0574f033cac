//! The task of one wire: it opens the connection, watches it, and opens the next one.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::monotonic;
use crate::store::shared::link::breaker::Backoff;
use crate::store::shared::link::breaker::STRIKES;
use crate::store::shared::link::breaker::chance;
use crate::store::shared::link::connect::Driver;
use crate::store::shared::link::connect::Opened;
use crate::store::shared::link::connect::Peer;
use crate::store::shared::link::connect::inquire;
use crate::store::shared::link::connect::open;
use crate::store::shared::link::connect::shortened;
use crate::store::shared::link::findings::Info;
use crate::store::shared::link::findings::Severity;
use crate::store::shared::link::findings::speechless;
use crate::store::shared::link::node::Purpose;
use crate::store::shared::link::trouble::Trouble;
use crate::store::shared::link::wire::Channel;
use crate::store::shared::link::wire::Door;
use crate::store::shared::link::wire::Wire;

/// How often a connection is asked whether its server is still the one that it was.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// With how many of these looks its settings are looked at too: once a minute.
const LOOKS_PER_SETTINGS: u32 = 30;

/// Keeps a wire until its end is called.
pub(super) async fn keep(wire: Arc<Wire>) {
    let ended = wire.ended.clone();
    let mut backoff = Backoff::default();
    let mut attempt = 0_usize;
    let mut has_been_open = false;
    loop {
        // From before the attempt: a move while it is under way must not be slept through.
        let moved = wire.target.moved();
        let reached = wire.contact.made.notified();
        let mut is_lost = false;
        let connected = tokio::select! {
            () = ended.cancelled() => break,
            connected = wire.connect(attempt) => connected,
        };
        match connected {
            Ok((channel, mut driver)) => {
                wire.opened(&channel, has_been_open);
                has_been_open = true;
                let began = monotonic();
                let is_over = attend(&wire, &channel, &mut driver, &ended).await;
                if is_over {
                    break;
                }
                backoff.ended(began.elapsed());
            }
            Err(trouble) => {
                attempt = attempt.wrapping_add(1);
                wire.failed(&trouble);
                backoff.failed();
                is_lost = true;
            }
        }
        let pause = backoff.pause(chance());
        if !pause.is_zero() {
            wire.shut_while_pausing();
            tokio::select! {
                () = ended.cancelled() => break,
                () = moved => {}
                // A wire whose connections do not last has its pause all the same, or two of them would keep each other going.
                () = reached, if is_lost => wire.open_again(),
                () = sleep(pause) => {}
            }
        }
    }
    wire.door.send_replace(Door::Closed);
}

/// Stays with a connection until it ends; true: the end of all was called.
async fn attend(wire: &Arc<Wire>, channel: &Arc<Channel>, driver: &mut Driver, ended: &CancellationToken) -> bool {
    let mut looks = 0_u32;
    loop {
        tokio::select! {
            () = ended.cancelled() => return true,
            () = driver.ended() => {
                wire.leave(channel, "the connection ended", false);
                wire.target.nudge();
                return false;
            }
            () = channel.left.notified() => return false,
            () = wire.target.left(&channel.server) => {
                wire.leave(channel, "another server is the primary now", false);
                return false;
            }
            () = sleep(LOOK_EVERY) => {
                looks = looks.wrapping_add(1);
                wire.look(channel).await;
                if wire.purpose == Purpose::Bulk && looks.is_multiple_of(LOOKS_PER_SETTINGS) {
                    wire.look_at_settings(channel).await;
                }
                wire.heed(channel);
            }
        }
    }
}

impl Wire {
    async fn connect(&self, attempt: usize) -> Result<(Arc<Channel>, Driver), Trouble> {
        let mut place = "no server".to_owned();
        let connecting = async {
            let server = self.target.pick(attempt).await?;
            place = server.to_string();
            let Opened { mut connection, driver, unfinished } = open(&server, Peer::Store, &self.settings).await?;
            let (identity, findings) = inquire(&mut connection, &server, &self.settings).await?;
            let refused = findings.iter().find(|finding| finding.severity == Severity::Refuse).map(|finding| finding.what.clone());
            self.notes.met(&server, identity, findings);
            if let Some(refused) = refused {
                let is_forbidden = refused == speechless(&server).what;
                return Err(if is_forbidden { Trouble::refused("NOPERM", refused) } else { Trouble::met(refused) });
            }
            // A server that is up and too slow for this lane is as good as down for it.
            let ping = redis::cmd("PING");
            match timeout(self.pace(), connection.send_packed_command(&ping)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(Trouble::met(shortened(&error.to_string(), 200))),
                Err(_elapsed) => return Err(Trouble::met(format!("it does not answer within {:?}", self.pace()))),
            }
            unfinished.store(0, Ordering::Relaxed);
            let channel = Channel { connection, server, unfinished, strikes: AtomicU32::new(0), left: Notify::new() };
            Ok((Arc::new(channel), driver))
        };
        let outcome = timeout(self.settings.timeouts.connect, connecting).await;
        let outcome = outcome.unwrap_or_else(|_elapsed| Err(self.lateness()));
        self.contact.was_made.store(outcome.as_ref().map_or_else(|trouble| trouble.was_reached, |_| true), Ordering::Relaxed);
        outcome.map_err(|trouble| {
            self.notes.troubled(&trouble);
            trouble.at(&place)
        })
    }

    fn lateness(&self) -> Trouble {
        let advice = if self.settings.tls.is_some() { "; does this port speak TLS?" } else { "" };
        format!("no connection within {:?}{advice}", self.settings.timeouts.connect).into()
    }

    /// Looks again at the settings of a server in use, which may have been changed since the connection was made.
    pub(super) async fn look_at_settings(&self, channel: &Arc<Channel>) {
        let mut connection = channel.connection.clone();
        // One that does not answer is dealt with by the other look.
        let Ok(inquired) = timeout(self.pace(), inquire(&mut connection, &channel.server, &self.settings)).await else {
            return;
        };
        channel.unfinished.store(0, Ordering::Relaxed);
        if let Ok((identity, findings)) = inquired {
            self.notes.met(&channel.server, identity, findings);
        }
    }

    /// Leaves a server that is not to be used any more, whoever found that out.
    fn heed(&self, channel: &Arc<Channel>) {
        if let Some(why) = self.notes.refusal(&channel.server) {
            self.leave(channel, &why, false);
        }
    }

    /// Whether the server is still there and still the primary; a silent one is struck out.
    async fn look(&self, channel: &Arc<Channel>) {
        let mut connection = channel.connection.clone();
        let mut question = redis::cmd("INFO");
        question.arg("replication");
        for _ in 0..STRIKES {
            match timeout(self.pace(), connection.send_packed_command(&question)).await {
                Err(_elapsed) => self.strike(channel, &format!("it does not answer within {:?}", self.pace())),
                Ok(Err(_broken)) => return,
                Ok(Ok(answer)) => {
                    channel.unfinished.store(0, Ordering::Relaxed);
                    match answer.extract_error() {
                        Ok(answer) => self.read(channel, answer),
                        Err(error) => self.weigh(channel, error.code().unwrap_or_default(), error.detail().unwrap_or_default()),
                    }
                    return;
                }
            }
        }
    }

    fn read(&self, channel: &Arc<Channel>, answer: Value) {
        channel.strikes.store(0, Ordering::Relaxed);
        let Ok(text) = redis::from_redis_value::<String>(answer) else {
            return;
        };
        let info = Info(&text);
        if let Some(why) = info.inability() {
            self.leave(channel, why, false);
            self.target.nudge();
        } else if let Some(replication) = info.field("master_replid") {
            self.notes.heard_replication(&channel.server, &shortened(replication, 64));
        }
    }

    fn opened(&self, channel: &Arc<Channel>, again: bool) {
        self.waited.store(0, Ordering::Relaxed);
        let before = self.door.send_replace(Door::Open(Arc::clone(channel)));
        self.contact.made.notify_waiters();
        if matches!(before, Door::Shut(_)) {
            tracing::info!(server = %channel.server, lane = self.purpose.name(), "Redis can be used again");
        }
        if again {
            self.notes.reconnected();
            // What was told to the server before may be lost to it; the lanes that tell and follow want to know.
            match self.purpose {
                Purpose::Changes | Purpose::Bulk => self.notes.rise(),
                Purpose::Checks | Purpose::Commits => {}
            }
        }
    }

    /// There is somebody to connect to, so callers may wait for it.
    fn open_again(&self) {
        self.door.send_if_modified(|door| {
            let Door::Shut(why) = door else {
                return false;
            };
            *door = Door::Opening(Arc::clone(why));
            true
        });
    }

    fn failed(&self, trouble: &Trouble) {
        let why = trouble.what.as_str();
        self.waited.store(0, Ordering::Relaxed);
        let before = self.door.send_replace(Door::Shut(why.into()));
        // Once for each new reason, not for each attempt.
        if !matches!(&before, Door::Shut(known) if **known == *why) {
            let lane = self.purpose.name();
            if trouble.was_reached {
                tracing::warn!(lane, why, "Redis was reached and cannot be used");
            } else {
                tracing::warn!(lane, why, "Redis cannot be reached");
            }
        }
        self.target.nudge();
    }

    /// Nobody is to wait for a door that is not going to open for a while.
    fn shut_while_pausing(&self) {
        self.door.send_if_modified(|door| {
            let Door::Opening(why) = door else {
                return false;
            };
            *door = Door::Shut(Arc::clone(why));
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::shared::link::node::Target;
    use crate::store::shared::link::state::Notes;
    use crate::store::shared::settings::Server;
    use crate::store::shared::settings::Settings;
    use crate::store::shared::testing::redis_server::RedisServer;

    #[tokio::test]
    async fn whichever_wire_meets_somebody_first_has_met_them_for_all() {
        let server = RedisServer::start_with(&["--requirepass", "hunter2"]);
        let place = Server::Unix(server.socket().to_owned());
        let settings = Arc::new(Settings::standalone(place.clone()));
        let (notes, contact, ended) = (Arc::new(Notes::new()), Arc::default(), CancellationToken::new());
        let wire = |purpose| Wire::new(&settings, &notes, Target::Named([place.clone()].into()), purpose, &contact, &ended);
        let (checks, bulk) = (wire(Purpose::Checks), wire(Purpose::Bulk));
        let Err(trouble) = bulk.connect(0).await else { panic!("it asks for a password") };
        assert!(trouble.what.contains("NOAUTH"), "{trouble:?}");
        assert!(checks.contact.was_made.load(Ordering::Relaxed), "its own first attempt may be under way still");
    }
}
