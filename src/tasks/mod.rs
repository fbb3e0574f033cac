//! What runs when no request does: one owner each, a bounded inbox, work committed before it is forgotten. Each task owns its
//! timers and ends when it is told to.
//!
//! Tasks must not mention `check` or a door.

pub mod flush_usage;

pub mod refresh_jwks;

pub mod reload;

pub mod rotate_keys;
