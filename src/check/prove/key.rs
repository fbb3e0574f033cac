//! API keys prove nothing by themselves but that they were not mistyped; their secret is compared once the record is there.

use crate::check::decide::Denial;
use crate::check::prove::Proof;
use crate::check::prove::Unproven;
use crate::check::reasons::Reason;
use crate::model::key_text::OwnKey;
use crate::model::rules::ImportedKeys;

/// A key whose checksum held when it was read.
pub fn prove_own(key: OwnKey<'_>) -> Proof<'_> {
    Proof::OwnKey(key)
}

/// A key of another making: worth a look-up only where such keys were imported.
///
/// # Errors
/// A denial where imports are off.
pub fn prove_foreign(text: &str, imported: ImportedKeys) -> Result<Proof<'_>, Unproven> {
    match imported {
        ImportedKeys::Accepted => Ok(Proof::ForeignKey(text)),
        ImportedKeys::Refused => Err(Denial::new(Reason::UnknownKey).because("a key of another making, and none were imported").into()),
    }
}
