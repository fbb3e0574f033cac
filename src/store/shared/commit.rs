//! The one conditional write: one script that judges every precondition, writes all or nothing, and notes each write in the change
//! log.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;

use crate::clock::monotonic;
use crate::model::time::Timestamp;
use crate::secrets::random_bytes;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::shared::entry::Change;
use crate::store::shared::entry::Mark;
use crate::store::shared::link::Call;
use crate::store::shared::link::Lane;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::script::Script;
use crate::store::shared::outbox::Mutation;
use crate::store::shared::places::Places;
use crate::store::shared::places::place_text;
use crate::store::shared::records::ID_BYTES_MAX;
use crate::store::shared::records::RECORD_BYTES_MAX;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::records::corrupt;
use crate::store::shared::replies;
use crate::store::shared::seal;

static COMMIT: Script = Script::new("commit", include_str!("scripts/commit.lua"));

/// What one commit may name, preconditions and writes each.
const COMMIT_PARTS_MAX: usize = 4000;
/// Changes that the log holds: whoever missed more of them forgets what it knew and reads again.
pub(super) const LOG_LENGTH: u64 = 10_000;
/// How much longer than its time a record lies there: clocks differ, and each reader judges by its own.
pub(super) const EXPIRY_MARGIN: Duration = Duration::from_secs(3600);
/// How long a commit waits for the replicas that the config asks for.
const REPLICAS_PATIENCE: Duration = Duration::from_secs(1);
/// How long a commit whose answer was lost is asked for again; the log tells whether it ran.
const TRIED_FOR: Duration = Duration::from_secs(3);
/// Between two tries: a connection that broke has to be made anew.
const TRY_PAUSE: Duration = Duration::from_millis(100);

/// What became of a commit's script.
enum Ran {
    Refused(usize),
    Done { head: u64, replaced: Vec<Option<u64>>, replicas: u8 },
}

/// A commit that happened.
struct Done {
    head: u64,
    changes: Vec<Change>,
    replicas: u8,
}

impl Done {
    fn outcome(&self, wanted: u8) -> Committed {
        if self.replicas >= wanted { Committed::Done } else { Committed::Unconfirmed }
    }
}

impl SharedRecords {
    pub(super) async fn commit_all(
        &self,
        preconditions: Vec<Precondition>,
        writes: Vec<Write>,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let _in_turn = self.committing.read().await;
        let version = random_number()?;
        let writes: Vec<Versioned> = writes.into_iter().map(|write| Versioned { write, version }).collect();
        self.commit_versions(&preconditions, &writes, now).await
    }

    /// Commits writes whose versions are given: a mutation that is done again keeps its own.
    pub(super) async fn commit_versions(
        &self,
        preconditions: &[Precondition],
        writes: &[Versioned],
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let era = self.cache().era();
        let ran = self.attempt(preconditions, writes, now).await;
        let done = match self.applied(era, ran, writes)? {
            Ok(done) => done,
            Err(position) => return Ok(Committed::Refused(position)),
        };
        let is_noted = self.note(writes, &done).await;
        Ok(if is_noted { done.outcome(self.link().settings().replicas) } else { Committed::Unconfirmed })
    }

    /// Commits a mutation of ours once more: the outbox has it already.
    pub(super) async fn commit_again(
        &self,
        preconditions: &[Precondition],
        write: &Versioned,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let era = self.cache().era();
        let writes = std::slice::from_ref(write);
        let ran = self.attempt(preconditions, writes, now).await;
        Ok(match self.applied(era, ran, writes)? {
            Ok(done) => done.outcome(self.link().settings().replicas),
            Err(position) => Committed::Refused(position),
        })
    }

