//! A compact JWS read strictly (RFC 7515 section 7.1), and the one place where a signature is checked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::jose::TokenError;
use crate::jose::json::Json;
use crate::jose::json::read_object;
use crate::jose::keys::KeySet;
use crate::jose::keys::NoKey;
use crate::model::rules::Algorithm;

/// A longer token is refused before anything is decoded.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Key ids are map keys and nothing else; longer ones are refused.
pub const KEY_ID_BYTES_MAX: usize = 256;

/// A token taken apart; nothing about it is proven.
#[derive(Debug)]
pub struct Compact<'t> {
    pub header: Header,
    /// Decoded.
    pub payload: Vec<u8>,
    signing_input: &'t str,
    /// Still encoded: the library decodes it, with the same strict alphabet.
    signature: &'t str,
}

/// What of a header counts. `jku`, `jwk`, `x5u` and `x5c` are not even read: no key or address in a token is ever followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// None: a name that is not offered.
    pub algorithm: Option<Algorithm>,
    pub key_id: Option<String>,
    pub token_type: Option<String>,
}

impl<'t> Compact<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] where it has another form than three strict base64url parts with a strict JSON header.
    pub fn read(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed("the token is longer than 8 KiB"));
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("not three parts"))?;
        let (header, payload) = signing_input.split_once('.').ok_or(TokenError::Malformed("not three parts"))?;
        if payload.contains('.') {
            return Err(TokenError::Malformed("not three parts"));
        }
        let header = Header::read(&decode(header)?)?;
        let payload = decode(payload)?;
        decode(signature)?;
        Ok(Self { header, payload, signing_input, signature })
    }

    /// Whether one of `keys` signed it, with an algorithm that both the key and `allowed` permit.
    ///
    /// # Errors
    /// Which key was missing, or that the signature is not by it.
    pub fn verify(&self, keys: &KeySet, allowed: &[Algorithm]) -> Result<(), Unverified> {
        let algorithm = self.header.algorithm.ok_or(Unverified::Refused("an algorithm that is not offered"))?;
        if !allowed.contains(&algorithm) {
            return Err(Unverified::Refused("an algorithm that the issuer's entry does not allow"));
        }
        let key = keys.choose(self.header.key_id.as_deref(), algorithm).map_err(Unverified::NoKey)?;
        match jsonwebtoken::crypto::verify(self.signature, self.signing_input.as_bytes(), key, algorithm.for_library()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unverified::Refused("it is not by this key over this text")),
            Err(_unusable) => Err(Unverified::Refused("it cannot be checked with this key")),
        }
    }
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {
    NoKey(NoKey),
    Refused(&'static str),
}

impl From<Unverified> for TokenError {
    fn from(unverified: Unverified) -> Self {
        Self::BadSignature(match unverified {
            Unverified::NoKey(NoKey::UnknownId) => "no key has this `kid`",
            Unverified::NoKey(NoKey::OtherAlgorithm) => "the key is for other algorithms",
            Unverified::NoKey(NoKey::Ambiguous) => "without `kid` more than one key could be meant",
            Unverified::Refused(why) => why,
        })
    }
}

/// The payload of a token whose signature holds. Says nothing about its claims; callers want [`crate::jose::Tokens::verify`].
///
/// # Errors
/// [`TokenError::Malformed`] or [`TokenError::BadSignature`].
pub fn verify_signature(token: &str, keys: &KeySet, allowed: &[Algorithm]) -> Result<Vec<u8>, TokenError> {
    let compact = Compact::read(token)?;
    compact.verify(keys, allowed)?;
    Ok(compact.payload)
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, TokenError> {
        let members = read_object(bytes).map_err(|_reason| TokenError::Malformed("the header is not a strict JSON object"))?;
        // Each would change what the signature covers or what must be understood; none is offered.
        for name in ["crit", "b64", "zip", "enc"] {
            if members.contains_key(name) {
                return Err(TokenError::Malformed("the header asks for an extension that is not offered"));
            }
        }
        let algorithm = members.get("alg").and_then(Json::as_text).ok_or(TokenError::Malformed("`alg` is not a text"))?;
        let key_id = optional_text(members.get("kid"), "`kid` is not a text")?;
        if key_id.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
            return Err(TokenError::Malformed("`kid` is too long"));
        }
        Ok(Self { algorithm: Algorithm::parse(algorithm), key_id, token_type: optional_text(members.get("typ"), "`typ` is not a text")? })
    }

    /// Whether `typ` says `wanted`; both without `application/` and regardless of case (RFC 7515 section 4.1.9).
    pub fn is_of_type(&self, wanted: &str) -> bool {
        self.token_type.as_deref().is_some_and(|shown| short_type(shown).eq_ignore_ascii_case(short_type(wanted)))
    }
}

fn short_type(media_type: &str) -> &str {
    const PREFIX: &str = "application/";
    match media_type.get(..PREFIX.len()) {
        Some(start) if start.eq_ignore_ascii_case(PREFIX) => media_type.get(PREFIX.len()..).unwrap_or_default(),
        Some(_) | None => media_type,
    }
}

fn optional_text(value: Option<&Json<'_>>, otherwise: &'static str) -> Result<Option<String>, TokenError> {
    match value {
        None => Ok(None),
        Some(value) => Ok(Some(value.as_text().ok_or(TokenError::Malformed(otherwise))?.to_owned())),
    }
}

/// Without padding, white space or stray bits, so that no two texts decode to the same bytes.
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_invalid| TokenError::Malformed("a part is not strict base64url"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::proptest;

    use super::Compact;
    use crate::jose::TokenError;

    fn header(json: &str) -> Result<super::Header, TokenError> {
        let token = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(json));
        Compact::read(&token).map(|compact| compact.header)
    }

    #[test]
    fn the_type_is_compared_without_prefix_and_case() {
        for (shown, wanted, same) in [
            ("at+jwt", "at+jwt", true),
            ("AT+JWT", "at+jwt", true),
            ("application/at+jwt", "at+jwt", true),
            ("Application/At+Jwt", "application/at+jwt", true),
            ("JWT", "at+jwt", false),
            ("at+jwt ", "at+jwt", false),
            ("text/at+jwt", "at+jwt", false),
            ("", "at+jwt", false),
            ("äpplication", "at+jwt", false),
        ] {
            let header = header(&format!(r#"{{"alg":"HS256","typ":"{shown}"}}"#)).unwrap();
            assert_eq!(header.is_of_type(wanted), same, "{shown}");
        }
        assert!(!header(r#"{"alg":"HS256"}"#).unwrap().is_of_type("at+jwt"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(token in "(.{0,40}|[A-Za-z0-9_.=-]{0,60})") {
            let _ = Compact::read(&token);
        }

        #[test]
        fn a_changed_character_is_never_the_same_token(position in 0_usize..20, character in "[A-Za-z0-9_-]") {
            let token = "eyJhbGciOiJIUzI1NiJ9.e30.AQ";
            let mut changed = token.to_owned();
            changed.replace_range(position..=position, &character);
            if let (Ok(one), Ok(two)) = (Compact::read(token), Compact::read(&changed)) {
                assert!(token == changed || one.signing_input != two.signing_input);
            }
        }
    }
}
