//! Who the primary is, by the word of the Sentinels and then of the server itself. Sentinels may be down, behind the times or wrong:
//! a server is believed to be the primary when it says so too, and the last one that did is kept until another is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::store::shared::link::breaker::chance;
use crate::store::shared::link::connect::Peer;
use crate::store::shared::link::connect::greeting_error;
use crate::store::shared::link::connect::open;
use crate::store::shared::link::findings::Info;
use crate::store::shared::link::panel::Panel;
use crate::store::shared::link::panel::read;
use crate::store::shared::link::state::Notes;
use crate::store::shared::link::trouble::Trouble;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

/// How often the Sentinels are asked when nobody has trouble.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often at most when somebody has.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A Sentinel that is silent for so long is left out of this round.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Sentinels that are asked: those of the config, and those that they tell of.
const SENTINELS_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Belief {
    /// Nobody was asked yet.
    Unknown,
    Failed(Trouble),
    Primary {
        server: Server,
        epoch: u64,
    },
}

/// Follows the primary of one name.
#[derive(Debug)]
pub(super) struct Watch {
    settings: Arc<Settings>,
    notes: Arc<Notes>,
    master_name: String,
    belief: watch::Sender<Belief>,
    nudged: Notify,
    is_started: AtomicBool,
    ended: CancellationToken,
}

impl Watch {
    pub(super) fn new(settings: &Arc<Settings>, notes: &Arc<Notes>, master_name: &str, ended: &CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::clone(settings),
            notes: Arc::clone(notes),
            master_name: master_name.to_owned(),
            belief: watch::Sender::new(Belief::Unknown),
            nudged: Notify::new(),
            is_started: AtomicBool::new(false),
            ended: ended.clone(),
        })
    }

    pub(super) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// The primary that is believed in; waits for the first round.
    pub(super) async fn primary(self: &Arc<Self>) -> Result<Server, Trouble> {
        if !self.is_started.swap(true, Ordering::Relaxed) {
            tokio::spawn(follow(Arc::clone(self)));
        }
        let mut belief = self.belief.subscribe();
        loop {
            match &*belief.borrow_and_update() {
                Belief::Unknown => {}
                Belief::Failed(trouble) => return Err(trouble.retold()),
                Belief::Primary { server, .. } => return Ok(server.clone()),
            }
            // The sender lives as long as `self`.
            let _ = belief.changed().await;
        }
    }

    /// The place of the primary, if one is known.
    pub(super) fn known(&self) -> Option<Server> {
        match &*self.belief.borrow() {
            Belief::Primary { server, .. } => Some(server.clone()),
            Belief::Unknown | Belief::Failed(_) => None,
        }
    }

    /// Returns when the primary is another server.
    pub(super) async fn left(&self, server: &Server) {
        let is_other = |belief: &Belief| matches!(belief, Belief::Primary { server: now, .. } if now != server);
        // The sender lives as long as `self`.
        let _ = self.belief.subscribe().wait_for(is_other).await;
    }

    /// Returns at the next change after this call, whenever it is waited for.
    pub(super) fn moved(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut belief = self.belief.subscribe();
        async move {
            let _ = belief.changed().await;
        }
    }

    fn believe(&self, next: Belief) {
        let mut is_other_server = false;
        self.belief.send_if_modified(|belief| {
            if *belief == next {
                return false;
            }
            is_other_server = match (&*belief, &next) {
                (Belief::Primary { server: before, .. }, Belief::Primary { server: after, .. }) => before != after,
                (Belief::Unknown | Belief::Failed(_), _) | (_, Belief::Unknown | Belief::Failed(_)) => false,
            };
            *belief = next;
            true
        });
        if is_other_server && let Some(server) = self.known() {
            tracing::warn!(primary = %server, "the Sentinels name another primary");
            self.notes.keep_only(|known| *known == server);
            self.notes.rise();
        }
    }
}

/// One server as the Sentinels see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    server: Server,
    epoch: u64,
    votes: usize,
}

async fn follow(watch: Arc<Watch>) {
    let mut panel = Panel::new(Peer::Sentinel);
    let mut sentinels = watch.settings.servers.clone();
    let mut is_trouble = true;
    loop {
        let round = look(&watch, &mut panel, &mut sentinels, is_trouble);
        tokio::select! {
            () = watch.ended.cancelled() => return,
            () = round => {}
        }
        let spread = ASK_AGAIN * u32::from(chance()) / 255;
        tokio::select! {
            () = watch.ended.cancelled() => return,
            () = sleep(ASK_AGAIN + spread) => {}
        }
        is_trouble = tokio::select! {
            () = watch.ended.cancelled() => return,
            () = watch.nudged.notified() => true,
            () = sleep(ASK_EVERY.saturating_sub(ASK_AGAIN)) => false,
        };
    }
}

