//! Who a credential turned out to be.

use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de;

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

    /// Of our own OAuth clients that act for themselves. No issuer and no mesh can be called so.
    pub fn client() -> Self {
        static CLIENT: LazyLock<SourceName> = LazyLock::new(|| SourceName(Arc::from("client")));
        CLIENT.clone()
    }

    /// The caller has checked the form: `[a-z0-9-]{1,32}`.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// # Errors
    /// [`NotASourceName`] when the text is outside `[a-z0-9-]{1,32}`.
    pub fn parse(text: &str) -> Result<Self, NotASourceName> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if text.is_empty() || text.len() > 32 || !text.bytes().all(allowed) {
            return Err(NotASourceName);
        }
        Ok(Self(Arc::from(text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a source's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a source's name is 1 to 32 of a-z, 0-9 and -")]
pub struct NotASourceName;

/// What a source calls somebody: 1 to 128 visible ASCII characters (no space), compared as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Subject(Arc<str>);

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

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

/// What [`UserId::new`] writes, the percent sign last, so that reading undoes each once.
const ESCAPES: [(&str, &str); 5] = [("%61", "a"), ("%5F", "_"), ("%3A", ":"), ("%2C", ","), ("%25", "%")];

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

    /// The same, lent for ever: what the hot path counts under.
    pub fn anonymous_ref() -> &'static Self {
        static ANONYMOUS: LazyLock<UserId> = LazyLock::new(UserId::anonymous);
        &ANONYMOUS
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

    /// Reads a rendering that may come from anybody: none unless [`Self::new`] could have made it. Not `*` either, which counts and
    /// pages use for everybody.
    pub fn parse(text: &str) -> Option<Self> {
        let (source, subject, namespace) = match text.split_once(':') {
            Some((source, subject)) => (SourceName::parse(source).ok()?, subject, Namespace::Named),
            None => (SourceName::local(), text, Namespace::Bare),
        };
        let subject = ESCAPES.iter().fold(subject.to_owned(), |subject, (escape, character)| subject.replace(escape, character));
        let read = Self::new(&source, &Subject::parse(&subject).ok()?, namespace);
        (read.as_str() == text && text != "*").then_some(read)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// `alice` of `acme`, by her live key `k1`, on the tier `free`, who may do nothing.
    pub(crate) fn caller() -> Caller {
        let (source, subject) = (SourceName::local(), Subject::parse("alice").unwrap());
        Caller {
            proven_by: ProvenBy::Key,
            user: UserId::new(&source, &subject, Namespace::Bare),
            source,
            subject,
            issuer: None,
            organization: Some("acme".into()),
            key: Some(KeyId::new("k1")),
            client: None,
            scopes: Arc::new(ScopeSet::new([])),
            tier: Some("free".into()),
            environment: Environment::Live,
            pinned_version: None,
            key_rate_limit: None,
            expires: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(source: &str, subject: &str, namespace: Namespace) -> String {
        UserId::new(&SourceName::parse(source).unwrap(), &Subject::parse(subject).unwrap(), namespace).to_string()
    }

    #[test]
    fn a_source_name_is_short_lower_case_and_plain() {
        for good in ["local", "id-example-com", "0", &"a".repeat(32)] {
            assert_eq!(SourceName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Local", "a:b", "a.b", "a b", "a_b", "ü", "a\n", &"a".repeat(33)] {
            assert_eq!(SourceName::parse(bad), Err(NotASourceName), "{bad:?}");
        }
    }

    // battery: J37 H5
    #[test]
    fn a_subject_is_visible_ascii_of_at_most_128_bytes() {
        for good in ["a", "Alice@example.com", "auth0|5f7c", "~", "!", &"x".repeat(128)] {
            assert_eq!(Subject::parse(good).unwrap().as_str(), good);
        }
        let homograph = "\u{0430}lice";
        let decomposed = "jose\u{301}";
        for bad in
            ["", " ", "a b", "a\tb", "a\r\nb", "a\0", "\u{7f}", homograph, decomposed, "\u{202e}ecila", "a\u{200b}", &"x".repeat(129)]
        {
            assert_eq!(Subject::parse(bad), Err(NotASubject), "{bad:?}");
        }
    }

    #[test]
    fn ids_read_as_written_except_for_what_would_make_two_of_them_alike() {
        let table = [
            ("local", "alice", Namespace::Bare, "alice"),
            ("google", "alice", Namespace::Named, "google:alice"),
            ("local", "google:alice", Namespace::Bare, "google%3Aalice"),
            ("local", "google%3Aalice", Namespace::Bare, "google%253Aalice"),
            ("local", "a,b", Namespace::Bare, "a%2Cb"),
            ("local", "anonymous", Namespace::Bare, "%61nonymous"),
            ("local", "__other__", Namespace::Bare, "%5F_other__"),
            ("google", "anonymous", Namespace::Named, "google:%61nonymous"),
            ("local", "anonymous2", Namespace::Bare, "anonymous2"),
        ];
        for (source, subject, namespace, expected) in table {
            assert_eq!(rendered(source, subject, namespace), expected);
        }
        assert_eq!(UserId::anonymous_ref(), &UserId::anonymous());
    }

    /// Subjects near each other, so that a collision would be found: the escapes, the separators, the reserved words.
    fn subject() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-b:%,]{1,6}",
            "(a|b|:|%|,|%3A|%25|%2C|%61|%5F|anonymous|__other__|a:b){1,3}",
            Just("anonymous".to_owned()),
            Just("%61nonymous".to_owned()),
            "[!-~]{1,128}",
        ]
    }

    proptest! {
        #[test]
        fn what_was_rendered_is_read_back(subject in "[!-~]{1,128}", named: bool) {
            let (source, subject) = (SourceName::parse("idp").unwrap(), Subject::parse(&subject).unwrap());
            let user = UserId::new(&source, &subject, if named { Namespace::Named } else { Namespace::Bare });
            prop_assume!(user.as_str() != "*");
            prop_assert_eq!(UserId::parse(user.as_str()), Some(user));
        }

        // battery: J37
        #[test]
        fn two_pairs_never_read_alike(
            first in ("[ab-]{1,3}", subject()), second in ("[ab-]{1,3}", subject()), owner in prop::option::of("[ab-]{1,3}"),
        ) {
            // One source at most owns the bare namespace; which one is the config's choice.
            let namespace = |source: &String| if Some(source) == owner.as_ref() { Namespace::Bare } else { Namespace::Named };
            let left = rendered(&first.0, &first.1, namespace(&first.0));
            let right = rendered(&second.0, &second.1, namespace(&second.0));
            prop_assert_eq!(left == right, first == second);
        }

        #[test]
        fn every_id_can_stand_in_a_header_and_in_a_list_and_means_nobody_else(source in "[a-z0-9-]{1,32}", subject in subject(), bare in any::<bool>()) {
            let namespace = if bare { Namespace::Bare } else { Namespace::Named };
            let text = rendered(&source, &subject, namespace);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
            prop_assert_eq!(text.matches(':').count(), usize::from(!bare));
            prop_assert_ne!(text.as_str(), "anonymous");
            prop_assert_ne!(text.as_str(), "__other__");
        }
    }
}
