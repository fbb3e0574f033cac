//! What the API shows of a user and its account.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::openapi::schemas::PhoneStateName;
use crate::issuer::openapi::schemas::RoleName;
use crate::issuer::problem::Problem;
use crate::issuer::users::LOCAL;
use crate::issuer::views::UserView;
use crate::issuer::views::show_time;
use crate::model::account::AccountRecord;
use crate::model::account::Phone;
use crate::model::user::UserRecord;

/// A user, and what only the issuer knows of it.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = User, example = json!({
    "id": "ann", "source": "local", "state": "active", "active": true, "organization": "acme", "tier": null, "rights": ["orders:read"],
    "valid_from": null, "created_at": "2027-01-15T08:00:00Z", "revision": 17, "role": "member", "display_name": "Ann",
    "email": "ann@example.com", "email_verified": false, "phone": {"number": "+49301234567", "state": "unverified"}, "has_password": true,
    "identities": ["google"], "online": true, "last_operation_at": "2027-01-16T02:00:00Z", "made_by": null
}))]
pub(in crate::issuer) struct PersonView {
    #[serde(flatten)]
    pub user: UserView,
    /// None: nobody signs in as this user.
    #[serde(flatten)]
    pub account: Option<AccountView>,
}

/// An account.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Account)]
pub(in crate::issuer) struct AccountView {
    #[schema(value_type = RoleName)]
    pub role: &'static str,
    pub display_name: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    pub email_verified: bool,
    pub phone: Option<PhoneView>,
    pub has_password: bool,
    /// The providers of its sign-ins elsewhere.
    pub identities: Vec<Arc<str>>,
    pub online: bool,
    #[schema(format = DateTime)]
    pub last_operation_at: Option<String>,
    pub made_by: Option<String>,
}

/// A phone number, and whether it is known to be the user's.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Phone)]
pub(in crate::issuer) struct PhoneView {
    pub number: Arc<str>,
    #[schema(value_type = PhoneStateName)]
    pub state: &'static str,
}

impl PersonView {
    pub(in crate::issuer) fn new(user: &UserRecord, account: Option<&AccountRecord>, revision: u64) -> Self {
        Self { user: UserView::new(user, revision), account: account.map(AccountView::new) }
    }

    /// With the account, looked up.
    pub(in crate::issuer) async fn find(state: &IssuerState, user: &UserRecord, revision: u64) -> Result<Self, Problem> {
        let account = if &*user.source == LOCAL {
            shelf::find::<AccountRecord>(state, user.subject.as_str()).await?.map(|(account, _version)| account)
        } else {
            None
        };
        Ok(Self::new(user, account.as_ref(), revision))
    }
}

impl AccountView {
    fn new(account: &AccountRecord) -> Self {
        Self {
            role: account.role.as_str(),
            display_name: account.display_name.clone(),
            email: account.email.clone(),
            email_verified: account.email_verified,
            phone: account.phone.as_ref().map(PhoneView::new),
            has_password: account.password.is_some(),
            identities: account.identities.iter().map(|identity| Arc::clone(&identity.provider)).collect(),
            online: account.online,
            last_operation_at: account.last_operation.map(show_time),
            made_by: account.made_by.as_ref().map(|user| user.as_str().to_owned()),
        }
    }
}

impl PhoneView {
    fn new(phone: &Phone) -> Self {
        Self { number: Arc::clone(&phone.number), state: if phone.verified { "verified" } else { "unverified" } }
    }
}
