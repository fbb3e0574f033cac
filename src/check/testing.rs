//! Verdicts for the tests of doors, which can make none themselves.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::check::Gate;
use crate::check::decide::Grant;
use crate::check::decide::decide;
use crate::check::guard::Guard;
use crate::check::meter::Counted;
use crate::check::prepare::Prepared;
use crate::check::reasons::Reason;
use crate::check::throttle::Admission;
use crate::check::throttle::PolicyLevel;
use crate::jose::Assertions;
use crate::jose::Tokens;
use crate::model::caller::Caller;
use crate::model::route::Route;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::NotCounted;
use crate::model::usage::Tally;
use crate::secrets::Peppers;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;

/// What a test's grant sets and removes.
pub(crate) struct Edits<'r> {
    pub(crate) set: &'r [(&'r str, &'r str)],
    pub(crate) remove: &'r [&'r str],
    pub(crate) remove_query: Option<&'r str>,
    pub(crate) response: &'r [(&'static str, &'r str)],
}

pub(crate) fn grant<'r>(route: &'r Route, caller: Option<Arc<Caller>>, edits: &Edits<'r>, admission: Admission) -> Grant<'r> {
    let reason = if caller.is_some() { Reason::Ok } else { Reason::Public };
    let set = edits.set.iter().map(|(name, value)| (Arc::from(*name), Cow::Borrowed(*value))).collect();
    let remove = edits.remove.iter().map(|name| Arc::from(*name)).collect();
    let response = edits.response.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let prepared = Prepared::for_test((reason, route, caller), set, remove, edits.remove_query.map(Arc::from), response);
    decide(prepared, admission, Counted::for_test())
}

pub(crate) fn admission(levels: Vec<PolicyLevel>, retry_after: Option<Duration>) -> Admission {
    Admission::for_test(levels, retry_after)
}

/// A gate over these facts that limits and counts nobody, for doors that judge their own callers.
pub(crate) fn gate_over(facts: Arc<dyn Facts>, peppers: Arc<Peppers>, now: Timestamp) -> Gate {
    Gate {
        facts,
        last_known: None,
        limits: Arc::new(Unlimited),
        local_share: None,
        ledger: Arc::new(Uncounted),
        tokens: Arc::new(Tokens::new(100)),
        assertions: Arc::new(Assertions::ephemeral(now).unwrap()),
        peppers,
        guard: Guard::new(),
    }
}

#[derive(Debug)]
struct Unlimited;

impl Limits for Unlimited {
    fn take<'a>(&'a self, _takes: &'a [Take<'a>], _now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        Answer::ready(Ok(Taken { admitted: true, levels: Vec::new(), retry_after: None }))
    }
}

#[derive(Debug)]
struct Uncounted;

impl Tally for Uncounted {
    fn add(&self, _line: &Line<'_>, _cost: u32) -> Result<(), NotCounted> {
        Ok(())
    }
}
