//! Verification keys of one issuer, parsed and vetted.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::pem::SectionKind;

use crate::jose::algorithm::Family;
use crate::jose::algorithm::of_family;
use crate::jose::compact::KEY_ID_BYTES_MAX;
use crate::jose::json::Json;
use crate::jose::json::Members;
use crate::jose::json::read_object;
use crate::jose::vet;
use crate::model::rules::Algorithm;
use crate::secrets::sha256;

/// A larger key set is refused before it is read.
pub const SET_BYTES_MAX: usize = 1024 * 1024;

/// More keys than any provider publishes.
pub const KEYS_MAX: usize = 100;

const SECRET_BYTES_MAX: usize = 1024;

/// Verification keys of one issuer. Each is bound to one family of algorithms, and to its own `alg` where it names one.
pub struct KeySet {
    keys: Vec<VerificationKey>,
    skipped: Vec<SkippedKey>,
    /// SHA-256 of what it was made from: an unchanged set need not replace its equal.
    digest: [u8; 32],
}

struct VerificationKey {
    id: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A key of a set that is never used, and why: worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    pub position: usize,
    pub id: Option<String>,
    pub why: &'static str,
}

/// Why no key was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The set may be older than the key.
    UnknownId,
    OtherAlgorithm,
    Ambiguous,
}

