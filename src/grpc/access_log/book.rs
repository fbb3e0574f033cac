//! Counts what Envoy's access log tells, on a thread of its own: into the ledger by user and route, into metrics by route.
//!
//! The names come back from Envoy as our own answers gave them, but whoever reaches the listener could send others. So a route that
//! the config does not have is `other`, a user's name that we could not have given is malformed, and for users whom this ledger does not
//! count already only so many lines a hour are begun.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message as _;

use crate::clock::Clock;
use crate::grpc::access_log::entry;
use crate::grpc::access_log::entry::Answered;
use crate::grpc::access_log::entry::Read;
use crate::grpc::access_log::wire::Batch;
use crate::model::caller::UserId;
use crate::model::rules::Rules;
use crate::model::time::Hour;
use crate::model::usage::Line;
use crate::model::usage::Outcome;
use crate::model::usage::RouteText;
use crate::model::usage::Tally;
use crate::telemetry::access_log_metrics::AccessLogMetrics;
use crate::telemetry::access_log_metrics::DropReason;
use crate::telemetry::access_log_metrics::EntryKind;
use crate::telemetry::access_log_metrics::Unknown;

/// More entries than this in one message are dropped; one of ours takes some 150 bytes, so an Envoy's message never has as many.
pub(super) const ENTRIES_MAX: usize = 4096;
/// Lines a hour of users whom this sidecar did not admit itself: with several behind one name, Envoy logs to another than it asks.
const STRANGERS_LINES_MAX: usize = 10_000;
/// What is counted of routes that are not in the config (any more).
const OTHER: &str = "other";

/// The one who counts.
#[derive(Debug)]
pub(super) struct Book {
    ledger: Arc<dyn Tally>,
    rules: Arc<ArcSwap<Rules>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<AccessLogMetrics>,
    routes: Routes,
    users: Users,
}

/// The names of the rules' routes.
#[derive(Debug)]
struct Routes {
    of: Arc<Rules>,
    names: HashSet<Arc<str>>,
}

/// The users of an hour.
#[derive(Debug)]
struct Users {
    hour: Hour,
    known: HashMap<Arc<str>, UserId>,
    /// Who was none of the ledger's when the hour first named them; what is counted of them here makes them no less strange.
    are_strange: HashSet<UserId>,
    strangers: HashSet<(UserId, Arc<str>, Outcome)>,
}

impl Book {
    pub(super) fn new(ledger: Arc<dyn Tally>, rules: Arc<ArcSwap<Rules>>, clock: Arc<dyn Clock>, metrics: Arc<AccessLogMetrics>) -> Self {
        let routes = Routes::of(rules.load_full());
        let users = Users::of(clock.now().hour());
        Self { ledger, rules, clock, metrics, routes, users }
    }

    /// Counts everything in a message.
    pub(super) fn enter(&mut self, message: Bytes) {
        let Ok(batch) = Batch::decode(message) else {
            return self.metrics.dropped(DropReason::Malformed, 1);
        };
        self.follow();
        if let Some(tcp) = batch.tcp {
            self.metrics.entries(EntryKind::Tcp, tcp.entries.len());
        }
        let mut entries = batch.http.map(|http| http.entries).unwrap_or_default();
        if entries.len() > ENTRIES_MAX {
            self.metrics.dropped(DropReason::TooMany, entries.len() - ENTRIES_MAX);
            entries.truncate(ENTRIES_MAX);
        }
        for bytes in entries {
            match entry::read(bytes) {
                Read::Answered(answered) => self.count(&answered),
                Read::Refused => self.metrics.entries(EntryKind::Refused, 1),
                Read::Preflight => self.metrics.entries(EntryKind::Preflight, 1),
                Read::Unjudged => self.metrics.entries(EntryKind::Unjudged, 1),
                Read::Unfinished => self.metrics.entries(EntryKind::Unfinished, 1),
                Read::Malformed => self.metrics.dropped(DropReason::Malformed, 1),
            }
        }
    }

    /// Takes up the rules and the hour as they are now.
    fn follow(&mut self) {
        let rules = self.rules.load();
        if !Arc::ptr_eq(&rules, &self.routes.of) {
            self.routes = Routes::of(Arc::clone(&rules));
        }
        let hour = self.clock.now().hour();
        if hour != self.users.hour {
            self.users = Users::of(hour);
        }
    }

    fn count(&mut self, answered: &Answered) {
        let route = self.route(answered.route.as_ref());
        let outcome = Outcome::of_status(answered.status);
        let Some(user) = self.user(answered.user.as_ref(), &route, outcome) else {
            return self.metrics.dropped(DropReason::Malformed, 1);
        };
        let line = Line { hour: self.users.hour, user: &user, key: None, route: &route, route_text: RouteText::Name, outcome };
        if self.ledger.add(&line, 1).is_err() {
            return self.metrics.dropped(DropReason::Ledger, 1);
        }
        self.metrics.entries(EntryKind::Counted, 1);
        self.metrics.answered(&route, outcome, answered.duration, answered.request_bytes, answered.response_bytes);
    }

    fn route(&self, name: Option<&Bytes>) -> Arc<str> {
        let known = name.and_then(|name| std::str::from_utf8(name).ok()).and_then(|name| self.routes.names.get(name));
        known.map_or_else(
            || {
                self.metrics.unknown(Unknown::Route);
                Arc::from(OTHER)
            },
            Arc::clone,
        )
    }

    /// None for a name that no answer of ours gave.
    fn user(&mut self, name: Option<&Bytes>, route: &Arc<str>, outcome: Outcome) -> Option<UserId> {
        let Some(name) = name else { return Some(UserId::anonymous()) };
        let name = std::str::from_utf8(name).ok()?;
        if let Some(known) = self.users.known.get(name) {
            return Some(known.clone());
        }
        let user = UserId::parse(name)?;
        let line = (user.clone(), Arc::clone(route), outcome);
        if self.users.strangers.contains(&line) {
            return Some(user);
        }
        if self.ledger.knows_user(name) && !self.users.are_strange.contains(&user) {
            self.users.known.insert(Arc::from(name), user.clone());
            return Some(user);
        }
        if self.users.strangers.len() < STRANGERS_LINES_MAX {
            self.users.are_strange.insert(user.clone());
            self.users.strangers.insert(line);
            return Some(user);
        }
        self.metrics.unknown(Unknown::User);
        Some(UserId::anonymous())
    }
}

impl Users {
    fn of(hour: Hour) -> Self {
        Self { hour, known: HashMap::new(), are_strange: HashSet::new(), strangers: HashSet::new() }
    }
}

impl Routes {
    fn of(rules: Arc<Rules>) -> Self {
        let names = rules.routes.iter().map(|route| Arc::clone(&route.name)).collect();
        Self { of: rules, names }
    }
}
