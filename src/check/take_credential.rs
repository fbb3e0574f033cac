//! Placeholder for the room of the same name: only its types.

use std::sync::Arc;

use crate::model::key::OwnKey;

/// What was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'m> {
    None,
    Own(OwnKey<'m>),
    Foreign(&'m str),
    Token(&'m str),
    Opaque(&'m str),
    Principal(&'m str),
}

/// What was shown, and what to take out of the request.
#[derive(Clone, Debug)]
pub struct Shown<'m> {
    pub credential: Credential<'m>,
    pub paired_key: Option<&'m str>,
    pub headers: Vec<Arc<str>>,
    pub query_parameter: Option<Arc<str>>,
}
