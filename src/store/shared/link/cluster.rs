//! Which member of a cluster owns a slot. The table is asked for again when a member says that it is out of date or has trouble; a
//! redirection is followed at once and mends the table where it stands.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::Value;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store::shared::link::LinkError;
use crate::store::shared::link::breaker::chance;
use crate::store::shared::link::connect::Peer;
use crate::store::shared::link::findings::Info;
use crate::store::shared::link::node::Node;
use crate::store::shared::link::node::Target;
use crate::store::shared::link::panel::Panel;
use crate::store::shared::link::panel::read;
use crate::store::shared::link::slots::SLOTS;
use crate::store::shared::link::slots::Span;
use crate::store::shared::link::slots::spans;
use crate::store::shared::link::state::Notes;
use crate::store::shared::link::state::lock;
use crate::store::shared::link::trouble::Trouble;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

/// How often the table is asked for when nobody has trouble.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How often at most when somebody has.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A member that is silent for so long is left out of this round.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Members that are asked for the table in one round.
const ASKED_MAX: usize = 5;
/// Primaries of one cluster.
const MEMBERS_MAX: usize = 256;
const NOBODY: u16 = u16::MAX;

/// Who owns what.
#[derive(Clone, Debug)]
struct Table {
    /// One index of `members` for each slot.
    owners: Vec<u16>,
    members: Vec<(Server, Arc<Node>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Knowledge {
    Unknown,
    Failed(Trouble),
    Known,
}

/// The members of one cluster.
#[derive(Debug)]
pub(super) struct Circle {
    settings: Arc<Settings>,
    notes: Arc<Notes>,
    table: ArcSwap<Table>,
    /// What members said last; held while a new table is made from the old one.
    learned: Mutex<Vec<Span>>,
    knowledge: watch::Sender<Knowledge>,
    nudged: Arc<Notify>,
    is_started: AtomicBool,
    ended: CancellationToken,
}

impl Circle {
    pub(super) fn new(settings: &Arc<Settings>, notes: &Arc<Notes>, ended: &CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::clone(settings),
            notes: Arc::clone(notes),
            table: ArcSwap::from_pointee(Table { owners: vec![NOBODY; usize::from(SLOTS)], members: Vec::new() }),
            learned: Mutex::default(),
            knowledge: watch::Sender::new(Knowledge::Unknown),
            nudged: Arc::new(Notify::new()),
            is_started: AtomicBool::new(false),
            ended: ended.clone(),
        })
    }

    pub(super) fn start(self: &Arc<Self>) {
        if !self.is_started.load(Ordering::Relaxed) && !self.is_started.swap(true, Ordering::Relaxed) {
            tokio::spawn(follow(Arc::clone(self)));
        }
    }

    pub(super) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// The owner of a slot; waits for the first table.
    pub(super) async fn owner(self: &Arc<Self>, slot: u16) -> Result<Arc<Node>, LinkError> {
        self.wait_until_known().await?;
        self.table.load().owner(slot).map(|(_, node)| Arc::clone(node)).ok_or_else(|| {
            self.nudge();
            LinkError::Unreachable(format!("no member of the cluster serves slot {slot}"))
        })
    }

    /// Waits for the first table.
    pub(super) async fn wait_until_known(self: &Arc<Self>) -> Result<(), LinkError> {
        self.start();
        let mut knowledge = self.knowledge.subscribe();
        loop {
            match &*knowledge.borrow_and_update() {
                Knowledge::Known => return Ok(()),
                Knowledge::Failed(trouble) => return Err(LinkError::Unreachable(trouble.what.clone())),
                Knowledge::Unknown => {}
            }
            // The sender lives as long as `self`.
            let _ = knowledge.changed().await;
        }
    }

    /// A member said that this slot is another's now.
    pub(super) fn moved(&self, slot: u16, to: &Server) -> Option<Arc<Node>> {
        self.nudge();
        let _learned = lock(&self.learned);
        let mut table = Table::clone(&self.table.load());
        let index = table.index(to).or_else(|| table.join(to, self))?;
        if let Some(owner) = table.owners.get_mut(usize::from(slot)) {
            *owner = index;
        }
        let node = table.members.get(usize::from(index)).map(|(_, node)| Arc::clone(node));
        self.table.store(Arc::new(table));
        node
    }

    /// The member at a place, whether or not it owns anything yet.
    pub(super) fn member(&self, at: &Server) -> Option<Arc<Node>> {
        let _learned = lock(&self.learned);
        let mut table = Table::clone(&self.table.load());
        let index = match table.index(at) {
            Some(index) => index,
            None => {
                let index = table.join(at, self)?;
                self.table.store(Arc::new(table.clone()));
                index
            }
        };
        table.members.get(usize::from(index)).map(|(_, node)| Arc::clone(node))
    }

    /// The primaries that are known, in the order of their places; and whether every slot has one.
    pub(super) fn members(&self) -> (Vec<(Server, Arc<Node>)>, bool) {
        let table = self.table.load();
        let mut members = table.members.clone();
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        (members, table.owners.iter().all(|owner| *owner != NOBODY))
    }

