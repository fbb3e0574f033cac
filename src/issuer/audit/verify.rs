//! `GET /v1/audit/verify`: whether every chain is as it was written. For whoever sees everything.

use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::audit::chain::Head;
use crate::issuer::audit::finish;
use crate::issuer::audit::record::AuditRecord;
use crate::issuer::audit::record::KEPT;
use crate::issuer::audit::record::NOTHING;
use crate::issuer::audit::record::Proven;
use crate::issuer::audit::record::entry_id;
use crate::issuer::audit::record::read_entry_id;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::hex::read_hex;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::Stored;
use crate::store::codec::Shelved;

/// Entries that one request looks at.
const TOGETHER: usize = 5_000;
const PAGE: usize = 500;
/// Findings that one answer names; the number of all of them is told.
const FINDINGS_MAX: usize = 100;
/// By how much the store's clock may be ahead of the clock that dated an entry.
const CLOCKS_APART: Duration = Duration::from_secs(3600);

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AuditReport, example = json!({"entries": 120, "chains": 2, "whole": true, "findings": [], "unproven": 0, "next": null}))]
pub(in crate::issuer) struct Report {
    /// Entries that were looked at.
    entries: usize,
    /// Chains that begin among them.
    chains: usize,
    /// Whether nothing was found.
    whole: bool,
    findings: Vec<Finding>,
    /// Entries whose pepper is not configured any more: their order was checked, their authorship was not.
    unproven: usize,
    /// Hand it in as `after` to go on; none: this was the end.
    next: Option<String>,
}

/// Something that is not as it was written.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AuditFinding)]
struct Finding {
    /// The entry at which it shows.
    entry: String,
    what: &'static str,
}

/// What the walk remembers of the entry before.
#[derive(Debug, Default)]
struct Walk {
    before: Option<Head>,
    chains: usize,
    unproven: usize,
    findings: Vec<Finding>,
}

pub(in crate::issuer) const READERS: [Check<Actor, Problem>; 1] = [Check {
    name: "the chains are operators' and admins' to walk",
    run: |actor| {
        let missing = || Problem::new(Code::Forbidden, format!("this needs the scope {ADMIN}: the chains are everybody's"));
        actor.holds(ADMIN).then_some(()).ok_or_else(missing)
    },
}];

pub(super) async fn verify(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    run(&READERS, &actor)?;
    let mut parameters = Parameters::read(query.as_deref())?;
    let is_entry = |text: &str| read_entry_id(text).is_some().then(|| text.to_owned());
    let mut after = parameters.parsed("after", is_entry, "must be the `next` of the answer before")?;
    parameters.finish("after")?;
    let now = state.clock.now();
    finish(&state).await;
    // Asked before the walk: what is added meanwhile must not look like a chain that is too long.
    let own = state.audit.head().await;
    let mut walk = Walk::default();
    if let Some(after) = &after {
        walk.begin_behind(after, state.records.get(&AuditRecord::place(after)).await?);
    }
    let mut entries = 0;
    while entries < TOGETHER {
        let page = state.records.range(Family::Audit, after.as_deref(), PAGE).await?;
        entries += page.records.len();
        for (place, stored) in &page.records {
            walk.step(place, stored, own.as_ref(), &state.peppers, now);
        }
        after = page.next;
        if after.is_none() {
            walk.end_of_chain(own.as_ref());
            break;
        }
    }
    let Walk { chains, unproven, mut findings, .. } = walk;
    let whole = findings.is_empty();
    findings.truncate(FINDINGS_MAX);
    if !whole {
        tracing::error!(findings = findings.len(), "the audit log is not as it was written");
    }
    Ok(Json(Report { entries, chains, whole, findings, unproven, next: after }).into_response())
}

impl Walk {
    /// Goes on where an answer before stopped.
    fn begin_behind(&mut self, id: &str, stored: Option<Stored>) {
        let record = stored.and_then(|stored| AuditRecord::decode(id, &stored.bytes).ok());
        self.before = record.and_then(|record| Some(Head::at(read_entry_id(id)?.0, &record)));
    }

    fn step(&mut self, place: &RecordKey, stored: &Stored, own: Option<&Head>, peppers: &Peppers, now: Timestamp) {
        let Some((instance, sequence)) = read_entry_id(&place.id) else {
            return self.find(&place.id, "it is no entry of an audit log");
        };
        if self.before.as_ref().is_none_or(|before| *before.instance != *instance) {
            self.end_of_chain(own);
            self.chains += 1;
            self.before = None;
        }
        let Ok(record) = AuditRecord::decode(&place.id, &stored.bytes) else {
            self.find(&place.id, "it cannot be read");
            self.before = None;
            return;
        };
        match record.prove(peppers) {
            Proven::Ours => {}
            Proven::PepperGone => self.unproven += 1,
            Proven::Forged => self.find(&place.id, "it was changed, or made by somebody else"),
        }
        let previous = read_hex(&record.previous);
        let wrong = match &self.before {
            Some(before) if before.next != sequence => Some("entries before it are missing"),
            Some(before) if previous != Some(before.previous) || record.previous_at != before.previous_at => {
                Some("the entry before it is not the one that was there")
            }
            Some(before) if record.at < before.previous_at => Some("it is older than the entry before it"),
            Some(_) => None,
            None if sequence == 0 && previous == Some(NOTHING) => None,
            None if sequence == 0 => Some("it names an entry before it, and is the first"),
            // The beginning of a chain goes when it is old enough, and not before.
            None if record.previous_at.plus(KEPT) <= now.plus(CLOCKS_APART) => None,
            None => Some("entries before it are missing"),
        };
        if let Some(what) = wrong {
            self.find(&place.id, what);
        }
        self.before = Some(Head::at(instance, &record));
    }

    /// Of the chain that this process writes it knows the end.
    fn end_of_chain(&mut self, own: Option<&Head>) {
        let shorter = match (&self.before, own) {
            (Some(before), Some(own)) if before.instance == own.instance && before.next < own.next => Some(before.next),
            (Some(_) | None, Some(_) | None) => None,
        };
        if let (Some(next), Some(own)) = (shorter, own) {
            self.find(&entry_id(&own.instance, next), "it is missing, and all after it");
        }
    }

    fn find(&mut self, entry: &str, what: &'static str) {
        self.findings.push(Finding { entry: entry.to_owned(), what });
    }
}

impl Head {
    fn at(instance: &str, record: &AuditRecord) -> Self {
        let start = Self { instance: instance.into(), next: 0, previous: NOTHING, previous_at: Timestamp::default() };
        start.behind(record)
    }
}
