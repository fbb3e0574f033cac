//! What the tests of this folder are made of: clients, users, and a browser.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::Request;
use axum::http::response::Parts;
use tower::ServiceExt;

use crate::issuer::oauth::authorize::asked::decode;
use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::sessions;
use crate::issuer::tests::Issuer;
use crate::issuer::tests::START;
use crate::model::account::AccountRecord;
use crate::model::account::Role;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::client::AccessTokenForm;
use crate::model::client::ClientAuth;
use crate::model::client::ClientId;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::client::GrantType;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::rules::Algorithm;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::encode_user;

pub(in crate::issuer::oauth) const REDIRECT: &str = "https://app.example.com/cb";
pub(in crate::issuer::oauth) const ISSUER: &str = "https://id.example.com";
/// RFC 7636 appendix B.
pub(in crate::issuer::oauth) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(in crate::issuer::oauth) fn scopes(text: &str) -> Arc<ScopeSet> {
    Arc::new(ScopeSet::new(text.split_whitespace().map(|scope| Scope::parse(scope).unwrap())))
}

/// A confidential client of an operator's; `seed` makes its id.
pub(in crate::issuer) fn client(seed: &str) -> ClientRecord {
    ClientRecord {
        id: ClientId::new(&format!("app_{:x<20}", seed)),
        name: "Example <App>".into(),
        owner: None,
        organization: None,
        kind: ClientKind::Confidential,
        auth: ClientAuth::Basic,
        redirect_uris: vec![REDIRECT.into()],
        grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        scopes: scopes("orders:read orders:write files:read"),
        resources: Vec::new(),
        token_form: AccessTokenForm::Jwt(Algorithm::EdDsa),
        environment: Environment::Live,
        tier: None,
        secrets: Vec::new(),
        state: ClientState::Active,
        disabled_by: None,
        created: START,
        website: None,
    }
}

/// A local user with these rights.
pub(in crate::issuer::oauth) fn user(name: &str, rights: &str) -> UserRecord {
    UserRecord {
        source: "local".into(),
        subject: Subject::parse(name).unwrap(),
        organization: Some("org_a".into()),
        tier: None,
        rights: Rights::Only(scopes(rights)),
        state: UserState::Active,
        disabled_by: None,
        valid_from: None,
        created: START,
    }
}

/// What alice allowed this client: to read orders.
pub(in crate::issuer::oauth) fn grant_to(client: &ClientRecord) -> GrantRecord {
    let of = GrantOf::Consent { client: client.id.clone(), user: Subject::parse("alice").unwrap() };
    GrantRecord {
        scopes: scopes("orders:read"),
        resources: vec!["https://api.example.com".into()],
        generation: 1,
        ..GrantRecord::new(GrantId::new("g"), of, Environment::Live, "p1", START, START.plus(Duration::from_secs(600)))
    }
}

/// An answer as a browser gets it.
#[derive(Debug)]
pub(in crate::issuer) struct Seen {
    pub parts: Parts,
    pub text: String,
}

impl Seen {
    pub(in crate::issuer) fn status(&self) -> u16 {
        self.parts.status.as_u16()
    }

    pub(in crate::issuer) fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(in crate::issuer) fn location(&self) -> &str {
        self.header("location")
    }

    /// A parameter of the address that it leads to.
    pub(in crate::issuer) fn told(&self, name: &str) -> Option<Vec<u8>> {
        let (_, query) = self.location().split_once('?')?;
        let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(known, _)| *known == name);
        let value = values.next().map(|(_, value)| decode(value));
        assert!(values.next().is_none(), "{name} twice in {}", self.location());
        value
    }

    pub(in crate::issuer) fn told_text(&self, name: &str) -> String {
        self.told(name).map(|value| String::from_utf8(value).unwrap()).unwrap_or_default()
    }

    /// The same, or nothing where the page has no such field.
    pub(in crate::issuer) fn hidden_or_empty(&self, name: &str) -> String {
        if self.text.contains(&format!("name=\"{name}\" value=\"")) { self.hidden(name) } else { String::new() }
    }

    /// The value of a hidden field of the page.
    pub(in crate::issuer) fn hidden(&self, name: &str) -> String {
        let (_, after) = self.text.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name} in {}", self.text));
        after.split_once('"').unwrap().0.to_owned()
    }
}

