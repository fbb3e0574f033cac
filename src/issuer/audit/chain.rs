//! The chain of this process: one task at a time appends to it, in the order in which deeds were noted. Several that wait together go
//! into one commit, so that a store with a slow disk slows no one down twice.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::issuer::audit::changes::Change;
use crate::issuer::audit::people;
use crate::issuer::audit::people::NameRecord;
use crate::issuer::audit::record::Address;
use crate::issuer::audit::record::AuditRecord;
use crate::issuer::audit::record::INSTANCE_CHARACTERS;
use crate::issuer::audit::record::KEPT;
use crate::issuer::audit::record::NOTHING;
use crate::issuer::audit::record::Party;
use crate::issuer::audit::record::Proven;
use crate::issuer::audit::record::entry_id;
use crate::issuer::audit::record::mask_address;
use crate::issuer::audit::record::read_entry_id;
use crate::issuer::events::KeyObserver;
use crate::issuer::names::is_record_id;
use crate::model::hex::read_hex;
use crate::model::hex::write_hex;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::secrets::random_id;
use crate::store::Precondition;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::Shelved;

/// Entries that wait to be written; more are told as lost.
const WAITING_MAX: usize = 4096;
/// Entries of one commit.
const TOGETHER: usize = 32;
const ATTEMPTS: usize = 4;
/// How long an entry that nobody waits for lies before it is written, together with those that came meanwhile.
pub(super) const BEHIND: Duration = Duration::from_millis(250);
/// Entries of ours, written by a commit whose reply was lost, that are taken into account at once.
const ADOPTED_MAX: usize = 2 * TOGETHER;

/// The chain that this process writes.
#[derive(Debug, Default)]
pub struct Audit {
    queue: Mutex<Queue>,
    /// None: nothing was noted yet.
    head: tokio::sync::Mutex<Option<Head>>,
    /// By a command that opened the stores itself.
    is_commands_own: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    is_served: bool,
    /// Somebody will serve it after a while.
    is_due: bool,
}

#[derive(Debug)]
struct Waiting {
    /// None: somebody waits for what came before, and has nothing to note.
    draft: Option<Draft>,
    done: Vec<oneshot::Sender<()>>,
}

/// Who did it, before names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Operator,
    Nobody,
    Person {
        source: Arc<str>,
        subject: Arc<str>,
    },
    Client(Arc<str>),
    Principal(Arc<str>),
    Thing(Arc<str>),
    /// Of a person who was erased; empty: the log never named it.
    Pseudonym(Arc<str>),
}

/// An entry before it has its place.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) at: Timestamp,
    pub(super) deed: &'static str,
    pub(super) actor: Who,
    pub(super) via: Option<Arc<str>>,
    pub(super) subject: Who,
    pub(super) organization: Option<Arc<str>>,
    pub(super) address: Option<IpAddr>,
    pub(super) request_id: Option<Arc<str>>,
    pub(super) changes: Vec<Change>,
}

/// Where the next entry goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) instance: Arc<str>,
    pub(super) next: u64,
    pub(super) previous: [u8; 32],
    pub(super) previous_at: Timestamp,
}

/// What writing needs; it outlives the request that began it.
#[derive(Debug)]
pub(super) struct Pen {
    pub(super) audit: Arc<Audit>,
    pub(super) records: Arc<dyn Records>,
    pub(super) peppers: Arc<Peppers>,
    pub(super) observer: Arc<dyn KeyObserver>,
}

/// Why entries were not written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Secret(#[from] crate::secrets::SecretError),
    #[error("no place in the chain could be had")]
    NoPlace,
}

impl Audit {
    /// Of a command that opened the stores itself, because nothing serves.
    pub fn of_command() -> Self {
        Self { is_commands_own: true, ..Self::default() }
    }

    /// How operators come here, who show no credential.
    pub(super) fn way_of_operators(&self) -> &'static str {
        if self.is_commands_own { "opened store" } else { "control socket" }
    }

    /// Where this process goes on; none: it noted nothing yet.
    pub(super) async fn head(&self) -> Option<Head> {
        self.head.lock().await.clone()
    }

    /// Nothing is written while this is held.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::MutexGuard<'_, Option<Head>> {
        self.head.lock().await
    }

    #[cfg(test)]
    pub(super) async fn set_head(&self, head: Option<Head>) {
        *self.head.lock().await = head;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to write next; none, and from now on nobody serves the queue, when there is nothing.
    fn some_or_leave(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        let count = queue.waiting.len().min(TOGETHER);
        if count == 0 {
            queue.is_served = false;
            return None;
        }
        Some(queue.waiting.drain(..count).collect())
    }
}

impl Pen {
    /// Writes the entry. What is under way is finished also when nobody waits for it any more.
    pub(super) async fn write(self, draft: Draft) {
        let _told_already = self.post(draft).await;
    }

