//! Signing in by name and password.

use std::net::IpAddr;

use crate::issuer::IssuerState;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::caller::Subject;
use crate::model::time::Timestamp;

/// Who it is.
///
/// # Errors
/// 401 for a wrong name or password; 429 and 503 where too many are tried.
pub async fn sign_in(
    _state: &IssuerState,
    _name: &str,
    _password: String,
    _address: Option<IpAddr>,
    _now: Timestamp,
) -> Result<Subject, Problem> {
    std::future::ready(Err(Problem::new(Code::Unauthorized, "name or password is wrong"))).await
}
