//! What the request shows of its caller, and whether its form is possible. Nothing is proven here, and no error repeats a byte of it.
//!
//! Cookies are never read. On a public route nothing is read at all.

mod form;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use crate::check::take_credential::form::Credential;
pub use crate::check::take_credential::form::credential_of;

use crate::check::decide::Denial;
use crate::check::decide::Particulars;
use crate::check::find_route::Found;
use crate::check::reasons::Reason;
use crate::check::take_credential::form::could_open;
use crate::check::take_credential::form::is_token68;
use crate::check::take_credential::form::malformed;
use crate::model::query::Case;
use crate::model::query::decodes_to;
use crate::model::query::parameters;
use crate::model::request::Request;
use crate::model::request::Single;
use crate::model::route::Auth;
use crate::model::route::CredentialUpstream;
use crate::model::route::QueryToken;
use crate::model::rules::Place;
use crate::model::rules::Rules;

/// Longest header value or query parameter that is looked at as a credential; the check stands before any decoding or hashing.
pub const CREDENTIAL_LIMIT_BYTES: usize = 8 * 1024;

/// Query parameters that clients are known to put credentials into, whatever a route says.
const CREDENTIAL_PARAMETERS: [&str; 6] = ["access_token", "api_key", "apikey", "api-key", "x-api-key", "x_api_key"];

/// What was shown, and what to take out of the request before it goes upstream.
#[derive(Clone)]
pub struct Shown<'m> {
    pub credential: Credential<'m>,
    /// Seed 003's pair: the key that came with an agent's token, and must belong to it.
    pub paired_key: Option<&'m str>,
    /// Request headers to remove.
    pub headers: Vec<Arc<str>>,
    /// The query parameter to remove.
    pub query_parameter: Option<Arc<str>>,
}

/// What the request shows of its caller.
///
/// # Errors
/// 401 for a credential of impossible form, one in the query where that is not allowed, and none where one is required; 400 for two
/// that differ.
pub fn take_credential<'m>(request: &Request<'m>, found: &Found<'_, '_>, rules: &Rules) -> Result<Shown<'m>, Denial> {
    let route = found.route;
    if route.auth == Auth::Public || found.preflight() {
        return Ok(Shown::alone(Credential::None));
    }
    let in_headers = take_from_headers(request, &rules.places)?;
    let in_query = take_from_query(request.query, &route.query_token, rules)?;
    let (text, paired_key, query_parameter) = match (in_headers.first, in_query) {
        (Some(_), InQuery::Allowed { .. } | InQuery::Leaked) => {
            // RFC 6750 section 2: one method of sending a token, even where both send the same.
            return Err(conflicting());
        }
        // Beside a header such a parameter is the application's own.
        (Some((_, text)), InQuery::Nothing | InQuery::Refused) => (text, in_headers.paired_key, None),
        (None, InQuery::Allowed { text, parameter }) => (text, None, Some(parameter)),
        (None, in_query) => return without_text(request, route.auth, in_query, rules),
    };
    let credential = credential_of(text, rules)?;
    if let Some(paired_key) = paired_key {
        // A damaged key is no better for standing beside a token.
        credential_of(paired_key, rules)?;
    }
    let headers = match route.credential_upstream {
        CredentialUpstream::Removed => in_headers.present,
        CredentialUpstream::Kept => Vec::new(),
    };
    Ok(Shown { credential, paired_key, headers, query_parameter })
}

/// A key's text that stood somewhere else than in a header.
///
/// # Errors
/// 401 for a text that can be no key.
pub(in crate::check) fn show_key<'m>(text: &'m str, rules: &Rules) -> Result<Shown<'m>, Denial> {
    if text.len() > CREDENTIAL_LIMIT_BYTES || !is_token68(text) {
        return Err(malformed("the text can be no key"));
    }
    match credential_of(text, rules)? {
        credential @ (Credential::Own(_) | Credential::Foreign(_)) => Ok(Shown::alone(credential)),
        Credential::None | Credential::Token(_) | Credential::Handle { .. } | Credential::Opaque(_) | Credential::Principal(_) => {
            Err(malformed("the text can be no key"))
        }
    }
}

fn without_text<'m>(request: &Request<'m>, auth: Auth, in_query: InQuery<'m>, rules: &Rules) -> Result<Shown<'m>, Denial> {
    let of_mesh = |principal: &&str| {
        let trust_domain = rules.mesh.as_ref().map(|mesh| &*mesh.trust_domain);
        let rest = trust_domain.and_then(|domain| principal.strip_prefix("spiffe://")?.strip_prefix(domain));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    if let Some(principal) = request.principal.filter(of_mesh) {
        if matches!(in_query, InQuery::Leaked) {
            return Err(conflicting());
        }
        return Ok(Shown::alone(Credential::Principal(principal)));
    }
    match (in_query, auth) {
        (InQuery::Refused | InQuery::Leaked | InQuery::Allowed { .. }, _) => Err(Denial::new(Reason::TokenInQuery)),
        (InQuery::Nothing, Auth::Required) => Err(Denial::new(Reason::MissingCredential)),
        (InQuery::Nothing, Auth::Optional | Auth::Public) => Ok(Shown::alone(Credential::None)),
    }
}

/// What the configured headers hold.
struct InHeaders<'m> {
    first: Option<(Pairing, &'m str)>,
    paired_key: Option<&'m str>,
    /// The names of those that came.
    present: Vec<Arc<str>>,
}

/// Which half of seed 003's pair a place can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pairing {
    AgentToken,
    ApiKey,
    Unpaired,
}

