//! What a verified token says, in our words.

use std::sync::Arc;

use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::client::is_client_id;
use crate::model::grant::GrantRecord;
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

impl VerifiedClaims {
    /// The client that traded another's token for this one, where that is not the grant's own (RFC 8693). It is the only one: what was
    /// traded for is not traded again.
    pub fn acting_client(&self, grant: &GrantRecord) -> Option<&str> {
        let own = grant.client().map(ClientId::as_str);
        self.client.as_deref().filter(|client| is_client_id(client) && own != Some(*client))
    }
}
