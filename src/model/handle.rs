//! Handles: short texts that stand for a record of ours, recomputed instead of stored.
//!
//! Form: `<brand>_<kind>_<id>.<generation>.<mac>`. The MAC (HMAC-SHA-256, 43 characters of base64url) is keyed by the pepper, so a junk
//! text is refused without a look-up, a stolen store opens nothing, and the same token can be given again without having been kept.

use std::fmt;

use zeroize::Zeroizing;

/// What a handle stands for. Each kind opens one door and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandleKind {
    /// An opaque access token, or seed 003's token for a key: the gate's.
    Access,
    /// An authorization code, RFC 6749 section 4.1.2.
    Code,
    /// A refresh token.
    Refresh,
    /// A session of the issuer's own pages.
    Session,
    /// An invitation into an organisation.
    Invitation,
    /// A step of a sign-in or a consent that is under way.
    Ticket,
    /// What one browser is known by before it signs in.
    Browser,
}

impl HandleKind {
    pub const ALL: [Self; 7] = [Self::Access, Self::Code, Self::Refresh, Self::Session, Self::Invitation, Self::Ticket, Self::Browser];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "at",
            Self::Code => "ac",
            Self::Refresh => "rt",
            Self::Session => "se",
            Self::Invitation => "iv",
            Self::Ticket => "ti",
            Self::Browser => "br",
        }
    }
}

/// A handle as it is read: its form is right, and nothing more is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Handle<'m> {
    pub kind: HandleKind,
    /// Of the record: `[0-9A-Za-z_-]{1,72}`.
    pub id: &'m str,
    pub generation: u32,
    /// 43 characters of base64url.
    pub mac: &'m str,
}

impl fmt::Debug for Handle<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Handle({} {} {})", self.kind.as_str(), self.id, self.generation)
    }
}

/// Characters of a MAC of 256 bits.
pub const MAC_CHARACTERS: usize = 43;
const ID_CHARACTERS_MAX: usize = 72;

/// Whether a text could be the id of a record that a handle stands for: what is not never reaches a record's name.
pub fn is_handle_id(text: &str) -> bool {
    (1..=ID_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Reads a text's form; none where it is no handle of this brand. Allocates nothing.
pub fn read_handle<'m>(brand: &str, text: &'m str) -> Option<Handle<'m>> {
    let rest = text.strip_prefix(brand)?.strip_prefix('_')?;
    let (kind, rest) = rest.split_once('_')?;
    let kind = HandleKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    let (id, rest) = rest.split_once('.')?;
    let (generation, mac) = rest.split_once('.')?;
    let is_number = !generation.is_empty() && generation.bytes().all(|byte| byte.is_ascii_digit());
    // One number has one spelling.
    let is_canonical = generation == "0" || !generation.starts_with('0');
    let is_mac = mac.len() == MAC_CHARACTERS && mac.bytes().all(is_plain);
    if !(is_handle_id(id) && is_number && is_canonical && is_mac) {
        return None;
    }
    Some(Handle { kind, id, generation: generation.parse().ok()?, mac })
}

/// The text of a handle.
pub fn write_handle(brand: &str, handle: Handle<'_>) -> Zeroizing<String> {
    let Handle { kind, id, generation, mac } = handle;
    Zeroizing::new(format!("{brand}_{}_{id}.{generation}.{mac}", kind.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_as_it_was_written_and_nothing_else_is() {
        let mac = "A".repeat(MAC_CHARACTERS);
        for kind in HandleKind::ALL {
            let handle = Handle { kind, id: "key-a_b", generation: 7, mac: &mac };
            assert_eq!(read_handle("tg", &write_handle("tg", handle)), Some(handle));
            assert_eq!(read_handle("tgx", &write_handle("tg", handle)), None);
        }
        let long = "i".repeat(73);
        for bad in [
            String::new(),
            "tg_at_".to_owned(),
            format!("tg_xx_id.1.{mac}"),
            format!("tg_at_.1.{mac}"),
            format!("tg_at_id.01.{mac}"),
            format!("tg_at_id..{mac}"),
            format!("tg_at_id.-1.{mac}"),
            format!("tg_at_id.4294967296.{mac}"),
            format!("tg_at_id.1.{mac}A"),
            format!("tg_at_id.1.{}", &mac[1..]),
            format!("tg_at_i d.1.{mac}"),
            format!("tg_at_{long}.1.{mac}"),
            format!("TG_at_id.1.{mac}"),
        ] {
            assert_eq!(read_handle("tg", &bad), None, "{bad}");
        }
    }
}
