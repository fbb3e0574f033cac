//! Following the change log: polls, and whether the store was thrown back.
//!
//! - A poll *writes*, so only a primary that accepts writes can answer it, and only its answer renews the lease, counted from when
//!   the question was sent. While the lease holds, nothing that was acknowledged before it began is unknown here.
//! - A store that lost something is recognised by its birth mark, its beats, the nonce at our cursor, or its head. Then everything
//!   that is held is dropped before the lease is renewed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use crate::clock::monotonic;
use crate::secrets::random_bytes;
use crate::store::Family;
use crate::store::StoreError;
use crate::store::shared::cache::Dropped;
use crate::store::shared::commit::LOG_LENGTH;
use crate::store::shared::entry::Change;
use crate::store::shared::entry::ENTRY_BYTES_MAX;
use crate::store::shared::entry::Entry;
use crate::store::shared::follower::Seen;
use crate::store::shared::link::Call;
use crate::store::shared::link::Lane;
use crate::store::shared::link::script::Script;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::replies;

static POLL: Script = Script::new("poll", include_str!("scripts/poll.lua"));
static LEAVE: Script = Script::new("leave", include_str!("scripts/leave.lua"));

/// Entries that one poll brings.
const ENTRIES_TOGETHER: u64 = 1000;
/// How long a sidecar counts as a member after its last poll.
const MEMBER_TTL: Duration = Duration::from_secs(10);
/// What a poll answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Polled {
    head: u64,
    nonce_at_cursor: Option<String>,
    nonce_at_head: Option<String>,
    birth: String,
    beats: u64,
    replication: String,
    members: u32,
    entries: Vec<Option<String>>,
}

/// What a poll's answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing was known before.
    First,
    Continues,
    /// More was missed than the log holds.
    Gap,
    /// Another server took over. What it has not got from the old one may be held here.
    Failover,
    /// Something that was there is not there any more.
    Rollback(&'static str),
}

/// What one poll came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// More entries wait; poll again at once.
    pub is_behind: bool,
    pub(super) changes: Vec<Change>,
}