    /// Shows in memory what a commit did; the inner error is the precondition that did not hold.
    fn applied(&self, era: u64, ran: Result<Ran, StoreError>, writes: &[Versioned]) -> Result<Result<Done, usize>, StoreError> {
        let (head, replaced, replicas) = match ran {
            Ok(Ran::Refused(position)) => return Ok(Err(position)),
            Ok(Ran::Done { head, replaced, replicas }) => (head, replaced, replicas),
            Err(error) => {
                // It may have happened.
                self.cache().forget(writes.iter().map(|write| write.write.key()));
                return Err(error);
            }
        };
        let changes: Vec<Change> = writes.iter().zip(replaced).map(|(write, old)| write.change(old)).collect();
        self.cache().committed(era, head, &changes);
        Ok(Ok(Done { head, changes, replicas }))
    }

    /// Puts the mutations into the outbox. A commit that could not be noted stands, and would not be repeated after a loss.
    async fn note(&self, writes: &[Versioned], done: &Done) -> bool {
        let Some(outbox) = self.outbox() else { return true };
        if writes.is_empty() {
            return true;
        }
        let now = self.clock().now();
        let mutations = writes.iter().zip(&done.changes).map(|(write, change)| Mutation::new(write, change, done.head, now)).collect();
        match outbox.append(mutations).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "a commit could not be noted in the outbox; a failover right now could undo it");
                false
            }
        }
    }

    async fn attempt(&self, preconditions: &[Precondition], writes: &[Versioned], now: Timestamp) -> Result<Ran, StoreError> {
        let nonce = random_number()?;
        let (wanted, patience) = (self.link().settings().replicas, REPLICAS_PATIENCE);
        let (began, mut failure) = (monotonic(), None);
        loop {
            let call = self.commit_call(preconditions, writes, now, nonce, failure.is_some())?;
            let answer = if wanted > 0 && !writes.is_empty() {
                self.link().run_replicated(call, wanted, patience).await
            } else {
                let within = self.link().settings().timeouts.background;
                self.link().run(Lane::Bulk, call, within).await.map(|value| (value, wanted))
            };
            match answer {
                Ok((value, replicas)) => return read_commit(value, replicas, writes.len()).ok_or_else(|| replies::unexpected("a commit")),
                // It may have run: the same commit is asked for once more, and the log knows.
                Err(error @ (LinkError::TimedOut(_) | LinkError::Broken(_))) => failure = Some(error),
                Err(LinkError::Unreachable(_)) if failure.is_some() => {}
                Err(error @ (LinkError::Unreachable(_) | LinkError::Refused { .. })) => return Err(replies::failed(error)),
            }
            if let Some(error) = failure.clone().filter(|_error| began.elapsed() >= TRIED_FOR) {
                return Err(replies::failed(error));
            }
            tokio::time::sleep(TRY_PAUSE).await;
        }
    }

    fn commit_call(
        &self,
        preconditions: &[Precondition],
        writes: &[Versioned],
        now: Timestamp,
        nonce: u64,
        again: bool,
    ) -> Result<Call, StoreError> {
        if preconditions.len() > COMMIT_PARTS_MAX || writes.len() > COMMIT_PARTS_MAX {
            return Err(StoreError::Unavailable(format!("a commit may name at most {COMMIT_PARTS_MAX} records; make several of it")));
        }
        let mut keys = vec![self.places().meta(), self.places().log(), self.places().expiries()];
        keys.extend(Family::ALL.map(|family| self.places().index(family)));
        let mut named = Named { keys, positions: HashMap::new(), before: 3 + Family::ALL.len() };
        let mut args = Args::default();
        args.number(nonce);
        args.text(&replies::write_instant(now));
        args.text(if again { "again" } else { "first" });
        args.text(self.places().channel());
        args.number(LOG_LENGTH);
        args.number(Family::ALL.len() as u64);
        args.number(preconditions.len() as u64);
        args.number(writes.len() as u64);
        for precondition in preconditions {
            let (kind, key, version) = match precondition {
                Precondition::Absent(key) => ("absent", key, None),
                Precondition::Present(key) => ("present", key, None),
                Precondition::AtVersion(key, version) => ("at", key, Some(*version)),
            };
            args.text(kind);
            args.number(named.position(key, self.places())?);
            args.text(&version.map(|version| version.to_string()).unwrap_or_default());
        }
        for write in writes {
            let key = write.write.key();
            let (kind, sealed, expires) = match &write.write {
                Write::Put { key, bytes, expires } => {
                    let sealed = self.seal().seal(&seal::context(self.prefix(), key, write.version, *expires), bytes);
                    let sealed = sealed.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                    if sealed.len() > RECORD_BYTES_MAX {
                        return Err(corrupt(key, format!("it would be larger than a record can be ({RECORD_BYTES_MAX} bytes)")));
                    }
                    ("put", sealed, *expires)
                }
                Write::Remove(_) => ("remove", Vec::new(), None),
            };
            args.text(kind);
            args.number(named.position(key, self.places())?);
            args.number(family_position(key.family));
            args.text(&place_text(key));
            args.text(&key.id);
            args.number(write.version);
            args.0.push(sealed);
            args.text(&expires.map(replies::write_instant).unwrap_or_default());
            args.number(expires.map_or(0, |expires| expires.as_nanos() / 1_000_000));
            // Told as a length of time, so that the server's clock does not matter.
            args.number(expires.map_or(0, |expires| millis(expires.plus(EXPIRY_MARGIN).since(now)).max(1)));
            args.text(write.mark().as_str());
        }
        Ok(Call { script: &COMMIT, keys: named.keys, args: args.0 })
    }
}

