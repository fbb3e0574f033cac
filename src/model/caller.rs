//! Who a credential turned out to be.

use std::fmt;
use std::sync::Arc;

use crate::model::key::KeyId;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// Where an identity comes from. `local` is the store; each trusted issuer and the mesh's trust domain has a name of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

impl SourceName {
    pub fn local() -> Self {
        Self(Arc::from("local"))
    }

    /// The caller has checked the form: `[a-z0-9-]{1,32}`.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a source calls somebody: 1 to 128 visible ASCII characters (no space), compared as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

/// Why a text is not a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a subject is 1 to 128 visible ASCII characters without space")]
pub struct NotASubject;

impl Subject {
    /// # Errors
    /// [`NotASubject`] when the text is outside the grammar above.
    pub fn parse(text: &str) -> Result<Self, NotASubject> {
        if text.is_empty() || text.len() > 128 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotASubject);
        }
        Ok(Self(Arc::from(text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The pair (source, subject), rendered so that no two pairs ever read alike: the source that owns the bare namespace shows
/// its subjects as they are, every other as `source:subject`; `%`, `:` and `,` inside a subject are percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

/// Whether a source's users are shown bare or behind the source's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    Bare,
    Named,
}

impl UserId {
    /// Under which admitted requests without an identity are counted. No subject renders so.
    pub fn anonymous() -> Self {
        Self(Arc::from("anonymous"))
    }

    pub fn new(source: &SourceName, subject: &Subject, namespace: Namespace) -> Self {
        let mut text = String::with_capacity(source.0.len() + 1 + subject.0.len());
        match namespace {
            Namespace::Bare => {}
            Namespace::Named => {
                text.push_str(&source.0);
                text.push(':');
            }
        }
        for (position, character) in subject.0.char_indices() {
            match character {
                // The words that counts and metrics use for nobody and for everybody else.
                'a' if position == 0 && &*subject.0 == "anonymous" => text.push_str("%61"),
                '_' if position == 0 && &*subject.0 == "__other__" => text.push_str("%5F"),
                '%' => text.push_str("%25"),
                ':' => text.push_str("%3A"),
                ',' => text.push_str("%2C"),
                other => text.push(other),
            }
        }
        Self(text.into())
    }

    /// A rendering that was made by [`Self::new`] before, as the counts kept it.
    pub fn from_counted(rendering: &Arc<str>) -> Self {
        Self(Arc::clone(rendering))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// `live` or `test`: test credentials are kept from live routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Environment {
    Live,
    Test,
}

impl Environment {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// By which kind of credential the caller was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvenBy {
    Key,
    Token,
    Principal,
}

/// Who is calling. Scopes are already *granted ∩ what the owner holds now*.
#[derive(Clone, Debug)]
pub struct Caller {
    pub proven_by: ProvenBy,
    pub user: UserId,
    pub source: SourceName,
    pub subject: Subject,
    /// The `iss` of a token, byte for byte.
    pub issuer: Option<Arc<str>>,
    pub organization: Option<Arc<str>>,
    pub key: Option<KeyId>,
    /// OAuth client (`client_id` or `azp` of a token).
    pub client: Option<Arc<str>>,
    pub scopes: Arc<ScopeSet>,
    pub tier: Option<Arc<str>>,
    pub environment: Environment,
    /// The API version that the key is pinned to.
    pub pinned_version: Option<Arc<str>>,
    /// The key's own `rate_limit`, requests per minute.
    pub key_rate_limit: Option<u32>,
    /// When the credential stops being good (a token's `exp`, a key's expiry).
    pub expires: Option<Timestamp>,
}