/// A browser: it keeps cookies, and follows nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::issuer) struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(in crate::issuer) async fn signed_in(issuer: &Issuer, user: &str) -> Self {
        let subject = Subject::parse(user).unwrap();
        let opened = sessions::open(&issuer.state, &HeaderMap::new(), &subject, "password", None, issuer.state.clock.now()).await.unwrap();
        let mut browser = Self::default();
        browser.keep(&opened.cookie);
        browser
    }

    pub(in crate::issuer) async fn get(&mut self, issuer: &Issuer, path: &str) -> Seen {
        self.send(issuer, Request::builder().uri(path).body(Body::empty()).unwrap()).await
    }

    pub(in crate::issuer) async fn post(&mut self, issuer: &Issuer, path: &str, fields: &[(&str, &str)]) -> Seen {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value.as_bytes()))).collect();
        let request = Request::builder().method("POST").uri(path).header("content-type", "application/x-www-form-urlencoded");
        let request = request.header("origin", ISSUER).header("sec-fetch-site", "same-origin").body(Body::from(body.join("&"))).unwrap();
        self.send(issuer, request).await
    }

    pub(in crate::issuer) async fn send(&mut self, issuer: &Issuer, mut request: Request<Body>) -> Seen {
        if !self.cookies.is_empty() {
            request.headers_mut().insert("cookie", self.cookie().parse().unwrap());
        }
        let (parts, body) = issuer.public.clone().oneshot(request).await.unwrap().into_parts();
        for cookie in parts.headers.get_all("set-cookie") {
            self.keep(cookie.to_str().unwrap());
        }
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Seen { parts, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// The header of that name.
    pub(in crate::issuer) fn cookie(&self) -> String {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        cookies.join("; ")
    }

    fn keep(&mut self, cookie: &str) {
        let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
        self.cookies.insert(name.to_owned(), value.to_owned());
    }
}

impl Issuer {
    pub(in crate::issuer) async fn put(&self, write: Write) {
        assert!(self.records.commit(Vec::new(), vec![write], self.state.clock.now()).await.unwrap().is_done());
    }

    pub(in crate::issuer) async fn put_client(&self, client: &ClientRecord) {
        self.put(Write::Put { key: ClientRecord::place(client.id.as_str()), bytes: client.encode(), expires: None }).await;
    }

    /// A user with these rights, and an account for it.
    pub(in crate::issuer) async fn put_user(&self, name: &str, rights: &str) -> UserRecord {
        let user = user(name, rights);
        self.put(Write::Put { key: RecordKey::user("local", name), bytes: encode_user(&user), expires: None }).await;
        let account: AccountRecord =
            serde_json::from_value(serde_json::json!({"user": name, "role": Role::Member, "created": START})).unwrap();
        self.put(Write::Put { key: AccountRecord::place(name), bytes: account.encode(), expires: None }).await;
        user
    }

    pub(in crate::issuer) async fn grants(&self) -> Vec<GrantRecord> {
        let page = self.records.range(Family::Grant, None, 500).await.unwrap();
        page.records.iter().map(|(place, stored)| GrantRecord::decode(&place.id, &stored.bytes).unwrap()).collect()
    }

    /// The grant behind a code, which must be one of ours.
    pub(in crate::issuer) async fn grant_of_code(&self, code: &str) -> GrantRecord {
        let handle = read_handle("reva", code).unwrap();
        assert_eq!((handle.kind, handle.generation), (HandleKind::Code, 0));
        assert!(self.state.peppers.prove_handle(&handle).is_some());
        self.grants().await.into_iter().find(|grant| grant.id.as_str() == handle.id).unwrap()
    }
}

/// The query of a good request of this client's, and what a test changes: a parameter set, or with none taken out.
pub(in crate::issuer) fn query(client: &ClientRecord, changes: &[(&str, Option<&str>)]) -> String {
    let mut parameters = vec![
        ("response_type", "code"),
        ("client_id", client.id.as_str()),
        ("redirect_uri", REDIRECT),
        ("scope", "orders:read"),
        ("state", "s-1"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        parameters.retain(|(known, _)| known != name);
        parameters.extend(value.map(|value| (*name, value)));
    }
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value.as_bytes()))).collect();
    pairs.join("&")
}

/// The path of such a request.
pub(in crate::issuer) fn path(client: &ClientRecord, changes: &[(&str, Option<&str>)]) -> String {
    format!("/oauth/authorize?{}", query(client, changes))
}
