//! Answers as the document shows them, and the names that may stand in answers and requests. The tests hold them to what is answered.

use serde::Serialize;
use utoipa::ToSchema;

/// A refusal in the form `standard`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub error: RefusalError,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefusalError {
    /// For machines.
    #[schema(example = "INVALID_REQUEST")]
    pub code: String,
    pub message: String,
    pub details: Option<RefusalDetails>,
    /// As in the header `x-request-id` and in the log.
    pub request_id: String,
}

/// The field that is wrong, and what is expected of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefusalDetails {
    #[schema(example = "scopes")]
    pub field: String,
    pub issue: String,
}

/// A refusal in the form `problem` (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProblemRefusal {
    pub r#type: String,
    pub title: String,
    pub status: u16,
    pub detail: Option<String>,
    pub code: String,
    pub request_id: String,
}

/// A refusal in the form `envelope`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeRefusal {
    pub data: Vec<serde_json::Value>,
    pub status: String,
    pub code: u16,
    pub message: String,
}

/// A refusal in the form `result`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultRefusal {
    pub result: String,
    pub error: String,
    pub message: String,
    pub request_id: String,
}

/// One name of each set that an answer or a request may name.
macro_rules! names {
    ($($(#[$about:meta])* $set:ident { $($(#[$of_name:meta])* $name:ident),+ })+) => {
        $(
            $(#[$about])*
            #[derive(Debug, Serialize, ToSchema)]
            #[serde(rename_all = "snake_case")]
            pub enum $set { $($(#[$of_name])* $name),+ }
        )+
    };
}

names! {
    EnvironmentName { Live, Test }
    /// A length of period, in UTC.
    PeriodName { Hour, Day, Month }
    OutcomeName {
        Allowed, Limited, Refused,
        #[serde(rename = "answered_1xx")] Answered1xx, #[serde(rename = "answered_2xx")] Answered2xx,
        #[serde(rename = "answered_3xx")] Answered3xx, #[serde(rename = "answered_4xx")] Answered4xx,
        #[serde(rename = "answered_5xx")] Answered5xx, Unanswered
    }
    /// An outcome, or all answers.
    OutcomeChoice {
        Allowed, Limited, Refused, Answered,
        #[serde(rename = "answered_1xx")] Answered1xx, #[serde(rename = "answered_2xx")] Answered2xx,
        #[serde(rename = "answered_3xx")] Answered3xx, #[serde(rename = "answered_4xx")] Answered4xx,
        #[serde(rename = "answered_5xx")] Answered5xx, Unanswered
    }
    FormatName { Json, Csv }
    KeyStateName { Active, Disabled, Revoked, Expired, Scheduled }
    UserStateName { Active, Disabled }
    RoleName { Admin, Member }
    PhoneStateName { Unverified, Verified }
    InvitationStateName { Open, Accepted, Expired }
    /// `confidential` keeps a secret; `public` (in a browser) and `native` (on a device) do not.
    ClientKindName { Confidential, Public, Native }
}

/// It was removed, and no replica has confirmed it yet.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unconfirmed {
    pub replicated: bool,
}

/// Sums of everything that was counted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"stats": [{"user": "ann", "route": "orders", "outcome": "allowed", "count": 1200}]}))]
pub struct Stats {
    pub stats: Vec<StatsRow>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsRow {
    pub user: String,
    pub route: String,
    pub outcome: OutcomeName,
    pub count: u64,
}

/// RFC 7517.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    pub keys: Vec<PublicKey>,
}

/// One of the keys that access tokens are signed with: an Ed25519 key (`crv`, `x`) or an RSA key (`n`, `e`).
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "q1Zt0w6m", "alg": "EdDSA", "use": "sig"}))]
pub struct PublicKey {
    pub kty: String,
    pub kid: String,
    pub alg: String,
    pub r#use: String,
    #[schema(nullable = false)]
    pub crv: Option<String>,
    #[schema(nullable = false)]
    pub x: Option<String>,
    #[schema(nullable = false)]
    pub n: Option<String>,
    #[schema(nullable = false)]
    pub e: Option<String>,
}

/// RFC 6749 section 5.2.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthRefusal {
    #[schema(example = "invalid_grant")]
    pub error: String,
    pub error_description: Option<String>,
}
