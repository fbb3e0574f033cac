//! The shelf: what outlives a request. This file is the contract; behind it are two engines, `embedded` (redb, one process) and
//! `shared` (Redis, any number of sidecars).
//!
//! - Absence is `Ok(None)`; only broken things are errors.
//! - One write primitive: [`Records::commit`]. Whatever is single-use is a precondition of it; nothing is found first and
//!   consumed later.
//! - A commit that was acknowledged is on disk, and every later `find` sees it.
//!
//! The shelf must not mention: `check`, `grpc`, `issuer`, `config`.

pub mod codec;
pub mod embedded;
pub mod shared;

mod user_place;

#[cfg(test)]
mod conformance;

#[cfg(test)]
pub(crate) mod counts_conformance;

#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyRecord;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::model::usage_row::RowKey;
use crate::model::user::UserRecord;

/// An answer that is often there at once: no allocation when it is, a boxed future when it must be fetched.
pub enum Answer<'a, T> {
    Ready(Option<T>),
    Pending(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<T> std::fmt::Debug for Answer<'_, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Pending(_) => "Pending",
        })
    }
}

impl<T> Answer<'_, T> {
    pub fn ready(value: T) -> Self {
        Self::Ready(Some(value))
    }
}

impl<T: Unpin> Future for Answer<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            Self::Ready(value) => match value.take() {
                Some(value) => Poll::Ready(value),
                // Polled again after it was done, which no executor does.
                None => Poll::Pending,
            },
            Self::Pending(future) => future.as_mut().poll(context),
        }
    }
}

/// Why the shelf gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// The record is there and cannot be read (bit rot, a future format).
    #[error("the record {key} cannot be read: {why}")]
    Corrupt { key: String, why: String },
}

/// What the corridor may ask: the facts behind a proof.
pub trait Facts: Send + Sync + std::fmt::Debug + 'static {
    /// The key record of this public id.
    fn key(&self, id: &str) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>>;
    /// The key record whose secret (current or in grace) has one of these digests: imported keys only.
    fn key_by_digest(&self, digest: &[u8; 32]) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>>;
    /// The user record of this source (`local` or a managed issuer's name) and subject.
    fn user(&self, source: &str, subject: &str) -> Answer<'_, Result<Option<Arc<UserRecord>>, StoreError>>;
    /// What a token of our own stands on.
    fn grant(&self, id: &str) -> Answer<'_, Result<Option<Arc<GrantRecord>>, StoreError>>;
    /// The OAuth client of this id.
    fn client(&self, id: &str) -> Answer<'_, Result<Option<Arc<ClientRecord>>, StoreError>>;

    /// How long one check may wait for all of its questions together; none: nobody ever waits.
    fn patience(&self) -> Option<std::time::Duration> {
        None
    }
}

/// What the corridor may fall back on when [`Facts`] gives no answer: what was known last, however long ago that was confirmed.
/// Only tiers that opt in (`grace`) are served by it.
pub trait LastKnown: Send + Sync + std::fmt::Debug + 'static {
    /// How long ago the last confirmation lost its force; `None`: there never was one, and nothing may be served.
    fn lapsed_for(&self) -> Option<std::time::Duration>;
    fn key(&self, id: &str) -> Option<Arc<KeyRecord>>;
    fn key_by_digest(&self, digest: &[u8; 32]) -> Option<Arc<KeyRecord>>;
    fn user(&self, source: &str, subject: &str) -> Option<Arc<UserRecord>>;
    fn grant(&self, id: &str) -> Option<Arc<GrantRecord>>;
    fn client(&self, id: &str) -> Option<Arc<ClientRecord>>;
}

/// A record's place: a family (`key`, `user`, `ring`, …) and an id within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    pub family: Family,
    pub id: String,
}

/// The families of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Key,
    User,
    /// Signing keys, wrapped.
    Ring,
    /// Imported keys' digests (64 hex digits), each holding its key's id: a digest is taken once.
    Digest,
    /// What tokens stand for.
    Grant,
    /// OAuth clients.
    Client,
    /// What only the issuer needs of a local user.
    Account,
    Organization,
    Session,
    Invitation,
    /// Sign-ins elsewhere (SHA-256 of issuer and subject, 64 hex digits), each holding the user whom it opens: it is linked once.
    Identity,
    /// Single-use steps that are under way.
    Ticket,
    /// Entries of the audit log.
    Audit,
    /// Who is meant by a pseudonym in the audit log; removed when a user is erased.
    AuditName,
}

