//! What to count, and the proof that it was.

/// The request stands in the ledger (or is of a kind that is not counted, a preflight). Made by the corridor alone.
#[derive(Debug)]
pub struct Counted(pub(in crate::check) ());