    /// Has the entry written, by a task of its own, which says when it is done with it.
    fn post(self, draft: Draft) -> oneshot::Receiver<()> {
        let (written, is_served) = self.queue(draft, |queue| &mut queue.is_served);
        self.serve_unless(is_served);
        written
    }

    /// In a task of its own: whoever waits may hang up, and what was taken out of the queue is everybody's.
    fn serve_unless(self, is_served: bool) {
        if !is_served {
            tokio::spawn(async move { self.serve().await });
        }
    }

    /// Has the entry written after a while.
    pub(super) fn post_behind(self, draft: Draft) {
        let (_nobody_waits, is_due) = self.queue(draft, |queue| &mut queue.is_due);
        if is_due {
            return;
        }
        tokio::spawn(async move {
            tokio::time::sleep(BEHIND).await;
            let is_served = {
                let mut queue = self.audit.queue();
                queue.is_due = false;
                std::mem::replace(&mut queue.is_served, true)
            };
            self.serve_unless(is_served);
        });
    }

    /// Has what waits written, and returns when that and what was under way is done.
    pub(super) async fn finish(self) {
        let (done, written) = oneshot::channel();
        let is_served = {
            let mut queue = self.audit.queue();
            match queue.waiting.last_mut() {
                Some(last) => last.done.push(done),
                None => queue.waiting.push(Waiting { draft: None, done: vec![done] }),
            }
            std::mem::replace(&mut queue.is_served, true)
        };
        self.serve_unless(is_served);
        let _told_already = written.await;
    }

    /// Puts the entry in the queue, and raises a flag that says who will serve it; true: it was raised already.
    fn queue(&self, draft: Draft, flag: impl FnOnce(&mut Queue) -> &mut bool) -> (oneshot::Receiver<()>, bool) {
        let (done, written) = oneshot::channel();
        let mut queue = self.audit.queue();
        if queue.waiting.len() >= WAITING_MAX {
            drop(queue);
            tracing::error!(deed = draft.deed, "an entry of the audit log is lost: too many wait to be written");
            self.observer.noted(false);
            return (written, true);
        }
        queue.waiting.push(Waiting { draft: Some(draft), done: vec![done] });
        (written, std::mem::replace(flag(&mut queue), true))
    }

    async fn serve(&self) {
        let mut leaving = Leaving { pen: self, is_abrupt: true, taken: 0 };
        while let Some(some) = self.audit.some_or_leave() {
            let (drafts, done): (Vec<Option<Draft>>, Vec<Vec<oneshot::Sender<()>>>) =
                some.into_iter().map(|waiting| (waiting.draft, waiting.done)).unzip();
            let drafts: Vec<Draft> = drafts.into_iter().flatten().collect();
            leaving.taken = drafts.len();
            let outcome = if drafts.is_empty() { Ok(()) } else { self.append(&drafts).await };
            leaving.taken = 0;
            for draft in &drafts {
                if let Err(error) = &outcome {
                    tracing::error!(%error, deed = draft.deed, "an entry of the audit log could not be written");
                }
                self.observer.noted(outcome.is_ok());
            }
            for sender in done.into_iter().flatten() {
                // Whoever asked may be gone; the entry stands all the same.
                let _gone = sender.send(());
            }
        }
        leaving.is_abrupt = false;
    }

    async fn append(&self, drafts: &[Draft]) -> Result<(), Unwritten> {
        let mut head = self.audit.head.lock().await;
        let now = drafts.iter().map(|draft| draft.at).max().unwrap_or_default();
        for _attempt in 0..ATTEMPTS {
            let mut next = match head.as_ref() {
                Some(head) => head.clone(),
                None => head.insert(Head::fresh(now)?).clone(),
            };
            let (mut preconditions, mut writes, mut told) = (Vec::new(), Vec::new(), Vec::new());
            for draft in drafts {
                let record = self.record(&next, draft).await?;
                let place = AuditRecord::place(&record.id);
                preconditions.push(Precondition::Absent(place.clone()));
                writes.push(Write::Put { key: place, bytes: record.encode(), expires: Some(record.at.plus(KEPT)) });
                next = next.behind(&record);
                told.push((record.id, draft.deed, next.previous));
            }
            if self.records.commit(preconditions, writes, now).await?.is_done() {
                for (entry, deed, digest) in told {
                    // Whoever keeps the process's own log can hold it against the chain.
                    tracing::info!(entry = &*entry, deed, digest = write_hex(&digest), "audit");
                }
                *head = Some(next);
                return Ok(());
            }
            *head = self.catch_up(head.take()).await?;
        }
        Err(Unwritten::NoPlace)
    }

