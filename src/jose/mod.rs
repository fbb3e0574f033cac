//! Everything about signed tokens: the strict wrapper round `jsonwebtoken`, key sets, our own key ring.

/// Verification keys of one issuer, parsed and vetted.
#[derive(Debug)]
pub struct KeySet;
