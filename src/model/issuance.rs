//! What this deployment issues itself: the compiled `issuer` section. A gateway node that only checks such tokens has it too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::model::caller::Environment;
use crate::model::route::ErrorFormat;
use crate::model::rules::Algorithm;
use crate::model::scope::ScopeSet;

/// Everything about issuing that a reload may change.
#[derive(Clone, Debug)]
pub struct Issuance {
    /// The exact `iss`: https (http on loopback only), no query, no fragment, no slash at the end (RFC 8414 section 2, RFC 9207).
    pub url: Arc<str>,
    /// What people sign in to.
    pub name: Arc<str>,
    /// The resources (RFC 8707) and which of the scopes belong to each; the first is the default.
    pub resources: Vec<Resource>,
    /// The scopes that clients may ask for, and how the consent page words them.
    pub scopes: BTreeMap<Arc<str>, Arc<str>>,
    pub lifetimes: Lifetimes,
    /// How JWT access tokens are signed where the client does not say: RS256 or EdDSA.
    pub algorithm: Algorithm,
    pub sign_up: SignUp,
    pub phone: PhoneRule,
    pub sign_out: SignOut,
    /// What a new organisation's first user may hold. May name `tollgate:keys`, `tollgate:users` and `tollgate:usage`, which then
    /// reach no further than its organisation.
    pub admin_rights: Arc<ScopeSet>,
    /// What an invited member may hold where the invitation does not say.
    pub member_rights: Arc<ScopeSet>,
    /// The tier of a new organisation.
    pub tier: Option<Arc<str>>,
    /// The key that is made with each new user; none: no key.
    pub first_key: Option<FirstKey>,
    pub passwords: Passwords,
    pub caps: Caps,
    pub providers: Vec<Provider>,
    pub registration: Registration,
    /// The seeds' own spellings that are served.
    pub compatibility: Vec<Compatibility>,
    pub errors: ErrorFormat,
    /// How many proxies before `listen.issuer` may be believed about `x-forwarded-for`; 0: the peer is the client.
    pub trusted_hops: u8,
    /// The page to which a person goes when nothing else is asked for; none: our own.
    pub home: Option<Arc<str>>,
}

/// A protected resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// An absolute URI without fragment.
    pub uri: Arc<str>,
    /// None: every scope.
    pub scopes: Option<Arc<ScopeSet>>,
}

/// How long things live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    pub code: Duration,
    pub access_token: Duration,
    /// A refresh token that nobody uses.
    pub refresh_idle: Duration,
    /// A family of refresh tokens, however much it is used.
    pub refresh_absolute: Duration,
    /// How long a repeat of the immediately preceding refresh token is answered with the same successor; zero: never.
    pub refresh_window: Duration,
    /// A key's token (seed 003): to this its life is reset when it is asked for again.
    pub key_token: Duration,
    pub key_token_absolute: Duration,
    pub session_idle: Duration,
    pub session_absolute: Duration,
    pub invitation: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignUp {
    /// Whoever comes without an invitation gets an organisation of its own.
    Open,
    /// Only with an invitation.
    Invited,
    Closed,
}

/// Whether whoever founds an organisation gives a phone number (seed 003). Who is invited is never asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneRule {
    Required,
    Optional,
    /// No page asks for one.
    Off,
}

/// What ends when somebody signs out of the issuer's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignOut {
    /// The session alone: applications that were allowed something keep it until it is taken back.
    Session,
    /// Also whatever was allowed to applications under that session.
    Grants,
}

/// A key made with each new user (seed 003).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstKey {
    pub name: Arc<str>,
    pub environment: Environment,
    /// Within the user's rights.
    pub scopes: Arc<ScopeSet>,
}

/// How much one user may have at a time. Who reaches everything makes as much as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Keys that are neither revoked nor expired.
    pub keys: usize,
    pub clients: usize,
    /// The oldest session ends when there is one more.
    pub sessions: usize,
    /// Invitations that are out.
    pub invitations: usize,
}

/// argon2id, and the pool in which it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passwords {
    pub memory_kib: u32,
    pub iterations: u32,
    /// Hashes at a time.
    pub workers: usize,
    /// Sign-ins that may wait for one; more are refused with 503.
    pub waiting: usize,
    /// Failed sign-ins per minute and address.
    pub per_address: u32,
    /// Failed sign-ins per minute and account from one address; other addresses are not affected.
    pub per_account_and_address: u32,
}

/// A provider of sign-ins: OpenID Connect.
#[derive(Clone)]
pub struct Provider {
    /// In URLs and on the button's class: 1 to 32 of `a-z 0-9 -`.
    pub name: Arc<str>,
    /// On the button.
    pub label: Arc<str>,
    /// Exact, or for Microsoft with `{tenantid}` in the place of the tenant.
    pub issuer: Arc<str>,
    /// Set: only these values of `tid` sign in; empty with a template: every one.
    pub tenants: Vec<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_secret: Option<Arc<Zeroizing<Vec<u8>>>>,
    /// Beside `openid`.
    pub scopes: Vec<Arc<str>>,
    /// Whether its `email_verified` is believed.
    pub trusts_email: bool,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Provider").field("name", &self.name).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Dynamic client registration, RFC 7591.
#[derive(Clone, Debug)]
pub enum Registration {
    Off,
    /// With this initial access token.
    WithToken(Arc<Zeroizing<Vec<u8>>>),
    Open,
}

/// A route in a seed's own spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compatibility {
    /// Seed 000: `POST /generate`.
    Generate,
    /// Seed 001: `POST /auth/users`, `POST /auth/token`.
    AuthUsers,
    /// Seed 002: a JSON body at `/oauth/token`.
    JsonToken,
    /// Seed 003: `POST /get-token`.
    GetToken,
    /// Seed 004: `/register`, `/login`, `/client`, `/authorize`, `/token`.
    Tinyoauth,
}

impl Compatibility {
    pub const ALL: [Self; 5] = [Self::Generate, Self::AuthUsers, Self::JsonToken, Self::GetToken, Self::Tinyoauth];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::AuthUsers => "auth_users",
            Self::JsonToken => "json_token",
            Self::GetToken => "get_token",
            Self::Tinyoauth => "tinyoauth",
        }
    }
}

impl Issuance {
    /// Whether the seed's spelling is served.
    pub fn serves(&self, compatibility: Compatibility) -> bool {
        self.compatibility.contains(&compatibility)
    }

    /// The resource of this URI.
    pub fn resource(&self, uri: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| *resource.uri == *uri)
    }

    /// The provider of this name.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| *provider.name == *name)
    }
}
