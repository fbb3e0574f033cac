//! mTLS callers: the SPIFFE id that Envoy verified.

use crate::check::decide::Denial;
use crate::check::prove::Proof;
use crate::check::prove::Unproven;
use crate::check::reasons::Reason;
use crate::model::rules::Mesh;

/// Accepts a principal of exactly the mesh's trust domain that the rules name, byte for byte.
///
/// # Errors
/// A denial for every other.
pub fn prove<'m>(principal: &'m str, mesh: Option<&Mesh>) -> Result<Proof<'m>, Unproven> {
    let refuse = |why: &'static str| Unproven::from(Denial::new(Reason::UntrustedPrincipal).because(why));
    let mesh = mesh.ok_or_else(|| refuse("the rules have no mesh"))?;
    let domain = principal.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).map(|(domain, _path)| domain);
    if domain != Some(&*mesh.trust_domain) {
        return Err(refuse("the principal is of another trust domain"));
    }
    if !mesh.principals.contains_key(principal) {
        return Err(refuse("the rules do not name this principal"));
    }
    Ok(Proof::Principal(principal))
}
