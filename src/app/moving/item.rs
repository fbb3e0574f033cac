//! What is moved, one at a time, and how it lies in a backup.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::app::moving::backup::refuse_rest;
use crate::app::moving::backup::take_number;
use crate::app::moving::backup::take_optional_number;
use crate::app::moving::backup::take_text;
use crate::jose::json::Members;
use crate::model::account::AccountRecord;
use crate::model::account::InvitationRecord;
use crate::model::account::OrganizationRecord;
use crate::model::account::SessionRecord;
use crate::model::account::TicketRecord;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::hex::read_hex;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::secrets::wrapped_by;
use crate::store::CountRecord;
use crate::store::Family;
use crate::store::KeyUse;
use crate::store::LastUse;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::WriterCount;
use crate::store::codec::Shelved;
use crate::store::codec::decode_digest_owner;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;

/// The longest id of a record, and the longest name in a count, that are believed.
const ID_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 4096;
/// No count is greater, in any engine.
const COUNT_MAX: u64 = (1 << 53) - 1;
/// The last second that has a date.
const SECOND_MAX: u64 = 253_402_300_799;
const LAST_USE: &str = "last_use";

/// Something that a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Record(Record),
    /// One writer's share of a count.
    Count(WriterCount),
    /// A key's last use.
    Use(KeyUse),
}

/// A record without its version, which is each store's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: RecordKey,
    pub(super) bytes: Vec<u8>,
    pub(super) expires: Option<Timestamp>,
}

/// What is wrong with one member of a line.
#[derive(Debug)]
pub(super) struct WrongMember {
    pub(super) member: Cow<'static, str>,
    pub(super) why: String,
}

impl WrongMember {
    pub(super) fn new(member: &'static str, why: impl Into<String>) -> Self {
        Self { member: Cow::Borrowed(member), why: why.into() }
    }
}

impl Record {
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.key.family.as_str(), self.key.id)
    }

    /// The ids of the peppers that it is worth nothing without; an error where this release cannot read it.
    pub(super) fn peppers(&self) -> Result<Vec<String>, String> {
        match self.key.family {
            Family::Key => {
                let record = decode_key(&self.key.id, &self.bytes).map_err(why)?;
                Ok(record.secrets.iter().map(|secret| secret.hash.pepper.to_string()).collect())
            }
            Family::User => decode_user(&self.key.id, &self.bytes).map(|_user| Vec::new()).map_err(why),
            Family::Digest => match read_hex(&self.key.id) {
                Some(_digest) => decode_digest_owner(&self.key.id, &self.bytes).map(|_key| Vec::new()).map_err(why),
                None => Err("its id is no digest".to_owned()),
            },
            Family::Grant => {
                let record = GrantRecord::decode(&self.key.id, &self.bytes).map_err(why)?;
                Ok(vec![record.pepper.to_string()])
            }
            Family::Client => {
                let record = ClientRecord::decode(&self.key.id, &self.bytes).map_err(why)?;
                Ok(record.secrets.iter().map(|secret| secret.hash.pepper.to_string()).collect())
            }
            Family::Account => AccountRecord::decode(&self.key.id, &self.bytes).map(|_account| Vec::new()).map_err(why),
            Family::Organization => OrganizationRecord::decode(&self.key.id, &self.bytes).map(|_organization| Vec::new()).map_err(why),
            Family::Session => SessionRecord::decode(&self.key.id, &self.bytes).map(|_session| Vec::new()).map_err(why),
            Family::Invitation => InvitationRecord::decode(&self.key.id, &self.bytes).map(|_invitation| Vec::new()).map_err(why),
            Family::Ticket => TicketRecord::decode(&self.key.id, &self.bytes).map(|_ticket| Vec::new()).map_err(why),
            // Their forms are the issuer's own, and none of them is empty: a damaged record comes without its bytes.
            Family::Identity | Family::Audit | Family::AuditName if self.bytes.is_empty() => Err("its checksum does not hold".to_owned()),
            Family::Identity | Family::Audit | Family::AuditName => Ok(Vec::new()),
            Family::Ring => match wrapped_by(&self.bytes) {
                Some(pepper) => Ok(vec![pepper.to_owned()]),
                None => Err("it is no wrapped key ring".to_owned()),
            },
        }
    }
}

/// Without the place, which whoever asks names.
fn why(error: StoreError) -> String {
    match error {
        StoreError::Corrupt { why, .. } | StoreError::Unavailable(why) => why,
    }
}