fn take_from_headers<'m>(request: &Request<'m>, places: &[Place]) -> Result<InHeaders<'m>, Denial> {
    let mut taken = InHeaders { first: None, paired_key: None, present: Vec::new() };
    for (position, place) in places.iter().enumerate() {
        // Several places may name one header, with a scheme each; the header is read once.
        if places.iter().take(position).any(|before| before.header == place.header) {
            continue;
        }
        let value = match request.headers.single(&place.header) {
            Single::Absent => continue,
            Single::Once(value) => value,
            Single::Repeated => return Err(malformed("a credential header came twice")),
        };
        taken.present.push(Arc::clone(&place.header));
        let (pairing, text) = read_header(value, places.iter().filter(|other| other.header == place.header))?;
        match (taken.first, pairing) {
            (None, _) => taken.first = Some((pairing, text)),
            (Some((Pairing::AgentToken, _)), Pairing::ApiKey) if taken.paired_key.is_none() => taken.paired_key = Some(text),
            (Some((Pairing::ApiKey, key)), Pairing::AgentToken) if taken.paired_key.is_none() => {
                taken.paired_key = Some(key);
                taken.first = Some((pairing, text));
            }
            (Some((_, first)), _) if first == text => {}
            (Some(_), _) => return Err(conflicting()),
        }
    }
    Ok(taken)
}

fn read_header<'m, 'p>(value: &'m [u8], places: impl Iterator<Item = &'p Place>) -> Result<(Pairing, &'m str), Denial> {
    if value.len() > CREDENTIAL_LIMIT_BYTES {
        return Err(malformed("the credential is too long"));
    }
    let value = std::str::from_utf8(value).map_err(|_| malformed("the credential is not ASCII"))?;
    for place in places {
        let (text, pairing) = match &place.scheme {
            None => (value, if &*place.header == "x-api-key" { Pairing::ApiKey } else { Pairing::Unpaired }),
            Some(scheme) => {
                let Some((_, text)) = value.split_once(' ').filter(|(given, _)| given.eq_ignore_ascii_case(scheme)) else {
                    continue;
                };
                let agent = &*place.header == "x-authorization" && scheme.eq_ignore_ascii_case("agent");
                (text, if agent { Pairing::AgentToken } else { Pairing::Unpaired })
            }
        };
        if is_token68(text) {
            return Ok((pairing, text));
        }
    }
    Err(malformed("the header holds no credential of a configured form"))
}

/// What the query holds.
enum InQuery<'m> {
    Nothing,
    /// Something that names itself a credential, where the route does not take it.
    Refused,
    /// The same, and it may be a credential of this gate's: whoever sent it, it must not reach the upstream's log.
    Leaked,
    Allowed {
        text: &'m str,
        parameter: Arc<str>,
    },
}

fn take_from_query<'m>(query: Option<&'m str>, allowed: &QueryToken, rules: &Rules) -> Result<InQuery<'m>, Denial> {
    let Some(query) = query else {
        return Ok(InQuery::Nothing);
    };
    let mut taken = InQuery::Nothing;
    let mut has_leaked = false;
    for (name, value) in parameters(query) {
        if let QueryToken::Allowed { parameter } = allowed
            && decodes_to(name, parameter, Case::Sensitive)
        {
            // Envoy removes the parameter by its plain name; another spelling would reach the upstream.
            if name != &**parameter {
                return Err(malformed("the query parameter's name is escaped"));
            }
            if matches!(taken, InQuery::Allowed { .. }) {
                return Err(malformed("the credential came twice in the query"));
            }
            // A `+` in a query may also mean a blank.
            if value.len() > CREDENTIAL_LIMIT_BYTES || !is_token68(value) || value.contains('+') {
                return Err(malformed("the query parameter holds no credential"));
            }
            taken = InQuery::Allowed { text: value, parameter: Arc::clone(parameter) };
        } else if let Some(known) = CREDENTIAL_PARAMETERS.into_iter().find(|known| decodes_to(name, known, Case::Insensitive)) {
            has_leaked |= could_open(known, value, rules);
            if matches!(taken, InQuery::Nothing) {
                taken = InQuery::Refused;
            }
        }
    }
    match (taken, has_leaked) {
        (InQuery::Allowed { .. }, true) => Err(conflicting()),
        (_, true) => Ok(InQuery::Leaked),
        (taken, false) => Ok(taken),
    }
}

fn conflicting() -> Denial {
    let issue = Cow::Borrowed("send one credential, in one place");
    Denial::with(Reason::ConflictingCredentials, Particulars::Field { field: "credential", issue })
}

impl<'m> Shown<'m> {
    /// A credential by itself, with nothing to take out of any request.
    pub fn alone(credential: Credential<'m>) -> Self {
        Self { credential, paired_key: None, headers: Vec::new(), query_parameter: None }
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Shown")
            .field("credential", &self.credential)
            .field("headers", &self.headers)
            .field("query_parameter", &self.query_parameter)
            .finish_non_exhaustive()
    }
}