/// The families whose records a check asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    Key,
    User,
    Digest,
    Grant,
    Client,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 14] = [
        Self::Key,
        Self::User,
        Self::Ring,
        Self::Digest,
        Self::Grant,
        Self::Client,
        Self::Account,
        Self::Organization,
        Self::Session,
        Self::Invitation,
        Self::Identity,
        Self::Ticket,
        Self::Audit,
        Self::AuditName,
    ];

    /// As what checks ask for its records; none: they never do.
    pub const fn fact(self) -> Option<Fact> {
        match self {
            Self::Key => Some(Fact::Key),
            Self::User => Some(Fact::User),
            Self::Digest => Some(Fact::Digest),
            Self::Grant => Some(Fact::Grant),
            Self::Client => Some(Fact::Client),
            Self::Ring
            | Self::Account
            | Self::Organization
            | Self::Session
            | Self::Invitation
            | Self::Identity
            | Self::Ticket
            | Self::Audit
            | Self::AuditName => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Ring => "ring",
            Self::Digest => "digest",
            Self::Grant => "grant",
            Self::Client => "client",
            Self::Account => "account",
            Self::Organization => "organization",
            Self::Session => "session",
            Self::Invitation => "invitation",
            Self::Identity => "identity",
            Self::Ticket => "ticket",
            Self::Audit => "audit",
            Self::AuditName => "audit_name",
        }
    }
}

/// What the embedded engine's file is called inside its folder.
pub const EMBEDDED_FILE_NAME: &str = "store.redb";

/// A record as it lies on the shelf: encoded by `codec`, with the version that a precondition can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: u64,
    pub bytes: Vec<u8>,
    /// From when on it counts as absent; none: it stays.
    pub expires: Option<Timestamp>,
}

impl Stored {
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// What must hold for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    Absent(RecordKey),
    Present(RecordKey),
    AtVersion(RecordKey, u64),
}

/// What a commit does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put { key: RecordKey, bytes: Vec<u8>, expires: Option<Timestamp> },
    Remove(RecordKey),
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    Done,
    /// Written by the primary, and not yet confirmed by as many replicas as the config asks for: a failover right now could
    /// undo it for a moment, until whoever committed it sees to it that it is done again.
    Unconfirmed,
    /// This precondition (by its index) did not hold; nothing was written.
    Refused(usize),
}

impl Committed {
    /// Whether the writes happened.
    pub const fn is_done(&self) -> bool {
        match self {
            Self::Done | Self::Unconfirmed => true,
            Self::Refused(_) => false,
        }
    }
}

/// A page of records in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub records: Vec<(RecordKey, Stored)>,
    /// Hand it in as `after` for the next page; none: this was the last.
    pub next: Option<String>,
}

/// Records with one conditional write.
pub trait Records: Send + Sync + std::fmt::Debug + 'static {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>>;
    /// At most `limit` records of a family whose ids follow `after`.
    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>>;
    /// All of `writes`, durably, if all of `preconditions` hold; else nothing.
    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>>;
}

/// One bucket of one request: `owner` is the rendered owner (`org:acme`, `user:alice`, `key:…`, `route:…`, `address:…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take<'a> {
    pub policy: &'a crate::model::quota::Policy,
    pub owner: &'a str,
    /// Under whom the buckets of one question lie together, so that one node of a cluster can judge all of them at once: the
    /// organisation, the user where there is none, the route or the address.
    pub root: &'a str,
    pub cost: u32,
}

/// What became of a [`Limits::take`]: all of them admitted, or none debited.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub admitted: bool,
    /// One per bucket asked, in order.
    pub levels: Vec<crate::model::quota::Level>,
    /// When refused: how long until the same request could pass; none: never.
    pub retry_after: Option<std::time::Duration>,
}

/// Token buckets.
pub trait Limits: Send + Sync + std::fmt::Debug + 'static {
    fn take<'a>(&'a self, takes: &'a [Take<'a>], now: Timestamp) -> Answer<'a, Result<Taken, StoreError>>;

    /// How long one check may wait for all of its questions together; none: nobody ever waits.
    fn patience(&self) -> Option<std::time::Duration> {
        None
    }
}

