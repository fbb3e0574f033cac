//! The verbs: the request's way, one room a file, in walking order.

pub mod reasons;

pub mod prepare;

pub mod throttle;

pub mod meter;

pub mod decide;

#[cfg(test)]
pub(crate) mod testing;

// Placeholder until the corridor arrives.
use std::borrow::Cow;
use std::sync::Arc;

use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Fault;
use crate::check::decide::Grant;
use crate::check::decide::Particulars;
use crate::check::meter::Counted;
use crate::check::prepare::Prepared;
use crate::check::reasons::Reason;
use crate::check::throttle::Admission;
use crate::model::caller::Caller;
use crate::model::request::Request;
use crate::model::request::Single;
use crate::model::route::Auth;
use crate::model::route::PathTemplate;
use crate::model::route::Route;
use crate::model::route::Segment;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::store::Facts;

#[derive(Debug)]
pub struct Gate {
    pub facts: Arc<dyn Facts>,
}

#[derive(Debug, Default)]
pub struct Seen<'r> {
    pub route: Option<&'r Route>,
    pub caller: Option<Arc<Caller>>,
}

pub async fn check<'r>(
    request: &'r Request<'r>,
    gate: &'r Gate,
    rules: &'r Rules,
    seen: &mut Seen<'r>,
    _now: Timestamp,
) -> Result<Grant<'r>, Exit> {
    let literal = |template: &PathTemplate| {
        template.segments.iter().fold(String::new(), |path, segment| match segment {
            Segment::Literal(text) | Segment::Variable(text) => path + "/" + text,
        })
    };
    let route = rules.routes.iter().find(|route| literal(&route.matcher.path) == request.path.as_str());
    let route = &**route.ok_or_else(|| Denial::new(Reason::NoRoute))?;
    seen.route = Some(route);
    let mut set = Vec::new();
    let mut reason = Reason::Public;
    if route.auth == Auth::Required {
        let Single::Once(key) = request.headers.single("x-api-key") else {
            return Err(Denial::new(Reason::MissingCredential).into());
        };
        let key = std::str::from_utf8(key).unwrap_or_default();
        match gate.facts.key(key).await {
            Err(error) => return Err(Fault::new(Reason::StoreUnavailable, error.to_string()).into()),
            Ok(None) => return Err(Denial::with(Reason::UnknownKey, Particulars::None).into()),
            Ok(Some(_)) => {
                reason = Reason::Ok;
                set.push((Arc::from("x-user-id"), Cow::Borrowed("alice")));
            }
        }
    }
    let prepared =
        Prepared { reason, route, caller: None, set, remove: vec![Arc::from("x-org-id")], remove_query: None, response: Vec::new() };
    Ok(decide::decide(prepared, Admission { levels: Vec::new(), retry_after: None }, Counted(())))
}
