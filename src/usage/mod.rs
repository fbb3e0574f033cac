//! Exact usage: every admitted request is in a file that outlives the process before its answer leaves.
//!
//! - [`Ledger`]: counters in a mapped file. One look-up and one atomic step a request; survives `kill -9` at any instant.
//! - [`LocalBuckets`]: token buckets in slots of the same file.
//! - [`LocalShare`]: the same, each a fair share of the limit: what stands in for shared buckets that are out of reach.
//! - [`History`]: the counts by hour, day and month, in a database of its own. It is told totals, never increments, so being
//!   told twice, late or again after a crash changes nothing.
//! - [`Usage`]: the two together: opened, reconciled, flushed and read as one.
//!
//! How a count survives: a slot's count is cumulative. The history keeps, for every line and for every *birth* of a slot
//! (unlike any other), the greatest count that it was told, and adds only what exceeds it. A slot is given back once its hour is
//! over and the history has all of it; a later count of the same line begins with another birth.
//!
//! This folder must not mention `check`, `grpc`, `issuer`, `config`. Unsafe code is in `map.rs` alone.

mod archive;
mod buckets;
mod changes;
mod creation;
mod dictionary;
mod digest;
mod disk;
mod error;
mod forget;
mod history;
mod ledger;
mod live;
mod map;
mod notes;
mod period;
mod publishing;
mod query;
mod recovery;
mod rows;
mod segment;
mod share;
mod shares;
mod slot;
mod together;

#[cfg(test)]
mod tests;

pub use crate::store::LastUse;
pub use buckets::LocalBuckets;
pub use changes::Listed;
#[cfg(test)]
pub(crate) use changes::ROWS_MAX as CHANGED_ROWS_MAX;
pub use error::LedgerError;
pub use history::History;
pub use history::HistoryError;
pub use ledger::Gauges;
pub use ledger::Ledger;
pub use ledger::LedgerOptions;
pub use live::UserTotal;
pub use publishing::Batch;
pub use publishing::Reach;
pub use publishing::Run;
pub use publishing::Walk;
pub use recovery::Recovery;
pub use share::LocalShare;
pub use share::ShareStatus;
pub use together::Flushed;
pub use together::Thoroughness;
pub use together::Usage;
pub use together::UsageError;
