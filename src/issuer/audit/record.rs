//! How an entry lies on the shelf, and what holds it in its place: the digest of the entry before it, and a MAC under the pepper, so
//! that whoever can write the store alone can neither change an entry nor make a chain of their own.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use serde::Deserialize;
use serde::Serialize;

use crate::issuer::audit::changes::Change;
use crate::model::hex::read_hex;
use crate::model::hex::write_hex;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::secrets::sha256;
use crate::store::Family;
use crate::store::codec::Shelved;

/// How long an entry is kept.
pub(super) const KEPT: Duration = Duration::from_secs(400 * 86_400);
/// Characters of an instance: twelve digits of its first second, so that chains lie in the order of their beginnings, and ten at random.
pub(super) const INSTANCE_CHARACTERS: usize = 22;
const SEQUENCE_DIGITS: usize = 20;
/// What the first entry of a chain names as the one before it.
pub(super) const NOTHING: [u8; 32] = [0; 32];

/// Who did something, or what it was done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Party {
    /// On the control socket, or by a command over an opened store.
    Operator,
    /// Who had not proven who it is.
    Nobody,
    /// A person: a pseudonym, see [`super::people`].
    Person(Arc<str>),
    Client(Arc<str>),
    /// A service of the mesh.
    Principal(Arc<str>),
    /// A key, a client, a grant, an organisation, …, by its id.
    Thing(Arc<str>),
    /// A person of whom there is no record, by whatever name.
    Unknown,
}

/// From where. A person's address goes with the person: it can be read for as long as its name can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Address {
    Plain(IpAddr),
    /// Masked by the seal of this pseudonym, in hex.
    Masked {
        by: Arc<str>,
        text: Arc<str>,
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditRecord {
    /// `<instance>-<sequence>`, the latter with 20 digits.
    pub(super) id: Arc<str>,
    /// Never before the entry before it.
    pub(super) at: Timestamp,
    pub(super) deed: Arc<str>,
    pub(super) actor: Party,
    /// By which credential: `key:…`, `client:…` or `session`; of an operator, by which way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) via: Option<Arc<str>>,
    pub(super) subject: Party,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) organization: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) changes: Vec<Change>,
    /// SHA-256 of the entry before it, in hex.
    pub(super) previous: String,
    pub(super) previous_at: Timestamp,
    /// The pepper of the MAC.
    pub(super) pepper: Arc<str>,
    /// In hex, over everything above.
    pub(super) mac: String,
}

impl Shelved for AuditRecord {
    const FAMILY: Family = Family::Audit;
    const KIND: u8 = b'l';

    fn id(&self) -> &str {
        &self.id
    }
}

/// Whether an entry is one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proven {
    Ours,
    /// Changed, or made without the pepper.
    Forged,
    /// Its pepper is not configured any more: nobody can tell.
    PepperGone,
}

impl AuditRecord {
    /// Closes it under the current pepper; none only if no MAC can be made at all.
    pub(super) fn close(mut self, peppers: &Peppers) -> Option<Self> {
        self.pepper = Arc::from(peppers.current_id());
        self.mac = write_hex(&peppers.fingerprint(PURPOSE, &self.closed_text())?);
        Some(self)
    }

    pub(super) fn prove(&self, peppers: &Peppers) -> Proven {
        let Some(mac) = read_hex(&self.mac) else { return Proven::Forged };
        match peppers.is_fingerprint(&self.pepper, PURPOSE, &self.closed_text(), &mac) {
            Some(true) => Proven::Ours,
            Some(false) => Proven::Forged,
            None => Proven::PepperGone,
        }
    }

    /// What the entry after it names.
    pub(super) fn digest(&self) -> [u8; 32] {
        sha256(&serde_json::to_vec(self).unwrap_or_default())
    }

    fn closed_text(&self) -> Vec<u8> {
        serde_json::to_vec(&Self { mac: String::new(), ..self.clone() }).unwrap_or_default()
    }
}

const PURPOSE: &str = "audit entry";

/// An entry's id.
pub(super) fn entry_id(instance: &str, sequence: u64) -> String {
    format!("{instance}-{sequence:020}")
}

/// The instance and the sequence in an id; none where it is no entry's.
pub(super) fn read_entry_id(id: &str) -> Option<(&str, u64)> {
    let (instance, sequence) = id.split_at_checked(INSTANCE_CHARACTERS)?;
    let sequence = sequence.strip_prefix('-')?;
    let is_ours = instance.bytes().all(|byte| byte.is_ascii_alphanumeric()) && sequence.len() == SEQUENCE_DIGITS;
    if !is_ours || !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((instance, sequence.parse().ok()?))
}

/// An address as it lies in an entry: 34 hex digits that nobody reads without the seal. The entry's id makes each mask another one.
pub(super) fn mask_address(seal: &[u8; 32], id: &str, address: IpAddr) -> String {
    let mut bytes = [0_u8; 17];
    let (family, octets) = match address {
        IpAddr::V4(four) => (4, four.to_ipv6_mapped().octets()),
        IpAddr::V6(six) => (6, six.octets()),
    };
    for (to, from) in bytes.iter_mut().zip(std::iter::once(family).chain(octets)) {
        *to = from;
    }
    apply_mask(seal, id, &mut bytes);
    write_hex(&bytes)
}

/// What [`mask_address`] hid.
pub(super) fn unmask_address(seal: &[u8; 32], id: &str, text: &str) -> Option<IpAddr> {
    if text.len() != 34 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0_u8; 17];
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * position..2 * position + 2)?, 16).ok()?;
    }
    apply_mask(seal, id, &mut bytes);
    let [family, octets @ ..] = bytes;
    let six = Ipv6Addr::from(octets);
    match family {
        4 => six.to_ipv4_mapped().map(|four: Ipv4Addr| IpAddr::V4(four)),
        6 => Some(IpAddr::V6(six)),
        _ => None,
    }
}

fn apply_mask(seal: &[u8; 32], id: &str, bytes: &mut [u8; 17]) {
    let mask = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seal), id.as_bytes());
    for (byte, mask) in bytes.iter_mut().zip(mask.as_ref()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let instance = "0018000000000123456789";
        assert_eq!(read_entry_id(&entry_id(instance, 7)), Some((instance, 7)));
        assert_eq!(read_entry_id(&entry_id(instance, u64::MAX)), Some((instance, u64::MAX)));
        for bad in [
            "",
            "x",
            instance,
            "0018000000000123456789-7",
            "0018000000000123456789-0000000000000000000x",
            "0018000000000123456789x00000000000000000007",
        ] {
            assert_eq!(read_entry_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_is_read_with_its_seal_and_in_its_place_only() {
        for address in ["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7"] {
            let address: IpAddr = address.parse().unwrap();
            let masked = mask_address(&[7; 32], "one", address);
            assert_eq!(unmask_address(&[7; 32], "one", &masked), Some(address));
            assert_ne!(unmask_address(&[8; 32], "one", &masked), Some(address));
            assert_ne!(unmask_address(&[7; 32], "two", &masked), Some(address));
            assert_ne!(masked, mask_address(&[7; 32], "two", address));
        }
        for bad in ["", "zz", &"f".repeat(33), &"ä".repeat(17)] {
            assert_eq!(unmask_address(&[7; 32], "one", bad), None, "{bad}");
        }
    }
}
