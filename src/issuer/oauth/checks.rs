//! Checks as named lists, so that a test can build an endpoint without one of them and see its assertion fail. Nothing in the product
//! takes one out.

use crate::issuer::checks;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::client_auth;
use crate::issuer::oauth::client_auth::ClientProof;
use crate::issuer::oauth::client_auth::Presented;
use crate::issuer::oauth::introspect;
use crate::issuer::oauth::introspect::Sight;
use crate::issuer::oauth::revoke;
use crate::issuer::oauth::revoke::Takeback;
use crate::issuer::oauth::token;
use crate::issuer::oauth::token::Asking;
use crate::issuer::oauth::token::client_credentials;
use crate::issuer::oauth::token::client_credentials::OwnRequest;
use crate::issuer::oauth::token::code;
use crate::issuer::oauth::token::code::Redemption;
use crate::issuer::oauth::token::exchange;
use crate::issuer::oauth::token::exchange::Exchange;
use crate::issuer::oauth::token::refresh;
use crate::issuer::oauth::token::refresh::Refreshing;
use crate::model::grant::GrantEnd;

/// One thing that must hold.
pub(in crate::issuer) type Check<T> = checks::Check<T, Stop>;

/// Why a pipeline stopped, and what follows for the grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::issuer) struct Stop {
    pub(in crate::issuer) refusal: Refusal,
    pub(in crate::issuer) consequence: Consequence,
}

/// What a refusal does to the grant that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issuer) enum Consequence {
    Nothing,
    /// One more wrong verifier.
    CountFailure,
    End(GrantEnd),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, consequence: Consequence::Nothing }
    }
}

/// Runs a list in its order.
pub(in crate::issuer) fn run<T>(checks: &[Check<T>], subject: &T) -> Result<(), Stop> {
    for check in checks {
        // The answer tells one thing for many; the log tells which.
        (check.run)(subject).inspect_err(|stop| tracing::info!(check = check.name, error = stop.refusal.fault.as_str(), "refused"))?;
    }
    Ok(())
}

/// Every check of the token, revocation and introspection endpoints.
pub(in crate::issuer) struct Checks {
    /// Before a client is looked up.
    pub(in crate::issuer) presented: Vec<Check<Presented>>,
    /// Once it is.
    pub(in crate::issuer) client: Vec<Check<ClientProof>>,
    pub(in crate::issuer) asking: Vec<Check<Asking>>,
    pub(in crate::issuer) code: Vec<Check<Redemption>>,
    pub(in crate::issuer) refresh: Vec<Check<Refreshing>>,
    pub(in crate::issuer) client_credentials: Vec<Check<OwnRequest>>,
    pub(in crate::issuer) exchange: Vec<Check<Exchange>>,
    pub(in crate::issuer) revoke: Vec<Check<Takeback>>,
    pub(in crate::issuer) introspect: Vec<Check<Sight>>,
}

impl Checks {
    pub(in crate::issuer) fn all() -> Self {
        Self {
            presented: client_auth::presented_checks(),
            client: client_auth::client_checks(),
            asking: token::asking_checks(),
            code: code::checks(),
            refresh: refresh::checks(),
            client_credentials: client_credentials::checks(),
            exchange: exchange::checks(),
            revoke: revoke::checks(),
            introspect: introspect::checks(),
        }
    }

    /// Every list without the check of this name.
    #[cfg(test)]
    pub(in crate::issuer) fn without(name: &str) -> Self {
        fn drop_one<T>(mut checks: Vec<Check<T>>, name: &str) -> Vec<Check<T>> {
            checks.retain(|check| check.name != name);
            checks
        }
        let all = Self::all();
        Self {
            presented: drop_one(all.presented, name),
            client: drop_one(all.client, name),
            asking: drop_one(all.asking, name),
            code: drop_one(all.code, name),
            refresh: drop_one(all.refresh, name),
            client_credentials: drop_one(all.client_credentials, name),
            exchange: drop_one(all.exchange, name),
            revoke: drop_one(all.revoke, name),
            introspect: drop_one(all.introspect, name),
        }
    }

    /// The names of all of them.
    #[cfg(test)]
    pub(in crate::issuer) fn names(&self) -> Vec<&'static str> {
        fn names<T>(checks: &[Check<T>]) -> Vec<&'static str> {
            checks.iter().map(|check| check.name).collect()
        }
        [
            names(&self.presented),
            names(&self.client),
            names(&self.asking),
            names(&self.code),
            names(&self.refresh),
            names(&self.client_credentials),
            names(&self.exchange),
            names(&self.revoke),
            names(&self.introspect),
        ]
        .concat()
    }
}
