//! Passwords: argon2id in a bounded pool that refuses overload, so that sign-ins can never slow a check.

use std::sync::Arc;

use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::issuance;

/// The pool.
#[derive(Debug, Default)]
pub struct Passwords {}

/// What became of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    Wrong,
    Right,
    /// It is right, and the stored hash is weaker than the config asks for: store this one.
    RightAndOutdated(Arc<str>),
}

impl Passwords {
    /// The PHC text of a new password.
    ///
    /// # Errors
    /// 503 when the pool is full.
    pub async fn hash(&self, _settings: issuance::Passwords, _password: String) -> Result<Arc<str>, Problem> {
        Err(Problem::new(Code::Unavailable, "passwords cannot be hashed yet"))
    }

    /// Compares. None as the stored hash (no such account, or one without a password) costs as much time and is wrong.
    ///
    /// # Errors
    /// 503 when the pool is full.
    pub async fn compare(&self, _settings: issuance::Passwords, _password: String, _stored: Option<Arc<str>>) -> Result<Compared, Problem> {
        Err(Problem::new(Code::Unavailable, "passwords cannot be compared yet"))
    }
}
