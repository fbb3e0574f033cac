//! The one registry of outcomes. Metric label, log field, public code and text, HTTP and gRPC status stand side by side here and
//! nowhere else, each with what it means above it; `envoy/reasons.md` is made from it.

use crate::model::usage::Outcome;

/// Which kind of outcome a reason belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Allow,
    /// An answer: no.
    Denial,
    /// No answer.
    Fault,
}

/// What a 401, 400 or 403 says in `WWW-Authenticate` (RFC 6750 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    None,
    /// No credential was shown: a bare challenge, without an error code.
    Bare,
    InvalidRequest,
    InvalidToken,
    InsufficientScope,
}

/// One row of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub kind: Kind,
    /// Metric label and log field.
    pub label: &'static str,
    /// The public code; several reasons share one where telling them apart would help an attacker.
    pub code: &'static str,
    /// The public text.
    pub text: &'static str,
    pub http: u16,
    /// `grpc-status` for gRPC callers.
    pub grpc: u16,
    pub challenge: Challenge,
}

macro_rules! registry {
    ($($(#[doc = $meaning:literal])+ $name:ident => $kind:ident, $label:literal, $code:literal, $http:literal, $grpc:literal, $challenge:ident, $text:literal;)*) => {
        /// Why a request ended as it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $meaning])+ $name,)* }

        impl Reason {
            /// Every row, in the order of the request's way.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        kind: Kind::$kind, label: $label, code: $code, text: $text, http: $http, grpc: $grpc, challenge: Challenge::$challenge,
                    },)*
                }
            }

            /// What it is, and what to do: the text that stands above the row.
            const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($meaning),+),)*
                }
            }
        }
    };
}

