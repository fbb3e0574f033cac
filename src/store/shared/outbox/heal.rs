//! Doing again what the store lost.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::key::KeyState;
use crate::model::user::UserState;
use crate::store::Committed;
use crate::store::Fact;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;
use crate::store::codec::encode_key;
use crate::store::codec::encode_user;
use crate::store::shared::changes::Step;
use crate::store::shared::commit::LOG_LENGTH;
use crate::store::shared::commit::Versioned;
use crate::store::shared::commit::random_number;
use crate::store::shared::entry::ENTRY_BYTES_MAX;
use crate::store::shared::entry::Entry;
use crate::store::shared::entry::Mark;
use crate::store::shared::link::Lane;
use crate::store::shared::link::script::Script;
use crate::store::shared::outbox::Mutation;
use crate::store::shared::outbox::NONE;
use crate::store::shared::outbox::OutboxError;
use crate::store::shared::outbox::plan::Chains;
use crate::store::shared::outbox::plan::Cover;
use crate::store::shared::outbox::plan::Noted;
use crate::store::shared::outbox::plan::Step as Next;
use crate::store::shared::outbox::plan::next_step;
use crate::store::shared::records::Depth;
use crate::store::shared::records::Laid;
use crate::store::shared::records::READ_TOGETHER;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::replies;

static LOG: Script = Script::new("log", include_str!("../scripts/log.lua"));

/// Entries that one script reads.
const ENTRIES_TOGETHER: u64 = 1000;
/// How often a record that changes under our hands is looked at anew.
const ATTEMPTS: usize = 8;

/// What was done again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Healed {
    pub repeated: usize,
    pub closed: usize,
}

