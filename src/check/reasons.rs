//! The one registry of outcomes. Metric label, log field, public code and text, HTTP and gRPC status stand side by side here and
//! nowhere else; the reference in the README's tables is generated from it.

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
    ($($(#[$doc:meta])* $name:ident => $kind:ident, $label:literal, $code:literal, $http:literal, $grpc:literal, $challenge:ident, $text:literal;)*) => {
        /// Why a request ended as it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

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
        }
    };
}

registry! {
    /// A proven caller, permitted and within its limits.
    Ok => Allow, "ok", "OK", 200, 0, None, "";
    /// The route is public.
    Public => Allow, "public", "OK", 200, 0, None, "";
    /// The route's credential is optional and none was shown.
    Anonymous => Allow, "anonymous", "OK", 200, 0, None, "";
    /// The exact shape of a CORS preflight on a route that lets it pass.
    Preflight => Allow, "preflight", "OK", 200, 0, None, "";

    MalformedMessage => Denial, "malformed_message", "INVALID_REQUEST", 400, 3, None, "The request could not be read";
    BadPath => Denial, "bad_path", "INVALID_REQUEST", 400, 3, None, "The path has no single meaning";
    BadHost => Denial, "bad_host", "INVALID_REQUEST", 400, 3, None, "The host is not a host name";
    BadMethod => Denial, "bad_method", "INVALID_REQUEST", 400, 3, None, "The request has no method";
    NoRoute => Denial, "no_route", "NOT_FOUND", 404, 12, None, "There is nothing here";
    MethodNotAllowed => Denial, "method_not_allowed", "METHOD_NOT_ALLOWED", 405, 12, None, "The method is not allowed here";
    UpgradeRefused => Denial, "upgrade_refused", "UPGRADE_REFUSED", 403, 7, None, "Connection upgrades are not allowed here";

    MissingCredential => Denial, "missing_credential", "UNAUTHENTICATED", 401, 16, Bare, "A credential is required";
    MalformedCredential => Denial, "malformed_credential", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    ConflictingCredentials => Denial, "conflicting_credentials", "INVALID_REQUEST", 400, 3, InvalidRequest, "More than one credential was sent";
    TokenInQuery => Denial, "token_in_query", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// Too many failed credentials from this address or for this key prefix.
    TooManyFailures => Denial, "too_many_failures", "TOO_MANY_REQUESTS", 429, 8, None, "Too many failed attempts";
    UnknownKey => Denial, "unknown_key", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// A token of ours whose grant is not there, or does not know of it.
    UnknownToken => Denial, "unknown_token", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    BadSignature => Denial, "bad_signature", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// A claim is missing, of the wrong type, or not what the issuer's entry asks for.
    BadClaims => Denial, "bad_claims", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    UntrustedIssuer => Denial, "untrusted_issuer", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    UntrustedPrincipal => Denial, "untrusted_principal", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    Expired => Denial, "expired", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    NotYetValid => Denial, "not_yet_valid", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    Revoked => Denial, "revoked", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    Disabled => Denial, "disabled", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    UnknownUser => Denial, "unknown_user", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The OAuth client behind a token of ours was deleted.
    UnknownClient => Denial, "unknown_client", "INVALID_CREDENTIAL", 401, 16, InvalidToken, "The credential is not valid";
    /// The record is there and cannot be read: ours to mend.
    CorruptRecord => Denial, "corrupt_record", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";

    InsufficientScope => Denial, "insufficient_scope", "INSUFFICIENT_SCOPE", 403, 7, InsufficientScope, "The credential lacks a scope that is required here";
    /// Another organisation's resource looks as if it were not there.
    WrongTenant => Denial, "wrong_tenant", "NOT_FOUND", 404, 12, None, "There is nothing here";
    WrongEnvironment => Denial, "wrong_environment", "WRONG_ENVIRONMENT", 403, 7, None, "The credential belongs to another environment";
    /// A key that opens things from some networks alone, shown from another one. Its secret was right, so its holder may know.
    WrongNetwork => Denial, "wrong_network", "WRONG_NETWORK", 403, 7, None, "The credential may not be used from this address";
    UnknownVersion => Denial, "unknown_version", "UNKNOWN_API_VERSION", 400, 3, None, "There is no such API version";
    ConflictingVersions => Denial, "conflicting_versions", "CONFLICTING_API_VERSIONS", 400, 3, None, "Path and header name different API versions";
    RetiredVersion => Denial, "retired_version", "RETIRED_API_VERSION", 410, 9, None, "This API version has been retired";
    /// The identity cannot be written into a header.
    UnusableIdentity => Denial, "unusable_identity", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    RateLimited => Denial, "rate_limited", "RATE_LIMITED", 429, 8, None, "The rate limit is used up";
    /// Limits cannot be asked, and the config says deny.
    LimitsUnavailable => Denial, "limits_unavailable", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    /// A panic or another contradiction of our own.
    Internal => Denial, "internal", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";

    StoreUnavailable => Fault, "store_unavailable", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    /// The count could not be kept (disk full), so the request is not let through.
    LedgerUnavailable => Fault, "ledger_unavailable", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    KeysUnavailable => Fault, "keys_unavailable", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    Deadline => Fault, "deadline", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    Overloaded => Fault, "overloaded", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
    NotReady => Fault, "not_ready", "UNAVAILABLE", 503, 14, None, "The request cannot be judged now";
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

/// The registry as a table in Markdown, for the reference.
pub fn markdown_table() -> String {
    let mut table = String::from("| reason | kind | code | HTTP | gRPC | text |\n| --- | --- | --- | --- | --- | --- |\n");
    for reason in Reason::ALL {
        let row = reason.row();
        let kind = match row.kind {
            Kind::Allow => "allow",
            Kind::Denial => "denial",
            Kind::Fault => "fault",
        };
        let cells = [row.label, kind, row.code, &row.http.to_string(), &row.grpc.to_string(), row.text].map(str::to_owned);
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    table
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
        let expected = [(200, 0), (400, 3), (401, 16), (403, 7), (404, 12), (405, 12), (410, 9), (429, 8), (503, 14)];
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
    fn the_table_has_a_line_for_each_row() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), Reason::ALL.len() + 2);
        assert!(table.contains("| rate_limited | denial | RATE_LIMITED | 429 | 8 | The rate limit is used up |"));
        assert!(table.lines().all(|line| line.matches('|').count() == 7));
        let reference = include_str!("../../envoy/reasons.md");
        assert_eq!(reference, table, "write it anew: tollgate schema --reasons > envoy/reasons.md");
    }
}
