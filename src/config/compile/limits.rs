//! Buckets: tiers, limits of routes, the guard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::compile::doors;
use crate::config::compile::names;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::file::ConfigFile;
use crate::config::file::identity::LimitFile;
use crate::config::file::identity::PerFile;
use crate::config::file::identity::TierFile;
use crate::config::file::route::GuardFile;
use crate::config::file::route::GuardLimitFile;
use crate::config::file::route::HeaderLimitsFile;
use crate::config::file::scalars::Rate;
use crate::config::file::scalars::Whole;
use crate::model::quota::FILL_NANOS_MAX;
use crate::model::quota::Limit;
use crate::model::quota::Per;
use crate::model::quota::Policy;
use crate::model::request::HeaderSize;
use crate::model::rules::GuardLimits;
use crate::model::rules::HEADERS_OF_ENVOY;
use crate::model::rules::Tier;
use crate::model::rules::TierState;

/// A revocation that goes unnoticed for longer is none.
const LONGEST_GRACE: Duration = Duration::from_secs(600);

pub(super) fn tiers(desk: &mut Desk<'_>, spot: &Spot, written: &BTreeMap<String, TierFile>) -> BTreeMap<Arc<str>, Tier> {
    let mut tiers = BTreeMap::new();
    for (name, tier) in written {
        let spot = spot.key(name);
        if !names::is_plain_name(name) {
            desk.error_expecting(&spot, "this is no tier name", "1 to 64 of `a-z A-Z 0-9 _ -`");
        }
        let name: Arc<str> = Arc::from(name.as_str());
        let mut policies = Vec::new();
        match (tier.requests_per_minute, tier.burst) {
            (Some(per_minute), burst) => {
                let limit = limit(desk, &spot, per_minute, burst);
                policies.extend(limit.map(|limit| Policy { name: Arc::clone(&name), per: Per::Owner, limit }));
            }
            (None, Some(_)) if desk.is_whole(&spot) => desk.error(&spot.key("burst"), "`burst` is given without `requests_per_minute`"),
            (None, _) => {}
        }
        let more = named_limits(desk, &spot.key("limits"), &tier.limits, |limit| format!("{name}:{limit}"));
        for (index, policy) in &more {
            match policy.per {
                Per::Route | Per::Address => {
                    let spot = spot.key("limits").index(*index).key("per");
                    desk.error_expecting(&spot, "a tier knows callers only; this belongs to a route", "owner, user, organization or key");
                }
                Per::Owner | Per::User | Per::Organization | Per::Key => {}
            }
        }
        policies.extend(more.into_iter().map(|(_, policy)| policy));
        let state = if tier.disabled == Some(true) { TierState::Disabled } else { TierState::Active };
        let grace = doors::period(desk, &spot.key("grace"), tier.grace, Duration::ZERO, Duration::ZERO..=LONGEST_GRACE);
        tiers.insert(Arc::clone(&name), Tier { name, policies, state, grace });
    }
    tiers
}

/// Complains where the file has no tier of this name.
pub(super) fn known_tier(desk: &mut Desk<'_>, spot: &Spot, tier: &str, file: &ConfigFile) {
    if !file.tiers.contains_key(tier) {
        desk.unknown_in(&Spot::default().key("tiers"), spot, "tier", tier, file.tiers.keys().map(String::as_str));
    }
}

/// A list of limits, each with its position in the file.
pub(super) fn named_limits(
    desk: &mut Desk<'_>,
    spot: &Spot,
    written: &[LimitFile],
    policy_name: impl Fn(&str) -> String,
) -> Vec<(usize, Policy)> {
    let mut policies: Vec<(usize, Policy)> = Vec::with_capacity(written.len());
    for (index, file) in written.iter().enumerate() {
        let spot = spot.index(index);
        if !names::is_plain_name(&file.name) {
            desk.error_expecting(&spot.key("name"), "this is no name of a limit", "1 to 64 of `a-z A-Z 0-9 _ -`");
        }
        let name: Arc<str> = Arc::from(policy_name(&file.name));
        if policies.iter().any(|(_, other)| other.name == name) {
            desk.error(&spot.key("name"), "two limits of this list have the same name");
        }
        let per = match file.per {
            Some(PerFile::Owner) | None => Per::Owner,
            Some(PerFile::User) => Per::User,
            Some(PerFile::Organization) => Per::Organization,
            Some(PerFile::Key) => Per::Key,
            Some(PerFile::Route) => Per::Route,
            Some(PerFile::Address) => Per::Address,
        };
        if let Some(limit) = limit(desk, &spot, file.requests_per_minute, file.burst) {
            policies.push((index, Policy { name, per, limit }));
        }
    }
    policies
}

pub(super) fn guard(desk: &mut Desk<'_>, spot: &Spot, file: &GuardFile) -> Option<GuardLimits> {
    let mut of = |key: &str, written: Option<&GuardLimitFile>, default: Limit| match written {
        Some(file) => limit(desk, &spot.key(key), file.failures_per_minute, file.burst),
        None => Some(default),
    };
    let per_address = of("per_address", file.per_address.as_ref(), Limit { per_minute: 60, depth: 30 });
    let per_key_prefix = of("per_key_prefix", file.per_key_prefix.as_ref(), Limit { per_minute: 30, depth: 15 });
    Some(GuardLimits { per_address: per_address?, per_key_prefix: per_key_prefix? })
}

pub(super) fn headers(file: &HeaderLimitsFile) -> HeaderSize {
    let lines = Whole::or(file.max_headers_count, HEADERS_OF_ENVOY.lines);
    let bytes = file.max_request_headers_kb.map_or(HEADERS_OF_ENVOY.bytes, |kib| kib.0 * 1024);
    HeaderSize { lines, bytes }
}

/// `spot` is the mapping that holds them.
fn limit(desk: &mut Desk<'_>, spot: &Spot, per_minute: Rate, burst: Option<Rate>) -> Option<Limit> {
    let limit = Limit { per_minute: per_minute.0, depth: burst.unwrap_or(per_minute).0 };
    // Longer than anybody would wait, and longer than a shared bucket can be counted exactly.
    let is_filled = limit.fill_nanos() <= FILL_NANOS_MAX;
    if !is_filled {
        desk.error(&spot.key("burst"), "at this rate the bucket takes more than 100 days to fill; raise the rate or lower the burst");
    }
    is_filled.then_some(limit)
}
