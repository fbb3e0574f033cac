//! What runs when no request does. Each task owns its timers and ends when it is told to.
//!
//! Tasks must not mention `check` or a door.

pub mod refresh_jwks;

pub mod reload;

pub mod rotate_keys;
