//! The loop against a real server.