impl From<OutboxError> for StoreError {
    fn from(error: OutboxError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What lies at a record's place: truly, and in terms of our mutations (a closing that had to be made anew has another version).
#[derive(Clone, Copy, Debug)]
struct Standing {
    real: Option<u64>,
    as_ours: Option<u64>,
}

impl SharedRecords {
    pub(crate) fn has_outbox(&self) -> bool {
        self.outbox().is_some_and(|outbox| !outbox.is_empty())
    }

    /// Tells the outbox what changed, and repeats what was made on top of a state that has come up only now.
    ///
    /// # Errors
    /// As [`Self::heal`].
    pub(crate) async fn note_changes(&self, step: Step) -> Result<(), StoreError> {
        let Some(outbox) = self.outbox().filter(|outbox| !outbox.is_empty() && !step.changes.is_empty()) else { return Ok(()) };
        let come_back = outbox.follow(&step.changes).await?;
        if !come_back.is_empty() {
            self.heal(Some(&come_back)).await?;
        }
        Ok(())
    }

    /// Remembers over a restart where we stand in the log. Best effort: without it, a loss meanwhile is not noticed.
    pub(crate) async fn note_seen(&self) {
        if let (Some(outbox), Some(seen)) = (self.outbox(), self.follower().seen())
            && let Err(error) = outbox.note_seen(&seen).await
        {
            tracing::warn!(%error, "the outbox could not note where we stand");
        }
    }

    /// Looks for mutations of ours that the store lost, and does them again; only those of some records, where they are named.
    ///
    /// # Errors
    /// When the store or the outbox gives no answer; then what is left is left, and asking again completes it.
    pub(crate) async fn heal(&self, only: Option<&[RecordKey]>) -> Result<Healed, StoreError> {
        let mut healed = Healed::default();
        let Some(outbox) = self.outbox().filter(|outbox| !outbox.is_empty()) else { return Ok(healed) };
        let _alone = self.committing.write().await;
        let all = outbox.on_disk(|inner| inner.all()).await?;
        let (cover, mut chains) = self.read_log().await?;
        let mut records: BTreeMap<RecordKey, Vec<Noted>> = BTreeMap::new();
        for (order, mutation, followed) in all {
            chains.add(mutation.replaced, mutation.version);
            if let (Some(followed), Some(version)) = (followed, mutation.version) {
                chains.add(Some(version), (followed != NONE).then_some(followed));
            }
            records.entry(mutation.key.clone()).or_default().push(Noted { order, mutation, is_done: false });
        }
        if let Some(only) = only {
            records.retain(|key, _mutations| only.contains(key));
        }
        let keys: Vec<RecordKey> = records.keys().cloned().collect();
        let mut versions = HashMap::new();
        for some in keys.chunks(READ_TOGETHER) {
            let read = self.read(some, Depth::Version, Lane::Bulk, self.link().settings().timeouts.background).await?;
            versions.extend(some.iter().cloned().zip(read.laid.iter().map(version_of)));
        }
        // In the order in which the mutations were made first: what others refer to lies there before them.
        let mut ordered: Vec<(RecordKey, Vec<Noted>)> = records.into_iter().collect();
        ordered.sort_by_key(|(_key, mutations)| mutations.first().map(|noted| noted.order));
        for (key, mut mutations) in ordered {
            let version = versions.get(&key).copied().flatten();
            self.heal_one(&key, &mut mutations, version, &chains, cover, &mut healed).await?;
        }
        if healed != Healed::default() {
            self.follower().has_reapplied((healed.repeated + healed.closed) as u64);
            tracing::warn!(repeated = healed.repeated, closed = healed.closed, "changes that Redis had lost were made again");
        }
        Ok(healed)
    }

    async fn heal_one(
        &self,
        key: &RecordKey,
        mutations: &mut [Noted],
        version: Option<u64>,
        chains: &Chains,
        cover: Cover,
        healed: &mut Healed,
    ) -> Result<(), StoreError> {
        let mut standing = Standing { real: version, as_ours: version };
        let mut attempts = 0;
        loop {
            let now = self.clock().now();
            let step = next_step(mutations, standing.as_ours, chains, cover, now);
            let (position, is_closing) = match step {
                Next::Nothing => return Ok(()),
                Next::Repeat(position) => (position, false),
                Next::Close(position) => (position, true),
            };
            let Some(noted) = mutations.get_mut(position) else { return Ok(()) };
            let write = if is_closing { self.closing(&noted.mutation, standing.real).await? } else { Some(self.repeated(&noted.mutation)) };
            let precondition = match standing.real {
                Some(version) => Precondition::AtVersion(key.clone(), version),
                None => Precondition::Absent(key.clone()),
            };
            let committed = match &write {
                Some(write) if is_closing => self.commit_versions(&[precondition], std::slice::from_ref(write), now).await?,
                Some(write) => self.commit_again(&[precondition], write, now).await?,
                None => Committed::Refused(0),
            };
            if committed.is_done() {
                noted.is_done = true;
                let real = write.as_ref().and_then(Versioned::version_after);
                standing = Standing { real, as_ours: noted.mutation.version };
                if is_closing {
                    healed.closed += 1;
                    self.supersede(noted, real).await?;
                } else {
                    healed.repeated += 1;
                }
                continue;
            }
            attempts += 1;
            if attempts == ATTEMPTS {
                return Err(StoreError::Unavailable("a record changed again and again while it was repaired".to_owned()));
            }
            let read = self.read(std::slice::from_ref(key), Depth::Version, Lane::Bulk, self.link().settings().timeouts.background).await?;
            let version = read.laid.first().and_then(version_of);
            standing = Standing { real: version, as_ours: version };
        }
    }

    /// The same mutation once more, but for what was seen closed since: it must not be open until whoever closed it does so again,
    /// who may be gone.
    fn repeated(&self, mutation: &Mutation) -> Versioned {
        let mut again = repetition(mutation);
        let closed = match (mutation.mark, self.cache().tombstone(&mutation.key)) {
            (Mark::Open, Some(mark @ (Mark::Disabled | Mark::Revoked))) => close(&mutation.key, &mutation.bytes, mark),
            (Mark::Open, Some(mark @ Mark::Removed)) if matches!(mutation.key.family, Family::Key | Family::Client) => {
                close(&mutation.key, &mutation.bytes, mark)
            }
            (Mark::Open | Mark::Disabled | Mark::Revoked | Mark::Removed, _) => None,
        };
        if let (Some(closed), Write::Put { bytes, .. }) = (closed, &mut again.write) {
            *bytes = closed;
        }
        again
    }

    /// The write that closes what lies there now, leaving the rest of it as it is; none: something else lies there by now.
    async fn closing(&self, mutation: &Mutation, version: Option<u64>) -> Result<Option<Versioned>, StoreError> {
        if mutation.mark == Mark::Removed {
            return Ok(Some(repetition(mutation)));
        }
        let (_head, laid) = self.find(&mutation.key, Lane::Bulk, self.link().settings().timeouts.background).await?;
        let (bytes, expires) = match laid {
            Laid::There { stored, expires } if Some(stored.version) == version => {
                (close(&mutation.key, &stored.bytes, mutation.mark).unwrap_or_else(|| mutation.bytes.clone()), expires)
            }
            Laid::Broken(_) => (mutation.bytes.clone(), mutation.expires),
            Laid::There { .. } | Laid::Nothing => return Ok(None),
        };
        let write = Write::Put { key: mutation.key.clone(), bytes, expires };
        Ok(Some(Versioned { write, version: random_number()? }))
    }

    /// Notes in the outbox that another mutation stands for this one now.
    async fn supersede(&self, noted: &Noted, by: Option<u64>) -> Result<(), StoreError> {
        let Some(outbox) = self.outbox() else { return Ok(()) };
        let (order, by) = (noted.order, by.unwrap_or(NONE));
        outbox.on_disk(move |inner| inner.note_followed(order, by)).await?;
        Ok(())
    }

    /// All that the log still tells.
    async fn read_log(&self) -> Result<(Cover, Chains), StoreError> {
        let (mut chains, mut cover, mut behind) = (Chains::default(), None, None);
        loop {
            let from = behind.unwrap_or(0);
            let together = if behind.is_none() { 0 } else { ENTRIES_TOGETHER };
            let keys = vec![self.places().meta(), self.places().log()];
            let args = [from, together, ENTRY_BYTES_MAX as u64].map(|number| number.to_string().into_bytes()).to_vec();
            let answer = self.bulk(&LOG, keys, args).await?;
            let (head, entries) = read_piece(answer).ok_or_else(|| replies::unexpected("a reading of the log"))?;
            let Some(from) = behind else {
                // Where to begin is known only now.
                let first = head.saturating_sub(LOG_LENGTH);
                (behind, cover) = (Some(first), Some(Cover { head, first: first + 1 }));
                continue;
            };
            for entry in &entries {
                if let Entry::Change(change) = Entry::read(entry.as_deref()) {
                    chains.add(change.replaced, change.version);
                }
            }
            let reached = from + entries.len() as u64;
            behind = Some(reached);
            if entries.is_empty() || reached >= head {
                return Ok((cover.unwrap_or(Cover { head, first: head + 1 }), chains));
            }
        }
    }
}

impl Versioned {
    fn version_after(&self) -> Option<u64> {
        match &self.write {
            Write::Put { .. } => Some(self.version),
            Write::Remove(_) => None,
        }
    }
}

/// The same mutation once more, under its own version: who relied on it finds what it knew.
fn repetition(mutation: &Mutation) -> Versioned {
    let key = mutation.key.clone();
    match mutation.version {
        Some(version) => Versioned { write: Write::Put { key, bytes: mutation.bytes.clone(), expires: mutation.expires }, version },
        None => Versioned { write: Write::Remove(key), version: 0 },
    }
}

/// The record as it is, closed; none where it cannot be read.
fn close(key: &RecordKey, bytes: &[u8], mark: Mark) -> Option<Vec<u8>> {
    match key.family.fact() {
        Some(Fact::Key) => {
            let mut record = decode_key(&key.id, bytes).ok()?;
            record.state = match (mark, record.state) {
                (Mark::Revoked, _) | (_, KeyState::Revoked) => KeyState::Revoked,
                (Mark::Open | Mark::Disabled | Mark::Removed, KeyState::Active | KeyState::Disabled) => KeyState::Disabled,
            };
            Some(encode_key(&record))
        }
        Some(Fact::User) => {
            let mut record = decode_user(&key.id, bytes).ok()?;
            record.state = UserState::Disabled;
            Some(encode_user(&record))
        }
        Some(Fact::Client) => {
            let mut record = ClientRecord::decode(&key.id, bytes).ok()?;
            record.state = ClientState::Disabled;
            Some(record.encode())
        }
        Some(Fact::Grant) => {
            let mut record = GrantRecord::decode(&key.id, bytes).ok()?;
            if !matches!(record.state, GrantState::Ended { .. }) {
                record.state = GrantState::Ended { at: record.advanced, why: GrantEnd::Revoked };
            }
            Some(record.encode())
        }
        Some(Fact::Digest) | None => None,
    }
}

/// The version that a precondition would find; zero stands for a record that cannot be read.
fn version_of(laid: &Laid) -> Option<u64> {
    match laid {
        Laid::Nothing => None,
        Laid::There { stored, .. } => Some(stored.version),
        Laid::Broken(_) => Some(0),
    }
}

fn read_piece(answer: redis::Value) -> Option<(u64, Vec<Option<String>>)> {
    let mut parts = replies::list(answer)?.into_iter();
    let head = replies::number(&parts.next()?)?;
    let _first = parts.next()?;
    Some((head, replies::list(parts.next()?)?.into_iter().map(replies::text).collect()))
}
