//! One run of `take.lua`: what it is told and what it answers.

use std::time::Duration;

use crate::model::quota;
use crate::model::quota::Level;
use crate::model::quota::Limit;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;
use crate::store::shared::buckets::names;
use crate::store::shared::link::Call;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::script::Script;

static TAKE: Script = Script::new("take", include_str!("../scripts/take.lua"));

/// The code of a bucket's record that is none.
const BAD_BUCKET: &str = "BADBUCKET";

/// How many requests one call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Units {
    /// That wait for it now; as many of them as there is room for are admitted.
    pub need: u32,
    /// To be spent soon: all of them or none.
    pub stock: u32,
    /// So many must there be, beyond the need, for any stock.
    pub reserve: u64,
}

impl Units {
    pub(super) const ONE: Self = Self { need: 1, stock: 0, reserve: 0 };
}

/// When one more request would be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Now,
    After(Duration),
    /// It costs more than a bucket ever holds.
    Never,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub granted: u32,
    pub server_now: Timestamp,
    pub next: Next,
    /// What each bucket owes, in nanoseconds.
    pub owed: Vec<u64>,
}

/// The call. `now` is handed in by tests; the server's clock rules otherwise.
///
/// # Errors
/// When a bucket is too slow to be counted exactly, which the config refuses.
pub(super) fn call(prefix: &str, takes: &[Take<'_>], units: Units, now: Option<Timestamp>) -> Result<Call, StoreError> {
    let mut args = Vec::with_capacity(5 + takes.len() * 2);
    match now {
        Some(now) => {
            args.push(number(now.unix_seconds()));
            args.push(number(now.since(Timestamp::from_unix_seconds(now.unix_seconds())).subsec_nanos().into()));
        }
        None => args.extend([Vec::new(), Vec::new()]),
    }
    args.extend([number(units.need.into()), number(units.stock.into()), number(units.reserve)]);
    for take in takes {
        let window = take.policy.limit.fill_nanos();
        if window > quota::FILL_NANOS_MAX {
            let name = &take.policy.name;
            return Err(StoreError::Unavailable(format!(
                "the limit {name} takes more than 100 days to fill, which cannot be shared; raise its rate or lower its burst"
            )));
        }
        args.push(number(window));
        // Too much is too much, and stays within what a double counts.
        args.push(number(price(take).min(quota::FILL_NANOS_MAX + 1)));
    }
    Ok(Call { script: &TAKE, keys: takes.iter().map(|take| names::name(prefix, take)).collect(), args })
}

/// What one request costs of a bucket, in nanoseconds.
pub(super) fn price(take: &Take<'_>) -> u64 {
    take.policy.limit.interval_nanos().saturating_mul(take.cost.into())
}

/// Reads the answer to a call with so many buckets.
pub(super) fn read(value: &redis::Value, buckets: usize) -> Result<Reply, StoreError> {
    let strange = || StoreError::Unavailable("the limits' script gave an answer that is none".to_owned());
    let redis::Value::Array(values) = value else { return Err(strange()) };
    let numbers: Option<Vec<i64>> =
        values.iter().map(|value| if let redis::Value::Int(number) = value { Some(*number) } else { None }).collect();
    let numbers = numbers.ok_or_else(strange)?;
    let Some(([granted, seconds, nanos, wait], owed)) = numbers.split_first_chunk() else { return Err(strange()) };
    let owed: Vec<u64> = owed.iter().filter_map(|owed| u64::try_from(*owed).ok()).collect();
    if owed.len() != buckets {
        return Err(strange());
    }
    let next = match *wait {
        0 => Next::Now,
        wait => u64::try_from(wait).map_or(Next::Never, |wait| Next::After(Duration::from_nanos(wait))),
    };
    Ok(Reply {
        granted: u32::try_from(*granted).map_err(|_| strange())?,
        server_now: Timestamp::from_unix_seconds(u64::try_from(*seconds).map_err(|_| strange())?)
            .plus(Duration::from_nanos(u64::try_from(*nanos).map_err(|_| strange())?)),
        next,
        owed,
    })
}

/// A failed call, and the bucket at fault where it is one bucket's.
pub(super) fn failure(error: LinkError, keys: &[Vec<u8>]) -> StoreError {
    match error {
        LinkError::Refused { code, why } if code == BAD_BUCKET => {
            let (index, why) = why.split_once(' ').unwrap_or(("", &why));
            let key = index.parse().ok().and_then(|index: usize| keys.get(index.checked_sub(1)?));
            StoreError::Corrupt { key: key.map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default(), why: why.to_owned() }
        }
        other @ (LinkError::Unreachable(_) | LinkError::TimedOut(_) | LinkError::Broken(_) | LinkError::Refused { .. }) => other.into(),
    }
}

/// What buckets hold that owed so much a while ago, when this many requests are still in our own hands. In the caller's time, so
/// that no header shows how far the server's clock is from ours.
pub(super) fn levels(takes: &[Take<'_>], owed: &[u64], in_hand: u32, since: Duration, now: Timestamp) -> Vec<Level> {
    let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let level = |(take, owed): (&Take<'_>, &u64)| {
        let owed = owed.saturating_sub(since).saturating_sub(price(take).saturating_mul(in_hand.into()));
        quota::level(now.as_nanos().saturating_add(owed), take.policy.limit, now)
    };
    takes.iter().zip(owed).map(level).collect()
}

impl Reply {
    /// The answer to the one request that asked.
    pub(super) fn taken(&self, takes: &[Take<'_>], now: Timestamp) -> Taken {
        let levels = levels(takes, &self.owed, self.granted.saturating_sub(1), Duration::ZERO, now);
        let admitted = self.granted > 0;
        let retry_after = match self.next {
            Next::After(wait) if !admitted => Some(wait),
            Next::Now | Next::After(_) | Next::Never => None,
        };
        Taken { admitted, levels, retry_after }
    }
}

/// How many requests the smallest of the buckets holds when it is full.
pub(super) fn depth_of(takes: &[Take<'_>]) -> u32 {
    let holds = |take: &Take<'_>| {
        let Limit { depth, .. } = take.policy.limit;
        depth.checked_div(take.cost)
    };
    takes.iter().filter_map(holds).min().unwrap_or(0)
}

/// Whether every bucket is named once, so that several requests cost several times as much.
pub(super) fn are_distinct(takes: &[Take<'_>]) -> bool {
    takes.iter().enumerate().all(|(index, take)| {
        takes
            .iter()
            .skip(index + 1)
            .all(|other| (&take.policy.name, take.owner, take.root) != (&other.policy.name, other.owner, other.root))
    })
}

fn number(value: u64) -> Vec<u8> {
    value.to_string().into_bytes()
}