/// Why keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("the key set is larger than 1 MiB")]
    TooLarge,
    #[error("{0}")]
    NotJson(#[from] crate::jose::json::NotAnObject),
    #[error("a key set is an object with a list `keys` of objects (RFC 7517 section 5)")]
    NotASet,
    #[error("the set has {0} keys; at most 100 are read")]
    TooManyKeys(usize),
    #[error("two keys share the `kid` {0:?}; give each its own")]
    DuplicateId(String),
    #[error("the set holds a symmetric key (`oct`): whoever reads the set could sign; use `hmac_secret` for shared secrets")]
    Symmetric,
    #[error("the set mixes symmetric and public keys; keep them apart")]
    Mixed,
    #[error("the set holds a private key (key {position}): replace that key, and publish its public part alone")]
    Private { position: usize },
    #[error("no key of the set can be used with {allowed}{}", reasons(skipped))]
    NothingUsable { allowed: String, skipped: Vec<SkippedKey> },
    #[error("not a PEM public key: {0}")]
    Pem(&'static str),
    #[error("the secret has {bytes} bytes; {algorithm} needs at least {least} and at most 1024")]
    SecretLength { bytes: usize, least: usize, algorithm: &'static str },
}

fn reasons(skipped: &[SkippedKey]) -> String {
    let mut text = String::new();
    for key in skipped.iter().take(5) {
        text.push_str(&format!("; key {}: {}", key.position, key.why));
    }
    text
}

/// Who wrote a set, and therefore which keys may stand in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Public,
    Secret,
}

impl KeySet {
    /// Reads a JWK set of public keys, from a provider or a file. Keys for other uses or of unknown kinds are skipped, weak ones
    /// too; a set that contradicts itself is refused whole.
    ///
    /// # Errors
    /// [`KeySetError`], which says what to mend.
    pub fn from_jwks(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        Self::from_set(json, allowed, Kind::Public)
    }

    /// Reads a JWK set of shared secrets from a file of the operator's own; never for anything fetched.
    ///
    /// # Errors
    /// [`KeySetError`], which says what to mend.
    pub fn from_secret_jwks(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        Self::from_set(json, allowed, Kind::Secret)
    }

    /// Reads one public key, `BEGIN PUBLIC KEY`.
    ///
    /// # Errors
    /// [`KeySetError`], which says what to mend.
    pub fn from_pem(pem: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let mut sections = PemSection::pem_slice_iter(pem);
        let Some(Ok(PemSection(kind, der))) = sections.next() else {
            return Err(KeySetError::Pem("there is no `-----BEGIN PUBLIC KEY-----` section (`openssl pkey -pubin -pubout` writes one)"));
        };
        if sections.next().is_some() {
            return Err(KeySetError::Pem("there is more than one section; use a JWK set for several keys"));
        }
        if matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey) {
            return Err(KeySetError::Pem("it is a private key; only the public half belongs here"));
        }
        if kind != SectionKind::PublicKey {
            return Err(KeySetError::Pem("expected `PUBLIC KEY`; take the key out of a certificate first"));
        }
        let (family, key) = public_key(&der)?;
        let keys = vec![VerificationKey { id: None, algorithms: of_family(family).collect(), key }];
        Self { keys, skipped: Vec::new(), digest: sha256(pem) }.usable_with(allowed)
    }

    /// One shared secret.
    ///
    /// # Errors
    /// [`KeySetError::SecretLength`] where it is shorter than an allowed algorithm's hash, [`KeySetError::NothingUsable`] where no HMAC
    /// algorithm is allowed.
    pub fn from_hmac_secret(secret: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let algorithms: Vec<Algorithm> = of_family(Family::Secret).filter(|algorithm| allowed.contains(algorithm)).collect();
        for algorithm in &algorithms {
            check_secret(secret, *algorithm)?;
        }
        let keys = vec![VerificationKey { id: None, algorithms, key: DecodingKey::from_secret(secret) }];
        Self { keys, skipped: Vec::new(), digest: sha256(secret) }.usable_with(allowed)
    }

    /// The keys of the set that are never used.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// How many keys can verify something.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether both were made from the same bytes.
    pub fn same_source(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// The one key that may verify a token with this `kid` and algorithm. Keys are never tried in turn.
    pub(in crate::jose) fn choose(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, NoKey> {
        let serves = |key: &&VerificationKey| key.algorithms.contains(&algorithm);
        if let Some(id) = id {
            let named = self.keys.iter().find(|key| key.id.as_deref() == Some(id));
            return match (named, self.keys.as_slice()) {
                (Some(key), _) => Some(key).filter(serves).map(|key| &key.key).ok_or(NoKey::OtherAlgorithm),
                // An issuer's only key may have no name here (a PEM file, a shared secret), whatever its tokens call it.
                (None, [only]) if only.id.is_none() => Some(only).filter(serves).map(|key| &key.key).ok_or(NoKey::OtherAlgorithm),
                (None, _) => Err(NoKey::UnknownId),
            };
        }
        let mut fitting = self.keys.iter().filter(serves);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(&key.key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) => Err(NoKey::OtherAlgorithm),
        }
    }

    fn from_set(json: &[u8], allowed: &[Algorithm], kind: Kind) -> Result<Self, KeySetError> {
        if json.len() > SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let members = read_object(json)?;
        let entries = members.get("keys").and_then(Json::as_list).ok_or(KeySetError::NotASet)?;
        if entries.len() > KEYS_MAX {
            return Err(KeySetError::TooManyKeys(entries.len()));
        }
        let entries: Vec<&Members<'_>> = entries.iter().map(Json::as_object).collect::<Option<_>>().ok_or(KeySetError::NotASet)?;
        refuse_contradictions(&entries, kind)?;

        let mut set = Self { keys: Vec::new(), skipped: Vec::new(), digest: sha256(json) };
        let mut ids = BTreeSet::new();
        for (position, entry) in entries.into_iter().enumerate() {
            let id = entry.get("kid").and_then(Json::as_text);
            let purpose = check_purpose(entry);
            // A damaged key still claims its name; one for encryption may share it with its twin.
            if let (Ok(()), Some(id)) = (purpose, id)
                && !ids.insert(id.to_owned())
            {
                return Err(KeySetError::DuplicateId(id.chars().take(64).collect()));
            }
            match purpose.and_then(|()| read_key(entry)) {
                Ok(key) => set.keys.push(key),
                Err(why) => set.skipped.push(SkippedKey { position, id: id.map(|id| id.chars().take(64).collect()), why }),
            }
        }
        set.usable_with(allowed)
    }

    fn usable_with(self, allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        if self.keys.iter().any(|key| key.algorithms.iter().any(|algorithm| allowed.contains(algorithm))) {
            return Ok(self);
        }
        let allowed = allowed.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(", ");
        Err(KeySetError::NothingUsable { allowed, skipped: self.skipped })
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<Option<&str>> = self.keys.iter().map(|key| key.id.as_deref()).collect();
        out.debug_struct("KeySet").field("ids", &ids).field("skipped", &self.skipped.len()).finish_non_exhaustive()
    }
}

/// What makes every key of a set doubtful.
fn refuse_contradictions(entries: &[&Members<'_>], kind: Kind) -> Result<(), KeySetError> {
    let symmetric = entries.iter().filter(|entry| entry.get("kty").and_then(Json::as_text) == Some("oct")).count();
    match kind {
        Kind::Public if symmetric > 0 && symmetric < entries.len() => return Err(KeySetError::Mixed),
        Kind::Public if symmetric > 0 => return Err(KeySetError::Symmetric),
        Kind::Secret if symmetric < entries.len() => return Err(KeySetError::Mixed),
        Kind::Public | Kind::Secret => {}
    }
    match entries.iter().position(|entry| entry.contains_key("d")) {
        Some(position) => Err(KeySetError::Private { position }),
        None => Ok(()),
    }
}

/// Whether the key is meant for verifying signatures.
fn check_purpose(entry: &Members<'_>) -> Result<(), &'static str> {
    if entry.get("use").is_some_and(|purpose| purpose.as_text() != Some("sig")) {
        return Err("its `use` is not `sig`");
    }
    if let Some(operations) = entry.get("key_ops") {
        let operations = operations.as_list().ok_or("its `key_ops` is not a list")?;
        if !operations.iter().any(|operation| operation.as_text() == Some("verify")) {
            return Err("its `key_ops` has no `verify`");
        }
    }
    Ok(())
}

fn read_key(entry: &Members<'_>) -> Result<VerificationKey, &'static str> {
    let id = match entry.get("kid") {
        None => None,
        Some(id) => Some(id.as_text().filter(|id| id.len() <= KEY_ID_BYTES_MAX).ok_or("its `kid` is not a text of at most 256 bytes")?),
    };
    let named = match entry.get("alg") {
        None => None,
        Some(name) => Some(name.as_text().and_then(Algorithm::parse).ok_or("its `alg` is not offered")?),
    };
    let (family, key, secret_bytes) = read_material(entry)?;
    let algorithms: Vec<Algorithm> = of_family(family)
        .filter(|algorithm| named.is_none_or(|named| named == *algorithm))
        .filter(|algorithm| secret_bytes.is_none_or(|bytes| bytes >= algorithm.secret_bytes_min()))
        .collect();
    if algorithms.is_empty() {
        return Err("its `alg` does not go with its kind, or the secret is too short for it");
    }
    Ok(VerificationKey { id: id.map(Box::from), algorithms, key })
}

/// The key itself; for a secret also its length.
fn read_material(entry: &Members<'_>) -> Result<(Family, DecodingKey, Option<usize>), &'static str> {
    let curve = entry.get("crv").and_then(Json::as_text);
    match (entry.get("kty").and_then(Json::as_text), curve) {
        (Some("RSA"), _) => Ok((Family::Rsa, vet::rsa(&bytes_of(entry, "n")?, &bytes_of(entry, "e")?)?, None)),
        (Some("EC"), Some("P-256")) => {
            Ok((Family::P256, vet::elliptic(Family::P256, &bytes_of(entry, "x")?, &bytes_of(entry, "y")?)?, None))
        }
        (Some("EC"), Some("P-384")) => {
            Ok((Family::P384, vet::elliptic(Family::P384, &bytes_of(entry, "x")?, &bytes_of(entry, "y")?)?, None))
        }
        (Some("OKP"), Some("Ed25519")) => Ok((Family::Ed25519, vet::ed25519(&bytes_of(entry, "x")?)?, None)),
        (Some("oct"), _) => {
            let secret = bytes_of(entry, "k")?;
            if secret.len() > SECRET_BYTES_MAX {
                return Err("the secret is longer than 1024 bytes");
            }
            Ok((Family::Secret, DecodingKey::from_secret(&secret), Some(secret.len())))
        }
        (Some("EC" | "OKP"), _) => Err("its curve is not offered"),
        (Some(_), _) => Err("its `kty` is not known"),
        (None, _) => Err("its `kty` is not a text"),
    }
}

fn bytes_of(entry: &Members<'_>, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = entry.get(name).and_then(Json::as_text).ok_or("a member of the key is missing or not a text")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_invalid| "a member of the key is not strict base64url")
}

fn check_secret(secret: &[u8], algorithm: Algorithm) -> Result<(), KeySetError> {
    let least = algorithm.secret_bytes_min();
    if secret.len() < least || secret.len() > SECRET_BYTES_MAX {
        return Err(KeySetError::SecretLength { bytes: secret.len(), least, algorithm: algorithm.name() });
    }
    Ok(())
}

/// Any PEM section, with its kind.
struct PemSection(SectionKind, Vec<u8>);

impl rustls_pki_types::pem::PemObject for PemSection {
    fn from_pem(kind: SectionKind, der: Vec<u8>) -> Option<Self> {
        Some(Self(kind, der))
    }
}

/// `SubjectPublicKeyInfo` up to the point, for the curves on offer. DER has one spelling, so comparing bytes is parsing.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];
const P384_PREFIX: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62,
    0x00,
];
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn public_key(der: &[u8]) -> Result<(Family, DecodingKey), KeySetError> {
    if let Some(point) = der.strip_prefix(&ED25519_PREFIX) {
        return Ok((Family::Ed25519, vet::ed25519(point).map_err(KeySetError::Pem)?));
    }
    for (prefix, family, bytes) in [(P256_PREFIX.as_slice(), Family::P256, 32), (P384_PREFIX.as_slice(), Family::P384, 48)] {
        if let Some([0x04, point @ ..]) = der.strip_prefix(prefix) {
            let (x, y) = point.split_at_checked(bytes).ok_or(KeySetError::Pem("the point is too short"))?;
            return Ok((family, vet::elliptic(family, x, y).map_err(KeySetError::Pem)?));
        }
    }
    let canonical = aws_lc_rs::rsa::PublicKey::from_der(der)
        .map_err(|_rejected| KeySetError::Pem("neither RSA, P-256, P-384 nor Ed25519, or not a sound key"))?;
    let (modulus, exponent) = rsa_integers(canonical.as_ref()).ok_or(KeySetError::Pem("the RSA key cannot be read"))?;
    Ok((Family::Rsa, vet::rsa(modulus, exponent).map_err(KeySetError::Pem)?))
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017) in the canonical DER that the library wrote.
pub(in crate::jose) fn rsa_integers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _rest) = der_value(der, 0x30)?;
    let (modulus, rest) = der_value(sequence, 0x02)?;
    let (exponent, _rest) = der_value(rest, 0x02)?;
    Some((modulus, exponent))
}

/// The content of the element at the front, if it has this tag, and what follows it.
fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ 0..=0x7f => (usize::from(*short), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length).filter(|_element| *found == tag)
}
