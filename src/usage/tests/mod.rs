//! Tests of the folder as a whole, and what they share.

mod archive;
mod buckets;
mod counting;
mod damage;
mod history;

use std::path::Path;

use tempfile::TempDir;

use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::Outcome;
use crate::model::usage::RouteText;
use crate::usage::Ledger;
use crate::usage::LedgerOptions;
use crate::usage::live::Position;

/// 2026-01-15 12:00:00 UTC.
pub(in crate::usage) const NOON: Timestamp = Timestamp::from_unix_seconds(1_768_478_400);

/// A folder on a disk, since the ledger refuses any other, and the system's temporary folder may be in memory.
pub(in crate::usage) fn folder() -> TempDir {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).unwrap();
    TempDir::new_in(target).unwrap()
}

/// Segments of 64 slots.
pub(in crate::usage) fn small(folder: &Path) -> LedgerOptions {
    LedgerOptions { segment_bytes: 8192, ..LedgerOptions::new(folder) }
}

pub(in crate::usage) fn open(folder: &Path) -> Ledger {
    Ledger::open(small(folder), NOON).unwrap()
}

pub(in crate::usage) fn user(name: &str) -> UserId {
    UserId::from_counted(&name.into())
}

/// A line of an admitted request at noon, without a key.
pub(in crate::usage) fn line<'a>(user: &'a UserId, route: &'a str) -> Line<'a> {
    Line { hour: NOON.hour(), user, key: None, route, route_text: RouteText::Name, outcome: Outcome::Allowed }
}

pub(in crate::usage) fn with_key<'a>(user: &'a UserId, key: &'a KeyId, route: &'a str) -> Line<'a> {
    Line { key: Some(key), ..line(user, route) }
}

/// Every line's count, by user and route, whatever its hour, key and outcome.
pub(in crate::usage) fn counts(ledger: &Ledger) -> std::collections::BTreeMap<(String, String), u64> {
    let mut counts = std::collections::BTreeMap::new();
    for stated in ledger.state(Position::default(), usize::MAX, |_, _, _| true).0 {
        *counts.entry((stated.user.to_string(), stated.route.to_string())).or_default() += stated.count;
    }
    counts
}