registry! {
    /// A proven caller, permitted and within its limits.
    Ok => Allow, "ok", "OK", 200, 0, None, "";
    /// The route is `auth: public`: nobody was asked who they are.
    Public => Allow, "public", "OK", 200, 0, None, "";
    /// The route's credential is optional and none was shown.
    Anonymous => Allow, "anonymous", "OK", 200, 0, None, "";
    /// The exact shape of a CORS preflight on a route that lets it pass (`cors: preflight`); it is not counted.
    Preflight => Allow, "preflight", "OK", 200, 0, None, "";

    /// Envoy's message or a header cannot be read; the answer names the field. If all requests end so, run `tollgate
    /// check-config --envoy`.
    MalformedMessage => Denial, "malformed_message", "INVALID_REQUEST", 400, 3, None, "The request could not be read";
    /// The path can be read in two ways (a dot segment, `//`, `%2f`, `;` …). The client must send the plain path.
    BadPath => Denial, "bad_path", "INVALID_REQUEST", 400, 3, None, "The path has no single meaning";
    /// The `host` header is missing or no host name. The client must send a proper one.
    BadHost => Denial, "bad_host", "INVALID_REQUEST", 400, 3, None, "The host is not a host name";
    /// The request's method is missing or no method.
    BadMethod => Denial, "bad_method", "INVALID_REQUEST", 400, 3, None, "The request has no method";
    /// No route of the config has this path and host. Mind slashes and variables; `tollgate explain` shows each route's miss.
    NoRoute => Denial, "no_route", "NOT_FOUND", 404, 12, None, "There is nothing here";
    /// A route has the path, but not for this method; the header `allow` names those that it has.
    MethodNotAllowed => Denial, "method_not_allowed", "METHOD_NOT_ALLOWED", 405, 12, None, "The method is not allowed here";
    /// CONNECT or an upgrade such as a WebSocket. Set `upgrades: allowed` on the route if it shall pass.
    UpgradeRefused => Denial, "upgrade_refused", "UPGRADE_REFUSED", 403, 7, None, "Connection upgrades are not allowed here";

    /// The route wants a credential and none came: the client sent none, or Envoy's `allowed_headers` lacks its header.
    MissingCredential => Denial, "missing_credential", "UNAUTHENTICATED", 401, 16, Bare, "A credential is required";
    /// It is no key and no token: cut off, mistyped, or a code or refresh token, which opens no route. Send the whole text of a key or
    /// token.
    MalformedCredential => Denial, "malformed_credential", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// More than one credential, or one in two places. Send one, in one header.
    ConflictingCredentials => Denial, "conflicting_credentials", "INVALID_REQUEST", 400, 3, InvalidRequest, "More than one credential was sent";
    /// The credential stands in the URL, where logs keep it: in a query parameter `access_token`, `api_key`, `apikey`, `api-key`, `x-api-key`
    /// or `x_api_key`, in any case or escaping. Send it in a header and make a new one in its place; or, where nothing else is possible,
    /// name the parameter in the route's `query_token`.
    TokenInQuery => Denial, "token_in_query", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// Too many failed credentials from this address or for this key's beginning (`guard`). Wait for `retry-after`; if it is many clients
    /// behind one proxy, set `trusted_hops`.
    TooManyFailures => Denial, "too_many_failures", "TOO_MANY_REQUESTS", 429, 8, None, "Too many failed attempts";
    /// No such key: it is not in this store, its secret is wrong, or it was shown beside a credential that it does not belong to.
    UnknownKey => Denial, "unknown_key", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// A token of ours whose grant is not there or does not list it: it was replaced, its grant is gone, or it is of another store. Sign in
    /// anew.
    UnknownToken => Denial, "unknown_token", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The token's signature does not verify: another key or secret signed it, or it was changed. Compare the issuer's `keys`.
    BadSignature => Denial, "bad_signature", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// A claim is missing, of the wrong type, or not what the issuer's entry asks for, such as another `aud`; `detail` says which.
    BadClaims => Denial, "bad_claims", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The token's `iss` is no issuer of the config. Compare both byte for byte, the last slash too.
    UntrustedIssuer => Denial, "untrusted_issuer", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The client's certificate was verified by Envoy, but `mesh` does not name its SPIFFE id (`principals`), or it is of another
    /// `trust_domain`. Add the principal if it may call.
    UntrustedPrincipal => Denial, "untrusted_principal", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The key, token or grant has ended, or a rotated key's old secret after its grace. Take a new one.
    Expired => Denial, "expired", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The key begins later, or the token's `nbf` or `iat` lies ahead. Compare the clocks of issuer and gate.
    NotYetValid => Denial, "not_yet_valid", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The key, token or grant was taken back, or its owner signed out or left the organisation. Make a new one.
    Revoked => Denial, "revoked", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The key, user, application or tier is disabled; `detail` says which. `tollgate keys`, `users` or `clients enable` undoes it.
    Disabled => Denial, "disabled", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The user of the credential is not in the store: it was erased, or never made. `tollgate users list` shows who is there.
    UnknownUser => Denial, "unknown_user", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The OAuth application (`app_…`) behind a token of ours was deleted. Register it anew; its old tokens stay dead.
    UnknownClient => Denial, "unknown_client", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The record of this credential is there and cannot be read: ours to mend. See TollgateCorruptRecords in operations.md.
    CorruptRecord => Denial, "corrupt_record", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";

    /// The caller lacks a scope that the route wants; `www-authenticate` names them. Give it to the key, or leave it so.
    InsufficientScope => Denial, "insufficient_scope", "INSUFFICIENT_SCOPE", 403, 7, InsufficientScope, "The credential lacks a scope that is required here";
    /// The path names another organisation than the caller's (`tenant` of the route). To the client it looks as if it were not there.
    WrongTenant => Denial, "wrong_tenant", "NOT_FOUND", 404, 12, None, "There is nothing here";
    /// A test credential on a live route, or the reverse (`environments` of the route). Use a key of the other environment.
    WrongEnvironment => Denial, "wrong_environment", "WRONG_ENVIRONMENT", 403, 7, None, "The credential belongs to another environment";
    /// The key's secret is right, but it is good from its `allowed_networks` alone. If the address in the log is a proxy's: `trusted_hops`.
    WrongNetwork => Denial, "wrong_network", "WRONG_NETWORK", 403, 7, None, "The credential may not be used from this address";
    /// The API version that was asked for is not in the config; the answer names those that are.
    UnknownVersion => Denial, "unknown_version", "UNKNOWN_API_VERSION", 400, 3, None, "There is no such API version";
    /// Path and header name different API versions, or the header came twice. Send one.
    ConflictingVersions => Denial, "conflicting_versions", "CONFLICTING_API_VERSIONS", 400, 3, None, "Path and header name different API versions";
    /// The API version has been retired. The client moves on; the header `link` says where to, if the config does.
    RetiredVersion => Denial, "retired_version", "RETIRED_API_VERSION", 410, 9, None, "This API version has been retired";
    /// The caller is proven, but a value of its identity headers (a name, an organisation …) is too long or not visible ASCII, so the
    /// service could not be told. Change that name, or take the variable out of `identity_headers`.
    UnusableIdentity => Denial, "unusable_identity", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    /// With the headers that Tollgate adds the request has more of them than Envoy takes (`header_limits`), which would refuse it after it
    /// was counted. The client sends fewer; or raise `max_headers_count` and `max_request_headers_kb`, in Envoy and here.
    HeadersTooLarge => Denial, "headers_too_large", "HEADERS_TOO_LARGE", 431, 8, None, "The request has too many headers, or too long ones";
    /// A bucket is empty. The client waits for `retry-after`; if it should have more, give it another tier.
    RateLimited => Denial, "rate_limited", "RATE_LIMITED", 429, 8, None, "The rate limit is used up";
    /// The limits cannot be asked, or this sidecar's share of them cannot, and `failure.limits` is not `pass`. Look at Redis.
    LimitsUnavailable => Denial, "limits_unavailable", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    /// A panic or another contradiction of our own. See TollgatePanics in operations.md, and report the log line.
    Internal => Denial, "internal", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";

    /// The store does not answer, and what is remembered may not be used any longer. Look at Redis, or at the disk; `/readyz` says more.
    StoreUnavailable => Fault, "store_unavailable", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    /// The count could not be kept (disk full), so the request is not let through. See TollgateLedgerFull in operations.md.
    LedgerUnavailable => Fault, "ledger_unavailable", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    /// The issuer's key set was never fetched since the start. Fetch its `jwks_url` from where Tollgate runs.
    KeysUnavailable => Fault, "keys_unavailable", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    /// The verdict took longer than Envoy waits. More CPU or more instances; with Redis look at its latency.
    Deadline => Fault, "deadline", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    /// More than 10,000 checks at once in this process. More instances.
    Overloaded => Fault, "overloaded", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
}

