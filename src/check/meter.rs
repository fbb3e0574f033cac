//! What to count, and the proof that it was.

use std::borrow::Cow;

use crate::check::decide::Fault;
use crate::check::find_route::Found;
use crate::check::find_route::Variables;
use crate::check::prepare::Prepared;
use crate::check::reasons::Reason;
use crate::model::caller::Caller;
use crate::model::caller::UserId;
use crate::model::key::KeyId;
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
    match prepared.reason().outcome() {
        None => Usage::Uncounted,
        Some(outcome) => Usage::Add { line: line(prepared.caller(), label, outcome, now), cost: prepared.route().cost },
    }
}

/// What to count for a known caller that a room refused. Refusals count one each, whatever the request would have cost.
pub fn refusal<'a>(caller: &'a Caller, label: &'a Label<'_>, reason: Reason, now: Timestamp) -> Option<Line<'a>> {
    Some(line(Some(caller), label, reason.outcome()?, now))
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

    fn note_use(&self, name: &KeyId, route: &str, at: Timestamp) {
        self.note(name, route, at);
    }

    fn knows_user(&self, user: &str) -> bool {
        Self::knows_user(self, user)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::check::doubles::Book;
    use crate::check::doubles::NOW;
    use crate::check::doubles::caller;
    use crate::check::find_route::find_route;
    use crate::check::reasons::Kind;
    use crate::check::samples;
    use crate::check::testing::Edits;
    use crate::check::testing::admission;
    use crate::check::testing::grant;
    use crate::model::request::Method;
    use crate::model::request::Request;
    use crate::model::route::Route;
    use crate::model::route::parse_template;
    use crate::model::route::samples::route;

    fn label_of(template: &str, request: &Request<'_>) -> (String, RouteText) {
        let count_as = match template {
            "" => CountAs::RouteName,
            template => CountAs::Template(parse_template(template).unwrap()),
        };
        let rules = samples::rules(vec![Route { count_as, ..route("calls", &[], "/v1/{service}/{endpoint}") }]);
        let found = find_route(request, &rules).unwrap();
        let label = label(&found);
        (label.as_str().to_owned(), label.chosen_by)
    }

    #[test]
    fn requests_are_counted_under_the_routes_name_or_what_its_template_makes_of_the_path() {
        let long = format!("/v1/{}/{}", "s".repeat(64), "e".repeat(64));
        let table = [
            ("", "/v1/location/track", "calls", RouteText::Name),
            ("{service}/{endpoint}", "/v1/location/track", "location/track", RouteText::Path),
            ("{service}", "/v1/location/track", "location", RouteText::Path),
            ("fixed", "/v1/location/track", "fixed", RouteText::Path),
            ("{service}/{endpoint}", &long, "other", RouteText::Path),
        ];
        for (template, path, text, chosen_by) in table {
            assert_eq!(label_of(template, &samples::request(Method::Get, path, &[])), (text.to_owned(), chosen_by), "{template} {path}");
        }
        let elsewhere = Request { chosen_route: Some("calls"), ..samples::request(Method::Get, "/elsewhere", &[]) };
        assert_eq!(label_of("{service}", &elsewhere), ("other".to_owned(), RouteText::Path));
        assert_eq!(Label::default().as_str(), "other");
    }

    fn on_a_grant<R>(reason_is_preflight: bool, judge: impl FnOnce(&Prepared<'_>, &Label<'_>) -> R) -> R {
        let route = Route { cost: 5, ..route("r", &[], "/x") };
        let edits = Edits { set: &[], remove: &[], remove_query: None, response: &[] };
        let label = Label { text: Cow::Borrowed("r"), chosen_by: RouteText::Name };
        if reason_is_preflight {
            let prepared = Prepared::for_test((Reason::Preflight, &route, None), Vec::new(), Vec::new(), None, Vec::new());
            return judge(&prepared, &label);
        }
        let grant = grant(&route, None, &edits, admission(Vec::new(), None));
        judge(grant.prepared(), &label)
    }

    #[test]
    fn an_admitted_request_adds_its_cost_and_a_preflight_nothing() {
        on_a_grant(false, |prepared, label| {
            let usage = meter(prepared, label, NOW);
            let line = Line {
                hour: NOW.hour(),
                user: UserId::anonymous_ref(),
                key: None,
                route: "r",
                route_text: RouteText::Name,
                outcome: Outcome::Allowed,
            };
            assert_eq!(usage, Usage::Add { line, cost: 5 });
        });
        on_a_grant(true, |prepared, label| assert_eq!(meter(prepared, label, NOW), Usage::Uncounted));
    }

    #[test]
    fn what_cannot_be_counted_is_not_let_through() {
        on_a_grant(false, |prepared, label| {
            let usage = meter(prepared, label, NOW);
            let book = Book::default();
            assert!(count(&usage, &book).is_ok());
            assert_eq!(book.lines(), ["anonymous - r allowed 5"]);
            let full = Book { full: true, ..Book::default() };
            assert_eq!(count(&usage, &full).unwrap_err().reason, Reason::LedgerUnavailable);
            assert!(count(&Usage::Uncounted, &full).is_ok());
        });
    }

    #[test]
    fn refusals_are_counted_apart_and_only_those_that_are_the_callers_to_mend() {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        let known = caller();
        for reason in Reason::ALL.iter().filter(|reason| reason.row().kind != Kind::Allow) {
            let label = Label::default();
            let outcome = refusal(&known, &label, *reason, NOW).map(|line| line.outcome);
            let expected = match reason.row().http {
                503 => None,
                429 if *reason == Reason::RateLimited => Some(Outcome::Limited),
                _ => Some(Outcome::Refused),
            };
            assert_eq!(outcome, expected, "{reason:?}");
            *kinds.entry(outcome.map_or("none", Outcome::as_str)).or_default() += 1;
        }
        assert_eq!(kinds.get("limited"), Some(&1));
    }
}