async fn look(watch: &Watch, panel: &mut Panel, sentinels: &mut Vec<Server>, is_trouble: bool) {
    let mut questions = redis::pipe();
    for question in ["GET-MASTER-ADDR-BY-NAME", "MASTER", "SENTINELS"] {
        questions.cmd("SENTINEL").arg(question).arg(&watch.master_name);
    }
    let within = ANSWER_WITHIN.min(watch.settings.timeouts.connect);
    let answers = panel.ask(sentinels, &questions, &watch.settings, within).await;
    let mut told = Vec::new();
    let mut silence = Trouble::from("no Sentinel is named".to_owned());
    let mut others = Vec::new();
    for (sentinel, outcome) in answers {
        match outcome.and_then(|values| testimony(values, &mut others)) {
            Ok(said) => told.push(said),
            Err(trouble) => {
                watch.notes.troubled(&trouble);
                // Who was met says more than who was not.
                if trouble.was_reached || !silence.was_reached {
                    silence = trouble.at(&format!("Sentinel {sentinel}"));
                }
            }
        }
    }
    for other in others {
        if sentinels.len() < SENTINELS_MAX && !sentinels.contains(&other) {
            sentinels.push(other);
        }
    }
    let candidates = ranked(told);
    let believed = match watch.belief.borrow().clone() {
        Belief::Primary { server, epoch } => Some((server, epoch)),
        Belief::Unknown | Belief::Failed(_) => None,
    };
    let Some((server, epoch)) = believed else {
        for candidate in &candidates {
            match verify(&candidate.server, &watch.settings).await {
                Ok(()) => return watch.believe(Belief::Primary { server: candidate.server.clone(), epoch: candidate.epoch }),
                Err(trouble) => {
                    watch.notes.troubled(&trouble);
                    silence = trouble.at(&candidate.server.to_string());
                }
            }
        }
        return watch.believe(Belief::Failed(silence));
    };
    let majority = sentinels.len() / 2 + 1;
    let mut is_doubted = is_trouble && verify(&server, &watch.settings).await.is_err();
    for candidate in candidates {
        let is_better = candidate.epoch > epoch || candidate.votes >= majority || is_doubted;
        if candidate.server == server {
            if !is_doubted {
                return watch.believe(Belief::Primary { server, epoch: candidate.epoch.max(epoch) });
            }
        } else if is_better && verify(&candidate.server, &watch.settings).await.is_ok() {
            return watch.believe(Belief::Primary { server: candidate.server, epoch: candidate.epoch });
        } else {
            is_doubted = is_doubted || verify(&server, &watch.settings).await.is_err();
        }
    }
}

/// The newest arrangement first, and of two equally new ones the one that more Sentinels know.
fn ranked(told: Vec<(Server, u64)>) -> Vec<Candidate> {
    let mut candidates: HashMap<Server, Candidate> = HashMap::new();
    for (server, epoch) in told {
        let candidate = candidates.entry(server.clone()).or_insert(Candidate { server, epoch, votes: 0 });
        candidate.epoch = candidate.epoch.max(epoch);
        candidate.votes += 1;
    }
    let mut candidates: Vec<Candidate> = candidates.into_values().collect();
    candidates.sort_by(|one, other| (other.epoch, other.votes, &other.server).cmp(&(one.epoch, one.votes, &one.server)));
    candidates
}

/// The primary and the epoch of its election, as one Sentinel tells it; and whom else to ask.
fn testimony(values: Vec<Value>, others: &mut Vec<Server>) -> Result<(Server, u64), Trouble> {
    let mut values = values.into_iter();
    let address: Option<(String, u16)> = read(values.next())?;
    let (host, port) = address.ok_or_else(|| Trouble::met("it knows no primary of this name; check `master_name`".to_owned()))?;
    let master: HashMap<String, String> = read(values.next())?;
    let epoch = master.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let peers: Vec<HashMap<String, String>> = read(values.next()).unwrap_or_default();
    for peer in peers.iter().take(SENTINELS_MAX) {
        if let (Some(host), Some(port)) = (peer.get("ip"), peer.get("port").and_then(|port| port.parse().ok())) {
            others.push(Server::Tcp { host: host.clone(), port });
        }
    }
    Ok((Server::Tcp { host, port }, epoch))
}

/// Whether the server itself says that it is the primary.
async fn verify(server: &Server, settings: &Settings) -> Result<(), Trouble> {
    let asking = async {
        let mut opened = open(server, Peer::Store, settings).await?;
        let mut question = redis::cmd("INFO");
        question.arg("replication");
        let answer = opened.connection.send_packed_command(&question).await.map_err(|error| greeting_error(&error))?;
        match answer.extract_error() {
            Ok(answer) => {
                let text: String = redis::from_redis_value(answer).map_err(|_error| Trouble::met("what answers is no Redis".to_owned()))?;
                Info(&text).inability().map_or(Ok(()), |why| Err(Trouble::met(why.to_owned())))
            }
            // Who may not ask has to take the Sentinels' word.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            Err(error) => Err(greeting_error(&error)),
        }
    };
    timeout(settings.timeouts.connect, asking).await.unwrap_or_else(|_elapsed| Err("no answer".to_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(port: u16) -> Server {
        Server::Tcp { host: "10.0.0.1".to_owned(), port }
    }

    #[test]
    fn the_newest_election_counts_before_the_number_of_those_who_know_of_it() {
        let told = vec![(server(1), 4), (server(1), 4), (server(2), 5), (server(3), 4), (server(1), 3)];
        let ranked: Vec<(Server, u64, usize)> =
            ranked(told).into_iter().map(|candidate| (candidate.server, candidate.epoch, candidate.votes)).collect();
        assert_eq!(ranked, [(server(2), 5, 1), (server(1), 4, 3), (server(3), 4, 1)]);
    }

    #[test]
    fn a_sentinel_that_does_not_know_the_name_says_so() {
        let error = testimony(vec![Value::Nil, Value::Nil, Value::Nil], &mut Vec::new()).unwrap_err();
        assert!(error.was_reached && error.what.contains("master_name"), "{error:?}");
    }
}