impl Step {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl SharedRecords {
    /// Asks once what changed, applies it, and renews the lease if all of it was applied.
    pub(crate) async fn poll(&self) -> Result<Step, StoreError> {
        let follower = self.follower();
        let seen = follower.seen();
        let top = self.cache().top();
        let sent = monotonic();
        let answer = self.ask(seen.as_ref()).await;
        let polled = match answer {
            Ok(polled) => polled,
            Err(error) => {
                follower.failed_polls.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
        };
        follower.polls.fetch_add(1, Ordering::Relaxed);
        follower.head.store(polled.head, Ordering::Relaxed);
        follower.count_members(polled.members);
        let step = self.follow(seen, top, polled, sent);
        Ok(step)
    }

    fn follow(&self, seen: Option<Seen>, top: u64, polled: Polled, sent: Instant) -> Step {
        let follower = self.follower();
        let verdict = judge(seen.as_ref(), top, &polled);
        let mut cursor = polled.head;
        let mut nonce = polled.nonce_at_head;
        let mut changes = Vec::new();
        match verdict {
            Verdict::First => self.cache().begin(polled.head),
            Verdict::Continues => {
                let from = seen.as_ref().map_or(0, |seen| seen.cursor);
                cursor = from + polled.entries.len() as u64;
                if cursor < polled.head {
                    nonce = polled.entries.last().and_then(Option::as_deref).and_then(|entry| entry.split(' ').next()).map(str::to_owned);
                }
                let entries: Vec<Entry> = polled.entries.iter().map(|entry| Entry::read(entry.as_deref())).collect();
                self.cache().apply(&entries, cursor, sent);
                changes.extend(entries.into_iter().filter_map(|entry| match entry {
                    Entry::Change(change) => Some(change),
                    Entry::Foreign | Entry::Unreadable => None,
                }));
            }
            Verdict::Gap => {
                follower.end_lease();
                follower.gaps.fetch_add(1, Ordering::Relaxed);
                self.cache().reset(polled.head, Dropped::Missed);
                tracing::warn!("more changes were missed than the log holds; everything is read anew");
            }
            Verdict::Failover => {
                follower.end_lease();
                follower.failovers.fetch_add(1, Ordering::Relaxed);
                self.cache().reset(polled.head, Dropped::TakenOver);
                follower.heal_again();
                tracing::warn!("another Redis server has taken over; everything is read anew");
            }
            Verdict::Rollback(why) => {
                follower.end_lease();
                self.cache().reset(polled.head, Dropped::Lost);
                follower.heal_again();
                follower.resets.send_modify(|resets| *resets += 1);
                tracing::error!(
                    why,
                    "Redis lost something that was there; everything is read anew, and what this node changed is done again"
                );
            }
        }
        if verdict != Verdict::Continues || changes.iter().any(|change: &Change| change.key.family == Family::Ring) {
            follower.rings.send_modify(|rings| *rings += 1);
        }
        let (birth, beats, replication) = (polled.birth, polled.beats, polled.replication);
        follower.state().seen = Some(Seen { birth, cursor, nonce, beats, replication });
        follower.lag.store(polled.head.saturating_sub(cursor), Ordering::Relaxed);
        if cursor == polled.head {
            follower.renew(sent);
        }
        Step { is_behind: cursor < polled.head, changes }
    }

    async fn ask(&self, seen: Option<&Seen>) -> Result<Polled, StoreError> {
        let places = self.places();
        let keys = vec![places.meta(), places.log(), places.members()];
        let birth = random_bytes::<16>().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let args = vec![
            seen.map(|seen| seen.cursor.to_string()).unwrap_or_default().into_bytes(),
            ENTRIES_TOGETHER.to_string().into_bytes(),
            ENTRY_BYTES_MAX.to_string().into_bytes(),
            self.follower().member.clone().into_bytes(),
            MEMBER_TTL.as_millis().to_string().into_bytes(),
            format!("{:032x}", u128::from_be_bytes(birth)).into_bytes(),
        ];
        let within = self.link().settings().timeouts.background;
        let call = Call { script: &POLL, keys, args };
        let connection = *self.link().changes().borrow();
        let answer = self.link().run(Lane::Changes, call, within).await.map_err(replies::failed)?;
        let mut polled = read_poll(answer).ok_or_else(|| replies::unexpected("a poll"))?;
        if polled.replication.is_empty() {
            // Whoever may not ask for INFO cannot tell one server from the next, so each connection might be to another one.
            polled.replication = format!("connection-{connection}");
        }
        Ok(polled)
    }

    /// This process is no member any more. Best effort: it would be forgotten anyway.
    pub(crate) async fn leave(&self) {
        let call = Call { script: &LEAVE, keys: vec![self.places().members()], args: vec![self.follower().member.clone().into_bytes()] };
        let within = self.link().settings().timeouts.background;
        if let Err(error) = self.link().run(Lane::Changes, call, within).await {
            tracing::debug!(%error, "could not leave the members");
        }
    }
}

/// `top`: the highest head that any answer told before the poll was sent.
fn judge(seen: Option<&Seen>, top: u64, polled: &Polled) -> Verdict {
    let Some(seen) = seen else { return Verdict::First };
    if polled.birth != seen.birth {
        return Verdict::Rollback("it is another store, or was emptied");
    }
    if polled.beats <= seen.beats {
        return Verdict::Rollback("it is in an older state");
    }
    if polled.head < seen.cursor.max(top) {
        return Verdict::Rollback("its change log is shorter than it was");
    }
    // The log still has the entry at our cursor.
    let is_retained = polled.head - seen.cursor < LOG_LENGTH;
    if is_retained && seen.cursor > 0 && polled.nonce_at_cursor != seen.nonce {
        return Verdict::Rollback("its change log is another one");
    }
    if polled.replication != seen.replication {
        return Verdict::Failover;
    }
    if is_retained { Verdict::Continues } else { Verdict::Gap }
}

fn read_poll(answer: Value) -> Option<Polled> {
    let mut parts = replies::list(answer)?.into_iter();
    let head = replies::number(&parts.next()?)?;
    let nonce_at_cursor = replies::text(parts.next()?);
    let nonce_at_head = replies::text(parts.next()?);
    let birth = replies::text(parts.next()?)?;
    let beats = replies::number(&parts.next()?)?;
    let replication = replies::text(parts.next()?)?;
    let members = u32::try_from(replies::number(&parts.next()?)?).unwrap_or(u32::MAX);
    let entries = replies::list(parts.next()?)?.into_iter().map(replies::text).collect();
    Some(Polled { head, nonce_at_cursor, nonce_at_head, birth, beats, replication, members, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen { birth: "b".into(), cursor: 5, nonce: Some("n5".into()), beats: 100, replication: "r".into() }
    }

    fn polled() -> Polled {
        Polled {
            head: 7,
            nonce_at_cursor: Some("n5".into()),
            nonce_at_head: Some("n7".into()),
            birth: "b".into(),
            beats: 101,
            replication: "r".into(),
            members: 1,
            entries: vec![None, None],
        }
    }

    // battery: R10 R11
    #[test]
    fn a_loss_is_recognised_by_any_of_its_marks() {
        let of = |change: fn(&mut Polled)| {
            let mut polled = polled();
            change(&mut polled);
            polled
        };
        let rollback = |verdict: Verdict| matches!(verdict, Verdict::Rollback(_));
        type Row = (&'static str, Polled, fn(Verdict) -> bool);
        let table: [Row; 11] = [
            ("as before", of(|_| {}), |verdict| verdict == Verdict::Continues),
            ("nothing new", of(|polled| polled.head = 5), |verdict| verdict == Verdict::Continues),
            ("emptied", of(|polled| polled.birth = "c".into()), rollback),
            ("beats gone back", of(|polled| polled.beats = 99), rollback),
            ("beats where they were", of(|polled| polled.beats = 100), rollback),
            ("log shorter", of(|polled| polled.head = 4), rollback),
            ("another entry at the cursor", of(|polled| polled.nonce_at_cursor = Some("x".into())), rollback),
            ("no entry at the cursor", of(|polled| polled.nonce_at_cursor = None), rollback),
            ("another server", of(|polled| polled.replication = "s".into()), |verdict| verdict == Verdict::Failover),
            (
                "trimmed",
                of(|polled| {
                    polled.head = 5 + LOG_LENGTH;
                    polled.nonce_at_cursor = None;
                }),
                |verdict| verdict == Verdict::Gap,
            ),
            (
                "trimmed on another server",
                of(|polled| {
                    polled.head = 5 + LOG_LENGTH;
                    polled.nonce_at_cursor = None;
                    polled.replication = "s".into();
                }),
                |verdict| verdict == Verdict::Failover,
            ),
        ];
        for (what, polled, expected) in table {
            let verdict = judge(Some(&seen()), 0, &polled);
            assert!(expected(verdict), "{what}: {verdict:?}");
        }
        assert_eq!(judge(None, 0, &polled()), Verdict::First);
        assert_eq!(judge(Some(&seen()), 7, &polled()), Verdict::Continues);
        assert!(rollback(judge(Some(&seen()), 8, &polled())), "a commit or a read told of more");
        let begun = Seen { cursor: 0, nonce: None, ..seen() };
        assert_eq!(judge(Some(&begun), 0, &of(|polled| polled.nonce_at_cursor = None)), Verdict::Continues);
    }
}