/// One line's cumulative count in one hour, one day or one month, as one writer tells it. It never sinks.
///
/// A writer tells each of the three by itself: nothing is derived from what it told of another, so that each of them heals by
/// being told again, also when the hours that a month was made of are long gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountRecord {
    pub span: Span,
    /// When the period begins; any instant in it is as good.
    pub start: Timestamp,
    pub user: Arc<str>,
    /// Empty: no key.
    pub key: Arc<str>,
    pub route: Arc<str>,
    pub outcome: Outcome,
    pub count: u64,
}

impl CountRecord {
    /// The row that it belongs to.
    pub fn row(&self) -> RowKey {
        RowKey {
            period: self.span.index(self.start),
            user: Arc::clone(&self.user),
            key: Arc::clone(&self.key),
            route: Arc::clone(&self.route),
            outcome: self.outcome,
        }
    }

    pub fn of(span: Span, row: RowKey, count: u64) -> Self {
        let RowKey { period, user, key, route, outcome } = row;
        Self { span, start: span.start(period), user, key, route, outcome, count }
    }
}

/// A key's last use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    pub key: Arc<str>,
    pub last: LastUse,
}

/// When a key was last used, and on which route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    pub at: Timestamp,
    pub route: Arc<str>,
}

/// Why counts could not be told or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0:?} is no place to go on from: hand in the `next` of the page before")]
    Cursor(String),
}

/// Usage that many writers share: each writer's totals are merged by maximum, so that telling twice, late or out of order changes
/// nothing, and a store that was thrown back heals at the next telling.
pub trait Counts: Send + Sync + std::fmt::Debug + 'static {
    /// Takes in a writer's totals; answers by how much each of them raised its line. Hours older than 35 days and days older than
    /// 400 are not believed: what was told of them before is gone.
    fn merge<'a>(&'a self, writer: u128, told: &'a [CountRecord], now: Timestamp) -> Answer<'a, Result<Vec<u64>, StoreError>>;
    /// Takes in last uses; the latest of each key stays.
    fn note_uses<'a>(&'a self, uses: &'a [KeyUse]) -> Answer<'a, Result<(), StoreError>>;
    /// A page of exact counts over all writers.
    fn query<'a>(&'a self, query: &'a UsageQuery) -> Answer<'a, Result<UsagePage, CountsError>>;
    fn last_use<'a>(&'a self, key: &'a str) -> Answer<'a, Result<Option<LastUse>, StoreError>>;
    /// Erases every count of a user that is kept here. A writer that still has some of them brings those back by telling them.
    fn forget<'a>(&'a self, user: &'a str) -> Answer<'a, Result<(), StoreError>>;
}

/// One writer's share of a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterCount {
    pub writer: u128,
    pub record: CountRecord,
}

/// A piece of everything that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountsPage {
    pub counts: Vec<WriterCount>,
    pub uses: Vec<KeyUse>,
    /// Hand it in as `after` for the next piece; none: this was the last.
    pub next: Option<String>,
}

/// Everything that was counted, writer by writer, to be carried from one engine to another or to a file and back.
///
/// Every share keeps its writer's name. So restoring twice, or into a store that has some of it, changes nothing that is right
/// already; and a writer that goes on telling is merged with its own restored share, not added to it.
pub trait CountsArchive: Counts {
    /// Hours, days and months that are kept, and last uses: about `limit` of them, what follows `after`.
    fn export(&self, after: Option<String>, limit: usize) -> Answer<'_, Result<CountsPage, CountsError>>;

    /// Takes in a piece; answers by how many counts the store rose.
    fn restore<'a>(&'a self, page: &'a CountsPage, now: Timestamp) -> Answer<'a, Result<u64, StoreError>> {
        Answer::Pending(Box::pin(async move {
            let mut by_writer: BTreeMap<u128, Vec<CountRecord>> = BTreeMap::new();
            for count in &page.counts {
                by_writer.entry(count.writer).or_default().push(count.record.clone());
            }
            let mut raised = 0_u64;
            for (writer, records) in by_writer {
                let added = self.merge(writer, &records, now).await?;
                raised = added.into_iter().fold(raised, u64::saturating_add);
            }
            self.note_uses(&page.uses).await?;
            Ok(raised)
        }))
    }
}
