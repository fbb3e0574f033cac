//! What a verified token says, in our words.

use std::sync::Arc;

use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// The claims of a token whose signature, issuer, audience and lifetime were proven. Only `jose` makes one.
#[derive(Clone, Debug)]
pub struct VerifiedClaims {
    /// Position of the issuer in the rules under which it was verified.
    pub(crate) issuer: usize,
    pub(crate) subject: Subject,
    pub(crate) scopes: Arc<ScopeSet>,
    pub(crate) organization: Option<Arc<str>>,
    pub(crate) tier: Option<Arc<str>>,
    pub(crate) environment: Option<Environment>,
    pub(crate) client: Option<Arc<str>>,
    /// Our own tokens name the grant that they stand on (`gid`).
    pub(crate) grant: Option<Arc<str>>,
    /// `jti`.
    pub(crate) token_id: Option<Arc<str>>,
    pub(crate) issued: Option<Timestamp>,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) expires: Timestamp,
}
