//! What runs when no request does. Background loops: one owner each, a bounded inbox, work committed before it is forgotten, and a
//! guard that stops the process when the owner dies. Each owns its timers and ends when it is told to.
//!
//! Tasks must not mention `check` or a door.

pub mod flush_usage;
pub mod publish_usage;

pub mod follow_changes;

pub mod refresh_jwks;

pub mod reload;

pub mod rotate_keys;
