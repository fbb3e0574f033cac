//! The engine that any number of sidecars share: Redis or Valkey, standalone, behind Sentinels or as a cluster.
//!
//! Nothing of ours replicates; Redis does. Every change is one Lua script whose keys lie in one slot, so it happens whole or not
//! at all, on every topology.
//!
//! - [`link`]: the way to the server: connections, timeouts, the breaker, scripts.
//! - [`usage`]: counts by user, hour, day and month.
//!
//! # Names of keys
//!
//! All begin with `<prefix>:1:` (the format). `{r}` is the one tag of the records, their indexes and the change log.

pub mod link;
pub mod settings;
pub mod usage;

#[cfg(test)]
pub(crate) mod testing;
