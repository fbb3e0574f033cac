//! Records judged again under a config, and where two configs part.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::Seen;
use crate::check::decide::Exit;
use crate::check::rehearse::Buckets;
use crate::check::rehearse::Rehearsed;
use crate::check::rehearse::rehearse;
use crate::jose::Assertions;
use crate::jose::ring::RingError;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::recording::BadRecord;
use crate::recording::Record;
use crate::recording::decision_of;

/// What is said of a record whose credential was never read.
const UNREAD: &str = "credential_unread";

/// One config's judge, with buckets of its own on the records' clock.
#[derive(Debug)]
pub struct Judge {
    rules: Rules,
    buckets: Buckets,
    assertions: Assertions,
    /// Records are written as checks end, so their beginnings need not be in order.
    clock: Timestamp,
}

/// How a request ends under one config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct End {
    /// `allow`, `deny`, `fault`; `unknown` where the credential decides and was not read when the request was recorded.
    pub decision: &'static str,
    pub reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What the upstream would be told, but for the signed assertion.
    #[serde(skip)]
    pub upstream: BTreeMap<String, String>,
}

impl Judge {
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(rules: Rules) -> Result<Self, RingError> {
        let rules = rules.without_assertion();
        let clock = Timestamp::from_nanos(0);
        Ok(Self { rules, buckets: Buckets::default(), assertions: Assertions::ephemeral(clock)?, clock })
    }

    /// # Errors
    /// When the record cannot be judged.
    pub fn judge(&mut self, record: &Record) -> Result<End, BadRecord> {
        self.clock = self.clock.max(record.at()?);
        let known = record.known()?;
        let headers = record.request.headers().map_err(BadRecord::Request)?;
        let request = record.request.plain(&headers).map_err(|error| BadRecord::Request(error.to_string()))?;
        let mut seen = Seen::default();
        let rehearsed = rehearse(&request, &known, &self.rules, &mut self.buckets, &self.assertions, &mut seen, self.clock);
        let route = seen.route.map(|route| route.name.to_string());
        let (reason, upstream) = match rehearsed {
            Rehearsed::Admitted(prepared, _) => {
                let set = prepared.set().iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                (prepared.reason(), set)
            }
            Rehearsed::Refused(Exit::Denied(denial)) => (denial.reason, BTreeMap::new()),
            Rehearsed::Refused(Exit::Failed(fault)) => (fault.reason, BTreeMap::new()),
            Rehearsed::CredentialUnread => {
                return Ok(End { decision: "unknown", reason: UNREAD, status: None, route, upstream: BTreeMap::new() });
            }
        };
        let row = reason.row();
        Ok(End { decision: decision_of(row.kind), reason: row.label, status: Some(row.http), route, upstream })
    }
}

/// Requests that part in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub before: End,
    pub after: End,
    /// Headers that the upstream would get with another value, where both configs let the request through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    pub count: u64,
    /// The first such line of the file.
    pub line: u64,
    /// Its method and path.
    pub request: String,
}

/// What a replay found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    pub requests: u64,
    pub different: u64,
    /// Which `before` itself judges otherwise than they were judged when they were recorded.
    pub unlike_recorded: u64,
    /// Which cannot be judged under one of the configs: the credential decides, and nobody read it.
    pub unknown: u64,
    /// Which were recorded where not all were; limits then see too few requests.
    pub sampled: u64,
    pub bad_lines: u64,
    /// The most frequent first.
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Adds one record, as both configs judge it.
    pub fn add(&mut self, line: u64, record: &Record, before: End, after: End) {
        self.requests += 1;
        self.sampled += u64::from(record.share.is_some());
        self.unknown += u64::from(before.reason == UNREAD || after.reason == UNREAD);
        self.unlike_recorded += u64::from(before.reason != record.verdict.reason || before.route != record.verdict.route);
        let headers = changed(&before, &after);
        let is_same = (before.reason, &before.route) == (after.reason, &after.route);
        if is_same && headers.is_empty() {
            return;
        }
        self.different += 1;
        let fits = |known: &&mut Difference| {
            let same_ends = known.before.reason == before.reason && known.after.reason == after.reason;
            same_ends && known.before.route == before.route && known.after.route == after.route && known.headers == headers
        };
        match self.differences.iter_mut().find(fits) {
            Some(known) => known.count += 1,
            None => self.differences.push(Difference { before, after, headers, count: 1, line, request: record.request.line() }),
        }
    }

    /// The most frequent differences first.
    pub fn finish(&mut self) {
        self.differences.sort_by_key(|difference| (std::cmp::Reverse(difference.count), difference.line));
    }
}

/// Only what goes upstream on both sides can differ there.
fn changed(before: &End, after: &End) -> Vec<String> {
    if before.decision != "allow" || after.decision != "allow" {
        return Vec::new();
    }
    let names = before.upstream.keys().chain(after.upstream.keys());
    let mut changed: Vec<String> = names.filter(|name| before.upstream.get(*name) != after.upstream.get(*name)).cloned().collect();
    changed.sort_unstable();
    changed.dedup();
    changed
}
