//! Limits for a time in which the shared ones are out of reach: every sidecar counts by itself, each its part of the whole.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::model::quota::Limit;
use crate::model::quota::Policy;
use crate::model::time::Timestamp;
use crate::store::Answer;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;
use crate::usage::LocalBuckets;

/// [`LocalBuckets`] with each limit divided by the number of sidecars last known. As long as no sidecar joins, all of them
/// together keep the limit; parts that would be less than one request are one request.
#[derive(Debug)]
pub struct LocalShare {
    buckets: LocalBuckets,
    members: Arc<AtomicU32>,
    admitted: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareStatus {
    /// Questions that this sidecar's share admitted.
    pub admitted: u64,
    pub refused: u64,
    /// Questions that even the share could not answer.
    pub failures: u64,
}

impl LocalShare {
    pub fn new(buckets: LocalBuckets, members: Arc<AtomicU32>) -> Self {
        Self { buckets, members, admitted: AtomicU64::new(0), refused: AtomicU64::new(0), failures: AtomicU64::new(0) }
    }

    pub fn status(&self) -> ShareStatus {
        ShareStatus {
            admitted: self.admitted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    fn take_now(&self, takes: &[Take<'_>], now: Timestamp) -> Result<Taken, StoreError> {
        let members = self.members.load(Ordering::Relaxed);
        let policies: Vec<Policy> = takes.iter().map(|take| share_of(take, members)).collect();
        let takes: Vec<Take<'_>> = takes.iter().zip(&policies).map(|(take, policy)| Take { policy, ..*take }).collect();
        let taken = self.buckets.take_now(&takes, now);
        let counter = match &taken {
            Ok(taken) if taken.admitted => &self.admitted,
            Ok(_refused) => &self.refused,
            Err(_) => &self.failures,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        taken
    }
}

impl Limits for LocalShare {
    fn take<'a>(&'a self, takes: &'a [Take<'a>], now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        Answer::ready(self.take_now(takes, now))
    }
}

fn share_of(take: &Take<'_>, members: u32) -> Policy {
    let (whole, members) = (take.policy.limit, members.max(1));
    // One request is what it costs, or it would be refused for as long as the outage lasts.
    let least = take.cost.clamp(1, whole.depth.max(1));
    let limit = Limit { per_minute: (whole.per_minute / members).max(1), depth: (whole.depth / members).max(least) };
    Policy { limit, ..take.policy.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::quota::Per;
    use crate::usage::tests::NOON;
    use crate::usage::tests::folder;
    use crate::usage::tests::open;

    #[test]
    fn a_share_is_the_members_part_and_never_less_than_one_request() {
        // (rate, depth, cost, members): rate and depth of the share.
        let table = [
            ((600, 100, 1, 1), (600, 100)),
            ((600, 100, 1, 4), (150, 25)),
            ((600, 100, 1, 0), (600, 100)),
            ((7, 5, 1, 2), (3, 2)),
            ((3, 3, 1, 4), (1, 1)),
            ((60, 10, 3, 4), (15, 3)),
            ((60, 10, 11, 4), (15, 10)),
            ((60, 10, 0, 4), (15, 2)),
            ((60, 10, 1, u32::MAX), (1, 1)),
        ];
        for ((per_minute, depth, cost, members), (rate, share)) in table {
            let policy = Policy { name: "p".into(), per: Per::User, limit: Limit { per_minute, depth } };
            let scaled = share_of(&Take { policy: &policy, owner: "user:a", root: "user:a", cost }, members);
            assert_eq!(scaled.limit, Limit { per_minute: rate, depth: share }, "{per_minute} {depth} {cost} {members}");
            assert_eq!(scaled.name, policy.name);
        }
    }

    #[test]
    fn all_shares_together_admit_no_more_than_the_whole() {
        let policy = Policy { name: "p".into(), per: Per::User, limit: Limit { per_minute: 600, depth: 40 } };
        let takes = [Take { policy: &policy, owner: "user:a", root: "user:a", cost: 1 }];
        let members = Arc::new(AtomicU32::new(4));
        let folders: Vec<_> = (0..4).map(|_| folder()).collect();
        let shares: Vec<LocalShare> =
            folders.iter().map(|folder| LocalShare::new(LocalBuckets::new(Arc::new(open(folder.path()))), Arc::clone(&members))).collect();
        for tenth in 0..=100 {
            let now = NOON.plus(Duration::from_millis(100 * tenth));
            for share in &shares {
                while share.take_now(&takes, now).unwrap().admitted {}
            }
        }
        let admitted: u64 = shares.iter().map(|share| share.status().admitted).sum();
        assert_eq!(admitted, 40 + 100, "depth, and ten seconds at ten a second");
        assert!(shares.iter().all(|share| share.status().refused == 101 && share.status().failures == 0));
    }
}