impl Reason {
    /// As what a known caller's request counts that ended so; none: as nothing.
    pub fn outcome(self) -> Option<Outcome> {
        let row = self.row();
        if row.kind == Kind::Allow {
            (self != Self::Preflight).then_some(Outcome::Allowed)
        } else if self == Self::RateLimited {
            Some(Outcome::Limited)
        } else {
            // What is ours to mend is nobody's refusal.
            (row.http < 500).then_some(Outcome::Refused)
        }
    }
}

const INTRODUCTION: &str = "\
# Reasons: every outcome of a check

A check ends in one of three ways: **allow**, Envoy lets the request through; **denial**, the answer is no, and Envoy gives the client the
status and text below; **fault**, there is no answer, and Envoy does what its failure mode says: 503 with the shipped bootstraps.

Printed by `tollgate schema --reasons`. The reason stands in the decision log, in the access log and in the label `reason` of
`tollgate_checks_total`; `detail` in [the decision log](operations.md#decision-log) often says more. A client sees code, status and text
alone, and several reasons share them where telling them apart would help whoever guesses. gRPC clients get the number as `grpc-status`.
Of a fault clients see by default Envoy's bare 503, with no body, `x-request-id` or `retry-after`; `faults: error_response` (Envoy 1.37 or
newer) or `faults: deny` gives them ours.

| reason | kind | what it is, and what to do | code | HTTP | gRPC | text |
| --- | --- | --- | --- | --- | --- | --- |
";

