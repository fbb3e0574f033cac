//! The engine that any number of sidecars share: Redis or Valkey, standalone, behind Sentinels or as a cluster.
//!
//! Nothing of ours replicates; Redis does. Every change is one Lua script whose keys lie in one slot, so it happens whole or not
//! at all, on every topology.
//!
//! - [`buckets`]: limits: exact, leased from when hot.
//! - [`link`]: the way to the server: connections, timeouts, the breaker, scripts.
//! - [`usage`]: counts by user, hour, day and month.
//!
//! - [`records`]: the one conditional write and reading; [`facts`] and [`cache`]: what checks ask for, from memory while the lease
//!   holds; [`changes`]: the followed change log, the lease, noticing a loss; [`tombstones`]: what stays closed whatever the store
//!   says; [`outbox`]: doing again what the store lost; [`seal`]: proof that a record is of our making.
//!
//! # Names of keys
//!
//! All begin with `<prefix>:1:` (the format). `{r}` is the one tag of the records, their indexes and the change log.

pub mod buckets;
pub mod changes;
pub mod follower;
pub mod link;
pub mod outbox;
pub mod records;
pub mod seal;
pub mod settings;
pub mod usage;

mod cache;
mod commit;
mod entry;
mod facts;
mod places;
mod replies;
mod sweep;
mod tombstones;

pub use crate::store::shared::cache::CacheSizes;

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
