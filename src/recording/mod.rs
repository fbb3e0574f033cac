//! Requests and their verdicts, written down so that they can be judged again: by `tollgate replay` under two configs, and by
//! `tollgate explain --recorded` one by one.
//!
//! A record is one JSON line: what Envoy asked in the form that protobuf's JSON gives a `CheckRequest`, how it ended, and who the caller
//! turned out to be. No credential can be read from it ([`disguise`]); that is why a replay starts from the recorded caller
//! ([`crate::check::rehearse`]).

pub mod asked;
pub mod disguise;
pub mod recorder;
pub mod replay;

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::check::rehearse::Known;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::ProvenBy;
use crate::model::caller::SourceName;
use crate::model::caller::Subject;
use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::key::is_key_id;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::recording::asked::Asked;

/// The version of the lines that are written.
const FORMAT: u8 = 1;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub v: u8,
    /// When the check began: RFC 3339, UTC, microseconds.
    pub ts: String,
    /// Given where not every request was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    pub request: Asked,
    pub verdict: Verdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<RecordedCaller>,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `allow`, `deny` or `fault`.
    pub decision: String,
    pub reason: String,
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The rules that judged.
    pub config_revision: String,
}

/// Who the credential turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCaller {
    pub user: String,
    pub source: String,
    pub subject: Subject,
    /// `key`, `token` or `principal`.
    pub proven_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The key stood in the config's `keys_file`, and what the file says of it at a replay counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key_in_file: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Arc<str>>,
    pub scopes: ScopeSet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Arc<str>>,
    pub environment: Environment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_version: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_rate_limit: Option<u32>,
    /// Unix nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// Why a line cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    #[error("not a record: {0}")]
    NoRecord(String),
    #[error("a record of format {0}, which this release does not know")]
    OtherFormat(u8),
    #[error("`{0}` cannot be read")]
    Field(&'static str),
    #[error("the request: {0}")]
    Request(String),
}

impl Record {
    /// # Errors
    /// [`BadRecord`].
    pub fn read(line: &[u8]) -> Result<Self, BadRecord> {
        let record: Self = serde_json::from_slice(line).map_err(|error| BadRecord::NoRecord(error.to_string()))?;
        if record.v == FORMAT { Ok(record) } else { Err(BadRecord::OtherFormat(record.v)) }
    }

    /// # Errors
    /// When `ts` is no instant.
    pub fn at(&self) -> Result<Timestamp, BadRecord> {
        let instant: jiff::Timestamp = self.ts.parse().map_err(|_error| BadRecord::Field("ts"))?;
        u64::try_from(instant.as_nanosecond()).map(Timestamp::from_nanos).map_err(|_error| BadRecord::Field("ts"))
    }

    /// What is known of the credential that was shown.
    ///
    /// # Errors
    /// When a field cannot be read.
    pub fn known(&self) -> Result<Known, BadRecord> {
        if let Some(caller) = &self.caller {
            return Ok(Known::Caller { caller: Arc::new(caller.to_caller()?), key_in_file: caller.key_in_file });
        }
        let reason = Reason::ALL.iter().find(|reason| reason.row().label == self.verdict.reason);
        reason.copied().map(Known::Ended).ok_or(BadRecord::Field("verdict.reason"))
    }
}

impl Verdict {
    pub fn new(reason: Reason, route: Option<&str>, revision: &str) -> Self {
        let row = reason.row();
        Self {
            decision: decision_of(row.kind).to_owned(),
            reason: row.label.to_owned(),
            status: row.http,
            route: route.map(str::to_owned),
            config_revision: revision.to_owned(),
        }
    }
}

/// As logs and metrics call it.
pub(crate) const fn decision_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Allow => "allow",
        Kind::Denial => "deny",
        Kind::Fault => "fault",
    }
}

impl RecordedCaller {
    pub fn of(caller: &Caller, key_in_file: bool) -> Self {
        let proven_by = match caller.proven_by {
            ProvenBy::Key => "key",
            ProvenBy::Token => "token",
            ProvenBy::Principal => "principal",
        };
        Self {
            user: caller.user.to_string(),
            source: caller.source.as_str().to_owned(),
            subject: caller.subject.clone(),
            proven_by: proven_by.to_owned(),
            issuer: caller.issuer.clone(),
            organization: caller.organization.clone(),
            key_id: caller.key.as_ref().map(ToString::to_string),
            key_in_file,
            client: caller.client.clone(),
            scopes: (*caller.scopes).clone(),
            tier: caller.tier.clone(),
            environment: caller.environment,
            pinned_version: caller.pinned_version.clone(),
            key_rate_limit: caller.key_rate_limit,
            expires: caller.expires,
        }
    }

    fn to_caller(&self) -> Result<Caller, BadRecord> {
        let source = SourceName::parse(&self.source).map_err(|_error| BadRecord::Field("caller.source"))?;
        let key = match &self.key_id {
            Some(id) if is_key_id(id) => Some(KeyId::new(id)),
            Some(_) => return Err(BadRecord::Field("caller.key_id")),
            None => None,
        };
        let proven_by = match self.proven_by.as_str() {
            "key" => ProvenBy::Key,
            "token" => ProvenBy::Token,
            "principal" => ProvenBy::Principal,
            _ => return Err(BadRecord::Field("caller.proven_by")),
        };
        Ok(Caller {
            proven_by,
            // How users of this source are shown is the rules' to say, and said by whoever judges.
            user: UserId::new(&source, &self.subject, Namespace::Named),
            source,
            subject: self.subject.clone(),
            issuer: self.issuer.clone(),
            organization: self.organization.clone(),
            key,
            client: self.client.clone(),
            scopes: Arc::new(self.scopes.clone()),
            tier: self.tier.clone(),
            environment: self.environment,
            pinned_version: self.pinned_version.clone(),
            key_rate_limit: self.key_rate_limit,
            expires: self.expires,
        })
    }
}
