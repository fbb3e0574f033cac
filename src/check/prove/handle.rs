//! Opaque tokens of our own: their MAC says that we made them, so junk is refused without a look-up.

use crate::check::decide::Denial;
use crate::check::prove::Proof;
use crate::check::prove::Unproven;
use crate::check::reasons::Reason;
use crate::model::handle::Handle;
use crate::secrets::Peppers;

/// Accepts a handle that was made under one of our peppers. What it opens is its grant's to say.
///
/// # Errors
/// A denial for every other.
pub fn prove<'m>(handle: Handle<'m>, peppers: &'m Peppers) -> Result<Proof<'m>, Unproven> {
    match peppers.prove_handle(&handle) {
        Some(pepper) => Ok(Proof::Grant { id: handle.id, generation: handle.generation, pepper }),
        None => Err(Denial::new(Reason::BadSignature).because("the token's MAC is not ours").into()),
    }
}