    /// The head behind what a commit with a lost reply wrote. Something else in our place: a new chain is begun, and the old one left
    /// for `verify` to complain of.
    async fn catch_up(&self, head: Option<Head>) -> Result<Option<Head>, StoreError> {
        let Some(mut head) = head else { return Ok(None) };
        for adopted in 0..ADOPTED_MAX {
            let id = entry_id(&head.instance, head.next);
            let Some(stored) = self.records.get(&AuditRecord::place(&id)).await? else {
                return Ok((adopted > 0).then_some(head));
            };
            let Ok(record) = AuditRecord::decode(&id, &stored.bytes) else { break };
            if record.prove(&self.peppers) != Proven::Ours || read_hex(&record.previous) != Some(head.previous) {
                break;
            }
            head = head.behind(&record);
        }
        tracing::error!(chain = &*head.instance, "a place in the audit log was taken by something else; a new chain is begun");
        Ok(None)
    }

    async fn record(&self, head: &Head, draft: &Draft) -> Result<AuditRecord, Unwritten> {
        let id = entry_id(&head.instance, head.next);
        let (actor, actor_name) = self.party(&draft.actor, draft.at).await?;
        let (subject, subject_name) = self.party(&draft.subject, draft.at).await?;
        // Of somebody who is erased already not even the address is kept. Who is not named at all was never there.
        let is_erased = |who: &Who| matches!(who, Who::Person { subject, .. } if !subject.is_empty());
        let is_gone = actor_name.is_none() && (is_erased(&draft.actor) || (subject_name.is_none() && is_erased(&draft.subject)));
        let person = actor_name.or(subject_name);
        let seal = person.as_ref().and_then(|name| Some((Arc::clone(&name.pseudonym), name.seal_bytes()?)));
        let address = draft.address.filter(|_address| !is_gone).map(|address| match seal {
            Some((by, seal)) => Address::Masked { by, text: Arc::from(mask_address(&seal, &id, address)) },
            None => Address::Plain(address),
        });
        let record = AuditRecord {
            at: draft.at.max(head.previous_at),
            id: Arc::from(id),
            deed: Arc::from(draft.deed),
            actor,
            via: draft.via.clone(),
            subject,
            organization: draft.organization.clone(),
            address,
            request_id: draft.request_id.clone(),
            changes: draft.changes.clone(),
            previous: write_hex(&head.previous),
            previous_at: head.previous_at,
            pepper: Arc::default(),
            mac: String::new(),
        };
        record.close(&self.peppers).ok_or(Unwritten::NoPlace)
    }

    async fn party(&self, who: &Who, now: Timestamp) -> Result<(Party, Option<NameRecord>), StoreError> {
        Ok(match who {
            Who::Operator => (Party::Operator, None),
            Who::Nobody => (Party::Nobody, None),
            Who::Client(id) => (Party::Client(Arc::clone(id)), None),
            Who::Principal(id) => (Party::Principal(Arc::clone(id)), None),
            Who::Thing(id) => (Party::Thing(Arc::clone(id)), None),
            Who::Pseudonym(pseudonym) if is_record_id(pseudonym) => (Party::Person(Arc::clone(pseudonym)), None),
            Who::Pseudonym(_none) => (Party::Unknown, None),
            Who::Person { source, subject } => match people::find_or_make(&*self.records, source, subject, now).await {
                Ok(Some(name)) => (Party::Person(Arc::clone(&name.pseudonym)), Some(name)),
                // A damaged name must not keep the deed out of the log.
                Ok(None) | Err(StoreError::Corrupt { .. }) => (Party::Unknown, None),
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
            },
        })
    }
}

impl Head {
    fn fresh(now: Timestamp) -> Result<Self, crate::secrets::SecretError> {
        let chance = random_id()?;
        let mut instance = format!("{:012}{chance}", now.unix_seconds());
        instance.truncate(INSTANCE_CHARACTERS);
        Ok(Self { instance: Arc::from(instance), next: 0, previous: NOTHING, previous_at: Timestamp::default() })
    }

    /// The head when this entry stands at it.
    pub(super) fn behind(&self, record: &AuditRecord) -> Self {
        let next = read_entry_id(&record.id).map_or(self.next, |(_instance, sequence)| sequence).saturating_add(1);
        Self { instance: Arc::clone(&self.instance), next, previous: record.digest(), previous_at: record.at }
    }
}

/// Whoever comes next serves the queue, however this task ends.
struct Leaving<'p> {
    pen: &'p Pen,
    /// It did not say itself that it leaves.
    is_abrupt: bool,
    /// Entries out of the queue that are not in the chain yet.
    taken: usize,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.is_abrupt {
            self.pen.audit.queue().is_served = false;
        }
        for _lost in 0..self.taken {
            tracing::error!("an entry of the audit log is lost: its writer ended early");
            self.pen.observer.noted(false);
        }
    }
}