/// As a line of a backup.
pub(super) fn write_item(item: &Item) -> Value {
    match item {
        Item::Record(record) => {
            let mut line = json!({"is": record.key.family.as_str(), "id": record.key.id, "bytes": STANDARD.encode(&record.bytes)});
            if let (Some(expires), Value::Object(members)) = (record.expires, &mut line) {
                members.insert("expires_ns".to_owned(), expires.as_nanos().into());
            }
            line
        }
        Item::Count(WriterCount { writer, record }) => {
            let mut line = json!({
                "is": span_name(record.span),
                "start": record.start.unix_seconds(),
                "user": &*record.user,
                "route": &*record.route,
                "outcome": record.outcome.as_str(),
                "count": record.count,
                "writer": format!("{writer:032x}"),
            });
            if let (false, Value::Object(members)) = (record.key.is_empty(), &mut line) {
                members.insert("key".to_owned(), (&*record.key).into());
            }
            line
        }
        Item::Use(KeyUse { key, last }) => json!({"is": LAST_USE, "key": &**key, "at": last.at.unix_seconds(), "route": &*last.route}),
    }
}

pub(super) const fn span_name(span: Span) -> &'static str {
    match span {
        Span::Hour => "hour",
        Span::Day => "day",
        Span::Month => "month",
    }
}

/// What a line holds, proven: this release could use it.
pub(super) fn read_item(kind: &str, mut members: Members<'_>) -> Result<Item, WrongMember> {
    let family = Family::ALL.into_iter().find(|family| family.as_str() == kind);
    let span = SPANS.into_iter().find(|span| span_name(*span) == kind);
    let item = match (family, span) {
        (Some(family), _) => Item::Record(read_record(family, &mut members)?),
        (None, Some(span)) => Item::Count(read_count(span, &mut members)?),
        (None, None) if kind == LAST_USE => Item::Use(read_use(&mut members)?),
        (None, None) => {
            let kind: String = kind.chars().filter(char::is_ascii_graphic).take(40).collect();
            return Err(WrongMember::new("is", format!("{kind:?} is nothing that this release knows")));
        }
    };
    refuse_rest(&members)?;
    Ok(item)
}

const SPANS: [Span; 3] = [Span::Hour, Span::Day, Span::Month];

fn read_count(span: Span, members: &mut Members<'_>) -> Result<WriterCount, WrongMember> {
    let start = take_second(members, "start")?;
    if span.start(span.index(start)) != start {
        return Err(WrongMember::new("start", format!("no {} begins then", span_name(span))));
    }
    let outcome = take_text(members, "outcome")?;
    let outcome = Outcome::ALL.into_iter().find(|known| known.as_str() == outcome);
    let outcome =
        outcome.ok_or_else(|| WrongMember::new("outcome", format!("it is none of {}", Outcome::ALL.map(Outcome::as_str).join(", "))))?;
    let count = take_number(members, "count")?;
    if count > COUNT_MAX {
        return Err(WrongMember::new("count", "nothing was counted so often"));
    }
    let digits = take_text(members, "writer")?;
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let writer = is_hex.then(|| u128::from_str_radix(&digits, 16).ok()).flatten();
    let writer = writer.ok_or_else(|| WrongMember::new("writer", "it is not 32 hexadecimal digits"))?;
    let key = if members.contains_key("key") { take_name(members, "key")? } else { Arc::from("") };
    let (user, route) = (take_name(members, "user")?, take_name(members, "route")?);
    Ok(WriterCount { writer, record: CountRecord { span, start, user, key, route, outcome, count } })
}

fn read_use(members: &mut Members<'_>) -> Result<KeyUse, WrongMember> {
    let key = take_name(members, "key")?;
    let last = LastUse { at: take_second(members, "at")?, route: take_name(members, "route")? };
    Ok(KeyUse { key, last })
}

fn take_name(members: &mut Members<'_>, name: &'static str) -> Result<Arc<str>, WrongMember> {
    let text = take_text(members, name)?;
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(WrongMember::new(name, format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ok(Arc::from(text))
}

fn take_second(members: &mut Members<'_>, name: &'static str) -> Result<Timestamp, WrongMember> {
    match take_number(members, name)? {
        second @ 0..=SECOND_MAX => Ok(Timestamp::from_unix_seconds(second)),
        _ => Err(WrongMember::new(name, "it is no Unix second")),
    }
}

fn read_record(family: Family, members: &mut Members<'_>) -> Result<Record, WrongMember> {
    let id = take_text(members, "id")?;
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.contains(char::is_control) {
        return Err(WrongMember::new("id", "it is no record's id"));
    }
    let bytes = STANDARD.decode(take_text(members, "bytes")?).map_err(|_error| WrongMember::new("bytes", "it is not base64"))?;
    let expires = match take_optional_number(members, "expires_ns")? {
        Some(0) => return Err(WrongMember::new("expires_ns", "nothing ends at 0")),
        expires => expires.map(Timestamp::from_nanos),
    };
    let record = Record { key: RecordKey { family, id }, bytes, expires };
    // The complaint quotes the id, which holds no control bytes by now.
    record.peppers().map_err(|why| WrongMember::new("bytes", why))?;
    Ok(record)
}
