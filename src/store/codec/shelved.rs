//! Records whose stored form is their own JSON: everything that only the issuer and its tokens need.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::account::AccountRecord;
use crate::model::account::IdentityRecord;
use crate::model::account::InvitationRecord;
use crate::model::account::OrganizationRecord;
use crate::model::account::SessionRecord;
use crate::model::account::TicketRecord;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::codec::decode;
use crate::store::codec::encode;

/// A record that lies on the shelf under an id of its own.
pub trait Shelved: Serialize + DeserializeOwned {
    const FAMILY: Family;
    /// The byte that tells its kind of record from every other.
    const KIND: u8;

    /// Under which it lies.
    fn id(&self) -> &str;

    /// Where the record of this id lies.
    fn place(id: &str) -> RecordKey {
        RecordKey { family: Self::FAMILY, id: id.to_owned() }
    }

    /// Its bytes.
    fn encode(&self) -> Vec<u8> {
        encode(Self::KIND, self)
    }

    /// The record that lies under this id.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the bytes are damaged, of another kind or format, or another record's.
    fn decode(id: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        let corrupt = |why: String| StoreError::Corrupt { key: format!("{}/{id}", Self::FAMILY.as_str()), why };
        let record: Self = decode(Self::KIND, bytes).map_err(corrupt)?;
        if record.id() == id { Ok(record) } else { Err(corrupt("it is another one's record".to_owned())) }
    }
}

impl Shelved for GrantRecord {
    const FAMILY: Family = Family::Grant;
    const KIND: u8 = b'g';

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Shelved for ClientRecord {
    const FAMILY: Family = Family::Client;
    const KIND: u8 = b'c';

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Shelved for AccountRecord {
    const FAMILY: Family = Family::Account;
    const KIND: u8 = b'a';

    fn id(&self) -> &str {
        self.user.as_str()
    }
}

impl Shelved for IdentityRecord {
    const FAMILY: Family = Family::Identity;
    const KIND: u8 = b'e';

    fn id(&self) -> &str {
        &self.id
    }
}

impl Shelved for OrganizationRecord {
    const FAMILY: Family = Family::Organization;
    const KIND: u8 = b'o';

    fn id(&self) -> &str {
        &self.id
    }
}

impl Shelved for SessionRecord {
    const FAMILY: Family = Family::Session;
    const KIND: u8 = b's';

    fn id(&self) -> &str {
        &self.id
    }
}

impl Shelved for InvitationRecord {
    const FAMILY: Family = Family::Invitation;
    const KIND: u8 = b'i';

    fn id(&self) -> &str {
        &self.id
    }
}

impl Shelved for TicketRecord {
    const FAMILY: Family = Family::Ticket;
    const KIND: u8 = b't';

    fn id(&self) -> &str {
        &self.id
    }
}
