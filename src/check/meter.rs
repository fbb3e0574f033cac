//! What to count, and the proof that it was.

use std::borrow::Cow;

use crate::check::decide::Fault;
use crate::check::find_route::Found;
use crate::check::find_route::Variables;
use crate::check::prepare::Prepared;
use crate::check::reasons::Reason;
use crate::model::caller::Caller;
use crate::model::caller::UserId;
use crate::model::route::CountAs;
use crate::model::route::TemplatePart;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::NotCounted;
use crate::model::usage::Outcome;
use crate::model::usage::RouteText;
use crate::model::usage::Tally;
use crate::usage::Ledger;

/// A label longer than this counts as [`OTHER`], so that no path can fill the ledger's dictionary with itself.
const LABEL_LIMIT_BYTES: usize = 128;

/// What the ledger calls the values beyond its limit.
const OTHER: &str = "other";

/// The request stands in the ledger (or is of a kind that is not counted, a preflight). Only [`count`] makes one.
#[derive(Debug)]
pub struct Counted(());

impl Counted {
    /// For the tests of doors, which can make no verdict themselves.
    #[cfg(test)]
    pub(in crate::check) fn for_test() -> Self {
        Self(())
    }
}

/// What one admitted request adds to the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage<'a> {
    /// A preflight asks on the browser's account, not on a user's.
    Uncounted,
    Add {
        line: Line<'a>,
        cost: u32,
    },
}

/// Under which name a request is counted, and who chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label<'r> {
    text: Cow<'r, str>,
    chosen_by: RouteText,
}

impl Default for Label<'_> {
    fn default() -> Self {
        Self { text: Cow::Borrowed(OTHER), chosen_by: RouteText::Name }
    }
}

impl Label<'_> {
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Under which name this request is counted: the route's, or what its `count_as` makes of the path.
pub fn label<'r>(found: &Found<'r, '_>) -> Label<'r> {
    match &found.route.count_as {
        CountAs::RouteName => Label { text: Cow::Borrowed(&*found.route.name), chosen_by: RouteText::Name },
        CountAs::Template(parts) => Label { text: fill(parts, &found.variables), chosen_by: RouteText::Path },
    }
}

/// What to count for a request that every room let through.
pub fn meter<'a>(prepared: &'a Prepared<'_>, label: &'a Label<'_>, now: Timestamp) -> Usage<'a> {
    if prepared.reason() == Reason::Preflight {
        return Usage::Uncounted;
    }
    Usage::Add { line: line(prepared.caller(), label, Outcome::Allowed, now), cost: prepared.route().cost }
}

/// What to count for a known caller that a room refused. Refusals count one each, whatever the request would have cost.
pub fn refusal<'a>(caller: &'a Caller, label: &'a Label<'_>, reason: Reason, now: Timestamp) -> Option<Line<'a>> {
    // What is ours to mend is nobody's refusal.
    if reason.row().http >= 500 {
        return None;
    }
    let outcome = if reason == Reason::RateLimited { Outcome::Limited } else { Outcome::Refused };
    Some(line(Some(caller), label, outcome, now))
}

/// Counts the request, or lets it go no further: what cannot be counted is not let through.
///
/// # Errors
/// [`Reason::LedgerUnavailable`].
pub fn count(usage: &Usage<'_>, ledger: &dyn Tally) -> Result<Counted, Fault> {
    let kept = match usage {
        Usage::Uncounted => Ok(()),
        Usage::Add { line, cost } => ledger.add(line, *cost),
    };
    match kept {
        Ok(()) => Ok(Counted(())),
        Err(error) => Err(Fault::new(Reason::LedgerUnavailable, error.to_string())),
    }
}

fn line<'a>(caller: Option<&'a Caller>, label: &'a Label<'_>, outcome: Outcome, now: Timestamp) -> Line<'a> {
    Line {
        hour: now.hour(),
        user: caller.map_or(UserId::anonymous_ref(), |caller| &caller.user),
        key: caller.and_then(|caller| caller.key.as_ref()),
        route: &label.text,
        route_text: label.chosen_by,
        outcome,
    }
}

fn fill<'r>(parts: &'r [TemplatePart], variables: &Variables<'_>) -> Cow<'r, str> {
    let mut text = String::new();
    for part in parts {
        match part {
            TemplatePart::Text(fixed) => text.push_str(fixed),
            TemplatePart::Variable(name) => match variables.value(name) {
                Some(value) => text.push_str(value),
                None => return Cow::Borrowed(OTHER),
            },
        }
        if text.len() > LABEL_LIMIT_BYTES {
            return Cow::Borrowed(OTHER);
        }
    }
    if text.is_empty() { Cow::Borrowed(OTHER) } else { Cow::Owned(text) }
}

impl Tally for Ledger {
    fn add(&self, line: &Line<'_>, cost: u32) -> Result<(), NotCounted> {
        Self::add(self, line, cost).map_err(|error| NotCounted(error.to_string()))
    }
}
