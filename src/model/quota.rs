//! Limit arithmetic: GCRA, which decides as a token bucket does and keeps one timestamp instead of a level and a time.
//!
//! The state is the *theoretical arrival time* in nanoseconds since the Unix epoch: the instant at which the bucket is full
//! again. Zero (or anything past) is a full bucket.

use std::sync::Arc;
use std::time::Duration;

use crate::model::time::Timestamp;

/// A bucket's size and speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Refill, requests per minute; at least 1.
    pub per_minute: u32,
    /// Depth: how many requests a full bucket admits at once; at least 1.
    pub depth: u32,
}

/// Whose bucket a policy fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// The organisation; the user where there is none.
    Owner,
    User,
    Organization,
    Key,
    Route,
    Address,
}

/// A named limit, as the config or a key states it. Buckets are keyed by name and owner: changing the numbers keeps the level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: Arc<str>,
    pub per: Per,
    pub limit: Limit,
}

/// What the arithmetic says of one bucket and one cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Admitted; the bucket's new state and what is left.
    Admitted { state: u64, level: Level },
    /// Refused; nothing was taken.
    Refused { retry_after: Duration, level: Level },
    /// The cost is more than the bucket's depth: no waiting helps.
    Never { level: Level },
}

/// What a bucket holds, for the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Requests of cost 1 that it would admit now.
    pub remaining: u32,
    /// When it is full again.
    pub full_at: Timestamp,
    /// Until the next whole token; zero when `remaining` is not zero.
    pub next_token: Duration,
}

const NANOS_PER_MINUTE: u128 = 60_000_000_000;

/// Asks one bucket for `cost`. A cost of zero takes nothing and only reads the level.
pub fn take(state: u64, limit: Limit, cost: u32, now: Timestamp) -> Verdict {
    let per_minute = u128::from(limit.per_minute.max(1));
    let span = |count: u32| u64::try_from(u128::from(count) * NANOS_PER_MINUTE / per_minute).unwrap_or(u64::MAX);
    let now_nanos = now.as_nanos();
    let whole = span(limit.depth);
    let full_at = state.clamp(now_nanos, now_nanos.saturating_add(whole));
    let level_of = |full_at: u64| {
        let spare = whole.saturating_sub(full_at - now_nanos);
        let remaining = u32::try_from(u128::from(spare) * per_minute / NANOS_PER_MINUTE).unwrap_or(u32::MAX);
        let next_token = if remaining == 0 { Duration::from_nanos(span(1).saturating_sub(spare)) } else { Duration::ZERO };
        Level { remaining, full_at: Timestamp::from_nanos(full_at), next_token }
    };
    if cost > limit.depth {
        return Verdict::Never { level: level_of(full_at) };
    }
    let wanted = full_at.saturating_add(span(cost));
    let latest = now_nanos.saturating_add(whole);
    if wanted > latest {
        return Verdict::Refused { retry_after: Duration::from_nanos(wanted - latest), level: level_of(full_at) };
    }
    Verdict::Admitted { state: wanted, level: level_of(wanted) }
}
