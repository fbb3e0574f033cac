//! Signing up.

use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::caller::Subject;
use crate::model::time::Timestamp;

/// What a new account is to be.
pub struct NewAccount {
    pub name: String,
    pub password: Option<String>,
    pub invitation: Option<String>,
    pub display_name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
}

impl std::fmt::Debug for NewAccount {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("NewAccount")
    }
}

/// What was made.
#[derive(Debug)]
pub struct SignedUp {
    pub user: Subject,
    /// The text of the first key.
    pub key: Option<Zeroizing<String>>,
}

/// Makes an account.
///
/// # Errors
/// What is wrong with it.
pub async fn sign_up(_state: &IssuerState, _new: NewAccount, _now: Timestamp) -> Result<SignedUp, Problem> {
    std::future::ready(Err(Problem::new(Code::Unavailable, "nobody can sign up yet"))).await
}