    /// Why no member is known.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        match &*self.knowledge.borrow() {
            Knowledge::Failed(trouble) => Some(trouble.clone()),
            Knowledge::Unknown | Knowledge::Known => None,
        }
    }

    fn node(&self, server: &Server) -> Arc<Node> {
        let node = Node::new(&self.settings, &self.notes, Target::Member(server.clone(), Arc::clone(&self.nudged)), &self.ended);
        node.start();
        node
    }

    /// Puts a table in force; members that it does not name are let go.
    fn learn(&self, mut spans: Vec<Span>) {
        spans.sort_by_key(|span| span.first);
        let mut learned = lock(&self.learned);
        let before = self.table.load_full();
        let mut table = Table { owners: vec![NOBODY; usize::from(SLOTS)], members: Vec::new() };
        for span in &spans {
            let index = table.index(&span.primary).or_else(|| match before.index(&span.primary) {
                Some(known) => table.keep(before.members.get(usize::from(known)).cloned()?),
                None => table.join(&span.primary, self),
            });
            if let (Some(index), Some(owners)) = (index, table.owners.get_mut(usize::from(span.first)..=usize::from(span.last))) {
                owners.fill(index);
            }
        }
        let is_other = !learned.is_empty() && *learned != spans;
        *learned = spans;
        self.notes.keep_only(|server| table.index(server).is_some());
        self.table.store(Arc::new(table));
        self.knowledge.send_if_modified(|knowledge| std::mem::replace(knowledge, Knowledge::Known) != Knowledge::Known);
        if is_other {
            tracing::info!("the slots of the Redis cluster have other owners");
            self.notes.rise();
        }
    }
}

impl Table {
    fn owner(&self, slot: u16) -> Option<&(Server, Arc<Node>)> {
        self.members.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    fn index(&self, server: &Server) -> Option<u16> {
        self.members.iter().position(|(known, _)| known == server).and_then(|index| u16::try_from(index).ok())
    }

    fn join(&mut self, server: &Server, circle: &Circle) -> Option<u16> {
        if self.members.len() >= MEMBERS_MAX {
            return None;
        }
        self.keep((server.clone(), circle.node(server)))
    }

    fn keep(&mut self, member: (Server, Arc<Node>)) -> Option<u16> {
        self.members.push(member);
        u16::try_from(self.members.len() - 1).ok()
    }
}

async fn follow(circle: Arc<Circle>) {
    let mut panel = Panel::new(Peer::Store);
    loop {
        tokio::select! {
            () = circle.ended.cancelled() => return,
            () = look(&circle, &mut panel) => {}
        }
        let spread = ASK_AGAIN * u32::from(chance()) / 255;
        tokio::select! {
            () = circle.ended.cancelled() => return,
            () = sleep(ASK_AGAIN + spread) => {}
        }
        tokio::select! {
            () = circle.ended.cancelled() => return,
            () = circle.nudged.notified() => {}
            () = sleep(ASK_EVERY) => {}
        }
    }
}

/// Whether a member sees the cluster in order, the newest epoch that it knows, and how many slots it sees served.
type Rank = (bool, u64, usize);

/// Asks some members for the table and takes the newest one.
async fn look(circle: &Arc<Circle>, panel: &mut Panel) {
    let mut questions = redis::pipe();
    questions.cmd("CLUSTER").arg("INFO");
    questions.cmd("CLUSTER").arg("SLOTS");
    let within = ANSWER_WITHIN.min(circle.settings.timeouts.connect);
    let mut silence = Trouble::from("no member of the cluster is named".to_owned());
    let mut newest: Option<(Rank, Vec<Span>)> = None;
    for asked in asked(circle) {
        for (server, outcome) in panel.ask(&asked, &questions, &circle.settings, within).await {
            match outcome.and_then(|values| testimony(values, &server)) {
                Ok((rank, spans)) => {
                    if newest.as_ref().is_none_or(|(best, _)| rank > *best) {
                        newest = Some((rank, spans));
                    }
                }
                Err(trouble) => {
                    circle.notes.troubled(&trouble);
                    // Who was met says more than who was not.
                    if trouble.was_reached || !silence.was_reached {
                        silence = trouble.at(&server.to_string());
                    }
                }
            }
        }
        if newest.is_some() {
            break;
        }
    }
    match newest {
        Some((_, spans)) => circle.learn(spans),
        // An old table is better than none.
        None => {
            circle.knowledge.send_if_modified(|knowledge| match knowledge {
                Knowledge::Known => false,
                Knowledge::Unknown | Knowledge::Failed(_) => {
                    *knowledge = Knowledge::Failed(silence);
                    true
                }
            });
        }
    }
}

/// Members first, as many as are asked in one round and beginning anywhere; the servers of the config where none of those answers.
fn asked(circle: &Circle) -> [Vec<Server>; 2] {
    let mut members: Vec<Server> = circle.members().0.into_iter().map(|(server, _)| server).collect();
    if !members.is_empty() {
        let count = members.len();
        members.rotate_left(usize::from(chance()) % count);
    }
    members.truncate(ASKED_MAX);
    [members, circle.settings.servers.iter().take(MEMBERS_MAX).cloned().collect()]
}

/// A member's view, and what it is worth.
fn testimony(values: Vec<Value>, from: &Server) -> Result<(Rank, Vec<Span>), Trouble> {
    let mut values = values.into_iter();
    let info: String = read(values.next())?;
    let info = Info(&info);
    let is_ok = info.field("cluster_state") == Some("ok");
    let epoch = info.field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let spans = spans(read(values.next())?, from);
    if spans.is_empty() {
        return Err(Trouble::met("it knows of no slots; is the cluster made?".to_owned()));
    }
    let covered = spans.iter().map(|span| usize::from(span.last - span.first) + 1).sum();
    Ok(((is_ok, epoch, covered), spans))
}
