//! The body of a refusal, from its row and its particulars to the form that a route asks for.

use std::borrow::Cow;

use crate::check::decide::Particulars;
use crate::check::reasons::Row;
use crate::model::refusal;
pub use crate::model::refusal::Body;
use crate::model::request::Method;
use crate::model::route::ErrorFormat;

/// What a client may know of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    pub row: Row,
    pub particulars: &'a Particulars,
    pub request_id: &'a str,
}

/// The refusal in the form asked for.
pub fn write_body(format: ErrorFormat, refusal: &Refusal<'_>) -> Body {
    let Row { code, text, http, .. } = refusal.row;
    refusal::write_body(
        format,
        &refusal::Refusal {
            status: http,
            code,
            message: text,
            details: details(refusal.particulars),
            violated: violated(refusal.particulars),
            request_id: refusal.request_id,
        },
    )
}

fn details(particulars: &Particulars) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (field, issue) = match particulars {
        Particulars::None | Particulars::Link(_) | Particulars::RetryAfter(_) | Particulars::Limits(_) => return None,
        Particulars::Field { field, issue } => (*field, Cow::Borrowed(&**issue)),
        Particulars::Methods(methods) => {
            let methods: Vec<&str> = methods.iter().copied().map(Method::as_str).collect();
            ("method", Cow::Owned(format!("allowed here: {}", methods.join(", "))))
        }
        Particulars::Scopes(scopes) => ("scope", Cow::Owned(format!("required here: {scopes}"))),
        Particulars::Versions(versions) => ("API-Version", Cow::Owned(format!("there are: {}", versions.join(", ")))),
    };
    Some((Cow::Borrowed(field), issue))
}

/// The names of the buckets that are empty.
fn violated(particulars: &Particulars) -> Vec<&str> {
    match particulars {
        Particulars::Limits(admission) => {
            let empty = admission.levels().iter().filter(|bucket| bucket.level.remaining == 0);
            empty.map(|bucket| &*bucket.policy).collect()
        }
        Particulars::None
        | Particulars::Link(_)
        | Particulars::Field { .. }
        | Particulars::Methods(_)
        | Particulars::Scopes(_)
        | Particulars::Versions(_)
        | Particulars::RetryAfter(_) => Vec::new(),
    }
}
