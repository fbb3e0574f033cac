//! Accounts over the embedded store, and what they mean at the gate.

mod signing;