/// A write and the version that it gives its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Versioned {
    pub write: Write,
    pub version: u64,
}

impl Versioned {
    pub(super) fn mark(&self) -> Mark {
        Mark::of(&self.write)
    }

    fn change(&self, replaced: Option<u64>) -> Change {
        let new = match &self.write {
            Write::Put { .. } => Some(self.version),
            Write::Remove(_) => None,
        };
        Change { key: self.write.key().clone(), replaced, version: new, mark: self.mark() }
    }
}

/// Key names of a call, each once.
struct Named {
    keys: Vec<Vec<u8>>,
    positions: HashMap<RecordKey, u64>,
    before: usize,
}

impl Named {
    /// The position of a record among the records, from one.
    fn position(&mut self, key: &RecordKey, places: &Places) -> Result<u64, StoreError> {
        if let Some(position) = self.positions.get(key) {
            return Ok(*position);
        }
        if key.id.len() > ID_BYTES_MAX {
            return Err(corrupt(key, format!("its id is longer than {ID_BYTES_MAX} bytes")));
        }
        self.keys.push(places.record(key));
        let position = (self.keys.len() - self.before) as u64;
        self.positions.insert(key.clone(), position);
        Ok(position)
    }
}

#[derive(Default)]
pub(super) struct Args(pub(super) Vec<Vec<u8>>);

impl Args {
    pub(super) fn text(&mut self, text: &str) {
        self.0.push(text.as_bytes().to_vec());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.push(number.to_string().into_bytes());
    }
}

/// A random number that no other will equal: a version, or a nonce. Of 53 bits, so that every reader of JSON and Lua takes it whole.
pub(super) fn random_number() -> Result<u64, StoreError> {
    let bytes = random_bytes::<8>().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok((u64::from_be_bytes(bytes) >> 11).max(1))
}

fn read_commit(answer: Value, replicas: u8, writes: usize) -> Option<Ran> {
    let mut parts = replies::list(answer)?.into_iter();
    let kind = replies::text(parts.next()?)?;
    let number = replies::number(&parts.next()?)?;
    if kind == "refused" {
        return Some(Ran::Refused(usize::try_from(number).ok()?));
    }
    let replaced: Vec<Option<u64>> = parts.map(|part| replies::number(&part)).collect();
    (kind == "done" && replaced.len() == writes).then_some(Ran::Done { head: number, replaced, replicas })
}

pub(super) fn family_position(family: Family) -> u64 {
    match family {
        Family::Key => 1,
        Family::User => 2,
        Family::Ring => 3,
        Family::Digest => 4,
        Family::Grant => 5,
        Family::Client => 6,
        Family::Account => 7,
        Family::Organization => 8,
        Family::Session => 9,
        Family::Invitation => 10,
        Family::Identity => 11,
        Family::Ticket => 12,
        Family::Audit => 13,
        Family::AuditName => 14,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