/// The registry as a page in Markdown, for the reference.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for reason in Reason::ALL {
        let row = reason.row();
        let kind = match row.kind {
            Kind::Allow => "allow",
            Kind::Denial => "denial",
            Kind::Fault => "fault",
        };
        let label = format!("`{}`", row.label);
        let cells =
            [&*label, kind, reason.meaning().trim_start(), row.code, &row.http.to_string(), &row.grpc.to_string(), row.text].join(" | ");
        page.push_str(&format!("| {cells} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use super::*;

    fn rows() -> impl Iterator<Item = (Reason, Row)> {
        Reason::ALL.iter().map(|reason| (*reason, reason.row()))
    }

    #[test]
    fn every_label_is_one_reasons_own_and_fit_for_metrics() {
        let labels: BTreeSet<&str> = rows().map(|(_, row)| row.label).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(labels.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
        let variants: BTreeSet<Reason> = Reason::ALL.iter().copied().collect();
        assert_eq!(variants.len(), Reason::ALL.len());
    }

    #[test]
    fn kinds_and_statuses_agree() {
        for (reason, row) in rows() {
            let fits = match row.kind {
                Kind::Allow => row.http == 200 && row.grpc == 0 && row.text.is_empty(),
                Kind::Denial => (400..500).contains(&row.http) || row.http == 503,
                Kind::Fault => row.http == 503 && row.grpc == 14,
            };
            assert!(fits, "{reason:?} {row:?}");
            assert!(row.kind == Kind::Allow || (!row.text.is_empty() && row.grpc != 0), "{reason:?} {row:?}");
            assert!(!row.code.is_empty() && row.code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{reason:?}");
        }
    }

    #[test]
    fn http_and_grpc_statuses_go_together() {
        let mut grpc_of: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
        for (_, row) in rows() {
            grpc_of.entry(row.http).or_default().insert(row.grpc);
        }
        let expected = [(200, 0), (400, 3), (401, 16), (403, 7), (404, 12), (405, 12), (410, 9), (429, 8), (431, 8), (503, 14)];
        assert_eq!(grpc_of, expected.into_iter().map(|(http, grpc)| (http, BTreeSet::from([grpc]))).collect());
    }

    #[test]
    fn challenges_stand_where_rfc_6750_has_them() {
        for (reason, row) in rows() {
            let fits = match row.challenge {
                Challenge::None => row.http != 401,
                Challenge::Bare => reason == Reason::MissingCredential,
                Challenge::InvalidToken => row.http == 401 && reason != Reason::MissingCredential,
                Challenge::InvalidRequest => row.http == 400,
                Challenge::InsufficientScope => row.http == 403,
            };
            assert!(fits, "{reason:?} {row:?}");
        }
    }

    // battery: K1 K2
    #[test]
    fn whatever_is_wrong_with_a_credential_reads_the_same() {
        let answers: BTreeSet<_> = rows()
            .filter(|(reason, row)| row.http == 401 && *reason != Reason::MissingCredential)
            .map(|(_, row)| (row.code, row.text, row.grpc, format!("{:?}", row.challenge)))
            .collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
    }

    #[test]
    fn nothing_of_ours_to_mend_tells_which_part_of_us_it_was() {
        let answers: BTreeSet<_> = rows().filter(|(_, row)| row.http == 503).map(|(_, row)| (row.code, row.text)).collect();
        assert_eq!(answers.len(), 1);
    }

    #[test]
    fn another_organisations_resource_reads_as_one_that_is_not_there() {
        let (foreign, absent) = (Reason::WrongTenant.row(), Reason::NoRoute.row());
        assert_eq!((foreign.code, foreign.text, foreign.http, foreign.grpc), (absent.code, absent.text, absent.http, absent.grpc));
    }

    #[test]
    fn the_page_has_a_line_for_each_row() {
        let page = markdown();
        assert!(page.starts_with("# Reasons"));
        let lines: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), Reason::ALL.len() + 2);
        assert!(lines.iter().all(|line| line.matches('|').count() == 8));
        assert!(page.contains(" | RATE_LIMITED | 429 | 8 | The rate limit is used up |"));
        let reference = include_str!("../../envoy/reasons.md");
        assert_eq!(reference, page, "write it anew: tollgate schema --reasons > envoy/reasons.md");
    }

    #[test]
    fn each_reason_is_explained_in_words_of_its_own() {
        let meanings: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.meaning()).collect();
        assert_eq!(meanings.len(), Reason::ALL.len());
        assert!(meanings.iter().all(|meaning| meaning.len() > 20 && !meaning.contains("  ")), "{meanings:?}");
    }
}
