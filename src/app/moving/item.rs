//! What is moved, one at a time, and how it lies in a backup.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::app::moving::backup::refuse_rest;
use crate::app::moving::backup::take_optional_number;
use crate::app::moving::backup::take_text;
use crate::jose::json::Members;
use crate::model::time::Timestamp;
use crate::secrets::wrapped_by;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::codec::decode_digest_owner;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;
use crate::store::codec::read_hex;

/// The longest id of a record that is believed.
const ID_BYTES_MAX: usize = 1024;

/// Something that a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Record(Record),
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
                let record = decode_key(&self.key.id, &self.bytes).map_err(|error| error.to_string())?;
                Ok(record.secrets.iter().map(|secret| secret.hash.pepper.to_string()).collect())
            }
            Family::User => decode_user(&self.key.id, &self.bytes).map(|_user| Vec::new()).map_err(|error| error.to_string()),
            Family::Digest => match read_hex(&self.key.id) {
                Some(_digest) => {
                    decode_digest_owner(&self.key.id, &self.bytes).map(|_key| Vec::new()).map_err(|error| error.to_string())
                }
                None => Err("its id is no digest".to_owned()),
            },
            Family::Ring => match wrapped_by(&self.bytes) {
                Some(pepper) => Ok(vec![pepper.to_owned()]),
                None => Err("it is no wrapped key ring".to_owned()),
            },
        }
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
    }
}

/// What a line holds, proven: this release could use it.
pub(super) fn read_item(kind: &str, mut members: Members<'_>) -> Result<Item, WrongMember> {
    let item = match Family::ALL.into_iter().find(|family| family.as_str() == kind) {
        Some(family) => Item::Record(read_record(family, &mut members)?),
        None => {
            let kind: String = kind.chars().filter(char::is_ascii_graphic).take(40).collect();
            return Err(WrongMember::new("is", format!("{kind:?} is nothing that this release knows")));
        }
    };
    refuse_rest(&members)?;
    Ok(item)
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
