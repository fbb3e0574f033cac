//! The nouns: what exists, whatever the wire, the store or the file looks like.
//!
//! Pure: nothing here waits, reads a clock, draws random bytes, or knows another room of this crate.

pub mod time;

pub mod account;
pub mod api_version;
pub mod caller;
pub mod claims;
pub mod client;
pub mod grant;
pub mod handle;
pub mod hex;
pub mod host;
pub mod issuance;
pub mod key;
pub mod key_text;
pub mod look_alikes;
pub mod path;
pub mod path_template;
pub mod query;
pub mod quota;
pub mod refusal;
pub mod request;
pub mod route;
pub mod route_index;
pub mod rules;
pub mod scope;
pub mod usage;
pub mod usage_row;
pub mod user;
